"""NumPyro: NUTS in two forms, and variational inference with three families."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.definitions import Array
from benchmarks.problem import Problem
from benchmarks.runs import NUM_CHAINS, NUM_SAMPLES, NUM_WARMUP, Run, peak_memory, variational_run

NUM_STEPS = 10_000
NUM_PARTICLES = 16
RATE = 1e-2
IAF_RATE = 3e-3


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
        "fit_peak_memory_mb": peak_memory(),
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


def run_variational(problem: Problem, seed: int, *, guide_name: str, rate: float) -> Run:
    """An automatic guide over one site [D]: 10,000 steps of Adam with 16 draws, its rate falling linearly to zero.

    NumPyro's guides start uniformly in (-2, 2)^D. A step that is not finite is skipped, as NumPyro offers.
    """
    start = time.perf_counter()
    import jax
    import numpyro
    import numpyro.distributions as dist
    from jax.example_libraries import optimizers
    from numpyro.infer import SVI, Trace_ELBO, autoguide

    import_seconds = time.perf_counter() - start
    log_prob, size = problem.jax_log_prob(), problem.size

    def model() -> None:
        z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (size,)))
        numpyro.factor("log_prob", log_prob(z))

    start = time.perf_counter()
    guide = getattr(autoguide, guide_name)(model)
    optimiser = numpyro.optim.Adam(optimizers.polynomial_decay(rate, NUM_STEPS, 0.0))
    inference = SVI(model, guide, optimiser, Trace_ELBO(num_particles=NUM_PARTICLES))
    found = inference.run(jax.random.PRNGKey(seed), NUM_STEPS, progress_bar=False, stable_update=True)
    losses = np.asarray(found.losses, float)  # waits for the last step
    seconds = time.perf_counter() - start
    sample = _sampler(guide, found.params)
    # In the last hundredth of the run the rate is all but zero: its mean has a hundred times the draws of a step.
    elbo = -float(losses[-NUM_STEPS // 100 :].mean())
    return variational_run(import_seconds, seconds, sample, size, elbo, skipped_steps=int(np.isnan(losses).sum()))


def _sampler(guide: Any, parameters: Any) -> Callable[[int, int], Array]:
    """(S, seed) -> draws [S, D]. The guide's own ``sample_posterior`` takes draws one by one."""
    import functools

    import jax

    base, transform = guide.get_base_dist(), guide.get_transform(parameters)

    @functools.partial(jax.jit, static_argnums=0)
    def draw(num_draws: int, key: Any) -> Any:
        return transform(base.sample(key, (num_draws,)))

    return lambda num_draws, seed: np.asarray(draw(num_draws, jax.random.PRNGKey(seed)))


def run_mean_field(problem: Problem, seed: int) -> Run:
    """Mean-field ADVI: a diagonal Gaussian (Kucukelbir et al. 2017, arXiv 1603.00788)."""
    return run_variational(problem, seed, guide_name="AutoDiagonalNormal", rate=RATE)


def run_full_rank(problem: Problem, seed: int) -> Run:
    """Full-rank ADVI: a Gaussian with any covariance (same paper)."""
    return run_variational(problem, seed, guide_name="AutoMultivariateNormal", rate=RATE)


def run_iaf(problem: Problem, seed: int) -> Run:
    """Three inverse autoregressive flows (Kingma et al. 2016, arXiv 1606.04934), NumPyro's default; needs D > 1."""
    return run_variational(problem, seed, guide_name="AutoIAFNormal", rate=IAF_RATE)
