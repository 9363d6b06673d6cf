"""Exact posterior of an eight-schools model by quadrature over tau alone.

    mu ~ N(0, s),  eta_j ~ N(0, 1),  y_j ~ N(mu + tau eta_j, sigma_j)

Given tau everything else is Gaussian: with v_j = sigma_j^2 + tau^2, P = 1/s^2 + sum 1/v_j, m = sum(y_j / v_j) / P,

    mu | tau, y ~ N(m, 1/P),     log p(y | tau) = sum log N(y_j; 0, v_j) - log(s^2 P) / 2 + P m^2 / 2,
    eta_j | mu, tau, y ~ N(tau (y_j - mu) / v_j, sigma_j^2 / v_j).

The integral over tau is a trapezoid sum of a smooth density that vanishes at both ends, so its error is far below
single precision. Letters: G grid points, J = 8 schools.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.definitions import Array, Schools


@dataclass(frozen=True, eq=False)
class TauPosterior:
    """Posterior of tau on a grid, and the Gaussian rest given tau.

    Attributes:
        schools: data.
        t: [G], equally spaced coordinate of integration (tau itself or log tau).
        tau: [G].
        weights: [G], posterior mass of each grid point, adding up to 1.
        mu_mean: [G], m.
        mu_var: [G], 1 / P.
        log_evidence: log p(y) in nats, with normalised priors.
    """

    schools: Schools
    t: Array
    tau: Array
    weights: Array
    mu_mean: Array
    mu_var: Array
    log_evidence: float

    def expect(self, values: Array) -> Array:
        """Posterior mean of a function of tau: values [G, ...] -> [...]."""
        return np.tensordot(self.weights, values, axes=1)

    def total(self, mean: Array, var: Array) -> tuple[Array, Array]:
        """Mean and sd from mean and variance given tau (law of total variance): [G, ...] -> [...] each."""
        centre = self.expect(mean)
        return centre, np.sqrt(self.expect(var + (mean - centre) ** 2))

    def mu(self) -> tuple[Array, Array]:
        """Posterior mean and sd of mu."""
        return self.total(self.mu_mean, self.mu_var)

    def tau_function(self, values: Array) -> tuple[Array, Array]:
        """Posterior mean and sd of a function of tau, values [G]."""
        return self.total(values, np.zeros_like(values))

    def eta(self) -> tuple[Array, Array]:
        """Posterior means and sds of eta, [J] each."""
        gain = self.tau[:, None] / self._v()
        var = self.schools.sigma**2 / self._v() + gain**2 * self.mu_var[:, None]
        return self.total(gain * (self.schools.y - self.mu_mean[:, None]), var)

    def theta(self) -> tuple[Array, Array]:
        """Posterior means and sds of theta = mu + tau eta, [J] each."""
        keep = self.schools.sigma**2 / self._v()  # weight of mu; the rest is the weight of y
        mean = keep * self.mu_mean[:, None] + (1.0 - keep) * self.schools.y
        return self.total(mean, keep * self.tau[:, None] ** 2 + keep**2 * self.mu_var[:, None])

    def sample(self, num_draws: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Independent exact draws of (eta [S, J], mu [S], t [S]); tau by inverse cdf, linear between grid points."""
        cdf = np.concatenate([[0.0], np.cumsum((self.weights[1:] + self.weights[:-1]) / 2)])
        t = np.interp(rng.random(num_draws) * cdf[-1], cdf, self.t)
        mu_mean, mu_var = np.interp(t, self.t, self.mu_mean), np.interp(t, self.t, self.mu_var)
        mu = mu_mean + np.sqrt(mu_var) * rng.standard_normal(num_draws)
        tau = np.interp(t, self.t, self.tau)[:, None]
        v = self.schools.sigma**2 + tau**2
        noise = rng.standard_normal((num_draws, len(self.schools.y)))
        eta = tau * (self.schools.y - mu[:, None]) / v + self.schools.sigma / np.sqrt(v) * noise
        return eta, mu, t

    def _v(self) -> Array:
        return self.schools.sigma**2 + self.tau[:, None] ** 2


def tau_posterior(schools: Schools, *, mu_sd: float, t: Array, tau: Array, log_prior: Array) -> TauPosterior:
    """Posterior over a grid.

    Args:
        schools: data.
        mu_sd: s, prior sd of mu.
        t: [G], equally spaced.
        tau: [G], tau at each t.
        log_prior: [G], log prior density *of t* (log-Jacobian included), normalised.
    """
    v = schools.sigma**2 + tau[:, None] ** 2
    precision = mu_sd**-2 + (1.0 / v).sum(axis=1)
    mean = (schools.y / v).sum(axis=1) / precision
    log_likelihood = (
        -0.5 * (np.log(2.0 * np.pi * v) + schools.y**2 / v).sum(axis=1)
        - 0.5 * np.log(mu_sd**2 * precision)
        + 0.5 * precision * mean**2
    )
    log_mass = log_prior + log_likelihood + np.log(t[1] - t[0])
    log_evidence = np.logaddexp.reduce(log_mass)
    weights = np.exp(log_mass - log_evidence)
    return TauPosterior(schools, t, tau, weights, mean, 1.0 / precision, float(log_evidence))


def half_cauchy_posterior(
    schools: Schools, *, mu_sd: float, tau_scale: float, num_points: int = 20_001
) -> TauPosterior:
    """tau ~ HalfCauchy(0, c), integrated over t = log tau; p(t) = 2 tau / (pi c (1 + (tau / c)^2))."""
    t = np.linspace(-30.0, 15.0, num_points)
    tau = np.exp(t)
    log_prior = np.log(2.0 / (np.pi * tau_scale)) - np.log1p((tau / tau_scale) ** 2) + t
    return tau_posterior(schools, mu_sd=mu_sd, t=t, tau=tau, log_prior=log_prior)


def normal_posterior(schools: Schools, *, mu_sd: float, tau_sd: float, num_points: int = 20_001) -> TauPosterior:
    """tau ~ N(0, c) of either sign, integrated over tau itself: symmetric, as (tau, eta) and (-tau, -eta) are alike."""
    tau = np.linspace(-9.0, 9.0, num_points) * tau_sd
    log_prior = -0.5 * (tau / tau_sd) ** 2 - 0.5 * np.log(2.0 * np.pi * tau_sd**2)
    return tau_posterior(schools, mu_sd=mu_sd, t=tau, tau=tau, log_prior=log_prior)
