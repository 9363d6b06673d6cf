"""The posteriors that ``neural-vb demo`` fits, each with what is known exactly about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import _eight_schools as schools
from neural_vb._types import Derived, LogProbFn, Tensor

tfd = tfp.distributions

Moments = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class DemoTarget:
    """One posterior to fit, and its reference.

    Attributes:
        title: one line for a person.
        target: what `fit` takes first: a log density, or a joint distribution.
        moments: label of a column of draws -> its reference mean and standard deviation.
        source: where the reference comes from.
        data: observed parts of a joint distribution.
        event_shape: of a log density.
        derived: derived quantities of a joint distribution.
        extent: (left, right, bottom, top) of a picture of a 2-D density.
        exact_draws: (num_draws, seed) -> exact draws, where the density has no picture.
        coords: labels for ArviZ, by dimension.
        dims: dimensions for ArviZ, by variable.
    """

    title: str
    target: Any
    moments: Moments
    source: str = "closed form"
    data: Mapping[str, Any] | None = None
    event_shape: Any = None
    derived: Derived | None = None
    extent: tuple[float, float, float, float] | None = None
    exact_draws: Callable[[int, int], Mapping[str, np.ndarray]] | None = None
    coords: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, Any] = field(default_factory=dict)


def banana(z: Tensor) -> Tensor:
    """z_1 ~ N(0, 1) and z_2 | z_1 ~ N(z_1^2, .5^2), up to a constant: [S, 2] -> [S], in nats."""
    return -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - z[:, 0] ** 2) / 0.5) ** 2


def ring(z: Tensor) -> Tensor:
    """log p = -4 (|z|^2 - 2)^2: [S, 2] -> [S], in nats."""
    return -4.0 * (tf.reduce_sum(z**2, axis=-1) - 2.0) ** 2


def two_modes(z: Tensor) -> Tensor:
    """Equal mixture of N((-2, 0), I) and N((2, 0), I), up to a constant: [S, 2] -> [S], in nats."""
    left = -0.5 * ((z[:, 0] + 2.0) ** 2 + z[:, 1] ** 2)
    right = -0.5 * ((z[:, 0] - 2.0) ** 2 + z[:, 1] ** 2)
    return tf.reduce_logsumexp(tf.stack([left, right]), axis=0)


def cross(z: Tensor) -> Tensor:
    """Equal mixture of two centred Gaussians with variances 2 and covariances 1.8 and -1.8: [S, 2] -> [S], in nats."""
    squares, product = 2.0 * (z[:, 0] ** 2 + z[:, 1] ** 2), 3.6 * z[:, 0] * z[:, 1]
    determinant = 2.0**2 - 1.8**2
    return tf.reduce_logsumexp(tf.stack([product - squares, -product - squares]) / (2.0 * determinant), axis=0)


def _plane(
    title: str, log_prob: LogProbFn, means: tuple[float, float], sds: tuple[float, float], extent: Any
) -> DemoTarget:
    moments = {f"z[{index}]": (means[index], sds[index]) for index in range(2)}
    return DemoTarget(title, log_prob, moments, event_shape=[2], extent=extent)


def _eight_schools() -> DemoTarget:
    standard_errors = np.asarray(schools.STANDARD_ERRORS, np.float32)

    def model() -> Any:
        mu = yield tfd.Normal(0.0, schools.MU_PRIOR_SCALE, name="mu")
        tau = yield tfd.HalfCauchy(0.0, schools.TAU_PRIOR_SCALE, name="tau")
        theta_trans = yield tfd.Sample(tfd.Normal(0.0, 1.0), 8, name="theta_trans")
        yield tfd.Normal(mu + tau * theta_trans, standard_errors, name="y")

    def derived(draws: Any) -> Mapping[str, Any]:
        mu, tau = draws["mu"][..., np.newaxis], draws["tau"][..., np.newaxis]
        return {"theta": mu + tau * draws["theta_trans"]}

    moments = {"mu": (schools.MU_MEAN, schools.MU_SD), "tau": (schools.TAU_MEAN, schools.TAU_SD)}
    for j in range(8):
        moments[f"theta_trans[{j}]"] = schools.UNCONSTRAINED_MEAN[j], schools.UNCONSTRAINED_SD[j]
    for j in range(8):
        moments[f"theta[{j}]"] = schools.THETA_MEAN[j], schools.THETA_SD[j]
    return DemoTarget(
        "Eight schools (Rubin 1981), non-centred, ten unconstrained dimensions",
        tfd.JointDistributionCoroutineAutoBatched(model),
        moments,
        source="posteriordb's 10,000 reference draws",
        data={"y": np.asarray(schools.EFFECTS, np.float32)},
        derived=derived,
        exact_draws=exact_eight_schools,
        coords={"school": list(schools.SCHOOLS)},
        dims={"theta_trans": ["school"], "theta": ["school"], "y": ["school"]},
    )


def exact_eight_schools(num_draws: int, seed: int) -> dict[str, np.ndarray]:
    """Draw independently from the exact posterior of eight schools: (mu, log tau) on a grid, the rest in closed form.

    Given mu and tau, y_j ~ N(mu, sigma_j^2 + tau^2) and theta_trans_j is Gaussian with precision 1 + (tau / sigma_j)^2.

    Args:
        num_draws: S.
        seed: of NumPy's generator.

    Returns:
        mu [S], tau [S], theta_trans [S, 8] and theta [S, 8].
    """
    generator = np.random.default_rng(seed)
    effects, sigma = np.asarray(schools.EFFECTS), np.asarray(schools.STANDARD_ERRORS)
    mu_grid, log_tau_grid = np.linspace(-25.0, 35.0, 600), np.linspace(-9.0, 5.0, 600)
    mu, tau = (axis.ravel() for axis in np.meshgrid(mu_grid, np.exp(log_tau_grid), indexing="ij"))
    log_p = -0.5 * (mu / schools.MU_PRIOR_SCALE) ** 2 - np.log1p((tau / schools.TAU_PRIOR_SCALE) ** 2) + np.log(tau)
    for effect, error in zip(effects, sigma, strict=True):
        variance = error**2 + tau**2
        log_p -= 0.5 * ((effect - mu) ** 2 / variance + np.log(variance))
    p = np.exp(log_p - log_p.max())
    cell = generator.choice(p.size, size=num_draws, p=p / p.sum())
    shift = generator.uniform(-0.5, 0.5, size=(2, num_draws))  # within the cell, so that draws are not on a lattice
    mu = mu[cell] + shift[0] * (mu_grid[1] - mu_grid[0])
    tau = tau[cell] * np.exp(shift[1] * (log_tau_grid[1] - log_tau_grid[0]))
    precision = 1.0 + (tau[:, np.newaxis] / sigma) ** 2
    mean = tau[:, np.newaxis] * (effects - mu[:, np.newaxis]) / sigma**2 / precision
    theta_trans = mean + generator.standard_normal(mean.shape) / np.sqrt(precision)
    theta = mu[:, np.newaxis] + tau[:, np.newaxis] * theta_trans
    return {"mu": mu, "tau": tau, "theta_trans": theta_trans, "theta": theta}


# |z|^2 of the ring is N(2, 1/8) but for a cut 5.7 standard deviations away, so each coordinate has variance 1.
DEMO_TARGETS: Mapping[str, Callable[[], DemoTarget]] = {
    "eight_schools": _eight_schools,
    "banana": lambda: _plane("Banana", banana, (0.0, 1.0), (1.0, 1.5), (-3.5, 3.5, -2.5, 9.5)),
    "ring": lambda: _plane("Ring", ring, (0.0, 0.0), (1.0, 1.0), (-2.5, 2.5, -2.5, 2.5)),
    "two_modes": lambda: _plane("Two modes", two_modes, (0.0, 0.0), (math.sqrt(5.0), 1.0), (-5.5, 5.5, -4.0, 4.0)),
    "X": lambda: _plane("X", cross, (0.0, 0.0), (math.sqrt(2.0), math.sqrt(2.0)), (-5.0, 5.0, -5.0, 5.0)),
}
