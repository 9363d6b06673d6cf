"""The best Gaussian by natural gradients: exact where p is Gaussian, the KL optimum elsewhere, or None."""

from __future__ import annotations

import numpy as np
import pytest

from neural_vb import gaussian_mixture, gaussian_vi
from neural_vb._types import Array

MEAN = np.array([3.0, -1.0, 0.5])
COVARIANCE = np.array([[4.0, 1.9, 0.0], [1.9, 1.0, 0.0], [0.0, 0.0, 1e-4]])
FAR = gaussian_vi.Start(np.zeros(3), np.diag([0.1, 0.1, 0.1]))


def gaussian(z: Array) -> tuple[Array, Array]:
    precision = np.linalg.inv(COVARIANCE)
    score = -(z - MEAN) @ precision
    return 0.5 * ((z - MEAN) * score).sum(1) - 0.5 * np.linalg.slogdet(2.0 * np.pi * COVARIANCE)[1] - 2.0, score


def test_a_gaussian_is_met_without_noise_of_the_draws() -> None:
    found = gaussian_vi.fit(gaussian, [FAR], seed=0)
    assert found is not None
    # The search rests within 1e-3 nats; 1,024 draws alone would leave .06 in a mean and .2 in the first variance.
    np.testing.assert_allclose(found.mean, MEAN, atol=1e-3)
    np.testing.assert_allclose(found.scale_tril @ found.scale_tril.T, COVARIANCE, atol=1e-3)
    assert found.elbo == pytest.approx(-2.0, abs=gaussian_vi.ROUNDING) and found.divergence < 1e-6


def test_the_optimum_of_a_quartic_satisfies_steins_identities() -> None:
    """log p = -z^4 / 4: E_q[z^3 z] = 3 s^4 = 1 at the optimum of KL(q || p)."""
    found = gaussian_vi.fit(
        lambda z: (-0.25 * z[:, 0] ** 4, -(z**3)), [gaussian_vi.Start(np.ones(1), np.eye(1))], seed=0
    )
    assert found is not None
    noise = 4.0 / np.sqrt(gaussian_vi.NUM_DRAWS)
    assert found.scale_tril[0, 0] == pytest.approx(3.0**-0.25, abs=noise) and abs(found.mean[0]) < noise


def test_the_start_with_the_largest_bound_is_taken() -> None:
    near = gaussian_vi.Start(MEAN, np.linalg.cholesky(COVARIANCE))
    broken = gaussian_vi.Start(np.full(3, np.nan), np.eye(3))
    for starts in ([broken, near, FAR], [FAR, near]):
        found = gaussian_vi.fit(gaussian, starts, seed=1)
        assert found is not None
        np.testing.assert_allclose(found.mean, MEAN, atol=1e-6)


def test_draws_outside_the_support_and_bounds_without_end_are_none() -> None:
    start = [gaussian_vi.Start(np.zeros(1), np.eye(1))]
    assert (
        gaussian_vi.fit(lambda z: (np.where(z[:, 0] > 0.0, -z[:, 0], -np.inf), -np.ones_like(z)), start, seed=0) is None
    )
    assert gaussian_vi.fit(lambda z: (z[:, 0], np.ones_like(z)), start, seed=0) is None


def test_scores_take_the_noise_out_of_moments() -> None:
    """Exact for a Gaussian from any points with its scores; for a Student t within the error of plain moments."""
    rng = np.random.default_rng(0)
    points = MEAN + rng.standard_normal((500, 3)) @ np.linalg.cholesky(COVARIANCE).T
    whitened = np.linalg.solve(np.linalg.cholesky(COVARIANCE), (points - MEAN).T).T
    found = gaussian_mixture.moments(whitened, -whitened)
    np.testing.assert_allclose(found.means[0], 0.0, atol=0.02)  # 1 / sqrt(500) without scores
    np.testing.assert_allclose(found.scale_trils[0], np.eye(3), atol=0.02)
    t = rng.standard_t(8.0, (20_000, 1))
    heavy = gaussian_mixture.moments(t, -9.0 * t / (8.0 + t**2))
    error = np.sqrt(8.0 / 6.0 / len(t))
    assert abs(heavy.means[0, 0]) < 4.0 * error
    assert heavy.scale_trils[0, 0, 0] ** 2 == pytest.approx(
        8.0 / 6.0, abs=4.0 * np.sqrt((4.5 - 1.0) / len(t)) * 8.0 / 6.0
    )
