"""Critics: one number for each row, near zero at the start, a naive NumPy twin, and conditioning."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import checkpoints, critics
from neural_vb._types import Critic, Parameters
from neural_vb.critics import MLPCritic
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP

CRITICS: dict[str, Critic] = {"default": MLPCritic(), "small": MLPCritic(MLP((5,), activation=tf.nn.tanh))}
RNG = np.random.RandomState(0)


def loud(critic: Critic, event_size: int, x_size: int) -> Parameters:
    start = critic.initial_parameters(standard_base(event_size), x_size, 0)
    return tf.nest.map_structure(lambda leaf: (0.5 * RNG.randn(*leaf.shape)).astype("float32"), start)


def test_every_critic_is_in_the_registry_and_can_be_saved() -> None:
    public = {
        kind
        for name, kind in inspect.getmembers(critics, inspect.isclass)
        if kind.__module__ == critics.__name__ and not name.startswith("_") and "__call__" in vars(kind)
    }
    assert public == {type(critic) for critic in CRITICS.values()}
    assert public <= set(checkpoints.PARTS.values())


@pytest.mark.parametrize("event_size", [1, 3])
@pytest.mark.parametrize("name", CRITICS)
def test_one_number_for_each_row(name: str, event_size: int) -> None:
    critic = CRITICS[name]
    for x in (None, tf.ones([4, 2])):
        z = tf.ones([5, 1 if x is None else 4, event_size])
        parameters = critic.initial_parameters(standard_base(event_size), 0 if x is None else 2, 0)
        assert critic(parameters, z, x).shape == z.shape[:-1]


def test_the_start_is_near_zero() -> None:
    z = tf.constant(RNG.randn(500, 1, 3), tf.float32)
    parameters = MLPCritic().initial_parameters(standard_base(3), 0, 0)
    assert np.abs(MLPCritic()(parameters, z, None)).max() < 0.2


@pytest.mark.parametrize("name", CRITICS)
def test_rows_do_not_mix_and_x_matters_in_its_own(name: str) -> None:
    critic = CRITICS[name]
    parameters = loud(critic, 3, 2)
    z, x = RNG.randn(6, 2, 3).astype("float32"), RNG.randn(2, 2).astype("float32")
    before = critic(parameters, tf.constant(z), tf.constant(x)).numpy()
    other_z, other_x = z.copy(), x.copy()
    other_z[4, 0] += 1.0
    other_x[1] += 1.0
    moved = np.abs(critic(parameters, tf.constant(other_z), tf.constant(x)).numpy() - before) > 1e-5
    assert moved[4, 0] and moved.sum() == 1
    moved = np.abs(critic(parameters, tf.constant(z), tf.constant(other_x)).numpy() - before) > 1e-5
    assert moved[:, 1].all() and not moved[:, 0].any()


def test_mlp_critic_is_its_formula() -> None:
    critic = CRITICS["small"]
    first, last = loud(critic, 3, 2)
    z, x = RNG.randn(6, 2, 3).astype("float32"), RNG.randn(2, 2).astype("float32")
    inputs = np.concatenate([z, np.broadcast_to(x, (6, 2, 2))], -1).astype(np.float64)
    expected = np.tanh(inputs @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]
    found = critic((first, last), tf.constant(z), tf.constant(x))
    np.testing.assert_allclose(found, expected[..., 0], rtol=1e-4, atol=1e-5)
