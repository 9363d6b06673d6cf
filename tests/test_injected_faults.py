"""A log density that breaks down at random steps of training never makes a draw that is not finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

import neural_vb as nvb
from neural_vb import warm_start
from neural_vb.networks import MLP

CONFIG = nvb.TrainingConfig(max_steps=120, min_steps=0, decay_steps=40, window=20, batch_size=32, jit_compile=False)
NETWORK = MLP((8,), output_scale=0.01)
FAULTS: dict[str, float] = {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf}


class Breaking:
    """N((1, -1), I), broken for all draws of a step with probability ``share``, in its value or in its gradient."""

    event_size = 2
    dtype = tf.float32

    def __init__(self, fault: float, *, gradient_alone: bool) -> None:
        self.fault, self.gradient_alone = fault, gradient_alone
        self.share = tf.Variable(0.0)

    def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
        log_prob = -0.5 * tf.reduce_sum((z - [1.0, -1.0]) ** 2, -1)
        bits = tf.bitcast(tf.stop_gradient(tf.reshape(z, [-1])[:2]), tf.int32)
        broken = tf.random.stateless_uniform([], bits) < self.share
        if self.gradient_alone:  # of a root at zero: infinity times zero
            return log_prob + 1e-20 * tf.sqrt(tf.where(broken, 0.0, 1.0) * (1.0 + z[..., 0] ** 2))
        return tf.where(broken, self.fault, log_prob)

    def constrain(self, z: tf.Tensor) -> tf.Tensor:
        return z

    def unconstrain(self, draws: np.ndarray) -> np.ndarray:
        return draws


@pytest.fixture(autouse=True)
def few_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing breaks before training, and the start is a Gaussian."""
    monkeypatch.setattr(warm_start, "NUM_PARTICLES", 256)


def check(fault: str, share: float, seed: int, *, gradient_alone: bool) -> None:
    target = Breaking(FAULTS[fault], gradient_alone=gradient_alone)

    def begin(step: int, metrics: Mapping[str, float]) -> None:
        target.share.assign(share)

    posterior = nvb.fit(
        target,
        sampler=nvb.samplers.ResidualSampler(NETWORK),
        critic=nvb.critics.MLPCritic(NETWORK),
        contrast=nvb.contrasts.MomentMatched(),
        start=np.zeros(2),
        config=CONFIG,
        callbacks=[begin],
        seed=seed,
        progress=False,
    )
    draws = posterior.sample(2_000)
    assert np.isfinite(draws).all()
    assert all(np.isfinite(part).all() for part in tf.nest.flatten(posterior.parameters))
    if share == 0.5 and not gradient_alone:
        assert posterior.history.finite_share[1:].mean() < 0.8 or posterior.history.skipped.sum() > 10
    np.testing.assert_allclose(draws.mean(0), [1.0, -1.0], atol=0.3)
    np.testing.assert_allclose(draws.std(0), 1.0, atol=0.3)


@pytest.mark.parametrize(
    ("fault", "share", "gradient_alone"),
    [("NaN", 0.5, False), ("+inf", 0.01, False), ("-inf", 0.5, False), ("NaN", 0.5, True), ("+inf", 0.001, True)],
)
def test_a_sample_of_faults(fault: str, share: float, gradient_alone: bool) -> None:
    check(fault, share, 0, gradient_alone=gradient_alone)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.01, 0.5])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("gradient_alone", [False, True])
def test_two_hundred_fits_with_faults(fault: str, share: float, gradient_alone: bool) -> None:
    for seed in range(12):  # 216 fits in all
        check(fault, share, seed, gradient_alone=gradient_alone)
