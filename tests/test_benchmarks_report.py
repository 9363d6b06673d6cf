"""The benchmark's evaluation, report, resumption and messages."""

from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest

from benchmarks import bars, cli, references, report, results, runner, worker
from benchmarks.evaluate import evaluate, mode_shares
from benchmarks.methods import OURS, PEERS
from benchmarks.own import first_number
from benchmarks.problems import PROBLEMS, DatabaseProblem

NAMES = [name for name, problem in PROBLEMS.items() if problem.needs is None]
BARRED = sorted({bar.problem for bar in bars.BARS})
NUM_DRAWS = 20_000


def draws_of(name: str, n: int = NUM_DRAWS, seed: int = 3) -> np.ndarray:
    sampler = PROBLEMS[name].exact
    assert sampler is not None
    return sampler(n, np.random.default_rng(seed))


@pytest.mark.parametrize("name", BARRED)
def test_exact_draws_hold_every_bar_on_accuracy(name: str):
    problem = PROBLEMS[name]
    z = draws_of(name)
    evidence = problem.log_evidence
    found = evaluate(problem, [z], elbo=evidence() if evidence else None, reference_draws=z)
    assert found["sw1_reference"] == 0.0
    for bar in bars.BARS:
        if bar.problem == name and bar.metric != "draws_per_second":
            assert bar.met(found[bar.metric]), (bar, found)
            assert not bar.met(math.nan) and not bar.met(None)


def test_evaluation_is_the_mean_over_draw_sets():
    problem = PROBLEMS["two_modes"]
    left, right = np.full((4, 2), [-2.0, 0.0]), np.full((4, 2), [2.0, 0.0])
    left[:, 1] = right[:, 1] = [-1, 0, 1, 2]
    found = evaluate(problem, [left, np.concatenate([left, right])])
    assert found["mode_error"] == pytest.approx((0.5 + 0.0) / 2)
    assert found["mode_error_worst_set"] == pytest.approx(0.5)
    assert mode_shares(problem, [left, np.concatenate([left, right])]) == pytest.approx([8 / 12, 4 / 12])
    assert "elbo_error" not in found
    assert evaluate(problem, [left], elbo=-0.25)["elbo_error"] == 0.25


def test_bars_name_known_problems_and_metrics():
    for bar in bars.BARS:
        problem = PROBLEMS[bar.problem]
        known = evaluate(problem, [draws_of(bar.problem, 500)], elbo=0.0)
        assert bar.metric in {*known, "draws_per_second"}, bar
    assert len(bars.TIMED_PROBLEMS) == 9 and "funnel_10" not in bars.TIMED_PROBLEMS


def test_first_number_reads_an_elbo_with_or_without_its_error():
    assert first_number(1.5) == first_number((1.5, 0.1)) == first_number(np.float32(1.5)) == 1.5


class ExactPosterior:
    """What ``neural_vb.fit`` returns, as far as a run uses it: exact draws in the shape of the target's event."""

    elbo = (-31.0, 0.1)
    status = ("plateau", "", "")

    def __init__(self, name: str) -> None:
        self.name = name

    def sample(self, num_draws: int, *, seed: int):
        z = draws_of(self.name, num_draws, seed)
        if self.name == "banana":
            return z
        return {"theta_trans": z[:, :8], "mu": z[:, 8], "tau": np.exp(z[:, 9])}


@pytest.mark.parametrize("name", ["banana", "eight_schools"])
def test_our_run_fits_draws_and_evaluates(name: str, monkeypatch):
    called = {}

    def fit(target, data=None, **keywords):
        called.update(keywords, data=data)
        return ExactPosterior(name)

    monkeypatch.setitem(sys.modules, "neural_vb", types.SimpleNamespace(fit=fit))
    monkeypatch.setattr(bars, "SAMPLING_SIZES", (100, 200))
    monkeypatch.setattr(bars, "NUM_DRAW_SETS", 2)
    result = worker.measure(name, OURS, 7)
    assert called["seed"] == 7 and called["progress"] is False
    assert (called["data"] is None) == (name == "banana")
    assert (result["draws_per_set"], result["draw_sets"], result["elbo"]) == (NUM_DRAWS, 2, -31.0)
    assert result["metrics"]["sw1"] < 2.0 * references.FLOORS[name][0]
    assert result["metrics"]["draws_per_second"] == result["details"]["sampling"][-1]["draws_per_second"] > 0
    assert [rate["num_draws"] for rate in result["details"]["sampling"]] == [100, 200]
    assert results.plain(result) == json.loads(json.dumps(results.plain(result)))


def fake(problem: str, method: str, seed: int, seconds: float, **found: float) -> dict:
    return {
        "schema": results.SCHEMA, "problem": problem, "method": method, "seed": seed, "seconds": seconds,
        "import_seconds": 1.0, "metrics": found,
    }  # fmt: skip


def test_report_takes_the_worst_seed_and_the_quicker_peer():
    found = [
        fake("banana", OURS, 0, 20.0, sw1=0.010),
        fake("banana", OURS, 1, 30.0, sw1=0.500),
        fake("banana", PEERS[0], 0, 10.0, sw1=0.05),
        fake("banana", PEERS[1], 0, 40.0, sw1=0.05),
        fake("avb_eight_schools", OURS, 0, 10.0, mode_error=0.01),
        fake("avb_eight_schools", PEERS[1], 0, 10.0),
        fake("funnel_10", OURS, 0, 1_000.0),
        fake("funnel_10", PEERS[0], 0, 1.0),
    ]
    made = report.make_report(found)
    rows = {(row["problem"], row["metric"]): row for row in made["bars"]}
    assert (rows["banana", "sw1"]["worst"], rows["banana", "sw1"]["met"]) == (0.5, False)
    assert rows["avb_eight_schools", "mode_error"]["met"]
    assert not rows["avb_eight_schools", "elbo_error"]["met"]  # missing is not met
    times = {row["problem"]: row["ratio"] for row in made["times"]}
    assert times["banana"] == pytest.approx((20 / 10 + 30 / 10) / 2)
    assert made["median_time_ratio"] == pytest.approx((2.5 + 1.0) / 2)  # the funnel has no bar
    text = report.markdown(made)
    assert "NOT met" in text and "Median ratio over 2 of 9" in text


def test_report_counts_a_failed_run_as_a_missed_bar(tmp_path):
    failed = {"schema": results.SCHEMA, "problem": "ring", "method": OURS, "seed": 1, "error": "Trace\nBoom: it"}
    for result in (fake("ring", OURS, 0, 1.0, sw1=0.0), failed):
        results.write_json(results.result_path(tmp_path, "ring", OURS, result["seed"]), result)
    text = report.write_report(tmp_path)
    assert "Boom: it" in text and "0 of 1 bars met" in text
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == text
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["bars"][0]["met"] is False


def test_finished_results_are_not_made_again(tmp_path, monkeypatch, capsys):
    made = []

    def run_one(problem, method, seed, *, path, posteriordb):
        made.append((problem, seed))
        result = fake(problem, method, seed, 2.0, sw1=0.02)
        result |= {"error": "boom"} if seed == 1 else {}
        results.write_json(path, result)
        return result

    monkeypatch.setattr(runner, "run_one", run_one)
    arguments = ["run", "--problems", "ring", "banana", "--methods", OURS, "--seeds", "0", "1", "--out", str(tmp_path)]
    assert cli.main(arguments) == 1
    assert made == [("ring", 0), ("banana", 0), ("ring", 1), ("banana", 1)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/4] ring, neural_vb, seed 0: 2.0 s (imports 1.0 s), sw1 0.020"
    assert lines[2] == "[3/4] ring, neural_vb, seed 1: FAILED: boom"
    made.clear()
    cli.main(arguments)
    assert made == [("ring", 1), ("banana", 1)]  # what failed is tried again


def test_json_has_no_nan(tmp_path):
    results.write_json(tmp_path / "a.json", {"a": [1.0, math.nan], "b": math.inf, "c": "x"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.0, None], "b": None, "c": "x"}
    assert results.read_result(tmp_path / "a.json") is None  # of no schema
    assert results.read_result(tmp_path / "missing.json") is None


# What is missing is said in one line.


def test_missing_numpyro_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["run", "--problems", "ring", "--methods", PEERS[0], "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "Expected numpyro for numpyro_nuts_sequential; got no package numpyro. "
        "Fix: pip install 'neural_vb[bench]', or leave the peers out with --methods neural_vb\n"
    )
    runner.check_peers([OURS])


def test_a_posterior_of_posteriordb_needs_its_path(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("POSTERIORDB", raising=False)
    assert cli.main(["run", "--problems", "sblrc-blr", "--methods", OURS, "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "neither --posteriordb nor the environment's POSTERIORDB" in message


def test_posteriordb_is_run_when_it_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runner, "run_all", lambda problems, *rest, **options: asked.append(list(problems)) or 0)
    for more in ([], ["--problems", "ring", "posteriordb"]):
        assert cli.main(["run", "--out", str(tmp_path), "--posteriordb", str(tmp_path), *more]) == 0
    assert asked[0] == NAMES
    database = [name for name, problem in PROBLEMS.items() if isinstance(problem, DatabaseProblem)]
    assert asked[1] == ["ring", *database] and len(asked[1]) == 35


def test_a_distance_to_reference_draws_stands_in_for_one_to_exact_draws():
    run = fake("sblrc-blr", OURS, 0, 1.0, sw1_reference=0.03, sw1_reference_floor=0.02, second_moment_error=0.001)
    (row,) = report.make_report([run])["metrics"]
    assert (row["sw1"], row["floor"], row["second_moment_error"], row["mode_error"]) == (0.03, 0.02, 0.001, None)


def test_missing_posteriordb_is_one_line(tmp_path, capsys):
    arguments = ["run", "--problems", "eight_schools", "--methods", OURS, "--out", str(tmp_path)]
    assert cli.main([*arguments, "--posteriordb", str(tmp_path / "no")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("Expected a checkout of posteriordb with eight schools' reference draws; got no file")
    assert "git clone https://github.com/stan-dev/posteriordb" in message


def test_empty_results_are_one_line(tmp_path, capsys):
    assert cli.main(["report", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"Expected results in {tmp_path}; got none. Fix: python -m benchmarks run, or name their folder with --out\n"
    )
