"""Where a fit looks first: dispersed points, draws of a prior, or what the user gives as a start."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import arguments
from neural_vb._types import Array, Target
from neural_vb.errors import StartError, UnsupportedError
from neural_vb.faults import names_of
from neural_vb.optima import NUM_PRIOR, dispersed_points

NUM_POINTS = 2 * NUM_PRIOR
BOUNDARY_SHARE = 0.1  # of the draws of a start
ROUNDING = 1e-2  # of a part's largest number, and of what a step of one in unconstrained space makes of it


class Start(NamedTuple):
    """Where to begin.

    Attributes:
        points: [N, D], at which the target is examined.
        num_starts: of them, from which modes are looked for.
        moments: of the user's draws, when there are some.
        notes: what to tell the user about them.
    """

    points: Array
    num_starts: int = 10
    moments: tuple[Array, Array] | None = None
    notes: tuple[str, ...] = ()


def find(target: Target, start: Any, seed: int) -> Start:
    """Dispersed points and draws of a prior, or what a user's point or draws say.

    Args:
        target: with ``unconstrain``, for a start of the user's.
        start: None, a point, or draws; constrained.
        seed: of the points.

    Raises:
        StartError: it is outside the support, or of another shape, or its draws do not vary.
        UnsupportedError: the target cannot take draws back to unconstrained space.
    """
    points = dispersed_points(target.event_size, NUM_POINTS, seed=seed)
    if start is None:
        prior = getattr(target, "starting_points", None)
        if prior is not None:
            # A joint that mixes draws with data cannot be sampled either; the examination says so in better words.
            with suppress(ValueError, tf.errors.InvalidArgumentError):
                points[1::2] = prior(NUM_PRIOR, seed).numpy()
        return Start(points)
    unconstrain = getattr(target, "unconstrain", None)
    if unconstrain is None:
        raise UnsupportedError(
            expected="a target with `unconstrain` to take start=", got=type(target).__name__, fix="leave start= out"
        )
    z = arguments.unconstrained(unconstrain, start)
    if z.ndim == 0 or z.shape[-1] != target.event_size:
        raise StartError(
            expected=f"a start of {target.event_size} unconstrained coordinates",
            got=f"unconstrained shape {list(z.shape)}",
            fix="pass one point in the shape of an event, or draws with one more axis in front",
        )
    # A few draws of many may round to the boundary of the support.
    outside = np.atleast_1d(np.isinf(z).any(-1))
    if np.isnan(z).any() or outside.mean() > BOUNDARY_SHARE:
        lost = ~np.isfinite(z)
        given = tf.nest.flatten(arguments.start_values(start))
        absent = sum(int(np.isnan(part).sum()) for part in given)
        raise StartError(
            expected="a start without missing values" if absent else "a start inside the support",
            got=(f"{absent} NaN, in " if absent else f"{int(lost.sum())} non-finite unconstrained coordinates, ")
            + names_of(target, lost),
            fix="replace or drop them" if absent else "pass finite numbers inside the support, off its boundary",
        )
    _check_returns(target, start, z)
    notes: tuple[str, ...] = ()
    if outside.any() and z.ndim == 2:
        z = z[~outside]
        notes = (
            f"{int(outside.sum())} of {len(outside)} draws of start= on the boundary of the support were left out",
        )
    if z.ndim == 1:
        # At an optimum the gradient is zero: the examination wants points around it too. Only the first is a start.
        return Start(z + 1e-3 * np.maximum(np.abs(z), 1.0) * points, num_starts=1)
    if z.ndim != 2 or len(z) < 2 * target.event_size + 2:
        raise StartError(
            expected=f"one point, or at least {2 * target.event_size + 2} draws of {target.event_size} dimensions",
            got=f"unconstrained shape {list(z.shape)}",
            fix="pass one point without an axis of draws, or more draws",
        )
    covariance = np.atleast_2d(np.cov(z.T))
    still = np.ptp(z, axis=0) == 0
    if still.any():
        raise StartError(
            expected="draws that vary in every direction",
            got=f"the same number in {int(still.sum())} coordinates of all draws, {names_of(target, still)}",
            fix="pass more varied draws, or a single point",
        )
    jitter = 1e-10 * np.diag(np.diag(covariance)) + 1e-300 * np.eye(len(covariance))
    try:
        scale_tril = np.linalg.cholesky(covariance + jitter)
    except np.linalg.LinAlgError as error:
        raise StartError(
            expected="draws that vary in every direction",
            got="a singular covariance",
            fix="pass more varied draws, or a single point",
        ) from error
    return Start(z[:NUM_POINTS], moments=(z.mean(0), scale_tril), notes=notes)


def _check_returns(target: Target, start: Any, z: Array) -> None:
    """Nothing, if z leads back to the start: a bijector takes points beside its support too.

    Looked at are the parts that the target gives back in the shape in which they came.

    Raises:
        StartError: it leads elsewhere.
    """
    given, back, beside = (
        value if isinstance(value, Mapping) else {"": value}
        for value in (
            arguments.start_values(start),
            *(target.constrain(tf.constant(z + by, target.dtype)) for by in (0, 1)),
        )
    )
    rows = z.reshape(-1, z.shape[-1])
    for name in back:
        if name not in given or np.shape(given[name]) != np.shape(back[name]):
            continue
        wanted, found, near = (
            np.asarray(part[name], np.float64).reshape(len(rows), -1) for part in (given, back, beside)
        )
        with np.errstate(all="ignore"):
            off, step = np.abs(found - wanted).max(1), np.nan_to_num(np.abs(near - found)).max(1)
            wrong = np.isfinite(rows).all(1) & ~(off <= ROUNDING * (np.abs(wanted).max(1) + step))
        if wrong.any():
            raise StartError(
                expected="a start on the support" + (f" of {name}" if name else ""),
                got=f"numbers that the bijector changes, by {off[wrong].max():.2g}"
                + (f", in {int(wrong.sum())} of {len(rows)} draws" if z.ndim > 1 else ""),
                fix="check that they have the support's sums, order or symmetry",
            )
