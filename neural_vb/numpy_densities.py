"""The explicit slow path: a log density and its gradient that NumPy code computes.

PyMC, BridgeStan, Numba or a simulator with an adjoint come in here. The price is one call into Python for each point
and no XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb._text import a_kind, first_line, shown
from neural_vb._types import Array, Tensor
from neural_vb.errors import (
    ConfigurationError,
    DtypeError,
    GradientError,
    NeuralVBError,
    TargetShapeError,
    TargetValueError,
)

ValueAndGrad = Callable[[Array], tuple[Any, Any]]


@dataclass(frozen=True)
class NumPyLogProb:
    """See :func:`numpy_log_prob`.

    Attributes:
        value_and_grad: the user's function.
        vectorized: whether it takes many points at once.
        jit_compile: False: XLA cannot call Python.
        raised: what it raised when TensorFlow called it, which makes an error of its own of that.
    """

    value_and_grad: ValueAndGrad
    vectorized: bool = False
    jit_compile: bool = False
    raised: list[BaseException] = field(default_factory=list, init=False, repr=False, compare=False)

    def __call__(self, points: Tensor) -> Tensor:
        """[n, *event] -> [n], differentiable once."""
        points = tf.convert_to_tensor(points)
        # Linear around a frozen point: TensorFlow would keep every trace of the same as a tf.custom_gradient for ever.
        frozen = tf.stop_gradient(points)
        value, gradient = tf.numpy_function(self._rows, [tf.cast(frozen, tf.float64)], [tf.float64, tf.float64])
        value = tf.cast(tf.ensure_shape(value, points.shape[:1]), points.dtype)
        gradient = tf.cast(tf.ensure_shape(gradient, points.shape), points.dtype)
        # Zero times an infinite gradient is zero here, and the gradient stays what it is.
        moved = tf.math.multiply_no_nan(tf.stop_gradient(gradient), points - frozen)
        return tf.stop_gradient(value) + tf.reduce_sum(moved, list(range(1, points.shape.rank)))

    def _rows(self, points: Array) -> tuple[Array, Array]:
        try:
            return self.rows(points)
        except BaseException as error:  # an interrupt too, of which TensorFlow would make an error
            self.raised[:] = [error]
            raise

    def rows(self, points: Array) -> tuple[Array, Array]:
        """[n, *event] -> (log p [n], gradients [n, *event]) in float64, from the user's own function.

        Raises:
            TargetShapeError, GradientError, DtypeError: what the function returns has the wrong shape or is no number.
        """
        with np.errstate(all="ignore"):  # far from the bulk ordinary models overflow
            points = np.array(points)  # a function that writes to its argument would write to a tensor
            calls = (points,) if self.vectorized else points
            found = [self._pair(self.value_and_grad(call)) for call in calls]
        lead = points.shape[:1] if self.vectorized else ()
        shape = points.shape if self.vectorized else points.shape[1:]
        for value, gradient in found:
            if value.shape != lead and not (value.shape == (1,) and lead == ()):
                raise TargetShapeError(
                    expected=f"value_and_grad to return log p of shape {list(lead)}",
                    got=f"shape {list(value.shape)}",
                    fix="return (log p, gradient); a scalar for one point, [n] for [n, D] with vectorized=True",
                )
            if gradient.shape != shape:
                raise GradientError(
                    expected=f"value_and_grad to return a gradient of shape {list(shape)}, that of its argument",
                    got=f"shape {list(gradient.shape)}",
                    fix="return (log p, gradient); pass vectorized=True for a function that takes [n, D]",
                )
        values = np.concatenate([value.reshape(-1) for value, _ in found])
        return values, np.reshape([gradient for _, gradient in found], points.shape)

    def _pair(self, found: Any) -> tuple[Array, Array]:
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise GradientError(
                expected="value_and_grad to return a pair (log p, gradient)",
                got=a_kind(found),
                fix="return both, as NumPy arrays or numbers; a log density without a gradient cannot be fitted",
            )
        try:
            return np.array(found[0], np.float64), np.array(found[1], np.float64)  # the next call may use them again
        except (TypeError, ValueError) as error:
            raise DtypeError(
                expected="value_and_grad to return real numbers",
                got=str(error),
                fix="return (log p, gradient) as NumPy arrays or numbers",
            ) from error


@contextmanager
def naming_raised(target: Any) -> Iterator[None]:
    """What a target's NumPy function raises inside of TensorFlow, as the cause of an error of ours.

    Raises:
        TargetValueError: it raised something.
    """
    slow = getattr(target, "log_prob_fn", None)
    try:
        yield
    except tf.errors.OpError:
        if not isinstance(slow, NumPyLogProb) or not slow.raised:
            raise
        cause = slow.raised.pop()
        if isinstance(cause, NeuralVBError) or not isinstance(cause, Exception):
            raise cause from None
        raise TargetValueError(
            expected="value_and_grad to run at every point",
            got=first_line(cause),
            fix="return -inf and any gradient where the density is zero or cannot be computed",
        ) from cause


def numpy_log_prob(value_and_grad: ValueAndGrad, *, vectorized: bool = False) -> NumPyLogProb:
    """A log density that NumPy computes, as a callable for :func:`neural_vb.fit`: slow, but it takes any code.

    The gradient is compared with differences of log p before training. XLA is off for such a target, every evaluation
    calls Python, and a save file never holds the function: pass it again to ``load``.

    >>> import numpy as np
    >>> normal = numpy_log_prob(lambda z: (-0.5 * (z**2).sum(), -z))
    >>> normal(np.zeros([5, 2])).shape
    TensorShape([5])

    Args:
        value_and_grad: from a point [D] (float64) to log p in nats, up to a constant, and its gradient [D]. It may
            return -inf outside of the support. What it raises ends the fit, as the cause of a named error.
        vectorized: it takes points [n, D] and returns [n] and [n, D].

    Raises:
        ConfigurationError: ``value_and_grad`` is no function.
    """
    if not callable(value_and_grad) or isinstance(value_and_grad, type):
        raise ConfigurationError(
            expected="value_and_grad as a function from a point to (log p, gradient)",
            got=shown(value_and_grad),
            fix="pass a function, such as lambda z: (-0.5 * (z**2).sum(), -z)",
        )
    if not isinstance(vectorized, bool):
        raise ConfigurationError(expected="vectorized as True or False", got=shown(vectorized), fix="pass one of them")
    return NumPyLogProb(value_and_grad, vectorized)
