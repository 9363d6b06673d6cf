"""Densities of draws on grids, and robust ranges, for pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy import ndimage

from neural_vb._text import a_kind, first_line, shown
from neural_vb.errors import ConfigurationError, DataError

GRID_1D = 512
GRID_2D = 160
ABRUPT = 0.25  # of a density's bulk, at its end: a bound
FEW = 500  # draws that do not show where a density ends

Limits: TypeAlias = tuple[float, float]


def shown_range(*samples: np.ndarray) -> Limits:
    """Return limits that hold the bulk of every sample: all of it where tails are light, never stretched by heavy ones.

    Args:
        samples: arrays [S] of draws; those that are not finite are ignored.

    Returns:
        lower < upper, in the units of the draws, a few per cent beyond what is shown. (0, 1) without finite draws.
    """
    finite = [sample[np.isfinite(sample)].astype(np.float64) for sample in samples]
    pairs = [_bulk(sample) for sample in finite if sample.size] or [(0.0, 1.0)]
    lower, upper = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    margin = 0.04 * (upper - lower) or 0.5 * max(abs(lower), 1.0)
    if all(sample.size < FEW and not is_discrete(sample) for sample in finite):  # room for the kernel
        margin = max([margin, *(2.5 * bandwidth_1d(sample) for sample in finite if sample.size)])
    return lower - margin, upper + margin


def _bulk(sample: np.ndarray) -> Limits:
    """Limits that a Gaussian sample of 10,000 just fills, but at most ten scales beyond the central 90 %."""
    if is_discrete(sample):
        values = np.unique(sample)
        gap = float(np.diff(values).min()) if values.size > 1 else 0.0
        return float(values[0]) - 0.5 * gap, float(values[-1]) + 0.5 * gap
    low, fifth, middle, ninety_fifth, high = np.quantile(sample, [0.005, 0.05, 0.5, 0.95, 0.995])
    reach = 10 * bulk_scale(sample)
    if reach == 0:
        return float(sample.min()), float(sample.max())
    lower = max(low - 0.6 * (middle - low), fifth - reach, sample.min())
    upper = min(high + 0.6 * (high - middle), ninety_fifth + reach, sample.max())
    return float(lower), float(upper)


def bulk_scale(sample: np.ndarray) -> float:
    """Return the length of the shortest set (not interval) that holds half of the draws, as a Gaussian's sd.

    It measures the width of the modes, not their distance, and no tail: so it sets bandwidths and ranges. The set is
    made of the shortest of about sqrt(S) stretches between order statistics.
    """
    blocks = max(2, round(sample.size**0.5))
    lengths = np.sort(np.diff(np.quantile(sample, np.linspace(0, 1, blocks + 1))))
    return float(lengths[: (blocks + 1) // 2].sum()) / 1.349


def is_discrete(sample: np.ndarray) -> bool:
    """Whether draws take at most 40 different values, each of them often (a count or a label, or a constant)."""
    finite = sample[np.isfinite(sample)]
    values = np.unique(finite)
    return values.size <= 40 and (values.size * 5 <= finite.size or values.size == 1)


def bandwidth_1d(sample: np.ndarray) -> float:
    """Return Silverman's bandwidth with `bulk_scale` for the scale, so that far modes are not smeared."""
    return 0.9 * bulk_scale(sample) * sample.size**-0.2


def density_1d(sample: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Estimate a density on a grid by a Gaussian kernel, reflected where the draws or the limits end.

    The kernel is wider where draws are few (Abramson, Annals of Statistics 10, 1982).

    Args:
        sample: [S].
        limits: the grid's ends; draws beyond them count in the normalisation but are not shown.

    Returns:
        Points [G] and densities [G], per unit of the draws; they integrate to the share of draws within the limits.
    """
    finite = sample[np.isfinite(sample)].astype(np.float64)
    bandwidth = bandwidth_1d(finite)
    counts, edges = np.histogram(finite, GRID_1D, _ends(finite, limits, bandwidth))
    step = edges[1] - edges[0]
    return (edges[1:] + edges[:-1]) / 2, _smooth(counts, [bandwidth / step]) / (step * finite.size)


def mass_2d(
    x: np.ndarray, y: np.ndarray, x_limits: Limits, y_limits: Limits
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate the probability of the cells of a grid by a Gaussian kernel, along a strong correlation.

    Args:
        x, y: [S].
        x_limits, y_limits: the grid's ends; draws beyond them count in the normalisation.

    Returns:
        X, Y and the probability of the cell around each point, all [G, G]; equal cells, so it is a density too.
    """
    keep = np.isfinite(x) & np.isfinite(y)
    pairs = np.stack([x[keep], y[keep]], -1).astype(np.float64)
    size, box = len(pairs), np.array([x_limits, y_limits])
    pairs = pairs[np.all((pairs >= box[:, 0]) & (pairs <= box[:, 1]), -1)]
    transform, centre = _decorrelation(pairs), pairs.mean(0)
    sheared = not np.array_equal(transform, np.eye(2))
    turned = (pairs - centre) @ np.linalg.inv(transform).T
    bandwidths = [0.55 * bulk_scale(column) * size ** (-1 / 6) for column in turned.T]
    everywhere = [(-np.inf, np.inf)] * 2
    limits = everywhere if sheared else box - centre[:, None]
    ends = [_ends(*each, always_pad=sheared) for each in zip(turned.T, limits, bandwidths, strict=True)]
    counts, *edges = np.histogram2d(turned[:, 0], turned[:, 1], GRID_2D, ends)
    widths = [bandwidth / (axis[1] - axis[0]) for bandwidth, axis in zip(bandwidths, edges, strict=True)]
    grid = np.stack(np.meshgrid(*[(axis[1:] + axis[:-1]) / 2 for axis in edges], indexing="ij"), -1)
    points = grid @ transform.T + centre
    return points[..., 0], points[..., 1], _smooth(counts, widths) / size


def _ends(column: np.ndarray, limits: Limits, bandwidth: float, always_pad: bool = False) -> Limits:
    """Where a grid ends: at the outermost draw where that lies at a bound, else three bandwidths beyond it."""
    ends = []
    # Draws in half a bandwidth at a quarter of the mean density of the half of all draws that lie closest.
    high = ABRUPT * column.size * 0.5 / (1.349 * bulk_scale(column) or 1.0) * bandwidth / 2
    for sign, limit in zip((-1.0, 1.0), limits, strict=True):
        depth = (sign * column).max() - sign * column  # of each draw below the outermost one
        outer = int((depth <= bandwidth / 2).sum())
        inner = int((depth <= bandwidth).sum()) - outer
        # At a bound a density ends abruptly, at a height, which a line through both halves of a bandwidth tells: the
        # foot of a lognormal is as steep as some bounds are, but goes to zero.
        bounded = not always_pad and depth.any() and column.size >= FEW and 1.5 * outer - 0.5 * inner >= max(5, high)
        pad = 0.0 if bounded else 3 * bandwidth or 0.5
        ends.append(min(sign * limit, (sign * column).max() + pad) * sign)
    return ends[0], ends[1]


def _smooth(counts: np.ndarray, widths: list[float]) -> np.ndarray:
    """Gaussian smoothing whose width (in cells) grows, up to double, where density falls below that of the bulk."""
    counts = counts.astype(np.float64)
    pilot = ndimage.gaussian_filter(counts, [2 * width for width in widths], mode="reflect")
    middle = hdr_levels(pilot / max(pilot.sum(), 1.0), (0.5,))
    bulk = middle[0] * pilot.sum() if middle else 1.0
    wanted = np.log(np.clip(bulk / np.maximum(pilot, 1e-9 * bulk), 1, 4)) / 2
    factors = np.linspace(0, np.log(2), 4)
    smooth = np.zeros_like(counts)
    for log_factor in factors:  # each cell's draws are shared between the two factors next to what it wants
        share = np.maximum(1 - np.abs(wanted - log_factor) / factors[1], 0)
        sigma = [np.exp(log_factor) * width for width in widths]
        smooth += ndimage.gaussian_filter(share * counts, sigma, mode="reflect")
    return smooth


def _decorrelation(pairs: np.ndarray) -> np.ndarray:
    """The Cholesky factor where correlation is strong; else the identity, which respects bounds."""
    covariance = np.cov(pairs.T)
    sds = np.sqrt(np.diag(covariance))
    correlation = covariance[0, 1] / (sds[0] * sds[1]) if sds.min() > 0 else 0.0
    if not 0.7 < abs(correlation) < 1 - 1e-9:
        return np.eye(2)
    return np.linalg.cholesky(covariance)


def limits(extent: Any) -> tuple[Limits, Limits]:
    """Those of both axes; ``ConfigurationError`` when it is not (left, right, bottom, top) in order."""
    try:
        values = np.asarray(extent, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (4,) or not np.isfinite(values).all() or values[0] >= values[1] or values[2] >= values[3]:
        raise ConfigurationError(
            expected="`extent` as (left, right, bottom, top) with left < right and bottom < top",
            got=shown(extent),
            fix="for example extent=(-3, 3, -3, 3)",
        )
    left, right, bottom, top = (float(value) for value in values)
    return (left, right), (bottom, top)


def density_on_grid(
    log_density: Callable[[np.ndarray], Any], x_limits: Limits, y_limits: Limits, dtype: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluate a density of pairs at the centres of a grid of cells.

    Args:
        log_density: [n, 2] -> [n], in nats, up to a constant. NaN counts as outside of the support.
        x_limits, y_limits: the grid's ends.
        dtype: of the points, where it is a float; else float64.

    Returns:
        X, Y and the density, which is one at its highest, all [G, G].

    Raises:
        ConfigurationError: when it is no function.
        DataError: when the shape is wrong, or the density is infinite somewhere or zero everywhere.
    """
    if not callable(log_density):
        raise ConfigurationError(
            expected="log_density as a function from points [n, 2] to log densities [n]",
            got=a_kind(log_density),
            fix="pass the function itself; draws come after it in plot_density",
        )
    centres = (np.arange(GRID_2D) + 0.5) / GRID_2D
    xs, ys = np.meshgrid(*[low + (high - low) * centres for low, high in (x_limits, y_limits)])
    points = np.stack([xs.ravel(), ys.ravel()], -1)
    try:
        values = np.array(log_density(points.astype(dtype if np.dtype(dtype).kind == "f" else np.float64)), np.float64)
    except Exception as error:
        got, fix = first_line(error), "call log_density on an array of points [n, 2] yourself to find the line"
        raise DataError(expected="log_density to run on a batch of points", got=got, fix=fix) from error
    if values.shape != (len(points),):
        raise DataError(
            expected=f"a log density of shape [{len(points)}] for points of shape [{len(points)}, 2]",
            got=f"shape {list(values.shape)}",
            fix="return one number per point",
        )
    if np.isposinf(values).any():
        at = tuple(float(part) for part in points[np.argmax(values)])
        raise DataError(expected="a finite log density", got=f"+inf at {at}", fix="move `extent` off the pole")
    values[np.isnan(values)] = -np.inf  # outside of the support, as many densities have it
    if np.isneginf(values).all():
        raise DataError(
            expected="a density above zero somewhere in the axes",
            got="-inf or NaN everywhere",
            fix="change `extent`, or check the draws",
        )
    return xs, ys, np.exp(values - values.max()).reshape(xs.shape)


def hdr_levels(mass: np.ndarray, probabilities: tuple[float, ...]) -> list[float]:
    """Return the density levels whose superlevel sets hold the given probabilities (highest-density regions).

    Args:
        mass: probabilities of cells of equal size, any shape; they may sum to less than one.
        probabilities: in (0, 1).

    Returns:
        One level per probability, rising, without repeats: as `contour` wants them.
    """
    heights = np.sort(mass.ravel())[::-1]
    indices = np.minimum(np.searchsorted(np.cumsum(heights), probabilities), heights.size - 1)
    return sorted({float(level) for level in heights[indices] if level > 0})


def beyond(sample: np.ndarray, limits: Limits) -> float:
    """Return the share of draws that lie outside the limits or are not finite."""
    return float(np.mean(~((sample >= limits[0]) & (sample <= limits[1]))))
