"""Exact draws, moments and evidence of Bayesian logistic regressions, by importance from a matched Student t."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.definitions import Array

Rng = np.random.Generator


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


@dataclass(frozen=True, eq=False)
class LogisticPosterior:
    """y ~ Bernoulli(sigmoid(X w)), w ~ N(0, sd^2).

    Attributes:
        design: X, [N, D].
        labels: y, [N] in {0, 1}.
        prior_sd: sd.
        dof: of the Student t.
        share: of the proposal's draws with a weight above the bound of ``sample``, which they get instead of their own.
    """

    design: Array
    labels: Array
    prior_sd: float
    dof: float = 20.0
    share: float = 1e-5

    def log_prob(self, z: Array) -> Array:
        """Log joint in nats with the normalised prior: [n, D] -> [n]."""
        size = self.design.shape[1]
        margins = z @ (np.where(self.labels > 0, 1.0, -1.0)[:, None] * self.design).T
        prior = -0.5 * (z**2).sum(axis=1) / self.prior_sd**2 - size * np.log(self.prior_sd * np.sqrt(2.0 * np.pi))
        return prior - np.logaddexp(0.0, -margins).sum(axis=1)

    @functools.cached_property
    def proposal(self) -> StudentProposal:
        """Newton to the mode, then rounds of importance sampling that match mean and covariance. Some seconds."""
        size, precision = self.design.shape[1], self.prior_sd**-2
        z = np.zeros(size)
        for _ in range(30):
            p = 1.0 / (1.0 + np.exp(-self.design @ z))
            hessian = (self.design * (p * (1.0 - p))[:, None]).T @ self.design + precision * np.eye(size)
            z = z + np.linalg.solve(hessian, self.design.T @ (self.labels - p) - precision * z)
        student = StudentProposal(z, np.linalg.cholesky(np.linalg.inv(hessian)), self.dof)
        rng = np.random.default_rng(0)
        for _ in range(3):
            draws, weights, _ = self.weighted(50_000, rng, student=student)
            mean = weights @ draws
            covariance = (draws - mean).T @ ((draws - mean) * weights[:, None])
            student = StudentProposal(mean, np.linalg.cholesky(covariance), self.dof)
        return student

    @functools.cached_property
    def log_bound(self) -> float:
        """Of the log weights, from 100,000 draws."""
        draws, log_density = self.proposal.sample(100_000, np.random.default_rng(1))
        return float(np.quantile(self.log_prob(draws) - log_density, 1.0 - self.share))

    def weighted(self, n: int, rng: Rng, *, student: StudentProposal | None = None) -> tuple[Array, Array, float]:
        """Draws [n, D], their normalised importance weights [n], and the log evidence."""
        draws, log_density = (student or self.proposal).sample(n, rng)
        log_weights = self.log_prob(draws) - log_density
        total = np.logaddexp.reduce(log_weights)
        return draws, np.exp(log_weights - total), float(total - np.log(n))

    def sample(self, n: int, rng: Rng) -> Array:
        """Rejection from the Student t: [n, D]. Exact but for the weights above the bound."""
        kept, have = [], 0
        while have < n:
            draws, log_density = self.proposal.sample(20_000, rng)
            accept = np.log(rng.random(len(draws))) < self.log_prob(draws) - log_density - self.log_bound
            kept.append(draws[accept])
            have += len(kept[-1])
        return np.concatenate(kept)[:n]
