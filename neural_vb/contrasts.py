"""Contrasts: tractable densities r(z | x) near q (the adaptive contrast of arXiv 1701.04722, section 4).

The argument behind adversarial variational Bayes needs only that r can be sampled, has a density and is close to q.
``contrast(parameters, x)`` gives a :class:`Density`; ``update`` lets moments follow q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import mixtures
from neural_vb._types import Base, Parameters, Seed, Tensor
from neural_vb.networks import MLP, Network, join_condition

tfd = tfp.distributions


@dataclass(frozen=True)
class FlowDensity:
    """Affine couplings on a mixture base; see :class:`Flow`."""

    flow: Flow
    parameters: Parameters
    x: Tensor | None

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws [S, B, D]."""
        num_conditions = 1 if self.x is None else tf.shape(self.x)[0]
        return self.forward(mixtures.sample(self.parameters["base"], tf.stack([num_samples, num_conditions]), seed))

    def forward(self, u: Tensor) -> Tensor:
        """From the base to draws, [S, B, D] -> [S, B, D]."""
        order = _Order(u.shape[-1])
        u = order.inside(u)
        for index, coupling in enumerate(self.parameters["couplings"]):
            u = self._couple(coupling, u, index, order, inverse=False)[0]
        return order.outside(u)

    def log_prob(self, u: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        log_det = tf.zeros(tf.shape(u)[:-1], u.dtype)
        couplings = tuple(enumerate(self.parameters["couplings"]))
        order = _Order(u.shape[-1])
        u = order.inside(u)
        for index, coupling in reversed(couplings):
            u, change = self._couple(coupling, u, index, order, inverse=True)
            log_det += change
        return self.base_log_prob(order.outside(u)) + log_det

    def base_log_prob(self, u: Tensor) -> Tensor:
        """Of the base, [S, B, D] -> [S, B]."""
        return mixtures.log_prob(self.parameters["base"], u)

    def _couple(
        self, coupling: Parameters, u: Tensor, index: int, order: _Order, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """One affine coupling, of u in the given order; the log-determinant [S, B] is that of the direction taken."""
        kept = order.inside(tf.constant(kept_mask(order.event_size, index), u.dtype)[tf.newaxis, tf.newaxis])
        moved = 1.0 - kept
        numbers = self.flow.network(coupling, join_condition(order.outside(kept * u), self.x))
        shift, raw_scale = tf.split(order.inside(numbers), 2, order.axis)
        log_scale = moved * self.flow.max_log_scale * tf.tanh(raw_scale / self.flow.max_log_scale)
        shift *= moved
        u = (u - shift) * tf.exp(-log_scale) if inverse else u * tf.exp(log_scale) + shift
        log_det = tf.reduce_sum(log_scale, order.axis)
        return u, -log_det if inverse else log_det


MANY_COORDINATES = 32


class _Order:
    """Coordinates first, [D, S, B], where they are few: XLA unrolls short innermost loops, which takes it time.

    With many coordinates the strides cost more than that saves.
    """

    def __init__(self, event_size: int) -> None:
        self.event_size = event_size
        self.axis = 0 if event_size < MANY_COORDINATES else -1

    def inside(self, values: Tensor) -> Tensor:
        """[S, B, D] -> this order."""
        return tf.transpose(values, [2, 0, 1]) if self.axis == 0 else values

    def outside(self, values: Tensor) -> Tensor:
        """This order -> [S, B, D]."""
        return tf.transpose(values, [1, 2, 0]) if self.axis == 0 else values


def kept_mask(event_size: int, index: int) -> np.ndarray:
    """[D], one where coupling number ``index`` keeps a coordinate: half of them, each pair of couplings moving all.

    A mask instead of indices: XLA compiles products sooner, and runs them faster, than gathers and scatters.
    """
    order = np.random.default_rng(index // 2).permutation(event_size)
    first = np.isin(np.arange(event_size), order[: event_size // 2])
    return first if index % 2 == 0 else ~first


@dataclass(frozen=True)
class Flow:
    """A small normalizing flow, trained by maximum likelihood on the sampler's draws in the same step.

    r(z | x): affine couplings (Dinh, Sohl-Dickstein & Bengio, arXiv 1605.08803) on a mixture of Gaussians. The critic
    only has to learn what the flow misses. With D = 1 there is nothing to couple, and each component of the
    mixture becomes ``copies``.

    Args:
        num_couplings: affine couplings; each pair moves every coordinate once.
        network: conditioner of each coupling.
        max_log_scale: bound of one coupling's log scale. With 3 the density of a stray draw exploded now and then.
        copies: narrower components in place of each one where D = 1.
    """

    num_couplings: int = 4
    network: Network = MLP((64,), output_scale=0.01)
    max_log_scale: float = 1.5
    copies: int = 8

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"base": mixture parameters, "couplings": a tuple of network parameters}."""
        event_size = base.means.shape[-1]
        if event_size == 1:
            return {"base": mixtures.initial_parameters(_spread(base, self.copies)), "couplings": ()}
        seeds = np.random.SeedSequence(seed).generate_state(self.num_couplings)
        couplings = [self.network.initial_parameters(event_size + x_size, 2 * event_size, int(s)) for s in seeds]
        return {"base": mixtures.initial_parameters(base), "couplings": tuple(couplings)}

    def __call__(self, parameters: Parameters, x: Tensor | None) -> FlowDensity:
        """The density r(. | x)."""
        return FlowDensity(self, parameters, x)

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Unchanged: a flow follows q by the gradient of its likelihood."""
        return parameters


def _spread(base: Base, copies: int) -> Base:
    """Each one-dimensional component as ``copies`` narrower ones at its quantiles, with the same mean and variance."""
    if copies == 1:
        return base
    positions = np.linspace(-1.5, 1.5, copies)
    positions *= np.sqrt(0.75 / np.mean(positions**2))
    means = base.means[:, None, :] + base.scale_trils[:, None, :, 0] * positions[None, :, None]
    scales = np.repeat(0.5 * base.scale_trils[:, None], copies, 1)
    log_weights = np.repeat(base.log_weights[:, None] - np.log(copies), copies, 1)
    return Base(log_weights.ravel(), means.reshape(-1, 1), scales.reshape(-1, 1, 1))


@dataclass(frozen=True)
class BatchedDensity:
    """A Gaussian over [D] that ignores x, with draws [S, B, D]."""

    distribution: Any
    num_conditions: int | Tensor

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws [S, B, D]."""
        noise = mixtures.normal(tf.stack([num_samples, self.num_conditions]), self.distribution.event_shape[0], seed)
        return self.distribution.bijector.forward(noise)  # the distribution's own noise is slow under XLA

    def log_prob(self, u: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return self.distribution.log_prob(u)


@dataclass(frozen=True)
class MomentMatched:
    """r = N(mean, covariance) with moments that follow the sampler's draws: adaptive contrast, section 4 of the paper.

    The moments are exponential averages over steps. With conditioning data they are pooled over x.

    Args:
        diagonal: match variances only, as the paper does; otherwise the full covariance.
        decay: of the exponential average, per step.
    """

    diagonal: bool = False
    decay: float = 0.99

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """{"mean": [D], "covariance": [D, D]} of the base mixture."""
        weights = np.exp(base.log_weights)
        mean = weights @ base.means
        centred = base.means - mean
        within = np.einsum("k,kij,klj->il", weights, base.scale_trils, base.scale_trils)
        covariance = within + np.einsum("k,ki,kj->ij", weights, centred, centred)
        return {"mean": mean.astype(np.float32), "covariance": covariance.astype(np.float32)}

    def __call__(self, parameters: Parameters, x: Tensor | None) -> BatchedDensity:
        """The Gaussian with the current moments; no gradient reaches them."""
        mean = tf.stop_gradient(parameters["mean"])
        covariance = tf.stop_gradient(parameters["covariance"])
        num_conditions = 1 if x is None else tf.shape(x)[0]
        if self.diagonal:
            scale = tf.sqrt(tf.linalg.diag_part(covariance))
            return BatchedDensity(tfd.MultivariateNormalDiag(mean, scale), num_conditions)
        jitter = 1e-6 * tf.linalg.diag(tf.linalg.diag_part(covariance))
        scale_tril = tf.linalg.cholesky(covariance + jitter)
        return BatchedDensity(tfd.MultivariateNormalTriL(mean, scale_tril), num_conditions)

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Moments of the draws [S, B, D] averaged into the running ones."""
        flat = tf.reshape(z, [-1, z.shape[-1]])
        mean = self.decay * parameters["mean"] + (1.0 - self.decay) * tf.reduce_mean(flat, 0)
        centred = flat - mean
        size = tf.cast(tf.shape(flat)[0], flat.dtype)
        covariance = tf.matmul(centred, centred, transpose_a=True) / size
        return {
            "mean": mean,
            "covariance": self.decay * parameters["covariance"] + (1.0 - self.decay) * covariance,
        }


@dataclass(frozen=True)
class Prior:
    """r = p(z), the prior: plain adversarial variational Bayes (Algorithm 1 of the paper).

    The classifier has to bridge the whole way from prior to posterior; where that is more than some nats it fails,
    which is why the other contrasts exist.

    Args:
        distribution: over the unconstrained vector [D]; None takes a joint distribution's own prior.
        shift: [D], set by ``fit``: the distribution is seen in whitened coordinates.
        scale_tril: [D, D], set by ``fit``.
    """

    distribution: Any = None
    shift: tuple[float, ...] = ()
    scale_tril: tuple[tuple[float, ...], ...] = ()

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """None: a prior has nothing to train."""
        return {}

    def __call__(self, parameters: Parameters, x: Tensor | None) -> PriorDensity:
        """The prior in whitened coordinates."""
        return PriorDensity(self, 1 if x is None else tf.shape(x)[0])

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """Unchanged."""
        return parameters


@dataclass(frozen=True)
class PriorDensity:
    """A distribution over z [D] in whitened coordinates u, z = shift + scale_tril u; see :class:`Prior`."""

    prior: Prior
    num_conditions: int | Tensor

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws u [S, B, D]."""
        z = self.prior.distribution.sample(num_samples * self.num_conditions, seed=seed)
        centred = tf.cast(z, tf.float64) - np.asarray(self.prior.shift)
        inverse = np.linalg.inv(np.asarray(self.prior.scale_tril))
        u = tf.tensordot(centred, tf.constant(inverse.T), 1)
        shape = tf.stack([num_samples, self.num_conditions, len(self.prior.shift)])
        return tf.cast(tf.reshape(u, shape), tf.float32)

    def log_prob(self, u: Tensor) -> Tensor:
        """[S, B, D] -> [S, B]."""
        scale_tril = np.asarray(self.prior.scale_tril)
        z = tf.tensordot(tf.cast(u, tf.float64), tf.constant(scale_tril.T), 1) + np.asarray(self.prior.shift)
        flat = tf.reshape(z, [-1, len(scale_tril)])
        log_prob = self.prior.distribution.log_prob(tf.cast(flat, self.prior.distribution.dtype))
        log_det = np.log(np.diag(scale_tril)).sum()
        return tf.reshape(tf.cast(tf.cast(log_prob, tf.float64) + log_det, tf.float32), tf.shape(u)[:-1])
