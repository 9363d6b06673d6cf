"""From result files to tables: the worst seed of every bar's metric, and time beside NUTS."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import bars, results
from benchmarks.methods import METHODS, NUTS, OURS
from benchmarks.problems import PROBLEMS
from benchmarks.references import FLOORS

Result = dict[str, Any]
EXTRA_METRICS = (
    "mean_error",
    "sd_error",
    "mean_error_exact",
    "sd_error_exact",
    "sw1",
    "second_moment_error",
    "correlation_error",
    "mode_error",
    "elbo_error",
)
STAND_INS = {"sw1": "sw1_reference"}  # where there is no exact sampler


def make_report(found: Sequence[Result]) -> dict[str, Any]:
    """Rows of the three tables.

    Args:
        found: results, as ``results.read_results`` gives them.

    Returns:
        ``bars``: per bar the worst value over seeds, the limit and whether it is met; ``times``: per problem medians
        over seeds and the ratio to the quicker NUTS; ``median_time_ratio`` over the problems that have bars;
        ``metrics``: worst over seeds of the main metrics for every method; ``failed``: runs that ended in an error.
    """
    good = [result for result in found if "error" not in result]
    times = [row for name in PROBLEMS if (row := _time_row(name, good))]
    ratios = [row["ratio"] for row in times if row["problem"] in bars.TIMED_PROBLEMS and row["ratio"] is not None]
    median_ratio = statistics.median(ratios) if ratios else None
    return {
        "bars": [_bar_row(bar, found) for bar in bars.BARS if _select(found, bar.problem, OURS)],
        "times": times,
        "median_time_ratio": median_ratio,
        "time_ratio_bar": bars.TIME_RATIO,
        "time_ratio_met": None if median_ratio is None else median_ratio <= bars.TIME_RATIO,
        "time_ratio_problems": len(ratios),
        "metrics": [row for name in PROBLEMS for method in METHODS if (row := _metric_row(name, method, good))],
        "failed": [
            {key: run[key] for key in ("problem", "method", "seed", "error")} for run in found if "error" in run
        ],
    }


def _select(found: Sequence[Result], problem: str, method: str) -> list[Result]:
    return [result for result in found if result["problem"] == problem and result["method"] == method]


def _worst(values: Sequence[float | None], pick: Callable[[Any], float]) -> float | None:
    """The worst value; None, which meets no bar, as soon as one is missing."""
    return None if not values or any(value is None for value in values) else pick(values)


def _bar_row(bar: bars.Bar, found: Sequence[Result]) -> dict[str, Any]:
    runs = _select(found, bar.problem, OURS)
    # A failed run has no metrics: it counts as a missed bar and is not passed over.
    worst = _worst([run.get("metrics", {}).get(bar.metric) for run in runs], min if bar.at_least else max)
    seeds = sorted(run["seed"] for run in runs)
    return {
        "problem": bar.problem,
        "metric": bar.metric,
        "worst": worst,
        "limit": bar.limit,
        "at_least": bar.at_least,
        "met": bar.met(worst),
        "seeds": seeds,
    }


def _time_row(problem: str, good: Sequence[Result]) -> dict[str, Any] | None:
    runs = {method: _select(good, problem, method) for method in METHODS}
    if not any(runs.values()):
        return None
    seconds = {method: _median(run["seconds"] for run in runs[method]) for method in METHODS}
    imports = {method: _median(run["import_seconds"] for run in runs[method]) for method in METHODS}
    ratios = []
    for run in runs[OURS]:
        same_seed = [peer["seconds"] for name in NUTS for peer in runs[name] if peer["seed"] == run["seed"]]
        # Peers may have been run for one seed only: then their medians stand in.
        others = same_seed or [value for name in NUTS if (value := seconds[name]) is not None]
        ratios += [run["seconds"] / min(others)] if others else []
    return {"problem": problem, "seconds": seconds, "import_seconds": imports, "ratio": _median(ratios)}


def _median(values: Any) -> float | None:
    values = list(values)
    return statistics.median(values) if values else None


def _metric_row(problem: str, method: str, good: Sequence[Result]) -> dict[str, Any] | None:
    runs = _select(good, problem, method)
    if not runs:
        return None
    worst = {name: _worst([_metric(run["metrics"], name) for run in runs], max) for name in EXTRA_METRICS}
    return {"problem": problem, "method": method, "num_seeds": len(runs), "floor": _floor(problem, runs), **worst}


def _metric(metrics: Mapping[str, float], name: str) -> float | None:
    return metrics.get(name, metrics.get(STAND_INS.get(name, name)))


def _floor(problem: str, runs: Sequence[Result]) -> float | None:
    return FLOORS[problem][0] if problem in FLOORS else runs[0]["metrics"].get("sw1_reference_floor")


def markdown(report: dict[str, Any]) -> str:
    """The tables as Markdown."""
    parts = []
    if report["bars"]:
        met = sum(row["met"] for row in report["bars"])
        parts += ["## Bars (worst over seeds)", _bar_table(report["bars"])]
        parts += [f"{met} of {len(report['bars'])} bars met."]
    parts += ["## Time (median over seeds, compilation included)", _time_table(report["times"])]
    if report["median_time_ratio"] is not None:
        parts.append(
            f"Median ratio over {report['time_ratio_problems']} of {len(bars.TIMED_PROBLEMS)} problems with bars: "
            f"{report['median_time_ratio']:.2f}, bar ≤ {report['time_ratio_bar']:.4g}: "
            f"{'met' if report['time_ratio_met'] else 'NOT met'}."
        )
    parts += ["## Errors (worst over seeds, in reference sds)", _metric_table(report["metrics"])]
    if report["failed"]:
        lines = [
            f"- {row['problem']}, {row['method']}, seed {row['seed']}: {row['error'].strip().splitlines()[-1]}"
            for row in report["failed"]
        ]
        parts += ["## Failed runs", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _bar_table(rows: Sequence[Result]) -> str:
    body = [
        [
            row["problem"],
            row["metric"],
            _number(row["worst"]),
            str(bars.Bar(row["problem"], row["metric"], row["limit"], row["at_least"])),
            "met" if row["met"] else "NOT met",
            " ".join(map(str, row["seeds"])),
        ]
        for row in rows
    ]
    return _table(["problem", "metric", OURS, "bar", "", "seeds"], body)


def _time_table(rows: Sequence[Result]) -> str:
    head = ["problem", *(f"{method} s" for method in METHODS), "ratio to the quicker NUTS", f"imports of {OURS} s"]
    body = [
        [
            row["problem"],
            *(_number(row["seconds"][method]) for method in METHODS),
            _number(row["ratio"]),
            _number(row["import_seconds"][OURS]),
        ]
        for row in rows
    ]
    return _table(head, body)


def _metric_table(rows: Sequence[Result]) -> str:
    body = [
        [row["problem"], row["method"], _number(row["floor"]), *(_number(row[name]) for name in EXTRA_METRICS)]
        for row in rows
    ]
    return _table(["problem", "method", "sw1 floor", *EXTRA_METRICS], body)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, body)])


def write_report(out: Path) -> str:
    """Write ``report.json`` and ``report.md`` beside the results, and return the tables.

    Raises:
        DataError: the folder holds no result.
    """
    found = results.read_results(out)
    if not found:
        from neural_vb.errors import DataError

        raise DataError(
            expected=f"results in {out}", got="none", fix="python -m benchmarks run, or name their folder with --out"
        )
    report = make_report(found)
    text = markdown(report)
    results.write_json(out / "report.json", report)
    (out / "report.md").write_text(text, encoding="utf-8")
    return text
