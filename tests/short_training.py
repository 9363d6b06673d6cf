"""Training of small parts without a warm start, for several test modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from neural_vb.avb import Parts
from neural_vb.configuration import TrainingConfig
from neural_vb.contrasts import MomentMatched
from neural_vb.critics import MLPCritic
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP
from neural_vb.ratio_losses import logistic
from neural_vb.samplers import ResidualSampler
from neural_vb.training import Trained, train

PLAIN = TrainingConfig(
    max_steps=40, min_steps=0, decay_steps=20, window=20, batch_size=16, easy_divergence=0.0, jit_compile=False
)
SMALL = MLP((8,), output_scale=0.01)


def parts(contrast: Any = None, loss: Callable = logistic, network: MLP = SMALL) -> Parts:
    return Parts(ResidualSampler(network), MLPCritic(network), contrast or MomentMatched(), loss)


def initial(parts: Parts, size: int = 2, x_size: int = 0) -> dict[str, Any]:
    base = standard_base(size)
    return {
        "sampler": parts.sampler.initial_parameters(base, x_size, 1),
        "critic": parts.critic.initial_parameters(base, x_size, 2),
        "contrast": parts.contrast.initial_parameters(base, x_size, 3),
    }


def normal(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


def run(
    log_prob: Callable = normal, config: TrainingConfig = PLAIN, chosen: Parts | None = None, **more: Any
) -> Trained:
    chosen = chosen or parts()
    x_size = more["x"].shape[-1] if "x" in more else 0
    start = more.pop("start", None) or initial(chosen, more.pop("size", 2), x_size)
    return train(chosen, log_prob, start, config=config, seed=0, **more)
