"""The registry: one row per problem, with everything a run, a peer and an evaluation need.

Adding a problem takes a row here, a log density in ``densities_tf`` and in ``densities_jax`` under the same name, and,
if it has one, an exact sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import database, definitions, exact, references
from benchmarks.database_models import SIZES
from benchmarks.definitions import Array
from benchmarks.references import Moments

ExactSampler = Callable[[int, np.random.Generator], Array]


@dataclass(frozen=True, eq=False)
class Modes:
    """Modes of a target and their true weights.

    Attributes:
        assign: [S, D] -> [S], index of the mode of each draw.
        weights: [number of modes], the probability of each region of ``assign``.
    """

    assign: Callable[[Array], Array]
    weights: Array


@dataclass(frozen=True, eq=False)
class Problem:
    """A posterior with a known answer.

    Attributes:
        name: key of the registry.
        size: D.
        density: name of its log density in ``densities_tf`` and ``densities_jax``.
        moments: mean and sd of the unconstrained vector, [D] each.
        source: where the reference comes from.
        exact: (n, rng) -> [n, D] independent draws of the unconstrained vector, or None.
        log_evidence: log of the target's integral in nats, or None.
        exact_moments: moments without Monte Carlo error where ``moments`` come from draws, or None.
        modes: modes and weights, or None.
        parts: for a structured posterior, its draws as a dict -> unconstrained [S, D]; None for plain arrays.
        named: unconstrained [S, D] -> constrained quantities [S, k] by name, or None.
        named_moments: their reference moments, [k] each.
        reference_draws: checkout of posteriordb -> its draws as unconstrained vectors [S', D], or None.
    """

    name: str
    size: int
    density: str
    moments: Callable[[], Moments]
    source: str
    exact: ExactSampler | None = None
    log_evidence: Callable[[], float] | None = None
    exact_moments: Callable[[], Moments] | None = None
    modes: Modes | None = None
    parts: Callable[[Mapping[str, Array]], Array] | None = None
    named: Callable[[Array], dict[str, Array]] | None = None
    named_moments: Callable[[], dict[str, Moments]] | None = None
    reference_draws: Callable[[Path], Array] | None = None

    def fit_arguments(self) -> Any:
        """Target, data and keywords for ``neural_vb.fit``; imports TensorFlow."""
        from benchmarks import densities_tf

        return getattr(densities_tf, self.density)()

    def jax_log_prob(self) -> Callable[[Any], Any]:
        """Log density of one unconstrained vector [D]; imports JAX."""
        from benchmarks import densities_jax

        return getattr(densities_jax, self.density)()

    def to_vector(self, draws: Any) -> Array:
        """Draws as the posterior returns them -> unconstrained vectors [S, D]."""
        if self.parts is None:
            return np.asarray(draws, float)
        return self.parts({name: np.asarray(part, float) for name, part in draws.items()})


def _moments(mean: Any, sd: Any) -> Callable[[], Moments]:
    return lambda: Moments(np.asarray(mean, float), np.asarray(sd, float))


def _zero() -> float:
    return 0.0


def _ring_log_evidence() -> float:
    """log(pi * integral_0^inf exp(-4 (t - 2)^2) dt), with t = |z|^2."""
    return math.log(math.pi * math.sqrt(math.pi / 4.0) * 0.5 * math.erfc(-4.0))


def _mixture_moments(centres: Array, weights: Array) -> Callable[[], Moments]:
    mean = weights @ centres
    return _moments(mean, np.sqrt(1.0 + weights @ (centres - mean) ** 2))


def _nearest(centres: Array) -> Callable[[Array], Array]:
    return lambda z: ((z[:, None, :] - centres) ** 2).sum(axis=2).argmin(axis=1)


def _four_region_weights() -> Array:
    """Probabilities of the regions nearest to each of the four centres, where tails of one mode reach the next.

    In coordinates turned by 45 degrees the regions are quadrants and the centres lie at (+-3, +-3) / sqrt(2), so each
    axis keeps its sign with probability Phi(3 / sqrt(2)).
    """
    turned = np.sign(definitions.FOUR_CENTRES @ np.array([[1.0, 1.0], [1.0, -1.0]]))
    keep = 0.5 * math.erfc(-1.5)
    same = turned[:, None, :] == turned[None, :, :]
    return definitions.FOUR_WEIGHTS @ np.where(same, keep, 1.0 - keep).prod(axis=2)


def _gaussian_sd() -> Array:
    return np.sqrt(np.diag(definitions.correlated_covariance()))


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


_ALL = (
    Problem(
        "banana",
        2,
        "banana",
        _moments([0.0, 1.0], [1.0, math.sqrt(2.0 + definitions.BANANA_SD**2)]),
        "closed form",
        exact=exact.banana,
        log_evidence=_zero,
    ),
    Problem(
        "ring",
        2,
        "ring",
        _moments([0.0, 0.0], [1.0, 1.0]),  # E|z|^2 = 2 up to the truncation at zero, which is below 1e-6
        "closed form",
        exact=exact.ring,
        log_evidence=_ring_log_evidence,
    ),
    Problem(
        "X",
        2,
        "cross",
        _moments([0.0, 0.0], [math.sqrt(2.0)] * 2),
        "closed form",
        exact=exact.cross,
        log_evidence=_zero,
        modes=Modes(lambda z: (z[:, 0] * z[:, 1] > 0).astype(int), np.array([0.5, 0.5])),
    ),
    Problem(
        "two_modes",
        2,
        "two_modes",
        _mixture_moments(definitions.TWO_CENTRES, definitions.TWO_WEIGHTS),
        "closed form",
        exact=exact.two_modes,
        log_evidence=_zero,
        modes=Modes(_nearest(definitions.TWO_CENTRES), definitions.TWO_WEIGHTS),
    ),
    Problem(
        "four_modes",
        2,
        "four_modes",
        _mixture_moments(definitions.FOUR_CENTRES, definitions.FOUR_WEIGHTS),
        "closed form",
        exact=exact.four_modes,
        log_evidence=_zero,
        modes=Modes(_nearest(definitions.FOUR_CENTRES), _four_region_weights()),
    ),
    Problem(
        "correlated_gaussian_50",
        50,
        "correlated_gaussian",
        lambda: Moments(np.zeros(50), _gaussian_sd()),
        "closed form",
        exact=exact.correlated_gaussian,
        log_evidence=_zero,
    ),
    Problem(
        "logistic_25",
        25,
        "logistic",
        references.logistic,
        "importance sampling, 2,000,000 draws (python -m benchmarks reference logistic_25)",
        exact=exact.logistic,
        log_evidence=lambda: references.LOGISTIC_LOG_EVIDENCE,
    ),
    Problem(
        "funnel_10",
        10,
        "funnel",
        _moments([0.0] * 10, [definitions.FUNNEL_SD] + [math.exp(definitions.FUNNEL_SD**2 / 4.0)] * 9),
        "closed form",
        exact=exact.funnel,
        log_evidence=_zero,
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
    ),
)


@dataclass(frozen=True, eq=False)
class DatabaseProblem(Problem):
    """A posterior of posteriordb, whose data and draws are read from the checkout that the environment names."""

    @property
    def entry(self) -> database.Entry:
        """With data and draws."""
        return _entry(self.name)

    def fit_arguments(self) -> Any:
        """Target, data and keywords for ``neural_vb.fit``; imports TensorFlow."""
        return self.entry.fit_arguments()

    def jax_log_prob(self) -> Callable[[Any], Any]:
        """Log density of one unconstrained vector [D]; imports JAX."""
        return self.entry.jax_log_prob()

    def to_vector(self, draws: Any) -> Array:
        """Draws by name, or unconstrained vectors -> unconstrained vectors [S, D]."""
        return self.entry.to_vector(draws) if isinstance(draws, Mapping) else np.asarray(draws, float)


def _entry(name: str) -> database.Entry:
    return database.load(name, references.require_posteriordb(None))


def _from_database(name: str, size: int) -> DatabaseProblem:
    def moments() -> Moments:
        draws = _entry(name).draws
        return Moments(draws.mean(0), draws.std(0, ddof=1))

    return DatabaseProblem(
        name,
        size,
        name,
        moments,
        "posteriordb, 10,000 reference draws",
        reference_draws=lambda path: database.load(name, path).draws,
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem for problem in (*_ALL, *(_from_database(*row) for row in SIZES.items()))
}
