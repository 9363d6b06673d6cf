"""The objective of adversarial variational Bayes, as one pure function (Mescheder, Nowozin & Geiger, arXiv 1701.04722).

Three losses are summed and differentiated once; stop-gradients keep each to its own parameters:

- sampler: E_eps[log r(g) + T(g) - log p(x, g)], through z = g(eps) only (Proposition 2);
- critic: the ratio loss, E_q[softplus(-T)] + E_r[softplus(T)] for the logistic one (Proposition 1);
- contrast: -E_q[log r], maximum likelihood on the sampler's draws. The sampler descends E_q[log r] in z and the
  contrast ascends it in its own parameters, so one backward pass through log r serves both: ``GRADIENT_SIGNS`` turns
  its sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from neural_vb._types import Contrast, Critic, Parameters, RatioLoss, Sampler, Seed, Tensor
from neural_vb.mixtures import Stream, fold_in


def as_given(x: Tensor | None) -> Tensor | None:
    """x itself."""
    return x


@dataclass(frozen=True)
class Parts:
    """The three networks and the loss that tie an implicit posterior to a target.

    Attributes:
        sampler: draws.
        critic: tells them from the contrast's.
        contrast: a density near q.
        ratio_loss: what the critic minimises.
        features: from x to what these three see of it; the target sees x itself.
    """

    sampler: Sampler
    critic: Critic
    contrast: Contrast
    ratio_loss: RatioLoss
    features: Callable[[Any], Any] = as_given


GRADIENT_SIGNS = {"sampler": 1.0, "critic": 1.0, "contrast": -1.0, "target": 1.0}


class Losses(NamedTuple):
    """Scalars of one step, and the draws they were computed on.

    Attributes:
        total: what is differentiated; each group of parameters descends ``GRADIENT_SIGNS`` times its gradient.
        elbo: E_q[log p - log r - T], the estimate of the ELBO; no bound unless T is optimal.
        elbo_variance: variance of its terms over draws.
        accuracy: share of draws that the critic attributes correctly; .5 when q = r.
        finite: share of posterior draws whose log density is finite.
        draws: [S, B, D], without gradient.
    """

    total: Tensor
    elbo: Tensor
    elbo_variance: Tensor
    accuracy: Tensor
    finite: Tensor
    draws: Tensor


def contrast_density(parts: Parts, parameters: Parameters, seen: Tensor | None) -> Any:
    """The density r(. | x); with ``follows_sampler`` the contrast is given the sampler's parameters too, frozen.

    That is adaptive contrast with moments that are known as functions of x (section 4 of the paper). A density with
    ``standardise`` shows the critic [S, B, D] in coordinates in which r is near standard normal; one with ``condition``
    [B, C] shows it that in place of x.
    """
    own = parameters["contrast"]
    if getattr(parts.contrast, "follows_sampler", False):
        own = {**own, "sampler": tf.nest.map_structure(tf.stop_gradient, parameters["sampler"])}
    return parts.contrast(own, seen)


def log_density_estimate(parts: Parts, critic: Parameters, contrast: Any, z: Tensor, seen: Tensor | None) -> Tensor:
    """log r(z | x) + T(z, x), which stands for a log q that is not known; [S, B, D] -> [S, B], nats.

    Args:
        parts: for the critic.
        critic: its parameters.
        contrast: the density r.
        z: draws.
        seen: what the critic sees of x.
    """
    return contrast.log_prob(z) + critic_logits(parts, critic, contrast, z, seen)


def critic_logits(parts: Parts, critic: Parameters, contrast: Any, z: Tensor, seen: Tensor | None) -> Tensor:
    """T [S, B] at z [S, B, D], in the coordinates and with the condition that the density r asks for."""
    standardise = getattr(contrast, "standardise", as_given)
    return parts.critic(critic, standardise(z), getattr(contrast, "condition", seen))


def losses(
    parts: Parts,
    log_prob: Callable[..., Tensor],
    parameters: Parameters,
    x: Tensor | None,
    *,
    num_samples: int,
    seed: Seed,
) -> Losses:
    """The summed losses on ``num_samples`` fresh draws from the sampler and from the contrast.

    Draws whose log density is not finite take no part in the sampler's loss; they are counted in ``finite``.

    Args:
        parts: sampler, critic, contrast and ratio loss.
        log_prob: ([S, B, D], x) -> [S, B], in the sampler's coordinates; with "target" parameters as third argument.
        parameters: {"sampler": ..., "critic": ..., "contrast": ...}, and "target" where log p is trained too: it
            ascends E_q[log p(x, z)], as in a variational autoencoder.
        x: [B, X], or None for one data set.
        num_samples: S.
        seed: stateless seed [2].
    """
    seen = parts.features(x)
    proposal = parts.sampler(parameters["sampler"], num_samples, seen, fold_in(seed, Stream.SAMPLER))
    z = proposal.z
    draws = tf.stop_gradient(z)
    contrast = contrast_density(parts, parameters, seen)
    contrast_draws = tf.stop_gradient(contrast.sample(num_samples, fold_in(seed, Stream.CONTRAST)))

    log_p = log_prob(z, x, parameters["target"]) if "target" in parameters else log_prob(z, x)
    finite = tf.math.is_finite(log_p)
    log_q = proposal.log_density
    if log_q is None:
        frozen_critic = tf.nest.map_structure(tf.stop_gradient, parameters["critic"])
        log_q = log_density_estimate(parts, frozen_critic, contrast, z, seen)
    gap = tf.where(finite, log_q - tf.where(finite, log_p, tf.zeros_like(log_p)), tf.zeros_like(log_q))
    num_finite = tf.maximum(tf.reduce_sum(tf.cast(finite, gap.dtype)), 1.0)
    mean_gap = tf.reduce_sum(gap) / num_finite
    centred_gap = tf.where(finite, tf.stop_gradient(gap - mean_gap), tf.zeros_like(gap))
    choice_loss = tf.reduce_sum(centred_gap * proposal.log_choice) / num_finite

    logits = critic_logits(parts, parameters["critic"], contrast, tf.concat([draws, contrast_draws], 0), seen)
    posterior_logits, contrast_logits = logits[:num_samples], logits[num_samples:]
    critic_loss = parts.ratio_loss(posterior_logits, contrast_logits)

    correct = tf.cast(posterior_logits > 0, gap.dtype) + tf.cast(contrast_logits <= 0, gap.dtype)
    return Losses(
        total=mean_gap + choice_loss + critic_loss,
        elbo=-mean_gap,
        elbo_variance=tf.reduce_sum(centred_gap**2) / num_finite,
        accuracy=0.5 * tf.reduce_mean(correct),
        finite=tf.reduce_mean(tf.cast(finite, gap.dtype)),
        draws=draws,
    )
