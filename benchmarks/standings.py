"""Who is best: distances of all methods on all problems, ties within the noise floor, and time beside NUTS."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.methods import METHODS, NUTS, OURS, RIVALS
from benchmarks.problems import PROBLEMS
from benchmarks.references import FLOORS, POSTERIORDB_VARIABLE

Result = dict[str, Any]
STAND_INS = {"sw1": "sw1_reference"}  # where there is no exact sampler


class Floor(NamedTuple):
    """Sliced Wasserstein distance of two exact samples of the sizes compared: mean and 99 % quantile over pairs."""

    mean: float
    quantile: float | None


def select(found: Iterable[Result], problem: str, method: str) -> list[Result]:
    """Results of one problem and method, failed runs included."""
    return [result for result in found if result["problem"] == problem and result["method"] == method]


def metric(result: Result, name: str) -> float | None:
    """A metric of a run, from reference draws where there is no exact sampler; None for a failed run."""
    metrics: Mapping[str, float] = result.get("metrics", {})
    return metrics.get(name, metrics.get(STAND_INS.get(name, name)))


def floor(problem: str, runs: Sequence[Result]) -> Floor | None:
    """The stored floor, or the one that runs took from the reference draws."""
    if problem in FLOORS:
        return Floor(*FLOORS[problem])
    for run in runs:
        metrics = run.get("metrics", {})
        if metrics.get("sw1_reference_floor") is not None:
            return Floor(metrics["sw1_reference_floor"], metrics.get("sw1_reference_floor_99"))
    return None


def distance(runs: Sequence[Result]) -> float | None:
    """Mean over seeds of ``sw1``; None when there is no run, or when one failed or drew what is not finite."""
    values = [metric(run, "sw1") for run in runs]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if values and len(known) == len(values) else None


def distances(found: Sequence[Result]) -> list[dict[str, Any]]:
    """A row per problem: its floor and the distance of every method that was run on it; None where a run failed."""
    rows = []
    for problem in PROBLEMS:
        runs = {method: select(found, problem, method) for method in METHODS}
        known = {method: distance(of) for method, of in runs.items() if of}
        if any(value is not None for value in known.values()):
            everything = [run for of in runs.values() for run in of]
            rows.append({"problem": problem, "floor": floor(problem, everything), "sw1": known})
    return rows


def standings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each variational rival: on how many problems we are closer, tied, or farther.

    A tie: both distances are within the 99 % quantile of the floor, where one comparison of exact samples would be. A
    rival that failed, or drew what is not finite, is farther; so are we when we did.
    """
    table = []
    for rival in RIVALS:
        counts = dict.fromkeys(("closer", "tied", "farther", "failed"), 0)
        for row in rows:
            if rival in row["sw1"] and OURS in row["sw1"]:
                counts[_verdict(row["sw1"][OURS], row["sw1"][rival], row["floor"])] += 1
                counts["failed"] += row["sw1"][rival] is None
        number = counts["closer"] + counts["tied"] + counts["farther"]
        if number:
            share = (counts["closer"] + counts["tied"]) / number
            table.append({"rival": rival, "problems": number, "share": share} | counts)
    return table


def _verdict(ours: float | None, theirs: float | None, floor: Floor | None) -> str:
    if ours is None:
        return "farther"
    if theirs is None:
        return "closer"
    if floor is not None and floor.quantile is not None and max(ours, theirs) <= floor.quantile:
        return "tied"
    return "closer" if ours <= theirs else "farther"


def times(good: Sequence[Result]) -> list[dict[str, Any]]:
    """A row per problem: median seconds and imports of every method, and our ratio to the quicker NUTS."""
    rows = []
    for problem in PROBLEMS:
        runs = {method: select(good, problem, method) for method in METHODS}
        if any(runs.values()):
            seconds = {method: _median(run["seconds"] for run in runs[method]) for method in METHODS}
            imports = {method: _median(run["import_seconds"] for run in runs[method]) for method in METHODS}
            ratio = _median(_ratios(runs, seconds))
            rows.append({"problem": problem, "seconds": seconds, "import_seconds": imports, "ratio": ratio})
    return rows


def _ratios(runs: Mapping[str, Sequence[Result]], seconds: Mapping[str, float | None]) -> list[float]:
    ratios = []
    for run in runs[OURS]:
        same_seed = [peer["seconds"] for name in NUTS for peer in runs[name] if peer["seed"] == run["seed"]]
        # Peers may have been run for one seed only: then their medians stand in.
        others = same_seed or [value for name in NUTS if (value := seconds[name]) is not None]
        ratios += [run["seconds"] / min(others)] if others else []
    return ratios


def database_ratio(rows: Sequence[Mapping[str, Any]]) -> tuple[float | None, int]:
    """Geometric mean of the ratio to the quicker NUTS over posteriordb, and the number of posteriors in it."""
    ratios = [
        row["ratio"]
        for row in rows
        if PROBLEMS[row["problem"]].needs == POSTERIORDB_VARIABLE and row["ratio"] is not None
    ]
    return (math.exp(statistics.fmean(map(math.log, ratios))), len(ratios)) if ratios else (None, 0)


def resources(good: Sequence[Result]) -> list[dict[str, Any]]:
    """A row per method: medians over its runs of imports, first draws, rate of draws, and peak memory."""
    rows = []
    for method in METHODS:
        runs = [run for run in good if run["method"] == method]
        if runs:
            rows.append(
                {
                    "method": method,
                    "runs": len(runs),
                    "import_seconds": _median(run["import_seconds"] for run in runs),
                    "first_sample_seconds": _median(_detail(runs, "first_sample_seconds")),
                    "draws_per_second": _median(_detail(runs, "draws_per_second")),
                    "fit_peak_memory_mb": _median(_detail(runs, "fit_peak_memory_mb")),
                    "peak_memory_mb": _median(run["peak_memory_mb"] for run in runs if run.get("peak_memory_mb")),
                }
            )
    return rows


def _detail(runs: Sequence[Result], name: str) -> list[float]:
    return [run["details"][name] for run in runs if run.get("details", {}).get(name) is not None]


def _median(values: Any) -> float | None:
    values = list(values)
    return statistics.median(values) if values else None
