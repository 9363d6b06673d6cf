"""Exact samplers ``(n, rng) -> [n, D]`` of unconstrained vectors, in NumPy."""

from __future__ import annotations

import functools

import numpy as np

from benchmarks import definitions
from benchmarks.definitions import Array
from benchmarks.logistic import LogisticPosterior, StudentProposal
from benchmarks.quadrature import TauPosterior, half_cauchy_posterior, normal_posterior

Rng = np.random.Generator


def banana(n: int, rng: Rng) -> Array:
    """z1 ~ N(0, 1), z2 given z1 ~ N(z1^2, .5^2): [n, 2]."""
    first = rng.standard_normal(n)
    return np.stack([first, first**2 + definitions.BANANA_SD * rng.standard_normal(n)], axis=1)


def ring(n: int, rng: Rng) -> Array:
    """log p = -4 (|z|^2 - 2)^2: the angle is uniform and |z|^2 ~ N(2, 1/8) above zero, as r dr = d(r^2) / 2. [n, 2]."""
    square = 2.0 + rng.standard_normal(n) / np.sqrt(8.0)
    while np.any(square <= 0.0):  # the truncated part has probability 8e-9
        square = np.where(square <= 0.0, 2.0 + rng.standard_normal(n) / np.sqrt(8.0), square)
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    return np.sqrt(square)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def cross(n: int, rng: Rng) -> Array:
    """Equal mixture of two long, crossing Gaussians: [n, 2]."""
    factors = np.linalg.cholesky(np.stack(definitions.X_COVARIANCES))
    return np.einsum("nij,nj->ni", factors[rng.integers(0, 2, n)], rng.standard_normal((n, 2)))


def modes(centres: Array, weights: Array, n: int, rng: Rng) -> Array:
    """Mixture of unit Gaussians: centres [K, D], weights [K] -> [n, D]."""
    return centres[rng.choice(len(weights), n, p=weights)] + rng.standard_normal((n, centres.shape[1]))


def two_modes(n: int, rng: Rng) -> Array:
    """Equal mixture of N((-2, 0), I) and N((2, 0), I): [n, 2]."""
    return modes(definitions.TWO_CENTRES, definitions.TWO_WEIGHTS, n, rng)


def four_modes(n: int, rng: Rng) -> Array:
    """Four unit Gaussians of weights 1/8, 1/8, 1/2, 1/4: [n, 2]."""
    return modes(definitions.FOUR_CENTRES, definitions.FOUR_WEIGHTS, n, rng)


def correlated_gaussian(n: int, rng: Rng, *, size: int) -> Array:
    """N(0, A A^T): [n, D]."""
    return rng.standard_normal((n, size)) @ np.linalg.cholesky(definitions.correlated_covariance(size)).T


def twisted_gaussian(n: int, rng: Rng) -> Array:
    """z1 ~ N(0, 10^2), z2 given z1 ~ N(-b (z1^2 - 10^2), 1): [n, 2]."""
    first = definitions.TWIST_SD * rng.standard_normal(n)
    bend = definitions.TWIST * (first**2 - definitions.TWIST_SD**2)
    return np.stack([first, rng.standard_normal(n) - bend], axis=1)


def forty_gaussians(n: int, rng: Rng) -> Array:
    """Forty unit Gaussians far apart: [n, 2]."""
    return modes(definitions.FORTY_CENTRES, definitions.FORTY_WEIGHTS, n, rng)


def student_t(n: int, rng: Rng, *, size: int) -> Array:
    """Multivariate t with 5 degrees of freedom: [n, D]."""
    scale_tril = np.linalg.cholesky(definitions.student_scale(size))
    return StudentProposal(np.zeros(size), scale_tril, definitions.STUDENT_DOF).sample(n, rng)[0]


def gumbel(n: int, rng: Rng) -> Array:
    """Independent Gumbel coordinates of five scales: [n, 5]."""
    return definitions.GUMBEL_SCALES * rng.gumbel(size=(n, len(definitions.GUMBEL_SCALES)))


def funnel(n: int, rng: Rng) -> Array:
    """v ~ N(0, 3^2), nine x given v ~ N(0, e^v): [n, 10], v first."""
    v = definitions.FUNNEL_SD * rng.standard_normal((n, 1))
    return np.concatenate([v, np.exp(v / 2.0) * rng.standard_normal((n, definitions.FUNNEL_SIZE - 1))], axis=1)


@functools.cache
def eight_schools_posterior() -> TauPosterior:
    """posteriordb's eight schools by quadrature."""
    constants = definitions.eight_schools_constants()
    return half_cauchy_posterior(
        definitions.eight_schools(), mu_sd=constants["MU_PRIOR_SCALE"], tau_scale=constants["TAU_PRIOR_SCALE"]
    )


@functools.cache
def avb_eight_schools_posterior() -> TauPosterior:
    """AVB's eight schools by quadrature."""
    return normal_posterior(definitions.avb_eight_schools(), mu_sd=1.0, tau_sd=1.0)


def eight_schools(n: int, rng: Rng) -> Array:
    """theta_trans [8], mu, log tau: [n, 10]."""
    eta, mu, log_tau = eight_schools_posterior().sample(n, rng)
    return np.concatenate([eta, mu[:, None], log_tau[:, None]], axis=1)


def avb_eight_schools(n: int, rng: Rng) -> Array:
    """mu, tau, eta [8]: [n, 10]."""
    eta, mu, tau = avb_eight_schools_posterior().sample(n, rng)
    return np.concatenate([mu[:, None], tau[:, None], eta], axis=1)


def logistic(n: int, rng: Rng) -> Array:
    """logistic_25 by rejection: [n, 25]."""
    return logistic_posterior().sample(n, rng)


@functools.cache
def logistic_posterior() -> LogisticPosterior:
    """The posterior of logistic_25."""
    data = definitions.logistic_data()
    return LogisticPosterior(data.design, data.labels, definitions.LOGISTIC_PRIOR_SD)
