"""Mixtures of Gaussians: densities against TFP's, draws against their moments, and equal numbers with XLA."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import mixtures
from neural_vb._types import Base, Parameters

tfd = tfp.distributions

SIZE = 20_000
SEED = tf.constant([3, 4])


def base_of(num_components: int, event_size: int) -> Base:
    rng = np.random.RandomState(num_components + event_size)
    weights = rng.uniform(0.5, 2.0, num_components)
    scale_trils = np.tril(0.4 * rng.randn(num_components, event_size, event_size), -1)
    scale_trils += np.einsum("kd,de->kde", rng.uniform(0.5, 1.5, (num_components, event_size)), np.eye(event_size))
    means = 3.0 * rng.randn(num_components, event_size)
    return Base(np.log(weights / weights.sum()), means, scale_trils)


def trained(num_components: int, event_size: int) -> Parameters:
    """Parameters away from the start, as training leaves them."""
    parameters = mixtures.initial_parameters(base_of(num_components, event_size))
    rng = np.random.RandomState(9)
    parameters["log_scales"] = (0.3 * rng.randn(num_components, event_size)).astype("float32")
    parameters["logits"] = parameters["logits"] + np.float32(1.7)  # not normalised
    return parameters


def reference(parameters: Parameters) -> tfd.Distribution:
    event_size = parameters["means"].shape[1]
    scale_trils = parameters.get("scale_trils", np.eye(event_size)[np.newaxis]).astype(np.float64)
    scales = np.exp(parameters["log_scales"].astype(np.float64))
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=parameters["logits"].astype(np.float64)),
        tfd.MultivariateNormalTriL(parameters["means"].astype(np.float64), scale_trils * scales[:, np.newaxis]),
    )


CASES = [(1, 1), (1, 3), (3, 1), (3, 2), (4, 5)]


@pytest.mark.parametrize(("num_components", "event_size"), CASES)
def test_log_prob_is_that_of_the_mixture(num_components: int, event_size: int) -> None:
    parameters = trained(num_components, event_size)
    u = 3.0 * np.random.RandomState(0).randn(50, 2, event_size).astype("float32")
    found = mixtures.log_prob(parameters, tf.constant(u))
    np.testing.assert_allclose(found, reference(parameters).log_prob(u), rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize(
    ("num_components", "event_size", "jit_compile"), [(*case, False) for case in CASES] + [(1, 3, True), (3, 2, True)]
)
def test_draws_have_the_mixtures_moments(num_components: int, event_size: int, jit_compile: bool) -> None:
    parameters = trained(num_components, event_size)

    @tf.function(jit_compile=jit_compile)
    def sample(seed: tf.Tensor) -> tf.Tensor:
        return mixtures.sample(parameters, tf.constant([SIZE // 4, 4]), seed)

    draws = sample(SEED).numpy().reshape(SIZE, event_size)
    exact = reference(parameters)
    error = (draws.mean(0) - exact.mean().numpy()) / (draws.std(0) / np.sqrt(SIZE))
    assert np.abs(error).max() < 4.5
    centred = draws - exact.mean().numpy()
    products = centred[:, :, np.newaxis] * centred[:, np.newaxis]
    error = (products.mean(0) - exact.covariance().numpy()) / (products.std(0) / np.sqrt(SIZE))
    assert np.abs(error).max() < 4.5


@pytest.mark.parametrize(("num_components", "event_size"), [(1, 1), (3, 1)])
def test_draws_follow_the_distribution_function(num_components: int, event_size: int) -> None:
    parameters = trained(num_components, event_size)
    draws = mixtures.sample(parameters, tf.constant([SIZE]), SEED).numpy()[:, 0]
    exact = reference(parameters)
    components = exact.components_distribution
    weights, scales = exact.mixture_distribution.probs_parameter().numpy(), components.stddev().numpy()[:, 0]

    def distribution_function(values: np.ndarray) -> np.ndarray:
        return scipy.stats.norm.cdf(values[:, None], components.loc.numpy()[:, 0], scales) @ weights

    assert scipy.stats.kstest(draws, distribution_function).pvalue > 1e-4


def test_components_are_chosen_by_weight() -> None:
    parameters = trained(4, 2)
    chosen, log_choice = mixtures.choose(parameters, mixtures.normal([SIZE], 2, SEED))
    log_weights = base_of(4, 2).log_weights
    assert set(np.unique(chosen)) == {0.0, 1.0} and (chosen.numpy().sum(-1) == 1).all()
    counts = chosen.numpy().sum((0, 1))
    assert scipy.stats.chisquare(counts, 2 * SIZE * np.exp(log_weights)).pvalue > 1e-4
    np.testing.assert_allclose(log_choice, log_weights[chosen.numpy().argmax(-1)], rtol=1e-5)


def test_a_component_without_weight_is_never_chosen() -> None:
    parameters = trained(4, 2)
    parameters["logits"] = np.float32([0.0, -200.0, 1.0, -200.0])
    chosen, _ = mixtures.choose(parameters, mixtures.normal([1], SIZE, SEED)[0])
    assert (chosen.numpy().sum(0) > 0).tolist() == [True, False, True, False]


@pytest.mark.parametrize("event_size", [1, 3])
def test_one_component_is_the_general_path_with_equal_components(event_size: int) -> None:
    single = trained(1, event_size)
    base = Base(np.log([0.3, 0.7]), np.repeat(single["means"], 2, 0), np.repeat(np.eye(event_size)[None], 2, 0))
    double = mixtures.initial_parameters(base)
    double["log_scales"] = np.repeat(single["log_scales"], 2, 0)
    noise = mixtures.normal([30, 2], event_size, SEED)
    np.testing.assert_allclose(mixtures.log_prob(single, noise), mixtures.log_prob(double, noise), rtol=1e-5, atol=1e-5)
    chosen = mixtures.choose(double, noise[..., 0])[0]
    assert len(np.unique(chosen.numpy().argmax(-1))) == 2
    np.testing.assert_allclose(
        mixtures.transform(single, noise, tf.ones([30, 2, 1])), mixtures.transform(double, noise, chosen), rtol=1e-5
    )
    chosen, log_choice = mixtures.choose(single, noise[..., 0])
    np.testing.assert_array_equal(chosen, np.ones([30, 2, 1]))
    np.testing.assert_array_equal(log_choice, np.zeros([30, 2]))


def test_transform_is_mean_plus_scaled_noise() -> None:
    parameters, base = trained(3, 2), base_of(3, 2)
    noise = np.random.RandomState(0).randn(6, 2)
    component = np.array([0, 1, 2, 2, 1, 0])
    expected = [
        base.means[k] + base.scale_trils[k] @ (np.exp(parameters["log_scales"][k]) * noise[i])
        for i, k in enumerate(component)
    ]
    found = mixtures.transform(parameters, tf.constant(noise, tf.float32), tf.one_hot(component, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_components", [1, 3])
def test_the_warm_starts_scales_stay_fixed_and_all_else_is_trained(num_components: int) -> None:
    parameters = tf.nest.map_structure(tf.constant, trained(num_components, 2))
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        chosen, log_choice = mixtures.choose(parameters, mixtures.normal([1], 40, SEED)[0])
        draws = mixtures.transform(parameters, mixtures.normal([40], 2, SEED), chosen)
        total = tf.reduce_sum(mixtures.log_prob(parameters, tf.stop_gradient(draws)) + draws[:, 0] * draws[:, 1])
        total += tf.reduce_sum(log_choice * draws[:, 0])
    gradient = tape.gradient(total, parameters)
    moved = {name for name, value in gradient.items() if value is not None and np.abs(value).max() > 1e-3}
    assert moved == ({"means", "log_scales"} if num_components == 1 else {"means", "log_scales", "logits"})


def test_standard_base_is_standard_normal() -> None:
    parameters = mixtures.initial_parameters(mixtures.standard_base(3))
    u = np.random.RandomState(0).randn(20, 3).astype("float32")
    exact = scipy.stats.norm.logpdf(u).sum(-1)
    np.testing.assert_allclose(mixtures.log_prob(parameters, tf.constant(u)), exact, rtol=1e-5, atol=1e-5)


def test_noise_is_standard_normal() -> None:
    noise = mixtures.normal(tf.constant([SIZE, 2]), 3, SEED).numpy()
    assert noise.shape == (SIZE, 2, 3)
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    correlation = np.corrcoef(noise.reshape(SIZE, 6).T) - np.eye(6)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(SIZE)


def test_streams_of_a_seed_are_independent() -> None:
    seeds = np.array([mixtures.fold_in(seed, stream) for seed in ([0, 0], [0, 1], [1, 0]) for stream in range(32)])
    assert len(np.unique(seeds, axis=0)) == 96
    np.testing.assert_array_equal(mixtures.fold_in([5, 6], 0), [5, 6])
    noise = np.array([mixtures.normal([1], 2_000, mixtures.fold_in(SEED, stream))[0] for stream in range(16)])
    correlation = np.corrcoef(noise) - np.eye(16)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(2_000)


def test_densities_agree_eagerly_and_with_xla() -> None:
    parameters = trained(3, 2)

    def everything(noise: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chosen, log_choice = mixtures.choose(parameters, noise[:, 0])
        return chosen, log_choice, mixtures.transform(parameters, noise, chosen), mixtures.log_prob(parameters, noise)

    noise = tf.constant(np.random.RandomState(0).randn(30, 2), tf.float32)
    for ours, theirs in zip(everything(noise), tf.function(everything, jit_compile=True)(noise), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_draws_of_a_seed_are_the_same_in_each_mode() -> None:
    """Not across modes: from equal bits TensorFlow's kernels and XLA make different floats."""
    parameters = trained(3, 2)

    def sample(seed: tf.Tensor) -> tf.Tensor:
        return mixtures.sample(parameters, tf.constant([8]), seed)

    compiled = tf.function(sample, jit_compile=True)
    np.testing.assert_array_equal(compiled(SEED), compiled(SEED))
    np.testing.assert_array_equal(sample(SEED), tf.function(sample)(SEED))
    assert np.abs(compiled(SEED) - sample(SEED)).max() > 0.1
