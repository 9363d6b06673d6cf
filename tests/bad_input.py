"""What every table of bad input is made of: one call that must be refused, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import targets  # noqa: F401  its import lets SoftmaxCentered be built on NumPy 2.4
from neural_vb.errors import NeuralVBError

tfd = tfp.distributions


class Row(NamedTuple):
    """A call, its error, and a piece of the message before and after ``Fix:``.

    ``key`` is what tells the call from all others.
    """

    error: type[NeuralVBError]
    call: Callable[[Callable[..., Any]], Any]
    found: str
    fix: str
    key: Any


Kinds = dict[str, dict[str, Row]]


def row(error: type[NeuralVBError], target: Any, found: str, fix: str, **options: Any) -> Row:
    """A fit of ``target``, of shape [2] if nothing else is said."""
    options = {"event_shape": [2]} | options
    key = (id(target), sorted((name, repr(value)) for name, value in options.items()))
    return Row(error, lambda must_not_train: fit(target, must_not_train, **options), found, fix, key)


def on(error: type[NeuralVBError], model: Any, found: str, fix: str, **options: Any) -> Row:
    """A fit of a joint distribution, to three data of y if nothing else is said."""
    return row(error, model, found, fix, **{"event_shape": None, "data": {"y": Y}} | options)


def fit(target: Any, must_not_train: Callable[..., Any], **options: Any) -> Any:
    """A fit that fails the test once training starts."""
    return nvb.fit(target, **{"progress": False, "callbacks": [must_not_train]} | options)


def normal(z: tf.Tensor) -> tf.Tensor:
    """Standard normal."""
    return -0.5 * tf.reduce_sum(z**2, -1)


def scaled(mu: tf.Tensor, tau: tf.Tensor) -> tf.Tensor:
    """mu ~ N(0, 1), tau ~ Gamma(2, 1); -inf outside."""
    inside = tf.where(tau > 0.0, tau, 1.0)
    return -0.5 * mu**2 + tf.where(tau > 0.0, tf.math.log(inside) - tau, -np.inf)


def joint(**parts: Any) -> Any:
    """A joint distribution from its parts."""
    return tfd.JointDistributionNamedAutoBatched(parts)


Y = np.float32([1.0, 2.0, 0.0])
MU = tfd.Normal(0.0, 1.0)
LINE = joint(mu=MU, y=lambda mu: tfd.Normal(mu, tf.ones(3)))
