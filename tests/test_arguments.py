"""Counts among the data are those that their distribution can give."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb.arguments import check_data
from neural_vb.errors import DataError
from neural_vb.targets import as_target

tfd = tfp.distributions


def categories(values: list[int]) -> Any:
    @tfd.JointDistributionCoroutineAutoBatched
    def model() -> Any:
        a = yield tfd.Normal(0.0, 1.0, name="a")
        yield tfd.Sample(tfd.Categorical(logits=tf.stack([a, -a, 0.0 * a], -1)), len(values), name="y")

    return as_target(model, {"y": values})


def test_every_category_may_be_observed() -> None:
    check_data(categories([0, 1, 2, 1, 0]))


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_category_that_there_is_not_is_named(wrong: int) -> None:
    with pytest.raises(DataError, match=r"whole numbers from 0 to 2; got .*-?\d"):
        check_data(categories([0, 1, wrong]))
