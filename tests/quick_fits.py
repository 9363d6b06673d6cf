"""Fits with the smallest parts and few steps, for several test modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import neural_vb as nvb
from neural_vb.networks import MLP

TINY = nvb.TrainingConfig(max_steps=20, min_steps=0, decay_steps=20, window=20, batch_size=32, jit_compile=False)
NETWORK = MLP((8,), output_scale=0.01)


def quick(target: Any, data: Any = None, **options: Any) -> nvb.Posterior:
    """A fit with the smallest parts, which stays about where the warm start put it."""
    parts = {
        "sampler": nvb.samplers.ResidualSampler(NETWORK),
        "critic": nvb.critics.MLPCritic(NETWORK),
        "contrast": nvb.contrasts.MomentMatched(),
    }
    if isinstance(options.get("start"), nvb.Posterior):
        parts = {}
    return nvb.fit(target, data, **({"config": TINY, "progress": False} | parts | options))


def normal(z: tf.Tensor) -> tf.Tensor:
    """N((1, -1), diag(.5, 2)^2)."""
    return -0.5 * tf.reduce_sum(((z - [1.0, -1.0]) / [0.5, 2.0]) ** 2, -1)


def check_normal(draws: np.ndarray) -> None:
    np.testing.assert_allclose((draws.mean(0) - [1.0, -1.0]) / [0.5, 2.0], 0.0, atol=0.15)
    np.testing.assert_allclose(draws.std(0) / [0.5, 2.0], 1.0, atol=0.15)


class OneWay:
    """A target without `unconstrain`."""

    event_size = 2
    dtype = tf.float32

    def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
        return -0.5 * tf.reduce_sum(z**2, -1)

    def constrain(self, z: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.norm(z, axis=-1)}
