"""Multi-path Pathfinder on BlackJAX's L-BFGS (Zhang, Carpenter, Gelman & Vehtari 2022, arXiv 2108.03782).

The Gaussians along the paths are our own: the means of BlackJAX 1.7.1's move by the gradient of -log p where the paper
moves by that of log p (a test fails when that has changed).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.definitions import Array
from benchmarks.pathfinder import LowRankGaussian, along
from benchmarks.problem import Problem
from benchmarks.runs import Run, variational_run

NUM_PATHS = 20  # as in the paper
MAX_ITERATIONS = 200
WINDOW = 6
ELBO_DRAWS = 100
POOL = 4  # candidates per draw: of as many candidates as draws, resampling would keep half
CHUNK = 20_000


def run_pathfinder(problem: Problem, seed: int) -> Run:
    """Twenty paths from starts uniform in (-2, 2)^D, pooled by Pareto-smoothed importance resampling."""
    start = time.perf_counter()
    import jax
    from blackjax.diagnostics import psis_weights
    from blackjax.optimizers.lbfgs import minimize_lbfgs

    import_seconds = time.perf_counter() - start
    log_prob, size = problem.jax_log_prob(), problem.size

    start = time.perf_counter()
    starts = jax.random.uniform(jax.random.PRNGKey(seed), (NUM_PATHS, size), minval=-2.0, maxval=2.0)
    paths = jax.jit(
        jax.vmap(lambda z: minimize_lbfgs(lambda z: -log_prob(z), z, maxiter=MAX_ITERATIONS, maxcor=WINDOW, ftol=1e-7))
    )
    (_, status), history = paths(starts)
    values = jax.jit(jax.vmap(log_prob))
    evaluate = lambda z: np.asarray(values(np.asarray(z, np.float32)), float)  # noqa: E731
    rng = np.random.default_rng(seed)
    best, elbos = [], []
    for index in range(NUM_PATHS):
        number = int(status.iter_num[index]) + 1
        x, g, alpha = (np.asarray(part[index][:number], float) for part in (history.x, history.g, history.alpha))
        used = np.all(np.asarray(history.update_mask[index])[1:number], axis=-1, keepdims=True)[:, 0]
        chosen = _best(along(x, g, alpha, used, WINDOW), evaluate, rng)
        if chosen is not None:
            best.append(chosen[0])
            elbos.append(chosen[1])
    seconds = time.perf_counter() - start
    if not best:
        raise FloatingPointError("no path had a Gaussian with a finite ELBO")

    def weigh(log_ratios: Array) -> tuple[Array, float]:
        log_weights, pareto_k = psis_weights(jax.numpy.asarray(log_ratios - log_ratios.max()))
        return np.exp(np.asarray(log_weights, float)), float(pareto_k)

    def sample(num_draws: int, seed: int) -> Array:
        return resample(best, evaluate, weigh, num_draws, np.random.default_rng(seed))[0]

    pareto_k = resample(best, evaluate, weigh, CHUNK, rng)[1]
    return variational_run(
        import_seconds, seconds, sample, size, float(np.max(elbos)), pareto_k=pareto_k, finite_paths=len(best)
    )


def _best(
    gaussians: list[LowRankGaussian], evaluate: Callable[[Any], Array], rng: np.random.Generator
) -> tuple[LowRankGaussian, float] | None:
    """The Gaussian of a path with the largest ELBO, and that; None when there is none."""
    best, largest = None, -np.inf
    for gaussian in gaussians:
        z, log_q = gaussian.sample(ELBO_DRAWS, rng)
        elbo = float((evaluate(z) - log_q).mean())
        if np.isfinite(elbo) and elbo > largest:
            best, largest = gaussian, elbo
    return None if best is None else (best, largest)


def resample(
    gaussians: list[LowRankGaussian],
    evaluate: Callable[[Any], Array],
    weigh: Callable[[Array], tuple[Array, float]],
    num_draws: int,
    rng: np.random.Generator,
) -> tuple[Array, float]:
    """Draws [S, D] of the paths' mixture, reweighted to the target; and the Pareto k of the last chunk."""
    chunks, pareto_k = [], float("nan")
    for number in [CHUNK] * (-(-num_draws // CHUNK)):
        parts = [gaussian.sample(POOL * number // len(gaussians) + 1, rng) for gaussian in gaussians]
        pool, log_q = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        log_ratios = evaluate(pool) - log_q
        finite = np.isfinite(log_ratios)
        weights, pareto_k = weigh(np.where(finite, log_ratios, log_ratios[finite].min() - 100.0))
        weights = np.where(finite, weights, 0.0)
        chunks.append(pool[rng.choice(len(pool), number, p=weights / weights.sum())])
    return np.concatenate(chunks)[:num_draws], pareto_k
