"""From result files to tables: bars, who is best, time beside NUTS, distances and errors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import bars, report_plots, results, standings
from benchmarks.methods import METHODS, OURS
from benchmarks.problems import PROBLEMS
from benchmarks.standings import Result, select
from benchmarks.tables import number, table

EXTRA_METRICS = (
    "mean_error",
    "rms_mean_error",
    "sd_error",
    "mean_error_exact",
    "sd_error_exact",
    "sw1",
    "w1",
    "w1_floor",
    "mmd",
    "mmd_floor",
    "second_moment_error",
    "correlation_error",
    "mode_error",
    "mode_tv",
    "mode_tv_floor",
    "elbo_error",
)
BEGIN, END = "<!-- python -m benchmarks report: begin -->", "<!-- python -m benchmarks report: end -->"


def make_report(found: Sequence[Result]) -> dict[str, Any]:
    """Rows of the tables.

    Args:
        found: results, as ``results.read_results`` gives them.

    Returns:
        ``bars``: per bar the worst value over seeds, the limit and whether it is met; ``standings``: ours against each
        variational rival; ``times``: per problem medians over seeds and the ratio to the quicker NUTS;
        ``median_time_ratio`` over the problems that have bars; ``database_time_ratio``, the geometric mean over
        posteriordb; ``distances``: per problem the mean over seeds of the sliced Wasserstein distance of every method;
        ``metrics``: worst over seeds of the main metrics for every method; ``resources``: medians per method;
        ``failed``: runs that ended in an error.
    """
    good = [result for result in found if "error" not in result]
    times, distances = standings.times(good), standings.distances(found)
    ratios = [row["ratio"] for row in times if row["problem"] in bars.TIMED_PROBLEMS and row["ratio"] is not None]
    median_ratio = statistics.median(ratios) if ratios else None
    database_ratio, database_posteriors = standings.database_ratio(times)
    return {
        "bars": [_bar_row(bar, found) for bar in bars.BARS if select(found, bar.problem, OURS)],
        "standings": standings.standings(distances),
        "times": times,
        "median_time_ratio": median_ratio,
        "time_ratio_bar": bars.TIME_RATIO,
        "time_ratio_met": None if median_ratio is None else median_ratio <= bars.TIME_RATIO,
        "time_ratio_problems": len(ratios),
        "database_time_ratio": database_ratio,
        "database_posteriors": database_posteriors,
        "distances": distances,
        "metrics": [row for name in PROBLEMS for method in METHODS if (row := _metric_row(name, method, good))],
        "resources": standings.resources(good),
        "failed": [
            {key: run[key] for key in ("problem", "method", "seed", "error")} for run in found if "error" in run
        ],
    }


def _worst(values: Sequence[float | None], pick: Callable[[Any], float]) -> float | None:
    """The worst value; None, which meets no bar, as soon as one is missing."""
    return None if not values or any(value is None for value in values) else pick(values)


def _bar_row(bar: bars.Bar, found: Sequence[Result]) -> dict[str, Any]:
    runs = select(found, bar.problem, OURS)
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


def _metric_row(problem: str, method: str, good: Sequence[Result]) -> dict[str, Any] | None:
    runs = select(good, problem, method)
    if not runs:
        return None
    worst = {name: _worst([standings.metric(run, name) for run in runs], max) for name in EXTRA_METRICS}
    floor = standings.floor(problem, runs)
    return {
        "problem": problem,
        "method": method,
        "num_seeds": len(runs),
        "floor": None if floor is None else floor.mean,
        **worst,
    }


def markdown(report: dict[str, Any], *, everyone: bool = True) -> str:
    """The tables as Markdown; the errors of all methods, or of ours alone."""
    parts = []
    if report["bars"]:
        met = sum(row["met"] for row in report["bars"])
        parts += ["## Bars (worst over seeds)", _bar_table(report["bars"])]
        parts += [f"{met} of {len(report['bars'])} bars met."]
    if report["standings"]:
        parts += ["## Who is best", _STANDINGS, _standings_table(report["standings"])]
    if report["distances"]:
        parts += ["## Sliced Wasserstein distance (mean over seeds)", _distance_table(report["distances"])]
    parts += ["## Time (median over seeds, compilation included)", _time_table(report["times"])]
    parts += _ratios(report)
    parts += ["## Imports, draws and memory (medians over runs)", _resource_table(report["resources"])]
    shown = [row for row in report["metrics"] if everyone or row["method"] == OURS]
    parts += ["## Errors (worst over seeds, in reference sds)", _metric_table(shown)]
    if report["failed"]:
        lines = [
            f"- {row['problem']}, {row['method']}, seed {row['seed']}: {row['error'].strip().splitlines()[-1]}"
            for row in report["failed"]
        ]
        parts += ["## Failed runs", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


_STANDINGS = (
    f"Problems on which the sliced Wasserstein distance of {OURS} is the smaller one, on which both are within the "
    "99 % quantile of the floor (tied), and on which it is the larger one. A rival that failed counts as farther."
)


def _ratios(report: dict[str, Any]) -> list[str]:
    lines = []
    if report["median_time_ratio"] is not None:
        lines.append(
            f"Median ratio over {report['time_ratio_problems']} of {len(bars.TIMED_PROBLEMS)} problems with bars: "
            f"{report['median_time_ratio']:.2f}, bar ≤ {report['time_ratio_bar']:.4g}: "
            f"{'met' if report['time_ratio_met'] else 'NOT met'}."
        )
    if report["database_time_ratio"] is not None:
        lines.append(
            f"Geometric mean of the ratio over {report['database_posteriors']} posteriors of posteriordb: "
            f"{report['database_time_ratio']:.2f}."
        )
    return lines


def _bar_table(rows: Sequence[Result]) -> str:
    body = [
        [
            row["problem"],
            row["metric"],
            number(row["worst"]),
            str(bars.Bar(row["problem"], row["metric"], row["limit"], row["at_least"])),
            "met" if row["met"] else "NOT met",
            " ".join(map(str, row["seeds"])),
        ]
        for row in rows
    ]
    return table(["problem", "metric", OURS, "bar", "", "seeds"], body)


def _standings_table(rows: Sequence[Result]) -> str:
    head = ["against", "problems", "closer", "tied", "farther", "closer or tied", "rival failed"]
    counts = ("problems", "closer", "tied", "farther")
    body = [
        [row["rival"], *(str(row[name]) for name in counts), f"{row['share']:.0%}", str(row["failed"])] for row in rows
    ]
    return table(head, body)


def _distance_table(rows: Sequence[Result]) -> str:
    methods = [method for method in METHODS if any(method in row["sw1"] for row in rows)]

    def cell(row: Result, method: str) -> str:
        return "" if method not in row["sw1"] else number(row["sw1"][method])

    body = [
        [row["problem"], number(row["floor"].mean if row["floor"] else None), *(cell(row, name) for name in methods)]
        for row in rows
    ]
    return table(["problem", "floor", *methods], body)


def _time_table(rows: Sequence[Result]) -> str:
    methods = [method for method in METHODS if any(row["seconds"][method] is not None for row in rows)]
    head = ["problem", *(f"{method} s" for method in methods), "ratio to the quicker NUTS"]
    body = [
        [row["problem"], *(number(row["seconds"][method]) for method in methods), number(row["ratio"])] for row in rows
    ]
    return table(head, body)


def _resource_table(rows: Sequence[Result]) -> str:
    names = ("import_seconds", "first_sample_seconds", "draws_per_second", "fit_peak_memory_mb", "peak_memory_mb")
    head = [
        "method",
        "runs",
        "imports s",
        "first draws s",
        "draws per second",
        "peak memory of the fit MB",
        "with draws",
    ]
    return table(head, [[row["method"], str(row["runs"]), *(number(row[name]) for name in names)] for row in rows])


def _metric_table(rows: Sequence[Result]) -> str:
    names = [name for name in EXTRA_METRICS if any(row[name] is not None for row in rows)]
    body = [
        [row["problem"], row["method"], number(row["floor"]), *(number(row[name]) for name in names)] for row in rows
    ]
    return table(["problem", "method", "sw1 floor", *names], body)


def write_report(out: Path, docs: Path | None = None) -> str:
    """Write ``report.json`` and ``report.md`` beside the results, and return the tables.

    Args:
        out: folder of results.
        docs: folder of the documentation; its page gets the tables between its markers and the figure, if one is named.

    Raises:
        DataError: the folder holds no result, or the page has no markers.
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
    if docs is not None:
        publish(report, docs)
    return text


def publish(report: dict[str, Any], docs: Path) -> None:
    """Put the figure into ``images/``, and what is between the markers of ``benchmarks.md`` anew; prose is kept.

    Raises:
        DataError: the page is not there, or has not both markers.
    """
    page = docs / "benchmarks.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        from neural_vb.errors import DataError

        raise DataError(
            expected=f"{page} with the lines {BEGIN} and {END}",
            got="no such page" if not text else f"{text.count(BEGIN)} and {text.count(END)} of them",
            fix="put them where the tables belong, or leave --docs out",
        )
    before, rest = text.split(BEGIN)
    tables = markdown(report, everyone=False).replace("## ", "### ")
    found = report_plots.points(report["distances"], report["times"])
    if found:
        report_plots.draw(found, docs / "images" / report_plots.FILE)
        tables = f"![Error against wall time](images/{report_plots.FILE})\n\n{tables}"
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{rest.split(END)[1]}", encoding="utf-8")
