"""The likelihood of the "two moons" task as a TFP distribution: a noisy half circle."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability.python.distributions.distribution import AutoCompositeTensorDistribution

from benchmarks.simulation_references import MOONS_EDGE, MOONS_RADIUS, MOONS_WIDTH

tfd = tfp.distributions

_TINY = 1e-8  # added to r^2: log r and u / r have gradients at the centre, and r on the half circle moves by 5e-8


class Moon(AutoCompositeTensorDistribution):
    """A half circle around ``centre``, open to the left, with Gaussian radius and a uniform angle.

    With x - centre = (u, v) = r (cos a, sin a),

        log p(x) = log N(r; .1, .01^2) - log r + log f(a),   f(a) = sigmoid(cos(a) / edge) / pi,

    in nats; 1 / r is the Jacobian of polar coordinates. The original task has f(a) = 1 / pi for u > 0 and *no* density
    for u < 0, which ``edge=0`` gives: log p = -inf there, and no gradient that leads back. A positive ``edge`` replaces
    the two cut ends of the half circle by steep slopes that are about ``edge`` radians wide. f stays normalised for
    every ``edge``, as sigmoid(t) + sigmoid(-t) = 1, and draws are exact. The price is a total variation of
    2 log(2) edge / pi from the original, .0044 at the default; the other side of the circle lies 1 / edge nats lower.

    Args:
        centre: [..., 2].
        edge: width of the two slopes, in radians; 0 for the original task.
        name: of the distribution.
    """

    def __init__(self, centre: Any, *, edge: float = MOONS_EDGE, name: str = "Moon") -> None:
        # A composite tensor whose arguments are attributes, or else an AutoBatched joint could not hand it out.
        parameters = {"centre": centre, "edge": edge, "name": name}
        self._edge = edge
        with tf.name_scope(name):
            self._centre = tf.convert_to_tensor(centre, dtype_hint=tf.float32)
            super().__init__(
                dtype=self._centre.dtype,
                reparameterization_type=tfd.NOT_REPARAMETERIZED,
                validate_args=False,
                allow_nan_stats=False,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {"centre": tfp.util.ParameterProperties(event_ndims=1)}

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([2])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([2], tf.int32)

    def _default_event_space_bijector(self) -> Any:
        return tfp.bijectors.Identity()

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        shape = tf.concat([[n], self.batch_shape_tensor()], axis=0)
        seeds = tf.unstack(tfp.random.split_seed(seed, n=3))
        noise = tf.random.stateless_normal(shape, seeds[0], dtype=self.dtype)
        angle = tf.random.stateless_uniform(shape, seeds[1], -math.pi, math.pi, self.dtype)
        cosine = tf.cos(angle)
        # A uniform angle, mirrored at the vertical axis with probability sigmoid(-cos(a) / edge), has the density f.
        if self._edge > 0.0:
            uniform = tf.random.stateless_uniform(shape, seeds[2], dtype=self.dtype)
            cosine = tf.where(uniform < tf.sigmoid(cosine / self._edge), cosine, -cosine)
        else:
            cosine = tf.abs(cosine)
        radius = MOONS_RADIUS + MOONS_WIDTH * noise
        return self._centre + radius[..., tf.newaxis] * tf.stack([cosine, tf.sin(angle)], axis=-1)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        offset = x - self._centre
        radius = tf.sqrt(tf.reduce_sum(offset**2, axis=-1) + _TINY)
        square = ((radius - MOONS_RADIUS) / MOONS_WIDTH) ** 2
        log_half = -0.5 * square - math.log(MOONS_WIDTH * math.sqrt(2.0 * math.pi)) - tf.math.log(math.pi * radius)
        if self._edge > 0.0:
            return log_half + tf.math.log_sigmoid(offset[..., 0] / (radius * self._edge))
        return tf.where(offset[..., 0] > 0.0, log_half, tf.constant(-math.inf, self.dtype))
