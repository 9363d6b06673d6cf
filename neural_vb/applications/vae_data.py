"""Data of a variational autoencoder: checked before training, and streamed in minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Tensor
from neural_vb.applications.decoders import Likelihood
from neural_vb.errors import DataError

PEEK = 256


class Source(NamedTuple):
    """Where minibatches come from.

    Attributes:
        shape: of one data point.
        stream: (step, T) -> [T, B, X], float32: the T minibatches from ``step`` on.
    """

    shape: tuple[int, ...]
    stream: Callable[[int, int], Tensor]


def rows(x: Any, likelihood: Likelihood, *, shape: tuple[int, ...] | None = None, name: str = "x") -> Array:
    """Checked data as a matrix [N, X] of the dtype given.

    Args:
        x: [N, *shape].
        likelihood: what the values must suit.
        shape: of one data point; None takes that of ``x``.
        name: for messages.

    Raises:
        DataError: wrong rank or shape, no rows, or values that are no numbers, not finite or outside the likelihood's
            range.
    """
    wanted = "[N, ...]" if shape is None else str(["N", *shape]).replace("'", "")
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise DataError(
            expected=f"{name} as an array {wanted}", got=str(error), fix="pass rows of one shape"
        ) from error
    if x.dtype.kind not in "biuf":
        raise DataError(
            expected=f"{name} as an array of numbers", got=f"dtype {x.dtype}", fix="convert it to float32 or uint8"
        )
    if x.ndim < 2 or (shape is not None and x.shape[1:] != shape):
        fix = "add an axis for the features, x[:, None]" if x.ndim == 1 and shape in (None, (1,)) else "reshape it"
        raise DataError(expected=f"{name} of shape {wanted}", got=f"shape {list(x.shape)}", fix=fix)
    if not x.size:
        raise DataError(
            expected=f"{name} with data", got=f"shape {list(x.shape)}", fix="pass at least one row and one feature"
        )
    flat = x.reshape(len(x), -1)
    if x.dtype.kind == "f":
        broken = np.flatnonzero(~np.isfinite(flat).all(1))
        if broken.size:
            raise DataError(
                expected=f"{name} finite",
                got=f"NaN or infinite numbers in {broken.size} of {len(x)} rows, the first of them row {broken[0]}",
                fix="drop or impute these rows",
            )
    likelihood.check(flat)
    return flat


def source(x: Any, likelihood: Likelihood, *, batch_size: int, seed: int) -> Source:
    """Minibatches from an array or a ``tf.data.Dataset`` of single data points.

    An array stays where it is: each window takes its rows, in shuffled passes, as a function of seed and step. A data
    set is read in its own order, again and again, and checked as it is read.

    Args:
        x: [N, *shape], or a data set of elements [*shape].
        likelihood: what the values must suit.
        batch_size: B.
        seed: of the shuffling.

    Raises:
        DataError: see :func:`rows`.
    """
    if isinstance(x, tf.data.Dataset):
        return _from_dataset(x, likelihood, batch_size)
    flat = rows(x, likelihood)

    def stream(step: int, num: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        count = num * batch_size
        passes = np.tile(np.arange(len(flat)), (-(-count // len(flat)), 1))
        chosen = flat[rng.permuted(passes, axis=1).ravel()[:count]]
        return tf.constant(chosen.reshape(num, batch_size, -1), tf.float32)

    return Source(tuple(np.shape(x)[1:]), stream)


def _from_dataset(dataset: tf.data.Dataset, likelihood: Likelihood, batch_size: int) -> Source:
    spec = dataset.element_spec
    if not isinstance(spec, tf.TensorSpec):
        raise DataError(
            expected="a data set of single tensors",
            got=f"elements {spec}",
            fix="keep the data only, dataset.map(lambda x, label: x)",
        )
    peek = next(iter(dataset.batch(PEEK).as_numpy_iterator()), None)
    if peek is None:
        raise DataError(expected="a data set with elements", got="none", fix="pass at least one data point")
    rows(peek, likelihood)
    shape = tuple(peek.shape[1:])
    state: dict[int, Any] = {}

    def stream(step: int, num: int) -> Tensor:
        count = num * batch_size
        if count not in state:
            state[count] = dataset.repeat().batch(count, drop_remainder=True).prefetch(1).as_numpy_iterator()
        flat = rows(next(state[count]), likelihood, shape=shape, name="the data set's next elements")
        return tf.constant(flat.reshape(num, batch_size, -1), tf.float32)

    return Source(shape, stream)
