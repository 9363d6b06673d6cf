"""Widening: what is narrower than the particles by more than their noise gets their sds, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from neural_vb.whitening import Whitening
from neural_vb.widening import widen

NUM_DRAWS = 16_384

SHIFT = np.array([100.0, -3.0, 0.02])
SCALE_TRIL = np.array([[20.0, 0.0, 0.0], [-0.4, 0.5, 0.0], [0.001, 0.002, 0.005]])
COVARIANCE = SCALE_TRIL @ SCALE_TRIL.T
PARTICLES = 2_048


def draws(log_scales: list[float], seed: int = 0) -> np.ndarray:
    """u of a sampler whose z has the whitening's correlations, scales of its own, and another mean."""
    noise = np.random.default_rng(seed).standard_normal((NUM_DRAWS, 3))
    noise = (noise - noise.mean(0)) / noise.std(0)
    around = np.linalg.cholesky(np.cov(noise.T, bias=True))
    z = SHIFT + 0.05 + np.exp(log_scales) * (np.linalg.solve(around, noise.T).T @ SCALE_TRIL.T)
    return np.linalg.solve(SCALE_TRIL, (z - SHIFT).T).T


@pytest.mark.parametrize("lost", [0.1, 0.2, 0.4])
def test_lost_sds_come_back_about_the_sampler_s_own_mean(lost: float) -> None:
    u = draws([0.0, -lost, 0.0])
    found, applied = widen(Whitening(SHIFT, SCALE_TRIL), u, np.sqrt(np.diag(COVARIANCE)), PARTICLES)
    np.testing.assert_allclose(applied, [0.0, lost, 0.0], atol=1e-9)
    z, before = (shift + u @ factor.T for shift, factor in ((found.shift, found.scale_tril), (SHIFT, SCALE_TRIL)))
    np.testing.assert_allclose(z.std(0), np.sqrt(np.diag(COVARIANCE)), rtol=1e-9)
    np.testing.assert_allclose(z.mean(0), before.mean(0), rtol=1e-9)
    np.testing.assert_allclose(np.corrcoef(z.T), np.corrcoef(before.T), atol=1e-9)
    assert (np.triu(found.scale_tril, 1) == 0.0).all()


@pytest.mark.parametrize("log_scales", [[0.0, 0.0, 0.0], [0.3, 0.3, 0.3], [-0.06, 0.0, 0.0], [-0.6, 0.0, 0.0]])
def test_noise_wider_samplers_and_other_errors_are_left_alone(log_scales: list[float]) -> None:
    whitening = Whitening(SHIFT, SCALE_TRIL)
    found, applied = widen(whitening, draws(log_scales), np.sqrt(np.diag(COVARIANCE)), PARTICLES)
    assert found is whitening and not applied.any()


def test_tails_ask_for_more() -> None:
    """The sd of few particles from a distribution with heavy tails is not known well enough to correct by."""
    u = np.random.default_rng(1).standard_t(5.0, (NUM_DRAWS, 3))
    u *= np.exp(-0.085) / u.std(0)
    assert not widen(Whitening(np.zeros(3), np.eye(3)), u, np.ones(3), PARTICLES)[1].any()
    assert widen(Whitening(np.zeros(3), np.eye(3)), u, np.ones(3), 100 * PARTICLES)[1].all()
