"""Error against wall time, one panel per class of problems; one figure for the documentation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.methods import METHODS, OURS
from benchmarks.problem import PANELS
from benchmarks.problems import PROBLEMS

FILE = "benchmarks.png"
MARKERS = "*os^vDP<X>"


def points(
    distances: Sequence[Mapping[str, Any]], times: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Panel -> method -> (seconds, distance over the floor of exact samples) of each problem that has both."""
    seconds = {row["problem"]: row["seconds"] for row in times}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in distances:
        if row["floor"] is None:
            continue
        for method, distance in row["sw1"].items():
            took = seconds.get(row["problem"], {}).get(method)
            if distance and took:
                panel = found.setdefault(PROBLEMS[row["problem"]].panel, {})
                panel.setdefault(method, []).append((took, distance / row["floor"].mean))
    return found


def draw(found: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path) -> None:
    """Write the figure: a small mark per problem, a large one at a method's geometric mean over them."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    panels = [panel for panel in PANELS if panel in found]
    figure = Figure(figsize=(4.2 * min(len(panels), 3), 3.8 * math.ceil(len(panels) / 3) + 0.9), layout="constrained")
    axes = figure.subplots(math.ceil(len(panels) / 3), min(len(panels), 3), squeeze=False).ravel()
    methods = [method for method in METHODS if any(method in found[panel] for panel in panels)]
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=False):
        for method in methods:
            if method in found[panel]:
                handles[method] = _scatter(axis, method, found[panel][method])
        axis.axhline(1.0, color="0.6", linewidth=1.0, zorder=0)
        axis.set(xscale="log", yscale="log", title=panel, xlabel="seconds to the end of the fit")
        for side in (
            axis.xaxis,
            axis.yaxis,
        ):  # plain numbers at 1, 2 and 5: Matplotlib's own labels run into each other
            side.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            side.set_major_formatter("{x:g}")
            side.set_minor_formatter(NullFormatter())
        axis.grid(True, which="both", color="0.93", linewidth=0.6)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[::3]:
        axis.set_ylabel("sliced Wasserstein / that of exact draws")
    figure.legend(
        [handles[method] for method in methods], methods, loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _scatter(axis: Any, method: str, of: Sequence[tuple[float, float]]) -> Any:
    index = list(METHODS).index(method)
    colour = "black" if method == OURS else f"C{(index - 1) % 10}"
    marker = MARKERS[index % len(MARKERS)]
    centre = [math.exp(statistics.fmean(math.log(point[i]) for point in of)) for i in (0, 1)]
    axis.scatter(*zip(*of, strict=True), s=14, color=colour, marker=marker, alpha=0.35, linewidths=0)
    return axis.scatter(*centre, s=110, color=colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=3)
