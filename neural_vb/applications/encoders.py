"""Samplers of a variational autoencoder: all functions of the data x [B, X], draws [S, B, D].

Three kinds of sampler:

- *explicit*: ``GaussianEncoder`` and ``InverseAutoregressiveEncoder`` know log q of their own draws, and tell it
  with them. The objective then is the ordinary ELBO, E_q[log p - log q], without a critic.
- *black box*: ``ConcatSampler``, of which nothing is known but draws.
- *with moments*: ``NoiseBasisSampler``, a black box whose mean and variance are known as functions of x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import tensorflow as tf

from neural_vb import mixtures
from neural_vb._types import Base, Parameters, Proposal, Seed, Tensor
from neural_vb.applications.decoders import log_standard_normal
from neural_vb.errors import ConfigurationError
from neural_vb.networks import MLP, Network, join_condition, silu

LOG_SCALE_BOUND = 6.0


class Moments(NamedTuple):
    """Mean and standard deviation of q(z | x), both [B, D]; ``shape`` [B, C], where given, is all that its
    standardised form depends on."""

    mean: Tensor
    scale: Tensor
    shape: Tensor | None = None


def _bounded(raw: Tensor, bound: float = LOG_SCALE_BOUND) -> Tensor:
    return bound * tf.tanh(raw / bound)


def _noise_size(sampler: Any, event_size: int) -> int:
    if sampler.noise_size is not None and sampler.noise_size < event_size:
        raise ConfigurationError(
            expected=f"{type(sampler).__name__}.noise_size of at least {event_size}, the latent size",
            got=repr(sampler.noise_size),
            fix="leave it out, or raise it: with less noise the draws lie on a surface and have no density",
        )
    return event_size if sampler.noise_size is None else sampler.noise_size


def _two_seeds(seed: Seed) -> list[int]:
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(2)]


@dataclass(frozen=True)
class GaussianEncoder:
    """q(z | x) = N(m(x), diag s(x)^2), z = m(x) + s(x) eps (Kingma & Welling, arXiv 1312.6114).

    Args:
        network: from x to 2 D numbers.
    """

    network: Network = MLP((64, 64), output_scale=0.1)

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """The network's own; of ``base`` only D is used."""
        return self.network.initial_parameters(x_size, 2 * base.means.shape[-1], seed)

    def moments(self, parameters: Parameters, x: Tensor) -> Moments:
        """[B, X] -> mean and standard deviation [B, D], exact."""
        mean, log_scale = tf.split(self.network(parameters, x), 2, -1)
        return Moments(mean, tf.exp(_bounded(log_scale)))

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor, seed: Seed) -> Proposal:
        """Draws z [S, B, D] and log q of them."""
        mean, scale, _ = self.moments(parameters, x)
        noise = mixtures.normal(tf.stack([num_samples, tf.shape(x)[0]]), mean.shape[-1], seed)
        log_density = log_standard_normal(noise) - tf.reduce_sum(tf.math.log(scale), -1)
        return Proposal(mean + scale * noise, tf.zeros_like(log_density), log_density)


@dataclass(frozen=True)
class ResidualSampler:
    """z = m(x) + s(x) (eps + h(eps, m(x), s(x))): a Gaussian encoder and what its shape lacks, a black box.

    h starts small, so that q starts as the Gaussian; ``fit_vae(start=)`` takes a fit with ``gaussian`` alone. Mean and
    standard deviation of the Gaussian are the frame in which contrast and critic work, and not exactly those of q.

    Args:
        gaussian: the encoder.
        residual: h, from 3 D numbers to D.
    """

    gaussian: GaussianEncoder = GaussianEncoder()
    residual: Network = MLP((64, 64), output_scale=0.01)

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"gaussian": the encoder's, "residual": the network's}."""
        size = base.means.shape[-1]
        first, second = _two_seeds(seed)
        return {
            "gaussian": self.gaussian.initial_parameters(base, x_size, first),
            "residual": self.residual.initial_parameters(3 * size, size, second),
        }

    def moments(self, parameters: Parameters, x: Tensor) -> Moments:
        """[B, X] -> mean and standard deviation [B, D] of the Gaussian; ``shape`` [B, 2 D] has both."""
        mean, scale, _ = self.gaussian.moments(parameters["gaussian"], x)
        return Moments(mean, scale, tf.concat([mean, tf.math.log(scale)], -1))

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor, seed: Seed) -> Proposal:
        """Draws z [S, B, D]."""
        mean, scale, shape = self.moments(parameters, x)
        noise = mixtures.normal(tf.stack([num_samples, tf.shape(x)[0]]), mean.shape[-1], seed)
        noise += self.residual(parameters["residual"], join_condition(noise, shape))
        return Proposal(mean + scale * noise, tf.zeros_like(noise[..., 0]))


@dataclass(frozen=True)
class InverseAutoregressiveEncoder:
    """q(z | x) by inverse autoregressive flow (Kingma et al., arXiv 1606.04934, equations 13-15).

    From z = m(x) + s(x) eps each step makes z <- g z + (1 - g) a with g = sigmoid(b), (a, b) from a masked network
    (Germain et al., arXiv 1502.03509) of z and a context h(x), the coordinates in reversed order every other time. Its
    Jacobian is triangular, so that log q(z) = log N(eps) - sum log s - sum log g costs nothing. Going back from a z is
    sequential, which the objective never does; hence the masked layers here, in place of a bijector that holds
    variables.

    Args:
        encoder: from x to m, s and the context.
        num_flows: steps.
        hidden: width of the masked layer of each step.
        context_size: of h(x).
        gate_bias: b at the start; positive, so that a step keeps most of z.
    """

    encoder: Network = MLP((64, 64), output_scale=0.1)
    num_flows: int = 2
    hidden: int = 64
    context_size: int = 16
    gate_bias: float = 2.0

    def __post_init__(self) -> None:
        if self.num_flows < 1:
            raise ConfigurationError(
                expected="InverseAutoregressiveEncoder.num_flows at least 1",
                got=repr(self.num_flows),
                fix="raise it, or pass GaussianEncoder(), which is what none would be",
            )

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"encoder": the network's, "flows": a tuple of kernels and biases}."""
        size = base.means.shape[-1]
        first, second = _two_seeds(seed)
        rng = np.random.default_rng(second)
        normal = lambda *shape, scale: (scale * rng.standard_normal(shape)).astype(np.float32)  # noqa: E731
        flows = tuple(
            {
                "inputs": normal(size, self.hidden, scale=1.0 / math.sqrt(size)),
                "context": normal(self.context_size, self.hidden, scale=1.0 / math.sqrt(self.context_size)),
                "hidden_bias": np.zeros(self.hidden, np.float32),
                "outputs": normal(self.hidden, 2, size, scale=0.1 / math.sqrt(self.hidden)),
                "skip": normal(self.context_size, 2, size, scale=0.1 / math.sqrt(self.context_size)),
                "bias": np.stack([np.zeros(size), np.full(size, self.gate_bias)]).astype(np.float32),
            }
            for _ in range(self.num_flows)
        )
        return {"encoder": self.encoder.initial_parameters(x_size, 2 * size + self.context_size, first), "flows": flows}

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor, seed: Seed) -> Proposal:
        """Draws z [S, B, D] and log q of them."""
        size = parameters["flows"][0]["inputs"].shape[0]
        raw = self.encoder(parameters["encoder"], x)
        mean, log_scale, context = tf.split(raw, [size, size, self.context_size], -1)
        log_scale = _bounded(log_scale)
        noise = mixtures.normal(tf.stack([num_samples, tf.shape(x)[0]]), size, seed)
        z = mean + tf.exp(log_scale) * noise
        log_density = log_standard_normal(noise) - tf.reduce_sum(log_scale, -1)
        for flow in parameters["flows"]:
            z = z[..., ::-1]
            shift, gate = self.masked(flow, z, context)
            z = tf.sigmoid(gate) * z + tf.sigmoid(-gate) * shift
            log_density += tf.reduce_sum(tf.nn.softplus(-gate), -1)
        return Proposal(z, tf.zeros_like(log_density), log_density)

    def masked(self, flow: Parameters, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and gate [S, B, D]; number i depends on z_1 ... z_{i-1} and on the context [B, C]."""
        size = z.shape[-1]
        degrees = 1 + np.arange(self.hidden) % max(size - 1, 1)
        into = (np.arange(1, size + 1)[:, None] <= degrees).astype(np.float32)
        out = (degrees[:, None] < np.arange(1, size + 1)).astype(np.float32)
        hidden = tf.tensordot(z, into * flow["inputs"], 1) + tf.tensordot(context, flow["context"], 1)
        hidden = silu(hidden + flow["hidden_bias"])
        outputs = tf.tensordot(hidden, out[:, np.newaxis] * flow["outputs"], 1)
        outputs += tf.tensordot(context, flow["skip"], 1) + flow["bias"]
        return outputs[..., 0, :], outputs[..., 1, :]


@dataclass(frozen=True)
class ConcatSampler:
    """z = network([eps, x]): the black-box encoder of plain adversarial variational Bayes (figure 2 of 1701.04722).

    Args:
        network: from noise and x to z.
        noise_size: dimensions of the noise; None for D. At least D: with fewer q has no density.
    """

    network: Network = MLP((64, 64, 64))
    noise_size: int | None = None

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"network": the network's, "noise_shift": the noise's mean, zero}."""
        size = base.means.shape[-1]
        noise_size = _noise_size(self, size)
        return {
            "network": self.network.initial_parameters(noise_size + x_size, size, seed),
            "noise_shift": np.zeros(noise_size, np.float32),
        }

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor, seed: Seed) -> Proposal:
        """Draws z [S, B, D]."""
        shift = parameters["noise_shift"]
        noise = shift + mixtures.normal(tf.stack([num_samples, tf.shape(x)[0]]), shift.shape[0], seed)
        z = self.network(parameters["network"], join_condition(noise, x))
        return Proposal(z, tf.zeros_like(z[..., 0]))


@dataclass(frozen=True)
class NoiseBasisSampler:
    """z = z_0(x) + sum_i a_i(x) v_i(eps_i), products by coordinate: a black box with moments (1701.04722, appendix).

    The v_i are independent, so that E z = z_0 + sum_i a_i E[v_i] and Var z = sum_i a_i^2 Var[v_i] for every x, with the
    moments of v_i from ``num_points`` fixed quasi-random points.

    Args:
        encoder: from x to (M + 1) D numbers.
        basis: from eps_i and the number of i to v_i - eps_i.
        num_bases: M.
        noise_size: dimensions of each eps_i; None for D.
        num_points: behind the moments of v_i.
    """

    encoder: Network = MLP((64, 64), output_scale=0.1)
    basis: Network = MLP((64,), output_scale=0.1)
    num_bases: int = 8
    noise_size: int | None = None
    num_points: int = 256

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"encoder", "basis", "weights": [M, D], "noise_shift"}; a_i(x) starts about the weights, Var q about 1."""
        size = base.means.shape[-1]
        noise_size = _noise_size(self, size)
        first, second = _two_seeds(seed)
        parameters = {
            "encoder": self.encoder.initial_parameters(x_size, (self.num_bases + 1) * size, first),
            "basis": self.basis.initial_parameters(noise_size + self.num_bases, size, second),
            "weights": np.zeros((self.num_bases, size), np.float32),
            "noise_shift": np.zeros(noise_size, np.float32),
        }
        variance = self._basis_moments(parameters)[1].numpy()
        parameters["weights"] = (1.0 / np.sqrt(self.num_bases * variance)).astype(np.float32)
        return parameters

    def _vectors(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """v_i(eps_i): noise [..., M, E] -> [..., M, D], one network told apart by the number of i.

        What it adds to the noise is small at the start, so that q starts almost Gaussian.
        """
        numbers = tf.broadcast_to(tf.eye(self.num_bases), tf.concat([tf.shape(noise)[:-1], [self.num_bases]], 0))
        noise += parameters["noise_shift"]
        size = parameters["weights"].shape[-1]
        return noise[..., :size] + self.basis(parameters["basis"], tf.concat([noise, numbers], -1))

    def _basis_moments(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Mean and variance of v_i, [M, D] each."""
        size = parameters["noise_shift"].shape[0]
        points = tf.repeat(tf.constant(quasi_normal(self.num_points, size))[:, tf.newaxis], self.num_bases, 1)
        return tf.nn.moments(self._vectors(parameters, points), [0])

    def _coefficients(self, parameters: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """z_0 [B, D] and a [B, M, D]."""
        count, size = self.num_bases, parameters["weights"].shape[1]
        raw = tf.reshape(self.encoder(parameters["encoder"], x), tf.stack([tf.shape(x)[0], count + 1, size]))
        return raw[:, 0], raw[:, 1:] + parameters["weights"]

    def moments(self, parameters: Parameters, x: Tensor) -> Moments:
        """[B, X] -> mean and standard deviation [B, D]."""
        start, weights = self._coefficients(parameters, x)
        mean, variance = self._basis_moments(parameters)
        parts = weights * tf.sqrt(variance)
        scale = tf.sqrt(tf.reduce_sum(parts**2, 1) + 1e-8)
        shape = tf.reshape(parts / scale[:, tf.newaxis], tf.stack([tf.shape(x)[0], int(np.prod(parts.shape[1:]))]))
        return Moments(start + tf.reduce_sum(weights * mean, 1), scale, shape)

    def __call__(self, parameters: Parameters, num_samples: int | Tensor, x: Tensor, seed: Seed) -> Proposal:
        """Draws z [S, B, D]."""
        start, weights = self._coefficients(parameters, x)
        shape = tf.stack([num_samples, tf.shape(x)[0], self.num_bases])
        noise = mixtures.normal(shape, parameters["noise_shift"].shape[0], seed)
        z = start + tf.reduce_sum(weights * self._vectors(parameters, noise), 2)
        return Proposal(z, tf.zeros_like(z[..., 0]))


def quasi_normal(num_points: int, size: int) -> np.ndarray:
    """Fixed points [n, E], float32, spread like a standard normal: a Latin hypercube through its quantiles.

    Each coordinate has one point in each of n equally likely cells, so that means over the points are closer to
    expectations than over as many random numbers.
    """
    rng = np.random.default_rng(size)
    cells = rng.permuted(np.tile(np.arange(num_points), (size, 1)), axis=1).T
    return scipy.special.ndtri((cells + 0.5) / num_points).astype(np.float32)
