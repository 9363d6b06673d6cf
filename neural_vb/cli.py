"""The command line: ``neural-vb demo`` fits and shows known posteriors, ``neural-vb fit FILE.py`` fits one's own.

TensorFlow is imported only once there is something to fit, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from neural_vb._version import __version__
from neural_vb.errors import ConfigurationError, DataError, EventShapeError, NeuralVBError

TARGETS = ("eight_schools", "banana", "ring", "two_modes", "X")
DEFAULT_TARGETS = ("eight_schools", "banana")
NUM_REFERENCE_DRAWS = 20_000
NUM_PICTURED_DRAWS = 200_000  # of a density in two dimensions, for fine bins


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``neural-vb``.

    Args:
        arguments: the words after the program's name; those of the process when None.

    Returns:
        Exit code: 0; 2 after a `NeuralVBError`, whose message goes to standard error, without a traceback; 130 when
        interrupted.

    Raises:
        SystemExit: from `argparse`, for ``--help``, ``--version`` and unknown words.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # without a GPU level 2 still tells of CUDA
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures go to files; there may be no display
    try:
        options.run(options)
    except NeuralVBError as error:
        print(f"neural-vb: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("neural-vb: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neural-vb", description="Fit a neural sampler to any log density, and keep its independent draws."
    )
    parser.add_argument("--version", action="version", version=f"neural_vb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="fit known posteriors and compare with what is known about them",
        description="Fit known posteriors, print means and sds beside the reference, and write "
        "DIR/TARGET/posterior.nc and figures.",
    )
    demo.add_argument(
        "--target",
        choices=(*TARGETS, "all"),
        help=f"which one (default: {' and '.join(DEFAULT_TARGETS)})",
    )
    demo.set_defaults(run=_demo)
    fit = commands.add_parser(
        "fit",
        help="fit the posterior that a Python file defines",
        description="Fit the posterior that FILE.py defines, print its summary, write DIR/posterior.nc and figures. "
        "The file defines `log_prob` and `event_shape` (optional: `bijector`, `derived`, `vectorized`), or `model`, "
        "a TFP joint distribution, and `data` (optional: `derived`).",
    )
    fit.add_argument("file", metavar="FILE.py", type=Path)
    fit.add_argument("--draws", metavar="N", type=_positive, default=4_000, help="draws to keep (default: 4000)")
    fit.set_defaults(run=_fit)
    for command, folder in ((demo, "neural_vb_demo"), (fit, "neural_vb_fit")):
        command.add_argument(
            "--out", metavar="DIR", type=Path, default=Path(folder), help=f"folder to write (default: {folder})"
        )
        command.add_argument(
            "--seed", metavar="N", type=_seed, default=0, help="seed of every random number (default: 0)"
        )
    return parser


def _seed(word: str) -> int:
    value = int(word)
    if not 0 <= value < 2**31 - 1:  # the next one is used too
        raise argparse.ArgumentTypeError(f"must be from 0 to {2**31 - 2}, not {value}")
    return value


def _positive(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _demo(options: argparse.Namespace) -> None:
    names = {None: DEFAULT_TARGETS, "all": TARGETS}.get(options.target, (options.target,))
    folders = {name: _folder(options.out / name) for name in names}
    from neural_vb._demo_targets import DEMO_TARGETS

    for name, folder in folders.items():
        _demo_one(DEMO_TARGETS[name](), folder, seed=options.seed)


def _demo_one(demo: Any, folder: Path, *, seed: int) -> None:
    from neural_vb import plots
    from neural_vb.fitting import fit

    print(f"\n{demo.title}", flush=True)
    start = time.perf_counter()
    posterior = fit(
        demo.target,
        demo.data,
        event_shape=demo.event_shape,
        derived=demo.derived,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    seconds = time.perf_counter() - start
    draws = posterior.sample(NUM_REFERENCE_DRAWS, seed=seed + 1)
    print(comparison(draws, demo.moments))
    print(f"{NUM_REFERENCE_DRAWS:,} draws; reference: {demo.source}. Fitted in {seconds:.1f} s, compilation included.")
    print(f"Training: {posterior.status.message}.")
    figures: dict[str, Callable[[], Any]] = {"training": posterior.plot_training, "pair": posterior.plot_pair}
    if demo.exact_draws is None:
        many = posterior.sample(NUM_PICTURED_DRAWS, seed=seed + 1)
        figures["density"] = lambda: plots.plot_density(demo.target, many, extent=demo.extent, title=demo.title)
    else:
        reference = demo.exact_draws(NUM_REFERENCE_DRAWS, seed)
        figures["marginals"] = lambda: plots.plot_marginals(draws, reference=reference)
    _write(posterior, folder, figures, num_draws=4_000, seed=seed + 1, coords=demo.coords, dims=demo.dims)


def comparison(draws: Any, moments: Mapping[str, tuple[float, float]]) -> str:
    """Lay out means and standard deviations of draws beside reference ones.

    Args:
        draws: array [S, D], or structure of arrays [S, ...].
        moments: label of a column, such as ``theta[0]`` -> reference mean and standard deviation.

    Returns:
        A table; "mean error" is in reference sds, "sd error" in percent of the reference sd.
    """
    from neural_vb.draws import columns

    width = max(len("variable"), *map(len, moments))
    lines = [f"{'variable':{width}}     mean  reference       sd  reference  mean error  sd error"]
    for label, values in columns(draws).items():
        if label not in moments:
            continue
        mean, sd = float(values.mean(dtype="float64")), float(values.std(dtype="float64"))
        true_mean, true_sd = moments[label]
        lines.append(
            f"{label:{width}} {mean:8.3f} {true_mean:10.3f} {sd:8.3f} {true_sd:10.3f}"
            f" {(mean - true_mean) / true_sd:+8.3f} sd {sd / true_sd - 1.0:+8.1%}"
        )
    return "\n".join(lines)


def _fit(options: argparse.Namespace) -> None:
    target, data, keywords = _definitions(options.file)
    folder = _folder(options.out)
    from neural_vb.fitting import fit

    posterior = fit(target, data, **keywords, seed=options.seed, progress=sys.stderr.isatty())
    print(posterior)
    figures = {
        "training": posterior.plot_training,
        "pair": posterior.plot_pair,
        "marginals": posterior.plot_marginals,
    }
    _write(posterior, folder, figures, num_draws=options.draws, seed=options.seed + 1)


def _definitions(path: Path) -> tuple[Any, Any, dict[str, Any]]:
    """(target, data, keywords of `fit`) from a user's file."""
    names = vars(_execute(path))
    if ("model" in names) == ("log_prob" in names):
        raise ConfigurationError(
            expected=f"either `log_prob` or `model` in {path}",
            got="both" if "model" in names else "neither",
            fix="define `log_prob` and `event_shape`, or `model` (a TFP joint distribution) and `data`",
        )
    if "model" in names:
        if "data" not in names:
            raise DataError(
                expected=f"`data` beside `model` in {path}",
                got="no such name",
                fix="define data = {name of an observed part: its value}",
            )
        return names["model"], names["data"], _chosen(names, ("derived",))
    if "event_shape" not in names:
        raise EventShapeError(
            expected=f"`event_shape` beside `log_prob` in {path}",
            got="no such name",
            fix='define, for example, event_shape = [2], or event_shape = {"mu": [], "tau": []} for named parts',
        )
    return names["log_prob"], None, _chosen(names, ("event_shape", "bijector", "derived", "vectorized"))


def _chosen(names: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    return {name: names[name] for name in wanted if name in names}


def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(
            expected="a Python file to fit",
            got=f"{path}, which is not a file",
            fix="check the path and the working directory",
        )
    module = ModuleType("neural_vb_user_file")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # as `python FILE.py` does, for the file's own imports
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except NeuralVBError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            expected=f"{path} to run without errors",
            got=f"{type(error).__name__}: {error}{_place(error, path)}",
            fix=f"run `python {path}` on its own to see the whole traceback",
        ) from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """The last line of the user's own file that an error passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""


def _folder(path: Path) -> Path:
    """Make the folder before the fit, not after a minute of work."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            expected="`--out` to be a folder that can be written",
            got=f"{path} ({error.strerror})",
            fix="choose another folder",
        ) from error
    return path


def _write(
    posterior: Any,
    folder: Path,
    figures: Mapping[str, Callable[[], Any]],
    *,
    num_draws: int,
    seed: int,
    coords: Mapping[str, Any] | None = None,
    dims: Mapping[str, Any] | None = None,
) -> None:
    posterior.to_arviz(num_draws, seed=seed, coords=coords, dims=dims).to_netcdf(str(folder / "posterior.nc"))
    for name, draw in figures.items():
        figure = draw()
        figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
        figure.clear()
    written = ", ".join(["posterior.nc", *(f"{name}.png" for name in figures)])
    print(f"Wrote {written} to {folder}/", flush=True)
