"""The benchmark's registry of methods, and the parts of peers that have a closed form."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import bars, own_parts, peers_blackjax, peers_numpyro, peers_nutpie, runner, runs
from benchmarks.definitions import Array
from benchmarks.methods import METHODS, NUTS, OURS, PEERS, RIVALS
from benchmarks.problems import PROBLEMS
from benchmarks.references import Moments

FOLDER = Path(runs.__file__).parent
MEAN, COVARIANCE = np.array([1.0, -1.0]), np.array([[1.0, 0.6], [0.6, 1.0]])
QUICK = ("numpyro_mean_field", "nutpie_nuts")  # to compile; the other peers are tested with -m slow
quiet = pytest.mark.filterwarnings("ignore")  # the peers' own, which change from version to version


class Gaussian:
    """As much of a problem as a method looks at: N(MEAN, COVARIANCE), unnormalised but for its constant."""

    size = 2

    def jax_log_prob(self) -> Any:
        import jax.numpy as jnp

        precision, mean = jnp.asarray(np.linalg.inv(COVARIANCE), "float32"), jnp.asarray(MEAN, "float32")
        return lambda z: -0.5 * (z - mean) @ precision @ (z - mean)

    def fit_arguments(self) -> Any:
        from benchmarks.densities_tf import FitArguments

        precision = tf.constant(np.linalg.inv(COVARIANCE), tf.float32)

        def log_prob(z: tf.Tensor) -> tf.Tensor:
            centred = z - tf.constant(MEAN, tf.float32)
            return -0.5 * tf.reduce_sum(centred * (centred @ precision), -1)

        return FitArguments(log_prob, None, {"event_shape": [2]})

    def to_vector(self, draws: Any) -> Array:
        return np.asarray(draws, float)


LOG_EVIDENCE = float(np.log(2.0 * np.pi) + 0.5 * np.linalg.slogdet(COVARIANCE)[1])


def moments(run: runs.Run) -> Moments:
    z = np.concatenate(run.draw_sets)
    return Moments(z.mean(0), np.append(z.std(0), np.corrcoef(z.T)[0, 1]))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "SAMPLING_SIZES", (500, 1_000))
    monkeypatch.setattr(bars, "NUM_DRAW_SETS", 2)
    monkeypatch.setattr(peers_numpyro, "NUM_STEPS", 2_000)
    for module in (peers_numpyro, peers_nutpie):
        monkeypatch.setattr(module, "NUM_WARMUP", 500)
        monkeypatch.setattr(module, "NUM_SAMPLES", 1_000)
    monkeypatch.setattr(peers_blackjax, "NUM_PATHS", 4)


@quiet
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PEERS if METHODS[name].packages],
)
def test_a_peer_of_jax_draws_from_a_gaussian(name: str, short: None) -> None:
    for package in METHODS[name].packages:
        pytest.importorskip(package)
    run = METHODS[name].run(Gaussian(), 1)  # type: ignore[arg-type]
    found = moments(run)
    np.testing.assert_allclose(found.mean, MEAN, atol=0.15)
    if name == "numpyro_mean_field":  # keeps the conditional variance, 1 - .6^2, and no correlation
        np.testing.assert_allclose(found.sd, [0.8, 0.8, 0.0], atol=0.05)
        assert run.elbo == pytest.approx(LOG_EVIDENCE + np.log(0.8), abs=0.05)
        return
    np.testing.assert_allclose(found.sd, [1.0, 1.0, 0.6], atol=0.12)
    assert len(run.draw_sets) == (2 if METHODS[name].variational else 1)
    if METHODS[name].variational:
        assert run.elbo == pytest.approx(LOG_EVIDENCE, abs=0.1)
    else:
        assert run.details["max_r_hat"] < 1.05 and run.details["min_effective_sample_size"] > 200


@pytest.mark.slow
def test_the_flow_alone_ascends_to_the_evidence(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "NUM_STEPS", 200)
    run = METHODS["flow_reverse_kl"].run(Gaussian(), 1)  # type: ignore[arg-type]
    np.testing.assert_allclose(moments(run).sd, [1.0, 1.0, 0.6], atol=0.05)
    assert run.elbo == pytest.approx(LOG_EVIDENCE, abs=0.02)


@pytest.mark.slow
def test_the_stein_sampler_stays_where_it_is_right(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "NUM_STEPS", 100)
    run = METHODS["stein_sampler"].run(Gaussian(), 1)  # type: ignore[arg-type]
    np.testing.assert_allclose(moments(run).sd, [1.0, 1.0, 0.6], atol=0.08)
    assert run.elbo is None  # an implicit sampler has no density


def naive_stein(u: Array, score: Array, width: float) -> Array:
    """The Stein kernel from derivatives of the kernel by automatic differentiation, one pair at a time."""

    def kernel(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return (1.0 + tf.reduce_sum((x - y) ** 2) / width) ** -0.5

    terms = np.zeros((len(u), len(u)))
    for i, j in ((i, j) for i in range(len(u)) for j in range(len(u)) if i != j):
        x, y = tf.constant(u[i]), tf.constant(u[j])
        in_x, in_y = gradient_y(kernel, y, x), gradient_y(kernel, x, y)  # the kernel is symmetric
        trace = np.trace(jacobian(lambda x, y=y: gradient_y(kernel, x, y), x))
        products = score[i] @ in_y.numpy() + score[j] @ in_x.numpy()
        terms[i, j] = score[i] @ score[j] * kernel(x, y).numpy() + products + trace
    return terms


def gradient_y(kernel: Any, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(y)
        value = kernel(x, y)
    return tape.gradient(value, y)


def jacobian(function: Any, x: tf.Tensor) -> Array:
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.jacobian(value, x).numpy()


def test_stein_terms_agree_with_derivatives_of_the_kernel() -> None:
    rng = np.random.default_rng(0)
    u, score = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    squares = ((u[:, None] - u) ** 2).sum(-1)
    width = np.sort(squares.ravel())[(16 + 4) // 2]
    got = own_parts.stein_terms(tf.constant(u), tf.constant(score)).numpy()
    np.testing.assert_allclose(got, naive_stein(u, score, width), rtol=1e-9, atol=1e-12)


def test_the_stein_discrepancy_of_exact_draws_is_zero_and_of_others_is_not() -> None:
    u = np.random.default_rng(0).normal(size=(40, 200, 2))

    def discrepancy(z: Array) -> Array:
        return np.array([own_parts.stein_terms(tf.constant(x), tf.constant(-x)).numpy().sum() for x in z]) / (200 * 199)

    exact, wide = discrepancy(u), discrepancy(1.3 * u)
    assert abs(exact.mean()) < 4.0 * exact.std() / np.sqrt(len(exact))
    assert wide.mean() > 4.0 * wide.std() / np.sqrt(len(wide)) + 4.0 * exact.std()


def test_registry_names_its_methods() -> None:
    assert list(METHODS) == [OURS, *PEERS] and set(NUTS) < set(PEERS)
    assert set(PEERS) == {*RIVALS, *NUTS, "nutpie_nuts"}
    assert METHODS["numpyro_iaf"].smallest == 2


def test_no_peer_is_imported_before_it_runs() -> None:
    """The registry is read by every process: a library at module level would cost all of them its import."""
    heavy = {"jax", "numpyro", "blackjax", "nutpie", "tensorflow", "tensorflow_probability", "neural_vb"}
    for file in (
        "methods",
        "runs",
        "own",
        "own_parts",
        "peers_numpyro",
        "peers_blackjax",
        "peers_nutpie",
        "pathfinder",
    ):
        for node in ast.parse((FOLDER / f"{file}.py").read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.split(".")[0] for name in names}, file


def test_a_method_is_not_run_below_its_smallest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    line = {"error": "none"}
    monkeypatch.setattr(runner, "run_one", lambda problem, method, seed, **_: asked.append(method) or line)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(PROBLEMS, "banana", replace(PROBLEMS["banana"], size=1))
    runner.run_all(["banana"], ["numpyro_iaf", "numpyro_mean_field"], [0], out=tmp_path)
    assert asked == ["numpyro_mean_field"]


def test_a_large_problem_is_asked_for_fewer_draws() -> None:
    asked: list[int] = []
    _, rates = runs.sampling_rates(lambda num, seed: asked.append(num), 1_000)
    assert asked == [20_000, 20_000] and [rate["num_draws"] for rate in rates] == [20_000]
