"""Figures of draws and of training. Matplotlib is imported when a figure is asked for; its settings stay untouched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neural_vb import _checks, drawing, smoothing
from neural_vb._text import a_kind, suggestion
from neural_vb.drawing import DRAWS, INK, REFERENCE, SHADE, THIRD
from neural_vb.draws import columns
from neural_vb.errors import ConfigurationError, DataError
from neural_vb.smoothing import Limits

MAX_MARGINALS = 40
MIN_CONTOURED = 20  # fewer draws have no region of highest density worth a line

Columns = dict[str, np.ndarray]


def plot_training(history: Any) -> Any:
    """Plot how training went: ELBO, critic accuracy, gradient norms and the learning rate, against the step.

    Args:
        history: an object with arrays [T] `step`, `elbo` and `elbo_standard_error` (nats), `critic_accuracy`,
            `sampler_gradient_norm`, `critic_gradient_norm`, `contrast_gradient_norm` and `rate` (a share of the first
            one), and `decay_start`, the step at which the rate started to fall, or None.

    Returns:
        A matplotlib `Figure`. Values that are not finite leave gaps. The ELBO's axis fits the last four fifths of the
        run; a note says what lies below it. Of a fit that was met at the warm start it has words alone.

    Raises:
        DataError: when the history is empty.
        MissingDependencyError: when matplotlib is not installed.
    """
    step = np.asarray(history.step, np.float64)
    if not step.size:
        raise DataError(
            expected="a training history with records",
            got="none: no window of steps came to its end",
            fix="train for at least one step: fit(..., start=posterior)",
        )
    if not step[-1]:
        return _untrained(history)
    with drawing.style() as plt:
        ratios = {"height_ratios": [3, 2, 2, 1]}
        figure, axes = plt.subplots(4, 1, figsize=(6.5, 6.5), sharex=True, layout="constrained", gridspec_kw=ratios)
        _plot_elbo(axes[0], step, history)
        _plot_accuracy(axes[1], step, history)
        _plot_gradients(axes[2], step, history)
        rate = np.asarray(history.rate, np.float64)
        axes[3].plot(step, rate, color=INK, **drawing.marker(step))
        axes[3].set(ylabel="relative\nrate", xlabel="step", ylim=(0, 1.08))
        for axis in axes:
            drawing.finish(axis)
            if history.decay_start is not None:
                axis.axvspan(history.decay_start, max(step[-1], history.decay_start), color=SHADE, zorder=0, lw=0)
        if step.size > 1:
            axes[0].set_xlim(min(0, step[0]), step[-1])
        axes[3].set_yticks([0, 0.5, 1])
        axes[0].ticklabel_format(axis="y", useOffset=False)
        if history.decay_start is not None:
            late = history.decay_start > 0.6 * step[-1]
            at = max(step[-1], history.decay_start) if late else max(history.decay_start, step[0])
            text = axes[0].text(at, 1.02, "rate decays", ha="right" if late else "left", color=INK, fontsize=8)
            text.set_transform(axes[0].get_xaxis_transform())
        figure.align_ylabels(axes)
    return figure


def plot_pair(
    draws: Any,
    *,
    reference: Any = None,
    log_density: Callable[[np.ndarray], Any] | None = None,
    var_names: Sequence[str] | str | None = None,
    max_variables: int = 6,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """Plot all pairs of variables: marginal densities on the diagonal, points and contours below it.

    The contours enclose the regions of highest density with 50 % and 90 % of the probability.

    Args:
        draws: structure of arrays, each [S, *event]; or one array [S, D].
        reference: draws to compare with, of the same names; their number may differ.
        log_density: the true log density (nats, up to a constant) of exactly two variables, [n, 2] -> [n].
        var_names: variables, or elements such as ``theta[0]``, in the order wanted.
        max_variables: if there are more, the first ones are shown and the figure says so.
        labels: variable or element -> axis label, for example ``{"tau": "τ (points)"}``.

    Returns:
        A matplotlib `Figure`. Limits follow the bulk of the draws; a note gives the share that lies beyond them.

    Raises:
        DataError: when there is nothing to plot, or the reference lacks a variable.
        ConfigurationError: when a name is unknown, or `log_density` is given and the variables are not two.
        MissingDependencyError: when matplotlib is not installed.
    """
    shown, others, notes = _select(draws, reference, var_names, max_variables)
    names, count = _labelled(shown, labels), len(shown)
    if log_density is not None and count != 2:
        raise ConfigurationError(
            expected="exactly two variables to draw `log_density` for",
            got=f"{count}: {', '.join(shown)}",
            fix="choose two with `var_names`, or leave `log_density` out",
        )
    limits = _limits(shown, others)
    keys, x_limits = list(shown), list(limits.values())
    with drawing.style() as plt:
        size = max(1.65 * count, 2.6) + 0.6
        figure, grid = plt.subplots(count, count, figsize=(size, size), squeeze=False, layout="constrained")
        for row, column in np.ndindex(count, count):
            axis, x = grid[row, column], keys[column]
            if column > row:
                axis.remove()
                continue
            if row == column:
                drawing.diagonal(axis, shown[x], others.get(x), limits[x])
            else:
                _below(axis, (x, keys[row]), shown, others, limits)
            axis.set_xlim(*limits[x])
            other = None if row == column else shown[keys[row]]
            drawing.finish(axis, ticks=3, x=shown[x], y=other, values=row != column)
            axis.tick_params(labelleft=column == 0, labelbottom=row == count - 1)
            if column == 0 and row > 0:
                axis.set_ylabel(names[keys[row]])
            if row == count - 1:
                axis.set_xlabel(names[x])
        if count > 1:
            figure.align_ylabels(grid[1:, 0])
        if log_density is not None:
            axis, pair = grid[1, 0], np.result_type(*shown.values())
            xs, ys, density = smoothing.density_on_grid(log_density, x_limits[0], x_limits[1], pair)
            drawing.contours(axis, xs, ys, density / density.sum(), INK, linestyles="dashed")
        drawing.legend(figure, reference=bool(others), exact=log_density is not None)
        meaning = "contours: 50 % and 90 % of the probability" if count > 1 else ""
        drawing.notes(figure, [*notes, meaning, _beyond_note(shown, limits)])
    return figure


def plot_marginals(draws: Any, *, reference: Any = None, var_names: Sequence[str] | str | None = None) -> Any:
    """Plot the marginal density of every variable with its mean and its central 50 % and 94 % intervals.

    Args:
        draws: structure of arrays, each [S, *event]; or one array [S, D].
        reference: draws to compare with, of the same names; their number may differ.
        var_names: variables, or elements such as ``theta[0]``, in the order wanted. At most 40 elements are shown.

    Returns:
        A matplotlib `Figure`. Limits follow the bulk of the draws; a note gives the share that lies beyond them.

    Raises:
        DataError: when there is nothing to plot, or the reference lacks a variable.
        ConfigurationError: when a name is unknown.
        MissingDependencyError: when matplotlib is not installed.
    """
    shown, others, notes = _select(draws, reference, var_names, MAX_MARGINALS)
    limits = _limits(shown, others)
    across = min(len(shown), 4 if len(shown) != 3 else 3)
    down = -(-len(shown) // across)
    with drawing.style() as plt:
        figure, grid = plt.subplots(
            down, across, figsize=(max(1.9 * across, 3.4), 1.6 * down + 0.5), squeeze=False, layout="constrained"
        )
        for axis in grid.ravel()[len(shown) :]:
            axis.remove()
        for axis, (label, column) in zip(grid.ravel(), shown.items(), strict=False):
            top = drawing.diagonal(axis, column, others.get(label), limits[label])
            drawing.interval(axis, column, -0.10 * top, DRAWS)
            if others:
                drawing.interval(axis, others[label], -0.22 * top, REFERENCE)
            axis.set(xlim=limits[label], xlabel=label, ylim=((-0.32 if others else -0.2) * top, 1.08 * top))
            drawing.finish(axis, ticks=3, x=column, values=False)
        drawing.legend(figure, reference=bool(others))
        drawing.notes(figure, [*notes, "point: mean; bars: 50 % and 94 % intervals", _beyond_note(shown, limits)])
    return figure


def plot_density(
    log_density: Callable[[np.ndarray], Any],
    draws: Any,
    *,
    extent: tuple[float, float, float, float] | None = None,
    title: str | None = None,
) -> Any:
    """Plot a two-dimensional density beside a histogram of draws, in the same axes and on the same colour scale.

    The lines on both sides enclose the exact density's regions of highest density with 50 % and 90 % of its
    probability. The density is normalised over the axes shown.

    Args:
        log_density: the log density (nats, up to a constant), [n, 2] -> [n]; called with the dtype of the draws.
        draws: [S, 2], or a structure with two elements.
        extent: left, right, bottom, top of the axes; the bulk of the draws when None.
        title: heading of the figure.

    Returns:
        A matplotlib `Figure`; a note gives the share of draws beyond the axes.

    Raises:
        DataError: when the draws are not two-dimensional, or the density has the wrong shape, is infinite, or zero
            everywhere.
        ConfigurationError: when `extent` is not left < right, bottom < top.
        MissingDependencyError: when matplotlib is not installed.
    """
    shown = columns(draws)
    if len(shown) != 2:
        raise DataError(
            expected="two-dimensional draws beside a two-dimensional density",
            got=f"{len(shown)} variables: {', '.join(list(shown)[:6])}",
            fix="use plot_pair with two `var_names`",
        )
    (x_name, x), (y_name, y) = shown.items()
    limits = _limits(shown, {}) if extent is None else dict(zip(shown, smoothing.limits(extent), strict=True))
    x_limits, y_limits = limits[x_name], limits[y_name]
    xs, ys, density = smoothing.density_on_grid(log_density, x_limits, y_limits, np.result_type(x, y))
    area = (xs[0, 1] - xs[0, 0]) * (ys[1, 0] - ys[0, 0])
    mass = density / density.sum()
    bins = int(np.clip(1.6 * x.size ** (1 / 3), 15, 120))
    edges = [np.linspace(*lim, bins + 1) for lim in (x_limits, y_limits)]
    counts, *_ = np.histogram2d(x, y, edges)
    drawn = counts.T / (x.size * (edges[0][1] - edges[0][0]) * (edges[1][1] - edges[1][0]))
    with drawing.style() as plt:
        ratio = (y_limits[1] - y_limits[0]) / (x_limits[1] - x_limits[0])
        equal = 0.6 < ratio < 1.6  # a ring is to look round
        size = (7.0, 2.8 * ratio + 1.2) if equal else (7.0, 3.6)
        figure, axes = plt.subplots(1, 2, figsize=size, sharex=True, sharey=True, layout="constrained")
        shared: dict[str, Any] = {"cmap": "Blues", "vmin": 0.0, "vmax": 1.2 * (mass / area).max(), "rasterized": True}
        image = axes[0].pcolormesh(xs, ys, mass / area, shading="gouraud", **shared)
        axes[1].pcolormesh(*edges, drawn, **shared)
        for axis, heading in zip(axes, ("density", f"{x.size:,} draws"), strict=True):
            drawing.contours(axis, xs, ys, mass, INK, linewidths=0.7)
            axis.set(xlim=x_limits, ylim=y_limits, xlabel=x_name, title=heading)
            drawing.finish(axis)
            axis.set_aspect("equal" if equal else "auto")
        axes[0].set_ylabel(y_name)
        bar = figure.colorbar(image, ax=axes, extend="max", shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, labelsize=8)
        bar.ax.locator_params(nbins=4)
        if title:
            figure.suptitle(title, fontsize=11)
        drawing.notes(figure, ["lines: 50 % and 90 % of the density", _beyond_note(shown, limits)])
    return figure


def _untrained(history: Any) -> Any:
    """Words instead of axes with nothing in them."""
    numbers = getattr(history, "warm_start", {})
    shown = {"bound": ("lower bound", 4), "divergence": ("divergence from the target", 2)}
    told = [f"{label} {numbers[name]:.{n}g} nats" for name, (label, n) in shown.items() if name in numbers]
    return drawing.words("met at the warm start: nothing was trained", "; ".join(told).replace("-", "−"))


def _plot_elbo(axis: Any, step: np.ndarray, history: Any) -> None:
    elbo = np.asarray(history.elbo, np.float64)
    error = np.asarray(history.elbo_standard_error, np.float64)
    axis.plot(step, elbo, color=DRAWS, **drawing.marker(step))
    axis.fill_between(step, elbo - error, elbo + error, color=DRAWS, alpha=0.25, lw=0, label="± 1 standard error")
    axis.set_ylabel("ELBO (nats)")
    finite = np.flatnonzero(np.isfinite(elbo))
    if not finite.size:
        axis.text(0.5, 0.5, "no finite ELBO", transform=axis.transAxes, ha="center", color=INK)
        return
    late = finite[finite >= min(elbo.size // 5, finite[-1])]
    around = np.nan_to_num(error[late], posinf=0.0)
    lower, upper = smoothing.shown_range(elbo[late] - around, elbo[late] + around)
    axis.set_ylim(lower, upper)
    last = finite[-1]
    # Two digits of the error, and no more of the value than it supports.
    digits = int(np.clip(1 - np.floor(np.log10(error[last])), 2, 6)) if 0 < error[last] < np.inf else 2
    text = f"last {elbo[last]:.{digits}f}" + (f" ± {error[last]:.{digits}f}" if np.isfinite(error[last]) else "")
    lowest = elbo[finite].min()
    if lowest < lower:
        text += f"   (lowest {lowest:.4g}, below the axis)"
    if finite.size < elbo.size:
        text += f"   ({elbo.size - finite.size} values not finite)"
    low = elbo[last] > 0.5 * (lower + upper)  # the words go where the curve does not end
    axis.text(
        0.99, 0.06 if low else 0.86, text.replace("-", "−"), transform=axis.transAxes, ha="right", fontsize=8, color=INK
    )
    corner = {"loc": "lower right", "bbox_to_anchor": (1, 0.12)} if low else {"loc": "upper right"}
    axis.legend(**({"bbox_to_anchor": (1, 0.86)} | corner), fontsize=8)


def _plot_accuracy(axis: Any, step: np.ndarray, history: Any) -> None:
    accuracy = np.asarray(history.critic_accuracy, np.float64)
    axis.axhline(0.5, color=INK, lw=0.8, ls="--", label="chance: cannot tell")
    axis.plot(step, accuracy, color=DRAWS, **drawing.marker(step))
    finite = accuracy[np.isfinite(accuracy)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.5, 0.5)
    axis.set(ylabel="critic accuracy", ylim=(min(0.44, low - 0.02), max(0.6, high + 0.03)))
    _legend_above(axis)


def _legend_above(axis: Any) -> None:
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.97), borderaxespad=0, ncols=3, fontsize=8)


def _plot_gradients(axis: Any, step: np.ndarray, history: Any) -> None:
    parts = {"sampler": (DRAWS, "-"), "critic": (REFERENCE, "--"), "contrast": (THIRD, "-.")}
    norms: list[np.ndarray] = []
    for part, (color, style) in parts.items():
        norm = np.asarray(getattr(history, f"{part}_gradient_norm"), np.float64)
        norm = np.where(np.isfinite(norm) & (norm > 0), norm, np.nan)
        if np.isfinite(norm).any():
            axis.plot(step, norm, color=color, ls=style, lw=1.0, label=part, **drawing.marker(step))
            norms.append(norm)
    axis.set_ylabel("gradient norm")
    if norms:
        axis.set_yscale("log")
        low, high = 10 ** np.floor(np.log10(np.nanmin(norms))), 10 ** np.ceil(np.log10(np.nanmax(norms)))
        axis.set_ylim(low, high if high > low else 10 * low)
        _legend_above(axis)
    else:
        axis.text(0.5, 0.5, "no gradients recorded", transform=axis.transAxes, ha="center", color=INK)


def _select(draws: Any, reference: Any, var_names: Any, maximum: int) -> tuple[Columns, Columns, list[str]]:
    """The columns to show, those of the reference, and notes on what is left out."""
    _checks.whole("max_variables", maximum)
    every = columns(draws, var_names=var_names)
    shown = dict(list(every.items())[:maximum])
    left_out = len(every) - len(shown)
    notes = [f"first {len(shown)} of {len(every)} variables"] if left_out else []
    for label, column in shown.items():
        if not np.isfinite(column).any():
            raise DataError(expected=f"finite draws of {label!r}", got="none", fix="leave it out of `var_names`")
    others: Columns = {}
    if reference is not None:
        known = columns(reference)
        for label in shown:
            if label not in known:
                raise DataError(
                    expected=f"the reference to have {label!r}, as the draws do",
                    got=f"only {', '.join(list(known)[:8])}{', …' if len(known) > 8 else ''}",
                    fix=f"rename its variables: {suggestion(label, known)}",
                )
            others[label] = known[label]
            if not np.isfinite(known[label]).any():
                raise DataError(expected=f"a reference with finite draws of {label!r}", got="none", fix="leave it out")
    return shown, others, notes


def _labelled(shown: Columns, labels: Mapping[str, str] | None) -> dict[str, str]:
    """Axis labels: an element's own, else its variable's with the index before the unit, else its name."""
    _checks.mapping("labels", labels, '{"tau": "τ (points)"}')
    labels = dict(labels or {})
    variables = {label.partition("[")[0] for label in shown}
    for name, text in labels.items():
        if not isinstance(text, str):
            raise ConfigurationError(
                expected=f"`labels` as text for {name!r}", got=a_kind(text), fix=f'pass {{{name!r}: "{text}"}}'
            )
        if name not in shown and name not in variables:
            raise ConfigurationError(
                expected="`labels` for variables that are shown", got=repr(name), fix=suggestion(name, shown)
            )
    named = {}
    for label in shown:
        variable, bracket, index = label.partition("[")
        base, space, unit = labels.get(variable, variable).partition(" (")
        named[label] = labels.get(label, base + bracket + index + space + unit)
    return named


def _limits(shown: Columns, others: Columns) -> dict[str, Limits]:
    return {
        label: smoothing.shown_range(column, *([others[label]] if others else [])) for label, column in shown.items()
    }


def _beyond_note(shown: Columns, limits: dict[str, Limits]) -> str:
    """What the axes leave out, the variables with most of it first."""
    shares = {label: smoothing.beyond(column, limits[label]) for label, column in shown.items()}
    most = sorted((label for label in shares if shares[label]), key=shares.__getitem__, reverse=True)
    listed = ", ".join(f"{100 * shares[label]:.2g} % of {label}" for label in most[:3])
    return f"beyond the axes: {listed}{', …' if len(most) > 3 else ''}" if most else ""


def _below(axis: Any, pair: tuple[str, str], shown: Columns, others: Columns, limits: dict[str, Limits]) -> None:
    x, y = pair
    drawing.cloud(axis, shown[x], shown[y])
    for source, color in ((shown, DRAWS), (others, REFERENCE)):
        if not source or any(smoothing.is_discrete(source[name]) for name in pair):
            continue
        if np.count_nonzero(np.isfinite(source[x]) & np.isfinite(source[y])) >= MIN_CONTOURED:
            drawing.contours(axis, *smoothing.mass_2d(source[x], source[y], limits[x], limits[y]), color)
    axis.set_ylim(*limits[y])
