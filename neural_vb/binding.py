"""Conditional parts with x fixed: a posterior for one data set, with everything that follows from there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Base, Contrast, Critic, Parameters, Proposal, Sampler, Seed, Tensor
from neural_vb.avb import Parts, as_given


@dataclass(frozen=True, eq=False)
class BoundSampler:
    """``sampler`` at one x [1, X]."""

    sampler: Sampler
    x: Array

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """Those of the sampler."""
        return self.sampler.initial_parameters(base, self.x.shape[1], seed)

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor | None, seed: Seed) -> Proposal:
        """Draws z [S, 1, D]."""
        return self.sampler(parameters, num_samples, tf.constant(self.x), seed)


@dataclass(frozen=True, eq=False)
class BoundCritic:
    """``critic`` at one x [1, X]."""

    critic: Critic
    x: Array

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """Those of the critic."""
        return self.critic.initial_parameters(base, self.x.shape[1], seed)

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor | None) -> Tensor:
        """[S, 1, D] -> [S, 1]."""
        return self.critic(parameters, z, tf.constant(self.x))


@dataclass(frozen=True, eq=False)
class BoundContrast:
    """``contrast`` at one x [1, X]."""

    contrast: Contrast
    x: Array

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """Those of the contrast."""
        return self.contrast.initial_parameters(base, self.x.shape[1], seed)

    def __call__(self, parameters: Parameters, x: Tensor | None) -> Any:
        """The density r(. | x)."""
        return self.contrast(parameters, tf.constant(self.x))

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Those of the contrast, updated."""
        return self.contrast.update(parameters, z)


def bind(parts: Parts, x: Array) -> Parts:
    """The parts at one data set x [1, X]; its features are computed here, once."""
    features = np.asarray(parts.features(tf.constant(x, tf.float32)), np.float32)
    return replace(
        parts,
        sampler=BoundSampler(parts.sampler, features),
        critic=BoundCritic(parts.critic, features),
        contrast=BoundContrast(parts.contrast, features),
        features=as_given,
    )
