"""The command line, with a fit that costs nothing: a stand-in posterior which records how it was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import _eight_schools, cli
from neural_vb._demo_targets import DEMO_TARGETS, exact_eight_schools
from neural_vb._version import __version__
from neural_vb.draws import columns
from neural_vb.errors import LatentError

ROOT = Path(__file__).parents[1]
PLANES = {name: DEMO_TARGETS[name]() for name in DEMO_TARGETS if name != "eight_schools"}
GAUSSIAN = "def log_prob(z):\n    return -.5 * (z ** 2).sum(-1)\n\nevent_shape = [2]\n"


class File:
    """A figure or a data set: something that is saved under a name."""

    def savefig(self, path: Path, **_: Any) -> None:
        Path(path).write_text("figure")

    def to_netcdf(self, path: str) -> None:
        Path(path).write_text("data")

    def clear(self) -> None: ...


class StandInPosterior:
    """Remembers what it is asked; its draws are exact ones, or standard normal in two dimensions."""

    status = SimpleNamespace(message="it came to its end")

    def __init__(self, demo: bool) -> None:
        self.exported: list[tuple[int, dict[str, Any]]] = []
        self.eight_schools = demo

    def __str__(self) -> str:
        return "the posterior's own summary"

    def sample(self, num_draws: int, *, seed: int) -> Any:
        if self.eight_schools:
            return exact_eight_schools(num_draws, seed)
        return np.random.default_rng(seed).standard_normal([num_draws, 2])

    def to_arviz(self, num_draws: int, **keywords: Any) -> File:
        self.exported.append((num_draws, keywords))
        return File()

    def plot_training(self) -> File:
        return File()

    plot_pair = plot_marginals = plot_training


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, Any, dict[str, Any], StandInPosterior]]:
    """What `fit` was called with, once per call."""
    calls = []

    def fit(target: Any, data: Any = None, **keywords: Any) -> StandInPosterior:
        posterior = StandInPosterior(demo=data is not None)
        calls.append((target, data, keywords, posterior))
        return posterior

    monkeypatch.setitem(sys.modules, "neural_vb.fitting", SimpleNamespace(fit=fit))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"))
    return calls


def message(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a failing command says; it must say it in one line and leave with code 2."""
    assert cli.main(words) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.endswith("\n")
    return text[:-1]


def interpreter(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_help_does_not_import_tensorflow() -> None:
    text = interpreter("""
import sys
from neural_vb.cli import main
try:
    main(["--help"])
except SystemExit as leave:
    print(leave.code, *sorted({"tensorflow", "tensorflow_probability", "numpy", "matplotlib"} & set(sys.modules)))
""")
    assert text.splitlines()[0].startswith("usage: neural-vb")
    assert text.splitlines()[-1] == "0"


def test_module_runs_as_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "neural_vb", "fit", "missing.py"], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 2
    assert "missing.py, which is not a file" in run.stderr and "Traceback" not in run.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        cli.main(["--version"])
    assert leave.value.code == 0
    assert capsys.readouterr().out == f"neural_vb {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["demo", "--target", "moon"], ["fit"], ["fit", "a.py", "--draws", "0"], ["fit", "a.py", "--seed", "x"]],
)
def test_unknown_words_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        cli.main(words)
    assert leave.value.code == 2
    assert "usage: neural-vb" in capsys.readouterr().err


def test_a_negative_seed_is_named_before_anything_is_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        cli.main(["fit", "a.py", "--seed", "-1"])
    assert leave.value.code == 2
    assert "argument --seed: must be from 0 to 2147483646, not -1" in capsys.readouterr().err


def test_fit_passes_what_a_log_density_file_defines(fits: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(GAUSSIAN + "data = 3\nbijector = 'b'\nvectorized = False\n")
    assert cli.main(["fit", "own.py", "--seed", "7", "--draws", "12", "--out", "here/there"]) == 0
    [(target, data, keywords, posterior)] = fits
    assert target.__name__ == "log_prob" and data is None  # a global called `data` is the file's own affair
    assert keywords == {
        "event_shape": [2], "bijector": "b", "vectorized": False, "seed": 7, "progress": False,
    }  # fmt: skip
    assert posterior.exported == [(12, {"seed": 8, "coords": None, "dims": None})]
    assert {path.name for path in Path("here/there").iterdir()} == {
        "posterior.nc", "training.png", "pair.png", "marginals.png",
    }  # fmt: skip
    assert capsys.readouterr().out == (
        "the posterior's own summary\nWrote posterior.nc, training.png, pair.png, marginals.png to here/there/\n"
    )


def test_fit_passes_what_a_joint_file_defines(fits: list[Any]) -> None:
    Path("own.py").write_text("model, data, derived = 'joint', {'y': 1.0}, 'function'\n")
    assert cli.main(["fit", "own.py"]) == 0
    [(target, data, keywords, _)] = fits
    assert (target, data) == ("joint", {"y": 1.0})
    assert keywords == {"derived": "function", "seed": 0, "progress": False}


def test_fit_runs_the_file_as_python_does(fits: list[Any]) -> None:
    folder = Path("project")
    folder.mkdir()
    (folder / "neighbour.py").write_text("size = 2\n")
    (folder / "own.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nimport neighbour\n"
        "@dataclasses.dataclass\nclass Prior:\n    scale: float\n"
        "def log_prob(z):\n    return z\nevent_shape = [neighbour.size]\n"
    )
    assert cli.main(["fit", "project/own.py"]) == 0
    assert fits[0][2]["event_shape"] == [2]


def test_missing_file(fits: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert message(capsys, "fit", "nowhere.py") == (
        "neural-vb: ConfigurationError: Expected a Python file to fit; got nowhere.py, which is not a file. "
        "Fix: check the path and the working directory"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "ConfigurationError: Expected either `log_prob` or `model` in own.py; got neither. Fix: define"),
        ("log_prob = model = 1", "ConfigurationError: Expected either `log_prob` or `model` in own.py; got both. Fix:"),
        ("log_prob = abs", "EventShapeError: Expected `event_shape` beside `log_prob` in own.py; got no such name."),
        ("model = 1", "DataError: Expected `data` beside `model` in own.py; got no such name. Fix: define data ="),
        (
            "def f():\n    return 1 / 0\n\nf()",
            "ConfigurationError: Expected own.py to run without errors; got ZeroDivisionError: division by zero "
            "(line 2). Fix: run `python own.py` on its own",
        ),
        ("x = (", "Expected own.py to run without errors; got SyntaxError: '(' was never closed (own.py, line 1)"),
        ("raise SystemExit('enough')", "Expected own.py to run without errors; got SystemExit: enough (line 1)"),
        ("import nothing_such", "got ModuleNotFoundError: No module named 'nothing_such' (line 1)"),
        (
            "from neural_vb.errors import LatentError\nraise LatentError(expected='a', got='b', fix='c')",
            "LatentError: Expected a; got b. Fix: c",
        ),
    ],
)
def test_faulty_file(source: str, expected: str, fits: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(source)
    assert expected in message(capsys, "fit", "own.py")
    assert fits == [] and [path.name for path in Path().iterdir()] == ["own.py"]


def test_an_error_of_the_fit_is_one_line(
    fits: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise LatentError(expected="continuous latents", got="k", fix="marginalise k")

    monkeypatch.setattr(sys.modules["neural_vb.fitting"], "fit", fit)
    Path("own.py").write_text(GAUSSIAN)
    assert message(capsys, "fit", "own.py") == (
        "neural-vb: LatentError: Expected continuous latents; got k. Fix: marginalise k"
    )


def test_interrupt(fits: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["neural_vb.fitting"], "fit", fit)
    Path("own.py").write_text(GAUSSIAN)
    assert cli.main(["fit", "own.py"]) == 130
    assert capsys.readouterr().err == "neural-vb: interrupted\n"


def test_output_folder_is_checked_before_the_fit(fits: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(GAUSSIAN)
    text = message(capsys, "fit", "own.py", "--out", "own.py")
    assert "Expected `--out` to be a folder that can be written; got own.py (File exists)" in text
    assert fits == []


@pytest.mark.parametrize(
    ("words", "names"),
    [([], cli.DEFAULT_TARGETS), (["--target", "ring"], ("ring",)), (["--target", "all"], cli.TARGETS)],
)
def test_demo_fits_the_targets_asked_for(words: list[str], names: tuple[str, ...], fits: list[Any]) -> None:
    assert cli.main(["demo", "--seed", "3", *words]) == 0
    assert len(fits) == len(names)
    assert {path.name for path in Path("neural_vb_demo").iterdir()} == set(names)
    for name, (_, data, keywords, posterior) in zip(names, fits, strict=True):
        picture = "marginals.png" if name == "eight_schools" else "density.png"
        written = {path.name for path in (Path("neural_vb_demo") / name).iterdir()}
        assert written == {"posterior.nc", "training.png", "pair.png", picture}
        assert (data is None) == (keywords["event_shape"] is not None)
        assert keywords["seed"] == 3 and posterior.exported[0][1]["seed"] == 4


def test_demo_prints_the_reference_beside_the_draws(fits: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--target", "eight_schools"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Eight schools (Rubin 1981), non-centred, ten unconstrained dimensions"
    rows = {line.split()[0]: line.split() for line in lines[3:21]}
    assert set(rows) == set(DEMO_TARGETS["eight_schools"]().moments)
    assert rows["tau"][2] == f"{_eight_schools.TAU_MEAN:.3f}" and rows["mu"][4] == f"{_eight_schools.MU_SD:.3f}"
    # 20,000 exact draws against moments of 10,000: one standard error is .0122 sd, five are .061.
    assert max(abs(float(row[5])) for row in rows.values()) < 0.061
    assert lines[21].startswith("20,000 draws; reference: posteriordb's 10,000 reference draws. Fitted in ")
    assert lines[22] == "Training: it came to its end."


def test_what_tensorflow_has_to_say_of_cuda_is_not_shown_unless_asked_for(
    fits: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own.py").write_text(GAUSSIAN)
    for asked, level in ((None, "3"), ("0", "0")):
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL") if asked is None else monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
        assert cli.main(["fit", "own.py"]) == 0
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == level


def test_comparison_in_closed_form() -> None:
    draws = {"a": np.array([1.0, 3.0]), "b": np.array([[0.0, 5.0], [0.0, 7.0]]), "unknown": np.zeros(2)}
    assert cli.comparison(draws, {"a": (1.0, 2.0), "b[1]": (6.0, 1.0)}).splitlines() == [
        "variable     mean  reference       sd  reference  mean error  sd error",
        "a           2.000      1.000    1.000      2.000   +0.500 sd   -50.0%",
        "b[1]        6.000      6.000    1.000      1.000   +0.000 sd    +0.0%",
    ]


def test_names_on_the_command_line_are_the_demo_targets() -> None:
    assert set(DEMO_TARGETS) == set(cli.TARGETS) and set(cli.DEFAULT_TARGETS) <= set(cli.TARGETS)


@pytest.mark.parametrize("name", PLANES)
def test_reference_moments_of_a_plane_by_quadrature(name: str) -> None:
    demo, axes = PLANES[name], [np.linspace(-8.0, 8.0, 801), np.linspace(-12.0, 60.0, 1801)]
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)
    log_p = demo.target(tf.constant(points)).numpy()
    assert log_p.shape == (len(points),) and log_p.dtype == np.float64
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    for index, (mean, sd) in enumerate(demo.moments.values()):
        by_grid = p @ points[:, index]
        np.testing.assert_allclose(
            [by_grid, np.sqrt(p @ (points[:, index] - by_grid) ** 2)], [mean, sd], rtol=0, atol=1e-5
        )
    left, right, bottom, top = demo.extent
    inside = (points > [left, bottom]).all(-1) & (points < [right, top]).all(-1)
    assert p[inside].sum() > 0.98


def test_exact_eight_schools_agrees_with_posteriordb() -> None:
    found = columns(exact_eight_schools(40_000, 0))
    error = np.sqrt(1 / 40_000 + 1 / 10_000)
    for label, (mean, sd) in DEMO_TARGETS["eight_schools"]().moments.items():
        assert abs(found[label].mean() - mean) < 4.5 * error * sd, label
        assert abs(found[label].std() / sd - 1) < 0.06, label  # tau's fourth moment is large


def test_eight_schools_joint_is_the_model_of_the_reference() -> None:
    demo = DEMO_TARGETS["eight_schools"]()
    rng = np.random.default_rng(0)
    mu, tau, theta_trans = rng.normal(size=3), rng.gamma(2.0, size=3), rng.normal(size=(3, 8))
    pinned = demo.target.experimental_pin(**demo.data)
    parts = [tf.constant(part, tf.float32) for part in (mu, tau, theta_trans)]
    theta = mu[:, None] + tau[:, None] * theta_trans
    residual = (np.array(_eight_schools.EFFECTS) - theta) / np.array(_eight_schools.STANDARD_ERRORS)
    twin = (
        -0.5 * (mu / 5.0) ** 2
        - np.log1p((tau / 5.0) ** 2)
        - 0.5 * (theta_trans**2).sum(-1)
        - 0.5 * (residual**2).sum(-1)
    )
    ours = pinned.unnormalized_log_prob(*parts).numpy()
    np.testing.assert_allclose(ours - ours[0], twin - twin[0], atol=1e-4)
    named = {"mu": mu, "tau": tau, "theta_trans": theta_trans}
    np.testing.assert_allclose(demo.derived(named)["theta"], theta)
