"""A target's log density and gradient at NumPy points, with a named error for whatever is raised inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb._text import first_line
from neural_vb._types import Array, Target
from neural_vb.compilation import graph
from neural_vb.errors import DtypeError, GradientError, NeuralVBError, TargetShapeError, TargetValueError

BATCH = 64


class Probe:
    """log p and gradient of a target at NumPy points, in its own precision.

    One point, or padded batches of ``BATCH``: a plain graph for each, traced once. The sizes are static, as in
    training: a user's function may look at them.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._evaluate = graph(self._graph)

    def _graph(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            log_prob = self.target.log_prob(z)
        return log_prob, tape.gradient(log_prob, z)

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """[N, D] -> (log p [N], gradients [N, D]) in float64.

        Raises:
            GradientError: there is no gradient, or NumPy got hold of a tensor.
            DtypeError: the target mixes dtypes.
            TargetShapeError: log p is not one number for each row.
            TargetValueError: anything else that is raised inside the target.
        """
        values, gradients = [], []
        size = 1 if len(points) == 1 else BATCH
        for start in range(0, len(points), size):
            chunk = points[start : start + size]
            padded = np.concatenate([chunk, np.repeat(chunk[:1], size - len(chunk), axis=0)])
            log_prob, gradient = self._run(padded)
            values.append(log_prob[: len(chunk)])
            gradients.append(gradient[: len(chunk)])
        return np.concatenate(values), np.concatenate(gradients)

    def values(self, points: Array) -> Array:
        """log p alone, [N, D] -> [N]."""
        return self(points)[0]

    def _run(self, points: Array) -> tuple[Array, Array]:
        z = tf.constant(points[:, np.newaxis], self.target.dtype)
        with naming():
            log_prob, gradient = self._evaluate(z)
        if log_prob.shape != z.shape[:-1]:
            raise TargetShapeError(
                expected=f"one log density for each row, shape {z.shape[:-1].as_list()} for z of {z.shape.as_list()}",
                got=f"shape {log_prob.shape.as_list()}",
                fix="reduce over the last axis only, and keep the axes [S, B]",
            )
        if gradient is None:
            raise GradientError(
                expected="a log density with a gradient",
                got="None: an operation without derivative lies between the parameters and log p",
                fix="look for tf.round, tf.cast to integers, comparisons, tf.stop_gradient, tf.numpy_function or "
                ".numpy(), and for a result that does not use the parameters (a uniform density has its bounds as "
                "bijector=tfb.Sigmoid(low, high)); write it with differentiable TensorFlow operations, or bring NumPy "
                "code and its gradient in through nvb.numpy_log_prob(value_and_grad)",
            )
        return _float64(log_prob), _float64(gradient)


@contextmanager
def naming(kind: type[Exception] = Exception) -> Iterator[None]:
    """Whatever of a kind comes out of a user's function or model, as an error of ours."""
    try:
        yield
    except NeuralVBError:
        raise
    except kind as error:
        raise _named(error) from error


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    """A user's function whose errors are ours."""

    def call(*arguments: Any) -> Any:
        with naming():
            return function(*arguments)

    return call


def _float64(tensor: tf.Tensor) -> Array:
    """[S, 1, ...] -> NumPy [S, ...]; a gradient may come as indexed slices."""
    return tf.convert_to_tensor(tensor).numpy()[:, 0].astype(np.float64)


def _named(error: Exception) -> NeuralVBError:
    """The error of ours for an exception that came out of the user's function."""
    quoted, text = first_line(error), str(error).lower()
    # float(z), math.exp(z) and the like name the type of the tensor; so does an attribute that no tensor has.
    outside = "numpy" in text or ("symbolictensor" in text and not isinstance(error, AttributeError))
    if outside and not isinstance(error, tf.errors.OpError):
        return GradientError(
            expected="a log density computed with TensorFlow operations",
            got=f"NumPy or plain Python on a tensor inside it ({quoted})",
            fix="replace NumPy, SciPy and math functions of the parameters by TensorFlow's (np.sum -> tf.reduce_sum, "
            "np.exp -> tf.exp, scipy.stats -> tfp.distributions), and leave out .numpy() and float(); or keep the code "
            "and bring its gradient, through nvb.numpy_log_prob(value_and_grad); where data are NumPy arrays, shapes "
            "that do not broadcast against the parameters' [n, ...] end here too",
        )
    mixed = ("float32" in text and "float64" in text) or ("a float tensor" in text and "a double tensor" in text)
    if mixed or "dtype" in text or "that does not match type" in text:
        return DtypeError(
            expected="a log density in one dtype",
            got=quoted,
            fix="build constants and data in the dtype of the arguments, e.g. tf.cast(data, z.dtype)",
        )
    fix = "call log_prob on a batch of points (of a joint: sample it) yourself to find the line"
    if isinstance(error, TypeError) and "argument" in text:
        fix = "give log_prob one argument for each name of event_shape, or one for an event_shape without names; in a "
        fix += "joint give each part the names of parts before it, and the functions it calls what they take"
    if "incompatible shapes" in text or "dimensions must be equal" in text:
        fix += "; where a parameter meets data write mu[:, None] or mu[..., tf.newaxis], for its first axis is that of "
        fix += f"the {BATCH} points on which log_prob is tried together"
    if "out of bounds" in text or " is not in [0, " in text:
        fix += "; it reads coordinates that event_shape=... does not have, or takes another axis for that of "
        fix += "coordinates, which is the last"
    if isinstance(error, tf.errors.OperatorNotAllowedInGraphError):
        fix = "replace Python `if`, `for` and `while` on tensors by tf.where, tf.cond or whole-array operations"
    return TargetValueError(expected="log_prob to run on a batch of points", got=quoted, fix=fix)
