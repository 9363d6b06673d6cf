"""A hierarchical model in each of TFP's ways of writing a joint, for several test modules."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions
Root = tfd.JointDistributionCoroutine.Root

Y = np.array([1.0, -0.5, 2.0])
SIGMA = np.array([1.0, 2.0, 0.5], "float32")


def hierarchical(kind: str, *, auto: bool, sigma: np.ndarray = SIGMA) -> tfd.JointDistribution:
    """mu, tau, a bound that depends on tau, effects and data, in each of TFP's six ways of writing a joint."""

    def rows(distribution: tfd.Distribution) -> tfd.Distribution:
        return distribution if auto else tfd.Independent(distribution, 1)

    def wide(value: tf.Tensor) -> tf.Tensor:
        return value if auto else value[..., tf.newaxis]

    def data(mu: tf.Tensor, tau: tf.Tensor, bound: tf.Tensor, eta: tf.Tensor) -> tfd.Distribution:
        return rows(tfd.Normal(wide(mu) + wide(tau) * eta + wide(bound), sigma)).copy(name="y")

    def model():
        mu = yield Root(tfd.Normal(0.0, 5.0, name="mu"))
        tau = yield Root(tfd.HalfCauchy(0.0, 5.0, name="tau"))
        bound = yield tfd.Uniform(-tau, 2.0 * tau, name="bound")
        eta = yield Root(rows(tfd.Normal(tf.zeros(3), 1.0)).copy(name="eta"))
        yield data(mu, tau, bound, eta)

    parts = {
        "mu": tfd.Normal(0.0, 5.0),
        "tau": tfd.HalfCauchy(0.0, 5.0),
        "bound": lambda tau: tfd.Uniform(-tau, 2.0 * tau),
        "eta": rows(tfd.Normal(tf.zeros(3), 1.0)),
        "y": data,
    }
    sequence = [
        parts["mu"],
        parts["tau"],
        lambda tau, mu: tfd.Uniform(-tau, 2.0 * tau),
        parts["eta"],
        lambda eta, bound, tau, mu: data(mu, tau, bound, eta),
    ]
    suffix = "AutoBatched" if auto else ""
    return getattr(tfd, f"JointDistribution{kind}{suffix}")(
        {"Coroutine": model, "Named": parts, "Sequential": sequence}[kind]
    )
