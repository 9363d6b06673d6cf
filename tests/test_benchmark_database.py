"""Models of posteriordb on made-up data: each against a naive twin, and the identities that verify the real ones."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from benchmarks import cli, database
from benchmarks.database_models import MODELS
from benchmarks.database_regressions import REGRESSIONS
from benchmarks.evaluate import evaluate
from benchmarks.problems import PROBLEMS
from benchmarks.supports import SUPPORTS, Parameter
from neural_vb.errors import DataError, MissingDependencyError
from neural_vb.targets import LogProbTarget

RNG = np.random.default_rng(3)
N = 30


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


EARNINGS = {
    "earn": np.exp(9.0 + numbers(N)),
    "height": 66.0 + 4.0 * numbers(N),
    "male": RNG.integers(0, 2, N).astype(float),
}
CHILDREN = {
    "kid_score": 86.0 + 20.0 * numbers(N),
    "mom_hs": RNG.integers(0, 2, N).astype(float),
    "mom_iq": 100.0 + 15.0 * numbers(N),
    "mom_work": RNG.integers(1, 5, N).astype(float),
}
BUSHES = {
    name: np.exp(numbers(N)) for name in ("weight", "diam1", "diam2", "canopy_height", "total_height", "density")
} | {"group": RNG.integers(0, 2, N).astype(float), "N": np.array(float(N))}
VOTERS = {
    name: RNG.integers(1, 5, N).astype(float)
    for name in ("partyid7", "real_ideo", "race_adj", "age_discrete", "educ1", "gender", "income")
}
DATA: dict[str, dict[str, np.ndarray]] = {
    "arK-arK": {"K": np.array(3.0), "y": numbers(12)},
    "arma-arma11": {"y": numbers(13)},
    "bball_drive_event_0-hmm_drive_0": {"u": RNG.exponential(size=5), "v": RNG.exponential(size=5)},
    "bball_drive_event_1-hmm_drive_1": {"u": numbers(8), "v": numbers(8), "tau": np.array(0.5), "rho": np.array(0.7)},
    "diamonds-diamonds": {"Y": 8.0 + numbers(N), "X": np.column_stack([np.ones(N), numbers(N, 3)])},
    "eight_schools-eight_schools_noncentered": {"y": 8.0 * numbers(8), "sigma": 10.0 + np.abs(numbers(8))},
    "gp_pois_regr-gp_regr": {"x": np.arange(5.0), "y": numbers(5)},
    "kilpisjarvi_mod-kilpisjarvi": {
        "x": np.arange(8.0),
        "y": numbers(8),
        "pmualpha": np.array(9.0),
        "psalpha": np.array(5.0),
        "pmubeta": np.array(0.1),
        "psbeta": np.array(0.3),
    },
    "sblrc-blr": {"X": numbers(N, 4), "y": numbers(N)},
    **{
        name: {"ea": EARNINGS, "ki": CHILDREN, "me": BUSHES, "ne": VOTERS}[name[:2]]
        for name in REGRESSIONS
    },
}  # fmt: skip


def entry(name: str) -> database.Entry:
    return database.Entry(name, DATA[name], {})


def columns_of(name: str) -> list[np.ndarray]:
    """The predictors of a regression, written out from its definition."""
    ones = np.ones(N)
    if name.startswith("earnings"):
        height, male = EARNINGS["height"], EARNINGS["male"]
        z = (height - np.mean(height)) / np.sqrt(np.sum((height - np.mean(height)) ** 2) / (N - 1))
        rest = {
            "earn_height": [height],
            "log10earn_height": [height],
            "logearn_height": [height],
            "logearn_height_male": [height, male],
            "logearn_logheight_male": [np.log(height), male],
            "logearn_interaction_z": [z, male, z * male],
        }[name.removeprefix("earnings-")]
    elif name.startswith("kidiq"):
        hs, iq, work = CHILDREN["mom_hs"], CHILDREN["mom_iq"], CHILDREN["mom_work"]
        a, b = hs - np.mean(hs), iq - np.mean(iq)
        za, zb = a / (2 * np.std(hs, ddof=1)), b / (2 * np.std(iq, ddof=1))
        rest = {
            "momhs": [hs],
            "momiq": [iq],
            "momhsiq": [hs, iq],
            "interaction": [hs, iq, hs * iq],
            "interaction_c": [a, b, a * b],
            "interaction_z": [za, zb, za * zb],
            "mom_work": [1.0 * (work == 2), 1.0 * (work == 3), 1.0 * (work == 4)],
        }[name.split("kidscore_")[1]]
    elif name.startswith("mesquite"):
        one, two, canopy = (np.log(BUSHES[key]) for key in ("diam1", "diam2", "canopy_height"))
        high, dense, group = np.log(BUSHES["total_height"]), np.log(BUSHES["density"]), BUSHES["group"]
        rest = {
            "mesquite": [*(BUSHES[k] for k in ("diam1", "diam2", "canopy_height", "total_height", "density")), group],
            "logmesquite": [one, two, canopy, high, dense, group],
            "logmesquite_logvolume": [one + two + canopy],
            "logmesquite_logva": [one + two + canopy, one + two, group],
            "logmesquite_logvas": [one + two + canopy, one + two, one - two, high, dense, group],
        }[name.removeprefix("mesquite-")]
    else:
        age = VOTERS["age_discrete"]
        ages = [np.where(age == level, 1.0, 0.0) for level in (2, 3, 4)]
        first, last = ("real_ideo", "race_adj"), ("educ1", "gender", "income")
        rest = [*(VOTERS[k] for k in first), *ages, *(VOTERS[k] for k in last)]
    return [ones, *rest]


def naive_regression(name: str) -> Callable[[dict[str, Any]], float]:
    response = {
        "earnings-earn_height": EARNINGS["earn"],
        "earnings-log10earn_height": np.log10(EARNINGS["earn"]),
        "mesquite-mesquite": BUSHES["weight"],
    }.get(name)
    if response is None:
        response = {
            "ea": np.log(EARNINGS["earn"]),
            "ki": CHILDREN["kid_score"],
            "me": np.log(BUSHES["weight"]),
            "ne": VOTERS["partyid7"],
        }[name[:2]]
    columns = columns_of(name)

    def log_prob(p: dict[str, Any]) -> float:
        mean = sum(b * column for b, column in zip(p["beta"], columns, strict=True))
        prior = stats.halfcauchy(0, 2.5).logpdf(p["sigma"]) if name.startswith("kidiq-") else 0.0
        return stats.norm(mean, p["sigma"]).logpdf(response).sum() + prior

    return log_prob


def naive_ark(p: dict[str, Any]) -> float:
    y = DATA["arK-arK"]["y"]
    total = stats.norm(0, 10).logpdf([p["alpha"], *p["beta"]]).sum() + stats.halfcauchy(0, 2.5).logpdf(p["sigma"])
    for t in range(3, len(y)):
        mean = p["alpha"] + sum(p["beta"][k] * y[t - 1 - k] for k in range(3))
        total += stats.norm(mean, p["sigma"]).logpdf(y[t])
    return total


def naive_arma(p: dict[str, Any]) -> float:
    y, mu, phi, theta = DATA["arma-arma11"]["y"], p["mu"], p["phi"], p["theta"]
    errors = [y[0] - (mu + phi * mu)]
    for t in range(1, len(y)):
        errors.append(y[t] - (mu + phi * y[t - 1] + theta * errors[-1]))
    prior = stats.norm(0, 10).logpdf(mu) + stats.norm(0, 2).logpdf([phi, theta]).sum()
    prior += stats.halfcauchy(0, 2.5).logpdf(p["sigma"])
    return prior + stats.norm(0, p["sigma"]).logpdf(errors).sum()


def naive_states(name: str) -> Callable[[dict[str, Any]], float]:
    """The sum over all paths of the hidden chain."""
    data = DATA[name]

    def emission(p: dict[str, Any], t: int, k: int) -> float:
        if "tau" not in data:
            scales = 1 / p["phi"][k], 1 / p["lambda"][k]
            return stats.expon(0, scales[0]).pdf(data["u"][t]) * stats.expon(0, scales[1]).pdf(data["v"][t])
        first = stats.norm(p["phi"][k], data["tau"]).pdf(data["u"][t])
        return first * stats.norm(p["lambda"][k], data["rho"]).pdf(data["v"][t])

    def log_prob(p: dict[str, Any]) -> float:
        rows = [[p["theta1"], 1 - p["theta1"]], [p["theta2"], 1 - p["theta2"]]]
        total = 0.0
        for path in itertools.product((0, 1), repeat=len(data["u"])):
            steps = np.prod([rows[a][b] for a, b in itertools.pairwise(path)])
            total += steps * np.prod([emission(p, t, k) for t, k in enumerate(path)])
        prior = stats.beta(4, 2).logpdf(p["theta1"]) + stats.beta(2, 4).logpdf(p["theta2"])
        prior += stats.norm([0, 3], 1).logpdf([p["phi"], p["lambda"]]).sum()
        return np.log(total) + prior

    return log_prob


def naive_schools(p: dict[str, Any]) -> float:
    data = DATA["eight_schools-eight_schools_noncentered"]
    prior = stats.norm(0, 1).logpdf(p["theta_trans"]).sum() + stats.norm(0, 5).logpdf(p["mu"])
    likelihood = stats.norm(p["mu"] + p["tau"] * p["theta_trans"], data["sigma"]).logpdf(data["y"]).sum()
    return prior + stats.halfcauchy(0, 5).logpdf(p["tau"]) + likelihood


def naive_process(p: dict[str, Any]) -> float:
    x, y = DATA["gp_pois_regr-gp_regr"]["x"], DATA["gp_pois_regr-gp_regr"]["y"]
    covariance = p["alpha"] ** 2 * np.exp(-((x[:, None] - x) ** 2) / (2 * p["rho"] ** 2)) + p["sigma"] * np.eye(len(x))
    prior = stats.gamma(25, scale=1 / 4).logpdf(p["rho"]) + stats.halfnorm(0, 2).logpdf(p["alpha"])
    likelihood = stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(y)
    return prior + stats.halfnorm(0, 1).logpdf(p["sigma"]) + likelihood


def naive_diamonds(p: dict[str, Any]) -> float:
    y, x = DATA["diamonds-diamonds"]["Y"], DATA["diamonds-diamonds"]["X"][:, 1:]
    mean = p["Intercept"] + sum((x[:, k] - x[:, k].mean()) * p["b"][k] for k in range(3))
    prior = stats.norm(0, 1).logpdf(p["b"]).sum() + stats.t(3, 8, 10).logpdf(p["Intercept"])
    return prior + stats.t(3, 0, 10).logpdf(p["sigma"]) + stats.norm(mean, p["sigma"]).logpdf(y).sum()


def naive_kilpisjarvi(p: dict[str, Any]) -> float:
    data = DATA["kilpisjarvi_mod-kilpisjarvi"]
    prior = stats.norm(9.0, 5.0).logpdf(p["alpha"]) + stats.norm(0.1, 0.3).logpdf(p["beta"])
    return prior + stats.norm(p["alpha"] + p["beta"] * data["x"], p["sigma"]).logpdf(data["y"]).sum()


def naive_ridge(p: dict[str, Any]) -> float:
    data = DATA["sblrc-blr"]
    prior = stats.norm(0, 10).logpdf(p["beta"]).sum() + stats.halfnorm(0, 10).logpdf(p["sigma"])
    return prior + stats.norm(data["X"] @ p["beta"], p["sigma"]).logpdf(data["y"]).sum()


NAIVE: dict[str, Callable[[dict[str, Any]], float]] = {
    "arK-arK": naive_ark,
    "arma-arma11": naive_arma,
    "bball_drive_event_0-hmm_drive_0": naive_states("bball_drive_event_0-hmm_drive_0"),
    "bball_drive_event_1-hmm_drive_1": naive_states("bball_drive_event_1-hmm_drive_1"),
    "diamonds-diamonds": naive_diamonds,
    "eight_schools-eight_schools_noncentered": naive_schools,
    "gp_pois_regr-gp_regr": naive_process,
    "kilpisjarvi_mod-kilpisjarvi": naive_kilpisjarvi,
    "sblrc-blr": naive_ridge,
    **{name: naive_regression(name) for name in REGRESSIONS},
}


def naive_constrain(parameter: Parameter, u: np.ndarray) -> tuple[np.ndarray, float]:
    """One parameter [*shape] and its log-Jacobian, from the table of maps."""
    if parameter.support == "positive":
        x, log_det = np.exp(u), u.sum()
    elif parameter.support == "unit":
        x = 1 / (1 + np.exp(-u))
        log_det = np.log(x * (1 - x)).sum()
    elif parameter.support == "ordered":
        x, log_det = np.array([u[0], u[0] + np.exp(u[1])]), u[1]
    elif parameter.support == "positive_ordered":
        x, log_det = np.array([np.exp(u[0]), np.exp(u[0]) + np.exp(u[1])]), u.sum()
    else:
        x, log_det = u, 0.0
    return x.reshape(parameter.shape), log_det


def naive_log_prob(name: str, z: np.ndarray) -> float:
    values, total, start = {}, 0.0, 0
    for parameter in entry(name).model.parameters:
        values[parameter.name], log_det = naive_constrain(parameter, z[start : start + parameter.size])
        total, start = total + log_det, start + parameter.size
    return total + NAIVE[name](values)


def points(name: str) -> np.ndarray:
    return 0.5 * np.random.default_rng(0).standard_normal((6, entry(name).model.size))


def test_every_model_has_a_twin() -> None:
    assert set(MODELS) == set(NAIVE) == set(DATA) and len(MODELS) == 34


@pytest.mark.parametrize("name", MODELS)
def test_the_fits_log_density_is_the_definition(name: str) -> None:
    log_prob, data, keywords = entry(name).fit_arguments()
    target = LogProbTarget(log_prob, **keywords, dtype=tf.float64)
    z = points(name)
    found = target.log_prob(tf.constant(z[:, None]))[:, 0].numpy()
    expected = np.array([naive_log_prob(name, point) for point in z])
    assert data is None and target.event_size == z.shape[1]
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_the_peers_log_density_is_the_definition(name: str) -> None:
    jax = pytest.importorskip("jax")
    z = points(name)
    with jax.experimental.enable_x64() if hasattr(jax.experimental, "enable_x64") else jax.enable_x64(True):
        log_prob = entry(name).jax_log_prob()
        found = np.array([float(log_prob(jax.numpy.asarray(point))) for point in z])
    expected = np.array([naive_log_prob(name, point) for point in z])
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("support", SUPPORTS)
def test_supports_are_undone(support: str) -> None:
    parameter = Parameter("x", (2,), support)
    z = numbers(20, 2)
    x = np.stack([naive_constrain(parameter, u)[0] for u in z])
    np.testing.assert_allclose(parameter.unconstrain(x), z, rtol=1e-6, atol=1e-8)
    bijector = parameter.bijector()
    np.testing.assert_allclose(z if bijector is None else bijector.forward(tf.constant(z)), x, rtol=1e-9)


def test_identities_hold_for_exact_scores_and_notice_wrong_ones() -> None:
    covariance = np.array([[1.0, 2.0], [2.0, 9.0]])
    draws = np.random.default_rng(1).multivariate_normal([5.0, -300.0], covariance, 20_000)
    score = -np.linalg.solve(covariance, (draws - [5.0, -300.0]).T).T
    found = database.identities(draws, score)
    assert found.mean < 4.5 and found.product < 4.5 and found.error < 0.02
    assert database.identities(draws, 1.1 * score).product > 8.0
    shifted = score + np.linalg.solve(covariance, [0.1, 0.0])
    assert database.identities(draws, shifted).mean > 8.0


class Client:
    """What the PyPI client gives, of one posterior."""

    def __init__(self, path: str) -> None:
        self.path = path

    def posterior_names(self) -> list[str]:
        return ["kilpisjarvi_mod-kilpisjarvi", "unknown-model"]

    def posterior(self, name: str) -> Any:
        data = {key: value.tolist() for key, value in DATA[name].items()}
        chain = {"alpha": [1.0, 2.0], "beta": [0.1, 0.2], "sigma": [1.0, np.e]}
        return type("Posterior", (), {
            "data": type("Data", (), {"values": staticmethod(lambda: data)}),
            "reference_draws": staticmethod(lambda: [chain, chain]),
        })  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = types.ModuleType("posteriordb")
    module.PosteriorDatabase = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "posteriordb", module)
    (tmp_path / "posterior_database" / "posteriors").mkdir(parents=True)
    database._open.cache_clear()
    return tmp_path


def test_an_entry_is_read(checkout: Path) -> None:
    assert database.names(checkout) == ["kilpisjarvi_mod-kilpisjarvi"]
    found = database.load("kilpisjarvi_mod-kilpisjarvi", checkout)
    np.testing.assert_allclose(found.draws, [[1.0, 0.1, 0.0], [2.0, 0.2, 1.0]] * 2)
    np.testing.assert_allclose(found.to_vector({"alpha": [1.0], "beta": [2.0], "sigma": [1.0]}), [[1.0, 2.0, 0.0]])
    with pytest.raises(DataError, match=r"got 'unknown-model'\. Fix: name one of kilpisjarvi_mod-kilpisjarvi"):
        database.load("unknown-model", checkout)


def test_a_posterior_of_the_database_is_a_problem(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTERIORDB", str(checkout))
    problem = dataclasses.replace(PROBLEMS["kilpisjarvi_mod-kilpisjarvi"])  # afresh: it keeps what it has read
    monkeypatch.setitem(PROBLEMS, problem.name, problem)
    assert problem.reference_draws is not None
    draws = problem.reference_draws(checkout)
    np.testing.assert_allclose(problem.moments().mean, draws.mean(0))
    np.testing.assert_allclose(problem.to_vector(draws), draws)
    found = evaluate(problem, [draws], reference_draws=draws)
    assert found["mean_error"] == found["sw1_reference"] == found["second_moment_error"] == 0.0
    assert found["sw1_reference_floor"] > 0.0 and problem.size == draws.shape[1]


def test_a_missing_checkout_or_client_is_named(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no folder posteriors in"):
        database.names(tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "posteriordb", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'neural_vb\[bench\]'"):
        database.names(tmp_path / "elsewhere")


def test_verify_tells_which_model_does_not_hold(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    draws = np.random.default_rng(0).standard_normal((5_000, 3))
    monkeypatch.setattr(database.Entry, "draws", draws)
    monkeypatch.setattr(database, "score", lambda entry, draws: -draws)
    assert cli.main(["verify", "--posteriordb", str(checkout)]) == 1
    assert capsys.readouterr().out.startswith("not in this checkout: arK-arK, ")
    monkeypatch.setattr(database, "MODELS", {"kilpisjarvi_mod-kilpisjarvi": MODELS["kilpisjarvi_mod-kilpisjarvi"]})
    for factor, code in ((-1.0, 0), (-1.2, 1)):
        monkeypatch.setattr(database, "score", lambda entry, draws, factor=factor: factor * draws)
        assert cli.main(["verify", "--posteriordb", str(checkout)]) == code
        printed = capsys.readouterr().out
        assert printed.startswith("kilpisjarvi_mod-kilpisjarvi: D = 3, ")
        assert printed.endswith("DOES NOT HOLD\n") == bool(code)
    monkeypatch.delenv("POSTERIORDB", raising=False)
    assert cli.main(["verify"]) == 2
    assert "neither --posteriordb nor the environment's POSTERIORDB" in capsys.readouterr().err


def test_scores_are_gradients_of_the_fits_log_density() -> None:
    entry_ = entry("sblrc-blr")
    z = points("sblrc-blr")
    found = database.score(entry_, z)
    step = 1e-5 * np.eye(z.shape[1])
    up = [[naive_log_prob("sblrc-blr", point + d) for d in step] for point in z]
    down = [[naive_log_prob("sblrc-blr", point - d) for d in step] for point in z]
    np.testing.assert_allclose(found, (np.array(up) - np.array(down)) / 2e-5, rtol=1e-4, atol=1e-4)
