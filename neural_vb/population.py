"""Population Monte Carlo: a mixture improved on its own weighted draws, until it is told from the target no more.

Cappé, Douc, Guillin, Marin & Robert, "Adaptive importance sampling in general mixture classes" (Statistics and
Computing 18, 2008). Most posteriors of small models are nearly Gaussian, or a few Gaussians: they need no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from neural_vb import gaussian_mixture
from neural_vb._types import Array, Base

NUM_DRAWS = 16_384
MAX_ROUNDS = 2
HOPELESS = 0.1  # nats between mixture and target that no few components will bridge
COMPONENTS = (1, 2, 3, 4)
PENALTY = 3.0  # between AIC's 2 and BIC's log N: the draws are many, and the next ones judge


class Population(NamedTuple):
    """A mixture, and what fresh draws from it say.

    Attributes:
        base: the mixture.
        divergence: half the variance of log p - log mixture over draws, about KL(mixture || p) where it is small; nats.
        elbo: mean of log p - log mixture, nats.
        standard_error: of ``elbo``.
    """

    base: Base
    divergence: float
    elbo: float
    standard_error: float


def improve(log_prob: Callable[[Array], Array], base: Base, *, seed: int, tolerance: float) -> Population:
    """Weighted draws make a better mixture, whose draws are weighted in turn.

    At least one round is made, for the mixture that comes from a thousand or two particles has their noise.

    Args:
        log_prob: [N, D] -> [N], nats.
        base: the mixture to begin with.
        seed: of the draws.
        tolerance: divergence that ends the rounds.

    Returns:
        The last mixture. Its divergence is infinite where a draw has no density under the target, and was measured on
        draws that it was not fitted to.
    """
    rng = np.random.default_rng(seed)
    for round_number in range(MAX_ROUNDS + 1):
        u = gaussian_mixture.sample(base, NUM_DRAWS, rng)
        log_p = log_prob(u)
        log_ratios = log_p - logsumexp(gaussian_mixture.log_prob(base, u), 1)
        found = _judge(base, log_ratios)
        met = round_number > 0 and found.divergence < tolerance
        if met or round_number == MAX_ROUNDS or not found.divergence < HOPELESS:
            break
        chosen = _resample(log_ratios, rng)
        more = tuple(k for k in COMPONENTS if k > len(base.log_weights))
        base = gaussian_mixture.fit(u[chosen], log_p[chosen], seed=seed, candidates=more, penalty=PENALTY, start=base)
    return found


def _judge(base: Base, log_ratios: Array) -> Population:
    if not np.isfinite(log_ratios).all():
        return Population(base, np.inf, -np.inf, np.inf)
    variance = float(log_ratios.var())
    return Population(base, 0.5 * variance, float(log_ratios.mean()), math.sqrt(variance / len(log_ratios)))


def _resample(log_ratios: Array, rng: np.random.Generator) -> Array:
    """Indices of draws, each about as often as its weight says: systematic resampling."""
    weights = np.exp(log_ratios - logsumexp(log_ratios))
    ladder = (np.arange(len(weights)) + rng.random()) / len(weights)
    return np.searchsorted(np.cumsum(weights), ladder).clip(max=len(weights) - 1)
