"""Rank plots: data in the artists, labels, notes and errors; not pixels."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.stats import binom, norm

from neural_vb import uniformity
from neural_vb.calibration_plots import _edges, _intervals, plot_ranks
from neural_vb.diagnostics import Calibration
from neural_vb.drawing import DRAWS, REFERENCE
from neural_vb.errors import ConfigurationError


def _calibration(size: int = 500, num_draws: int = 255) -> Calibration:
    z = np.random.default_rng(0).normal(size=(4, size))
    z[3] *= 1.6  # truth beyond the draws: posteriors too narrow

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.minimum((norm.cdf(values) * (num_draws + 1)).astype(int), num_draws)

    labels = ["mu", "theta[0]", "theta[1]", "log likelihood"]
    return Calibration(dict(zip(labels, map(ranks, z), strict=True)), num_draws)


def _line(axis: Any, color: str) -> Any:
    found = [line for line in axis.lines if to_rgba(line.get_color()) == to_rgba(color)]
    return found[0] if found else None


def test_ecdf_difference_and_its_band() -> None:
    calibration = _calibration()
    before = dict(matplotlib.rcParams)
    axes = plot_ranks(calibration)
    assert dict(matplotlib.rcParams) == before
    assert [axis.get_title().split("  ")[0] for axis in axes] == list(calibration.ranks)
    x, y = _line(axes[0], DRAWS).get_data()
    np.testing.assert_allclose(y, [np.mean(calibration.ranks["mu"] / 256 < cut) - cut for cut in x], atol=1e-12)
    band = uniformity.band(500, 256)
    edge = axes[0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(edge[:, 1].max(), np.max(band.upper / 500 - band.cuts / 256))
    np.testing.assert_allclose(edge[:, 1].min(), np.min(band.lower / 500 - band.cuts / 256))


@pytest.mark.parametrize("kind", ["ecdf", "histogram"])
def test_what_leaves_the_band_is_marked_and_the_title_says_p(kind: str) -> None:
    axes = plot_ranks(_calibration(), kind=kind)
    marked = [
        _line(axis, REFERENCE) is not None
        or any(
            len(c.get_paths()) and to_rgba(REFERENCE) == tuple(c.get_edgecolor()[0])
            for c in axis.collections
            if len(c.get_edgecolor())
        )
        for axis in axes
    ]
    assert marked == [False, False, False, True]
    assert axes[3].get_title() == "log likelihood  p < .001"
    assert "p = 0." in axes[0].get_title()
    note = axes[0].figure.get_supxlabel().replace("\n", " ")
    assert "500 simulations" in note and "95 %, for one label alone" in note


def test_histogram_counts_over_expectation() -> None:
    calibration = _calibration()
    axes = plot_ranks(calibration, kind="histogram", labels="mu")
    values, edges, _ = axes[0].patches[-1].get_data()
    np.testing.assert_allclose(edges, np.linspace(0, 1, 17))
    np.testing.assert_allclose(values, np.bincount(calibration.ranks["mu"] // 16, minlength=16) / (500 / 16))


@pytest.mark.parametrize("num_values", [16, 100, 101, 256, 1000])
def test_bins_are_whole_and_even_where_they_can_be(num_values: int) -> None:
    edges = _edges(500, num_values)
    assert edges[0] == 0 and edges[-1] == num_values and np.diff(edges).min() >= 1
    assert np.ptp(np.diff(edges)) <= (0 if num_values != 101 else 1)


def test_intervals_are_those_of_the_binomial() -> None:
    shares = np.array([0.01, 0.25, 0.5])
    lower, upper = _intervals(100, shares, 0.01)
    np.testing.assert_array_equal(lower, binom.ppf(0.005, 100, shares))
    np.testing.assert_array_equal(upper, binom.isf(0.005, 100, shares))
    inside = binom.cdf(upper, 100, shares) - binom.cdf(lower - 1, 100, shares)
    assert np.all(inside >= 0.99)


def test_labels_choose_and_order() -> None:
    axes = plot_ranks(_calibration(), labels=["log likelihood", "theta"])
    assert [axis.get_title().split("  ")[0] for axis in axes] == ["log likelihood", "theta[0]", "theta[1]"]
    many = Calibration({f"a[{i}]": np.arange(40) % 16 for i in range(45)}, 15)
    axes = plot_ranks(many)
    assert len(axes) == 40 and "first 40 of 45 labels" in axes[0].figure.get_supxlabel().replace("\n", " ")


def test_axes_of_the_user_are_drawn_on() -> None:
    figure, grid = plt.subplots(1, 2)
    axes = plot_ranks(_calibration(), labels="theta", axes=grid)
    assert list(axes) == list(grid) and figure.get_supxlabel() == ""
    assert plot_ranks(_calibration(), labels="mu", axes=grid[0])[0] is grid[0]


def test_one_scale_unless_it_flattens() -> None:
    calibration = _calibration()
    together = plot_ranks(calibration, labels=["mu", "theta"])
    assert len({axis.get_ylim() for axis in together}) == 1
    far = Calibration({"mu": calibration.ranks["mu"], "nu": np.zeros(500, int)}, 255)
    apart = plot_ranks(far)
    assert np.ptp(apart[1].get_ylim()) > 5 * np.ptp(apart[0].get_ylim())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "violin"}, "`kind` as 'ecdf' or 'histogram'; got 'violin'"),
        ({"labels": ["thetas"]}, r"labels of ranks, or variables; got 'thetas'\. Fix: did you mean 'theta'"),
        ({"labels": []}, "at least one label"),
        ({"coverage": 95}, "between 0 and 1; got 95"),
        ({"labels": "theta", "axes": [None]}, "one of `axes` for each of the 2 labels; got 1"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plot_ranks(_calibration(), **options)
