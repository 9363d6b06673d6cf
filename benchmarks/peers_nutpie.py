"""nutpie: NUTS in Rust with a mass matrix from scores, on a log density that JAX has compiled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.definitions import Array
from benchmarks.problem import Problem
from benchmarks.runs import NUM_CHAINS, NUM_SAMPLES, NUM_WARMUP, Run, peak_memory


def run_nutpie(problem: Problem, seed: int) -> Run:
    """4 chains of 1,000 + 2,500 with nutpie's default settings, one core; starts uniform in (-2, 2)^D."""
    start = time.perf_counter()
    import arviz
    import jax
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    import_seconds = time.perf_counter() - start
    log_prob, size = problem.jax_log_prob(), problem.size

    start = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(log_prob))

    def value_and_gradient(z: Array) -> tuple[float, Array]:
        value, gradient = compiled(np.asarray(z, np.float32))
        return float(value), np.asarray(gradient, np.float64)

    def initial_point(seed: Any) -> Array:
        return np.random.default_rng(seed).uniform(-2.0, 2.0, size)

    model = from_pyfunc(
        size,
        lambda: value_and_gradient,
        lambda *seeds: lambda z: {"z": np.asarray(z)},
        [np.dtype(np.float64)],
        [(size,)],
        ["z"],
        make_initial_point_fn=initial_point,
    )
    trace = nutpie.sample(
        model,
        draws=NUM_SAMPLES,
        tune=NUM_WARMUP,
        chains=NUM_CHAINS,
        cores=1,  # the density is called through Python, whose lock lets one chain run at a time
        seed=seed,
        progress_bar=False,
        save_warmup=False,
    )
    draws = np.asarray(trace.posterior["z"].values, float)
    seconds = time.perf_counter() - start
    details = {
        "fit_peak_memory_mb": peak_memory(),
        "divergences": int(np.sum(trace.sample_stats["diverging"].values)),
        "max_r_hat": _worst(arviz.rhat, trace, max),
        "min_effective_sample_size": _worst(arviz.ess, trace, min),
    }
    return Run(import_seconds, seconds, [draws.reshape(-1, size)], None, details)


def _worst(statistic: Any, trace: Any, pick: Any) -> float:
    return float(pick(np.ravel(statistic(trace.posterior)["z"].values)))
