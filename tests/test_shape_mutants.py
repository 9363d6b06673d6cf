"""Forty ways to get the axes of a correct log density wrong: not one of them is fitted in silence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from neural_vb.errors import NeuralVBError
from neural_vb.optima import dispersed_points
from neural_vb.preflight import examine
from neural_vb.targets import LogProbTarget

X = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)  # as many rows as points are looked at
Y = X @ np.float32([1.0, -1.0, 0.5])


def sum_(value: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(value, -1)


def model(w: tf.Tensor) -> tf.Tensor:
    """Linear regression: w [n, 3] -> [n]."""
    residual = tf.cast(Y, w.dtype) - tf.einsum("ni,mi->nm", w, tf.cast(X, w.dtype))
    return -0.5 * sum_(residual**2) - 0.5 * sum_(w**2)


def x(w: tf.Tensor) -> tf.Tensor:
    return tf.cast(X, w.dtype)


def y(w: tf.Tensor) -> tf.Tensor:
    return tf.cast(Y, w.dtype)


def prior(w: tf.Tensor) -> tf.Tensor:
    return -0.5 * sum_(w**2)


MUTANTS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "all summed": lambda w: tf.reduce_sum(model(w)),
    "all averaged": lambda w: tf.reduce_mean(model(w)),
    "likelihood summed over draws": lambda w: prior(w) - 0.5 * tf.reduce_sum((y(w) - w @ tf.transpose(x(w))) ** 2),
    "prior summed over draws": lambda w: model(w) - 0.5 * tf.reduce_sum(w**2),
    "prior averaged over draws": lambda w: model(w) - 0.5 * tf.reduce_mean(w**2),
    "summed over the wrong axis": lambda w: -0.5 * tf.reduce_sum((y(w) - w @ tf.transpose(x(w))) ** 2, 0),
    "prior over the wrong axis": lambda w: tf.reduce_sum(-0.5 * w**2, 0),
    "residuals transposed": lambda w: prior(w) - 0.5 * sum_((y(w) - x(w) @ tf.transpose(w)) ** 2),
    "residuals transposed, other axis": lambda w: (
        prior(w) - 0.5 * tf.reduce_sum((y(w)[:, None] - x(w) @ tf.transpose(w)) ** 2, -1)
    ),
    "each draw meets its own row": lambda w: prior(w) - 0.5 * (y(w) - sum_(w * x(w))) ** 2,
    "each draw meets its own datum": lambda w: prior(w) - 0.5 * (y(w) - w[:, 0]) ** 2,
    "data added along the draws": lambda w: model(w) + y(w),
    "data times the draws": lambda w: model(w) * (1.0 + y(w) ** 2),
    "not summed": lambda w: -0.5 * (y(w) - w @ tf.transpose(x(w))) ** 2,
    "prior not summed": lambda w: -0.5 * w**2,
    "prior not summed, likelihood added": lambda w: -0.5 * w**2 + model(w)[:, None],
    "outer sum": lambda w: model(w) + model(w)[:, None],
    "outer difference of parts": lambda w: -0.5 * (w[:, 0] - w[:, 1:2]) ** 2,
    "axis kept": lambda w: model(w)[:, None],
    "axis kept in front": lambda w: model(w)[None],
    "axes kept on both sides": lambda w: model(w)[None, :, None],
    "prior keeps its axis": lambda w: model(w) - 0.5 * tf.reduce_sum(w**2, -1, keepdims=True),
    "everything squeezed to one": lambda w: tf.squeeze(model(w)[:1]),
    "first draw alone": lambda w: model(w)[:1],
    "last draw left out": lambda w: model(w)[:-1],
    "one draw too many": lambda w: tf.concat([model(w), model(w)[:1]], 0),
    "twice": lambda w: tf.tile(model(w), [2]),
    "first draw for all": lambda w: tf.fill([w.shape[0]], model(w)[0]),
    "last draw for all": lambda w: 0.0 * model(w) + model(w)[-1],
    "backwards": lambda w: model(w)[::-1],
    "rolled": lambda w: tf.roll(model(w), 1, 0),
    "sorted": lambda w: tf.sort(model(w)),
    "cumulated": lambda w: tf.cumsum(model(w)),
    "centred": lambda w: model(w - tf.reduce_mean(w, 0)),
    "standardised": lambda w: model(w / tf.math.reduce_std(w)),
    "shifted by the best": lambda w: model(w) - tf.reduce_max(model(w)),
    "normalised": lambda w: tf.nn.log_softmax(model(w)),
    "softmax over draws": lambda w: model(tf.nn.softmax(w, 0)) + prior(w),
    "draws and parts reshaped": lambda w: model(tf.reshape(tf.transpose(w), w.shape)),
    "draws averaged in pairs": lambda w: 0.5 * (model(w) + tf.roll(model(w), 1, 0)),
}


def look(log_prob: Callable[[tf.Tensor], tf.Tensor]) -> None:
    examine(LogProbTarget(log_prob, event_shape=[3]), dispersed_points(3, 64, seed=0), seed=0)


def test_the_model_itself_passes() -> None:
    look(model)


def test_there_are_forty() -> None:
    assert len(MUTANTS) == 40


@pytest.mark.parametrize("name", MUTANTS)
def test_no_mutant_passes(name: str) -> None:
    with pytest.raises(NeuralVBError) as caught:
        look(MUTANTS[name])
    assert caught.value.fix
