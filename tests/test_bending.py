"""Bends: inverse and Jacobian, what is found in draws of known shape, and nothing in draws of none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import bending, checkpoints
from neural_vb._types import Array
from neural_vb.bending import Bend
from neural_vb.fitting import fit, load
from neural_vb.posterior import Posterior
from neural_vb.ridges import Ridge
from neural_vb.warping import Warp, identity
from neural_vb.whitening import Whitening

SIZE = 2_048


def a_bend(event_size: int, seed: int) -> Bend:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=shape) for shape in Bend.shapes(event_size)]
    log_scale, mean = (0.3 * part * (np.arange(event_size) > 0) for part in parts[2:4])
    return Bend(parts[0], parts[1], log_scale, mean, np.linalg.slogdet(parts[1])[1])


BENDS = (a_bend(4, 0), a_bend(4, 1))


def test_inverse_and_jacobian() -> None:
    y = np.random.default_rng(2).normal(size=(6, 4))
    z, log_det = bending.forward(BENDS, tf.constant(y))
    back, again = bending.inverse(BENDS, z.numpy())
    np.testing.assert_allclose(back, y, atol=1e-9)
    np.testing.assert_allclose(again, log_det, atol=1e-9)
    with tf.GradientTape() as tape:
        points = tf.constant(y)
        tape.watch(points)
        ends = bending.forward(BENDS, points)[0]
    np.testing.assert_allclose(np.linalg.slogdet(tape.batch_jacobian(ends, points).numpy())[1], log_det, atol=1e-9)


def test_gradients_are_pulled_back() -> None:
    def log_density(z: tf.Tensor) -> tf.Tensor:
        return -0.5 * tf.reduce_sum(z**2, -1) + tf.sin(z[:, 0] * z[:, 1])

    def evaluate(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = log_density(z)
        return value, tape.gradient(value, z)

    y = tf.constant(np.random.default_rng(3).normal(size=(5, 4)))
    with tf.GradientTape() as tape:
        tape.watch(y)
        z, log_det = bending.forward(BENDS, y)
        whole = log_density(z) + log_det
    value, gradient = bending.pulled_back(BENDS, y, evaluate)
    np.testing.assert_allclose(value, whole, rtol=1e-10)
    np.testing.assert_allclose(gradient, tape.gradient(whole, y), rtol=1e-8, atol=1e-8)


def test_whitening_with_bends() -> None:
    whitening = Whitening(np.arange(4.0), np.tril(np.ones((4, 4))), BENDS)
    u = np.random.default_rng(4).normal(size=(2, 3, 4))
    z, log_det = whitening.forward(tf.constant(u))
    back, again = whitening.inverse(z.numpy())
    np.testing.assert_allclose(back, u, atol=1e-8)
    np.testing.assert_allclose(again, log_det, atol=1e-8)
    assert log_det.shape == (2, 3)


@pytest.mark.parametrize("event_size", [2, 10, 50])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_in_gaussian_draws(event_size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert bending.find(rng.normal(size=(SIZE, event_size)) @ rng.normal(size=(event_size, event_size))) is None


def funnel(seed: int, size: int = SIZE) -> Array:
    rng = np.random.default_rng(seed)
    v = 3.0 * rng.normal(size=size)
    return np.column_stack([v, np.exp(0.5 * v)[:, None] * rng.normal(size=(size, 9))])


@pytest.mark.parametrize("truncated", [False, True], ids=["whole", "without its neck"])
def test_a_funnel_is_straightened(truncated: bool) -> None:
    z = funnel(0, 4 * SIZE)
    z = z[z[:, 0] > -3.0][:SIZE] if truncated else z[:SIZE]
    found = bending.find(z)
    assert found is not None
    # log sd = v / 2, known from all nine coordinates at once: the standard error is 1 / (2 * 9 * N)^(1/2) per sd of v.
    slopes = found.log_scale[1, 1:] / z[:, 0].std()
    np.testing.assert_allclose(slopes, 0.5, atol=5.0 / (18.0 * SIZE) ** 0.5 / z[:, 0].std())
    assert not found.log_scale[2].any() and not found.mean[2:].any()
    fresh = funnel(1)
    y = found.inverse(fresh[fresh[:, 0] > z[:, 0].min()])[0]
    np.testing.assert_allclose(y[:, 1:].std(0), 1.0, atol=0.15)


def test_a_banana_is_straightened() -> None:
    x, noise = np.random.default_rng(0).normal(size=(2, SIZE))
    found = bending.find(np.column_stack([x, x**2 + 0.3 * noise]))
    assert found is not None and not found.log_scale[1:].any()
    width = found.matrix[1, 1] * np.exp(found.log_scale[0, 1])
    assert abs(width) == pytest.approx(0.3, rel=4.0 / (2.0 * SIZE) ** 0.5)


def test_in_a_hierarchy_the_common_mean_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    mu, log_tau = 3.0 * rng.normal(size=SIZE), rng.normal(size=SIZE)
    theta = mu[:, None] + np.exp(log_tau)[:, None] * rng.normal(size=(SIZE, 6))
    found = bending.find(np.column_stack([theta, mu, log_tau]))
    assert found is not None
    slopes = np.sort(found.log_scale[1, 1:])
    assert slopes[0] == 0.0
    np.testing.assert_allclose(slopes[1:], 1.0, atol=0.1)  # the directions have noise, too


def test_units_do_not_matter() -> None:
    z = funnel(2)
    units = np.geomspace(1e-6, 1e8, 10)
    one, other = bending.find(z), bending.find(5.0 * units + units * z)
    assert one is not None and other is not None
    np.testing.assert_allclose(np.sort(one.log_scale[1]), np.sort(other.log_scale[1]), atol=1e-6)


def small_funnel(z: tf.Tensor) -> tf.Tensor:
    return -(z[:, 0] ** 2) / 18.0 - 0.5 * tf.reduce_sum(z[:, 1:] ** 2, -1) * tf.exp(-z[:, 0]) - z[:, 0]


@pytest.fixture(scope="module")
def fitted() -> Posterior:
    return fit(small_funnel, event_shape=[3], seed=0, progress=False)


def test_the_neck_of_a_funnel_is_reached(fitted: Posterior) -> None:
    neck = np.asarray(fitted.sample(20_000, seed=1))[:, 0]
    assert abs(neck.mean()) < 0.1 * 3.0
    assert neck.std() == pytest.approx(3.0, rel=0.1)
    log_evidence = np.log(3.0) + 1.5 * np.log(2.0 * np.pi)
    assert fitted.elbo.value == pytest.approx(log_evidence, abs=0.1)
    assert len(fitted.whitened.whitening.bends) >= 1


def test_bends_are_saved(fitted: Posterior, tmp_path: Path) -> None:
    fitted.save(tmp_path / "funnel")
    again = load(tmp_path / "funnel", small_funnel, event_shape=[3])
    np.testing.assert_array_equal(fitted.sample(100, seed=3), again.sample(100, seed=3))
    z = fitted.sample_unconstrained(100, seed=3)
    np.testing.assert_array_equal(fitted.log_prob_estimate(z), again.log_prob_estimate(z))


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (Bend, {"matrix": np.zeros((3, 3))}),
        (Bend, {"log_det": np.array(1e3)}),
        (Bend, {"mean": np.zeros((3, 3))}),
        (Bend, {"shift": np.full(3, np.nan)}),
        (Bend, {"unknown": np.zeros(3)}),
        (Ridge, {"mixing": np.zeros((6, 3, 2))}),
        (Ridge, {"mean": np.full((6, 3), np.inf)}),
        (Warp, {"left": np.zeros(2)}),
        (Warp, {"right": np.array("much")}),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else next(iter(part)),
)
def test_damaged_maps_are_refused(kind: Any, damage: dict[str, Array]) -> None:
    sound = {
        Bend: lambda: a_bend(3, 0),
        Ridge: lambda: Ridge(*map(np.zeros, Ridge.shapes(3))),
        Warp: lambda: identity(3),
    }
    content = {"shift": np.zeros(3), "scale_tril": np.eye(3), "bends": [sound[kind]()._asdict()]}
    assert type(checkpoints.checked_whitening(content, 3).bends[0]) is kind
    content["bends"][0] |= damage
    with pytest.raises((ValueError, TypeError)):
        checkpoints.checked_whitening(content, 3)
