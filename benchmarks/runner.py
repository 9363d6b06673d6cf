"""Runs of all (problem, method, seed), each in a fresh process so that nothing is warm."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import database, problems_regression, references, regression_data, results
from benchmarks.methods import METHODS, OURS
from benchmarks.problems import PROBLEMS, DatabaseProblem

TIMEOUT_SECONDS = 3_600.0


def check_peers(methods: Sequence[str]) -> None:
    """Raise MissingDependencyError when a peer is asked for and a package it needs is not installed."""
    for package in dict.fromkeys(package for method in methods for package in METHODS[method].packages):
        if importlib.util.find_spec(package) is None:
            from neural_vb.errors import MissingDependencyError

            asking = [method for method in methods if package in METHODS[method].packages]
            raise MissingDependencyError(
                expected=f"{package} for " + ", ".join(asking),
                got=f"no package {package}",
                fix=f"pip install 'neural_vb[bench]', or leave the peers out with --methods {OURS}",
            )


def check_files(problems: Sequence[str], posteriordb: Path | None) -> None:
    """A wrong path, or a reference that was never made, is better found now than after an hour."""
    if posteriordb is not None and "eight_schools" in problems:
        references.eight_schools_draws(posteriordb)
    wanted = [name for name in problems if isinstance(PROBLEMS[name], DatabaseProblem)]
    if wanted:
        database.load(wanted[0], references.require_posteriordb(posteriordb))
    for name in problems:
        if PROBLEMS[name].needs == regression_data.DATA_VARIABLE:
            problems_regression.DATA[name]()
        if PROBLEMS[name].panel == "regressions":
            PROBLEMS[name].moments()


def run_all(
    problems: Sequence[str], methods: Sequence[str], seeds: Sequence[int], *, out: Path, posteriordb: Path | None = None
) -> int:
    """Make every result that is not there yet, with a line of progress for each.

    Args:
        problems: keys of the registry.
        methods: keys of ``METHODS``.
        seeds: one run each.
        out: folder of the results.
        posteriordb: folder of posteriordb, or None.

    Returns:
        The number of failed runs.

    Raises:
        MissingDependencyError: a peer is asked for and its library is not installed.
        DataError: posteriordb is not where it should be, or not named and wanted.
    """
    check_peers(methods)
    check_files(problems, posteriordb)
    todo = [
        (problem, method, seed)
        for seed in seeds
        for problem in problems
        for method in methods
        if PROBLEMS[problem].size >= METHODS[method].smallest
    ]
    failed = 0
    for number, (problem, method, seed) in enumerate(todo, start=1):
        path = results.result_path(out, problem, method, seed)
        head = f"[{number}/{len(todo)}] {problem}, {method}, seed {seed}:"
        if results.is_finished(path):
            print(f"{head} there already", flush=True)
            continue
        result = run_one(problem, method, seed, path=path, posteriordb=posteriordb)
        failed += "error" in result
        print(f"{head} {progress_line(result)}", flush=True)
    return failed


def run_one(problem: str, method: str, seed: int, *, path: Path, posteriordb: Path | None = None) -> dict[str, Any]:
    """One run in a process of its own; a failure is stored as a result with an ``error``."""
    command = [sys.executable, "-m", "benchmarks.worker", problem, method, str(seed), str(path)]
    command += ["--posteriordb", str(posteriordb)] if posteriordb else []
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    path.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT_SECONDS)
        error = done.stderr.strip() or f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        error = f"no result after {TIMEOUT_SECONDS:.0f} s"
    result = results.read_result(path)
    if result is None:
        result = {"schema": results.SCHEMA, "problem": problem, "method": method, "seed": seed, "error": error}
        results.write_json(path, result)
    return result


def progress_line(result: dict[str, Any]) -> str:
    """Time and the main metrics of a result in one line."""
    if "error" in result:
        return "FAILED: " + result["error"].strip().splitlines()[-1]
    shown = [f"{result['seconds']:.1f} s (imports {result['import_seconds']:.1f} s)"]
    for name in ("mean_error", "sd_error", "sw1", "mode_error", "elbo_error"):
        value = result["metrics"].get(name)
        shown += [f"{name} {value:.3f}"] if value is not None else []
    return ", ".join(shown)
