"""Contrasts r(z | x) of a variational autoencoder: the prior, and what follows the moments of the sampler.

Draws are [S, B, D], data [B, X], log densities [S, B] in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import mixtures
from neural_vb._types import Base, Parameters, Seed, Tensor
from neural_vb.applications.decoders import log_standard_normal
from neural_vb.applications.encoders import Moments
from neural_vb.conditional_flows import ConditionalFlow, ConditionalFlowDensity, MixtureNetwork
from neural_vb.networks import MLP

FLOW = ConditionalFlow(num_couplings=2, base=MixtureNetwork(1, MLP((64,), output_scale=0.01)))


@dataclass(frozen=True)
class GaussianDensity:
    """N(mean(x), diag scale(x)^2), draws [S, B, D]; ``standardise`` is z -> (z - mean) / scale."""

    mean: Tensor
    scale: Tensor

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws [S, B, D]."""
        shape = tf.stack([num_samples, tf.shape(self.mean)[0]])
        return self.mean + self.scale * mixtures.normal(shape, self.mean.shape[-1], seed)

    def log_prob(self, z: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return log_standard_normal(self.standardise(z)) - tf.reduce_sum(tf.math.log(self.scale), -1)

    def standardise(self, z: Tensor) -> Tensor:
        """[S, B, D] -> [S, B, D]."""
        return (z - self.mean) / self.scale


@dataclass(frozen=True)
class ShapedGaussian(GaussianDensity):
    """With ``condition`` [B, C], for the critic to see in place of x."""

    condition: Tensor


def _seen(moments: Moments, x: Tensor) -> Tensor:
    """Of x: what the standardised q depends on, where the sampler tells it; else x itself."""
    return x if moments.shape is None else moments.shape


@dataclass(frozen=True)
class StandardNormal:
    """r = N(0, I), the prior of the decoder: plain adversarial variational Bayes (Algorithm 1 of 1701.04722).

    Single precision and any D; ``contrasts.Prior`` is for priors that a user brings.
    """

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"mean": [D]}, zero and never moved: it tells D."""
        return {"mean": np.zeros(base.means.shape[-1], np.float32)}

    def __call__(self, parameters: Parameters, x: Tensor) -> GaussianDensity:
        """The density."""
        mean = tf.zeros([tf.shape(x)[0], parameters["mean"].shape[0]])
        return GaussianDensity(mean, tf.ones_like(mean))

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Unchanged."""
        return parameters


@dataclass(frozen=True)
class EncoderMoments:
    """Adaptive contrast: r(z | x) = N(mean(x), diag var(x)) with the sampler's own moments (1701.04722, section 4).

    It has no parameters: ``follows_sampler`` asks the objective for the sampler's, behind a stop-gradient. The critic
    sees z standardised by r, and of x what the standardised q depends on, where the sampler tells.

    Args:
        sampler: the encoder, with ``moments``.
    """

    sampler: Any

    follows_sampler = True

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """None."""
        return {}

    def __call__(self, parameters: Parameters, x: Tensor) -> ShapedGaussian:
        """The density r(. | x), from the *sampler's* parameters."""
        moments = self.sampler.moments(parameters["sampler"], x)
        return ShapedGaussian(moments.mean, moments.scale, _seen(moments, x))

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Unchanged."""
        return parameters


@dataclass(frozen=True)
class MomentsAndFlowDensity(ShapedGaussian):
    """z = mean + scale u with u from a flow."""

    flow: ConditionalFlowDensity

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws [S, B, D]."""
        return self.mean + self.scale * self.flow.sample(num_samples, seed)

    def log_prob(self, z: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return self.flow.log_prob(self.standardise(z)) - tf.reduce_sum(tf.math.log(self.scale), -1)


@dataclass(frozen=True)
class MomentsAndFlow:
    """Adaptive contrast beyond moments: r(z | x) is a flow of u = (z - mean(x)) / scale(x), with the sampler's moments.

    The flow starts near N(0, I), so that r starts as :class:`EncoderMoments`, and learns what is not Gaussian in q by
    maximum likelihood on the sampler's draws. Flow and critic see u, and of x what the standardised q depends on: where
    the draws are need not be learned a second time from x.

    Args:
        sampler: the encoder, with ``moments``.
        flow: of u given the shape. The default is a Gaussian for D = 1, where there is nothing to couple.
    """

    sampler: Any
    flow: ConditionalFlow = FLOW

    follows_sampler = True

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"flow": the flow's}."""
        first, x = self.sampler.initial_parameters(base, x_size, seed), tf.zeros([1, x_size])
        seen = _seen(self.sampler.moments(first, x), x)
        return {"flow": self.flow.initial_parameters(base, seen.shape[-1], seed)}

    def __call__(self, parameters: Parameters, x: Tensor) -> MomentsAndFlowDensity:
        """The density r(. | x)."""
        moments = self.sampler.moments(parameters["sampler"], x)
        seen = _seen(moments, x)
        return MomentsAndFlowDensity(moments.mean, moments.scale, seen, self.flow(parameters["flow"], seen))

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Unchanged: the flow follows by the gradient of its likelihood."""
        return parameters
