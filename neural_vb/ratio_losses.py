"""Losses whose minimiser over a critic T is the log density ratio log q - log r.

Each is a pure function of the critic's values on posterior draws (from q) and on contrast draws (from r), both [S, B],
and returns a scalar. Source of the family: Sugiyama, Suzuki & Kanamori, "Density Ratio Estimation in Machine Learning"
(2012); of the logistic one as used here: Mescheder, Nowozin & Geiger, arXiv 1701.04722, equation 3.3.

Adding one: a function of the two arguments, listed in ``RATIO_LOSSES``.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from neural_vb._types import Tensor


def logistic(posterior_logits: Tensor, contrast_logits: Tensor) -> Tensor:
    """E_q[softplus(-T)] + E_r[softplus(T)], the cross-entropy of a classifier of q against r."""
    return tf.reduce_mean(tf.nn.softplus(-posterior_logits)) + tf.reduce_mean(tf.nn.softplus(contrast_logits))


def kliep(posterior_logits: Tensor, contrast_logits: Tensor) -> Tensor:
    """E_r[exp T] - E_q[T] - 1: the Kullback-Leibler importance estimation procedure in its unconstrained form.

    exp T grows fast: one contrast draw in a region that q prefers can dominate a batch.
    """
    return tf.reduce_mean(tf.exp(contrast_logits)) - tf.reduce_mean(posterior_logits) - 1.0


def lsif(posterior_logits: Tensor, contrast_logits: Tensor) -> Tensor:
    """E_r[exp(2T)] / 2 - E_q[exp T]: least-squares importance fitting of the ratio exp T."""
    return 0.5 * tf.reduce_mean(tf.exp(2.0 * contrast_logits)) - tf.reduce_mean(tf.exp(posterior_logits))


RATIO_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"logistic": logistic, "kliep": kliep, "lsif": lsif}
