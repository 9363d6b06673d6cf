"""Images for the variational autoencoder: the four-pixel toy and the static binarised MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.definitions import Array

NUM_PIXELS = 784
STATIC_MNIST_FILE = "binarized_mnist_{}.amat"
STATIC_MNIST_SOURCE = "https://github.com/mingzhang-yin/ARM-gradient"


def four_pixels(n: int, seed: int) -> Array:
    """Images with one of four pixels on, each equally likely: [n, 4] in {0, 1}, float32.

    The best log-likelihood is -log 4 = -1.3863 nats. Source: Mescheder, Nowozin and Geiger 2017, arXiv 1701.04722.
    """
    return np.eye(4, dtype=np.float32)[np.random.default_rng(seed).integers(0, 4, n)]


class StaticMnist(NamedTuple):
    """Binary images by split, uint8 in {0, 1}: train [50000, 784], valid [10000, 784], test [10000, 784]."""

    train: Array
    valid: Array
    test: Array


def static_mnist(folder: str | Path) -> StaticMnist:
    """The MNIST digits, binarised once and for all (Salakhutdinov and Murray 2008), rows of 28 x 28 pixels in C order.

    Args:
        folder: holds ``binarized_mnist_train.amat``, ``..._valid.amat`` and ``..._test.amat``, MATLAB version 5 files
            with one matrix ``X``.

    Raises:
        DataError: a file is missing, is no MATLAB file with a matrix ``X``, or holds other than binary 784-pixel rows.
    """
    return StaticMnist(*(_images(Path(folder).expanduser() / STATIC_MNIST_FILE.format(s)) for s in StaticMnist._fields))


def _images(path: Path) -> Array:
    from scipy import io

    if not path.is_file():
        raise _data_error("a MATLAB file with the static binarised MNIST", f"no file {path}")
    try:
        images = io.loadmat(path, variable_names=["X"]).get("X")
    except (io.matlab.MatReadError, ValueError, NotImplementedError, OSError) as error:
        raise _data_error("a MATLAB version 5 file", f"{path}, which SciPy cannot read: {error}") from error
    if images is None:
        raise _data_error("a MATLAB file with a matrix X", f"none in {path}")
    if images.ndim != 2 or images.shape[1] != NUM_PIXELS or not len(images) or not np.isin(images, (0, 1)).all():
        raise _data_error(
            f"rows of {NUM_PIXELS} zeros and ones",
            f"shape {list(images.shape)} and values up to {images.max(initial=0)}",
        )
    return np.ascontiguousarray(images, np.uint8)


def _data_error(expected: str, got: str) -> Exception:
    from neural_vb.errors import DataError  # here, as it loads TensorFlow

    fix = f"name the folder of the three files {STATIC_MNIST_FILE.format('*')}, e.g. from {STATIC_MNIST_SOURCE}"
    return DataError(expected=expected, got=got, fix=fix)
