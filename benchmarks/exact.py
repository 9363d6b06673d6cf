"""Exact samplers ``(n, rng) -> [n, D]`` of unconstrained vectors, in NumPy."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from benchmarks import definitions
from benchmarks.definitions import Array
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


def correlated_gaussian(n: int, rng: Rng) -> Array:
    """N(0, A A^T): [n, 50]."""
    covariance = definitions.correlated_covariance()
    return rng.standard_normal((n, len(covariance))) @ np.linalg.cholesky(covariance).T


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


def logistic_log_prob(z: Array) -> Array:
    """Log joint in nats with the normalised prior N(0, 2^2): [n, 25] -> [n]."""
    design, labels, _ = definitions.logistic_data()
    prior_sd, size = definitions.LOGISTIC_PRIOR_SD, design.shape[1]
    margins = z @ (np.where(labels > 0, 1.0, -1.0)[:, None] * design).T
    prior = -0.5 * (z**2).sum(axis=1) / prior_sd**2 - size * np.log(prior_sd * np.sqrt(2.0 * np.pi))
    return prior - np.logaddexp(0.0, -margins).sum(axis=1)


class StudentProposal(NamedTuple):
    """Multivariate t with ``dof`` degrees of freedom: location [D], scale_tril [D, D]."""

    location: Array
    scale_tril: Array
    dof: float = 20.0

    def sample(self, n: int, rng: Rng) -> tuple[Array, Array]:
        """Draws [n, D] and their log densities [n]."""
        from scipy import special

        size, dof = len(self.location), self.dof
        noise = rng.standard_normal((n, size)) * np.sqrt(dof / rng.chisquare(dof, (n, 1)))
        normaliser = special.gammaln((dof + size) / 2) - special.gammaln(dof / 2) - size / 2 * np.log(dof * np.pi)
        normaliser -= np.log(np.diag(self.scale_tril)).sum()
        log_density = normaliser - (dof + size) / 2 * np.log1p((noise**2).sum(axis=1) / dof)
        return self.location + noise @ self.scale_tril.T, log_density


class LogisticProposal(NamedTuple):
    """A Student t matched to the logistic posterior, and the largest log weight seen among 100,000 of its draws."""

    student: StudentProposal
    log_bound: float


@functools.cache
def logistic_proposal() -> LogisticProposal:
    """Newton to the mode, then two rounds of importance sampling that match mean and covariance. About two seconds."""
    design, labels, _ = definitions.logistic_data()
    size, precision = design.shape[1], definitions.LOGISTIC_PRIOR_SD**-2
    z = np.zeros(size)
    for _ in range(20):
        p = 1.0 / (1.0 + np.exp(-design @ z))
        hessian = (design * (p * (1.0 - p))[:, None]).T @ design + precision * np.eye(size)
        z = z + np.linalg.solve(hessian, design.T @ (labels - p) - precision * z)
    student = StudentProposal(z, np.linalg.cholesky(np.linalg.inv(hessian)))
    rng = np.random.default_rng(0)
    for _ in range(2):
        draws, weights, _ = weighted(student, 50_000, rng)
        mean = weights @ draws
        student = StudentProposal(mean, np.linalg.cholesky((draws - mean).T @ ((draws - mean) * weights[:, None])))
    draws, log_density = student.sample(100_000, rng)
    return LogisticProposal(student, float(np.max(logistic_log_prob(draws) - log_density)))


def weighted(student: StudentProposal, n: int, rng: Rng) -> tuple[Array, Array, float]:
    """Draws [n, D], their normalised importance weights [n] under the logistic posterior, and the log evidence."""
    draws, log_density = student.sample(n, rng)
    log_weights = logistic_log_prob(draws) - log_density
    total = np.logaddexp.reduce(log_weights)
    return draws, np.exp(log_weights - total), float(total - np.log(n))


def logistic(n: int, rng: Rng) -> Array:
    """Rejection from a matched Student t: [n, 25]. Exact but for weights above the bound, one draw in 100,000."""
    student, log_bound = logistic_proposal()
    kept, have = [], 0
    while have < n:
        draws, log_density = student.sample(20_000, rng)
        accept = np.log(rng.random(len(draws))) < logistic_log_prob(draws) - log_density - log_bound
        kept.append(draws[accept])
        have += len(kept[-1])
    return np.concatenate(kept)[:n]
