"""Data of the variational autoencoder: how they are streamed, and bad ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_vae import IMAGES, SMALL, small_vae

from neural_vb.applications.decoders import Bernoulli, Normal
from neural_vb.applications.inference import gaussian
from neural_vb.applications.vae import VAE, fit_vae
from neural_vb.applications.vae_data import rows, source
from neural_vb.errors import DataError


@pytest.fixture(scope="module")
def small() -> VAE:
    return small_vae()


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
