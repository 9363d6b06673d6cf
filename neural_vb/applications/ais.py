"""Annealed importance sampling: log p(x) of a latent variable model, from below in expectation.

Neal, "Annealed importance sampling" (Statistics and Computing 11, 2001); Wu, Burda, Salakhutdinov & Grosse, "On the
quantitative analysis of decoder-based generative models" (arXiv 1611.04273).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import mixtures
from neural_vb._types import Array, Seed, Tensor
from neural_vb.applications.decoders import log_standard_normal
from neural_vb.compilation import Compiled
from neural_vb.errors import ConfigurationError


@dataclass(frozen=True)
class AISConfig:
    """How finely to anneal.

    Args:
        num_temperatures: steps from the start to p(x, z).
        num_chains: for each x.
        num_leapfrog: of each Hamiltonian transition.
        step_size: at the start, in standard deviations of the start.
        target_accept: acceptance that the step size of each x follows.
        jit_compile: compile with XLA.
    """

    num_temperatures: int = 500
    num_chains: int = 16
    num_leapfrog: int = 5
    step_size: float = 0.3
    target_accept: float = 0.75
    jit_compile: bool = True

    def __post_init__(self) -> None:
        for name in ("num_temperatures", "num_chains", "num_leapfrog"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("step_size", 0 < self.step_size < math.inf, "positive and finite")
        self._require("target_accept", 0 < self.target_accept < 1, "between 0 and 1")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigurationError(
                expected=f"AISConfig.{name} {rule}",
                got=repr(getattr(self, name)),
                fix=f"pass {name} {rule}, or leave it out for the default",
            )


class AISResult(NamedTuple):
    """What the chains tell.

    Attributes:
        log_likelihood: [B], log mean over chains of the weights, nats.
        standard_error: [B], of it, from the scatter of the weights over chains.
        log_weights: [C, B].
        acceptance: [B], mean over transitions and chains.
    """

    log_likelihood: Array
    standard_error: Array
    log_weights: Array
    acceptance: Array


def temperatures(num: int, sharpness: float = 4.0) -> Array:
    """[num + 1] from 0 to 1, dense at both ends: a sigmoid, rescaled (Wu et al., section 4)."""
    values = 1.0 / (1.0 + np.exp(-sharpness * np.linspace(-1.0, 1.0, num + 1)))
    return ((values - values[0]) / (values[-1] - values[0])).astype(np.float32)


class Annealer:
    """Chains from N(mean, scale_tril scale_tril^T) to p(x, z), compiled once for a shape of x.

    Args:
        log_joint: (z [C, B, D], x [B, X]) -> log p(x, z) [C, B], nats.
        config: how finely.
    """

    def __init__(self, log_joint: Callable[[Tensor, Tensor], Tensor], config: AISConfig) -> None:
        self.log_joint, self.config = log_joint, config
        self._run = Compiled(self._anneal, jit_compile=config.jit_compile)

    def __call__(self, x: Array, mean: Array, scale_tril: Array, *, seed: int) -> AISResult:
        """log p(x) for each x.

        With u_0 ~ N(0, I) and z = mean + scale_tril u the chains pass through p_b(u) = N(u; 0, I)^(1-b) p(x, z)^b, and
        the weight of one is prod_t p_{b_t}(u_{t-1}) / p_{b_{t-1}}(u_{t-1}); its expectation is p(x), so that the
        logarithm of a mean of weights is a lower bound in expectation. The step size of each x follows its chains'
        acceptance, which breaks the exactness by less than is seen here.

        Args:
            x: [B, X].
            mean: [B, D] of the start.
            scale_tril: [B, D, D] of the start.
            seed: of all random numbers.
        """
        arguments = [tf.constant(np.asarray(value), tf.float32) for value in (x, mean, scale_tril)]
        log_weights, acceptance = (part.numpy() for part in self._run(*arguments, tf.constant([seed, 0])))
        log_weights = log_weights.astype(np.float64)
        top = log_weights.max(0)
        weights = np.exp(log_weights - top)
        mean_weight = weights.mean(0)
        num = len(weights)
        error = weights.std(0, ddof=1) / (mean_weight * math.sqrt(num)) if num > 1 else np.full(len(top), np.nan)
        return AISResult(top + np.log(mean_weight), error, log_weights, acceptance)

    def _anneal(self, x: Tensor, mean: Tensor, scale_tril: Tensor, seed: Seed) -> tuple[Tensor, Tensor]:
        config = self.config
        betas = tf.constant(temperatures(config.num_temperatures))
        log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(scale_tril)), -1)

        def log_target(u: Tensor) -> Tensor:
            return self.log_joint(mean + tf.einsum("bij,cbj->cbi", scale_tril, u), x) + log_det

        def body(t: Tensor, u: Tensor, log_weights: Tensor, step: Tensor, accepted: Tensor) -> Any:
            before, beta = betas[t - 1], betas[t]
            log_weights += (beta - before) * (log_target(u) - log_standard_normal(u))
            kernel = tfp.mcmc.HamiltonianMonteCarlo(
                lambda v: (1.0 - beta) * log_standard_normal(v) + beta * log_target(v),
                step_size=step[tf.newaxis, :, tf.newaxis],
                num_leapfrog_steps=config.num_leapfrog,
            )
            u, results = kernel.one_step(u, kernel.bootstrap_results(u), seed=mixtures.fold_in(seed, t))
            rate = tf.reduce_mean(tf.exp(tf.minimum(_finite(results.log_accept_ratio), 0.0)), 0)
            step *= tf.exp(0.1 * (rate - config.target_accept))
            return t + 1, u, log_weights, step, accepted + rate

        u = mixtures.normal(tf.stack([config.num_chains, tf.shape(mean)[0]]), mean.shape[-1], seed)
        zeros = tf.zeros_like(u[..., 0])
        start = (tf.constant(1), u, zeros, config.step_size * tf.ones_like(zeros[0]), zeros[0])
        last = config.num_temperatures
        _, _, log_weights, _, accepted = tf.while_loop(lambda t, *_: t <= last, body, start)
        return log_weights, accepted / last


def _finite(values: Tensor) -> Tensor:
    """A divergent trajectory is a rejected one."""
    return tf.where(tf.math.is_finite(values), values, -np.inf)
