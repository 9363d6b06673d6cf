"""Implicit posteriors: networks that turn noise into draws.

Noise has at least D dimensions: with fewer the draws lie on a surface and q has no density.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from neural_vb import mixtures
from neural_vb._types import Base, Parameters, Proposal, Seed, Tensor
from neural_vb.networks import MLP, Network, join_condition


@dataclass(frozen=True)
class ResidualSampler:
    """g(eps) = b + network([b, eps, x]) with b = m_k + L_k eps drawn from the base mixture, k ~ weights.

    The network's last layer starts almost at zero, so q starts *as* the warm start. The weights of the mixture are
    trained by the score function: E[stop(l - mean l) log w_k] has the exact gradient of the loss l with respect to
    them, and no variance once q = p.

    Args:
        network: from the base draw, the noise and x to a correction of size D.
        extra_noise: noise dimensions beyond D.
    """

    network: Network = MLP((64, 64), output_scale=0.01)
    extra_noise: int = 0

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"base": mixture parameters, "network": the network's}."""
        num_components, event_size = base.means.shape
        copies = 1 if num_components == 1 else 2
        input_size = copies * event_size + self.extra_noise + x_size
        return {
            "base": mixtures.initial_parameters(base),
            "network": self.network.initial_parameters(input_size, event_size, seed),
        }

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor | None, seed: Seed) -> Proposal:
        """Draws z [S, B, D] and the log probability of their components [S, B]."""
        num_conditions = 1 if x is None else tf.shape(x)[0]
        event_size = parameters["base"]["means"].shape[-1]
        noise = mixtures.normal(tf.stack([num_samples, num_conditions]), 1 + event_size + self.extra_noise, seed)
        chosen, log_choice = mixtures.choose(parameters["base"], noise[..., 0])
        noise = noise[..., 1:]
        base_draws = mixtures.transform(parameters["base"], noise[..., :event_size], chosen)
        inputs = noise if chosen.shape[-1] == 1 else tf.concat([base_draws, noise], -1)
        correction = self.network(parameters["network"], join_condition(inputs, x))
        return Proposal(base_draws + correction, log_choice)
