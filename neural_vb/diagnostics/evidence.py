"""The contrast as a proposal: its density is known, so that its weights p / r give log Z, with a k-hat that is real.

They are blind to modes that the sampler misses, since r was fitted to its draws. Where r is much narrower than p, the
few draws in p's tails that would tell are missing, from k-hat too. Draws of p see them: with both, log Z is that of
bridge sampling, whose terms are bounded.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from neural_vb import psis
from neural_vb._text import with_error
from neural_vb._types import Array
from neural_vb.errors import ImportanceWarning

NUM_DRAWS = 65_536
BRIDGE_STEPS = 200
AGREEMENT = 0.05  # nats beyond three standard errors that two estimates may differ by


class Evidence(NamedTuple):
    """log Z = log of the integral of exp(log p), in nats.

    Attributes:
        value: by bridge sampling; without refined draws ``importance``.
        standard_error: of that, by the delta method: what draws leave open, not what chains have not reached.
        pareto_k: shape of the tail of the weights p / r over draws of r.
        lower_bound: E_r[log p - log r], below log Z whatever r is.
        importance: log of the mean weight.
        importance_error: its standard error.
        num_draws: of r.
    """

    value: float
    standard_error: float
    pareto_k: float
    lower_bound: float
    importance: float
    importance_error: float
    num_draws: int

    @property
    def usable(self) -> bool:
        """Whether k-hat is below .7, and draws of r say the same without those of p."""
        noise = 3.0 * math.hypot(self.standard_error, self.importance_error)
        return self.pareto_k < psis.USABLE and abs(self.value - self.importance) <= AGREEMENT + noise

    def __str__(self) -> str:
        said = f"{with_error(self.value, self.standard_error)} nats"
        if self.usable:
            return said
        return f"{said}, not to be relied upon: k-hat {self.pareto_k:.2g}, weights alone say {self.importance:.3f}"


def evidence(log_ratios: Array, refined: Array | None = None) -> Evidence:
    """log Z from log weights log p - log r, nats; -inf is a weight of zero.

    With refined draws it solves, for N draws of r and M of p (Meng & Wong, Statistica Sinica 6, 1996, eq. 4.1),

        Z = (mean over r of p / (M p / Z + N r)) / (mean over p of r / (M p / Z + N r)).

    Args:
        log_ratios: [N], at draws of r.
        refined: [M], at draws of p, or of what is near it.
    """
    log_ratios = np.asarray(log_ratios, np.float64)
    log_ratios = np.where(np.isfinite(log_ratios), log_ratios, -np.inf)
    num = len(log_ratios)
    value = float(logsumexp(log_ratios)) - math.log(num)
    if not math.isfinite(value):
        return Evidence(-math.inf, math.inf, math.inf, -math.inf, -math.inf, math.inf, num)
    error = float(np.exp(log_ratios - value).std() / math.sqrt(num))
    lower = float(log_ratios.mean()) if np.isfinite(log_ratios).all() else -math.inf
    both = (value, error) if refined is None else _bridge(log_ratios, np.asarray(refined, np.float64), value)
    return Evidence(*both, psis.smooth(log_ratios).pareto_k, lower, value, error, num)


def _bridge(at_r: Array, at_p: Array, value: float) -> tuple[float, float]:
    """log Z and its standard error; see :func:`evidence`."""
    at_p = at_p[np.isfinite(at_p)]
    if not len(at_p):
        return value, math.inf
    share = len(at_p) / (len(at_p) + len(at_r))

    def terms(value: float) -> tuple[Array, Array]:
        # p / Z and r, over the mixture of both by their numbers of draws.
        above = np.exp(-np.logaddexp(math.log(share), math.log1p(-share) - (at_r - value)))
        return above, np.exp(-np.logaddexp(math.log(share) + (at_p - value), math.log1p(-share)))

    for _ in range(BRIDGE_STEPS):
        above, below = terms(value)
        if not (above.mean() > 0.0 and below.mean() > 0.0):
            return value, math.inf
        change = math.log(above.mean() / below.mean())
        value += change
        if abs(change) < 1e-9:
            break
    above, below = terms(value)
    relative = (part.var() / part.mean() ** 2 / len(part) for part in (above, below))
    return value, math.sqrt(sum(relative))


class Expectation(NamedTuple):
    """Self-normalised importance estimate, its standard error, and the k-hat of the weights."""

    value: Array
    standard_error: Array
    pareto_k: float


def expectation(values: Array, log_ratios: Array) -> Expectation:
    """E_p[f] from f at draws of r and their weights p / r, Pareto-smoothed.

    Args:
        values: f [N, ...] at the draws.
        log_ratios: [N], log p - log r, nats.

    Warns:
        ImportanceWarning: k-hat above .7.
    """
    smoothed = psis.smooth(log_ratios)
    if smoothed.pareto_k >= psis.USABLE:
        warnings.warn(
            f"importance weights have a heavy tail (k-hat {smoothed.pareto_k:.2g}): the expectation is not to be "
            "relied upon. Fix: posterior.refine(), or a larger flow as contrast",
            ImportanceWarning,
            stacklevel=2,
        )
    weights = np.exp(smoothed.log_weights)
    values = np.asarray(values, np.float64)
    mean = np.tensordot(weights, values, 1)
    return Expectation(mean, np.sqrt(np.tensordot(weights**2, (values - mean) ** 2, 1)), smoothed.pareto_k)
