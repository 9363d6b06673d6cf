"""BlackJAX: multi-path Pathfinder (Zhang, Carpenter, Gelman & Vehtari 2022, arXiv 2108.03782)."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from benchmarks.definitions import Array
from benchmarks.problem import Problem
from benchmarks.runs import Run, variational_run

NUM_PATHS = 20  # as in the paper
MAX_ITERATIONS = 100
POOL = 4  # candidates per draw: of as many candidates as draws, resampling would keep half


def run_pathfinder(problem: Problem, seed: int) -> Run:
    """Twenty paths from starts uniform in (-2, 2)^D, pooled by Pareto-smoothed importance resampling."""
    start = time.perf_counter()
    import jax
    from blackjax.vi import multipathfinder, pathfinder

    import_seconds = time.perf_counter() - start
    log_prob, size = problem.jax_log_prob(), problem.size

    start = time.perf_counter()
    key, start_key = jax.random.split(jax.random.PRNGKey(seed))
    starts = jax.random.uniform(start_key, (NUM_PATHS, size), minval=-2.0, maxval=2.0)

    @jax.jit
    def fit(key: Any, starts: Any) -> Any:
        return multipathfinder.multi_approximate(key, log_prob, starts, maxiter=MAX_ITERATIONS)[0].path_states

    paths = jax.block_until_ready(fit(key, starts))
    seconds = time.perf_counter() - start

    @functools.partial(jax.jit, static_argnums=0)
    def draw(num_draws: int, key: Any) -> tuple[Any, Any]:
        keys = jax.random.split(key, NUM_PATHS + 1)
        num_candidates = -(-POOL * num_draws // NUM_PATHS)
        pool, log_q = jax.vmap(lambda key, path: pathfinder.sample(key, path, num_candidates))(keys[1:], paths)
        log_p = jax.vmap(jax.vmap(log_prob))(pool)
        # A path that ended where nothing is finite, or a candidate outside, must not take part.
        log_p = jax.numpy.where(jax.numpy.isfinite(log_p - log_q), log_p, -jax.numpy.inf)
        state = multipathfinder.MultipathfinderState(paths, pool, log_p, jax.numpy.nan_to_num(log_q))
        log_weights, pareto_k = multipathfinder.psis_weights(state)
        weights = jax.numpy.nan_to_num(jax.numpy.exp(log_weights))
        chosen = jax.random.choice(keys[0], len(weights), (num_draws,), p=weights)
        return pool.reshape(-1, size)[chosen], pareto_k

    def sample(num_draws: int, seed: int) -> Array:
        return np.asarray(draw(num_draws, jax.random.PRNGKey(seed))[0])

    pareto_k = float(draw(20_000, jax.random.PRNGKey(seed))[1])
    elbo = float(np.max(paths.elbo))
    return variational_run(import_seconds, seconds, sample, size, elbo, pareto_k=pareto_k)
