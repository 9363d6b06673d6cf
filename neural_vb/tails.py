"""Where a log density ends: hard bounds of single coordinates, and rays along which it does not fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neural_vb._types import Array, Seed

NUM_RAYS = 32
FALL = 0.05  # nats; less is none
WITHIN, BEYOND = np.array([0.03, 0.3, 1.0]), 2e3  # of the largest number with an exponential, and beyond it
Values = Callable[[Array], Array]


@dataclass(frozen=True)
class Bound:
    """Interval outside which log p is not finite, whatever the other coordinates are.

    Attributes:
        index: of the coordinate.
        low: lower end, -inf without one.
        high: upper end, inf without one.
    """

    index: int
    low: float
    high: float

    def sentence(self, labels: Sequence[str]) -> str:
        """What was seen, for an error message."""
        name = labels[self.index]
        if np.isinf(self.high):
            return f"{name} must be above {self.low:.4g}"
        return f"{name} must be " + (
            f"below {self.high:.4g}" if np.isinf(self.low) else f"between {self.low:.4g} and {self.high:.4g}"
        )

    def advice(self, labels: Sequence[str]) -> str:
        """The bijector that maps R onto the interval."""
        low, high = f"{self.low:.4g}", f"{self.high:.4g}"
        if np.isinf(self.high):
            plain = "tfb.Exp() or tfb.Softplus()"
            chosen = plain if self.low == 0 else f"tfb.Chain([tfb.Shift({low}), tfb.Softplus()])"
        elif np.isinf(self.low):
            chosen = f"tfb.Chain([tfb.Shift({high}), tfb.Scale(-1.), tfb.Softplus()])"
        else:
            chosen = f"tfb.Sigmoid(low={low}, high={high})"
        return f"{chosen} for {labels[self.index]}"


class Rising(NamedTuple):
    """Where a log density does not fall.

    Attributes:
        axes: (coordinate, sign).
        flat: [M, D] directions orthogonal to every gradient.
        num_random: how many of the ``NUM_RAYS`` random rays.
    """

    axes: list[tuple[int, int]]
    flat: Array
    num_random: int


def coordinate_bounds(log_prob: Values, points: Array, values: Array) -> list[Bound]:
    """Coordinates beyond whose ends log p is not finite.

    From two good points one coordinate at a time moves out on a grid of factors two; an end is found by bisection, and
    counts when both points agree on it, because a bound of one coordinate does not depend on the others.

    Args:
        log_prob: [N, D] -> [N].
        points: [N, D].
        values: log p there.
    """
    size, scale = points.shape[1], _scale(points)
    finite = np.flatnonzero(np.isfinite(values))
    bases = points[finite[np.argsort(-values[finite])][:2]]
    steps = scale * 2.0 ** np.arange(-6, 7)
    directions = np.concatenate([np.eye(size), -np.eye(size)])
    grid = bases[:, None, None] + steps[:, None] * directions[:, None]  # [bases, 2 D, steps, D]
    inside = np.isfinite(log_prob(grid.reshape(-1, size)).reshape(grid.shape[:-1]))
    # An end: finite up to some step and nowhere beyond it.
    count = inside.sum(-1)
    ends = (count < len(steps) - 1) & (np.cumprod(inside, axis=-1).sum(-1) == count)
    good = np.where(count > 0, steps[np.maximum(count - 1, 0)], 0.0)
    bad = steps[np.minimum(count, len(steps) - 1)]
    for _ in range(24):
        middle = 0.5 * (good + bad)
        there = bases[:, None] + middle[..., None] * directions
        fine = np.isfinite(log_prob(there.reshape(-1, size)).reshape(middle.shape))
        good, bad = np.where(fine, middle, good), np.where(fine, bad, middle)
    moved = np.einsum("kmd,md->km", bases[:, None] + bad[..., None] * directions, np.abs(directions))
    agreed = ends.all(0) & (np.ptp(moved, axis=0) < 1e-4 * (scale + np.abs(moved).max(0)))
    found = []
    for i in range(size):
        if agreed[i] or agreed[size + i]:
            high = _rounded(moved[0, i], scale) if agreed[i] else np.inf
            low = _rounded(moved[0, size + i], scale) if agreed[size + i] else -np.inf
            if low < high:
                found.append(Bound(i, float(low), float(high)))
    return found


def rising_rays(log_prob: Values, points: Array, values: Array, gradients: Array, seed: Seed) -> Rising:
    """Directions along which the density does not seem to be integrable.

    From the best points rays run out to 1e12 scales. On a random ray log p(r) + D log r must finally fall, or the mass
    in shells of radius r does not; along a coordinate axis, and along a direction that every gradient [N, D] is
    orthogonal to, log p itself must, out to 1e9 scales in the latter case. Values that are NaN or +inf are ignored,
    -inf is a fall.
    """
    size, scale = points.shape[1], _scale(points)
    finite = np.flatnonzero(np.isfinite(values))
    bases = points[finite[np.argsort(-values[finite])][:2]]
    if not len(bases):
        return Rising([], np.zeros((0, size)), 0)
    flat = _null_directions(gradients[finite])
    random = np.random.default_rng(np.abs(np.ravel(seed)).astype(np.int64)).standard_normal((NUM_RAYS, size))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    directions = np.concatenate([np.eye(size), -np.eye(size), flat, random])
    origins = np.repeat(bases[:1], len(directions), axis=0)
    origins[-NUM_RAYS:] = bases[np.arange(NUM_RAYS) % len(bases)]
    radii = np.tile(10.0 ** np.arange(0.0, 12.01), (len(directions), 1))
    # What nearly all gradients are orthogonal to is asked for less far out: beyond, rounding of the steep directions
    # is a fall of its own.
    radii[2 * size : -NUM_RAYS] **= 0.75
    grid = origins[:, None] + (np.sqrt(size) * scale * radii[..., None]) * directions[:, None]
    # Where the three outermost values tell, the ones before them, here zero, are not asked for.
    height = np.zeros(grid.shape[:-1])
    height[:, -3:] = log_prob(grid[:, -3:].reshape(-1, size)).reshape(-1, 3)
    open_ = np.flatnonzero((height[:, -1] != -np.inf) & ~np.isfinite(height[:, -3:]).all(1))
    if len(open_):
        height[open_] = log_prob(grid[open_].reshape(-1, size)).reshape(len(open_), -1)
    height[-NUM_RAYS:] += size * np.log(radii[-NUM_RAYS:])
    rising = np.array([_does_not_fall(h, r) for h, r in zip(height, radii, strict=True)])
    axes = [(int(i % size), 1 if i < size else -1) for i in np.flatnonzero(rising[: 2 * size])]
    return Rising(axes, flat[rising[2 * size : -NUM_RAYS]], int(rising[-NUM_RAYS:].sum()))


def level_ends(
    log_prob: Values, constrain: Callable[[Array], Array], base: Array, *, largest: float
) -> list[tuple[int, int]]:
    """Coordinates (index, sign) towards whose end log p is level as far as constrained numbers go.

    A bijector such as `exp` overflows at some 88, or rounds to zero, long before the radii of :func:`rising_rays`.

    Args:
        log_prob: [N, D] -> [N].
        constrain: [N, D] -> all constrained numbers [N, E].
        base: [D], from where to look.
        largest: number with an exponential, some 86 in single precision and 695 in double.
    """
    size = len(base)
    directions = np.concatenate([np.eye(size), -np.eye(size)])
    others = base * (directions == 0.0)  # the coordinate itself begins at zero, wherever the base is
    before, beyond = constrain(base[None]), constrain(others + BEYOND * directions)
    lost = ((np.isfinite(before) & ~np.isfinite(beyond)) | ((before != 0.0) & (beyond == 0.0))).any(1)
    which = np.flatnonzero(lost)
    if not len(which):
        return []
    grid = others[which] + largest * WITHIN[:, None, None] * directions[which]
    height = log_prob(grid.reshape(-1, size)).reshape(grid.shape[:-1])
    level = np.isfinite(height).all(0) & (height[-1] >= height[0] - FALL)
    return [(int(i % size), 1 if i < size else -1) for i in which[level]]


def _null_directions(gradients: Array) -> Array:
    """[M, D] unit vectors orthogonal to all gradients [N, D], at most four."""
    with np.errstate(over="ignore"):  # a length that overflows is not usable
        length = np.linalg.norm(gradients, axis=1, keepdims=True)
    usable = np.isfinite(length[:, 0]) & (length[:, 0] > 0)
    size = gradients.shape[1]
    if usable.sum() <= size:  # too few to span the space in any case
        return np.zeros((0, size))
    _, strengths, directions = np.linalg.svd(gradients[usable] / length[usable], full_matrices=False)
    return directions[strengths < 1e-5 * strengths[0]][:4]


def _does_not_fall(height: Array, radii: Array) -> bool:
    known = np.flatnonzero(np.isfinite(height))
    # Too little is known when the values end early; log p = -inf further out is a fall.
    if len(known) < 4 or radii[known[-1]] < 1e3 or (height[known[-1] :] == -np.inf).any():
        return False
    last = height[known[-3:]]
    return bool(last[-1] >= last[0] - FALL)


def _scale(points: Array) -> float:
    return float(np.median(np.abs(points - np.median(points, axis=0)))) or 1.0


def _rounded(value: float, scale: float) -> float:
    return 0.0 if abs(value) < 1e-3 * scale else float(f"{value:.4g}")
