"""The plateau rule, on windows made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from short_training import PLAIN

from neural_vb.training import METRICS, _Log

_WINDOWS: dict[str, Any] = {"max_steps": 1_000, "window": 10, "plateau_windows": 3, "plateau_tolerance": 0.0}


def log_of(elbos: list[float], variance: float = 0.0, **config: Any) -> _Log:
    log = _Log(replace(PLAIN, **_WINDOWS | config), offset=0.0, draws_per_step=PLAIN.batch_size, step=0)
    for elbo in elbos:
        totals = dict.fromkeys(METRICS, 0.0) | {"elbo": 10 * elbo, "elbo_variance": 10 * variance}
        log.append(np.array([totals[name] for name in METRICS]), 10)
    return log


def test_a_rising_estimate_does_not_rest_and_a_level_one_does() -> None:
    wobble = [0.1, -0.1, 0.0]
    assert log_of([*wobble, *wobble]).rests()
    assert not log_of([*wobble, *(1.0 + value for value in wobble)]).rests()
    assert not log_of([*wobble, *(value - 1.0 for value in wobble)]).rests()


@pytest.mark.parametrize("seed", range(20))
def test_the_plateau_rule_is_a_two_sample_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    elbos, variance = rng.standard_normal(8) * 0.1 + np.repeat([0.0, 0.1], 4), 10.0 ** rng.uniform(-1, 1)
    earlier, later = elbos[2:5], elbos[5:]
    monte_carlo = variance / (10 * PLAIN.batch_size)
    scatter = (earlier.var(ddof=1) + later.var(ddof=1)) / 2
    limit = math.sqrt(2 * max(scatter, monte_carlo) / 3)
    assert log_of(list(elbos), variance).rests() == (abs(later.mean() - earlier.mean()) < limit)


def test_no_plateau_before_min_steps_nor_with_too_few_windows_nor_while_rates_fall() -> None:
    level = [0.1, -0.1, 0.0] * 2
    assert not log_of(level, min_steps=61).rests()
    assert log_of(level, min_steps=60).rests()
    assert not log_of(level[:5]).rests()
    assert not log_of(level, max_steps=60).rests()
    log = log_of(level)
    log.start_decay()
    assert not log.rests()


def test_min_steps_shrink_in_proportion_to_the_divergence_that_is_left() -> None:
    config = {"min_steps": 100, "easy_divergence": 0.05}
    for num_windows in (1, 2, 5, 9):  # of ten steps
        limit = 2.0 * 0.05 * num_windows / 10
        assert log_of([0.0] * num_windows, 0.99 * limit, **config).rests()
        assert not log_of([0.0] * num_windows, 1.01 * limit, **config).rests()
    assert not log_of([0.0], math.nan, **config).rests()


@pytest.mark.parametrize(("num_windows", "expected"), [(1, 50), (5, 50), (8, 80), (20, 100)])
def test_rates_fall_over_as_many_steps_as_went_before_within_bounds(num_windows: int, expected: int) -> None:
    log = log_of([0.0] * num_windows, max_steps=1_000, decay_steps=100)
    log.start_decay()
    assert log.decay_steps == expected and log.end == 10 * num_windows + expected


def test_there_is_no_rest_while_a_burst_of_variance_is_within_the_windows() -> None:
    level = [0.1, -0.1, 0.0] * 2
    for scale, rests in ((9.0, True), (11.0, False)):
        log = log_of(level[:3], 1.0)
        for elbo, variance in zip(level[3:], (1.0, scale, 1.0), strict=True):
            totals = dict.fromkeys(METRICS, 0.0) | {"elbo": 10 * elbo, "elbo_variance": 10 * variance}
            log.append(np.array([totals[name] for name in METRICS]), 10)
        assert log.rests() is rests


def test_windows_of_one_use_the_monte_carlo_error_alone() -> None:
    standard_error = math.sqrt(2 * 1.0 / (10 * PLAIN.batch_size))
    assert log_of([0.0, 0.99 * standard_error], 1.0, plateau_windows=1).rests()
    assert not log_of([0.0, 1.01 * standard_error], 1.0, plateau_windows=1).rests()


def test_a_change_within_the_tolerance_is_none_however_precise_it_is() -> None:
    elbos = [0.0, 0.0, 0.0, 0.009, 0.009, 0.009]
    assert log_of(elbos, plateau_tolerance=0.01).rests()
    assert not log_of(elbos, plateau_tolerance=0.008).rests()


def test_skipped_steps_take_no_part_in_a_windows_means() -> None:
    log = _Log(PLAIN, offset=5.0, draws_per_step=PLAIN.batch_size, step=0)
    totals = dict.fromkeys(METRICS, 0.0) | {"elbo": -12.0, "elbo_variance": 6.0, "finite_share": 6.0, "skipped": 4.0}
    row = log.append(np.array([totals[name] for name in METRICS]), 10)
    assert row["elbo"] == 5.0 - 2.0 and row["finite_share"] == 1.0 and row["skipped"] == 4.0
    assert row["elbo_standard_error"] == pytest.approx(math.sqrt(1.0 / (6 * PLAIN.batch_size)))


def test_a_window_without_a_step_has_no_means() -> None:
    log = _Log(PLAIN, offset=5.0, draws_per_step=PLAIN.batch_size, step=0)
    totals = dict.fromkeys(METRICS, 0.0) | {"skipped": 10.0}
    row = log.append(np.array([totals[name] for name in METRICS]), 10)
    assert row["skipped"] == 10.0 and row["step"] == 10
    assert all(math.isnan(row[name]) for name in (*METRICS[:-1], "elbo_standard_error"))
    assert not log.rests()
