"""The metrics that need all pairs of draws, and those of modes, against naive twins and beside their floors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import metrics, sample_metrics
from benchmarks.evaluate import evaluate
from benchmarks.problems import PROBLEMS


def test_mode_total_variation_counts_what_would_have_to_move():
    assignment = np.array([0, 0, 2, 0])  # shares .75, 0, .25
    assert metrics.mode_total_variation(assignment, np.array([0.5, 0.25, 0.25])) == pytest.approx(0.25)


def test_exact_wasserstein_agrees_with_scipy_and_finds_a_shift():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 1)), 1.0 + 2.0 * rng.normal(size=(40, 1))
    assert sample_metrics.wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a[:, 0], b[:, 0]))
    z = rng.normal(size=(60, 3))
    assert sample_metrics.wasserstein(z, rng.permutation(z) + np.array([3.0, 0.0, 4.0])) == pytest.approx(5.0)


def test_discrepancy_agrees_with_its_definition_pair_by_pair():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 2)), 1.0 + rng.normal(size=(5, 2))
    width = np.median([((b[i] - b[j]) ** 2).sum() for i in range(5) for j in range(i)])

    def mean(x, y):
        return np.mean([(1.0 + ((p - q) ** 2).sum() / width) ** -0.5 for p in x for q in y])

    expected = math.sqrt(mean(a, a) + mean(b, b) - 2.0 * mean(a, b))
    assert sample_metrics.maximum_mean_discrepancy(a, b) == pytest.approx(expected)
    assert sample_metrics.maximum_mean_discrepancy(b, b[::-1]) == pytest.approx(0.0, abs=1e-7)


def test_exact_draws_are_at_the_floors_and_others_above():
    rng = np.random.default_rng(0)
    reference, sd = rng.normal(size=(2_000, 2)), np.ones(2)
    same = sample_metrics.with_floors(rng.normal(size=(2_000, 2)), reference, sd)
    apart = sample_metrics.with_floors(0.5 + rng.normal(size=(2_000, 2)), reference, sd)
    for name in ("w1", "mmd"):
        assert same[name] < 2.5 * same[f"{name}_floor"] < apart[name]
    lost = sample_metrics.with_floors(np.full((2_000, 2), np.nan), reference, sd)
    assert math.isnan(lost["w1"]) and math.isnan(lost["mmd"]) and lost["w1_floor"] > 0


def test_an_evaluation_tells_every_metric_beside_its_floor():
    problem, rng = PROBLEMS["two_modes"], np.random.default_rng(5)
    assert problem.exact is not None
    z = problem.exact(4_000, rng)
    found = evaluate(problem, [z, problem.exact(4_000, rng)])
    for name in ("w1", "mmd", "mode_tv"):
        assert 0.0 < found[name] < 4.0 * found[f"{name}_floor"]
    far = evaluate(problem, [z[z[:, 0] < 0]])
    assert far["mode_tv"] == pytest.approx(0.5, abs=0.01) and far["w1"] > 5.0 * far["w1_floor"]


def test_reference_draws_stand_in_where_no_sampler_is_exact():
    problem, rng = PROBLEMS["hierarchical_100"], np.random.default_rng(0)
    moments = problem.moments()
    reference = moments.mean + moments.sd * rng.standard_normal((4_000, 100))
    found = evaluate(
        problem, [moments.mean + moments.sd * rng.standard_normal((3_000, 100))], reference_draws=reference
    )
    assert found["w1"] == pytest.approx(found["w1_floor"], rel=0.05)
    assert found["sw1_reference"] < 0.1 and "sw1" not in found
