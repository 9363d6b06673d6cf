"""Logistic regressions: four published data sets, whose files are the user's to bring, and simulated hierarchies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import references, regression_data, shared_densities
from benchmarks.definitions import Array
from benchmarks.logistic import LogisticPosterior
from benchmarks.problem import Problem
from benchmarks.regression_data import Regression

SIZES = {"waveform": 22, "german_credit": 25, "sonar": 61, "ionosphere": 35}
PRIOR_SDS = {"waveform": 10.0, "german_credit": 10.0, "sonar": 1.0, "ionosphere": 1.0}
DATA: dict[str, Callable[[], Regression]] = {
    "waveform": regression_data.waveform,
    "german_credit": regression_data.german_credit,
    "sonar": regression_data.sonar,
    "ionosphere": regression_data.ionosphere,
}
HIERARCHY_SIZES = (100, 300, 1_000)


@functools.cache
def posterior(name: str) -> LogisticPosterior:
    """Of a published data set; reads its file."""
    data = DATA[name]()
    # One proposal in ten thousand is cut: with the largest weight as bound a set of draws would take half a minute.
    return LogisticPosterior(data.design, data.labels, PRIOR_SDS[name], share=1e-4)


def _published(name: str) -> Problem:
    def exact(n: int, rng: np.random.Generator) -> Array:
        return posterior(name).sample(n, rng)

    def density() -> shared_densities.SharedDensity:
        data = DATA[name]()
        return shared_densities.logistic_regression(data.design, data.labels, PRIOR_SDS[name])

    return Problem(
        name,
        SIZES[name],
        density,
        lambda: references.stored(name).moments,
        f"importance sampling, 2,000,000 draws (python -m benchmarks reference {name})",
        exact=exact,
        log_evidence=lambda: references.stored(name).require_log_evidence(),
        panel="regressions",
        needs=regression_data.DATA_VARIABLE,
    )


def _hierarchy(size: int) -> Problem:
    name = f"hierarchical_{size}"
    return Problem(
        name,
        size,
        functools.partial(shared_densities.hierarchical, size),
        lambda: references.stored(name).moments,
        f"long NUTS (python -m benchmarks reference {name})",
        reference_draws=lambda folder: np.load(Path(folder) / f"{name}.npy").astype(float),
        draws_from=references.DRAWS_VARIABLE,
        panel="regressions",
    )


REGRESSIONS: tuple[Problem, ...] = (*map(_published, SIZES), *map(_hierarchy, HIERARCHY_SIZES))
