"""The marks that figures are made of, in one style. Matplotlib is imported when a figure is asked for."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from neural_vb import smoothing
from neural_vb.errors import MissingDependencyError

DRAWS, REFERENCE, THIRD, INK, SHADE = "#0072B2", "#D55E00", "#009E73", "#333333", "#EEEEEE"  # Okabe and Ito's colours
PROBABILITIES = (0.5, 0.9)
MAX_POINTS = 2000  # a cloud of more only gets darker


@contextlib.contextmanager
def style() -> Iterator[Any]:
    """Yield pyplot under the figures' own settings, which end with the block."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            expected="matplotlib to draw figures", got="no module named matplotlib", fix="pip install matplotlib"
        ) from error
    settings: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9, "axes.linewidth": 0.6, "lines.linewidth": 1.3}
    settings |= {"figure.dpi": 120, "axes.edgecolor": "#888888", "legend.frameon": False}
    with plt.rc_context(settings):
        yield plt


def words(heading: str, text: str) -> Any:
    """A low figure of two lines, where there is nothing to draw."""
    with style() as plt:
        figure = plt.figure(figsize=(6.5, 1.3), layout="constrained")
        figure.text(0.5, 0.66, heading, ha="center", va="center", fontsize=11)
        figure.text(0.5, 0.36, text, ha="center", va="center", color=INK)
    return figure


def finish(axis: Any, ticks: int = 5, *, x: Any = None, y: Any = None, values: bool = True) -> None:
    """Give light spines and few ticks, at the values of discrete draws `x` and `y`, upright only with `values`.

    They are set on the axis, because ticks are made when the figure is drawn, after `style` has ended.
    """
    from matplotlib.ticker import MaxNLocator

    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(length=2.5, width=0.6, labelsize=8, color="#888888")
    for one, sample in ((axis.xaxis, x), (axis.yaxis, y)):
        discrete = sample is not None and smoothing.is_discrete(sample)
        places = np.unique(sample[np.isfinite(sample)]) if discrete else np.array([])
        if 0 < places.size <= 5:
            one.set_ticks(places.astype(np.float64))
        elif one.get_scale() == "linear":
            one.set_major_locator(MaxNLocator(nbins=ticks, min_n_ticks=2, steps=[1, 2, 2.5, 5, 10]))
    if not values:
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)


def marker(step: np.ndarray) -> dict[str, Any]:
    """A single record needs a dot, for a line of one point is invisible."""
    return {"marker": "o", "markersize": 3} if step.size == 1 else {}


def diagonal(axis: Any, sample: np.ndarray, reference: np.ndarray | None, limits: tuple[float, float]) -> float:
    """Draw one marginal, and the reference's as a line; return the height of the highest mark."""
    discrete = smoothing.is_discrete(sample)
    aside = 0.0 if reference is None else 0.1
    top = _frequencies(axis, sample, DRAWS, -aside) if discrete else _curve(axis, sample, limits, DRAWS, fill=True)
    if reference is not None and discrete:
        top = max(top, _frequencies(axis, reference, REFERENCE, aside))
    elif reference is not None:
        top = max(top, _curve(axis, reference, limits, REFERENCE, fill=False))
    axis.set_ylim(0, 1.08 * top)
    return top


def _curve(axis: Any, sample: np.ndarray, limits: tuple[float, float], color: str, *, fill: bool) -> float:
    points, density = smoothing.density_1d(sample, limits)
    axis.plot(points, density, color=color, lw=1.2)
    if fill:
        axis.fill_between(points, density, color=color, alpha=0.2, lw=0)
    return float(density.max())


def _frequencies(axis: Any, sample: np.ndarray, color: str, shift: float) -> float:
    """Stems for draws of few values, shifted by a share of the gap between them for two samples side by side."""
    values, counts = np.unique(sample[np.isfinite(sample)].astype(np.float64), return_counts=True)
    shares = counts / sample.size
    gap = np.diff(values).min() if values.size > 1 else 0.0
    axis.vlines(values + shift * gap, 0, shares, color=color, lw=2.5)
    return float(shares.max())


def cloud(axis: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Draw the first draws as points: they are independent, so the first are as good as any."""
    size = min(x.size, MAX_POINTS)
    axis.plot(x[:size], y[:size], ".", color=DRAWS, ms=2.2, mew=0, alpha=0.3 if size > 200 else 0.8, rasterized=True)


def contours(axis: Any, xs: np.ndarray, ys: np.ndarray, mass: np.ndarray, color: str, **options: Any) -> None:
    """Enclose the regions of highest density with half and nine tenths of the probability."""
    levels = smoothing.hdr_levels(mass, PROBABILITIES)
    if levels and levels[-1] < mass.max():
        axis.contour(xs, ys, mass, levels=levels, colors=color, **{"linewidths": 1.1, **options})


def interval(axis: Any, sample: np.ndarray, height: float, color: str) -> None:
    """Draw the mean and the central 50 % and 94 % intervals at a height."""
    finite = sample[np.isfinite(sample)].astype(np.float64)
    low, lower, upper, high = np.quantile(finite, [0.03, 0.25, 0.75, 0.97])
    axis.hlines(height, low, high, color=color, lw=1.0, capstyle="butt")
    axis.hlines(height, lower, upper, color=color, lw=3.0, capstyle="butt")
    axis.plot(finite.mean(), height, "o", ms=4.5, mfc="white", mec=color, mew=1.1)


def legend(figure: Any, *, reference: bool, exact: bool = False) -> None:
    """Name the colours, above the panels, when there is more than one."""
    from matplotlib.lines import Line2D

    if not (reference or exact):
        return
    handles = [Line2D([], [], color=DRAWS, label="draws")]
    if reference:
        handles.append(Line2D([], [], color=REFERENCE, label="reference"))
    if exact:
        handles.append(Line2D([], [], color=INK, ls="--", label="exact density"))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def notes(figure: Any, texts: list[str]) -> None:
    """Write what a reader must know in small print below the panels."""
    text = "; ".join(text for text in texts if text)
    if text:
        lines = textwrap.wrap(text, int(16.5 * figure.get_figwidth()))
        figure.supxlabel("\n".join(lines), fontsize=7.5, color="#555555")


def add_note(figure: Any, text: str) -> Any:
    """The figure, with one more text in its small print."""
    if text:
        before = figure.get_supxlabel()
        notes(figure, [before.replace("\n", " "), text.replace("_", " ")])
    return figure
