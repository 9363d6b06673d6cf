"""The same log densities for JAX, on one unconstrained vector [D] -> scalar, in nats; for NUTS in a peer's process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import multivariate_normal

from benchmarks import definitions

LOG_2PI = math.log(2.0 * math.pi)
LogProb = Callable[[Any], Any]


def _normal(x: Any, mean: Any, sd: Any) -> Any:
    return jax.scipy.stats.norm.logpdf(x, mean, sd).sum()


def banana() -> LogProb:
    return lambda z: _normal(z[0], 0.0, 1.0) + _normal(z[1], z[0] ** 2, definitions.BANANA_SD)


def ring() -> LogProb:
    return lambda z: -4.0 * ((z @ z) - 2.0) ** 2


def cross() -> LogProb:
    covariances = jnp.asarray(np.stack(definitions.X_COVARIANCES), jnp.float32)
    return lambda z: logsumexp(multivariate_normal.logpdf(z, jnp.zeros(2), covariances)) - math.log(2.0)


def _modes(centres: np.ndarray, weights: np.ndarray) -> LogProb:
    centres_, log_weights = jnp.asarray(centres, jnp.float32), jnp.asarray(np.log(weights), jnp.float32)
    return lambda z: logsumexp(log_weights - 0.5 * ((z - centres_) ** 2).sum(axis=1)) - LOG_2PI


def two_modes() -> LogProb:
    return _modes(definitions.TWO_CENTRES, definitions.TWO_WEIGHTS)


def four_modes() -> LogProb:
    return _modes(definitions.FOUR_CENTRES, definitions.FOUR_WEIGHTS)


def logistic() -> LogProb:
    data = definitions.logistic_data()
    signed = jnp.asarray(np.where(data.labels > 0, 1.0, -1.0)[:, None] * data.design, jnp.float32)
    return lambda z: jax.nn.log_sigmoid(signed @ z).sum() + _normal(z, 0.0, definitions.LOGISTIC_PRIOR_SD)


def funnel() -> LogProb:
    return lambda z: _normal(z[0], 0.0, definitions.FUNNEL_SD) + _normal(z[1:], 0.0, jnp.exp(z[0] / 2.0))


def eight_schools() -> LogProb:
    constants, schools = definitions.eight_schools_constants(), definitions.eight_schools()
    y, sigma = jnp.asarray(schools.y, jnp.float32), jnp.asarray(schools.sigma, jnp.float32)
    tau_scale = constants["TAU_PRIOR_SCALE"]

    def log_prob(z: Any) -> Any:
        eta, mu, log_tau = z[:8], z[8], z[9]
        tau = jnp.exp(log_tau)
        log_prior_tau = math.log(2.0 / (math.pi * tau_scale)) - jnp.log1p((tau / tau_scale) ** 2) + log_tau
        prior = _normal(eta, 0.0, 1.0) + _normal(mu, 0.0, constants["MU_PRIOR_SCALE"]) + log_prior_tau
        return prior + _normal(y, mu + tau * eta, sigma)

    return log_prob


def avb_eight_schools() -> LogProb:
    schools = definitions.avb_eight_schools()
    y, sigma = jnp.asarray(schools.y, jnp.float32), jnp.asarray(schools.sigma, jnp.float32)
    return lambda z: _normal(z, 0.0, 1.0) + _normal(y, z[0] + z[1] * z[2:], sigma)
