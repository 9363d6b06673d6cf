"""What a log density returns, looked at as far as it is known without running it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb._types import Tensor
from neural_vb.errors import DtypeError, GradientError, NeuralVBError, TargetShapeError, TargetValueError

tfd = tfp.distributions

ROW_FIX = (
    "reduce over the event axes only and keep the leading one, e.g. tf.reduce_sum(..., axis=-1); where a parameter "
    "meets data give it an axis for them, mu[:, None] or mu[..., tf.newaxis]"
)
POINT_FIX = "return a scalar for one point, or drop vectorized=False if the callable takes [n, ...]"


def checked(value: Any, num_rows: int | None, dtype: tf.DType | None, fix: str, *, rank: int = 1) -> Tensor:
    """The callable's result, after looking at everything that is known without running it."""
    if value is None:
        raise TargetValueError(expected="a log density from log_prob", got="None", fix="return the value it computes")
    if not tf.is_tensor(value):
        raise _no_tensor(value)
    if dtype is not None and value.dtype != dtype:
        raise DtypeError(
            expected=f"log_prob to return {dtype.name}, as its arguments are",
            got=value.dtype.name,
            fix="take the dtype from the arguments, e.g. tf.cast(data, z.dtype), or tf.cast the result",
        )
    shape = value.shape
    if shape.rank is None:
        return value
    wrong_rows = rank == 1 and shape.rank == 1 and None not in (num_rows, shape[0]) and shape[0] != num_rows
    if shape.rank != rank or wrong_rows:
        raise TargetShapeError(
            expected=_one_each(num_rows) if rank else "a scalar log density for one point",
            got=f"shape {shape.as_list()}" + (" (a scalar: the rows were summed together)" if not shape.rank else ""),
            fix=fix if shape[-1:].as_list() != [1] else f"drop the last axis of size 1 (tf.squeeze(..., -1)), or {fix}",
        )
    return value


def _one_each(num_rows: int | None) -> str:
    if num_rows is None:
        return "one log density for each of the n points, shape [n]"
    return f"one log density for each of the {num_rows} points on which log_prob is tried together, shape [{num_rows}]"


def _no_tensor(value: Any) -> NeuralVBError:
    kind = f"a {type(value).__module__}.{type(value).__name__}".replace("builtins.", "")
    if isinstance(value, np.ndarray | np.generic | int | float | complex):
        return GradientError(
            expected="log_prob to return a TensorFlow tensor computed from its arguments",
            got=f"{kind}, through which no gradient flows",
            fix="compute it with TensorFlow operations (tf.reduce_sum for np.sum, ...), or bring NumPy code and its "
            "gradient in through nvb.numpy_log_prob(value_and_grad)",
        )
    fix = "return one tensor, the log density alone"
    if isinstance(value, tfd.Distribution):
        fix = "return its log_prob of the data or parameters"
    return TargetValueError(expected="log_prob to return a TensorFlow tensor", got=kind, fix=fix)
