"""Pareto-smoothed importance weights: known tail shapes, invariances, and both generations of ArviZ."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from scipy.special import logsumexp

from neural_vb.errors import MissingDependencyError
from neural_vb.psis import USABLE, resample, smooth

SIZE = 10_000
EXPONENTIAL = np.random.RandomState(0).exponential(size=SIZE)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_k_hat_is_the_shape_of_a_pareto_tail(shape: float) -> None:
    """exp(k E) with E standard exponential is Pareto with tail shape k."""
    tail = 3.0 * np.sqrt(SIZE)
    standard_error = (1.0 + shape) / np.sqrt(tail)  # of the maximum likelihood estimate
    assert smooth(shape * EXPONENTIAL).pareto_k == pytest.approx(shape, abs=4.0 * standard_error)


def test_weights_are_normalised_rise_with_the_ratios_and_ignore_an_offset() -> None:
    ratios = 0.5 * EXPONENTIAL
    found = smooth(ratios)
    assert logsumexp(found.log_weights) == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(found.log_weights[np.argsort(ratios)]) >= 0).all()
    shifted = smooth(ratios - 1e3)
    np.testing.assert_allclose(shifted.log_weights, found.log_weights, atol=1e-9)
    assert shifted.pareto_k == pytest.approx(found.pareto_k, abs=1e-6)


def test_only_the_tail_is_smoothed() -> None:
    ratios = 0.5 * EXPONENTIAL
    log_weights = smooth(ratios).log_weights
    order = np.argsort(ratios)
    tail_size = int(3.0 * np.sqrt(SIZE))
    change = (log_weights - ratios)[order]
    assert np.ptp(change[:-tail_size]) < 1e-9
    assert np.abs(change[-tail_size:] - change[0]).max() > 1e-3


@pytest.mark.parametrize("zero", [-np.inf, np.nan])
def test_what_is_not_finite_has_no_weight(zero: float) -> None:
    ratios = 0.5 * EXPONENTIAL
    holes = np.insert(ratios, [0, 5_000], zero)
    found = smooth(holes)
    assert (np.isneginf(found.log_weights) == ~np.isfinite(holes)).all()
    np.testing.assert_array_equal(found.log_weights[np.isfinite(holes)], smooth(ratios).log_weights)


def test_too_few_ratios_get_equal_weights_and_no_trust() -> None:
    found = smooth(np.r_[np.arange(24.0), -np.inf])
    assert found.pareto_k == np.inf
    np.testing.assert_allclose(found.log_weights, np.r_[np.full(24, -np.log(24.0)), -np.inf])
    assert np.isneginf(smooth(np.full(30, -np.inf)).log_weights).all()


def test_without_arviz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(MissingDependencyError, match=r"Expected ArviZ for Pareto-smoothed .*Fix: pip install"):
        smooth(EXPONENTIAL)


def test_arviz_one_takes_negated_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """``arviz_stats.base.array_stats.psislw`` negates what it gets (it is made for log likelihoods)."""

    def psislw(values: np.ndarray) -> tuple[np.ndarray, float]:
        return -values - logsumexp(-values), 0.25

    base = types.ModuleType("arviz_stats.base")
    base.array_stats = types.SimpleNamespace(psislw=psislw)
    monkeypatch.setitem(sys.modules, "arviz", types.ModuleType("arviz"))
    monkeypatch.setitem(sys.modules, "arviz_stats", types.ModuleType("arviz_stats"))
    monkeypatch.setitem(sys.modules, "arviz_stats.base", base)
    found = smooth(EXPONENTIAL)
    assert found.pareto_k == 0.25
    np.testing.assert_allclose(found.log_weights, EXPONENTIAL - logsumexp(EXPONENTIAL))


def test_resampled_draws_are_those_of_the_other_density() -> None:
    """From N(0, 1) to N(0, .8^2) and to an exponential half of it; a hopeless third."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((20_000, 3))
    log_ratios = np.stack(
        [-0.5 * z[:, 0] ** 2 * (0.8**-2 - 1.0), np.where(z[:, 1] > 0.0, 0.0, -np.inf), 9.0 * z[:, 2]], 1
    )
    chosen, pareto_k = resample(log_ratios, 4_000, rng)
    kept = np.take_along_axis(z, chosen, 0)
    error = 1.5 / np.sqrt(4_000)  # systematic resampling leaves little more than that of 20,000 and of 4,000 draws
    assert abs(kept[:, 0].mean()) < 3.5 * error and abs(kept[:, 0].std() - 0.8) < 3.5 * error
    assert (kept[:, 1] > 0.0).all() and abs(kept[:, 1].mean() - np.sqrt(2.0 / np.pi)) < 3.5 * error
    assert (pareto_k[:2] < USABLE).all() and pareto_k[2] > USABLE
    assert (np.diff(chosen[:, 0]) < 0).mean() > 0.3  # in no order


def test_equal_weights_keep_every_draw_equally_often() -> None:
    chosen, _ = resample(np.zeros((100, 2)), 200, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(chosen, 0), np.repeat(np.arange(100), 2)[:, None] + np.zeros((1, 2), int))
