"""The variational autoencoder: probabilistic PCA in closed form, the four pixels, bad input, and its face."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from neural_vb.applications import vae_plots
from neural_vb.applications.ais import AISConfig
from neural_vb.applications.decoders import Bernoulli, Normal
from neural_vb.applications.encoders import GaussianEncoder, ResidualSampler
from neural_vb.applications.inference import (
    Inference,
    adversarial_autoencoder,
    avb_adaptive,
    avb_flow,
    avb_prior,
    gaussian,
    iaf,
)
from neural_vb.applications.vae import VAE, VAE_CONFIG, fit_vae, load_vae
from neural_vb.applications.vae_data import rows, source
from neural_vb.errors import ConfigurationError, DataError, FileFormatError, StartError, UnsupportedError
from neural_vb.networks import MLP
from neural_vb.training import TrainingConfig

BRIEF = TrainingConfig(
    max_steps=40, min_steps=0, decay_steps=20, window=20, batch_size=32, ramp_steps=0, plateau_windows=50,
    jit_compile=False, easy_divergence=0.0,
)  # fmt: skip
SMALL = {"decoder": MLP((8,)), "config": BRIEF, "progress": False}
IMAGES = (np.random.RandomState(0).rand(50, 3, 2) < 0.3).astype(np.uint8)
PIXELS = np.eye(4, dtype=np.float32)


@pytest.fixture(scope="module")
def small() -> VAE:
    return fit_vae(IMAGES, latent_size=2, inference=avb_adaptive(), validation=IMAGES[:9], seed=3, **SMALL)


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


def test_four_pixels_want_more_than_a_gaussian() -> None:
    """Four posteriors tile the prior: -log 4 = -1.386 at best; a Gaussian encoder's ELBO stays near -1.70."""
    brief = dataclasses.replace(VAE_CONFIG, max_steps=2_400, min_steps=2_400, decay_steps=1_200)
    options = {"latent_size": 2, "config": brief, "progress": False}
    plain = fit_vae(PIXELS, inference=gaussian(), **options)
    assert -1.80 < true_elbo(plain, PIXELS) < -1.62
    assert abs(plain.elbo(PIXELS, num_draws=4_000).mean() - true_elbo(plain, PIXELS)) < 0.03
    adversarial = fit_vae(PIXELS, inference=avb_flow(), **options)
    assert true_elbo(plain, PIXELS) + 0.1 < true_elbo(adversarial, PIXELS) < -np.log(4.0) + 0.01


@pytest.mark.parametrize("inference", [iaf(), avb_flow()], ids=["iaf", "avb_flow"])
def test_training_ascends(inference: Inference) -> None:
    config = dataclasses.replace(BRIEF, max_steps=300, window=100, sampler_rate=2e-3, target_rate=5e-3)
    vae = fit_vae(PIXELS, latent_size=2, inference=inference, **{**SMALL, "config": config})
    assert vae.history.elbo[-1] > vae.history.elbo[0] + 0.1
    assert vae.history.skipped.sum() == 0


def test_shapes(small: VAE) -> None:
    assert small.encode(IMAGES[:7]).sample(5).shape == (5, 7, 2)
    mean, scale_tril = small.encode(IMAGES[:7]).moments()
    assert mean.shape == (7, 2) and scale_tril.shape == (7, 2, 2)
    assert small.reconstruct(IMAGES[:7]).shape == (7, 3, 2)
    assert small.reconstruction_error(IMAGES[:7]).shape == (7,)
    assert small.generate(4).shape == (4, 3, 2)
    assert set(np.unique(small.generate(40, noise=True))) == {0.0, 1.0}
    assert small.interpolate(IMAGES[:7], IMAGES[7:14], 5).shape == (5, 7, 3, 2)
    assert small.elbo(IMAGES[:7]).shape == small.iwae_bound(IMAGES[:7], 10).shape == (7,)
    assert all(isinstance(leaf, np.ndarray) for leaf in tf.nest.flatten(small.parameters))


def test_an_interpolation_goes_from_one_draw_to_the_other(small: VAE) -> None:
    found = small.interpolate(IMAGES[:3], IMAGES[3:6], 4, seed=1)
    np.testing.assert_allclose(found[0], small.reconstruct(IMAGES[:3], seed=1), rtol=1e-4)
    np.testing.assert_allclose(found[-1], small.reconstruct(IMAGES[3:6], seed=1), rtol=1e-4)


def test_slices_of_data_and_draws_do_not_show(small: VAE) -> None:
    """More rows than one slice holds; the rows of another slice have noise of their own, and the same law."""
    many = np.tile(IMAGES[:1], (300, 1, 1))
    z = small.encode(many).sample(40, seed=2)
    assert len(np.unique(z.reshape(-1, 2), axis=0)) == 300 * 40
    a, b = z[:, :256].reshape(-1, 2), z[:, 256:].reshape(-1, 2)
    error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert (np.abs(a.mean(0) - b.mean(0)) < 4.5 * error).all()


def test_the_same_seed_gives_the_same_fit_and_another_one_another(small: VAE) -> None:
    again = fit_vae(IMAGES, latent_size=2, inference=avb_adaptive(), seed=3, **SMALL)
    other = fit_vae(IMAGES, latent_size=2, inference=avb_adaptive(), seed=4, **SMALL)
    for after, before in zip(again.state, small.state, strict=True):
        np.testing.assert_array_equal(after, before)  # validation chooses among the windows, and changes none
    assert (again.elbo(IMAGES) != other.elbo(IMAGES)).all()


def test_held_out_data_choose_the_window() -> None:
    """Ten images are learnt by heart in a few hundred steps: the bound of others rises, then falls."""
    seen: list[float] = []
    options = SMALL | {"config": dataclasses.replace(BRIEF, max_steps=2_000, decay_steps=400, target_rate=1e-2)}
    vae = fit_vae(
        IMAGES[:10],
        latent_size=2,
        inference=gaussian(),
        validation=IMAGES[10:],
        patience=8,
        callbacks=[lambda step, metrics: seen.append(metrics["validation_bound"])],
        **options,
    )
    best = int(np.argmax(seen))
    assert vae.history.decay_start == 20 * (best + 9)  # eight windows without a better one
    assert (
        vae.steps == vae.history.decay_start + np.clip(vae.history.decay_start, 200, 400)
        and vae.status.reason == "plateau"
    )
    assert seen[-1] < seen[best] - 0.05 and "held-out data were fitted no better" in vae.status.message
    np.testing.assert_array_equal(vae.validation_bound, seen)
    assert abs(vae.iwae_bound(IMAGES[10:], 16).mean() - seen[best]) < 0.05


def test_patience_needs_held_out_data() -> None:
    with pytest.raises(ConfigurationError, match="Expected validation data beside patience"):
        fit_vae(IMAGES, latent_size=2, patience=3, **SMALL)
    with pytest.raises(ConfigurationError, match="Expected patience as a whole number"):
        fit_vae(IMAGES, latent_size=2, validation=IMAGES[:9], patience=0, **SMALL)


def test_held_out_elbo_after_each_window() -> None:
    seen: list[float] = []
    vae = fit_vae(
        IMAGES,
        latent_size=2,
        inference=gaussian(),
        validation=IMAGES[:9],
        callbacks=[lambda step, metrics: seen.append(metrics["validation_elbo"])],
        **SMALL,
    )
    assert len(vae.history.step) == 3
    np.testing.assert_array_equal(vae.validation_elbo, seen)
    assert abs(seen[-1] - vae.elbo(IMAGES[:9], num_draws=200).mean()) < 1.0


def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(small: VAE, tmp_path: Path) -> None:
    options = SMALL | {"latent_size": 2, "inference": avb_adaptive(), "validation": IMAGES[:9], "seed": 3}
    first = fit_vae(IMAGES, callbacks=[lambda step, metrics: True], **options)
    assert (first.steps, small.steps) == (20, 60)
    first.save(tmp_path / "first.nvb")
    for start in (first, load_vae(tmp_path / "first.nvb")):
        whole = fit_vae(IMAGES, start=start, **options)
        assert whole.steps == 60
        for after, before in zip(whole.state, small.state, strict=True):
            np.testing.assert_array_equal(after, before)


def test_a_residual_sampler_starts_where_its_gaussian_encoder_has_ended() -> None:
    """The bound of its start is kept, and what it begins as is the Gaussian fit itself."""
    encoder = GaussianEncoder(MLP((8,), output_scale=0.1))
    plain = fit_vae(IMAGES, latent_size=2, inference=gaussian(encoder), **SMALL)
    sampler = ResidualSampler(encoder, MLP((8,), output_scale=0.0))
    still = SMALL | {"config": dataclasses.replace(BRIEF, sampler_rate=1e-9, target_rate=1e-9)}
    for make in (avb_flow, avb_adaptive):
        found = fit_vae(IMAGES, latent_size=2, inference=make(sampler), start=plain, **still)
        assert found.steps == 60  # its own, not those of the start
        z, ours = (vae.encode(IMAGES[:5]).sample(20_000) for vae in (plain, found))
        np.testing.assert_allclose(ours.mean(0), z.mean(0), atol=0.05)
        np.testing.assert_allclose(ours.std(0), z.std(0), rtol=0.03)
        np.testing.assert_allclose(found.decode(z[0]), plain.decode(z[0]), atol=1e-4)
    other = avb_flow(ResidualSampler(GaussianEncoder(MLP((9,), output_scale=0.1))))
    with pytest.raises(StartError, match="start with the inference of this fit"):
        fit_vae(IMAGES, latent_size=2, inference=other, start=plain, **SMALL)


def test_a_finished_fit_goes_on_with_more_steps(small: VAE) -> None:
    options = SMALL | {"latent_size": 2, "inference": avb_adaptive()}
    with pytest.raises(ConfigurationError, match="after the 60 steps of start; got 40, and 20 of decay"):
        fit_vae(IMAGES, start=small, **options)
    options["config"] = dataclasses.replace(BRIEF, max_steps=80)
    later = fit_vae(IMAGES, start=small, **options)
    assert later.steps == 100 and later.history.step[0] == 80
    assert later.history.elbo[0] > small.history.elbo[0]


@pytest.mark.parametrize("make", [avb_prior, avb_adaptive, avb_flow, gaussian, iaf, adversarial_autoencoder])
def test_what_is_loaded_is_what_was_saved(make: Any, tmp_path: Path) -> None:
    vae = fit_vae(IMAGES, latent_size=2, inference=make(), likelihood=Normal(), **SMALL)
    vae.save(tmp_path / "vae.nvb")
    again = load_vae(tmp_path / "vae.nvb")
    assert str(again) == str(vae) and (again.decoder, again.inference) == (vae.decoder, vae.inference)
    np.testing.assert_array_equal(again.elbo(IMAGES, seed=1), vae.elbo(IMAGES, seed=1))
    np.testing.assert_array_equal(again.generate(3, seed=1), vae.generate(3, seed=1))


def test_a_decoder_of_the_users_own_is_passed_again(small: VAE, tmp_path: Path) -> None:
    own = dataclasses.replace(small.decoder, network=MLP((8,), activation=lambda x: tf.nn.silu(x)))
    dataclasses.replace(small, decoder=own).save(tmp_path / "own.nvb")
    with pytest.raises(ConfigurationError, match="Expected the decoder that was fitted"):
        load_vae(tmp_path / "own.nvb")
    again = load_vae(tmp_path / "own.nvb", decoder=own)
    np.testing.assert_array_equal(again.elbo(IMAGES), small.elbo(IMAGES))
    with pytest.raises(FileFormatError, match="written by the save of a variational autoencoder"):
        load_vae(tmp_path)


def test_start_has_the_same_parts(small: VAE) -> None:
    with pytest.raises(StartError) as caught:
        fit_vae(IMAGES[:, :2], latent_size=2, inference=avb_adaptive(), start=small, **SMALL)
    assert str(caught.value) == (
        "Expected start with the data shape of this fit, (2, 2); got (3, 2). Fix: pass the same parts as before"
    )
    with pytest.raises(StartError, match="Expected start with the inference"):
        fit_vae(IMAGES, latent_size=2, inference=gaussian(), start=small, **SMALL)


def test_it_says_what_it_is(small: VAE) -> None:
    lines = str(small).splitlines()
    assert lines[0] == "Variational autoencoder: 2 latent dimensions, data [3, 2], Bernoulli likelihood"
    assert lines[1] == "Inference: NoiseBasisSampler, MLPCritic, EncoderMoments"
    assert lines[2] == "Training: stopped at max_steps before the ELBO estimate rested (step 60)"
    earlier = dataclasses.replace(small, validation_bound=np.array([]))  # as read from a file without it
    assert "Held-out ELBO" in str(earlier) and "Held-out bound" not in str(earlier)
    bounds = small.validation_bound
    assert lines[4] == f"Held-out bound: {max(bounds):.3f} nats at best, {bounds[-1]:.3f} in the last window"
    assert lines[5] == f"Held-out ELBO of the last window: {small.validation_elbo[-1]:.3f} nats"


def test_an_array_is_streamed_in_whole_passes() -> None:
    x = np.arange(10, dtype=np.float32)[:, np.newaxis]
    data = source(x, Normal(), batch_size=4, seed=0)
    batches = data.stream(0, 5).numpy()
    assert data.shape == (1,) and batches.shape == (5, 4, 1)
    np.testing.assert_array_equal(np.bincount(batches.astype(int).ravel()), 2)
    np.testing.assert_array_equal(batches, data.stream(0, 5))
    assert (batches != data.stream(5, 5).numpy()).any()


def test_a_dataset_is_streamed_in_its_order_and_checked() -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    data = source(tf.data.Dataset.from_tensor_slices(x), Normal(), batch_size=2, seed=0)
    np.testing.assert_array_equal(data.stream(0, 2).numpy().reshape(4, 2), x[:4])
    np.testing.assert_array_equal(data.stream(2, 2).numpy().reshape(4, 2), x[[4, 5, 0, 1]])
    late = tf.data.Dataset.from_tensor_slices(np.where(np.arange(600)[:, None] < 400, 0.5, np.nan))
    with pytest.raises(DataError, match="the data set's next elements finite; got NaN or infinite numbers in 200 of"):
        source(late, Bernoulli(), batch_size=600, seed=0).stream(0, 1)
    vae = fit_vae(tf.data.Dataset.from_tensor_slices(IMAGES), latent_size=2, inference=gaussian(), **SMALL)
    assert vae.data_shape == (3, 2)


BAD: dict[str, tuple[Any, str]] = {
    "a vector": (
        np.zeros(5),
        "Expected x of shape [N, ...]; got shape [5]. Fix: add an axis for the features, x[:, None]",
    ),
    "no rows": (
        np.zeros((0, 3)),
        "Expected x with data; got shape [0, 3]. Fix: pass at least one row and one feature",
    ),
    "no features": (
        np.zeros((3, 0)),
        "Expected x with data; got shape [3, 0]. Fix: pass at least one row and one feature",
    ),
    "text": (
        np.array([["a", "b"]]),
        "Expected x as an array of numbers; got dtype <U1. Fix: convert it to float32 or uint8",
    ),
    "NaN": (
        np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 0.0]]),
        "Expected x finite; got NaN or infinite numbers in 2 of 3 rows, the first of them row 1. "
        "Fix: drop or impute these rows",
    ),
    "bytes": (
        np.array([[0, 255]], np.uint8),
        "Expected data in [0, 1] for a Bernoulli likelihood; got values from 0 to 255. "
        "Fix: scale or binarise the data, or pass likelihood=Normal()",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_named_before_training(name: str) -> None:
    x, message = BAD[name]
    with pytest.raises(DataError) as caught:
        fit_vae(x, latent_size=2, progress=False)
    assert str(caught.value) == message


def test_other_bad_data_are_named(small: VAE) -> None:
    with pytest.raises(DataError, match=r"Expected x as an array \[N, \.\.\.\]"):
        rows([[1.0], [1.0, 2.0]], Normal())
    with pytest.raises(DataError) as caught:
        small.encode(np.zeros((4, 2, 3)))
    assert str(caught.value) == "Expected x of shape [N, 3, 2]; got shape [4, 2, 3]. Fix: reshape it"
    with pytest.raises(DataError, match=r"Expected validation of shape \[N, 3, 2\]"):
        fit_vae(IMAGES, latent_size=2, validation=IMAGES[:, :2], progress=False)
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros(50)))
    with pytest.raises(DataError, match="Expected a data set of single tensors"):
        fit_vae(pairs, latent_size=2, progress=False)
    with pytest.raises(DataError, match="Expected a data set with elements; got none"):
        fit_vae(tf.data.Dataset.from_tensor_slices(IMAGES).take(0), latent_size=2, progress=False)


def test_bad_options_are_named(small: VAE) -> None:
    with pytest.raises(ConfigurationError, match="latent_size as a whole number from 1 to"):
        fit_vae(IMAGES, latent_size=0)
    with pytest.raises(ConfigurationError, match="draws_per_point from 1 to batch_size = 32; got 33"):
        fit_vae(IMAGES, latent_size=2, draws_per_point=33, config=BRIEF)
    with pytest.raises(ConfigurationError, match="seed as a whole number"):
        fit_vae(IMAGES, latent_size=2, seed=-1)
    with pytest.raises(ConfigurationError, match="num_draws as a whole number from 1 to"):
        small.iwae_bound(IMAGES, 0)


def test_figures_show_what_they_are_given(small: VAE) -> None:
    figure = vae_plots.plot_samples(small, 2, 3)
    assert figure.axes[0].images[0].get_array().shape == (2 * 3 + 1, 3 * 2 + 2)
    figure = vae_plots.plot_reconstructions(small, IMAGES[:5], num_draws=2)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown[:3, :2], IMAGES[0])
    assert shown.shape == (3 * 3 + 2, 5 * 2 + 4)
    figure = vae_plots.plot_interpolations(small, IMAGES[:2], IMAGES[2:4], num_points=4)
    assert figure.axes[0].images[0].get_array().shape == (2 * 3 + 1, 4 * 2 + 3)
    axis = vae_plots.plot_latent_space(small, IMAGES, IMAGES[:, 0, 0], num_draws=2).axes[0]
    assert sum(len(points.get_offsets()) for points in axis.collections) == 100
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["0", "1"]


def test_figures_that_cannot_be_drawn_are_named(small: VAE) -> None:
    with pytest.raises(DataError, match=r"Expected an image_shape for data of shape \[3, 2\]; got \[5, 5\]"):
        vae_plots.plot_samples(small, image_shape=(5, 5))
    with pytest.raises(DataError, match=r"Expected labels of shape \[50\]; got shape \[3\]"):
        vae_plots.plot_latent_space(small, IMAGES, [0, 1, 2])
    deep = fit_vae(IMAGES, latent_size=3, inference=gaussian(), **SMALL)
    with pytest.raises(UnsupportedError, match="Expected two latent dimensions; got 3"):
        vae_plots.plot_latent_space(deep, IMAGES)
