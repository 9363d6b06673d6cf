"""Kernel tests: their level under the hypothesis, their power beside it, and the Stein kernel against a naive twin."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import binom

from neural_vb.diagnostics import kernels


def test_the_stein_kernel_against_automatic_differentiation() -> None:
    rng = np.random.default_rng(0)
    x, y, sx, sy = rng.standard_normal((4, 3))

    def kernel(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return (1.0 + tf.reduce_sum((x - y) ** 2)) ** -0.5

    x_, y_ = tf.constant(x), tf.constant(y)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([x_, y_])
        with tf.GradientTape() as inner:
            inner.watch(y_)
            k = kernel(x_, y_)
        by_y = inner.gradient(k, y_)
        parts = tf.unstack(by_y)
    trace = sum(float(outer.gradient(part, x_)[i]) for i, part in enumerate(parts))
    by_x = -by_y.numpy()
    expected = sx @ sy * float(k) + sx @ by_y.numpy() + sy @ by_x + trace
    diagonal = sum(s @ s + 3.0 for s in (sx, sy))  # k = 1, no gradient, trace D
    found = kernels.stein_discrepancy(np.stack([x, y]), np.stack([sx, sy])).statistic
    assert found == pytest.approx((diagonal + 2.0 * expected) / 4.0)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_stein_level_and_power(shift: float) -> None:
    rejections = 0
    for seed in range(20):
        u = shift + np.random.default_rng(seed).standard_normal((300, 2))
        rejections += kernels.stein_discrepancy(u, -u, seed=seed).pvalue < 0.05
    assert rejections <= binom.isf(1e-4, 20, 0.05) if shift == 0.0 else rejections >= 18


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_mean_discrepancy_level_and_power(shift: float) -> None:
    rejections = 0
    for seed in range(20):
        both = np.random.default_rng(seed).standard_normal((2, 200, 2))
        rejections += kernels.mean_discrepancy(both[0], both[1] + shift, seed=seed).pvalue < 0.05
    assert rejections <= binom.isf(1e-4, 20, 0.05) if shift == 0.0 else rejections >= 18
