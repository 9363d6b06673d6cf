"""Mixtures of Gaussians as pure functions of parameters: the base of samplers and of the flow contrast.

A component is eps -> mean + scale_tril @ (exp(log_scale) * eps). ``scale_tril`` comes from the warm start and is kept
fixed, so that its inverse is computed once; ``mean``, ``log_scale`` and the weights are trained.
"""

from __future__ import annotations

import enum
import math

import numpy as np
import tensorflow as tf

from neural_vb._types import Base, Parameters, Seed, Tensor


def standard_base(event_size: int) -> Base:
    """One standard normal component in D dimensions."""
    return Base(np.zeros(1), np.zeros((1, event_size)), np.eye(event_size)[np.newaxis])


def initial_parameters(base: Base) -> Parameters:
    """Parameters of the mixture, float32. A single component is standard normal: whitening has taken its scale."""
    parameters = {
        "logits": np.asarray(base.log_weights, np.float32),
        "means": np.asarray(base.means, np.float32),
        "log_scales": np.zeros(base.means.shape, np.float32),
    }
    if len(base.log_weights) > 1:
        scale_trils = np.asarray(base.scale_trils, np.float64)
        parameters["scale_trils"] = scale_trils.astype(np.float32)
        parameters["inverse_scale_trils"] = np.linalg.inv(scale_trils).astype(np.float32)
    return parameters


def choose(parameters: Parameters, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot components [..., K], float32, and their log probabilities [...], from standard normal noise [...]."""
    if parameters["logits"].shape[0] == 1:
        return tf.ones_like(noise)[..., tf.newaxis], tf.zeros_like(noise)
    log_weights = tf.nn.log_softmax(parameters["logits"])
    uniform = 0.5 * tf.math.erfc(-noise / math.sqrt(2.0))
    below = tf.cast(uniform[..., tf.newaxis] >= tf.cumsum(tf.exp(log_weights))[:-1], tf.int32)
    chosen = tf.one_hot(tf.reduce_sum(below, -1), parameters["logits"].shape[0])
    return chosen, tf.tensordot(chosen, log_weights, 1)


def transform(parameters: Parameters, noise: Tensor, chosen: Tensor) -> Tensor:
    """Noise [..., D] and one-hot components [..., K] -> draws [..., D]."""
    if parameters["logits"].shape[0] == 1:
        return parameters["means"][0] + tf.exp(parameters["log_scales"][0]) * noise
    pick = lambda values: tf.tensordot(chosen, values, 1)  # noqa: E731
    scaled = tf.exp(pick(parameters["log_scales"])) * noise
    if "scale_trils" in parameters:
        per_component = _through_each(scaled, tf.stop_gradient(parameters["scale_trils"]))
        scaled = tf.reduce_sum(per_component * chosen[..., tf.newaxis], -2)
    return pick(parameters["means"]) + scaled


def _through_each(values: Tensor, matrices: Tensor) -> Tensor:
    """[..., D] times each of [K, D, D] -> [..., K, D], as one product: XLA is slow with batches of small ones."""
    return tf.tensordot(values, tf.transpose(matrices, [2, 0, 1]), 1)


def sample(parameters: Parameters, shape: Tensor, seed: Seed) -> Tensor:
    """Draws [*shape, D]."""
    event_size = parameters["means"].shape[-1]
    noise = normal(shape, event_size + 1, seed)
    return transform(parameters, noise[..., 1:], choose(parameters, noise[..., 0])[0])


def log_prob(parameters: Parameters, u: Tensor) -> Tensor:
    """log sum_k w_k N(u; m_k, S_k S_k^T), [..., D] -> [...]."""
    constant = 0.5 * u.shape[-1] * math.log(2.0 * math.pi)
    if parameters["logits"].shape[0] == 1:
        log_scales = parameters["log_scales"][0]
        noise = (u - parameters["means"][0]) * tf.exp(-log_scales)
        return -0.5 * tf.reduce_sum(noise**2, -1) - tf.reduce_sum(log_scales) - constant
    log_det = tf.reduce_sum(parameters["log_scales"], -1)
    if "inverse_scale_trils" in parameters:
        inverse = tf.stop_gradient(parameters["inverse_scale_trils"])
        centred = _through_each(u, inverse) - tf.linalg.matvec(inverse, parameters["means"])
        log_det -= tf.reduce_sum(tf.math.log(tf.linalg.diag_part(inverse)), -1)
    else:
        centred = u[..., tf.newaxis, :] - parameters["means"]
    noise = centred * tf.exp(-parameters["log_scales"])
    log_components = -0.5 * tf.reduce_sum(noise**2, -1) - log_det - constant
    return tf.reduce_logsumexp(tf.nn.log_softmax(parameters["logits"]) + log_components, -1)


def normal(shape: Tensor, size: int, seed: Seed) -> Tensor:
    """Standard normal noise [*shape, size]; philox, which XLA runs several times faster than its default.

    The same seed gives the same noise eagerly and in a plain graph, and other noise under XLA.

    One call for all that a draw needs: each generator is a thousand instructions for XLA to compile. Flat at first: XLA
    would unroll a loop over a short last dimension.
    """
    shape = tf.concat([shape, [size]], 0)
    return tf.reshape(tf.random.stateless_normal([tf.reduce_prod(shape)], seed, alg="philox"), shape)


class Stream(enum.IntEnum):
    """Random streams of one seed, so that no two purposes share their noise."""

    DRAWS = 0
    SAMPLER = 1
    CONTRAST = 2
    ELBO = 3
    PARTICLES = 4
    TUNING = 5
    POLISH = 6
    POPULATION = 7
    GAUSSIAN = 8
    MOVES = 9
    CHECK = 10
    WEIGHTS = 11
    FINISH = 12
    RIDGE = 13


def fold_in(seed: Seed, stream: int | Tensor) -> Tensor:
    """A stateless seed [2] for another stream of numbers; philox mixes what is only added here."""
    golden = tf.constant(0x1E3779B1, tf.int32)
    return tf.convert_to_tensor(seed) + tf.stack([golden * tf.cast(stream, tf.int32), 0])
