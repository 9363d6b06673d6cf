"""Stein's identities: at q = p the score s has E_q[s] = 0 and E_q[1 + (u_i - m_i) s_i] = 0.

They are conditions of a stationary point, no evidence of a good fit: the best factorised Gaussian meets all of them,
however correlated the target is.
"""

from __future__ import annotations

import numpy as np

from neural_vb._types import Array
from neural_vb.diagnostics.intervals import Effects, max_t
from neural_vb.verdicts import DEFAULT, Tolerances


def stein_identities(
    u: Array, scores: Array, *, scale: Array | None = None, tolerances: Tolerances = DEFAULT, seed: int = 0
) -> Effects:
    """Errors of the identities as errors of means and log sds.

    For q = N(m, e^{2 d}) and p = N(0, 1), E[s] = -m and E[1 + (u - m) s] / 2 = (1 - e^{2 d}) / 2, about -d.

    Args:
        u: [n, D], draws.
        scores: [n, D], gradient of log p.
        scale: [D, D], a factor of the target's covariance in u; the draws' own when None. Errors are in its columns'
            coordinates.
        tolerances: for means and log sds.
        seed: of the bootstrap.
    """
    u, scores = np.asarray(u, np.float64), np.asarray(scores, np.float64)
    num, size = u.shape
    if scale is None:
        scale = np.linalg.cholesky(np.atleast_2d(np.cov(u.T)) + 1e-12 * np.eye(size))
    centred = np.linalg.solve(scale, (u - u.mean(0)).T).T
    scores = scores @ scale
    terms = np.concatenate([-scores, -0.5 * (1.0 + centred * scores)], 1)
    estimate = terms.mean(0)
    error = terms.std(0) / np.sqrt(num)
    kinds = np.repeat(["mean", "log_sd"], size)
    names = tuple(f"{kind}[{i}]" for kind in ("mean", "log_sd") for i in range(size))
    tolerance = np.repeat([tolerances.mean, tolerances.log_sd], size)
    critical = max_t(terms - estimate, seed=seed)
    return Effects(names, kinds, estimate, error, tolerance, critical, np.ones(2 * size, bool))
