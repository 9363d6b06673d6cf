"""Densities on grids against closed forms, and ranges against outliers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neural_vb import smoothing
from neural_vb.errors import DataError

NORMAL = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)  # a sample without sampling error
EXPONENTIAL = stats.expon.ppf((np.arange(20_000) + 0.5) / 20_000)


def _pairs(size: int, correlation: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(0).normal(size=(2, size))
    return x, correlation * x + np.sqrt(1 - correlation**2) * y


def test_density_of_a_normal_is_normal() -> None:
    points, density = smoothing.density_1d(NORMAL, (-10, 10))
    np.testing.assert_allclose(density, stats.norm.pdf(points), atol=0.01)
    assert density.sum() * (points[1] - points[0]) == pytest.approx(1.0, abs=1e-6)


def test_density_at_a_bound_is_not_halved() -> None:
    points, density = smoothing.density_1d(EXPONENTIAL, (-1, 20))
    assert points[0] >= 0
    assert density[0] == pytest.approx(1.0, abs=0.06)


def test_far_modes_are_not_smeared() -> None:
    points, density = smoothing.density_1d(np.concatenate([NORMAL - 50, NORMAL + 50]), (-60, 60))
    assert density.max() == pytest.approx(0.5 * stats.norm.pdf(0), rel=0.06)
    assert density[np.abs(points) < 30].max() < 1e-6


def test_density_counts_the_draws_beyond_the_limits() -> None:
    points, density = smoothing.density_1d(NORMAL, (0, 10))
    assert density.sum() * (points[1] - points[0]) == pytest.approx(0.5, abs=1e-3)


def test_bulk_scale_ignores_tails_and_distance() -> None:
    scale = smoothing.bulk_scale(NORMAL)
    assert scale == pytest.approx(1.0, abs=0.02)
    assert smoothing.bulk_scale(np.append(NORMAL, [1e6])) == pytest.approx(scale, rel=1e-2)
    assert smoothing.bulk_scale(np.concatenate([NORMAL, NORMAL + 100])) == pytest.approx(2 * scale, rel=0.05)


def test_shown_range_holds_light_tails_and_resists_heavy_ones() -> None:
    lower, upper = smoothing.shown_range(NORMAL)
    assert lower < NORMAL.min() and upper > NORMAL.max()
    cauchy = stats.cauchy.ppf((np.arange(10_000) + 0.5) / 10_000)
    lower, upper = smoothing.shown_range(cauchy)
    assert -50 < lower < -10 and 10 < upper < 50
    assert smoothing.beyond(cauchy, (lower, upper)) == pytest.approx(2 * stats.cauchy.sf(upper), abs=1e-3)


def test_shown_range_of_several_samples_and_of_odd_ones() -> None:
    assert smoothing.shown_range(NORMAL, NORMAL + 10)[1] > 13
    assert smoothing.shown_range(np.array([np.nan, np.inf])) == pytest.approx((-0.04, 1.04))
    lower, upper = smoothing.shown_range(np.full(10, 7.0))
    assert lower < 7 < upper
    lower, upper = smoothing.shown_range(np.repeat([0, 1, 2], 10))
    assert lower < -0.4 and upper > 2.4  # room for stems at 0 and 2


def test_beyond_counts_what_is_not_finite() -> None:
    assert smoothing.beyond(np.array([0.0, 0.5, 2.0, np.nan]), (0, 1)) == 0.5


def test_discrete_draws_are_told_from_continuous_ones() -> None:
    assert smoothing.is_discrete(np.repeat([0, 1], 50))
    assert smoothing.is_discrete(np.ones(3))
    assert smoothing.is_discrete(np.repeat([True, False], 50))
    assert not smoothing.is_discrete(np.arange(10.0))
    assert not smoothing.is_discrete(NORMAL)


def test_hdr_levels_are_those_of_the_gaussian() -> None:
    axis = np.linspace(-6, 6, 400)
    density = stats.norm.pdf(axis)[:, None] * stats.norm.pdf(axis)
    cell = (axis[1] - axis[0]) ** 2
    low, high = smoothing.hdr_levels(density * cell, (0.5, 0.9))
    np.testing.assert_allclose([low / cell, high / cell], [0.1 / (2 * np.pi), 0.5 / (2 * np.pi)], rtol=1e-2)


@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.95, 0.9999])
def test_regions_of_pairs_hold_what_they_say(correlation: float) -> None:
    """By chi square, the region with probability p of a Gaussian is where -2 log(1 - p) is not exceeded."""
    x, y = _pairs(40_000, correlation)
    xs, ys, mass = smoothing.mass_2d(x, y, (-6, 6), (-6, 6))
    assert mass.sum() == pytest.approx(1.0, abs=1e-3)
    inverse = np.linalg.inv([[1, correlation], [correlation, 1]])
    squares = inverse[0, 0] * xs**2 + 2 * inverse[0, 1] * xs * ys + inverse[1, 1] * ys**2
    for level, probability in zip(smoothing.hdr_levels(mass, (0.5, 0.9)), (0.9, 0.5), strict=True):
        inside = (squares < -2 * np.log(1 - probability)).sum()
        assert (mass >= level).sum() == pytest.approx(inside, rel=0.08)


def test_density_on_grid_is_relative_and_takes_nan_for_outside() -> None:
    def log_density(points: np.ndarray) -> np.ndarray:
        assert points.dtype == np.float32
        return np.where(points[:, 0] > 0, 1e4 - points[:, 0] ** 2 - points[:, 1] ** 2, np.nan)

    xs, ys, density = smoothing.density_on_grid(log_density, (-3, 3), (-1, 1), np.float32)
    assert density.max() == 1.0 and (density[xs < 0] == 0).all()
    assert (xs.min(), ys.max()) == (pytest.approx(-3 + 3 / 160), pytest.approx(1 - 1 / 160))


BOUNDED = (stats.uniform(), stats.expon(), stats.halfnorm(), stats.beta(0.5, 0.5))
SMOOTH = (*map(stats.lognorm, (0.3, 0.5, 1.0)), *map(stats.gamma, (2, 3, 4, 5)), stats.norm())


@pytest.mark.parametrize("size", [4_000, 20_000])
@pytest.mark.parametrize("distribution", (*BOUNDED, *SMOOTH), ids=lambda one: f"{one.dist.name}{one.args}")
def test_a_bound_is_where_a_density_ends_at_a_height_and_the_foot_of_a_smooth_one_is_none(
    distribution: stats.rv_continuous, size: int
) -> None:
    seen = 0
    for seed in range(50):
        sample = distribution.rvs(size, random_state=np.random.default_rng(seed))
        seen += smoothing.density_1d(sample, (-100.0, 100.0))[0][0] >= sample.min()
    assert seen == 50 if distribution in BOUNDED else seen <= 5


def test_a_grid_ends_at_a_bound_and_goes_beyond_a_soft_edge() -> None:
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 4_000), rng.normal(1.5, 0.1, 4_000)
    bounded = [rng.uniform(size=4_000), rng.exponential(size=4_000)]
    for sample in (*bounded, rng.normal(size=4_000), radius * np.cos(angle), rng.standard_t(3, 4_000)):
        points, _ = smoothing.density_1d(sample, (-100.0, 100.0))
        at_bound = any(sample is each for each in bounded)
        assert (points[0] >= sample.min()) == at_bound
    points, density = smoothing.density_1d(radius * np.cos(angle), (-100.0, 100.0))
    assert max(density[0], density[-1]) < 0.02 * density.max()


def test_errors_of_a_density_are_named() -> None:
    def two_arguments(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

    with pytest.raises(DataError, match="log_density to run on a batch of points; got TypeError"):
        smoothing.density_on_grid(two_arguments, (0.0, 1.0), (0.0, 1.0), np.float64)  # type: ignore[arg-type]
