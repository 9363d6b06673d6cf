"""``python -m benchmarks run | report | reference | verify | floors``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import database, make_references, problems_regression, references, report, runner
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS, DatabaseProblem
from benchmarks.references import DRAWS_VARIABLE, FLOORS
from benchmarks.regression_data import DATA_VARIABLE

ALL = "posteriordb"
DATABASE = [name for name, problem in PROBLEMS.items() if isinstance(problem, DatabaseProblem)]
REGRESSIONS = [problem.name for problem in problems_regression.REGRESSIONS]
OWN = [name for name, problem in PROBLEMS.items() if problem.needs is None]


def build_parser() -> argparse.ArgumentParser:
    """Options of the five commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Accuracy and time beside NUTS.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="make the results that are not there yet, each in a fresh process")
    run.add_argument(
        "--problems",
        nargs="+",
        choices=[*PROBLEMS, ALL],
        default=OWN,
        metavar="NAME",
        help=f"names, or {ALL} for all of it, which --posteriordb must name (default: those that need no files)",
    )
    run.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])

    table = commands.add_parser("report", help="print the tables; write report.json and report.md")
    table.add_argument(
        "--docs", type=Path, help="folder of benchmarks.md, to put tables and figure between its markers, such as docs"
    )
    for command in (run, table):
        command.add_argument("--out", type=Path, default=Path("results"), help="folder of results (default: results)")

    reference = commands.add_parser("reference", help="make stored reference numbers again")
    reference.add_argument("problem", choices=["logistic_25", "eight_schools", *REGRESSIONS])
    reference.add_argument("--seed", type=int, default=references.LOGISTIC_SEED)
    verify = commands.add_parser("verify", help="check the models of posteriordb by their scores at its draws")
    for command in (run, reference, verify):
        command.add_argument("--posteriordb", help="checkout of posteriordb (or the environment's POSTERIORDB)")
    for command in (run, reference):
        command.add_argument("--data", help=f"folder of the regressions' files (or the environment's {DATA_VARIABLE})")
        command.add_argument("--draws", help=f"folder of long runs' draws (or the environment's {DRAWS_VARIABLE})")

    floors = commands.add_parser("floors", help="distances between pairs of exact samples")
    floors.add_argument("--problems", nargs="+", choices=FLOORS, default=list(FLOORS), metavar="NAME")
    floors.add_argument("--pairs", type=int, default=200)
    floors.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 1 when runs failed, 2 with one line on stderr when something is missing."""
    options = build_parser().parse_args(arguments)
    try:
        return _command(options)
    except Exception as error:
        from neural_vb.errors import NeuralVBError  # late: the package loads TensorFlow

        if not isinstance(error, NeuralVBError):
            raise
        print(error, file=sys.stderr)
        return 2


def _command(options: argparse.Namespace) -> int:
    for variable, name in ((DATA_VARIABLE, "data"), (DRAWS_VARIABLE, "draws")):
        if getattr(options, name, None):
            os.environ[variable] = getattr(options, name)  # for this process and for those of the runs
    if options.command == "run":
        path = references.posteriordb_path(options.posteriordb)
        problems = [name for given in options.problems for name in (DATABASE if given == ALL else [given])]
        failed = runner.run_all(problems, options.methods, options.seeds, out=options.out, posteriordb=path)
        return 1 if failed else 0
    if options.command == "report":
        print(report.write_report(options.out, options.docs), end="")
    elif options.command == "floors":
        make_references.show_floors(options.problems, num_pairs=options.pairs, seed=options.seed)
    elif options.command == "verify":
        return 0 if database.show_identities(references.require_posteriordb(options.posteriordb)) else 1
    elif options.problem == "logistic_25":
        make_references.show_logistic(options.seed)
    elif options.problem in problems_regression.SIZES:
        make_references.make_regression(options.problem, options.seed)
    elif options.problem != "eight_schools":
        draws = os.environ.get(DRAWS_VARIABLE)
        make_references.make_hierarchy(options.problem, options.seed, Path(draws) if draws else None)
    else:
        make_references.show_eight_schools(options.posteriordb)
    return 0
