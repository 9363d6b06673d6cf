"""Figures of ranks from simulation-based calibration. Matplotlib is imported when a figure is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import bdtrc

from neural_vb import drawing, uniformity
from neural_vb._text import suggestion
from neural_vb._types import Array
from neural_vb.drawing import DRAWS, INK, REFERENCE
from neural_vb.errors import ConfigurationError

MAX_PANELS = 40
_BAND = "#D9D9D9"


def plot_ranks(
    calibration: Any,
    *,
    kind: str = "ecdf",
    labels: Sequence[str] | str | None = None,
    axes: Any = None,
    coverage: float = 0.95,
) -> Any:
    """Plot ranks of true values among draws against what uniform ranks would look like, one panel for each label.

    ``"ecdf"`` shows the share of ranks below a cut minus the share expected, F(c) - c / (S + 1), in a band that uniform
    ranks leave nowhere with the probability `coverage`. A hill and then a valley mean posteriors too narrow, a valley
    and then a hill too wide ones; one hill alone means draws that are too large, one valley draws that are too small.
    ``"histogram"`` shows counts over expected counts, in intervals that together have at least that coverage
    (Bonferroni over the bins). The p values are those of the ECDF's test.

    Args:
        calibration: an object with `ranks`, label -> [N] whole numbers in 0, …, S, and `num_draws`, S.
        kind: "ecdf" or "histogram".
        labels: labels such as ``theta[0]``, or variables such as ``theta`` for all of their elements, in the order
            wanted. At most 40 are shown.
        axes: Matplotlib axes to draw on, one for each label; a new figure when None.
        coverage: of the band of one label, in (0, 1).

    Returns:
        Array of Matplotlib axes, one for each label; ``axes[0].figure`` is the figure. What leaves the band is orange.

    Raises:
        ConfigurationError: when `kind`, a label or `coverage` is unknown or out of range, or there are not as many
            axes as labels.
        MissingDependencyError: when matplotlib is not installed.

    Source:
        Säilynoja, Bürkner & Vehtari (2022), https://arxiv.org/abs/2103.10522, figures 1 and 2.
    """
    panels = {"ecdf": _ecdf, "histogram": _histogram}
    if kind not in panels:
        raise ConfigurationError(expected="`kind` as 'ecdf' or 'histogram'", got=repr(kind), fix="choose one of them")
    if not 0.0 < coverage < 1.0:
        raise ConfigurationError(
            expected="`coverage` between 0 and 1", got=f"{coverage:g}", fix="pass a fraction, such as coverage=0.95"
        )
    every = _chosen(calibration.ranks, labels)
    shown = every if axes is not None else every[:MAX_PANELS]
    with drawing.style() as plt:
        grid = _new_axes(plt, len(shown)) if axes is None else _given_axes(axes, shown)
        for index, (axis, label) in enumerate(zip(grid, shown, strict=True)):
            ranks = np.asarray(calibration.ranks[label])
            panels[kind](axis, ranks, calibration.num_draws + 1, coverage)
            p = uniformity.pvalue(ranks, calibration.num_draws + 1)
            axis.set_title(f"{label}  " + (f"p = {p:.3f}" if p >= 0.001 else "p < .001"))
            drawing.finish(axis)
            axis.set_xlim(0, 1)
            axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            if axes is None:
                axis.tick_params(labelleft=_first_in_row(axis), labelbottom=True)
                axis.set_ylabel(axis.get_ylabel() if _first_in_row(axis) else "")
                axis.set_xlabel("rank / draws" if index + _across(len(shown)) >= len(shown) else "")
        if axes is None:
            _same_height(grid)
            drawing.notes(grid[0].figure, _notes(calibration, kind, coverage, len(every), len(shown)))
    return grid


def _ecdf(axis: Any, ranks: Array, num_values: int, coverage: float) -> None:
    size = ranks.size
    cuts, counts = uniformity.counts_below(ranks, num_values)
    band = uniformity.band(size, num_values, coverage=coverage)
    x = np.concatenate([[0], cuts, [num_values]]) / num_values
    difference, lower, upper = (
        np.concatenate([[0], values, [size]]) / size - x for values in (counts, band.lower, band.upper)
    )
    axis.fill_between(x, lower, upper, color=_BAND, lw=0)
    axis.axhline(0, color=INK, lw=0.6)
    axis.plot(x, difference, color=DRAWS)
    outside = (difference < lower) | (difference > upper)
    if outside.any():
        axis.plot(x, np.where(outside, difference, np.nan), color=REFERENCE, lw=2.2, marker=".", ms=2.5)
    axis.set_ylabel("ECDF difference")


def _histogram(axis: Any, ranks: Array, num_values: int, coverage: float) -> None:
    size = ranks.size
    edges = _edges(size, num_values)
    counts = np.histogram(ranks, edges - 0.5)[0]
    shares = np.diff(edges) / num_values
    lower, upper = _intervals(size, shares, (1.0 - coverage) / shares.size)
    x = edges / num_values
    expected = size * shares
    axis.stairs(upper / expected, x, baseline=lower / expected, fill=True, color=_BAND, lw=0)
    axis.axhline(1, color=INK, lw=0.6)
    axis.stairs(counts / expected, x, color=DRAWS, lw=1.3)
    outside = (counts < lower) | (counts > upper)
    axis.hlines((counts / expected)[outside], x[:-1][outside], x[1:][outside], color=REFERENCE, lw=2.2)
    axis.set_ylabel("ranks / expected")
    axis.set_ylim(0, None)


def _edges(size: int, num_values: int) -> Array:
    """Whole-numbered edges of bins with some twenty ranks each: equal bins, if a number of them near that divides."""
    most = int(np.clip(size / 20, 4, min(32, num_values)))
    bins = max((number for number in range(most // 2 + 1, most + 1) if num_values % number == 0), default=most)
    return np.round(np.arange(bins + 1) * (num_values / bins)).astype(np.int64)


def _intervals(size: int, shares: Array, alpha: float) -> tuple[Array, Array]:
    """Counts with both binomial tails above alpha / 2: [bins] lowest and highest."""
    n = np.arange(size + 1)[:, np.newaxis]
    at_least = np.where(n > 0, bdtrc(np.maximum(n - 1, 0), size, shares), 1.0)
    at_most = 1.0 - bdtrc(n, size, shares)
    inside = (at_least > alpha / 2) & (at_most > alpha / 2)
    return inside.argmax(axis=0), size - inside[::-1].argmax(axis=0)


def _chosen(ranks: dict[str, Array], labels: Sequence[str] | str | None) -> list[str]:
    if labels is None:
        return list(ranks)
    wanted = [labels] if isinstance(labels, str) else list(labels)
    if not wanted:
        raise ConfigurationError(
            expected="at least one label in `labels`", got="an empty list", fix="leave it out to see all"
        )
    chosen: list[str] = []
    for name in wanted:
        found = [label for label in ranks if name in (label, label.partition("[")[0])]
        if not found:
            known = [*(label.partition("[")[0] for label in ranks), *ranks]
            raise ConfigurationError(
                expected="labels of ranks, or variables", got=repr(name), fix=suggestion(name, known)
            )
        chosen += [label for label in found if label not in chosen]
    return chosen


def _across(number: int) -> int:
    return 3 if number in (3, 5, 6, 9) else min(number, 4)


def _new_axes(plt: Any, number: int) -> Array:
    across = _across(number)
    down = -(-number // across)
    size = (max(1.75 * across + 0.5, 3.2), 1.55 * down + 0.6)
    _, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis in grid.ravel()[number:]:
        axis.remove()
    return grid.ravel()[:number]


def _given_axes(axes: Any, shown: list[str]) -> Array:
    given = np.ravel(np.asarray(axes, dtype=object))
    if given.size != len(shown):
        raise ConfigurationError(
            expected=f"one of `axes` for each of the {len(shown)} labels",
            got=f"{given.size}",
            fix="choose as many with `labels`, or leave `axes` out",
        )
    return given


def _first_in_row(axis: Any) -> bool:
    return bool(axis.get_subplotspec().is_first_col())


def _same_height(grid: Array) -> None:
    """One scale for all panels, so that they can be compared, unless it would flatten most of them."""
    limits = np.array([axis.get_ylim() for axis in grid])
    flattened = np.ptp(limits, axis=1).max() > 2.0 * np.ptp(limits, axis=1).min()
    for axis in grid:
        if flattened:
            axis.tick_params(labelleft=True)
        else:
            axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())


def _notes(calibration: Any, kind: str, coverage: float, total: int, shown: int) -> list[str]:
    size = len(next(iter(calibration.ranks.values())))
    of = "uniform ranks stay inside throughout" if kind == "ecdf" else "uniform ranks stay inside in all bins"
    least = "" if kind == "ecdf" else "at least "
    return [
        f"first {shown} of {total} labels" if shown < total else "",
        f"{size:,} simulations",
        "p: test of the ECDF" if kind == "histogram" else "",
        f"grey: {of} with probability {least}{100 * coverage:g} %, for one label alone",
    ]
