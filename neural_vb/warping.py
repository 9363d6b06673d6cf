"""Monotone maps of single coordinates: skewness and the weight of each tail, found from draws.

The sinh-arcsinh family (Jones & Pewsey, "Sinh-arcsinh distributions", Biometrika 96, 2009) with a power for each tail:

    x = l + s sinh(alpha),    alpha = c + b a + d ((1 + a^2)^(1/2) - 1),    a = arcsinh(y).

Far to the left x goes with |y|^(b - d), far to the right with y^(b + d): one for a Gaussian tail, two for an
exponential one, as that of a log scale towards a scale of zero, and less than one for tails lighter than a Gaussian's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize

from neural_vb._types import Array, Tensor

SHAPES = 3  # numbers of a warp that are no location and no scale
BOUNDS = ((-30.0, 30.0), (-10.0, 10.0), (-6.0, 6.0), (-2.0, 1.2), (-2.0, 1.2))
WORTH = 0.005  # nats for each shape, in many draws
NEGLIGIBLE = 1e-12


class Warp(NamedTuple):
    """y -> x, in float64, coordinate by coordinate.

    Attributes:
        shift: l, [D].
        log_scale: log s, [D].
        centre: c, [D].
        left: log(b - d), [D].
        right: log(b + d), [D].
    """

    shift: Any
    log_scale: Any
    centre: Any
    left: Any
    right: Any

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] -> x [..., D], log |det dx/dy| [...]."""
        # One exponential of all three: TensorFlow takes 10 ms to hand XLA each, whatever its size.
        left, right, scale = tf.unstack(tf.exp(tf.stack([self.left, self.right, self.log_scale])))
        both, odd = 0.5 * (left + right), 0.5 * (right - left)
        # Roots, logarithms and one exponential in place of arcsinh, sinh and cosh, which XLA compiles for long. Near
        # zero they are exact to the last digit of one, not of themselves; beyond 1e154 they are not finite.
        stretch, side = tf.sqrt(1.0 + y**2), tf.where(y < 0.0, -tf.ones_like(y), tf.ones_like(y))
        a = side * tf.math.log(side * y + stretch)
        root = tf.sqrt(1.0 + a**2)
        up = tf.exp(self.centre + both * a + odd * (root - 1.0))
        down = 1.0 / up
        log_slope = self.log_scale + tf.math.log(0.5 * (up + down) * (both + odd * a / root) / stretch)
        return self.shift + scale * 0.5 * (up - down), tf.reduce_sum(log_slope, -1)

    def inverse(self, x: Array) -> tuple[Array, Array]:
        """[N, D] -> y [N, D], log |det dx/dy| [N]."""
        left, right = np.exp(self.left), np.exp(self.right)
        both, odd = 0.5 * (left + right), 0.5 * (right - left)
        c = np.arcsinh((x - self.shift) * np.exp(-self.log_scale)) - self.centre + odd
        y = np.sinh((both * c - odd * np.sqrt(c**2 + left * right)) / (left * right))
        return y, self.forward(tf.constant(y))[1].numpy()

    @staticmethod
    def shapes(event_size: int) -> tuple[tuple[int, ...], ...]:
        """Of the attributes in D dimensions."""
        return ((event_size,),) * 5


def identity(event_size: int) -> Warp:
    """x = y."""
    return Warp(*np.zeros([5, event_size]))


def fit(x: Array) -> tuple[Warp, int]:
    """The warp after which each coordinate is nearest to standard Gaussian, and how many shapes were chosen.

    By largest likelihood. A coordinate whose skewness and kurtosis could not pay for the shapes, or whose likelihood
    does not, keeps its own, and is standardised.

    Args:
        x: [N, D] draws.
    """
    size = len(x)
    penalty = SHAPES * max(0.5 * math.log(size) / size, WORTH)
    mean, scale = x.mean(0), x.std(0) + 1e-300
    centred = (x - mean) / scale
    # Of a nearly Gaussian density these are the first terms of its negentropy.
    promise = (centred**3).mean(0) ** 2 / 12.0 + ((centred**4).mean(0) - 3.0) ** 2 / 48.0
    found, chosen = np.zeros([5, x.shape[1]]), 0
    for i in np.flatnonzero(promise > 0.5 * penalty):
        numbers, cost = _largest(centred[:, i], np.full(size, 1.0 / size), np.median(centred[:, i]))
        if 0.5 - cost > penalty:
            found[:, i] = numbers
            chosen += 1
    found[0] = mean + scale * found[0]
    found[1] += np.log(scale)
    return Warp(*found), SHAPES * chosen


def of_density(x: Array, log_prob: Array) -> Warp:
    """The warp of one coordinate whose density is nearest to the one known at a fine grid x [N], KL(p || q)."""
    weights = np.exp(log_prob - log_prob.max())
    weights /= weights.sum()
    mean = weights @ x
    scale = math.sqrt(weights @ (x - mean) ** 2) + 1e-300
    seen = weights > NEGLIGIBLE
    numbers, _ = _largest((x[seen] - mean) / scale, weights[seen], 0.0)
    return Warp(*(numbers * [scale, 1.0, 1.0, 1.0, 1.0] + [mean, math.log(scale), 0.0, 0.0, 0.0])[:, np.newaxis])


def _largest(x: Array, weights: Array, shift: float) -> tuple[Array, float]:
    """The five numbers with the largest likelihood of weighted points x [N], and its negative, nats."""
    start = np.array([shift, 0.0, 0.0, 0.0, 0.0])
    found = optimize.minimize(_cost, start, args=(x, weights), jac=True, method="L-BFGS-B", bounds=BOUNDS)
    return (found.x, float(found.fun)) if np.isfinite(found.fun) else (start, np.inf)


def _cost(numbers: Array, x: Array, weights: Array) -> tuple[float, Array]:
    """Mean of y^2 / 2 + log dx/dy at y = y(x), x [N], and its gradient in the five numbers."""
    shift, log_scale, centre, left, right = numbers
    left, right, scale = np.exp(left), np.exp(right), np.exp(log_scale)
    both, odd = 0.5 * (left + right), 0.5 * (right - left)
    c = np.arcsinh((x - shift) / scale) - centre + odd
    a = (both * c - odd * np.sqrt(c**2 + left * right)) / (left * right)
    y, stretch = np.sinh(a), np.cosh(a)
    root = np.sqrt(1.0 + a**2)
    alpha, rate = centre + both * a + odd * (root - 1.0), both + odd * a / root
    tanh, cosh = np.tanh(alpha), np.cosh(alpha)
    slope = scale * cosh * rate / stretch
    cost = float(weights @ (0.5 * y**2 + np.log(slope)))
    bend = (tanh * rate + odd / root**3 / rate) / stretch - y / stretch**2  # of log slope, in y
    zero, one = np.zeros_like(y), np.ones_like(y)
    # Derivatives at fixed y in (l, log s, c, b, d): of alpha, of its rate, of x, of log slope.
    in_alpha = np.stack([zero, zero, one, a, root - 1.0])
    in_rate = np.stack([zero, zero, zero, one, a / root])
    in_x = np.concatenate([[one, scale * np.sinh(alpha)], scale * cosh * in_alpha[2:]])
    in_log_slope = tanh * in_alpha + in_rate / rate
    in_log_slope[1] += 1.0
    gradient = (in_log_slope - (y + bend) * in_x / slope) @ weights
    gradient[3:] = 0.5 * left * (gradient[3] - gradient[4]), 0.5 * right * (gradient[3] + gradient[4])
    return cost, gradient
