"""``python -m benchmarks.verdict --out DIR [--quick]``: how often ``Posterior.check`` is right.

Samplers with known errors go through the same checks as trained ones; evidence is estimated where it is known; fits of
the benchmarks' problems (``--problems``) are checked and refined. Results are appended to DIR/*.jsonl and
are not made again; DIR/verdict.md has the rates.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import verdict_report, verdict_zoo
from benchmarks.definitions import Array
from benchmarks.verdict_zoo import Member

NUM_TRUE = 100_000
NUM_MOMENTS = 5
NUM_BAND = 300
REGRESSIONS = (1, 2, 5, 10, 25, 50)  # coefficients
CLOSE, NARROW = (-0.05, 0.1), (-0.9, -0.2)  # log widths of a contrast in the posterior's
EFFECTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)


@functools.cache
def chains(name: str, size: int) -> Any:
    """Compiled transitions of a target of the zoo."""
    import tensorflow as tf  # noqa: F401

    from neural_vb.diagnostics.chains import Chains
    from neural_vb.targets import LogProbTarget
    from neural_vb.whitening import WhitenedTarget, Whitening

    target = LogProbTarget(verdict_zoo.density(name, size), event_shape=[size])
    return Chains(WhitenedTarget(target, Whitening(np.zeros(size), np.eye(size))))


def true_error(member: Member) -> dict[str, float]:
    """Kind -> the largest error of the sampler, from many exact draws, in tolerances."""
    from neural_vb.diagnostics import polishing
    from neural_vb.verdicts import DEFAULT

    claim, truth = (draw(NUM_TRUE, np.random.default_rng(7)) for draw in (member.sampler, member.exact))
    pairs = polishing.pairs_of(member.size, 0)
    centre, scale = claim.mean(0), claim.std(0)
    values = [polishing.values((z - centre) / scale, pairs) for z in (claim, truth)]
    kinds = polishing.labels(range(member.size), pairs)[1][:-1]
    change = np.abs(values[1] - values[0])
    return {
        kind: float(change[kinds == kind].max(initial=0.0) / getattr(DEFAULT, kind)) for kind in dict.fromkeys(kinds)
    }


def whole_check(member: Member, seed: int) -> dict[str, Any]:
    """States of all parts."""
    from neural_vb.diagnostics.verdict import NUM_DRAWS, Subject, assess

    begin = time.perf_counter()
    subject = Subject(chains(member.target, member.size), _draw(member)(NUM_DRAWS, seed))
    verdict = assess(subject, seed=seed)
    states = {part: finding.state for part, finding in verdict.findings().items()}
    return {**states, "message": verdict.local_fit.message, "seconds": time.perf_counter() - begin}


def local_check(member: Member, seed: int) -> dict[str, Any]:
    """State of the local fit alone."""
    from neural_vb.diagnostics.polishing import local_fit
    from neural_vb.diagnostics.verdict import NUM_DRAWS

    found = local_fit(chains(member.target, member.size), _draw(member)(NUM_DRAWS, seed), seed=seed)
    return {"local_fit": found.finding.state}


def refine_check(member: Member, seed: int) -> dict[str, Any]:
    """The largest errors of refined means and log sds, in the standard errors of as many exact draws."""
    from neural_vb.diagnostics.polishing import NUM_CHAINS
    from neural_vb.diagnostics.refinement import refine

    begin = time.perf_counter()
    u = _draw(member)(2 * NUM_CHAINS, seed)
    found = refine(chains(member.target, member.size), u[:NUM_CHAINS], u[NUM_CHAINS:], seed=seed)
    seconds = time.perf_counter() - begin
    worst, band = _score(found.u, exact_moments(member.target, member.size)), exact_band(member.target, member.size)
    rest = {"num_transitions": found.num_transitions, "seconds": seconds}
    return {"largest": worst, "band": band, "nested_r_hat": float(found.nested_r_hat.max()), **rest}


def critic_check(member: Member, seed: int) -> dict[str, Any]:
    """States for exact draws with a critic that is not at its optimum, or is."""
    from neural_vb.diagnostics.verdict import NUM_DRAWS, NUM_JUDGED, Judged, Subject, assess
    from neural_vb.evaluation import Estimate

    target, contrast = chains(member.target, member.size), verdict_zoo.Shifted(member.size)
    logits = verdict_zoo.CRITICS[member.name]

    def judge(u: Array) -> tuple[Array, Array]:
        return contrast.log_prob(u), logits(contrast.optimum(u))

    judged = Judged.of(judge, contrast.sample(NUM_JUDGED, np.random.default_rng([seed, 6])), 0.0)
    u = member.sampler(NUM_JUDGED, np.random.default_rng([seed, 8]))
    log_r, t = judge(u)
    terms = target.look(u)[0] - log_r - t
    elbo = Estimate(float(terms.mean()), float(terms.std() / np.sqrt(len(terms))))
    verdict = assess(Subject(target, _draw(member)(NUM_DRAWS, seed), judged, elbo), seed=seed)
    return {part: finding.state for part, finding in verdict.findings().items()}


@functools.cache
def exact_moments(target: str, size: int) -> tuple[Array, Array, Array]:
    """Means, sds and standardised fourth moments [D] of a target, from draws that are many times as many."""
    exact = _exact(target, size)
    z = np.concatenate([exact(200_000, np.random.default_rng([11, i])) for i in range(NUM_MOMENTS)])
    mean, sd = z.mean(0), z.std(0)
    return mean, sd, (((z - mean) / sd) ** 4).mean(0)


@functools.cache
def exact_band(target: str, size: int) -> float:
    """What :func:`_score` of as many exact draws keeps below in 99 %: no Gaussian's quantile where tails are heavy."""
    from neural_vb.diagnostics.polishing import NUM_CHAINS

    exact, moments = _exact(target, size), exact_moments(target, size)
    scores = [_score(exact(NUM_CHAINS, np.random.default_rng([12, i])), moments) for i in range(NUM_BAND)]
    return float(np.quantile(scores, 0.99))


def _exact(target: str, size: int) -> Callable[..., Array]:
    return next(member.exact for member in verdict_zoo.broken(size) if member.target == target)


def _score(z: Array, moments: tuple[Array, Array, Array]) -> float:
    """The largest error of means and log sds of z [n, D], in their standard errors."""
    mean, sd, fourth = moments
    errors = np.abs(z.mean(0) - mean) / sd, 2.0 * np.abs(np.log(z.std(0) / sd)) / np.sqrt(fourth - 1.0)
    return float(np.sqrt(len(z)) * np.max(errors))


def _draw(member: Member) -> Callable[[int, int], Array]:
    return lambda num, seed: member.sampler(num, np.random.default_rng([seed, 5]))


class Record:
    """Lines of JSON that are made once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._known = {self._key(row) for row in self.rows}

    @staticmethod
    def _key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("group", "name", "target", "size", "seed"))

    def make(self, group: str, member: Member, seed: int, run: Callable[[Member, int], dict[str, Any]]) -> None:
        """Run and append it, unless it is there."""
        row: dict[str, Any] = {"group": group, "name": member.name, "target": member.target, "size": member.size}
        row["seed"] = seed
        if self._key(row) in self._known:
            return
        row |= run(member, seed)
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def run_zoo(
    record: Record, *, seeds: int, exact_seeds: int, graded_seeds: int, refined_seeds: int, sizes: Sequence[int]
) -> None:
    """The broken, the exact, the graded ones and those with a critic; a seed of all before the next."""
    errors: dict[tuple[str, int], dict[str, float]] = {}

    def with_truth(member: Member, seed: int) -> dict[str, Any]:
        key = member.name, member.size
        if key not in errors:
            errors[key] = true_error(member)
        return {**whole_check(member, seed), "true": errors[key]}

    for seed in range(max(seeds, exact_seeds, graded_seeds)):
        for size in sizes:
            for member in verdict_zoo.broken(size):
                if seed < (exact_seeds if member.name.startswith("mode missing") else seeds):
                    record.make("broken", member, seed, with_truth)
                if seed < refined_seeds and not member.modal:
                    record.make("refined", member, seed, refine_check)
            for name in verdict_zoo.CRITICS if seed < seeds else []:
                plain = verdict_zoo.normal(size, verdict_zoo.RHO)
                record.make("critic", Member(name, "normal", size, plain, plain), seed, critic_check)
            for member in verdict_zoo.exact(size) if seed < exact_seeds else []:
                record.make("exact", member, seed, whole_check)
            for kind in ("mean", "log_sd", "correlation") if seed < graded_seeds else []:
                for effect in EFFECTS:
                    member = verdict_zoo.graded(size, kind, effect)
                    record.make("graded", member, seed, lambda m, s, e=effect: {**local_check(m, s), "effect": e})
        print(f"seed {seed}: {len(record.rows)} results", flush=True)


def conjugate_evidence(size: int, seed: int, *, num_draws: int = 65_536) -> dict[str, Any]:
    """A linear regression with a known log Z; the contrast is its posterior with wrong moments.

    Chains begin at draws of the contrast, in coordinates in which the posterior is standard. Of few coefficients every
    other contrast is too narrow.
    """
    from neural_vb.diagnostics.evidence import evidence
    from neural_vb.diagnostics.polishing import NUM_CHAINS
    from neural_vb.diagnostics.refinement import refine

    rng = np.random.default_rng([seed, 17])
    design = rng.standard_normal((size + 20, size))
    y = design @ rng.standard_normal(size) + rng.standard_normal(len(design))
    marginal = np.eye(len(y)) + design @ design.T  # y = X w + e, all standard normal
    truth = -0.5 * (y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(2.0 * np.pi * marginal)[1])
    precision = np.eye(size) + design.T @ design
    mean, factor = np.linalg.solve(precision, design.T @ y), np.linalg.cholesky(np.linalg.inv(precision))
    narrow = size < 10 and seed % 2 == 1
    wrong, shift = np.exp(rng.uniform(*(NARROW if narrow else CLOSE), size)), 0.05 * rng.standard_normal(size)

    def log_ratio(u: Array) -> Array:
        """log p - log r at w = mean + factor u."""
        w, noise = mean + u @ factor.T, (u - shift) / wrong
        log_p = -0.5 * ((y - w @ design.T) ** 2).sum(1) - 0.5 * (w**2).sum(1)
        log_r = -0.5 * (noise**2).sum(1) - np.log(wrong).sum() - np.log(np.diag(factor)).sum()
        return log_p - log_r - 0.5 * len(y) * np.log(2.0 * np.pi)

    u, begin, tuning = (shift + wrong * rng.standard_normal((n, size)) for n in (num_draws, NUM_CHAINS, NUM_CHAINS))
    ends = refine(chains("standard", size), begin, tuning, seed=seed).u
    found = evidence(log_ratio(u), log_ratio(ends))
    row = {"error": found.value - truth, "se": found.standard_error, "pareto_k": found.pareto_k}
    return row | {"by_weights": found.importance - truth, "narrow": narrow}


def run_evidence(record: Record, num_runs: int) -> None:
    """Regressions of all sizes in turn."""
    for index in range(num_runs):
        size, seed = REGRESSIONS[index % len(REGRESSIONS)], index // len(REGRESSIONS)
        record.make("evidence", _bare("regression", size), seed, lambda m, s: conjugate_evidence(m.size, s))


def _bare(name: str, size: int) -> Member:
    """What a row of the record is known by."""
    return Member(name, name, size, lambda n, g: np.empty(0), lambda n, g: np.empty(0))


def real_fit(name: str, seed: int) -> dict[str, Any]:
    """A fit of one of the benchmarks' problems: its verdict, its errors before and after refinement, and log Z."""
    import neural_vb as nvb
    from benchmarks.problems import PROBLEMS

    problem = PROBLEMS[name]
    target, data, keywords = problem.fit_arguments()
    posterior = nvb.fit(target, data, seed=seed, progress=False, **keywords)
    _ = posterior.elbo
    begin = _now()
    verdict = posterior.check(seed)
    checked, begin = _now() - begin, _now()
    refined = posterior.refine(seed=seed)
    seconds = _now() - begin
    found = posterior.log_evidence(seed)
    moments = problem.moments()
    row: dict[str, Any] = {part: finding.state for part, finding in verdict.findings().items()}
    row |= {"message": verdict.local_fit.message, "check_seconds": checked[0], "refine_seconds": seconds[0]}
    row |= {"check_processor": checked[1], "refine_processor": seconds[1]}
    for label, draws in (("raw", posterior.sample(20_000, seed=seed + 1)), ("refined", refined.draws)):
        z = problem.to_vector(draws)
        row[f"{label}_mean"] = float(np.abs((z.mean(0) - moments.mean) / moments.sd).max())
        row[f"{label}_sd"] = float(np.abs(np.log(z.std(0) / moments.sd)).max())
    row |= {"log_evidence": found.value, "se": found.standard_error, "pareto_k": found.pareto_k}
    row["true_log_evidence"] = problem.log_evidence() if problem.log_evidence else None
    row |= {"nested_r_hat": refined.nested_r_hat, "num_transitions": refined.num_transitions}
    row |= {"status": posterior.status.reason}
    return row


def _now() -> Array:
    """Seconds by the clock, and of processors."""
    return np.array([time.perf_counter(), time.process_time()])


def run_real(record: Record, names: Sequence[str], seed: int) -> None:
    """Real fits, one after the other."""
    from benchmarks.problems import PROBLEMS

    for name in names:
        record.make("real", _bare(name, PROBLEMS[name].size), seed, lambda member, s: real_fit(member.name, s))
        print(name, record.rows[-1].get("local_fit"), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not there yet, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/verdict"))
    parser.add_argument("--quick", action="store_true", help="two dimensions, one seed, twelve regressions")
    parser.add_argument("--problems", nargs="*", default=[], help="problems of the benchmarks to fit and to check")
    parser.add_argument("--sizes", nargs="*", type=int, default=verdict_zoo.SIZES, help="dimensions of the zoo")
    parser.add_argument("--skip-zoo", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the fits")
    parser.add_argument("--docs", type=Path, help="folder of verdict.md, to put the table and the figure into")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    zoo, evidence, real = (Record(options.out / f"{name}.jsonl") for name in ("zoo", "evidence", "real"))
    if not options.skip_zoo:
        seeds, exact, graded, refined = (1,) * 4 if options.quick else (8, 25, 10, 8)
        sizes = (2,) if options.quick else options.sizes
        run_zoo(zoo, seeds=seeds, exact_seeds=exact, graded_seeds=graded, refined_seeds=refined, sizes=sizes)
        run_evidence(evidence, 12 if options.quick else 200)
    run_real(real, options.problems, options.seed)
    text = verdict_report.report(zoo.rows, real.rows, evidence.rows)
    (options.out / "verdict.md").write_text(text)
    verdict_report.plot_power(zoo.rows, options.out / "verdict.png")
    if options.docs:
        verdict_report.publish(text, options.out, options.docs)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
