"""Adam, its schedule and its average against naive twins; the flat layout."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from neural_vb.optimiser import Adam, Layout, Schedule, TrainingState, initial_state

NESTED = {
    "sampler": {
        "base": np.arange(6.0).reshape(2, 3),
        "network": ({"kernel": np.ones([3, 1]), "bias": np.full(1, 7.0)},),
    },
    "critic": (np.linspace(-1.0, 1.0, 5), np.array(2.0)),
    "contrast": {},
}


def test_pack_and_unpack_are_inverse() -> None:
    layout = Layout(NESTED)
    flat = layout.pack(NESTED)
    assert flat.shape == (16,) and flat.dtype == tf.float32
    again = layout.unpack(flat)
    tf.nest.assert_same_structure(again, NESTED)
    for leaf, original in zip(tf.nest.flatten(again), tf.nest.flatten(NESTED), strict=True):
        assert leaf.shape == original.shape
        np.testing.assert_allclose(leaf, original, rtol=1e-7)
    np.testing.assert_array_equal(layout.pack(again), flat)


def test_groups_lie_in_the_flat_vector_where_spread_and_split_say() -> None:
    layout = Layout(NESTED)
    assert layout.groups == {"contrast": 0, "critic": 6, "sampler": 10}
    values = {"sampler": 1.0, "critic": 2.0, "contrast": 3.0}
    marked = {
        name: tf.nest.map_structure(lambda leaf, value=value: np.full(leaf.shape, value), NESTED[name])
        for name, value in values.items()
    }
    np.testing.assert_array_equal(layout.spread(values), layout.pack(marked))
    pieces = layout.split(layout.pack(marked))
    assert {name: piece.shape[0] for name, piece in pieces.items()} == layout.groups
    assert all((piece.numpy() == values[name]).all() for name, piece in pieces.items())


def test_a_state_starts_at_the_parameters_with_no_moments() -> None:
    layout = Layout(NESTED)
    state = initial_state(layout, NESTED)
    np.testing.assert_array_equal(state.parameters, layout.pack(NESTED))
    np.testing.assert_array_equal(state.average, state.parameters)
    assert not state.first_moment.numpy().any() and not state.second_moment.numpy().any()
    assert int(state.step) == 0


def advance(adam: Adam, state: TrainingState, gradient: np.ndarray, rate: float) -> TrainingState:
    new = adam.moments(state, tf.constant(gradient, tf.float32))
    new = new._replace(parameters=state.parameters - adam.change(new, rate))
    return new._replace(average=adam.average(new), step=state.step + 1)


def test_adam_and_its_average_against_a_naive_twin() -> None:
    rng = np.random.RandomState(0)
    gradients = rng.randn(40, 3) * [1e-3, 1.0, 1e4]
    rates, beta_1, beta_2, decay = np.array([1e-3, 1e-2, 1.0]), 0.5, 0.999, 0.9
    relative = np.linspace(1.0, 0.0, 40)

    values = average = np.array([1.0, -2.0, 300.0])
    first = second = np.zeros(3)
    adam = Adam(rates.astype("float32"), beta_1, beta_2, decay, 3.0)
    state = TrainingState(*(tf.constant(v, tf.float32) for v in (values, first, second, average)), tf.constant(0))
    for t, (gradient, rate) in enumerate(zip(gradients, relative, strict=True), start=1):
        state = advance(adam, state, gradient, rate)
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        values = values - rate * rates * (first / (1 - beta_1**t)) / np.sqrt(second / (1 - beta_2**t))
        kept = min(decay, t / (t + 10))
        average = kept * average + (1 - kept) * values
        np.testing.assert_allclose(state.parameters, values, rtol=2e-4)
        np.testing.assert_allclose(state.average, average, rtol=2e-4)


def test_the_first_change_is_the_rate_whatever_the_gradient() -> None:
    adam = Adam(np.float32([1e-2, 1e-2, 1e-2]), 0.5, 0.999, 0.998, 3.0)
    state = TrainingState(*(tf.zeros([3]) for _ in range(4)), tf.constant(0))
    change = adam.change(adam.moments(state, tf.constant([1e-2, -1.0, 1e5])), tf.constant(0.5))
    np.testing.assert_allclose(change, [0.5e-2, -0.5e-2, 0.5e-2], rtol=1e-4)


def test_no_gradient_no_change() -> None:
    adam = Adam(np.ones(2, "float32"), 0.5, 0.999, 0.998, 3.0)
    state = TrainingState(*(tf.zeros([2]) for _ in range(4)), tf.constant(0))
    np.testing.assert_array_equal(adam.change(adam.moments(state, tf.zeros([2])), 1.0), [0.0, 0.0])


def test_the_average_of_constant_parameters_forgets_the_start() -> None:
    adam = Adam(np.ones(1, "float32"), 0.5, 0.999, 0.998, 3.0)
    state = TrainingState(tf.ones([1]), tf.zeros([1]), tf.zeros([1]), tf.zeros([1]), tf.constant(0))
    left = 1.0
    for step in range(200):
        state = state._replace(average=adam.average(state), step=tf.constant(step + 1))
        left *= min(0.998, (step + 1) / (step + 11))
        assert float(state.average[0]) == pytest.approx(1.0 - left, abs=1e-6)
    assert left < 1e-10


@pytest.mark.parametrize(("step", "rate"), [(0, 1.0), (100, 1.0), (125, 0.5), (149, 0.02), (150, 0.0), (999, 0.0)])
def test_schedule(step: int, rate: float) -> None:
    schedule = Schedule(tf.constant(100), tf.constant(50))
    assert float(schedule.rate(tf.constant(step))) == pytest.approx(rate, abs=1e-6)


def test_the_longest_gradient_is_a_multiple_of_the_usual_one() -> None:
    adam = Adam(np.ones(4, "float32"), 0.5, 0.9, 0.998, 3.0)
    state = initial_state(Layout({"a": np.zeros(4)}), {"a": np.zeros(4)})
    assert adam.longest(state, state.second_moment) == np.inf
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((20, 4)).astype("float32")
    for gradient in gradients:
        state = advance(adam, state, gradient, 1.0)
    weights = 0.9 ** np.arange(20)[::-1]
    usual = np.sqrt((weights * (gradients[:, :3] ** 2).sum(1)).sum() / weights.sum())
    assert float(adam.longest(state, state.second_moment[:3])) == pytest.approx(3.0 * usual, rel=1e-4)
    assert adam.longest(state, tf.zeros([2])) == np.inf  # a group that had no gradient yet is free to get one
