"""Eight schools in two versions, and a simulated logistic regression: posteriors with references of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks import exact, references
from benchmarks.definitions import Array
from benchmarks.problem import Modes, Problem
from benchmarks.references import Moments


def _joined(*pairs: tuple[Array, Array]) -> Moments:
    return Moments(*(np.concatenate([np.atleast_1d(pair[i]) for pair in pairs]) for i in (0, 1)))


def _eight_schools_exact_moments() -> Moments:
    posterior = exact.eight_schools_posterior()
    return _joined(posterior.eta(), posterior.mu(), posterior.tau_function(posterior.t))


def _avb_moments() -> Moments:
    posterior = exact.avb_eight_schools_posterior()
    return _joined(posterior.mu(), posterior.tau_function(posterior.tau), posterior.eta())


def _avb_named_moments() -> dict[str, Moments]:
    posterior = exact.avb_eight_schools_posterior()
    pairs = {"mu": posterior.mu(), "abs_tau": posterior.tau_function(np.abs(posterior.tau))}
    return {name: _joined(pair) for name, pair in pairs.items()}


def _eight_schools_vector(draws: Mapping[str, Array]) -> Array:
    return np.concatenate([draws["theta_trans"], draws["mu"][:, None], np.log(draws["tau"])[:, None]], axis=1)


def _avb_vector(draws: Mapping[str, Array]) -> Array:
    return np.concatenate([draws["mu"][:, None], draws["tau"][:, None], draws["eta"]], axis=1)


POSTERIORS: tuple[Problem, ...] = (
    Problem(
        "logistic_25",
        25,
        "logistic",
        references.logistic,
        "importance sampling, 2,000,000 draws (python -m benchmarks reference logistic_25)",
        exact=exact.logistic,
        log_evidence=lambda: references.LOGISTIC_LOG_EVIDENCE,
        panel="regressions",
    ),
    Problem(
        "eight_schools",
        10,
        "eight_schools",
        references.eight_schools,
        "posteriordb, 10,000 reference draws; exact draws and log evidence by quadrature",
        exact=exact.eight_schools,
        log_evidence=lambda: exact.eight_schools_posterior().log_evidence,
        exact_moments=_eight_schools_exact_moments,
        parts=_eight_schools_vector,
        named=references.eight_schools_theta,
        named_moments=references.eight_schools_named,
        reference_draws=references.eight_schools_draws,
        panel="posteriordb",
    ),
    Problem(
        "avb_eight_schools",
        10,
        "avb_eight_schools",
        _avb_moments,
        "quadrature",
        exact=exact.avb_eight_schools,
        log_evidence=lambda: exact.avb_eight_schools_posterior().log_evidence,
        modes=Modes(lambda z: (z[:, 1] > 0).astype(int), np.array([0.5, 0.5])),
        parts=_avb_vector,
        named=lambda z: {"mu": z[:, :1], "abs_tau": np.abs(z[:, 1:2])},
        named_moments=_avb_named_moments,
        panel="multimodal",
    ),
)
