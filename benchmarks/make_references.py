"""How the stored numbers of ``references`` and of the package's eight schools were made, to be made again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import bars, exact, metrics, problems_regression, references
from benchmarks.definitions import Array
from benchmarks.logistic import LogisticPosterior
from benchmarks.problems import PROBLEMS
from benchmarks.references import Moments

NUM_IMPORTANCE_DRAWS = 2_000_000
CHUNK = 100_000
NUTS_SAMPLES = 25_000
HIERARCHY_SAMPLES = 10_000


def importance_moments(posterior: LogisticPosterior, num_draws: int, seed: int) -> tuple[Moments, float, float]:
    """Moments [D] each, log evidence in nats and effective share of draws, by importance sampling in chunks."""
    rng = np.random.default_rng(seed)
    parts: list[tuple[Array, Array, float, float]] = []
    for _ in range(-(-num_draws // CHUNK)):
        draws, weights, log_evidence = posterior.weighted(CHUNK, rng)
        parts.append((weights @ draws, weights @ draws**2, log_evidence, float((weights**2).sum())))
    log_evidences = np.array([part[2] for part in parts])
    total = float(np.logaddexp.reduce(log_evidences))
    share = np.exp(log_evidences - total)  # weight of each chunk
    mean = share @ np.stack([part[0] for part in parts])
    sd = np.sqrt(share @ np.stack([part[1] for part in parts]) - mean**2)
    effective = 1.0 / (share**2 @ np.array([part[3] for part in parts])) / (CHUNK * len(parts))
    return Moments(mean, sd), total - float(np.log(len(parts))), float(effective)


class Chains(NamedTuple):
    """Four long chains of NumPyro's NUTS.

    Attributes:
        draws: [4, S, D].
        r_hat: the largest over coordinates.
        effective: the smallest effective sample size.
    """

    draws: Array
    r_hat: float
    effective: float

    @property
    def moments(self) -> Moments:
        """[D] each."""
        flat = self.draws.reshape(-1, self.draws.shape[-1])
        return Moments(flat.mean(axis=0), flat.std(axis=0, ddof=1))


def nuts(problem_name: str, num_samples: int, seed: int) -> Chains:
    """Four vectorised chains from the origin, after 1,000 steps of warm-up."""
    import jax
    import numpyro.diagnostics
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
    draws = np.asarray(sampler.get_samples(group_by_chain=True), float)
    summary = numpyro.diagnostics.summary(draws)["Param:0"]
    return Chains(draws, float(np.max(summary["r_hat"])), float(np.min(summary["n_eff"])))


def make_regression(name: str, seed: int) -> None:
    """Store moments and log evidence by importance sampling, and how far NUTS, where it is installed, is from them."""
    moments, log_evidence, effective = importance_moments(
        problems_regression.posterior(name), NUM_IMPORTANCE_DRAWS, seed
    )
    row = {
        "method": "importance sampling from a Student t",
        "num_draws": NUM_IMPORTANCE_DRAWS,
        "effective_share": round(effective, 3),
        "log_evidence": round(log_evidence, 4),
    }
    try:
        found = nuts(name, NUTS_SAMPLES, seed).moments
        row["nuts_draws"] = 4 * NUTS_SAMPLES
        row["nuts_mean_difference"] = round(float(np.max(np.abs(found.mean - moments.mean) / moments.sd)), 4)
        row["nuts_sd_difference"] = round(float(np.max(np.abs(found.sd / moments.sd - 1.0))), 4)
    except ModuleNotFoundError:
        print("# NUTS left out: pip install 'neural_vb[bench]'")
    _store(name, seed, moments, row)


def make_hierarchy(name: str, seed: int, folder: Path | None) -> None:
    """Store moments by NUTS, and 10,000 of its draws in a folder, if one is named."""
    found = nuts(name, HIERARCHY_SAMPLES, seed)
    row = {
        "method": "NumPyro's NUTS, 4 chains",
        "num_draws": 4 * HIERARCHY_SAMPLES,
        "max_r_hat": round(found.r_hat, 4),
        "min_effective_sample_size": round(found.effective),
    }
    _store(name, seed, found.moments, row)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        thin = found.draws[:, :: HIERARCHY_SAMPLES // 2_500]
        np.save(folder / f"{name}.npy", thin.reshape(-1, thin.shape[-1]).astype(np.float32))


def _store(name: str, seed: int, moments: Moments, row: dict[str, Any]) -> None:
    rows = json.loads(references.STORE.read_text(encoding="utf-8"))
    numbers = {key: [float(f"{value:.5g}") for value in getattr(moments, key)] for key in ("mean", "sd")}
    rows[name] = {"seed": seed} | row | numbers
    lines = [f" {json.dumps(key)}: {json.dumps(rows[key])}" for key in sorted(rows)]
    references.STORE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{name}: {row}")


def show_logistic(seed: int) -> None:
    """Print logistic_25's constants, and NUTS's difference from them where NumPyro is installed."""
    moments, log_evidence, effective = importance_moments(exact.logistic_posterior(), NUM_IMPORTANCE_DRAWS, seed)
    print(f"# {NUM_IMPORTANCE_DRAWS:,} draws, effective {effective:.0%}, seed {seed}")
    print(f"LOGISTIC_MEAN = {_constants(moments.mean)}\nLOGISTIC_SD = {_constants(moments.sd)}")
    print(f"LOGISTIC_LOG_EVIDENCE = {log_evidence:.4f}", flush=True)
    try:
        start = time.perf_counter()
        found = nuts("logistic_25", NUTS_SAMPLES, seed).moments
    except ModuleNotFoundError:
        print("# NUTS left out: pip install 'neural_vb[bench]'")
        return
    mean_error = np.max(np.abs(found.mean - moments.mean) / moments.sd)
    sd_error = np.max(np.abs(found.sd / moments.sd - 1.0))
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
