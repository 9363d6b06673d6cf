"""The two-state recursion: sums over paths, and its gradient against differences and JAX."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import two_states

RNG = np.random.default_rng(0)
ZERO, ONE = 2.0 * RNG.standard_normal((2, 7, 3))
FIRST, SECOND = RNG.uniform(0.05, 0.95, (2, 3))


def by_paths(zero: np.ndarray, one: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """log of the sum over all paths, whose first state is either with probability one half."""
    emission, to_zero = np.exp(np.stack([zero, one])), (first, second)
    total = np.zeros(zero.shape[1])
    for path in itertools.product((0, 1), repeat=len(zero)):
        term = 0.5 * emission[path[0], 0]
        for t in range(1, len(zero)):
            stay = to_zero[path[t - 1]]
            term = term * (stay if path[t] == 0 else 1.0 - stay) * emission[path[t], t]
        total += term
    return np.log(total)


@pytest.fixture(params=["pairwise", "recursion"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with either way."""
    monkeypatch.setattr(two_states, "FEW", 64 if request.param == "pairwise" else 0)


def test_the_likelihood_is_the_sum_over_paths() -> None:
    found = two_states.in_tensorflow()(*map(tf.constant, (ZERO, ONE, FIRST, SECOND)))
    np.testing.assert_allclose(found, by_paths(ZERO, ONE, FIRST, SECOND), rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [True, False], ids=["XLA", "graph"])
def test_the_gradient_is_that_of_differences(jit_compile: bool) -> None:
    given = [ZERO, ONE, FIRST, SECOND]
    weights = np.array([1.0, -2.0, 0.5])

    @tf.function(jit_compile=jit_compile)
    def gradient(*parts: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(parts)
            total = tf.reduce_sum(weights * two_states.in_tensorflow()(*parts))
        return tape.gradient(total, parts)

    for number, found in enumerate(gradient(*map(tf.constant, given))):
        for index in np.ndindex(*found.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [part.copy() for part in given]
                moved[number][index] += sign * 1e-6
                ends.append(weights @ by_paths(*moved))
            np.testing.assert_allclose(found[index], (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_jax_agrees() -> None:
    jax = pytest.importorskip("jax")
    found, gradient = jax.value_and_grad(lambda *parts: two_states.in_jax()(*parts).sum(), (0, 1, 2, 3))(
        *map(np.float32, (ZERO, ONE, FIRST, SECOND))
    )
    with tf.GradientTape() as tape:
        parts = [tf.constant(part, tf.float32) for part in (ZERO, ONE, FIRST, SECOND)]
        tape.watch(parts)
        total = tf.reduce_sum(two_states.in_tensorflow()(*parts))
    np.testing.assert_allclose(found, total, rtol=1e-5)
    for ours, theirs in zip(tape.gradient(total, parts), gradient, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_odds_beyond_any_number_do_no_harm() -> None:
    one, half = tf.constant([[200.0, -200.0], [300.0, 0.5]], tf.float32), tf.constant([0.5, 0.5])
    with tf.GradientTape() as tape:
        tape.watch(one)
        found = two_states.in_tensorflow()(tf.zeros_like(one), one, half, half)
    np.testing.assert_allclose(found, [500.0 + 2 * np.log(0.5), 2 * np.log(0.5) + np.log1p(np.exp(0.5))], rtol=1e-6)
    shares = [[1.0, 0.0], [1.0, 1.0 / (1.0 + np.exp(-0.5))]]
    np.testing.assert_allclose(tape.gradient(found, one), shares, rtol=1e-5)


def test_single_precision_holds_where_a_state_lasts_for_ever() -> None:
    """Against double precision, with 1 - first down to the spacing of single precision."""
    zero, one = 2.0 * RNG.standard_normal((2, 60, 100)).astype(np.float32) + np.float32([[[1.0]], [[0.0]]])
    first = (1.0 - RNG.choice([1e-2, 1e-4, 1e-6, 6e-8], 100)).astype(np.float32)
    given = [zero, one, first, RNG.uniform(0.01, 0.99, 100).astype(np.float32)]
    found = {}
    for dtype in (tf.float32, tf.float64):
        with tf.GradientTape() as tape:
            parts = [tf.cast(part, dtype) for part in given]
            tape.watch(parts)
            total = two_states.in_tensorflow()(*parts)
        found[dtype] = [total, *tape.gradient(total, parts)]
    for single, double in zip(*found.values(), strict=True):
        np.testing.assert_allclose(single, double, rtol=5e-4, atol=1e-4)  # sums of terms that cancel


def test_an_impossible_state_has_a_likelihood() -> None:
    zero, one, half = tf.fill([3, 1], -np.float32(np.inf)), tf.ones([3, 1]), tf.constant([0.5])
    np.testing.assert_allclose(two_states.in_tensorflow()(zero, one, half, half), 3.0 + 3 * np.log(0.5), rtol=1e-6)
