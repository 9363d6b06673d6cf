"""Generative models p(x, z) = p_theta(x | z) N(z; 0, I): a network from the latent vector, and a likelihood.

Adding a likelihood: a frozen dataclass with the methods of :class:`Likelihood`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Draws, Parameters, Seed, Tensor
from neural_vb.errors import ConfigurationError, DataError, TargetShapeError
from neural_vb.networks import MLP, Network


class Likelihood(Protocol):
    """p(x | y) for data x [B, X] and the decoder network's numbers y [S, B, Y]."""

    def output_size(self, data_size: int) -> int:
        """Y for X."""
        ...

    def initial_parameters(self) -> Parameters:
        """Trained numbers of the likelihood's own."""
        ...

    def log_prob(self, parameters: Parameters, outputs: Tensor, x: Tensor) -> Tensor:
        """[S, B, Y] and [B, X] -> [S, B], nats."""
        ...

    def mean(self, parameters: Parameters, outputs: Tensor) -> Tensor:
        """E[x | y], [..., Y] -> [..., X]."""
        ...

    def sample(self, parameters: Parameters, outputs: Tensor, seed: Seed) -> Tensor:
        """x | y, [..., Y] -> [..., X]."""
        ...

    def check(self, x: Array) -> None:
        """Raise a DataError for finite data [N, X] that have no density."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Binary features: log p(x | y) = sum_j x_j log sigmoid(y_j) + (1 - x_j) log sigmoid(-y_j), for x in [0, 1]."""

    def output_size(self, data_size: int) -> int:
        """One logit for each feature."""
        return data_size

    def initial_parameters(self) -> Parameters:
        """None."""
        return {}

    def log_prob(self, parameters: Parameters, outputs: Tensor, x: Tensor) -> Tensor:
        """[S, B, X] and [B, X] -> [S, B], nats."""
        return tf.reduce_sum(x * outputs - tf.nn.softplus(outputs), -1)

    def mean(self, parameters: Parameters, outputs: Tensor) -> Tensor:
        """Probabilities of one."""
        return tf.sigmoid(outputs)

    def sample(self, parameters: Parameters, outputs: Tensor, seed: Seed) -> Tensor:
        """Zeros and ones."""
        uniform = tf.random.stateless_uniform(tf.shape(outputs), seed, alg="philox")
        return tf.cast(uniform < tf.sigmoid(outputs), tf.float32)

    def check(self, x: Array) -> None:
        """Raises DataError outside [0, 1]."""
        if x.size and (x.min() < 0 or x.max() > 1):
            raise DataError(
                expected="data in [0, 1] for a Bernoulli likelihood",
                got=f"values from {x.min():g} to {x.max():g}",
                fix="scale or binarise the data, or pass likelihood=Normal()",
            )


@dataclass(frozen=True)
class Normal:
    """Real features: x | y ~ N(y, scale^2 I).

    Args:
        scale: of the noise, in units of x; None trains one number for all features.
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ConfigurationError(
                expected="Normal.scale positive and finite, or None",
                got=repr(self.scale),
                fix="pass the noise's standard deviation, or leave it out to train it",
            )

    def output_size(self, data_size: int) -> int:
        """One mean for each feature."""
        return data_size

    def initial_parameters(self) -> Parameters:
        """{"log_scale": scalar} where it is trained."""
        return {} if self.scale is not None else {"log_scale": np.zeros([], np.float32)}

    def log_scale(self, parameters: Parameters) -> Tensor:
        """Of the noise."""
        return parameters["log_scale"] if self.scale is None else tf.constant(math.log(self.scale))

    def log_prob(self, parameters: Parameters, outputs: Tensor, x: Tensor) -> Tensor:
        """[S, B, X] and [B, X] -> [S, B], nats."""
        log_scale = self.log_scale(parameters)
        noise = (x - outputs) * tf.exp(-log_scale)
        return -tf.reduce_sum(0.5 * noise**2 + log_scale + 0.5 * math.log(2.0 * math.pi), -1)

    def mean(self, parameters: Parameters, outputs: Tensor) -> Tensor:
        """The outputs."""
        return outputs

    def sample(self, parameters: Parameters, outputs: Tensor, seed: Seed) -> Tensor:
        """The outputs and noise."""
        noise = tf.random.stateless_normal(tf.shape(outputs), seed, alg="philox")
        return outputs + tf.exp(self.log_scale(parameters)) * noise

    def check(self, x: Array) -> None:
        """Every finite number has a density."""


@dataclass(frozen=True)
class Decoder:
    """The target of a variational autoencoder: log p(x, z) = log p_theta(x | network(z)) + log N(z; 0, I).

    Args:
        latent_size: D.
        data_size: X.
        network: from z to the likelihood's numbers.
        likelihood: of the data.
    """

    latent_size: int
    data_size: int
    network: Network = MLP((64, 64, 64))
    likelihood: Likelihood = Bernoulli()

    @property
    def event_size(self) -> int:
        """D."""
        return self.latent_size

    @property
    def dtype(self) -> tf.DType:
        """Precision of z."""
        return tf.float32

    def initial_parameters(self, seed: Seed) -> Parameters:
        """{"network": the network's, "likelihood": the likelihood's}.

        Raises:
            TargetShapeError: the network does not give the numbers that the likelihood needs.
        """
        size = self.likelihood.output_size(self.data_size)
        parameters = {
            "network": self.network.initial_parameters(self.latent_size, size, seed),
            "likelihood": self.likelihood.initial_parameters(),
        }
        try:
            found = list(self.network(parameters["network"], tf.zeros([3, 2, self.latent_size])).shape)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise self._misfit(size, f"an error: {str(error).strip().splitlines()[0]}") from error
        if found != [3, 2, size]:
            raise self._misfit(size, f"shape {found}")
        return parameters

    def _misfit(self, size: int, got: str) -> TargetShapeError:
        kind = type(self.likelihood).__name__
        return TargetShapeError(
            expected=f"a decoder from z [3, 2, {self.latent_size}] to [3, 2, {size}], what {kind} needs for "
            f"{self.data_size} features",
            got=got,
            fix="let the network map its last axis to the output_size that initial_parameters is given",
        )

    def outputs(self, parameters: Parameters, z: Tensor) -> Tensor:
        """[..., D] -> [..., Y]."""
        return self.network(parameters["network"], z)

    def log_likelihood(self, z: Tensor, x: Tensor, parameters: Parameters) -> Tensor:
        """log p(x | z), [S, B, D] and [B, X] -> [S, B], nats."""
        return self.likelihood.log_prob(parameters["likelihood"], self.outputs(parameters, z), x)

    def log_prob(self, z: Tensor, x: Tensor, parameters: Parameters) -> Tensor:
        """log p(x, z), [S, B, D] and [B, X] -> [S, B], nats."""
        return self.log_likelihood(z, x, parameters) + log_standard_normal(z)

    def constrain(self, z: Tensor) -> Draws:
        """z itself."""
        return z

    def mean(self, parameters: Parameters, z: Tensor) -> Tensor:
        """E[x | z], [..., D] -> [..., X]."""
        return self.likelihood.mean(parameters["likelihood"], self.outputs(parameters, z))

    def sample(self, parameters: Parameters, z: Tensor, seed: Seed) -> Tensor:
        """x | z, [..., D] -> [..., X]."""
        return self.likelihood.sample(parameters["likelihood"], self.outputs(parameters, z), seed)


def log_standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I), [..., D] -> [...], nats."""
    return -0.5 * tf.reduce_sum(z**2 + math.log(2.0 * math.pi), -1)
