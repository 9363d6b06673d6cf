"""Short Hamiltonian chains: what is the target's stays so, what is not comes nearer, and no chain sees its own past."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import hamiltonian, polish
from neural_vb._types import Tensor
from neural_vb.compilation import graph

MEANS = np.array([[0.0, 3.0], [-50.0, 1.0], [1.0, 1.0]], np.float32)
SDS = np.array([[1.0, 0.01], [5.0, 5.0], [1e-3, 1e3]], np.float32)
NUM_DRAWS = 4_000


def gaussians(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """One Gaussian for each data set x [B, 2 D] = (mean, sd)."""
    mean, sd = tf.split(x, 2, -1)
    noise = (u - mean) / sd
    return -0.5 * tf.reduce_sum(noise**2, -1), -noise / sd


X = np.concatenate([MEANS, SDS], -1)


def run(
    u: np.ndarray,
    tuning: np.ndarray,
    num: int,
    density: Any = gaussians,
    x: Any = X,
    seed: int = 0,
    **keywords: Any,
) -> Any:
    start = polish.Coordinates(*map(tf.constant, polish.coordinates(tuning)))
    arrays = [tf.constant(part, tf.float32) for part in (u, tuning)]
    transitions = polish.Transitions(density, **{"jit_compile": False, **keywords})
    x = None if x is None else tf.constant(x)
    found = polish.polish(transitions, *arrays, start, x, seed=[seed, 5], num_transitions=num)
    return polish.Polished(*(part.numpy() for part in found))


def exact(num: int, seed: int) -> np.ndarray:
    return MEANS + SDS * np.random.default_rng(seed).standard_normal((num, *MEANS.shape))


def z_scores(u: np.ndarray) -> np.ndarray:
    """Errors of means and variances over draws, in their standard errors under the target: [2, B, D]."""
    noise = (u.astype(np.float64) - MEANS) / SDS
    return np.stack([noise.mean(0), (noise**2 - 1.0).mean(0) / np.sqrt(2.0)]) * np.sqrt(len(u))


def test_exact_draws_stay_exact_and_move() -> None:
    before = exact(NUM_DRAWS, 1)
    found = run(before, exact(64, 2), 10)
    assert np.abs(z_scores(found.u)).max() < 4.0  # 12 numbers: 8e-4
    assert np.corrcoef(before[:, 0, 1], found.u[:, 0, 1])[0, 1] < 0.2
    np.testing.assert_allclose(found.log_prob, gaussians(tf.constant(found.u), tf.constant(X))[0], rtol=2e-3, atol=2e-3)
    assert (np.abs(found.acceptance - polish.TARGET_ACCEPTANCE) < 0.2).all()


def test_draws_of_the_wrong_place_and_width_are_put_right() -> None:
    wrong, tuning = (MEANS + SDS * (0.5 + 0.7 * (exact(num, num) - MEANS) / SDS) for num in (NUM_DRAWS, 128))
    assert np.abs(z_scores(wrong)).min() > 10.0
    assert np.abs(z_scores(run(wrong, tuning, 40).u)).max() < 4.0


def test_bounded_trajectories_are_as_exact_and_cost_what_they_need() -> None:
    """On a Gaussian a few leapfrog steps each, after which chains have forgotten most; many where steps are short."""
    counts = [0]

    def counted(u: np.ndarray) -> np.ndarray:
        counts[-1] += 1
        return u

    def density(u: Tensor, x: None) -> tuple[Tensor, Tensor]:
        u = tf.ensure_shape(tf.numpy_function(counted, [u], u.dtype), u.shape)
        return -0.5 * tf.reduce_sum(u**2, -1), -u

    standard = polish.Transitions(density, jit_compile=False, reach=polish.REACH)

    rng = np.random.default_rng(9)
    u, tuning = (tf.constant(rng.standard_normal((num, 1, 5)), tf.float32) for num in (NUM_DRAWS, 128))
    start = polish.Coordinates(tf.zeros([1, 5]), tf.eye(5)[tf.newaxis])
    keywords = {"seed": [0, 5], "num_transitions": 4}
    found = polish.polish(standard, u, tuning, start, None, step_size=tf.constant([1.0]), **keywords)
    ends = found.u[:, 0].numpy()
    assert np.abs(ends.mean(0)).max() < 4.0 / np.sqrt(NUM_DRAWS)
    assert np.abs((ends**2).mean(0) - 1.0).max() < 4.0 * np.sqrt(2.0 / NUM_DRAWS)
    for power in (1, 2):
        before, after = (part[:, 0] ** power for part in (u[:, 0].numpy(), ends))
        assert abs(np.corrcoef(before, after)[0, 1]) < 0.15
    np.testing.assert_allclose(found.score, -found.u, atol=1e-5)
    counts.append(0)
    polish.polish(standard, u, tuning, start, None, step_size=tf.constant([1e-3]), **keywords)
    assert counts[0] < 4 * 6 and counts[1] > 4 * polish.NUM_LEAPFROG / 3


def test_no_transition_moves_nothing() -> None:
    u = exact(50, 3)
    found = run(u, exact(20, 4), 0)
    np.testing.assert_allclose(found.u, u, rtol=1e-5, atol=1e-5)
    assert (found.acceptance == 0.0).all()


def test_one_data_set_without_x() -> None:
    def cauchy(u: Tensor, x: None) -> tuple[Tensor, Tensor]:
        return -tf.reduce_sum(tf.math.log(1.0 + u**2), -1), -2.0 * u / (1.0 + u**2)

    rng = np.random.default_rng(0)
    found = run(rng.standard_normal((NUM_DRAWS, 1, 1)), rng.standard_normal((64, 1, 1)), 300, cauchy, None)
    inside = np.mean(np.abs(found.u) < 1.0)  # one half, and .68 of the normal draws
    assert abs(inside - 0.5) < 4.0 * np.sqrt(0.25 / NUM_DRAWS)


def test_a_chain_does_not_depend_on_the_others() -> None:
    """Of the step size it knows the tuning chains only."""
    u, tuning = exact(200, 5), exact(64, 6)
    changed = u.copy()
    changed[100:] += SDS
    np.testing.assert_array_equal(run(u, tuning, 5).u[:100], run(changed, tuning, 5).u[:100])


@pytest.mark.parametrize(("jit_compile", "num_parts"), [(False, 2), (True, 7)])
def test_parts_of_the_chains_move_as_all_do_together(jit_compile: bool, num_parts: int) -> None:
    u, tuning = exact(196, 7), exact(64, 8)
    together, apart = (run(u, tuning, 5, jit_compile=jit_compile, num_parts=num) for num in (1, num_parts))
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_a_draw_without_density_comes_back() -> None:
    def half_line(u: Tensor, x: None) -> tuple[Tensor, Tensor]:
        """Exponential; nothing below zero."""
        value, inside = -u[..., 0], u[..., 0] > 0.0
        return tf.where(inside, value, -np.inf), tf.where(inside[..., None], -1.0, 0.0)

    u = np.full((500, 1, 1), -0.1)
    tuning = np.random.default_rng(1).exponential(size=(64, 1, 1))
    found = run(u, tuning, 60, half_line, None)
    assert (found.u > 0.0).all() and np.isfinite(found.log_prob).all()
    assert abs(found.u.mean() - 1.0) < 4.0 / np.sqrt(500)


def test_the_integrator_against_a_naive_twin() -> None:
    """And its reversal: from the end, momentum turned, it arrives at the start."""
    rng = np.random.default_rng(2)
    u, momentum = rng.standard_normal((2, 5, 3))
    step = rng.uniform(0.05, 0.2, (5, 1))

    def value_and_gradient(u: Any) -> Any:
        return -tf.reduce_sum(0.25 * u**4, -1), -(u**3)

    def twin(u: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(7):
            p = p - 0.5 * step * u**3
            u = u + step * p
            p = p - 0.5 * step * u**3
        return u, p

    start = hamiltonian.Points(tf.constant(u), *value_and_gradient(tf.constant(u)))
    found, log_ratio = hamiltonian.propose(
        value_and_gradient, start, tf.constant(momentum), step=tf.constant(step), num_leapfrog=tf.constant(7)
    )
    end, last = twin(u, momentum)
    energy = lambda u, p: -(0.25 * u**4 + 0.5 * p**2).sum(-1)  # noqa: E731
    np.testing.assert_allclose(found.u, end, rtol=1e-12)
    np.testing.assert_allclose(log_ratio, energy(end, last) - energy(u, momentum), atol=1e-12)
    np.testing.assert_allclose(found.gradient, -(end**3), rtol=1e-12)
    np.testing.assert_allclose(twin(end, -last)[0], u, atol=1e-12)


def test_transitions_that_are_let_go_leave_nothing_for_the_collector() -> None:
    """Graphs are large; a cycle would keep them until Python looks for cycles."""
    transitions = polish.Transitions(gaussians, jit_compile=False)
    alive = weakref.ref(transitions)
    gc.disable()
    try:
        del transitions
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("num", [3, 400])
def test_coordinates_whiten_the_draws(num: int) -> None:
    u = exact(num, 7)
    mean, scale_tril = polish.coordinates(u)
    np.testing.assert_allclose(mean, u.mean(0), rtol=1e-6)
    inverse = np.linalg.inv(scale_tril)
    variances = np.einsum("bij,sbj->sbi", inverse, u - mean).var(0)
    assert (variances < 1.2).all() and (variances > (0.9 if num > 100 else 0.1)).all()


def test_draws_that_have_collapsed_have_coordinates() -> None:
    assert np.isfinite(polish.coordinates(np.ones((10, 2, 3)))[1]).all()


def test_lengths_and_coordinates_are_arguments_of_the_compiled_chains() -> None:
    """XLA would have the values of what does not change in a loop, if a joint is in it, and compile for other draws."""
    from tensorflow_probability import distributions as tfd

    from neural_vb.targets import JointTarget

    target = JointTarget(
        tfd.JointDistributionNamedAutoBatched(
            {"a": tfd.Sample(tfd.Normal(0.0, 1.0), 2), "y": lambda a: tfd.Independent(tfd.Normal(a, 1.0), 1)}
        ),
        {"y": [1.0, 2.0]},
    )

    def density(u: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor]:
        u = u if x is None else u - x
        with tf.GradientTape() as tape:
            tape.watch(u)
            value = target.log_prob(u)
        return value, tape.gradient(value, u)

    draws = tf.zeros([4, 1, 2])
    points = hamiltonian.Points(draws, draws[..., 0], draws)
    start = polish.Coordinates(draws[0], tf.eye(2)[tf.newaxis])
    trajectory = graph(functools.partial(polish.trajectory, density), jit_compile=True)
    for x in (None, draws[0, 0]):
        arguments = (points, draws, draws[..., :1], tf.constant(3), start, x)
        code = trajectory.experimental_get_compiler_ir(*arguments)(stage="hlo")
        entry, num = code[code.index("ENTRY") :], 8 + (x is not None)
        assert [f"parameter({i})" in entry for i in range(num)] == [True] * num
