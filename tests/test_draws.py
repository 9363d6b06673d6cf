"""Names and elements of structures of draws."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from neural_vb.draws import columns, named
from neural_vb.errors import ConfigurationError, DataError


def test_columns_are_the_elements_in_row_major_order() -> None:
    covariance = np.arange(24.0).reshape(4, 2, 3)
    split = columns({"mu": np.arange(4), "cov": covariance})
    expected = ["mu", "cov[0, 0]", "cov[0, 1]", "cov[0, 2]", "cov[1, 0]", "cov[1, 1]", "cov[1, 2]"]
    assert list(split) == expected
    np.testing.assert_array_equal(split["cov[1, 2]"], covariance[:, 1, 2])
    np.testing.assert_array_equal(np.stack([split[name] for name in expected[1:]], -1), covariance.reshape(4, 6))


def test_plain_arrays_are_called_z() -> None:
    assert list(columns(np.zeros([5, 2]))) == ["z[0]", "z[1]"]
    assert list(columns(np.zeros(5))) == ["z"]


def test_named_tuples_and_nested_structures_keep_their_names() -> None:
    pair = namedtuple("pair", ["mu", "tau"])
    assert list(named(pair(np.zeros(3), np.ones(3)))) == ["mu", "tau"]
    assert list(named({"a": {"b": np.zeros(3)}, "c": [1.0, 2.0]})) == ["a.b", "c"]


def test_half_precision_widens_exactly() -> None:
    half = np.float16([0.1, 65504.0])
    assert named(half)["z"].dtype == np.float32
    np.testing.assert_array_equal(named(half)["z"], half.astype(np.float64))


def test_var_names_choose_and_order_variables_and_elements() -> None:
    draws = {"mu": np.zeros(3), "theta": np.zeros([3, 2])}
    assert list(columns(draws, var_names=["theta[1]", "mu"])) == ["theta[1]", "mu"]
    assert list(columns(draws, var_names="theta")) == ["theta[0]", "theta[1]"]


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({}, "Expected at least one draw of at least one variable; got nothing"),
        ({"a": np.zeros([0, 2])}, "'a[0]' with 0 draws"),
        ({"a": np.zeros(3), "b": np.zeros([4, 1])}, "got a (3,), b (4, 1)"),
        ({"a": 1.0}, "Expected 'a' to have the draws as its first axis; got a single number"),
        ({"a": np.array(["x"])}, "Expected 'a' to be real numbers; got dtype <U1"),
        ({"a": np.array([1j])}, "got dtype complex128"),
        ({"a": [[1.0], [1.0, 2.0]]}, "Expected 'a' to be a rectangular array; got list"),
        ({"a": np.array([None])}, "got an array of Python objects, shape (1,)"),
        ({1: np.zeros(3)}, "got the name 1"),
    ],
)
def test_draws_that_cannot_be_are_named(draws: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        columns(draws)
    assert message in str(caught.value)


def test_unknown_and_no_var_names_are_errors() -> None:
    draws = {"mu": np.zeros(3), "theta": np.zeros([3, 2])}
    with pytest.raises(ConfigurationError, match=r"got 'tehta'. Fix: did you mean 'theta'\?"):
        columns(draws, var_names=["tehta"])
    with pytest.raises(ConfigurationError, match=r"got 'sigma'. Fix: choose from mu, theta, theta\[0\], theta\[1\]"):
        columns(draws, var_names="sigma")
    with pytest.raises(ConfigurationError, match="an empty list"):
        columns(draws, var_names=[])
