"""The contrast as a proposal: its density is known, so that its weights p / r give log Z, with a k-hat that is real.

They are blind to modes that the sampler misses, since r was fitted to its draws.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from neural_vb import psis
from neural_vb._types import Array
from neural_vb.errors import ImportanceWarning

NUM_DRAWS = 65_536


class Evidence(NamedTuple):
    """log Z = log of the integral of exp(log p), in nats.

    Attributes:
        value: log of the mean weight p / r over draws of r.
        standard_error: of that, by the delta method.
        pareto_k: shape of the weights' tail; above .7 neither value nor standard error can be relied upon.
        lower_bound: E_r[log p - log r], below log Z whatever r is.
        num_draws: of r.
    """

    value: float
    standard_error: float
    pareto_k: float
    lower_bound: float
    num_draws: int

    @property
    def usable(self) -> bool:
        """Whether k-hat allows the estimate."""
        return self.pareto_k < psis.USABLE

    def __str__(self) -> str:
        warning = "" if self.usable else f", not to be relied upon: k-hat {self.pareto_k:.2g}"
        return f"{self.value:.3f} ± {self.standard_error:.3f} nats{warning}"


def evidence(log_ratios: Array) -> Evidence:
    """log Z from the log weights log p - log r [N] of draws of r, nats; -inf is a weight of zero."""
    log_ratios = np.asarray(log_ratios, np.float64)
    log_ratios = np.where(np.isfinite(log_ratios), log_ratios, -np.inf)
    num = len(log_ratios)
    value = float(logsumexp(log_ratios)) - math.log(num)
    if not math.isfinite(value):
        return Evidence(-math.inf, math.inf, math.inf, -math.inf, num)
    weights = np.exp(log_ratios - value)
    lower = float(log_ratios.mean()) if np.isfinite(log_ratios).all() else -math.inf
    return Evidence(value, float(weights.std() / math.sqrt(num)), psis.smooth(log_ratios).pareto_k, lower, num)


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
