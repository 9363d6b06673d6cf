"""How the stored numbers of ``references`` and of the package's eight schools were made, to be made again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import bars, exact, metrics, references
from benchmarks.definitions import Array
from benchmarks.problems import PROBLEMS
from benchmarks.references import Moments

NUM_IMPORTANCE_DRAWS = 2_000_000
CHUNK = 100_000
NUTS_SAMPLES = 25_000


def logistic_moments(num_draws: int, seed: int) -> tuple[Moments, float, float]:
    """Moments [25] each, log evidence in nats and effective share of draws, by importance sampling in chunks."""
    rng = np.random.default_rng(seed)
    student = exact.logistic_proposal().student
    parts: list[tuple[Array, Array, float, float]] = []
    for _ in range(-(-num_draws // CHUNK)):
        draws, weights, log_evidence = exact.weighted(student, CHUNK, rng)
        parts.append((weights @ draws, weights @ draws**2, log_evidence, float((weights**2).sum())))
    log_evidences = np.array([part[2] for part in parts])
    total = float(np.logaddexp.reduce(log_evidences))
    share = np.exp(log_evidences - total)  # weight of each chunk
    mean = share @ np.stack([part[0] for part in parts])
    sd = np.sqrt(share @ np.stack([part[1] for part in parts]) - mean**2)
    effective = 1.0 / (share**2 @ np.array([part[3] for part in parts])) / (CHUNK * len(parts))
    return Moments(mean, sd), total - float(np.log(len(parts))), float(effective)


def nuts_moments(problem_name: str, num_samples: int, seed: int) -> Moments:
    """Moments from 4 long chains of NumPyro's NUTS, for a second opinion."""
    import jax
    from numpyro.infer import MCMC, NUTS

    problem = PROBLEMS[problem_name]
    log_prob = problem.jax_log_prob()
    sampler = MCMC(
        NUTS(potential_fn=lambda z: -log_prob(z)),
        num_warmup=1_000,
        num_samples=num_samples,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    sampler.run(jax.random.PRNGKey(seed), init_params=np.zeros((4, problem.size), np.float32))
    draws = np.asarray(sampler.get_samples(), float)
    return Moments(draws.mean(axis=0), draws.std(axis=0, ddof=1))


def show_logistic(seed: int) -> None:
    """Print logistic_25's constants, and NUTS's difference from them where NumPyro is installed."""
    moments, log_evidence, effective = logistic_moments(NUM_IMPORTANCE_DRAWS, seed)
    print(f"# {NUM_IMPORTANCE_DRAWS:,} draws, effective {effective:.0%}, seed {seed}")
    print(f"LOGISTIC_MEAN = {_constants(moments.mean)}\nLOGISTIC_SD = {_constants(moments.sd)}")
    print(f"LOGISTIC_LOG_EVIDENCE = {log_evidence:.4f}", flush=True)
    try:
        start = time.perf_counter()
        nuts = nuts_moments("logistic_25", NUTS_SAMPLES, seed)
    except ModuleNotFoundError:
        print("# NUTS left out: pip install 'neural_vb[bench]'")
        return
    mean_error = np.max(np.abs(nuts.mean - moments.mean) / moments.sd)
    sd_error = np.max(np.abs(nuts.sd / moments.sd - 1.0))
    took = time.perf_counter() - start
    print(f"# NUTS 4 x {NUTS_SAMPLES:,}: mean error {mean_error:.4f} sd, sd error {sd_error:.4f}; {took:.0f} s")


def show_eight_schools(posteriordb: str | None) -> None:
    """Print the constants of ``neural_vb/_eight_schools.py`` from posteriordb's draws.

    Raises:
        DataError: no path is given, or the draws are not there.
    """
    z = references.eight_schools_draws(references.require_posteriordb(posteriordb))
    for name, draws in {"unconstrained": z, **references.eight_schools_theta(z)}.items():
        print(f"{name.upper()}_MEAN = {_constants(draws.mean(axis=0))}")
        print(f"{name.upper()}_SD = {_constants(draws.std(axis=0, ddof=1))}")


def show_floors(names: Sequence[str], *, num_pairs: int, seed: int) -> None:
    """Print mean and 99 % quantile of the sliced Wasserstein distance over pairs of exact samples."""
    for name in names:
        problem = PROBLEMS[name]
        if problem.exact is None:
            continue
        mean, quantile = metrics.sliced_wasserstein_floor(
            problem.exact, problem.moments().sd, num_draws=bars.NUM_DRAWS, num_pairs=num_pairs, seed=seed
        )
        print(f'    "{name}": ({mean:.4f}, {quantile:.4f}),', flush=True)


def _constants(values: Any) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in np.atleast_1d(values)) + ")"
