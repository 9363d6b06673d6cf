"""Ways to infer z from x in a variational autoencoder: critics, and compositions of sampler, critic and contrast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import mixtures, ratio_losses
from neural_vb._types import Base, Contrast, Critic, Parameters, RatioLoss, Sampler, Seed, Tensor
from neural_vb.applications.contrasts import EncoderMoments, MomentsAndFlow, StandardNormal
from neural_vb.applications.encoders import (
    ConcatSampler,
    GaussianEncoder,
    InverseAutoregressiveEncoder,
    NoiseBasisSampler,
)
from neural_vb.avb import Parts, as_given, contrast_density
from neural_vb.conditional_flows import ConditionalFlow
from neural_vb.critics import MLPCritic
from neural_vb.networks import MLP, Network


@dataclass(frozen=True)
class ProductCritic:
    """T(z, x) = <theta(x), s(z)> + T_x(x) + T_z(z), which sees each x once for all of its draws (1701.04722, appendix).

    Args:
        data_network: from x to theta and T_x.
        latent_network: from z to s and T_z.
        num_features: length of theta and s.
    """

    data_network: Network = MLP((64, 64))
    latent_network: Network = MLP((64, 64), output_scale=0.01)
    num_features: int = 64

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"data": ..., "latent": ...}."""
        first, second = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
        size = self.num_features + 1
        return {
            "data": self.data_network.initial_parameters(x_size, size, first),
            "latent": self.latent_network.initial_parameters(base.means.shape[-1], size, second),
        }

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        theta, of_x = tf.split(self.data_network(parameters["data"], x), [self.num_features, 1], -1)
        s, of_z = tf.split(self.latent_network(parameters["latent"], z), [self.num_features, 1], -1)
        return tf.reduce_sum(theta * s, -1) + of_x[..., 0] + of_z[..., 0]


@dataclass(frozen=True)
class LatentCritic:
    """T(z), blind to x: the adversarial autoencoder (Makhzani et al., arXiv 1511.05644), an approximation.

    Its optimum is log q(z) - log r(z) with q(z) the aggregate over the data, so what the sampler ascends is
    E_q[log p(x | z)] - KL(q(z) || p(z)), which is no bound on log p(x).

    Args:
        network: from z to one number.
    """

    network: Network = MLP((64, 64), output_scale=0.01)

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """The network's own."""
        return self.network.initial_parameters(base.means.shape[-1], 1, seed)

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor | None) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return self.network(parameters, z)[..., 0]


@dataclass(frozen=True)
class NoCritic:
    """T = 0, for a sampler whose density is known."""

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """None."""
        return {}

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor | None) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return tf.zeros_like(z[..., 0])


@dataclass(frozen=True)
class Inference:
    """How z is inferred from x.

    Args:
        sampler: draws from q(z | x).
        critic: T(z, x), near log q - log r.
        contrast: r(z | x).
        ratio_loss: what the critic minimises.
        features: what these three see of x; the likelihood sees x itself.
    """

    sampler: Sampler
    critic: Critic
    contrast: Contrast
    ratio_loss: RatioLoss = ratio_losses.logistic
    features: Callable[[Any], Any] = as_given

    @property
    def parts(self) -> Parts:
        """For the engine."""
        return Parts(self.sampler, self.critic, self.contrast, self.ratio_loss, self.features)

    def initial_parameters(self, latent_size: int, x: Tensor, seeds: Sequence[int]) -> dict[str, Parameters]:
        """{"sampler", "critic", "contrast"} for data like x [B, X], from two seeds."""
        base, seen = mixtures.standard_base(latent_size), self.features(x)
        size = int(seen.shape[-1])
        parameters = {
            "sampler": self.sampler.initial_parameters(base, size, seeds[0]),
            "contrast": self.contrast.initial_parameters(base, size, seeds[0]),
        }
        condition = getattr(contrast_density(self.parts, parameters, seen), "condition", seen)
        parameters["critic"] = self.critic.initial_parameters(base, int(condition.shape[-1]), seeds[1])
        return parameters


def gaussian(sampler: Any = None) -> Inference:
    """The plain variational autoencoder: q(z | x) Gaussian with a diagonal covariance, the ordinary ELBO."""
    chosen: Any = sampler or GaussianEncoder()
    return Inference(chosen, NoCritic(), StandardNormal())


def iaf(sampler: Any = None) -> Inference:
    """q(z | x) by inverse autoregressive flow, the ordinary ELBO."""
    chosen: Any = sampler or InverseAutoregressiveEncoder()
    return Inference(chosen, NoCritic(), StandardNormal())


def avb_prior(sampler: Sampler | None = None, critic: Critic | None = None) -> Inference:
    """Plain adversarial variational Bayes: the prior as contrast (1701.04722, Algorithm 1)."""
    return Inference(sampler or ConcatSampler(), critic or MLPCritic(), StandardNormal())


def avb_adaptive(sampler: Any = None, critic: Critic | None = None) -> Inference:
    """Adversarial variational Bayes with adaptive contrast: a Gaussian with the sampler's moments (section 4)."""
    sampler = sampler or NoiseBasisSampler()
    return Inference(sampler, critic or MLPCritic(), EncoderMoments(sampler))


def avb_flow(sampler: Any = None, critic: Critic | None = None, contrast: Contrast | None = None) -> Inference:
    """Adversarial variational Bayes with a flow on the sampler's moments as contrast, trained on the sampler's draws.

    For a sampler whose moments are not known the flow is of z itself.
    """
    sampler = sampler or NoiseBasisSampler()
    flow = MomentsAndFlow(sampler) if hasattr(sampler, "moments") else ConditionalFlow()
    return Inference(sampler, critic or MLPCritic(), contrast or flow)


def adversarial_autoencoder(sampler: Sampler | None = None, critic: LatentCritic | None = None) -> Inference:
    """The adversarial autoencoder: the prior as contrast, and a critic that does not see x."""
    return Inference(sampler or ConcatSampler(), critic or LatentCritic(), StandardNormal())
