"""Who is best, the ratio of times, and what a report puts into the documentation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cli, report, report_plots, results, standings
from benchmarks.methods import NUTS, OURS
from benchmarks.problem import PANELS
from benchmarks.problems import PROBLEMS
from benchmarks.references import FLOORS

RIVAL = "numpyro_iaf"


def fake(problem: str, method: str, seconds: float = 1.0, seed: int = 0, **found: float | None) -> dict[str, Any]:
    return {
        "schema": results.SCHEMA, "problem": problem, "method": method, "seed": seed, "seconds": seconds,
        "import_seconds": 1.0, "metrics": found, "peak_memory_mb": 500.0, "details": {"first_sample_seconds": 0.1},
    }  # fmt: skip


def failed(problem: str, method: str) -> dict[str, Any]:
    return {"schema": results.SCHEMA, "problem": problem, "method": method, "seed": 0, "error": "Trace\nBoom"}


def row_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = standings.standings(standings.distances(found))
    return row


def test_ties_are_within_the_quantile_of_the_floor() -> None:
    _, quantile = FLOORS["banana"]
    inside, outside = 0.99 * quantile, 1.01 * quantile

    def verdict(ours: float, theirs: float) -> str:
        row = row_of([fake("banana", OURS, sw1=ours), fake("banana", RIVAL, sw1=theirs)])
        assert row["rival"] == RIVAL and row["problems"] == 1
        return next(name for name in ("closer", "tied", "farther") if row[name])

    assert verdict(inside, 0.5 * inside) == verdict(0.5 * inside, inside) == "tied"
    assert verdict(inside, outside) == verdict(outside, 2.0 * outside) == "closer"
    assert verdict(outside, inside) == "farther"


def test_shares_count_ties_and_failures() -> None:
    found = [
        *(fake(name, OURS, sw1=0.015) for name in ("banana", "ring", "X")),
        failed("two_modes", OURS),
        fake("four_modes", OURS, sw1=0.5),
        fake("banana", RIVAL, sw1=0.014),  # tied
        failed("ring", RIVAL),  # closer
        fake("X", RIVAL, sw1=None),  # what JSON has for NaN: closer
        fake("two_modes", RIVAL, sw1=3.0),  # farther, for we failed
        fake("four_modes", RIVAL, sw1=0.1),  # farther
        fake("gumbel_5", RIVAL, sw1=0.1),  # ours was not run
    ]
    row = row_of(found)
    assert [row[key] for key in ("problems", "closer", "tied", "farther", "failed")] == [5, 2, 1, 2, 2]
    assert row["share"] == pytest.approx(3 / 5)


def test_a_distance_is_the_mean_over_seeds_and_none_as_soon_as_one_failed() -> None:
    both = [fake("banana", OURS, seed=0, sw1=0.1), fake("banana", OURS, seed=1, sw1=0.3)]
    assert standings.distance(both) == pytest.approx(0.2)
    assert standings.distance([*both, failed("banana", OURS)]) is None


def test_a_floor_of_reference_draws_stands_in_for_one_of_exact_draws() -> None:
    run = fake("sblrc-blr", OURS, sw1_reference=0.03, sw1_reference_floor=0.02, sw1_reference_floor_99=0.04)
    (row,) = standings.distances([run])
    assert row["sw1"][OURS] == 0.03 and row["floor"] == (0.02, 0.04)


def test_the_ratio_over_posteriordb_is_a_geometric_mean_to_the_quicker_nuts() -> None:
    found = [
        fake("sblrc-blr", OURS, 8.0), fake("sblrc-blr", NUTS[0], 2.0), fake("sblrc-blr", NUTS[1], 4.0),
        fake("arK-arK", OURS, 2.0), fake("arK-arK", NUTS[1], 2.0), fake("arK-arK", "nutpie_nuts", 0.1),
        fake("banana", OURS, 100.0), fake("banana", NUTS[0], 1.0),  # not of posteriordb
    ]  # fmt: skip
    ratio, number = standings.database_ratio(standings.times(found))
    assert ratio == pytest.approx(math.sqrt(4.0 * 1.0)) and number == 2
    assert standings.database_ratio(standings.times(found[-2:])) == (None, 0)
    assert "2 posteriors of posteriordb: 2.00" in report.markdown(report.make_report(found))


def test_every_problem_has_a_panel() -> None:
    assert {problem.panel for problem in PROBLEMS.values()} == set(PANELS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    runs = [
        fake(problem, method, seconds, sw1=0.02, mode_error=0.1 if problem == "X" else None)
        for problem in ("banana", "X", "correlated_gaussian_100")
        for method, seconds in ((OURS, 5.0), (RIVAL, 3.0), (NUTS[0], 9.0))
    ]
    for run in runs:
        results.write_json(results.result_path(tmp_path / "results", run["problem"], run["method"], 0), run)
    return tmp_path / "results"


def test_points_are_seconds_and_multiples_of_the_floor() -> None:
    made = report.make_report([fake("banana", OURS, 5.0, sw1=0.0266), fake("banana", RIVAL, 3.0, sw1=None)])
    found = report_plots.points(made["distances"], made["times"])
    assert found == {"toy zoo": {OURS: [(5.0, pytest.approx(2.0))]}}


def test_a_report_fills_the_page_between_its_markers_and_keeps_the_prose(out: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "benchmarks.md").write_text(f"# Title\n\nProse.\n\n{report.BEGIN}\nold\n{report.END}\n\nMore.\n")
    for _ in range(2):  # the second time changes nothing
        assert cli.main(["report", "--out", str(out), "--docs", str(docs)]) == 0
        page = (docs / "benchmarks.md").read_text()
        assert page.startswith("# Title\n\nProse.\n\n") and page.endswith("\n\nMore.\n") and "old" not in page
        assert page.count("### Who is best") == page.count(report.BEGIN) == page.count(report.END) == 1
        assert "## Time" in page and "images/benchmarks.png" in page
    assert (docs / "images" / "benchmarks.png").stat().st_size > 10_000
    assert "nutpie_nuts" not in page  # was not run
    assert RIVAL in page and f"| X | {RIVAL}" not in " ".join(page.split())  # errors of ours alone


def test_a_page_without_markers_is_one_line(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "benchmarks.md").write_text("# Title\n")
    assert cli.main(["report", "--out", str(out), "--docs", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"Expected {tmp_path / 'benchmarks.md'} with the lines {report.BEGIN}")


def test_the_documentation_has_its_markers() -> None:
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    assert page.count(report.BEGIN) == page.count(report.END) == 1
