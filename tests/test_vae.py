"""The variational autoencoder: how it is fitted, goes on, is saved and what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_vae import BRIEF, IMAGES, PIXELS, SMALL, small_vae

from neural_vb.applications.decoders import Normal
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
from neural_vb.applications.vae import VAE, fit_vae, load_vae
from neural_vb.errors import ConfigurationError, FileFormatError, StartError
from neural_vb.networks import MLP


@pytest.fixture(scope="module")
def small() -> VAE:
    return small_vae()


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


def test_bad_options_are_named(small: VAE) -> None:
    with pytest.raises(ConfigurationError, match="latent_size as a whole number from 1 to"):
        fit_vae(IMAGES, latent_size=0)
    with pytest.raises(ConfigurationError, match="draws_per_point from 1 to batch_size = 32; got 33"):
        fit_vae(IMAGES, latent_size=2, draws_per_point=33, config=BRIEF)
    with pytest.raises(ConfigurationError, match="seed as a whole number"):
        fit_vae(IMAGES, latent_size=2, seed=-1)
    with pytest.raises(ConfigurationError, match="num_draws as a whole number from 1 to"):
        small.iwae_bound(IMAGES, 0)
