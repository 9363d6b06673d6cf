"""``neural_vb`` with default settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import bars
from benchmarks.problem import Problem
from benchmarks.runs import DRAW_SEED, Run, peak_memory, sampling_rates


def run_neural_vb(problem: Problem, seed: int) -> Run:
    """Fit with default settings, then draw."""
    start = time.perf_counter()
    import neural_vb

    fit = neural_vb.fit  # the name, too, in case the package imports its parts on demand
    from benchmarks import densities_tf  # noqa: F401  (imports TensorFlow and TFP)

    import_seconds = time.perf_counter() - start
    target, data, keywords = problem.fit_arguments()

    start = time.perf_counter()
    posterior = fit(target, data, seed=seed, progress=False, **keywords)
    seconds = time.perf_counter() - start

    peak = peak_memory()

    def sample(num_draws: int, seed: int) -> Any:
        return _arrays(posterior.sample(num_draws, seed=seed))

    # The rate is that of draws in the user's names; that a benchmark wants one vector is not the user's time.
    first_sample, rates = sampling_rates(sample, problem.size)
    draw_sets = [problem.to_vector(sample(bars.NUM_DRAWS, DRAW_SEED + i)) for i in range(bars.NUM_DRAW_SETS)]
    details = {
        "first_sample_seconds": first_sample,
        "sampling": rates,
        "draws_per_second": rates[-1]["draws_per_second"],
        "fit_peak_memory_mb": peak,
        "status": str(getattr(posterior.status, "reason", posterior.status)),
        "timings": _timings(posterior),
    }
    return Run(import_seconds, seconds, draw_sets, first_number(posterior.elbo), details)


def first_number(elbo: Any) -> float:
    """The estimate of an ELBO that may come with its standard error: a number, or a (value, standard error) tuple."""
    return float(np.ravel(np.asarray(elbo, float))[0])


def _timings(posterior: Any) -> dict[str, float] | None:
    """Seconds by stage where the history has them."""
    found = getattr(getattr(posterior, "history", None), "timings", None)
    return {str(name): float(value) for name, value in found.items()} if isinstance(found, Mapping) else None


def _arrays(draws: Any) -> Any:
    return {name: np.asarray(part) for name, part in draws.items()} if isinstance(draws, Mapping) else np.asarray(draws)
