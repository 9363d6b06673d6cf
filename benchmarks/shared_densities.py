"""Log densities written once for TensorFlow and JAX: each function returns (arrays, [n, D]) -> [n], in nats.

All are normalised, except posteriors, whose integral is the evidence.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks import definitions, regression_data
from benchmarks.arrays import Arrays
from benchmarks.problem import SharedDensity

LOG_2PI = math.log(2.0 * math.pi)


def twisted_gaussian() -> SharedDensity:
    """A twist keeps volumes: the density is that of the Gaussian at the untwisted point."""
    sd, twist = definitions.TWIST_SD, definitions.TWIST

    def log_prob(tensors: Arrays, z: Any) -> Any:
        first, second = z[:, 0], z[:, 1] + twist * (z[:, 0] ** 2 - sd**2)
        return -0.5 * ((first / sd) ** 2 + second**2) - math.log(sd) - LOG_2PI

    return log_prob


def forty_gaussians() -> SharedDensity:
    centres, log_weight = definitions.FORTY_CENTRES, -math.log(len(definitions.FORTY_CENTRES))

    def log_prob(tensors: Arrays, z: Any) -> Any:
        square = tensors.sum((z[:, None, :] - tensors.constant(centres, z)) ** 2)
        return tensors.logsumexp(-0.5 * square) + log_weight - LOG_2PI

    return log_prob


def _whitener(covariance: np.ndarray) -> tuple[np.ndarray, float]:
    """The transposed inverse of the Cholesky factor, so that a gradient is one product; and its log determinant."""
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    return whiten.T, float(np.log(np.diag(whiten)).sum())


def correlated_gaussian(size: int) -> SharedDensity:
    whiten, log_det = _whitener(definitions.correlated_covariance(size))

    def log_prob(tensors: Arrays, z: Any) -> Any:
        white = tensors.product(z, tensors.constant(whiten, z))
        return log_det - 0.5 * size * LOG_2PI - 0.5 * tensors.sum(white**2)

    return log_prob


def student_t(size: int) -> SharedDensity:
    whiten, log_det = _whitener(definitions.student_scale(size))
    dof = definitions.STUDENT_DOF
    constant = math.lgamma((dof + size) / 2.0) - math.lgamma(dof / 2.0) - 0.5 * size * math.log(dof * math.pi)

    def log_prob(tensors: Arrays, z: Any) -> Any:
        white = tensors.product(z, tensors.constant(whiten, z))
        return constant + log_det - 0.5 * (dof + size) * tensors.log1p(tensors.sum(white**2) / dof)

    return log_prob


def gumbel() -> SharedDensity:
    scales = definitions.GUMBEL_SCALES

    def log_prob(tensors: Arrays, z: Any) -> Any:
        x = z / tensors.constant(scales, z)
        return -tensors.sum(x + tensors.exp(-x)) - float(np.log(scales).sum())

    return log_prob


def _normal(tensors: Arrays, x: Any, sd: float, size: int) -> Any:
    """log N(x; 0, sd^2), summed over the last axis of length ``size``."""
    return -0.5 * tensors.sum(x**2) / sd**2 - size * (math.log(sd) + 0.5 * LOG_2PI)


def logistic_regression(design: np.ndarray, labels: np.ndarray, prior_sd: float) -> SharedDensity:
    """Labels [N] in {0, 1} with design [N, D], prior N(0, sd^2)."""
    signed = (np.where(labels > 0, 1.0, -1.0)[:, None] * design).T

    def log_prob(tensors: Arrays, z: Any) -> Any:
        margins = tensors.product(z, tensors.constant(signed, z))
        return _normal(tensors, z, prior_sd, len(signed)) - tensors.sum(tensors.softplus(-margins))

    return log_prob


def hierarchical(size: int) -> SharedDensity:
    """y_jm ~ Bernoulli(sigmoid(mu + x_jm^T beta + tau eta_j)), z = (mu, log tau, beta [8], eta [J]).

    mu ~ N(0, 2^2), log tau ~ N(0, 1), beta ~ N(0, 1), eta ~ N(0, 1).
    """
    data = regression_data.groups(size)
    number, rows, features = data.features.shape
    flat, signs = data.features.reshape(-1, features).T, np.where(data.labels > 0, 1.0, -1.0)

    def log_prob(tensors: Arrays, z: Any) -> Any:
        mean, tau, slopes, eta = z[:, :1], tensors.exp(z[:, 1:2]), z[:, 2 : 2 + features], z[:, 2 + features :]
        slope_part = tensors.reshape(tensors.product(slopes, tensors.constant(flat, z)), (-1, number, rows))
        logits = slope_part + (mean + tau * eta)[:, :, None]
        likelihood = -tensors.sum(tensors.sum(tensors.softplus(-tensors.constant(signs, z) * logits)))
        return likelihood + _normal(tensors, mean, 2.0, 1) + _normal(tensors, z[:, 1:], 1.0, size - 1)

    return log_prob
