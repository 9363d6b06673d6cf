"""The problems as a user of ``neural_vb.fit`` writes them: TensorFlow callables and TFP joint distributions.

Every function returns ``FitArguments``. Log densities are in nats and normalised, except the ring's (and, for a
posterior, the evidence).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks import definitions

tfd = tfp.distributions

LOG_2PI = math.log(2.0 * math.pi)


class FitArguments(NamedTuple):
    """Arguments of ``neural_vb.fit``: target, data, and keywords."""

    target: Any
    data: Any
    keywords: dict[str, Any]


def _constant(value: Any) -> tf.Tensor:
    return tf.constant(np.asarray(value), tf.float32)


def banana() -> FitArguments:
    def log_prob(z: tf.Tensor) -> tf.Tensor:
        first, second = z[:, 0], z[:, 1]
        scaled = (second - first**2) / definitions.BANANA_SD
        return -0.5 * (first**2 + scaled**2) - LOG_2PI - math.log(definitions.BANANA_SD)

    return FitArguments(log_prob, None, {"event_shape": [2]})


def ring() -> FitArguments:
    def log_prob(z: tf.Tensor) -> tf.Tensor:
        return -4.0 * (tf.reduce_sum(z**2, axis=-1) - 2.0) ** 2

    return FitArguments(log_prob, None, {"event_shape": [2]})


def cross() -> FitArguments:
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.5, 0.5]),
        tfd.MultivariateNormalTriL(tf.zeros(2), _constant(np.linalg.cholesky(np.stack(definitions.X_COVARIANCES)))),
    )
    return FitArguments(mixture.log_prob, None, {"event_shape": [2]})


def _modes(centres: np.ndarray, weights: np.ndarray) -> FitArguments:
    centres_, log_weights = _constant(centres), _constant(np.log(weights))

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        square = tf.reduce_sum((z[:, None, :] - centres_) ** 2, axis=-1)
        return tf.reduce_logsumexp(log_weights - 0.5 * square, axis=-1) - LOG_2PI

    return FitArguments(log_prob, None, {"event_shape": [2]})


def two_modes() -> FitArguments:
    return _modes(definitions.TWO_CENTRES, definitions.TWO_WEIGHTS)


def four_modes() -> FitArguments:
    return _modes(definitions.FOUR_CENTRES, definitions.FOUR_WEIGHTS)


def logistic() -> FitArguments:
    data = definitions.logistic_data()
    design, labels = _constant(data.design), _constant(data.labels)
    prior_sd, size = definitions.LOGISTIC_PRIOR_SD, data.design.shape[1]

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        logits = tf.linalg.matmul(z, design, transpose_b=True)
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(tf.broadcast_to(labels, tf.shape(logits)), logits)
        prior = -0.5 * tf.reduce_sum(z**2, axis=-1) / prior_sd**2 - size * (math.log(prior_sd) + 0.5 * LOG_2PI)
        return prior - tf.reduce_sum(cross_entropy, axis=-1)

    return FitArguments(log_prob, None, {"event_shape": [size]})


def funnel() -> FitArguments:
    size = definitions.FUNNEL_SIZE - 1

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        v, x = z[:, 0], z[:, 1:]
        neck = -0.5 * (v / definitions.FUNNEL_SD) ** 2 - math.log(definitions.FUNNEL_SD) - 0.5 * LOG_2PI
        body = -0.5 * tf.reduce_sum(x**2, axis=-1) * tf.exp(-v) - 0.5 * size * (v + LOG_2PI)
        return neck + body

    return FitArguments(log_prob, None, {"event_shape": [definitions.FUNNEL_SIZE]})


def eight_schools() -> FitArguments:
    constants, schools = definitions.eight_schools_constants(), definitions.eight_schools()
    sigma = _constant(schools.sigma)

    @tfd.JointDistributionCoroutineAutoBatched
    def model():
        mu = yield tfd.Normal(0.0, constants["MU_PRIOR_SCALE"], name="mu")
        tau = yield tfd.HalfCauchy(0.0, constants["TAU_PRIOR_SCALE"], name="tau")
        theta_trans = yield tfd.Sample(tfd.Normal(0.0, 1.0), 8, name="theta_trans")
        yield tfd.Normal(mu + tau * theta_trans, sigma, name="y")

    return FitArguments(model, {"y": np.asarray(schools.y, np.float32)}, {})


def avb_eight_schools() -> FitArguments:
    schools = definitions.avb_eight_schools()
    y, sigma = _constant(schools.y), _constant(schools.sigma)

    def log_prob(mu: tf.Tensor, tau: tf.Tensor, eta: tf.Tensor) -> tf.Tensor:
        scaled = (y - mu[:, None] - tau[:, None] * eta) / sigma
        square = mu**2 + tau**2 + tf.reduce_sum(eta**2 + scaled**2, axis=-1)
        return -0.5 * square - tf.reduce_sum(tf.math.log(sigma)) - 9.0 * LOG_2PI

    return FitArguments(log_prob, None, {"event_shape": {"mu": [], "tau": [], "eta": [8]}})
