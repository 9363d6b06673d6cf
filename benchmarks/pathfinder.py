"""The Gaussians of Pathfinder along a path of L-BFGS (Zhang, Carpenter, Gelman & Vehtari 2022, arXiv 2108.03782).

In NumPy, from positions and gradients. Letters: J pairs in the window, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.definitions import Array


@dataclass(frozen=True, eq=False)
class LowRankGaussian:
    """N(mean, H) with H = diag(alpha)^(1/2) (I + Q R gamma R^T Q^T) diag(alpha)^(1/2), the paper's algorithm 4.

    Attributes:
        mean: [D].
        root: sqrt(alpha), [D].
        q: orthonormal columns, [D, at most 2 J].
        lower: Cholesky factor of I + R gamma R^T.
    """

    mean: Array
    root: Array
    q: Array
    lower: Array

    @property
    def log_det(self) -> float:
        """log det H."""
        return float(2.0 * (np.log(self.root).sum() + np.log(np.diag(self.lower)).sum()))

    def sample(self, num: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws [n, D] and their log densities [n]."""
        noise = rng.standard_normal((num, len(self.mean)))
        within = noise @ self.q
        moved = noise + (within @ self.lower.T - within) @ self.q.T
        log_density = -0.5 * ((noise**2).sum(axis=1) + self.log_det + len(self.mean) * np.log(2.0 * np.pi))
        return self.mean + self.root * moved, log_density


def gaussian(position: Array, gradient: Array, steps: Array, changes: Array, alpha: Array) -> LowRankGaussian:
    """The Gaussian at a point of the path.

    Args:
        position: [D].
        gradient: of -log p there, [D].
        steps: of the last J iterations, oldest first, [J, D].
        changes: of the gradient in them, [J, D].
        alpha: diagonal of the inverse Hessian that they correct, [D].

    Raises:
        numpy.linalg.LinAlgError: the estimate is not positive definite.
    """
    number = len(steps)
    products = steps @ changes.T
    inverse = np.linalg.inv(np.triu(products)) if number else np.zeros((0, 0))
    beta = np.concatenate([alpha * changes, steps]).T
    corner = inverse.T @ (np.diag(np.diag(products)) + (changes * alpha) @ changes.T) @ inverse
    gamma = np.block([[np.zeros((number, number)), -inverse], [-inverse.T, corner]])
    root = np.sqrt(alpha)
    q, r = np.linalg.qr(beta / root[:, None])
    lower = np.linalg.cholesky(np.eye(len(r)) + r @ gamma @ r.T)
    mean = position - alpha * gradient - beta @ (gamma @ (beta.T @ gradient))
    return LowRankGaussian(mean, root, q, lower)


def along(positions: Array, gradients: Array, alphas: Array, used: Array, window: int) -> list[LowRankGaussian]:
    """The Gaussians at all points of a path after its start: [T + 1, D] each, ``used`` [T] marks pairs that count."""
    steps, changes = np.diff(positions, axis=0), np.diff(gradients, axis=0)
    found = []
    for index in range(1, len(positions)):
        pairs = np.flatnonzero(used[:index])[-window:]
        try:
            found.append(gaussian(positions[index], gradients[index], steps[pairs], changes[pairs], alphas[index]))
        except np.linalg.LinAlgError:  # rounding, late in a path; the paper passes over such points too
            continue
    return found
