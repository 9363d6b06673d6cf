"""Simultaneous intervals, and what they say about errors that matter.

An estimate beyond the tolerance is evidence against a fit only if *none* of many estimates would be there by chance:
intervals are widened by the quantile of the largest |t| among all (max-t). That all errors are within the tolerance
needs no such correction: it is claimed only if every single interval says so (an intersection-union test).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neural_vb._types import Array
from neural_vb.verdicts import FAIL, INCONCLUSIVE, NO_PROBLEM

LEVEL = 0.95
INSIDE = 2.576  # standard errors: one error at the tolerance is called small once in two hundred times
NUM_BOOTSTRAP = 500


class Effects(NamedTuple):
    """Estimates of F errors.

    Attributes:
        names: of the errors.
        kinds: of each, such as ``"mean"``.
        estimate: [F].
        standard_error: [F].
        tolerance: [F].
        critical: standard errors that all F estimates keep within together, with probability .95.
        usable: [F], whether an estimate can be relied upon to be small.
        margin: [F], by how much more an error may be off than its interval says; infinite where no interval tells.
    """

    names: tuple[str, ...]
    kinds: Array
    estimate: Array
    standard_error: Array
    tolerance: Array
    critical: float
    usable: Array
    margin: Array | float = 0.0

    @property
    def beyond(self) -> Array:
        """[F], whether the simultaneous interval lies wholly beyond the tolerance."""
        return np.abs(self.estimate) - self.critical * self.standard_error - self.margin > self.tolerance

    @property
    def inside(self) -> Array:
        """[F], whether the interval, unadjusted, lies wholly within the tolerance."""
        return self.usable & (np.abs(self.estimate) + INSIDE * self.standard_error + self.margin < self.tolerance)

    @property
    def state(self) -> str:
        """``fail`` if any is beyond, ``no_problem_found`` if all are inside, else ``inconclusive``."""
        if self.beyond.any():
            return FAIL
        return NO_PROBLEM if self.inside.all() else INCONCLUSIVE

    @property
    def worst(self) -> int:
        """Index of the error that speaks loudest: surely beyond its tolerance, else furthest from surely inside."""
        sure = np.where(self.beyond, np.abs(self.estimate) - self.critical * self.standard_error - self.margin, -np.inf)
        possible = np.abs(self.estimate) + INSIDE * self.standard_error + self.margin
        possible = np.where(self.usable, possible, np.inf)
        return int(np.argmax((sure if self.beyond.any() else possible) / self.tolerance))

    def largest(self) -> dict[str, float]:
        """Kind -> the largest |estimate|."""
        return {str(kind): float(np.abs(self.estimate[self.kinds == kind]).max()) for kind in dict.fromkeys(self.kinds)}

    def smallest_effect(self) -> dict[str, float]:
        """Kind -> how large an error has to be for ``fail`` in most cases: tolerance and simultaneous half width."""
        reach = self.tolerance + self.critical * self.standard_error + self.margin
        return {str(kind): float(reach[self.kinds == kind].max()) for kind in dict.fromkeys(self.kinds)}


def max_t(influence: Array, *, seed: int, level: float = LEVEL, num: int = NUM_BOOTSTRAP) -> float:
    """The quantile of max_f |t_f| over F means of n independent terms, by a Gaussian multiplier bootstrap.

    max_f |sum_i g_i psi_if| / (sum_i psi_if^2)^(1/2), g_i ~ N(0, 1) (Chernozhukov, Chetverikov & Kato, Annals of
    Statistics 41, 2013).

    Args:
        influence: psi [n, F], centred terms.
        seed: of the multipliers.
        level: of the quantile.
        num: of bootstrap draws.
    """
    psi = np.asarray(influence, np.float32)
    scale = np.sqrt(np.einsum("nf,nf->f", psi, psi))
    psi = psi[:, scale > 0.0] / scale[scale > 0.0]
    if not psi.shape[1]:
        return float(INSIDE)
    rng = np.random.default_rng([seed, 271828])
    largest = np.abs(rng.standard_normal((num, len(psi)), dtype=np.float32) @ psi).max(1)
    return float(np.quantile(largest, level))
