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

from neural_vb import gaussian_mixture, psis
from neural_vb._types import Array, Base
from neural_vb.mixtures import Stream

NUM_DRAWS = 16_384
MAX_GROWTH = 2  # rounds that may add components
HOPELESS = 0.1  # nats between mixture and target that no few components will bridge
COMPONENTS = (1, 2, 3, 4)
PENALTY = 3.0  # between AIC's 2 and BIC's log N: the draws are many, and the next ones judge


class Population(NamedTuple):
    """A mixture, and what fresh draws from it say.

    Attributes:
        base: the mixture.
        divergence: half the variance of log p - log mixture over draws, about KL(mixture || p) where it is small; nats.
        log_evidence: log of the mean of p / mixture, nats.
        elbo: mean of log p - log mixture, nats.
        standard_error: of ``elbo``.
    """

    base: Base
    divergence: float
    log_evidence: float
    elbo: float
    standard_error: float


def improve(log_prob: Callable[[Array], Array], base: Base, *, seed: int, tolerance: float) -> Population:
    """Weighted draws make a better mixture, whose draws are weighted in turn.

    First more components are tried, on resampled draws; then moments and weights are put right by :func:`corrected`,
    for the mixture that comes from a thousand or two particles has their noise.

    Args:
        log_prob: [N, D] -> [N], nats.
        base: the mixture to begin with.
        seed: of the draws.
        tolerance: divergence that is good enough.

    Returns:
        The last mixture. Its divergence is infinite where a draw has no density under the target, and was measured on
        draws that it was not fitted to.
    """
    rng = np.random.default_rng([seed, Stream.POPULATION])
    found, draws = _look(log_prob, base, rng)
    for _ in range(MAX_GROWTH):
        if not found.divergence < HOPELESS:
            return found
        found, draws = _look(log_prob, _grown(found.base, draws, rng, seed), rng)
        if found.divergence < tolerance:
            weights = np.exp(draws.log_ratios - found.log_evidence)
            mended, _ = _look(log_prob, corrected(found.base, draws.u, weights), rng)
            return min(mended, found, key=lambda one: one.divergence)
    return found


class _Draws(NamedTuple):
    u: Array
    log_p: Array
    log_ratios: Array


def _look(log_prob: Callable[[Array], Array], base: Base, rng: np.random.Generator) -> tuple[Population, _Draws]:
    """Fresh draws of the mixture, and what they say of it."""
    u = gaussian_mixture.sample(base, NUM_DRAWS, rng)
    log_p = log_prob(u)
    log_ratios = log_p - logsumexp(gaussian_mixture.log_prob(base, u), 1)
    draws = _Draws(u, log_p, log_ratios)
    if not np.isfinite(log_ratios).all():
        return Population(base, np.inf, -np.inf, -np.inf, np.inf), draws
    variance = float(log_ratios.var())
    log_evidence = float(logsumexp(log_ratios)) - math.log(NUM_DRAWS)
    error = math.sqrt(variance / NUM_DRAWS)
    return Population(base, 0.5 * variance, log_evidence, float(log_ratios.mean()), error), draws


def _grown(base: Base, draws: _Draws, rng: np.random.Generator, seed: int) -> Base:
    """The mixture improved on draws that are resampled by their weights; with more components where these pay."""
    chosen = psis.systematic(draws.log_ratios - logsumexp(draws.log_ratios), NUM_DRAWS, rng)
    more = tuple(k for k in COMPONENTS if k > len(base.log_weights))
    u, log_p = draws.u[chosen], draws.log_p[chosen]
    return gaussian_mixture.fit(u, log_p, seed=seed, candidates=more, penalty=PENALTY, start=base)


def corrected(base: Base, u: Array, weights: Array) -> Base:
    """One step of weighted expectation-maximisation whose noise goes with the spread of the weights.

    With responsibilities rho_k and w = p / q of mean one over draws from q, the moments that the step wants are

        E_p[rho_k f] = E_q[rho_k f] + E_q[(w - 1) rho_k f],    f = 1, u, u u^T.

    The first term is known: q_k, q_k m_k and q_k (S_k + m_k m_k^T). The second is a mean over draws, and vanishes draw
    by draw at q = p.

    Args:
        base: q.
        u: [N, D], its draws.
        weights: [N].
    """
    log_components = gaussian_mixture.log_prob(base, u)
    excess = np.exp(log_components - logsumexp(log_components, 1)[:, None]) * (weights - 1.0)[:, None] / len(u)
    before = np.exp(base.log_weights)
    count = before + excess.sum(0)
    if count.min() <= 0.0:
        return base  # a component of too few draws
    means = (before[:, None] * base.means + excess.T @ u) / count[:, None]
    shifts = base.means - means  # moments about the new means: no difference of large numbers
    scale_trils = np.empty_like(base.scale_trils)
    for k, (scale_tril, shift) in enumerate(zip(base.scale_trils, shifts, strict=True)):
        around = u - means[k]
        second = (
            before[k] * (scale_tril @ scale_tril.T + np.outer(shift, shift)) + (excess[:, k, None] * around).T @ around
        )
        try:
            scale_trils[k] = np.linalg.cholesky(second / count[k])
        except np.linalg.LinAlgError:
            return base
    return Base(np.log(count / count.sum()), means, scale_trils)
