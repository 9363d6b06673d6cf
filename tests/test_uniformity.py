"""The exact test of uniform ranks and its bands, against enumeration and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, kstest

from neural_vb import uniformity


def naive_gamma(ranks: np.ndarray, num_values: int) -> float:
    """The definition, point by point."""
    size = len(ranks)
    tails = []
    for cut in range(1, num_values):
        count = int(np.sum(ranks < cut))
        law = binom(size, cut / num_values)
        tails += [law.cdf(count), law.sf(count - 1)]
    return min(1.0, 2.0 * min(tails))


@pytest.mark.parametrize(("size", "num_values"), [(5, 4), (7, 2), (3, 6), (1, 5)])
def test_pvalue_is_that_of_all_outcomes_counted(size: int, num_values: int) -> None:
    outcomes = np.array(list(itertools.product(range(num_values), repeat=size)))
    gammas = np.array([naive_gamma(ranks, num_values) for ranks in outcomes])
    for ranks, gamma in zip(outcomes[::3], gammas[::3], strict=True):
        exact = np.mean(gammas <= gamma * (1 + 1e-12))
        np.testing.assert_allclose(uniformity.pvalue(ranks, num_values), exact, rtol=1e-10)


@pytest.mark.parametrize(("size", "num_values"), [(500, 256), (200, 101), (40, 16), (300, 1000)])
def test_band_holds_the_paths_that_it_should_and_is_the_test_turned_round(size: int, num_values: int) -> None:
    rng = np.random.default_rng(size)
    band = uniformity.band(size, num_values, coverage=0.9)
    inside, pvalues = [], []
    for ranks in rng.integers(0, num_values, (2_000, size)):
        cuts, counts = uniformity.counts_below(ranks, num_values)
        np.testing.assert_array_equal(cuts, band.cuts)
        inside.append(np.all((counts >= band.lower) & (counts <= band.upper)))
        if len(pvalues) < 300:
            pvalues.append(uniformity.pvalue(ranks, num_values))
    error = np.sqrt(0.9 * 0.1 / 2_000)
    # Counts are whole numbers: a band of few ranks cannot have the very coverage, but never has less.
    assert 0.9 - 4 * error < np.mean(inside) < 0.9 + 4 * error + 0.5 / size
    assert [p > 0.1 for p in pvalues] == inside[:300]


def test_pvalues_of_uniform_ranks_are_uniform() -> None:
    rng = np.random.default_rng(3)
    pvalues = [uniformity.pvalue(ranks, 256) for ranks in rng.integers(0, 256, (1_000, 500))]
    assert kstest(pvalues, "uniform").pvalue > 0.001


def test_band_is_symmetric_monotone_and_narrows_with_the_root_of_the_number() -> None:
    bands = {size: uniformity.band(size, 256) for size in (100, 400, 1_600)}
    for size, band in bands.items():
        np.testing.assert_array_equal(band.lower, size - band.upper[::-1])
        assert np.all(np.diff(band.lower) >= 0) and np.all(np.diff(band.upper) >= 0)
        assert np.all(band.lower < size * band.cuts / 256) and np.all(band.upper > size * band.cuts / 256)
    width = {size: (band.upper - band.lower).max() / size for size, band in bands.items()}
    np.testing.assert_allclose([width[100] / width[400], width[400] / width[1_600]], 2.0, rtol=0.06)
    wide, narrow = (uniformity.band(400, 256, coverage=coverage) for coverage in (0.99, 0.5))
    assert np.all(wide.lower <= narrow.lower) and np.all(wide.upper >= narrow.upper)
    assert (wide.upper - wide.lower).sum() > 1.2 * (narrow.upper - narrow.lower).sum()


def test_pvalue_sees_reflections_alike_and_order_not_at_all() -> None:
    ranks = np.random.default_rng(0).binomial(255, 0.5, 60)
    value = uniformity.pvalue(ranks, 256)
    np.testing.assert_allclose(uniformity.pvalue(255 - ranks, 256), value, rtol=1e-6, atol=1e-13)
    assert uniformity.pvalue(ranks[::-1], 256) == value


def test_hopeless_ranks_have_tiny_pvalues_that_are_not_negative() -> None:
    for ranks in (np.zeros(500, int), np.full(500, 255), np.full(500, 128)):
        assert 0.0 <= uniformity.pvalue(ranks, 256) < 1e-12


@pytest.mark.parametrize("num_values", [2, 16, 256, 257, 997, 100_000])
def test_cuts_are_within_the_values_and_almost_even(num_values: int) -> None:
    cuts, counts = uniformity.counts_below(np.arange(num_values), num_values)
    np.testing.assert_array_equal(cuts, counts)  # below c there are c values
    assert len(cuts) == min(num_values - 1, uniformity.MAX_CUTS)
    widths = np.diff(cuts, prepend=0, append=num_values)
    assert widths.min() >= 1 and np.ptp(widths) <= 1
