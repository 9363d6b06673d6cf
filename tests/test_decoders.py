"""Decoders: densities that sum to one and agree with their own draws, named errors for what does not fit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from neural_vb.applications.decoders import Bernoulli, Decoder, Likelihood, Normal, log_standard_normal
from neural_vb.errors import ConfigurationError, DataError, TargetShapeError
from neural_vb.networks import MLP

RNG = np.random.RandomState(0)
LIKELIHOODS: dict[str, Likelihood] = {"bernoulli": Bernoulli(), "normal": Normal(), "fixed normal": Normal(0.4)}
SEED = [3, 4]


def parameters_of(likelihood: Likelihood) -> Any:
    return tf.nest.map_structure(lambda leaf: leaf - 0.7, likelihood.initial_parameters())


def test_a_bernoulli_sums_to_one_over_all_data() -> None:
    outputs = tf.constant(RNG.randn(5, 1, 4), tf.float32)
    every = tf.constant(list(itertools.product([0.0, 1.0], repeat=4)))
    log_prob = Bernoulli().log_prob({}, tf.repeat(outputs, 16, 1), every)
    np.testing.assert_allclose(np.exp(log_prob).sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", ["normal", "fixed normal"])
def test_a_normal_is_scipys(name: str) -> None:
    likelihood = LIKELIHOODS[name]
    outputs, x = RNG.randn(5, 2, 3).astype("float32"), RNG.randn(2, 3).astype("float32")
    scale = 0.4 if name == "fixed normal" else np.exp(-0.7)
    expected = scipy.stats.norm(outputs, scale).logpdf(x).sum(-1)
    found = likelihood.log_prob(parameters_of(likelihood), tf.constant(outputs), tf.constant(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_mean_that_is_told(name: str) -> None:
    likelihood, num = LIKELIHOODS[name], 40_000
    outputs = tf.constant(RNG.randn(3), tf.float32)
    draws = likelihood.sample(parameters_of(likelihood), tf.repeat(outputs[tf.newaxis], num, 0), SEED).numpy()
    error = draws.std(0) / np.sqrt(num)
    assert (np.abs(draws.mean(0) - likelihood.mean(parameters_of(likelihood), outputs)) < 4.5 * error).all()


def test_draws_of_a_normal_have_its_scale() -> None:
    draws = Normal(0.4).sample({}, tf.zeros([40_000]), SEED).numpy()
    assert abs(draws.std() - 0.4) < 4.5 * 0.4 / np.sqrt(80_000)


def test_log_prob_is_likelihood_and_prior() -> None:
    decoder = Decoder(2, 3, MLP((5,)), Normal(0.5))
    parameters = decoder.initial_parameters(0)
    z, x = RNG.randn(6, 4, 2).astype("float32"), RNG.randn(4, 3).astype("float32")
    means = decoder.mean(parameters, tf.constant(z)).numpy()
    expected = scipy.stats.norm(means, 0.5).logpdf(x).sum(-1) + scipy.stats.norm().logpdf(z).sum(-1)
    found = decoder.log_prob(tf.constant(z), tf.constant(x), parameters)
    assert found.shape == (6, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(log_standard_normal(tf.constant(z)), scipy.stats.norm().logpdf(z).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_shapes(name: str) -> None:
    decoder = Decoder(2, 3, MLP((5,)), LIKELIHOODS[name])
    parameters = decoder.initial_parameters(0)
    z = tf.zeros([6, 4, 2])
    assert decoder.mean(parameters, z).shape == (6, 4, 3)
    assert decoder.sample(parameters, z, SEED).shape == (6, 4, 3)
    assert (decoder.event_size, decoder.dtype) == (2, tf.float32)
    assert decoder.constrain(z) is z


@dataclass(frozen=True)
class Narrow:
    """A network with one output too few."""

    def initial_parameters(self, input_size: int, output_size: int, seed: Any) -> Any:
        return MLP((3,)).initial_parameters(input_size, output_size - 1, seed)

    def __call__(self, parameters: Any, inputs: tf.Tensor) -> tf.Tensor:
        return MLP((3,))(parameters, inputs)


@dataclass(frozen=True)
class Broken(Narrow):
    """A network whose kernel does not fit its inputs."""

    def initial_parameters(self, input_size: int, output_size: int, seed: Any) -> Any:
        return MLP((3,)).initial_parameters(input_size + 1, output_size, seed)


def test_a_decoder_that_does_not_fit_is_named() -> None:
    with pytest.raises(TargetShapeError) as caught:
        Decoder(2, 4, Narrow()).initial_parameters(0)
    assert str(caught.value) == (
        "Expected a decoder from z [3, 2, 2] to [3, 2, 4], what Bernoulli needs for 4 features; got shape [3, 2, 3]. "
        "Fix: let the network map its last axis to the output_size that initial_parameters is given"
    )
    with pytest.raises(TargetShapeError, match="got an error:"):
        Decoder(2, 4, Broken()).initial_parameters(0)


def test_a_bernoulli_wants_data_between_zero_and_one() -> None:
    Bernoulli().check(np.array([[0.0, 0.5, 1.0]]))
    with pytest.raises(DataError) as caught:
        Bernoulli().check(np.array([[0, 255]]))
    assert str(caught.value) == (
        "Expected data in [0, 1] for a Bernoulli likelihood; got values from 0 to 255. "
        "Fix: scale or binarise the data, or pass likelihood=Normal()"
    )
    Normal().check(np.array([[-3.0, 255.0]]))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_is_positive(scale: float) -> None:
    with pytest.raises(ConfigurationError, match=r"Normal\.scale positive and finite"):
        Normal(scale)
