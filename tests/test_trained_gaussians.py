"""Training in closed form: every contrast, every ratio loss, and data points in their own right."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from short_training import parts, run

from neural_vb.configuration import TrainingConfig
from neural_vb.contrasts import Flow, MomentMatched, Prior
from neural_vb.networks import MLP
from neural_vb.ratio_losses import RATIO_LOSSES

tfd = tfp.distributions

MEAN, COVARIANCE = np.array([0.4, -0.3]), np.array([[1.3**2, 0.5 * 1.3 * 0.8], [0.5 * 1.3 * 0.8, 0.8**2]])
GAUSSIAN = tfd.MultivariateNormalTriL(np.float32(MEAN), np.float32(np.linalg.cholesky(COVARIANCE)))
LOG_Z = 2.5
ACCURATE = TrainingConfig(
    max_steps=700, min_steps=700, decay_steps=300, window=100, sampler_rate=1e-3, ramp_steps=100, jit_compile=False
)
EYE = tuple(map(tuple, np.eye(2)))
CONTRASTS = {
    "flow": Flow(2, MLP((16,), output_scale=0.01)),
    "full": MomentMatched(),
    "diagonal": MomentMatched(diagonal=True),
    "prior": Prior(tfd.MultivariateNormalDiag(np.zeros(2, np.float32), 1.4 * np.ones(2, np.float32)), (0.0, 0.0), EYE),
}


@pytest.mark.parametrize(
    ("contrast", "loss"),
    [*[(name, "logistic") for name in CONTRASTS], *[("full", name) for name in RATIO_LOSSES if name != "logistic"]],
)
def test_every_contrast_and_every_ratio_loss_reaches_a_gaussian(contrast: str, loss: str) -> None:
    chosen = parts(CONTRASTS[contrast], RATIO_LOSSES[loss], MLP((32, 32), output_scale=0.01))
    trained = run(lambda z, x: GAUSSIAN.log_prob(z) + LOG_Z, ACCURATE, chosen)
    z = chosen.sampler(trained.parameters["sampler"], 20_000, None, tf.constant([0, 1])).z[:, 0].numpy()
    sd = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose((z.mean(0) - MEAN) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(z.std(0) / sd, 1.0, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(z.T)[0, 1], 0.5, atol=0.1)
    assert abs(trained.history.elbo[-1] - LOG_Z) < 0.1


@pytest.mark.parametrize("contrast", [CONTRASTS["flow"], CONTRASTS["full"]], ids=["flow", "moments pooled over x"])
def test_one_network_learns_the_posterior_of_every_data_point(contrast: Any) -> None:
    """z ~ N(0, I) and x | z ~ N(z, I): the posterior given x is N(x / 2, I / 2), log Z is log N(x; 0, 2 I)."""

    def log_prob(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        return tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(z) + tfd.Normal(z, 1.0).log_prob(x), -1)

    x = np.float32([[a, b] for a in (-2, -1, 0, 1, 2) for b in (-1, 0, 1)])
    chosen = parts(contrast, network=MLP((32, 32), output_scale=0.01))
    trained = run(log_prob, replace(ACCURATE, batch_size=32), chosen, x=tf.constant(x))
    new = np.float32([[-1.7, 0.4], [-0.6, -0.9], [0.3, 0.1], [1.1, 0.8]])  # not among those trained on, and fewer
    z = chosen.sampler(trained.parameters["sampler"], 10_000, tf.constant(new), tf.constant([0, 1])).z.numpy()
    assert z.shape == (10_000, 4, 2)
    np.testing.assert_allclose(z.mean(0), new / 2, atol=0.1 * math.sqrt(0.5))
    np.testing.assert_allclose(z.std(0), math.sqrt(0.5), rtol=0.1)
    log_evidence = tfd.Normal(0.0, math.sqrt(2.0)).log_prob(x).numpy().sum(-1).mean()
    assert abs(trained.history.elbo[-1] - log_evidence) < 0.1
