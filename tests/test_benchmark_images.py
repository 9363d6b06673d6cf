"""The image data sets: the four pixels, and files that are there, missing or faulty."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import io, stats

from benchmarks import image_data
from neural_vb.errors import DataError


def test_four_pixels_are_rows_of_the_identity() -> None:
    images = image_data.four_pixels(4_000, seed=0)
    assert images.shape == (4_000, 4) and images.dtype == np.float32
    assert set(map(tuple, images)) == set(map(tuple, np.eye(4)))
    assert stats.chisquare(images.sum(axis=0)).pvalue > 1e-4
    np.testing.assert_array_equal(images, image_data.four_pixels(4_000, seed=0))
    assert np.any(images != image_data.four_pixels(4_000, seed=1))


def test_static_mnist_is_read_as_it_was_written(tmp_path) -> None:
    rng = np.random.default_rng(0)
    written = [rng.integers(0, 2, (n, 784)).astype(np.uint8) for n in (5, 3, 2)]
    for split, images in zip(("train", "valid", "test"), written, strict=True):
        io.savemat(tmp_path / f"binarized_mnist_{split}.amat", {"X": images}, appendmat=False)
    found = image_data.static_mnist(str(tmp_path))
    for images, back in zip(written, found, strict=True):
        assert back.dtype == np.uint8 and back.flags.c_contiguous
        np.testing.assert_array_equal(images, back)
    assert found._fields == ("train", "valid", "test")


def test_faulty_image_files_are_one_line(tmp_path) -> None:
    file = tmp_path / "binarized_mnist_train.amat"
    fix = (
        "Fix: name the folder of the three files binarized_mnist_*.amat, e.g. from "
        "https://github.com/mingzhang-yin/ARM-gradient"
    )

    def message() -> str:
        with pytest.raises(DataError) as caught:
            image_data.static_mnist(tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message() == f"Expected a MATLAB file with the static binarised MNIST; got no file {file}. {fix}"
    for content in (b"0 1 0 1\n" * 100, b"", bytes(600)):  # text, empty, and without a header
        file.write_bytes(content)
        assert message().startswith(f"Expected a MATLAB version 5 file; got {file}, which SciPy cannot read: ")
    io.savemat(file, {"Y": np.eye(3)}, appendmat=False)
    assert message() == f"Expected a MATLAB file with a matrix X; got none in {file}. {fix}"
    for images, came in ((np.full((2, 784), 3), "[2, 784] and values up to 3"), (np.ones((2, 700)), "[2, 700]")):
        io.savemat(file, {"X": images}, appendmat=False)
        assert f"Expected rows of 784 zeros and ones; got shape {came}" in message()
