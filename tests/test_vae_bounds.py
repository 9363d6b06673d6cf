"""The variational autoencoder in closed form: probabilistic PCA, exact log-likelihoods and the four pixels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from small_vae import PIXELS, SMALL

from neural_vb.applications.ais import AISConfig
from neural_vb.applications.decoders import Normal
from neural_vb.applications.encoders import GaussianEncoder
from neural_vb.applications.inference import avb_adaptive, avb_flow, avb_prior, gaussian
from neural_vb.applications.vae import VAE, VAE_CONFIG, fit_vae
from neural_vb.configuration import TrainingConfig
from neural_vb.networks import MLP


@pytest.fixture(scope="module")
def linear() -> tuple[VAE, np.ndarray]:
    """A linear-Gaussian autoencoder on data with three strong directions, and the data [2000, 6]."""
    rng = np.random.RandomState(1)
    x = rng.randn(2_000, 3) @ rng.randn(3, 6) + 0.5 * rng.randn(2_000, 6) + rng.randn(6)
    vae = fit_vae(
        x,
        latent_size=3,
        decoder=MLP(()),
        likelihood=Normal(),
        inference=gaussian(GaussianEncoder(MLP((), output_scale=0.1))),
        config=TrainingConfig(
            max_steps=2_500, min_steps=2_500, decay_steps=1_500, sampler_rate=5e-3, target_rate=5e-3, ramp_steps=0,
            easy_divergence=0.0,
        ),
        progress=False,
    )  # fmt: skip
    return vae, x


def exact_log_likelihood(vae: VAE, x: np.ndarray) -> np.ndarray:
    """log N(x; b, W W^T + s^2 I) of a linear decoder."""
    target = vae.parameters["target"]
    layer, scale = target["network"][0], np.exp(target["likelihood"]["log_scale"])
    covariance = layer["kernel"].T.astype(np.float64) @ layer["kernel"] + scale**2 * np.eye(x.shape[1])
    return scipy.stats.multivariate_normal(layer["bias"], covariance).logpdf(x)


def pca_log_likelihood(x: np.ndarray, size: int) -> float:
    """The largest mean log-likelihood of probabilistic PCA (Tipping & Bishop 1999, equation 8)."""
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    noise, num = values[size:].mean(), x.shape[1]
    log_det = np.log(values[:size]).sum() + (num - size) * np.log(noise)
    return float(-0.5 * (num * np.log(2 * np.pi) + log_det + num))


def test_a_linear_autoencoder_reaches_probabilistic_pca(linear: tuple[VAE, np.ndarray]) -> None:
    """ELBO <= log-likelihood <= its maximum; all three meet, as PCA's axes have a diagonal posterior."""
    vae, x = linear
    best = pca_log_likelihood(x, 3)
    reached = exact_log_likelihood(vae, x).mean()
    elbo = vae.elbo(x, num_draws=64)
    error = elbo.std() / np.sqrt(len(x) * 64)  # wider than the Monte Carlo error, which has no part between data
    assert best - 0.02 < reached <= best + 1e-4
    assert reached - 0.03 < elbo.mean() < reached + 4.5 * error


def test_bounds_meet_the_exact_log_likelihood(linear: tuple[VAE, np.ndarray]) -> None:
    vae, x = linear
    exact = exact_log_likelihood(vae, x[:10])
    config = AISConfig(num_temperatures=100, num_chains=32, jit_compile=False)
    found = vae.ais_log_likelihood(x[:10], config=config, batch_size=4, num_draws=2_000)
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.05)
    np.testing.assert_allclose(vae.iwae_bound(x[:10], 4_000), exact, atol=0.05)
    assert found.log_weights.shape == (32, 10)


@pytest.mark.parametrize("make", [avb_prior, avb_adaptive, avb_flow])
def test_the_bound_does_not_trust_a_critic(make: Any) -> None:
    """An untrained critic leaves the ELBO estimate anywhere; importance weights on tractable draws have mean p(x)."""
    x = np.random.RandomState(2).randn(5, 6)
    options = {**SMALL, "decoder": MLP(())}
    vae = fit_vae(x, latent_size=2, likelihood=Normal(2.0), inference=make(), **options)
    layer = vae.parameters["target"]["network"][0]
    covariance = layer["kernel"].T @ layer["kernel"] + 4.0 * np.eye(6)
    exact = scipy.stats.multivariate_normal(layer["bias"], covariance).logpdf(x)
    bound = vae.iwae_bound(x, 8_000)
    assert (bound < exact + 0.1).all()
    if make is not avb_prior:  # there the untrained q, and with it the proposal, is narrower than the posterior
        assert (bound > exact - 0.1).all()


def true_elbo(vae: VAE, x: np.ndarray, num: int = 200_000) -> float:
    """E_q[log p(x, z)] + H[q], the entropy from histograms of draws: the critic has no say."""
    z = vae.encode(x).sample(num, seed=9)
    edges = np.linspace(-8.0, 8.0, 321)
    entropy = 0.0
    for b in range(len(x)):
        share = np.histogram2d(*z[:, b].T, [edges, edges])[0] / num
        share = share[share > 0]
        entropy += -(share * np.log(share)).sum() + 2.0 * np.log(edges[1] - edges[0]) + len(share) / (2.0 * num)
    log_joint = vae.decoder.log_prob(tf.constant(z[:20_000]), tf.constant(x), vae.parameters["target"])
    return float(np.mean(log_joint)) + entropy / len(x)


@pytest.mark.slow
def test_four_pixels_want_more_than_a_gaussian() -> None:
    """Four posteriors tile the prior: -log 4 = -1.386 at best; a Gaussian encoder's ELBO stays near -1.70."""
    brief = dataclasses.replace(VAE_CONFIG, max_steps=2_400, min_steps=2_400, decay_steps=1_200)
    options = {"latent_size": 2, "config": brief, "progress": False}
    plain = fit_vae(PIXELS, inference=gaussian(), **options)
    assert -1.80 < true_elbo(plain, PIXELS) < -1.62
    assert abs(plain.elbo(PIXELS, num_draws=4_000).mean() - true_elbo(plain, PIXELS)) < 0.03
    adversarial = fit_vae(PIXELS, inference=avb_flow(), **options)
    assert true_elbo(plain, PIXELS) + 0.1 < true_elbo(adversarial, PIXELS) < -np.log(4.0) + 0.01
