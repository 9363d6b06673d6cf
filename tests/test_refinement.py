"""Refined draws: what was wrong is put right, and nested R-hat tells chains that remember from those that do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import neural_vb as nvb
from neural_vb import polish
from neural_vb.diagnostics.chains import Chains
from neural_vb.diagnostics.refinement import MOST, folded_r_hat, nested_r_hat, refine
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import WhitenedTarget, Whitening


def test_nested_r_hat_of_chains_that_forget_and_that_do_not() -> None:
    rng = np.random.default_rng(0)
    forgot = rng.standard_normal((64, 32, 2))
    np.testing.assert_allclose(nested_r_hat(forgot), np.sqrt(1.0 + 1.0 / 32.0), atol=4.0 * 0.5 / 32 * np.sqrt(2 / 63))
    kept = 0.5 * rng.standard_normal((64, 1, 2))
    assert (nested_r_hat(forgot + kept) > 1.06).all()


def test_spreads_that_chains_remember_are_seen() -> None:
    """Superchains that are alike but for their spread."""
    spread = np.exp(0.5 * np.random.default_rng(0).standard_normal((64, 1, 2)))
    ends = spread * np.random.default_rng(1).standard_normal((64, 32, 2))
    assert (nested_r_hat(ends) < 1.03).all() and (folded_r_hat(ends) > 1.06).all()


def test_wrong_draws_are_put_right(gaussian_chains: Any) -> None:
    u, tuning = (0.4 + 0.7 * np.random.default_rng(s).standard_normal((4_096, 2)) for s in (1, 2))
    found = refine(gaussian_chains, u, tuning, num_transitions=30, seed=0)
    assert np.abs(found.u.mean(0)).max() < 4.0 / np.sqrt(4_096)
    assert np.abs(found.u.std(0) - 1.0).max() < 4.0 / np.sqrt(2 * 4_096)
    assert (np.abs(found.drift + 0.4) < 0.1).all() and (found.nested_r_hat < 1.04).all()
    assert 0.6 < found.acceptance < 1.0


def test_as_many_transitions_as_chains_need(gaussian_chains: Any) -> None:
    """Two far modes, between which chains do not cross, use the whole budget; one mode does not."""

    def two(z: tf.Tensor) -> tf.Tensor:
        parts = [-0.5 * tf.reduce_sum((z - [mean, 0.0]) ** 2, -1) for mean in (-10.0, 10.0)]
        return tf.reduce_logsumexp(tf.stack(parts), 0)

    target = WhitenedTarget(LogProbTarget(two, event_shape=[2]), Whitening(np.zeros(2), np.eye(2)))
    u, tuning = (np.random.default_rng(s).standard_normal((4_096, 2)) for s in (1, 2))
    assert refine(gaussian_chains, u, tuning, seed=0).num_transitions < MOST
    apart = [part + np.where(np.arange(4_096) % 4, 10.0, -10.0)[:, np.newaxis] * [1.0, 0.0] for part in (u, tuning)]
    found = refine(Chains(target, jit_compile=False), *apart, seed=0)
    assert found.num_transitions == MOST and found.nested_r_hat.max() > 1.5
    assert abs((found.u[:, 0] > 0.0).mean() - 0.75) < 0.02  # the sampler's weights, not the target's


def test_a_factorised_sampler_is_put_right_along_a_long_direction() -> None:
    """One direction twenty-five times as long as draws are wide: in their coordinates chains would creep along it."""
    size = 30
    target = LogProbTarget(lambda z: -0.5 * tf.reduce_sum(z**2, -1), event_shape=[size])
    factor = np.linalg.cholesky(0.8 * np.ones((size, size)) + 0.2 * np.eye(size))
    chains = Chains(WhitenedTarget(target, Whitening(np.zeros(size), np.linalg.inv(factor))), jit_compile=False)
    u, tuning = (0.2 * np.random.default_rng(s).standard_normal((4_096, size)) for s in (1, 2))
    found = refine(chains, u, tuning, num_transitions=25, seed=0)
    along = found.u.mean(1)
    exact = np.sqrt(0.8 + 0.2 / size)
    assert abs(along.std() / exact - 1.0) < 4.0 / np.sqrt(2 * 4_096)


def test_a_neck_that_draws_miss_is_reached() -> None:
    """In curved coordinates; in straight ones chains do not come there in hundreds of transitions."""
    size, sd = 12, 1.5

    def funnel(z: tf.Tensor) -> tf.Tensor:
        v, square = z[:, 0], tf.reduce_sum(z[:, 1:] ** 2, -1)
        return -0.5 * (v / sd) ** 2 - 0.5 * (size - 1) * v - 0.5 * tf.exp(-v) * square

    def sampler(seed: int) -> np.ndarray:
        z = np.random.default_rng(seed).standard_normal((4_096, size))
        z[:, 0] = 0.3 + 0.75 * sd * z[:, 0]
        z[:, 1:] *= np.exp(0.5 * z[:, :1])
        return z

    target = WhitenedTarget(LogProbTarget(funnel, event_shape=[size]), Whitening(np.zeros(size), np.eye(size)))
    for num in (None, 12):
        found = refine(Chains(target, jit_compile=False), sampler(1), sampler(2), num_transitions=num, seed=0)
        v = found.u[:, 0]
        assert abs(v.mean()) < 4.0 * sd / np.sqrt(len(v)) and abs(v.std() / sd - 1.0) < 4.0 / np.sqrt(2 * len(v))
        assert found.nested_r_hat.max() < 1.04 and found.num_transitions <= 16


def test_many_transitions_can_be_interrupted(gaussian_chains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a call of its own, as Python hears of Ctrl-C between calls alone."""
    asked, one = [], polish.Transitions.__call__

    def counted(self: polish.Transitions, t: int, *arguments: Any) -> Any:
        asked.append(t)
        return one(self, t, *arguments)

    monkeypatch.setattr(polish.Transitions, "__call__", counted)
    u, tuning = (1.5 * np.random.default_rng(s).standard_normal((4_096, 2)) + 1.0 for s in (1, 2))
    found = refine(gaussian_chains, u, tuning, num_transitions=150, seed=0)
    assert asked[-151:] == list(range(151)) and found.num_transitions == 150
    np.testing.assert_allclose(found.u.mean(0), 0.0, atol=4.0 / 64.0)
    np.testing.assert_allclose(found.u.std(0), 1.0, atol=4.0 / np.sqrt(2 * 4_096))
    assert 0.5 < found.acceptance < 1.0


def test_one_draw_has_a_drift_too(gaussian_chains: Any) -> None:
    """In the sds of the chains of nested R-hat, which begin elsewhere: one draw has no sd."""
    u = np.array([[3.0, 3.0]])
    tuning = np.random.default_rng(2).standard_normal((4_096, 2))
    found = refine(gaussian_chains, u, tuning, num_transitions=30, seed=0)
    np.testing.assert_allclose(found.drift, (found.u - u)[0], rtol=4.0 / np.sqrt(2 * 2_048))
    assert (found.nested_r_hat < 1.04).all()


def test_a_posterior_refines(named_posterior: nvb.Posterior) -> None:
    refined = named_posterior.refine(8, seed=3, num_draws=2_048)
    assert {name: value.shape for name, value in refined.draws.items()} == dict.fromkeys(
        ("mu", "tau", "ratio"), (2_048,)
    )
    for name, mean, sd in (("mu", 1.0, 0.5), ("tau", 1.5, np.sqrt(3.0) / 2.0)):
        assert abs(refined.draws[name].mean() - mean) < 4.0 * sd / np.sqrt(2_048)
    told = refined.to_arviz()["posterior"].attrs
    assert told["num_transitions"] == 8 and "separate chains" in told["sampling_method"]
    assert "acceptance" in str(refined)


def test_refined_draws_of_a_joint_bring_their_groups(joint_posterior: nvb.Posterior, joint_data: dict) -> None:
    """The pointwise log likelihood is that of the refined draws, for comparisons of models."""
    refined = joint_posterior.refine(4, seed=3, num_draws=64)
    data = refined.to_arviz(log_likelihood=True, posterior_predictive=True, prior=True, constant_data={"x": [1.0]})
    line = refined.draws["level"][:, None] + refined.draws["slope"][:, None] * np.linspace(-1.0, 1.0, 6)
    exact = -0.5 * ((joint_data["y"] - line) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2.0 * np.pi))
    np.testing.assert_allclose(data["log_likelihood"]["y"].values[0], exact, rtol=1e-3, atol=1e-3)
    assert data["posterior_predictive"]["y"].shape == data["prior_predictive"]["y"].shape == (1, 64, 6)
    assert list(data["sample_stats"].data_vars) == ["lp"]  # log q of refined draws is not known
    np.testing.assert_allclose(data["sample_stats"]["lp"].values[0], joint_posterior.log_prob(refined.draws), atol=1e-3)
    np.testing.assert_array_equal(data["observed_data"]["y"].values, joint_data["y"])
    assert data["prior"]["level"].shape == (1, 64) and data["constant_data"]["x"].values == [1.0]


def test_chains_that_remember_say_so(named_posterior: nvb.Posterior) -> None:
    refined = named_posterior.refine(8, seed=3, num_draws=64)
    assert "still know" not in str(refined)
    assert "still know where they began" in str(dataclasses.replace(refined, nested_r_hat=1.9))
    assert "was off" not in str(refined) and "was off by so much" in str(dataclasses.replace(refined, drift=1.9))
