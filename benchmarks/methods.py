"""What is compared: ``neural_vb`` with default settings, and NumPyro's NUTS in two forms.

A method runs in a process of its own. Its imports are timed apart; ``seconds`` is what a user waits for after them,
tracing and compilation included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import bars
from benchmarks.definitions import Array
from benchmarks.problems import Problem

NUM_CHAINS = 4
NUM_WARMUP = 1_000
NUM_SAMPLES = 2_500
DRAW_SEED = 1_000


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        import_seconds: imports of the libraries.
        seconds: the fit, compilation included.
        draw_sets: unconstrained draws, [S, D] each.
        elbo: in nats, or None.
        details: further facts for the record.
    """

    import_seconds: float
    seconds: float
    draw_sets: list[Array]
    elbo: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


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

    first_sample, rates = _sampling_rates(posterior)
    draw_sets = [
        problem.to_vector(_arrays(posterior.sample(bars.NUM_DRAWS, seed=DRAW_SEED + i)))
        for i in range(bars.NUM_DRAW_SETS)
    ]
    details = {
        "first_sample_seconds": first_sample,
        "sampling": rates,
        "draws_per_second": rates[-1]["draws_per_second"],
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


def _sampling_rates(posterior: Any) -> tuple[float, list[dict[str, float]]]:
    """Seconds of the very first call, and the rate of the next call at each size; draws end as NumPy arrays."""

    def timed(num_draws: int, seed: int) -> float:
        start = time.perf_counter()
        _arrays(posterior.sample(num_draws, seed=seed))
        return time.perf_counter() - start

    first = timed(bars.SAMPLING_SIZES[0], 1)
    seconds = [timed(size, 2 + i) for i, size in enumerate(bars.SAMPLING_SIZES)]
    rates = [
        {"num_draws": size, "seconds": took, "draws_per_second": size / took}
        for size, took in zip(bars.SAMPLING_SIZES, seconds, strict=True)
    ]
    return first, rates


def run_nuts(problem: Problem, seed: int, *, chain_method: str) -> Run:
    """NumPyro's NUTS with its default settings on the unconstrained vector: 4 chains of 1,000 + 2,500.

    Chains start uniformly in (-2, 2)^D, NumPyro's own default.
    """
    start = time.perf_counter()
    import jax
    import numpyro.diagnostics
    from numpyro.infer import MCMC, NUTS

    import_seconds = time.perf_counter() - start
    log_prob = problem.jax_log_prob()

    start = time.perf_counter()
    key, start_key = jax.random.split(jax.random.PRNGKey(seed))
    starts = jax.random.uniform(start_key, (NUM_CHAINS, problem.size), minval=-2.0, maxval=2.0)
    sampler = MCMC(
        NUTS(potential_fn=lambda z: -log_prob(z)),
        num_warmup=NUM_WARMUP,
        num_samples=NUM_SAMPLES,
        num_chains=NUM_CHAINS,
        chain_method=chain_method,
        progress_bar=False,
    )
    sampler.run(key, init_params=starts)
    draws = np.asarray(sampler.get_samples(group_by_chain=True), float)
    seconds = time.perf_counter() - start

    summary = numpyro.diagnostics.summary(draws)["Param:0"]
    details = {
        "divergences": int(np.sum(sampler.get_extra_fields()["diverging"])),
        "max_r_hat": float(np.max(summary["r_hat"])),
        "min_effective_sample_size": float(np.min(summary["n_eff"])),
    }
    return Run(import_seconds, seconds, [draws.reshape(-1, problem.size)], None, details)


def run_nuts_sequential(problem: Problem, seed: int) -> Run:
    """One chain after the other."""
    return run_nuts(problem, seed, chain_method="sequential")


def run_nuts_vectorized(problem: Problem, seed: int) -> Run:
    """All chains in one vectorised program."""
    return run_nuts(problem, seed, chain_method="vectorized")


METHODS: dict[str, Callable[[Problem, int], Run]] = {
    "neural_vb": run_neural_vb,
    "numpyro_nuts_sequential": run_nuts_sequential,
    "numpyro_nuts_vectorized": run_nuts_vectorized,
}
OURS = "neural_vb"
PEERS: tuple[str, ...] = tuple(name for name in METHODS if name != OURS)
