"""Ridges: inverse and Jacobian, and posteriors whose conditionals and marginal along t are known."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from neural_vb import curving, ridges
from neural_vb._types import Array, Density
from neural_vb.ridges import Ridge

SIZE = 2_048


def a_ridge(event_size: int, seed: int, scale: float = 0.2) -> Ridge:
    mean, log_scale, mixing = (
        scale * np.random.default_rng(seed).normal(size=shape) for shape in Ridge.shapes(event_size)
    )
    mixing = np.tril(mixing, -1)
    for part in (mean, log_scale, mixing):
        part[..., 0] = 0.0
    return Ridge(mean, log_scale, mixing)


def through(ridge: Ridge, log_density: stats.rv_continuous) -> Density:
    """Log density, up to a constant of .7 nats, where t has the given one and all others are normal given t."""

    def evaluate(w: Array) -> tuple[Array, Array]:
        points = tf.constant(w)
        with tf.GradientTape() as tape:
            tape.watch(points)
            # Forward substitution, as the inverse is NumPy's.
            t = points[:, :1]
            basis = tf.constant(ridges._basis(w[:, 0]))
            columns = [t]
            for i in range(1, w.shape[1]):
                rest = points[:, i : i + 1] - basis @ ridge.mean[:, i : i + 1]
                for j in range(1, i):
                    rest -= basis @ ridge.mixing[:, i, j : j + 1] * columns[j]
                columns.append(rest * tf.exp(-basis @ ridge.log_scale[:, i : i + 1]))
            x = tf.concat(columns[1:], 1)
            value = -0.5 * tf.reduce_sum(x**2 + np.log(2.0 * np.pi), 1)
            value -= tf.reduce_sum(basis @ ridge.log_scale[:, 1:], 1)
        score = tape.gradient(value, points).numpy()
        return value.numpy() + log_density.logpdf(w[:, 0]) + 0.7, score

    return evaluate


def test_inverse_and_jacobian() -> None:
    ridge = a_ridge(5, 0)
    x = np.random.default_rng(2).normal(size=(6, 5))
    w, log_det = ridge.forward(tf.constant(x))
    back, again = ridge.inverse(w.numpy())
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(again, log_det, atol=1e-9)
    with tf.GradientTape() as tape:
        points = tf.constant(x)
        tape.watch(points)
        ends = ridge.forward(points)[0]
    np.testing.assert_allclose(np.linalg.slogdet(tape.batch_jacobian(ends, points).numpy())[1], log_det, atol=1e-9)


@pytest.mark.parametrize("density", [stats.norm(0.2, 1.1), stats.loggamma(0.8)], ids=["normal t", "exponential tail"])
def test_what_a_ridge_can_be_is_found(density: stats.rv_continuous) -> None:
    """From draws that follow a tenth of it: the constant is the bound, without variance but for that of a warp."""
    truth = a_ridge(4, 1)
    rng = np.random.default_rng(0)
    x = np.concatenate([density.rvs((SIZE, 1), random_state=rng), 0.9 * rng.normal(size=(SIZE, 3)) + 0.1], 1)
    evaluate = through(truth, density)
    found = ridges.fit(evaluate, truth.forward(tf.constant(x))[0].numpy(), seed=[0])
    assert found is not None
    y = np.random.default_rng(5).normal(size=(20_000, 4))
    log_prob, _ = curving.inside(found, evaluate)(y)
    gaps = log_prob - stats.norm.logpdf(y).sum(1)
    assert gaps.mean() == pytest.approx(0.7, abs=0.01)
    assert 0.5 * gaps.var() < 0.01
    t = found[1].forward(tf.constant(y))[0].numpy()[:, 0]
    assert t.mean() == pytest.approx(density.mean(), abs=0.03 * density.std())
    assert t.std() == pytest.approx(density.std(), rel=0.03)


def test_the_same_seed_gives_the_same_ridge() -> None:
    density = stats.norm()
    evaluate = through(a_ridge(3, 2), density)
    w = np.random.default_rng(0).normal(size=(SIZE, 3))
    one, other = ridges.fit(evaluate, w, seed=[3]), ridges.fit(evaluate, w, seed=[3])
    assert one is not None and other is not None
    for ours, theirs in zip((*one[0], *one[1]), (*other[0], *other[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_none_beyond_the_support() -> None:
    def evaluate(w: Array) -> tuple[Array, Array]:
        inside = (np.abs(w) < 1.0).all(1)
        return np.where(inside, 0.0, -np.inf), np.where(inside[:, np.newaxis], 0.0, np.nan) * w

    assert ridges.fit(evaluate, np.random.default_rng(0).uniform(-1.0, 1.0, (SIZE, 3)), seed=[0]) is None
