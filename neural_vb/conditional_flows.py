"""Densities r(z | x) whose every number depends on x, for amortised posteriors: a mixture network under couplings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb._types import Base, Parameters, Proposal, Seed, Tensor
from neural_vb.contrasts import Flow, FlowDensity
from neural_vb.mixtures import normal
from neural_vb.networks import MLP, Network, join_condition

LOG_SCALE_BOUND = 6.0


class Components(NamedTuple):
    """Diagonal Gaussians for each x: log_weights [B, K], means [B, K, D], log_scales [B, K, D]."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor


@dataclass(frozen=True)
class MixtureNetwork:
    """w_k(x), m_k(x), s_k(x) of sum_k w_k N(u; m_k, diag s_k^2), all from one network (Bishop 1994).

    Args:
        num_components: K.
        network: from x to K (1 + 2 D) numbers.
    """

    num_components: int = 6
    network: Network = MLP((64, 64), output_scale=0.1)

    def initial_parameters(self, event_size: int, x_size: int, seed: Seed) -> Parameters:
        """The network's own, and means [K, D] that set the components apart at the start."""
        offsets = np.random.default_rng(seed).standard_normal((self.num_components, event_size))
        if self.num_components == 1:
            offsets[:] = 0.0
        size = self.num_components * (1 + 2 * event_size)
        return {
            "network": self.network.initial_parameters(x_size, size, seed),
            "offsets": offsets.astype(np.float32),
        }

    def __call__(self, parameters: Parameters, x: Tensor) -> Components:
        """[B, X] -> the components."""
        count, event_size = parameters["offsets"].shape
        raw = self.network(parameters["network"], x)
        logits, means, log_scales = tf.split(raw, [count, count * event_size, count * event_size], -1)
        shape = tf.stack([tf.shape(x)[0], count, event_size])
        log_scales = LOG_SCALE_BOUND * tf.tanh(tf.reshape(log_scales, shape) / LOG_SCALE_BOUND)
        means = tf.reshape(means, shape) + parameters["offsets"]
        return Components(tf.nn.log_softmax(logits), means, log_scales)


def choose(components: Components, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot components [S, B, K] and their log probabilities [S, B] from standard normal noise [S, B]."""
    count = components.log_weights.shape[-1]
    uniform = 0.5 * tf.math.erfc(-noise / math.sqrt(2.0))
    edges = tf.cumsum(tf.exp(components.log_weights), -1)[:, :-1]
    chosen = tf.one_hot(tf.reduce_sum(tf.cast(uniform[..., tf.newaxis] >= edges, tf.int32), -1), count)
    return chosen, tf.reduce_sum(chosen * components.log_weights, -1)


def transform(components: Components, noise: Tensor, chosen: Tensor) -> Tensor:
    """Noise [S, B, D] and one-hot components [S, B, K] -> draws [S, B, D]."""
    mean = tf.einsum("sbk,bkd->sbd", chosen, components.means)
    log_scale = tf.einsum("sbk,bkd->sbd", chosen, components.log_scales)
    return mean + tf.exp(log_scale) * noise


def log_prob(components: Components, u: Tensor) -> Tensor:
    """log sum_k w_k N(u; m_k, diag s_k^2), [S, B, D] -> [S, B]."""
    noise = (u[..., tf.newaxis, :] - components.means) * tf.exp(-components.log_scales)
    constant = 0.5 * u.shape[-1] * math.log(2.0 * math.pi)
    log_components = -0.5 * tf.reduce_sum(noise**2, -1) - tf.reduce_sum(components.log_scales, -1) - constant
    return tf.reduce_logsumexp(components.log_weights + log_components, -1)


@dataclass(frozen=True)
class ConditionalFlowDensity(FlowDensity):
    """Affine couplings on a mixture, both given x; see :class:`ConditionalFlow`."""

    @property
    def components(self) -> Components:
        """The mixture under the couplings."""
        return self.flow.base(self.parameters["base"], self.x)  # type: ignore[attr-defined]

    def propose(self, noise: Tensor) -> Proposal:
        """Noise [S, B, 1 + D] -> draws [S, B, D], differentiable, and the log probability of their components."""
        components = self.components
        chosen, log_choice = choose(components, noise[..., 0])
        return Proposal(self.forward(transform(components, noise[..., 1:], chosen)), log_choice)

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws [S, B, D]."""
        event_size = self.parameters["base"]["offsets"].shape[-1]
        return self.propose(normal(tf.stack([num_samples, tf.shape(self.x)[0]]), 1 + event_size, seed)).z

    def base_log_prob(self, u: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return log_prob(self.components, u)


@dataclass(frozen=True)
class ConditionalFlow(Flow):
    """r(z | x): affine couplings on a mixture of diagonal Gaussians, everything a function of x.

    Like :class:`~neural_vb.contrasts.Flow`, with a base that x moves: what an amortised posterior needs, whose place
    and width change with the data.

    Args:
        base: from x to the mixture.
    """

    base: MixtureNetwork = MixtureNetwork()

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"base": the mixture network's, "couplings": a tuple}; of ``base`` only D is used."""
        first = int(np.random.SeedSequence(seed).spawn(1)[0].generate_state(1)[0])
        return {
            "base": self.base.initial_parameters(base.means.shape[-1], x_size, first),
            "couplings": super().initial_parameters(base, x_size, seed)["couplings"],
        }

    def __call__(self, parameters: Parameters, x: Tensor | None) -> ConditionalFlowDensity:
        """The density r(. | x)."""
        return ConditionalFlowDensity(self, parameters, x)


@dataclass(frozen=True)
class FlowSampler:
    """g(eps, x) = f(eps; x) + network([f, eps, x]) with f a flow of its own: q starts as the flow and goes beyond it.

    Args:
        flow: f; its mixture's weights are trained by the score function.
        network: the correction, almost zero at the start.
    """

    flow: ConditionalFlow = ConditionalFlow()
    network: Network = MLP((64, 64), output_scale=0.01)

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"flow": the flow's, "network": the correction's}."""
        event_size = base.means.shape[-1]
        return {
            "flow": self.flow.initial_parameters(base, x_size, seed),
            "network": self.network.initial_parameters(2 * event_size + x_size, event_size, seed),
        }

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor | None, seed: Seed) -> Proposal:
        """Draws z [S, B, D] and the log probability of their components [S, B]."""
        event_size = parameters["flow"]["base"]["offsets"].shape[-1]
        noise = normal(tf.stack([num_samples, tf.shape(x)[0]]), 1 + event_size, seed)
        density = self.flow(parameters["flow"], x)
        z, log_choice = density.propose(noise)[:2]
        inputs = join_condition(tf.concat([z, noise[..., 1:]], -1), x)
        return Proposal(z + self.network(parameters["network"], inputs), log_choice)
