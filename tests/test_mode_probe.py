"""Chains from elsewhere find what the draws lack, and nothing where nothing lacks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb.diagnostics.chains import Chains, kernel
from neural_vb.diagnostics.mode_probe import _tops, alone, mode_probe, outside, starts
from neural_vb.optima import climb
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import WhitenedTarget, Whitening

NOWHERE = np.zeros((0, 2))


def draws(seed: int, num: int = 20_000, size: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, size))


def chains_of(log_prob: Callable[[tf.Tensor], tf.Tensor], size: int) -> Chains:
    target = LogProbTarget(log_prob, event_shape=[size])
    return Chains(WhitenedTarget(target, Whitening(np.zeros(size), np.eye(size))), jit_compile=False)


def test_exact_ends_are_not_outside() -> None:
    one, two = draws(0), draws(1, 2_048)
    found = outside(two, -0.5 * (two**2).sum(1), one, -0.5 * (one**2).sum(1))
    assert found.missed.sum() <= found.expected and not found.distant.any()
    assert abs(found.probable.mean() - 0.99) < 4.0 * np.sqrt(0.01 / 2_048)


def test_a_far_and_probable_end_is_missed_and_an_improbable_one_is_not() -> None:
    one = draws(0)
    log_p = -0.5 * (one**2).sum(1)
    found = outside(np.array([[8.0, 0.0], [8.0, 0.0], [0.0, 0.0]]), np.array([0.0, -32.0, 0.0]), one, log_p)
    assert found.missed.tolist() == found.distant.tolist() == [True, False, False]


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

    assert mode_probe(chains_of(two, 2), draws(5), kernel(draws(6)), NOWHERE, seed=0).state == "fail"


def test_a_far_mode_that_few_chains_come_to_is_found() -> None:
    def two(z: tf.Tensor) -> tf.Tensor:
        return tf.reduce_logsumexp(tf.stack([-0.5 * tf.reduce_sum((z - mean) ** 2, -1) for mean in (0.0, 60.0)]), 0)

    points = draws(7, 500)
    points[:2] = 60.0
    found = mode_probe(chains_of(two, 2), draws(5), kernel(draws(6)), points, seed=0)
    assert 2 <= found.evidence["in modes of their own"] <= found.evidence["by chance at most"]
    assert found.state == "fail"
    where = np.array(found.message.split("around (")[1].rstrip(")").split(", "), float)
    np.testing.assert_allclose(where, 60.0, atol=4.0)  # a median of a few, two at least, of unit scatter


def test_distant_ends_that_climb_to_draws_are_of_no_mode(gaussian_chains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five ends far out, said to be as probable as the top; without the climb they would be a mode."""
    module, run = sys.modules[mode_probe.__module__], Chains.run

    def moved(self: Chains, *arguments: Any, **options: Any) -> Any:
        ends = run(self, *arguments, **options)
        ends.u[:5], ends.log_prob[:5] = 20.0, 0.0
        return ends

    monkeypatch.setattr(Chains, "run", moved)
    found = mode_probe(gaussian_chains, draws(3), kernel(draws(4)), NOWHERE, seed=0)
    assert found.evidence["in modes of their own"] == 0 and found.state == "no_problem_found"
    monkeypatch.setattr(
        module, "_climbed", lambda chains, u, factor: (np.linalg.solve(factor, u.T).T, np.zeros(len(u)))
    )
    assert mode_probe(gaussian_chains, draws(3), kernel(draws(4)), NOWHERE, seed=0).state == "fail"


def test_a_clean_result_says_how_far_off_chains_began(gaussian_chains: Any) -> None:
    points = np.full((100, 2), 50.0)
    found = mode_probe(gaussian_chains, draws(3), kernel(draws(4)), points, seed=0)
    assert "within 50 sds" in found.message and abs(found.evidence["farthest tenth of their starts, sds"] - 50.0) < 2.0


def test_climbs_end_at_the_top() -> None:
    scale = np.array([1.0, 30.0])

    def density(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -0.5 * (scale * (v - 2.0) ** 2).sum(1), -scale * (v - 2.0)

    begin = 3.0 * draws(9, 50)
    kept = begin.copy()
    np.testing.assert_allclose(climb(density, begin, 100, longest=0.5), 2.0, atol=1e-3)
    np.testing.assert_array_equal(begin, kept)


def test_tops_that_draws_share_are_not_alone() -> None:
    """A mode that half of the ends and a fiftieth of the draws climb to is the ends' own."""
    first, second = np.zeros((500, 2)), np.full((500, 2), 3.0)
    ends, climbed = np.concatenate([first, second]), np.concatenate([first, first])
    chosen = np.isin(np.arange(1_000), [0, 999])
    climbed[:20] = 3.0
    assert alone(chosen, ends, climbed).tolist() == [False, True]
    climbed[:250] = 3.0
    assert alone(chosen, ends, climbed).tolist() == [False, False]


def test_a_sampler_that_is_too_narrow_misses_no_mode() -> None:
    """The best factorised Gaussian of a correlated one."""
    precision = np.linalg.inv(0.8 * np.ones((4, 4)) + 0.2 * np.eye(4))
    u, others = (draws(seed, size=4) / np.sqrt(np.diag(precision)) for seed in (10, 11))
    log_prob = lambda z: -0.5 * tf.reduce_sum(z * tf.matmul(z, tf.constant(precision, tf.float32)), -1)  # noqa: E731
    found = mode_probe(chains_of(log_prob, 4), u, kernel(others), np.zeros((0, 4)))
    assert found.state == "inconclusive" and found.evidence["in modes of their own"] == 0
    assert found.evidence["ended outside"] > found.evidence["by chance at most"]


@pytest.mark.parametrize(("turn", "state"), [(2.0 * np.pi, "no_problem_found"), (np.pi, "fail")])
def test_half_of_a_ring(turn: float, state: str) -> None:
    """Tops along a line, of which draws may lack a part."""

    def ring(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        angle, radius = turn * rng.random(20_000), 2.0 + 0.2 * rng.standard_normal(20_000)
        return radius[:, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], 1)

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        radius = tf.norm(z, axis=-1)
        return -12.5 * (radius - 2.0) ** 2 - tf.math.log(radius)

    assert mode_probe(chains_of(log_prob, 2), ring(12), kernel(ring(13)), NOWHERE).state == state


def test_high_dimensions_are_never_cleared() -> None:
    chains = chains_of(lambda z: -0.5 * tf.reduce_sum(z**2, -1), 12)
    found = mode_probe(chains, draws(7, 4_000, 12), kernel(draws(8, 4_000, 12)), np.zeros((0, 12)))
    assert found.state == "inconclusive"


def test_chains_that_never_arrive_do_not_set_the_scale_of_climbs(gaussian_chains: Any) -> None:
    """Ends at 1e14 made the covariance of all singular, or its factor useless, and ends modes of their own."""
    ends = np.concatenate([draws(20, 300), np.full((20, 2), 1e14)])
    tops = _tops(gaussian_chains, ends, np.arange(320) < 300, draws(21, 320))
    assert tops.at_rest[:300].all() and not tops.at_rest[300:].any()
    np.testing.assert_allclose(tops.ends[:300], 0.0, atol=1e-2)
    np.testing.assert_allclose(tops.draws, 0.0, atol=1e-2)


@pytest.mark.parametrize("distance", [1e6, 1e9, 1e12])
def test_modes_that_are_very_far_apart_have_tops_of_their_own(distance: float) -> None:
    def log_prob(z: tf.Tensor) -> tf.Tensor:
        far = z - tf.constant(distance, tf.float32)
        return tf.reduce_logsumexp(-0.5 * tf.stack([tf.reduce_sum(z**2, -1), tf.reduce_sum(far**2, -1)]), 0)

    ends, own = draws(23, 200, size=3) + distance, draws(24, 200, size=3)
    tops = _tops(chains_of(log_prob, 3), ends, np.ones(200, bool), own)
    assert alone(np.ones(200, bool), tops.ends, tops.draws).all() and np.isfinite(tops.ends).all()


def test_ends_on_the_way_along_a_narrow_curve_are_in_no_mode_of_their_own() -> None:
    """Chains that begin far down the arms of a banana are on their way to its one top, and so are climbs from there."""

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        return -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - z[:, 0] ** 2) / 0.1) ** 2

    def banana(seed: int) -> np.ndarray:
        z = draws(seed)
        return np.stack([z[:, 0], z[:, 0] ** 2 + 0.1 * z[:, 1]], 1)

    arm = np.linspace(4.0, 5.0, 100)
    chains, far = chains_of(log_prob, 2), np.stack([arm, arm**2], 1)
    tops = _tops(chains, far, np.zeros(100, bool), banana(22)[:100])
    assert not tops.at_rest.any() and alone(np.ones(100, bool), tops.ends, tops.draws).all()
