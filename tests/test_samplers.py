"""Samplers: they start as the warm start, draws are independent rows, and every parameter is trained."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import checkpoints, mixtures, samplers
from neural_vb._types import Base, Parameters, Sampler
from neural_vb.networks import MLP
from neural_vb.samplers import ResidualSampler

SAMPLERS: dict[str, Sampler] = {
    "residual": ResidualSampler(),
    "extra noise": ResidualSampler(extra_noise=3),
    "no network": ResidualSampler(MLP((), output_scale=0.0)),
}
SEED = tf.constant([1, 2])
SINGLE = mixtures.standard_base(2)
MIXTURE = Base(
    np.log([0.2, 0.5, 0.3]),
    np.array([[-30.0, 0.0], [0.0, 30.0], [30.0, -15.0]]),
    np.array([[[1.0, 0.0], [0.5, 0.8]], [[0.5, 0.0], [0.0, 1.5]], [[1.0, 0.0], [-0.9, 0.4]]]),
)
BASES = {"single": SINGLE, "mixture": MIXTURE, "line": mixtures.standard_base(1)}


def loud(sampler: Sampler, base: Base, x_size: int) -> Parameters:
    """Parameters under which noise and x matter."""
    parameters = sampler.initial_parameters(base, x_size, 0)
    rng = np.random.RandomState(3)
    parameters["network"] = tf.nest.map_structure(
        lambda leaf: (0.5 * rng.randn(*leaf.shape)).astype("float32"), parameters["network"]
    )
    return parameters


def test_every_sampler_is_in_the_registry_and_can_be_saved() -> None:
    public = {
        kind
        for name, kind in inspect.getmembers(samplers, inspect.isclass)
        if kind.__module__ == samplers.__name__ and not name.startswith("_") and "__call__" in vars(kind)
    }
    assert public == {type(sampler) for sampler in SAMPLERS.values()}
    assert public <= set(checkpoints.PARTS.values())


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_shapes_and_seeds(name: str, base: str) -> None:
    sampler, event_size = SAMPLERS[name], BASES[base].means.shape[1]
    for x, num_conditions in ((None, 1), (tf.ones([4, 3]), 4)):
        parameters = loud(sampler, BASES[base], 0 if x is None else 3)
        z, log_choice = sampler(parameters, 5, x, SEED)[:2]
        assert z.shape == (5, num_conditions, event_size) and z.dtype == tf.float32
        assert log_choice.shape == (5, num_conditions)
        np.testing.assert_array_equal(z, sampler(parameters, 5, x, SEED).z)
        assert (np.abs(z - sampler(parameters, 5, x, SEED + 1).z) > 1e-6).all()
        assert len(np.unique(z.numpy().reshape(-1, event_size), axis=0)) == 5 * num_conditions


@pytest.mark.parametrize("base", ["single", "mixture"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_start_is_the_base(name: str, base: str) -> None:
    """Up to the network's last layer, which moves a draw by about a hundredth of its length."""
    size, exact = 10_000, BASES[base]
    z = SAMPLERS[name](SAMPLERS[name].initial_parameters(exact, 0, 0), size, None, SEED).z.numpy()[:, 0]
    component = ((z[:, None] - exact.means) ** 2).sum(-1).argmin(1)
    for k, scale_tril in enumerate(exact.scale_trils):
        weight, count = np.exp(exact.log_weights[k]), (component == k).sum()
        assert abs(count / size - weight) <= 4.5 * np.sqrt(weight * (1.0 - weight) / size)
        noise = np.linalg.solve(scale_tril, (z[component == k] - exact.means[k]).T)
        moved = 0.02 * np.linalg.norm(np.linalg.solve(scale_tril, exact.means[k])) + 0.02
        np.testing.assert_allclose(noise.mean(1), 0.0, atol=4.5 / np.sqrt(count) + moved)
        np.testing.assert_allclose(np.cov(noise), np.eye(2), atol=4.5 * np.sqrt(2.0 / count) + 0.05)


def test_without_a_network_draws_are_exactly_the_base() -> None:
    sampler = SAMPLERS["no network"]
    z = sampler(sampler.initial_parameters(MIXTURE, 0, 0), 6, None, SEED).z
    exact = mixtures.sample(mixtures.initial_parameters(MIXTURE), tf.constant([6, 1]), SEED)
    np.testing.assert_allclose(z, exact, rtol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_log_choice_is_the_weight_of_the_draws_own_component(name: str) -> None:
    sampler = SAMPLERS[name]
    z, log_choice = sampler(sampler.initial_parameters(MIXTURE, 0, 0), 200, None, SEED)[:2]
    component = ((z.numpy()[:, 0, None] - MIXTURE.means) ** 2).sum(-1).argmin(1)
    np.testing.assert_allclose(log_choice[:, 0], MIXTURE.log_weights[component], rtol=1e-5)
    alone = sampler(sampler.initial_parameters(SINGLE, 0, 0), 20, None, SEED).log_choice
    np.testing.assert_array_equal(alone, np.zeros([20, 1]))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["residual", "extra noise"])
def test_x_changes_its_own_rows_only(name: str, base: str) -> None:
    sampler, x = SAMPLERS[name], np.random.RandomState(0).randn(3, 2).astype("float32")
    parameters = loud(sampler, BASES[base], 2)
    changed = x.copy()
    changed[1] += 1.0
    before, after = (sampler(parameters, 8, tf.constant(values), SEED).z.numpy() for values in (x, changed))
    np.testing.assert_allclose(after[:, [0, 2]], before[:, [0, 2]], atol=1e-5)
    assert (np.abs(after[:, 1] - before[:, 1]).max(-1) > 1e-3).all()


@pytest.mark.parametrize("name", ["residual", "extra noise"])
def test_every_parameter_but_the_fixed_scales_is_trained(name: str) -> None:
    sampler = SAMPLERS[name]
    for base, log_choice_matters in ((SINGLE, False), (MIXTURE, True)):
        parameters = tf.nest.map_structure(tf.constant, loud(sampler, base, 1))
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            z, log_choice = sampler(parameters, 50, tf.ones([2, 1]), SEED)[:2]
            loss = tf.reduce_mean(tf.sin(z[..., 0]) * z[..., 1] + z[..., 0] * log_choice)
        gradient = tape.gradient(loss, parameters)
        fixed = {"scale_trils", "inverse_scale_trils"} | (set() if log_choice_matters else {"logits"})
        for key, value in gradient["base"].items():
            moved = value is not None and np.abs(value).max() > 0
            assert moved == (key not in fixed), key
        assert all(np.abs(value).max() > 0 for value in tf.nest.flatten(gradient["network"]))


def test_extra_noise_adds_randomness_beyond_the_base() -> None:
    """Draws of equal base noise differ through the extra dimensions alone."""
    sampler = ResidualSampler(MLP((8,), output_scale=1.0), extra_noise=1)
    parameters = sampler.initial_parameters(SINGLE, 0, 0)
    assert parameters["network"][0]["kernel"].shape == (3, 8)
    silenced = tf.nest.map_structure(np.copy, parameters)
    silenced["network"][0]["kernel"][2] = 0.0
    z, without = (sampler(p, 50, None, SEED).z for p in (parameters, silenced))
    assert (np.abs(z - without).max(-1) > 1e-5).all()


def test_sizes_may_be_tensors() -> None:
    sampler = SAMPLERS["residual"]
    parameters = loud(sampler, MIXTURE, 2)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([None, 2])])
    def draw(num_samples: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return sampler(parameters, num_samples, x, SEED).z

    x = tf.ones([3, 2])
    np.testing.assert_allclose(draw(tf.constant(7), x), sampler(parameters, 7, x, SEED).z, rtol=1e-5, atol=1e-5)
