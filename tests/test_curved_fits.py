"""Fits that end in coordinates with ridges: against quadrature, through files and checkpoints, and what they refuse."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import bending, curving
from neural_vb._types import Array
from neural_vb.bending import Bend
from neural_vb.fitting import fit, load
from neural_vb.posterior import Posterior
from neural_vb.ridges import Ridge
from neural_vb.warping import Warp

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(z: tf.Tensor) -> tf.Tensor:
    """Without centring, mu ~ N(0, 5^2), tau ~ half-Cauchy(5), z = (mu, log tau, eta_1, ...); two constants left out."""
    mu, log_tau, eta = z[:, 0], z[:, 1], z[:, 2:]
    tau = tf.exp(log_tau)
    rest = (tf.constant(EFFECTS, z.dtype) - mu[:, None] - tau[:, None] * eta) / tf.constant(ERRORS, z.dtype)
    prior = -(mu**2) / 50.0 - tf.math.log1p((tau / 5.0) ** 2) + log_tau - 0.5 * tf.reduce_sum(eta**2, -1)
    return prior - 0.5 * tf.reduce_sum(rest**2, -1)


def value_and_gradient(z: Array) -> tuple[Array, Array]:
    points = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(points)
        value = eight_schools(points)
    return value.numpy(), tape.gradient(value, points).numpy()


class Exact(NamedTuple):
    """By quadrature over tau, and closed forms for mu and eta given tau.

    Attributes:
        mean: of log tau.
        sd: of log tau.
        log_evidence: nats.
        draws: [S, 10].
    """

    mean: float
    sd: float
    log_evidence: float
    draws: Array


def exact(seed: int = 0, size: int = 2_048) -> Exact:
    rng = np.random.default_rng(seed)
    log_tau = np.linspace(-25.0, 6.0, 20_001)
    tau = np.exp(log_tau)[:, np.newaxis]
    precision = 1.0 / (ERRORS**2 + tau**2)
    total = precision.sum(1) + 1.0 / 25.0
    centre = (precision * EFFECTS).sum(1) / total
    log_prob = 0.5 * np.log(precision).sum(1) + np.log(ERRORS).sum() - 0.5 * np.log(total)
    log_prob += -0.5 * (precision * EFFECTS**2).sum(1) + 0.5 * total * centre**2
    log_prob += 4.5 * np.log(2.0 * np.pi) - np.log1p((tau[:, 0] / 5.0) ** 2) + log_tau
    weights = np.exp(log_prob - log_prob.max())
    log_evidence = np.log(weights.sum() * (log_tau[1] - log_tau[0])) + log_prob.max()
    weights /= weights.sum()
    mean = float(weights @ log_tau)
    chosen = rng.choice(len(log_tau), size, p=weights)
    tau, precision = tau[chosen], precision[chosen]
    mu = (centre[chosen] + rng.normal(size=size) / np.sqrt(total[chosen]))[:, np.newaxis]
    eta = tau * (EFFECTS - mu) * precision + ERRORS * np.sqrt(precision) * rng.normal(size=(size, 8))
    draws = np.concatenate([mu, np.log(tau), eta], 1)
    return Exact(mean, float(weights @ (log_tau - mean) ** 2) ** 0.5, float(log_evidence), draws)


@pytest.mark.parametrize("seed", range(3))
def test_the_density_of_a_scale(seed: int) -> None:
    """log tau has an exponential tail towards zero; a mixture of Gaussians does not follow it."""
    mean, sd, log_evidence, draws = exact(seed)
    found = curving.curve(value_and_gradient, draws, seed=seed, tolerance=0.015)
    assert found is not None and found.divergence < 0.015
    assert found.bound == pytest.approx(log_evidence, abs=0.02)
    y = tf.constant(np.random.default_rng(9).normal(size=(100_000, 10)))
    log_tau = bending.forward(found.maps, y)[0].numpy()[:, 1]
    assert log_tau.mean() == pytest.approx(mean, abs=0.03 * sd)
    assert log_tau.std() == pytest.approx(sd, rel=0.03)


def test_one_dimension_and_very_many_have_no_ridge() -> None:
    for size in (1, curving.MOST + 1):
        z = np.random.default_rng(0).normal(size=(2_048, size))
        assert curving.curve(lambda y: (-0.5 * (y**2).sum(1), -y), z, seed=0, tolerance=0.015) is None


def test_a_second_ridge_follows_what_the_first_leaves() -> None:
    """Two scales: x_2 given x_1 and x_4 given x_3, each with log sd .7 of the other; the constant is 2 log(2 pi)."""

    def evaluate(z: Array) -> tuple[Array, Array]:
        first, second = (np.exp(-0.7 * z[:, i]) for i in (0, 2))
        rest = z[:, [1, 3]] * np.column_stack([first, second])
        value = -0.5 * (z[:, 0] ** 2 + z[:, 2] ** 2 + (rest**2).sum(1)) - 0.7 * (z[:, 0] + z[:, 2])
        in_scales = -z[:, [0, 2]] - 0.7 + 0.7 * rest**2
        in_others = -rest * np.column_stack([first, second])
        return value, np.column_stack([in_scales[:, 0], in_others[:, 0], in_scales[:, 1], in_others[:, 1]])

    z = np.random.default_rng(0).normal(size=(2_048, 4))
    z[:, [1, 3]] *= np.exp(0.7 * z[:, [0, 2]])
    found = curving.curve(evaluate, z, seed=0, tolerance=0.015)
    assert found is not None
    assert sum(isinstance(one, Ridge) for one in found.maps) >= 2
    assert found.bound == pytest.approx(2.0 * np.log(2.0 * np.pi), abs=0.05)
    assert found.divergence < 0.06  # one ridge alone leaves .6


def test_a_mode_that_only_particles_show_is_not_lost() -> None:
    def two_modes(z: Array) -> tuple[Array, Array]:
        logits = np.column_stack(
            [np.log(weight) - 0.5 * ((z - at) ** 2).sum(1) for weight, at in ((0.9, -6), (0.1, 6))]
        )
        share = np.exp(logits - np.logaddexp(*logits.T)[:, np.newaxis])
        return np.logaddexp(*logits.T), share[:, :1] * (-6.0 - z) + share[:, 1:] * (6.0 - z)

    rng = np.random.default_rng(0)
    z = rng.normal(size=(2_048, 3)) + np.where(rng.random((2_048, 1)) < 0.9, -6.0, 6.0)
    assert curving.curve(two_modes, z, seed=0, tolerance=0.015) is None


@pytest.fixture(scope="module")
def schools() -> Posterior:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return fit(eight_schools, event_shape=[10], seed=0, progress=False)


def test_eight_schools_need_no_network(schools: Posterior) -> None:
    mean, sd, log_evidence, _ = exact()
    assert schools.status.reason == "met"
    assert {Ridge} <= {type(one) for one in schools.whitened.whitening.bends} <= {Bend, Ridge, Warp}
    log_tau = np.asarray(schools.sample(100_000, seed=1))[:, 1]
    assert log_tau.mean() == pytest.approx(mean, abs=0.05 * sd)
    assert log_tau.std() == pytest.approx(sd, rel=0.05)
    assert schools.elbo.value == pytest.approx(log_evidence, abs=0.05)


def test_they_are_saved(schools: Posterior, tmp_path: Path) -> None:
    schools.save(tmp_path / "schools")
    again = load(tmp_path / "schools", eight_schools, event_shape=[10])
    np.testing.assert_array_equal(schools.sample(100, seed=3), again.sample(100, seed=3))
    kinds, loaded = ([type(one) for one in posterior.whitened.whitening.bends] for posterior in (schools, again))
    assert kinds == loaded


def test_a_checkpoint_keeps_them(schools: Posterior, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"event_shape": [10], "seed": 0, "progress": False, "checkpoint": tmp_path / "state"}
    for _ in range(2):  # the second call finds what the first has left
        again = fit(eight_schools, **arguments)
        np.testing.assert_array_equal(schools.sample(100, seed=3), again.sample(100, seed=3))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_far_points_have_no_density_and_raise_no_warning(schools: Posterior) -> None:
    z = schools.sample_unconstrained(200, seed=2)
    near, far = (schools.log_prob_estimate(factor * z) for factor in (1.0, 100.0))
    assert np.isfinite(near).all()
    assert not np.isnan(far).any() and far.max() < near.min()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_checks_of_them(schools: Posterior) -> None:
    verdict = schools.check(seed=0)
    assert "fail" not in {finding.state for finding in verdict.findings().values()}
