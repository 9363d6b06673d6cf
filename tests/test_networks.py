"""Networks as pure functions: naive NumPy twins, scales at the start, and conditioning."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import checkpoints, networks
from neural_vb.networks import MLP, AffineAndMLP, Linear, MeanPooled, Network, join_condition

NETWORKS: dict[str, Network] = {
    "linear": Linear(),
    "quiet linear": Linear(0.01),
    "default": MLP(),
    "affine and MLP": AffineAndMLP(MLP((6,))),
    "no hidden layer": MLP(()),
    "tanh": MLP((7, 5), activation=tf.nn.tanh, output_scale=0.3),
    "pooled": MeanPooled(row_size=1),
}
RNG = np.random.RandomState(0)
INPUTS = RNG.randn(6, 2, 3).astype("float32")


def silu(values: np.ndarray) -> np.ndarray:
    return values / (1.0 + np.exp(-values))


def test_every_network_is_in_the_registry() -> None:
    public = {
        kind
        for name, kind in inspect.getmembers(networks, inspect.isclass)
        if kind.__module__ == networks.__name__ and not name.startswith("_") and kind is not Network
    }
    assert public == {type(network) for network in NETWORKS.values()}
    assert public <= set(checkpoints.PARTS.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_seeds(name: str) -> None:
    network = NETWORKS[name]
    parameters = network.initial_parameters(3, 4, 7)
    leaves = tf.nest.flatten(parameters)
    assert all(leaf.dtype == np.float32 for leaf in leaves)
    assert network(parameters, tf.constant(INPUTS)).shape == (6, 2, 4)
    again, other = (tf.nest.flatten(network.initial_parameters(3, 4, seed)) for seed in (7, 8))
    for leaf, same, different in zip(leaves, again, other, strict=True):
        np.testing.assert_array_equal(leaf, same)
        assert (
            leaf.ndim == 1 or not leaf.any() or (leaf != different).all()
        )  # biases, and an affine part, start at zero


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_do_not_mix(name: str) -> None:
    network = NETWORKS[name]
    parameters = network.initial_parameters(3, 4, 7)
    changed = INPUTS.copy()
    changed[2, 1] += 1.0
    moved = np.abs(network(parameters, tf.constant(changed)) - network(parameters, tf.constant(INPUTS))).max(-1) > 1e-6
    assert moved[2, 1] and moved.sum() == 1


def test_an_affine_part_is_added_to_the_perceptron() -> None:
    network = AffineAndMLP(MLP((6,)))
    parameters = network.initial_parameters(3, 4, 0)
    np.testing.assert_array_equal(network(parameters, tf.constant(INPUTS)), network.mlp(parameters["mlp"], INPUTS))
    parameters["affine"] = Linear().initial_parameters(3, 4, 1)
    expected = Linear()(parameters["affine"], INPUTS) + network.mlp(parameters["mlp"], INPUTS)
    np.testing.assert_allclose(network(parameters, tf.constant(INPUTS)), expected, rtol=1e-6)


def test_linear_and_mlp_are_their_formulas() -> None:
    def filled(parameters: networks.Parameters) -> networks.Parameters:
        return tf.nest.map_structure(lambda leaf: RNG.randn(*leaf.shape).astype("float32"), parameters)

    linear = filled(Linear().initial_parameters(3, 4, 0))
    np.testing.assert_allclose(
        Linear()(linear, tf.constant(INPUTS)), INPUTS @ linear["kernel"] + linear["bias"], rtol=1e-5, atol=1e-5
    )
    layers = filled(MLP((5, 6)).initial_parameters(3, 4, 0))
    assert [layer["kernel"].shape for layer in layers] == [(3, 5), (5, 6), (6, 4)]
    values = INPUTS.astype(np.float64)
    for layer in layers[:-1]:
        values = silu(values @ layer["kernel"] + layer["bias"])
    values = values @ layers[-1]["kernel"] + layers[-1]["bias"]
    np.testing.assert_allclose(MLP((5, 6))(layers, tf.constant(INPUTS)), values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [0.01, 1.0, 2.0])
def test_scale_is_the_standard_deviation_of_an_output(scale: float) -> None:
    kernel = Linear(scale).initial_parameters(400, 2_000, 3)["kernel"].astype(np.float64)
    spread = np.sqrt((kernel**2).mean() * 400)
    assert spread == pytest.approx(scale, rel=4.0 / np.sqrt(2 * kernel.size))


def test_output_scale_touches_the_last_layer_only() -> None:
    loud, quiet = (MLP((5,), output_scale=scale).initial_parameters(3, 4, 0) for scale in (1.0, 0.01))
    np.testing.assert_array_equal(loud[0]["kernel"], quiet[0]["kernel"])
    np.testing.assert_allclose(0.01 * loud[1]["kernel"], quiet[1]["kernel"], rtol=1e-6)


def test_layers_of_one_size_start_differently() -> None:
    layers = MLP((4, 4, 4)).initial_parameters(4, 4, 0)
    assert len({layer["kernel"].tobytes() for layer in layers}) == len(layers)


def test_no_inputs_leave_the_bias() -> None:
    parameters = Linear().initial_parameters(0, 2, 0)
    np.testing.assert_array_equal(Linear()(parameters, tf.zeros([5, 1, 0])), np.zeros([5, 1, 2]))


def test_join_condition() -> None:
    values, x = tf.constant(INPUTS), tf.constant([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    assert join_condition(values, None) is values
    joined = join_condition(values, x).numpy()
    assert joined.shape == (6, 2, 7)
    np.testing.assert_array_equal(joined[..., :3], INPUTS)
    for draw in joined:
        np.testing.assert_array_equal(draw[:, 3:], x)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, 4])])
    def unknown_sizes(values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return join_condition(values, x)

    np.testing.assert_array_equal(unknown_sizes(values, x), joined)


def test_a_pooled_summary_does_not_see_the_order_of_rows() -> None:
    network = MeanPooled(row_size=2, rows=MLP((8,)), pooled=MLP((8,)))
    parameters = network.initial_parameters(10, 3, 1)
    rows = RNG.randn(4, 5, 2).astype("float32")
    there, back = (network(parameters, tf.constant(values.reshape(4, 10))) for values in (rows, rows[:, ::-1]))
    np.testing.assert_allclose(there, back, atol=1e-5)
    swapped = network(parameters, tf.constant(rows[..., ::-1].reshape(4, 10)))
    assert np.abs(there - swapped).max() > 1e-3  # the order within a row matters
