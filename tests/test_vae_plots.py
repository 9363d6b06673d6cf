"""Figures of the variational autoencoder."""

from __future__ import annotations

import numpy as np
import pytest
from small_vae import IMAGES, SMALL, small_vae

from neural_vb.applications import vae_plots
from neural_vb.applications.inference import gaussian
from neural_vb.applications.vae import VAE, fit_vae
from neural_vb.errors import DataError, UnsupportedError


@pytest.fixture(scope="module")
def small() -> VAE:
    return small_vae()


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
