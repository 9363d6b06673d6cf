"""Chains from elsewhere find what the draws lack, and nothing where nothing lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb.diagnostics.chains import Chains, kernel
from neural_vb.diagnostics.mode_probe import mode_probe, outside, starts
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import WhitenedTarget, Whitening

NOWHERE = np.zeros((0, 2))


def draws(seed: int, num: int = 20_000, size: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, size))


def test_exact_ends_are_not_outside() -> None:
    one, two = draws(0), draws(1, 2_048)
    found = outside(two, -0.5 * (two**2).sum(1), one, -0.5 * (one**2).sum(1))
    assert found.missed.sum() <= found.expected
    assert abs(found.probable.mean() - 0.99) < 4.0 * np.sqrt(0.01 / 2_048)


def test_a_far_and_probable_end_is_missed_and_an_improbable_one_is_not() -> None:
    one = draws(0)
    log_p = -0.5 * (one**2).sum(1)
    found = outside(np.array([[8.0, 0.0], [8.0, 0.0], [0.0, 0.0]]), np.array([0.0, -32.0, 0.0]), one, log_p)
    assert found.missed.tolist() == [True, False, False]


def test_starts_are_wider_than_the_draws_and_take_the_other_points() -> None:
    u = draws(2) * [1.0, 10.0]
    points = starts(u, np.array([[77.0, 7.0]]), num=600, seed=0)
    assert (points[::2] == [77.0, 7.0]).all()
    assert (points[1::2].std(0) > 3.0 * u.std(0)).all()


def test_one_mode_is_enough_where_there_is_one(gaussian_chains: Any) -> None:
    u = draws(3)
    found = mode_probe(gaussian_chains, u, kernel(draws(4)), NOWHERE, seed=0)
    assert found.state == "no_problem_found" and found.smallest_effect


@pytest.mark.parametrize("distance", [4.0, 8.0])
def test_a_missing_mode_is_found(distance: float) -> None:
    def two(z: tf.Tensor) -> tf.Tensor:
        parts = [-0.5 * tf.reduce_sum((z - [mean, 0.0]) ** 2, -1) for mean in (0.0, distance)]
        return tf.reduce_logsumexp(tf.stack(parts), 0)

    target = WhitenedTarget(LogProbTarget(two, event_shape=[2]), Whitening(np.zeros(2), np.eye(2)))
    chains = Chains(target, jit_compile=False)
    assert mode_probe(chains, draws(5), kernel(draws(6)), NOWHERE, seed=0).state == "fail"


def test_high_dimensions_are_never_cleared() -> None:
    target = LogProbTarget(lambda z: -0.5 * tf.reduce_sum(z**2, -1), event_shape=[12])
    chains = Chains(WhitenedTarget(target, Whitening(np.zeros(12), np.eye(12))), jit_compile=False)
    found = mode_probe(chains, draws(7, 4_000, 12), kernel(draws(8, 4_000, 12)), np.zeros((0, 12)))
    assert found.state == "inconclusive"
