"""Pareto-smoothed importance weights: known tail shapes, invariances, and both generations of ArviZ."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from scipy.special import logsumexp

from neural_vb.errors import MissingDependencyError
from neural_vb.psis import smooth

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
