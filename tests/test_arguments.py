"""Data are values that their distributions can give."""

from __future__ import annotations

from typing import Any

import numpy as np
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


MAY_BE: dict[str, tuple[Any, list[float]]] = {
    "an end that has a density": (lambda mu: tfd.Exponential(tf.exp(mu) * tf.ones(2)), [0.0, 2.0]),
    "an angle of any turn": (lambda mu: tfd.VonMises(mu, tf.ones(2)), [5.0, -9.0]),
    "a support that moves": (lambda mu: tfd.Uniform(0.0, tf.exp(mu) * tf.ones(2)), [50.0, 90.0]),
    "an end that moves": (lambda mu: tfd.TruncatedNormal(0.0, 1.0, mu, 1e3 * tf.ones(2)), [-9.0, 0.5]),
    "shares": (lambda mu: tfd.Dirichlet(tf.exp(mu) * tf.ones(2)), [0.3, 0.7]),
    "real numbers": (lambda mu: tfd.StudentT(3.0, mu * tf.ones(2), 1.0), [-1e9, 1e-9]),
    "counts of a total": (lambda mu: tfd.Multinomial(5.0, logits=mu * tf.constant([1.0, -1.0])), [2.0, 3.0]),
    "a vector": (lambda mu: tfd.MultivariateNormalDiag(mu * tf.ones(2)), [-1.0, 2.0]),
    "a mixture of positive parts": (
        lambda mu: tfd.Sample(
            tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.Gamma(2.0, tf.exp(mu) * tf.ones(2))), 2
        ),
        [0.1, 5.0],
    ),
}


@pytest.mark.parametrize("case", MAY_BE)
def test_what_a_distribution_can_take_is_taken(case: str) -> None:
    likelihood, values = MAY_BE[case]
    joint = tfd.JointDistributionNamedAutoBatched({"mu": tfd.Normal(0.0, 1.0), "y": likelihood})
    check_data(as_target(joint, {"y": values}))


def test_a_support_that_other_data_decide_is_that_of_these_data() -> None:
    joint = tfd.JointDistributionNamedAutoBatched(
        {
            "mu": tfd.Normal(0.0, 1.0),
            "n": lambda mu: tfd.Bernoulli(logits=mu),
            "y": lambda n: tfd.Uniform(0.0, 1.0 + tf.cast(n, tf.float32)),
        }
    )
    check_data(as_target(joint, {"n": 1, "y": 1.5}))
    with pytest.raises(DataError, match="'y' between 0 and 1"):
        check_data(as_target(joint, {"n": 0, "y": 1.5}))


@pytest.mark.parametrize("make", [tfd.Exponential, lambda rate: tfd.Sample(tfd.Exponential(rate[0]), 2)])
def test_data_outside_a_support_are_named_before_training(make: Any) -> None:
    """TFP's density of an exponential goes on below zero, where a fit would be of other data."""
    joint = tfd.JointDistributionNamedAutoBatched(
        {"mu": tfd.Normal(0.0, 1.0), "y": lambda mu: make(tf.exp(mu) * tf.ones(2))}
    )
    assert np.isfinite(joint.log_prob(mu=0.0, y=[-1.0, 2.0]))
    with pytest.raises(DataError, match=r"'y' between 0 and inf, .*; got -1\. Fix: correct the data, or give 'y'"):
        check_data(as_target(joint, {"y": [-1.0, 2.0]}))
