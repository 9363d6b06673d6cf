"""One run in a fresh process: ``python -m benchmarks.worker PROBLEM METHOD SEED FILE [--posteriordb PATH]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import references, results
from benchmarks.evaluate import evaluate, mode_shares
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.runs import peak_memory


def measure(problem_name: str, method: str, seed: int, posteriordb: Path | None = None) -> dict[str, Any]:
    """Run, evaluate and describe.

    Raises:
        DataError: posteriordb's draws are not where they should be.
    """
    problem = PROBLEMS[problem_name]
    if posteriordb:
        os.environ[references.POSTERIORDB_VARIABLE] = str(posteriordb)
    folder = os.environ.get(problem.draws_from)
    reference_draws = problem.reference_draws(Path(folder)) if folder and problem.reference_draws else None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    run = METHODS[method].run(problem, seed)
    peak = peak_memory()  # before the evaluation, which has its own
    found = evaluate(problem, run.draw_sets, elbo=run.elbo, reference_draws=reference_draws)
    return {
        "schema": results.SCHEMA,
        "problem": problem_name,
        "method": method,
        "seed": seed,
        "import_seconds": run.import_seconds,
        "seconds": run.seconds,
        "metrics": found | {k: v for k, v in run.details.items() if k == "draws_per_second"},
        "elbo": run.elbo,
        "log_evidence": problem.log_evidence() if problem.log_evidence else None,
        "mode_shares": mode_shares(problem, run.draw_sets),
        "draws_per_set": len(run.draw_sets[0]),
        "draw_sets": len(run.draw_sets),
        "reference": problem.source,
        "details": run.details,
        "peak_memory_mb": peak,
        "load_before": load,
        "machine": results.machine(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the result; a failure ends with its traceback on stderr and a non-zero code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("seed", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--posteriordb", type=Path)
    options = parser.parse_args(arguments)
    results.write_json(options.file, measure(options.problem, options.method, options.seed, options.posteriordb))
    return 0


if __name__ == "__main__":
    sys.exit(main())
