"""The registry: one row per problem, with everything a run, a peer and an evaluation need.

Adding a problem takes a row in one of the lists, a log density in ``shared_densities`` (or one in each of
``densities_tf`` and ``densities_jax``, as a user of either would write it), and, if it has one, an exact sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import database, references
from benchmarks.database_models import SIZES
from benchmarks.definitions import Array
from benchmarks.problem import Problem
from benchmarks.problems_regression import REGRESSIONS
from benchmarks.problems_schools import POSTERIORS
from benchmarks.problems_toy import TOY_ZOO
from benchmarks.references import Moments


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
        panel="posteriordb",
        needs=references.POSTERIORDB_VARIABLE,
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (*TOY_ZOO, *POSTERIORS, *REGRESSIONS, *(_from_database(*row) for row in SIZES.items()))
}
