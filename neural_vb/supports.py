"""Supports of distributions: a map from R^D onto each, and the measure that its density is with respect to.

TFP's defaults are mended where a posterior, or its evidence, would be wrong:

- mixtures have none;
- that of a sphere in R^K reaches one of its 2^K orthants;
- that of a Wishart matrix takes the softplus of its Cholesky factor's diagonal twice, which so is above log 2;
- the log-Jacobian of a correlation matrix is that of a matrix whose diagonal is free, and that of a factor
  (``input_output_cholesky``) leaves out the outer product, though the density is still that of the matrix;
- the log-Jacobian of a simplex is that of its area, while densities on it, such as the Dirichlet's, are with respect to
  its first K - 1 coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions

SPHERES = (tfd.PowerSpherical, tfd.SphericalUniform, tfd.VonMisesFisher)


def bare(distribution: Any) -> Any:
    """The distribution inside ``Independent`` and ``Sample``, which only add axes."""
    while isinstance(distribution, tfd.Independent | tfd.Sample):
        distribution = distribution.distribution
    return distribution


def is_mended(distribution: Any) -> bool:
    """Whether the bijector of a distribution's support is another one than TFP's default."""
    inner = bare(distribution)
    return _own(inner) is not None or inner.experimental_default_event_space_bijector() is None


def bijector_of(distribution: Any) -> Any:
    """Bijector from unconstrained space onto a distribution's support; None when none is known.

    A mixture has that of its components, when all share one support by a map without parameters of its own.
    """
    inner = bare(distribution)
    own = _own(inner)
    if own is not None:
        return own
    if inner.experimental_default_event_space_bijector() is not None:
        return distribution.experimental_default_event_space_bijector()
    if isinstance(inner, tfd.MixtureSameFamily):
        found = [bijector_of(inner.components_distribution)]
    elif isinstance(inner, tfd.Mixture):
        found = [bijector_of(component) for component in inner.components]
    else:
        return None
    kinds = {type(bijector) for bijector in found}
    return found[0] if kinds in [{kind} for kind in (tfb.Identity, tfb.Softplus, tfb.Exp)] else None


def _own(distribution: Any) -> Any:
    """The bijector that stands for a wrong default; None where there is none."""
    if isinstance(distribution, SPHERES):
        return Sphere()
    if isinstance(distribution, tfd.WishartLinearOperator):
        outer, factor = CovarianceOuterProduct(), tfb.FillScaleTriL(diag_shift=None)
    elif isinstance(distribution, tfd.LKJ):
        outer, factor = CorrelationOuterProduct(), tfb.CorrelationCholesky()
    else:
        return None
    # With the flag a draw is the factor, and its density still that of the matrix.
    return tfb.Chain([MeasuredAfter(outer) if distribution.input_output_cholesky else outer, factor])


def log_area_of(distribution: Any, shape: Sequence[int]) -> float:
    """``log_area`` of the bijector of a distribution's support, for draws of ``shape``."""
    inner = bare(distribution)
    if not isinstance(bijector_of(inner), tfb.SoftmaxCentered):
        return 0.0
    parts = inner.event_shape[-1]
    return 0.5 * math.log(parts) * math.prod(shape) / parts


def log_area(bijector: Any, shape: Sequence[int]) -> float:
    """What TFP's log-Jacobian has too much, in nats: .5 log K for each simplex of K parts.

    Args:
        bijector: None, or a TFP bijector; simplices inside chains and blocks count.
        shape: of what it is given.
    """
    if isinstance(bijector, tfb.SoftmaxCentered):
        return 0.5 * math.log(shape[-1] + 1) * math.prod(shape[:-1])
    total = 0.0
    if isinstance(bijector, tfb.Chain):
        for step in reversed(bijector.bijectors):
            total += log_area(step, shape)
            shape = step.forward_event_shape(tf.TensorShape(shape)).as_list()
    elif isinstance(bijector, tfb.Blockwise):
        for block, size in zip(bijector.bijectors, np.atleast_1d(bijector.block_sizes), strict=True):
            total += log_area(block, [*shape[:-1], int(size)])
    return total


class CovarianceOuterProduct(tfp.bijectors.CholeskyOuterProduct):
    """L -> L L', with a diagonal so little larger that the matrix has a Cholesky factor after rounding, too."""

    def _forward(self, factor: Any) -> Any:
        matrix = super()._forward(factor)
        return tf.linalg.set_diag(matrix, (1.0 + _rounding(matrix)) * tf.linalg.diag_part(matrix))


class CorrelationOuterProduct(tfp.bijectors.CholeskyOuterProduct):
    """L -> L L', the correlation matrix of its Cholesky factor, whose rows have length one; invertible after rounding.

    From the entries of L below its diagonal to those of the matrix, log |d (L L') / d L| = sum_j (K - j) log L_jj, for
    j = 1, ..., K   [nats].
    """

    def _forward(self, factor: Any) -> Any:
        matrix = super()._forward(factor)
        return tf.linalg.set_diag((1.0 - _rounding(matrix)) * matrix, tf.ones_like(factor[..., 0]))

    def _forward_log_det_jacobian(self, factor: Any) -> Any:
        size = factor.shape[-1]
        return tf.reduce_sum(tf.range(size - 1, -1, -1, factor.dtype) * tf.math.log(tf.linalg.diag_part(factor)), -1)

    def _inverse_log_det_jacobian(self, matrix: Any) -> Any:
        return -self._forward_log_det_jacobian(self._inverse(matrix))


def _rounding(matrix: Any) -> float:
    """More than an entry of a product of two K x K matrices is off by, in units of its diagonal."""
    return 4.0 * matrix.shape[-1] * float(np.finfo(matrix.dtype.as_numpy_dtype).eps)


class MeasuredAfter(tfp.bijectors.Bijector):
    """Leaves a value as it is, and has the log-Jacobian of a bijector whose output its density is with respect to."""

    def __init__(self, bijector: Any, name: str = "measured_after") -> None:
        self._bijector = bijector
        parameters = {"bijector": bijector, "name": name}
        super().__init__(forward_min_event_ndims=bijector.forward_min_event_ndims, parameters=parameters, name=name)

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:
        return {}

    def _forward(self, value: Any) -> Any:
        return tf.identity(value)

    def _inverse(self, value: Any) -> Any:
        return tf.identity(value)

    def _forward_log_det_jacobian(self, value: Any) -> Any:
        return self._bijector.forward_log_det_jacobian(value, self.forward_min_event_ndims)


class Sphere(tfp.bijectors.Bijector):
    """R^(K-1) onto the unit sphere in R^K without its lowest point -e_K, at angle phi(r) from e_K.

    A stereographic map after v -> v sinh(r) / r with r = |v|, so that tails are exponential and not powers:

        x = (2 v / r sinh(r) / cosh(r)^2, 2 / cosh(r)^2 - 1),

        log |dx / dv| = (K - 1) log(2 / cosh(r)^2) + log cosh(r) + (K - 2) log(sinh(r) / r)   [nats, of area].
    """

    def __init__(self, name: str = "sphere") -> None:
        super().__init__(forward_min_event_ndims=1, parameters={"name": name}, name=name)

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:
        return {}

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(None if shape[-1] is None else shape[-1] + 1)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(None if shape[-1] is None else shape[-1] - 1)

    def _forward_event_shape_tensor(self, shape: Any) -> Any:
        return tf.concat([shape[:-1], shape[-1:] + 1], 0)

    def _inverse_event_shape_tensor(self, shape: Any) -> Any:
        return tf.concat([shape[:-1], shape[-1:] - 1], 0)

    def _forward(self, v: Any) -> Any:
        r = _length(v)
        sech = _sech(r)
        return tf.concat([2.0 * v / r * tf.tanh(r) * sech, 2.0 * sech**2 - 1.0], -1)

    def _inverse(self, x: Any) -> Any:
        head, height = x[..., :-1], x[..., -1:]
        u = head / (1.0 + height)
        length = _length(u)
        return u / length * tf.asinh(length)

    def _forward_log_det_jacobian(self, v: Any) -> Any:
        free = v.shape[-1]
        r = _length(v)
        log_cosh = -tf.math.log(_sech(r))
        log_ratio = log_cosh + tf.math.log(tf.tanh(r) / r)
        log_det = free * math.log(2.0) + (1 - 2 * free) * log_cosh + (free - 1) * log_ratio
        return log_det[..., 0]


def _length(v: Any) -> Any:
    """|v|, [..., 1]; a little more than zero at zero, where it has no gradient."""
    return tf.sqrt(tf.reduce_sum(v**2, -1, keepdims=True) + tf.constant(np.finfo(v.dtype.as_numpy_dtype).tiny, v.dtype))


def _sech(r: Any) -> Any:
    """1 / cosh(r), for r >= 0, without an overflow."""
    return 2.0 * tf.exp(-r) / (1.0 + tf.exp(-2.0 * r))


def joint_bijector(pinned: Any, auto_batched: bool) -> Any:
    """TFP's own bijector of a pinned joint with these supports; its public method takes the defaults alone."""
    from tensorflow_probability.python.distributions import joint_distribution as plain
    from tensorflow_probability.python.experimental.distributions import joint_distribution_pinned as with_pins

    if not auto_batched:
        kind = plain._DefaultJointBijector
    elif isinstance(pinned, with_pins.JointDistributionPinned):
        kind = with_pins._DefaultJointBijectorAutoBatchedWithPins
    else:
        kind = plain._DefaultJointBijectorAutoBatched
    return kind(pinned, bijector_fn=bijector_of)
