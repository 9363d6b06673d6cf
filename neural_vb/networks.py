"""Small networks as pure functions: a frozen specification, and parameters that are passed in.

Adding a network: a frozen dataclass with ``initial_parameters(input_size, output_size, seed)`` and
``__call__(parameters, inputs)``; see :class:`Network`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from neural_vb._types import Parameters, Seed, Tensor
from neural_vb.errors import ConfigurationError


class Network(Protocol):
    """A map from [..., input_size] to [..., output_size] whose numbers live outside it."""

    def initial_parameters(self, input_size: int, output_size: int, seed: Seed) -> Parameters: ...

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Linear:
    """Affine map y = x W + b with W ~ N(0, scale^2 / input_size) and b = 0 at the start.

    Args:
        scale: standard deviation of an output for standard normal inputs; a small one makes a quiet last layer.
    """

    scale: float = 1.0

    def initial_parameters(self, input_size: int, output_size: int, seed: Seed) -> Parameters:
        """Parameters {"kernel": [input_size, output_size], "bias": [output_size]}, float32."""
        rng = np.random.default_rng(seed)
        kernel = rng.standard_normal((input_size, output_size)) * (self.scale / np.sqrt(max(input_size, 1)))
        return {"kernel": kernel.astype(np.float32), "bias": np.zeros(output_size, np.float32)}

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """[..., input_size] -> [..., output_size]."""
        return tf.tensordot(inputs, parameters["kernel"], 1) + parameters["bias"]


def silu(values: Tensor) -> Tensor:
    """x sigmoid(x). ``tf.nn.silu`` has a custom gradient, and TensorFlow keeps each of its traces for ever."""
    return values * tf.sigmoid(values)


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron: affine maps with an activation between them.

    The default activation is SiLU: only the gradient of the critic trains the sampler, and a kinked activation such as
    ReLU has a bad one.

    Args:
        hidden: widths of the hidden layers.
        activation: elementwise, smooth.
        output_scale: see :class:`Linear`, for the last layer.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Callable[[Tensor], Tensor] = silu
    output_scale: float = 1.0

    def initial_parameters(self, input_size: int, output_size: int, seed: Seed) -> Parameters:
        """A tuple with one :class:`Linear`'s parameters per layer."""
        sizes = (input_size, *self.hidden, output_size)
        seeds = np.random.SeedSequence(seed).generate_state(len(sizes) - 1)
        scales = (np.sqrt(2.0),) * len(self.hidden) + (self.output_scale,)
        return tuple(
            Linear(scale).initial_parameters(fan_in, fan_out, int(layer_seed))
            for scale, fan_in, fan_out, layer_seed in zip(scales, sizes[:-1], sizes[1:], seeds, strict=True)
        )

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """[..., input_size] -> [..., output_size]."""
        affine = Linear()
        for layer in parameters[:-1]:
            inputs = self.activation(affine(layer, inputs))
        return affine(parameters[-1], inputs)


@dataclass(frozen=True)
class AffineAndMLP:
    """An affine map plus a multilayer perceptron: what is linear in the inputs need not be bent into shape.

    Args:
        mlp: the rest, small at the start with its ``output_scale``.
    """

    mlp: MLP = MLP(output_scale=0.1)

    def initial_parameters(self, input_size: int, output_size: int, seed: Seed) -> Parameters:
        """{"affine": a :class:`Linear`'s, zero; "mlp": the perceptron's}."""
        return {
            "affine": Linear(0.0).initial_parameters(input_size, output_size, seed),
            "mlp": self.mlp.initial_parameters(input_size, output_size, seed),
        }

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """[..., input_size] -> [..., output_size]."""
        return Linear()(parameters["affine"], inputs) + self.mlp(parameters["mlp"], inputs)


@dataclass(frozen=True)
class MeanPooled:
    """A summary of exchangeable rows: pooled(mean over rows of rows(row)), "deep sets" (arXiv 1703.06114).

    Args:
        row_size: numbers in a row; the input is rows one after the other.
        rows: network of each row.
        pooled: network of their mean.
        width: size of what is averaged.
    """

    row_size: int = 1
    rows: MLP = MLP((64, 64))
    pooled: MLP = MLP((64,))
    width: int = 32

    def initial_parameters(self, input_size: int, output_size: int, seed: Seed) -> Parameters:
        """{"rows": ..., "pooled": ...}."""
        if input_size % self.row_size:
            raise ConfigurationError(
                expected=f"data of whole rows of {self.row_size} numbers",
                got=f"{input_size} numbers",
                fix="pass the row_size of the data",
            )
        first, second = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
        return {
            "rows": self.rows.initial_parameters(self.row_size, self.width, first),
            "pooled": self.pooled.initial_parameters(self.width, output_size, second),
        }

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """[..., N * row_size] -> [..., output_size]; the same for any order of the rows."""
        shape = tf.concat([tf.shape(inputs)[:-1], [inputs.shape[-1] // self.row_size, self.row_size]], 0)
        rows = self.rows(parameters["rows"], tf.reshape(inputs, shape))
        return self.pooled(parameters["pooled"], tf.reduce_mean(rows, -2))


def join_condition(values: Tensor, x: Tensor | None) -> Tensor:
    """Concatenate [S, B, F] with the conditioning data [B, X], if there is any, to [S, B, F + X]."""
    if x is None:
        return values
    shape = tf.concat([tf.shape(values)[:2], tf.shape(x)[1:]], 0)
    return tf.concat([values, tf.broadcast_to(x[tf.newaxis], shape)], -1)
