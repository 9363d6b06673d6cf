"""Every ratio loss is minimised at log q - log r, with a minimum of known meaning."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize

from neural_vb import archives, ratio_losses
from neural_vb.ratio_losses import RATIO_LOSSES

# Two distributions on five points, each as counts of draws, so that a mean over draws is an exact expectation.
Q_COUNTS = np.array([1, 4, 10, 3, 2])
R_COUNTS = np.array([6, 5, 4, 3, 2])
Q, R = Q_COUNTS / Q_COUNTS.sum(), R_COUNTS / R_COUNTS.sum()
OPTIMUM = np.log(Q / R)


def value_and_gradient(name: str, critic: np.ndarray) -> tuple[float, np.ndarray]:
    values = tf.constant(critic, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        logits = [tf.repeat(values, counts)[:, tf.newaxis] for counts in (Q_COUNTS, R_COUNTS)]
        loss = RATIO_LOSSES[name](*logits)
    assert loss.shape == ()
    return float(loss), tape.gradient(loss, values).numpy()


def test_every_public_loss_is_in_the_registry_under_its_name() -> None:
    functions = inspect.getmembers(ratio_losses, inspect.isfunction)
    public = {name: f for name, f in functions if f.__module__ == ratio_losses.__name__ and not name.startswith("_")}
    assert public == RATIO_LOSSES
    assert public.items() <= archives.FUNCTIONS.items()


@pytest.mark.parametrize("name", RATIO_LOSSES)
def test_the_log_ratio_is_stationary(name: str) -> None:
    np.testing.assert_allclose(value_and_gradient(name, OPTIMUM)[1], 0.0, atol=1e-14)


@pytest.mark.parametrize("start", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("name", RATIO_LOSSES)
def test_the_log_ratio_is_the_minimiser(name: str, start: float) -> None:
    found = minimize(
        lambda critic: value_and_gradient(name, critic), np.full(5, start), jac=True, method="BFGS", tol=1e-10
    )
    np.testing.assert_allclose(found.x, OPTIMUM, atol=1e-5)


@pytest.mark.parametrize("name", RATIO_LOSSES)
def test_the_loss_is_above_its_minimum_elsewhere(name: str) -> None:
    least = value_and_gradient(name, OPTIMUM)[0]
    rng = np.random.RandomState(1)
    assert all(value_and_gradient(name, OPTIMUM + 0.3 * rng.randn(5))[0] > least for _ in range(20))


def test_minima_in_closed_form() -> None:
    mixture = 0.5 * (Q + R)
    jensen_shannon = 0.5 * (Q @ np.log(Q / mixture) + R @ np.log(R / mixture))
    minima = {
        "logistic": 2.0 * np.log(2.0) - 2.0 * jensen_shannon,
        "kliep": -(Q @ np.log(Q / R)),
        "lsif": -0.5 * (Q @ (Q / R)),
    }
    assert minima.keys() == RATIO_LOSSES.keys()
    for name, minimum in minima.items():
        assert value_and_gradient(name, OPTIMUM)[0] == pytest.approx(minimum, abs=1e-12)


def test_the_logistic_loss_is_stable_for_huge_logits() -> None:
    huge = tf.fill([4, 1], 1e4)
    assert float(ratio_losses.logistic(huge, -huge)) == 0.0
    assert float(ratio_losses.logistic(-huge, huge)) == 2e4
