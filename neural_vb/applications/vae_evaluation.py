"""What a trained variational autoencoder is asked for in numbers: draws, bounds on log p(x), a Gaussian fit to q."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from neural_vb import mixtures
from neural_vb._types import Array, Parameters, Seed, Tensor
from neural_vb.applications.contrasts import MomentsAndFlowDensity
from neural_vb.applications.decoders import Decoder, log_standard_normal
from neural_vb.avb import Parts, contrast_density, log_density_estimate
from neural_vb.compilation import Compiled, quiet_tracing
from neural_vb.contrasts import FlowDensity

DRAWS_AT_ONCE = 8_192  # pairs (draw, data point) in one call of the decoder


def elbo_terms(parts: Parts, decoder: Decoder, parameters: Parameters, x: Tensor, num: Tensor, seed: Seed) -> Tensor:
    """log p(x, z) - log q(z | x) for draws from q, [S, B] in nats, with log r + T for a log q that is not known."""
    seen = parts.features(x)
    proposal = parts.sampler(parameters["sampler"], num, seen, seed)
    log_q = proposal.log_density
    if log_q is None:
        contrast = contrast_density(parts, parameters, seen)
        log_q = log_density_estimate(parts, parameters["critic"], contrast, proposal.z, seen)
    return decoder.log_prob(proposal.z, x, parameters["target"]) - log_q


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Parts and decoder, compiled once; the parameters come as arguments. Data are [N, X], looked at in slices.

    Attributes:
        parts: of the inference.
        decoder: the model.
    """

    parts: Parts
    decoder: Decoder

    def draws(self, parameters: Parameters, x: Array, num: int, seed: int) -> Array:
        """z [num, N, D]."""
        return self._sliced(self._draw, parameters, x, num, seed)

    def elbo(self, parameters: Parameters, x: Array, num: int, seed: int) -> Array:
        """Mean of :func:`elbo_terms` over draws, [N]."""
        return self._sliced(self._elbo, parameters, x, num, seed).mean(0, dtype=np.float64)

    def moments(self, parameters: Parameters, x: Array, num: int, seed: int) -> tuple[Array, Array]:
        """Mean [N, D] and Cholesky factor [N, D, D] of the covariance of ``num`` draws each, float64."""
        size = self.decoder.latent_size
        z = self.draws(parameters, x, max(num, size + 2), seed).astype(np.float64)
        mean = z.mean(0)
        covariance = np.einsum("sbi,sbj->bij", z - mean, z - mean) / (len(z) - 1)
        jitter = 1e-6 * (1.0 + np.trace(covariance, axis1=1, axis2=2) / size)
        return mean, np.linalg.cholesky(covariance + jitter[:, None, None] * np.eye(size))

    def importance(self, parameters: Parameters, x: Array, num: int, seed: int) -> Array:
        """Log weights [num, N] whose mean weight estimates p(x) without bias; draws from q, r or a Gaussian."""
        if self.explicit(parameters, x):
            return self._sliced(self._elbo, parameters, x, num, seed)
        contrast = contrast_density(self.parts, parameters, self.parts.features(tf.constant(x[:1])))
        if isinstance(contrast, FlowDensity | MomentsAndFlowDensity):
            return self._sliced(self._from_contrast, parameters, x, num, seed)
        moments = self.moments(parameters, x, 500, seed + 1)
        return self._sliced(self._from_gaussian, parameters, x, num, seed, *moments)

    def explicit(self, parameters: Parameters, x: Array) -> bool:
        """Whether log q of the sampler's draws is known."""
        seen = self.parts.features(tf.constant(x[:1]))
        return self.parts.sampler(parameters["sampler"], 1, seen, tf.constant([0, 0])).log_density is not None

    @quiet_tracing()
    def _sliced(
        self, function: Compiled, parameters: Parameters, x: Array, num: int, seed: int, *extra: Array
    ) -> Array:
        """Results [S, B, ...] of slices of draws and of data, put together to [num, N, ...]."""
        width = min(len(x), 256)
        depth = max(min(num, DRAWS_AT_ONCE // width), 1)
        columns = []
        for number, begin in enumerate(range(0, len(x), width)):
            data = [tf.constant(part[begin : begin + width], tf.float32) for part in (x, *extra)]
            columns.append(
                np.concatenate(
                    [
                        function(parameters, tf.constant(size), tf.constant([seed, 65_536 * number + index]), *data)
                        for index, size in enumerate(_sizes(num, depth))
                    ]
                )
            )
        return np.concatenate(columns, 1)

    @cached_property
    def _draw(self) -> Compiled:
        def draw(parameters: Parameters, num: Tensor, seed: Tensor, x: Tensor) -> Tensor:
            return self.parts.sampler(parameters["sampler"], num, self.parts.features(x), seed).z

        return Compiled(draw, jit_compile=False)  # sizes vary from call to call

    @cached_property
    def _elbo(self) -> Compiled:
        def terms(parameters: Parameters, num: Tensor, seed: Tensor, x: Tensor) -> Tensor:
            return elbo_terms(self.parts, self.decoder, parameters, x, num, seed)

        return Compiled(terms, jit_compile=False)

    @cached_property
    def _from_contrast(self) -> Compiled:
        def weights(parameters: Parameters, num: Tensor, seed: Tensor, x: Tensor) -> Tensor:
            density = contrast_density(self.parts, parameters, self.parts.features(x))
            z = density.sample(num, seed)
            return self.decoder.log_prob(z, x, parameters["target"]) - density.log_prob(z)

        return Compiled(weights, jit_compile=False)

    @cached_property
    def _from_gaussian(self) -> Compiled:
        def weights(
            parameters: Parameters, num: Tensor, seed: Tensor, x: Tensor, mean: Tensor, scale_tril: Tensor
        ) -> Tensor:
            noise = mixtures.normal(tf.stack([num, tf.shape(x)[0]]), mean.shape[-1], seed)
            log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(scale_tril)), -1)
            z = mean + tf.einsum("bij,sbj->sbi", scale_tril, noise)
            return self.decoder.log_prob(z, x, parameters["target"]) - log_standard_normal(noise) + log_det

        return Compiled(weights, jit_compile=False)


def _sizes(total: int, largest: int) -> Iterator[int]:
    """``total`` in pieces of at most ``largest``."""
    while total > 0:
        yield min(total, largest)
        total -= largest


def log_mean_exp(values: Array) -> Array:
    """Over the first axis, float64."""
    values = np.asarray(values, np.float64)
    top = values.max(0)
    return top + np.log(np.exp(values - top).mean(0))
