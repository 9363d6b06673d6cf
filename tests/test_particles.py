"""Particles where a log density is unbounded, and what they know there is rounding."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from densities import constant

from neural_vb._types import Tensor
from neural_vb.bending import Bend
from neural_vb.particles import Runner, settle
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import TracedTarget

Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
SD = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def centred_schools(z: Tensor) -> Tensor:
    """(mu, log tau, theta): N(0, 5^2), half-Cauchy(5), theta_i ~ N(mu, tau^2); unbounded where all theta_i = mu."""
    mu, log_tau, theta = z[:, 0], z[:, 1], z[:, 2:]
    tau = tf.exp(log_tau)
    prior = -0.5 * (mu / 5.0) ** 2 - tf.math.log1p((tau / 5.0) ** 2) - 7.0 * log_tau
    spread = -0.5 * tf.reduce_sum(((theta - mu[:, None]) / tau[:, None]) ** 2, -1)
    return prior + spread - 0.5 * tf.reduce_sum(((constant(Y, z) - theta) / constant(SD, z)) ** 2, -1)


def log_evidence() -> float:
    """By quadrature over mu and log tau; the theta_i are integrated out."""
    mu, log_tau = np.linspace(-30.0, 40.0, 701)[:, None], np.linspace(-20.0, 8.0, 2_801)
    log_p = -0.5 * (mu / 5.0) ** 2 - np.log1p(np.exp(2.0 * log_tau) / 25.0) + log_tau
    for y, sd in zip(Y, SD, strict=True):
        variance = np.exp(2.0 * log_tau) + sd**2
        log_p = log_p + 0.5 * np.log(2.0 * np.pi * sd**2 / variance) - 0.5 * (y - mu) ** 2 / variance
    return float(np.log(np.exp(log_p).sum() * 0.1 * 0.01))


def test_particles_whose_log_p_is_rounding_have_no_evidence() -> None:
    target = LogProbTarget(centred_schools, event_shape=[10], dtype=tf.float32)
    runner = Runner(TracedTarget(target, 2_048), top=-np.inf, seed=0, jit_compile=False)
    at_the_end = np.full(10, 4.819)
    at_the_end[1] = -19.59
    scale_tril = np.diag(np.r_[4e-4, 9.0, np.full(8, 3e-9)])
    assert runner(at_the_end, scale_tril).log_evidence == -np.inf
    found = settle(runner, [(at_the_end, scale_tril), (np.zeros(10), np.eye(10))])
    assert found.log_evidence == pytest.approx(log_evidence(), abs=0.5)
    assert found.y[:, 1].min() > -10.0


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize(("sd", "known"), [(0.05, False), (5.0, True)])
def test_a_gaussian_narrower_than_a_digit_has_no_evidence(bent: bool, sd: float, known: bool) -> None:
    """Next to 10^6 single precision knows sixteenths."""
    target = LogProbTarget(lambda z: -0.5 * tf.reduce_sum(((z - 1e6) / sd) ** 2, -1), event_shape=[2], dtype=tf.float32)
    runner = Runner(TracedTarget(target, 1_024), top=0.0, seed=0, jit_compile=False)
    shift, scale_tril = np.full(2, 1e6), sd * np.eye(2)
    if bent:
        same = Bend(shift, scale_tril, np.zeros((3, 2)), np.zeros((4, 2)), 2.0 * np.log(sd))
        found = runner(np.zeros(2), np.eye(2), (same,))
    else:
        found = runner(shift, scale_tril)
    assert (found.log_evidence > -np.inf) == known
    if known:
        assert found.log_evidence == pytest.approx(np.log(2.0 * np.pi * sd**2), abs=0.2)


def test_a_particle_beside_an_edge_does_not_cost_the_others_their_evidence() -> None:
    """A digit further log p is not a number."""

    def log_prob(z: Tensor) -> Tensor:
        return tf.where(z[:, 0] > 1.0, -z[:, 0], np.nan)

    target = LogProbTarget(log_prob, event_shape=[1], dtype=tf.float32)
    runner = Runner(TracedTarget(target, 1_024), top=0.0, seed=0, jit_compile=False)
    found = runner(np.full(1, 2.0), np.eye(1))
    assert found.log_evidence == pytest.approx(-1.0, abs=0.3)
