"""Look at a target before training: bad input gets a named error with its fix, and the precision is chosen.

Everything is asked of the log density itself at a few dozen points: its shape, whether its rows are independent, where
it is finite, whether its gradient exists, whether it falls towards infinity, and what rounding does to it.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf

from neural_vb import tails
from neural_vb._text import counted
from neural_vb._types import Array, Seed, Target
from neural_vb.errors import (
    DtypeError,
    GradientError,
    ImproperDensityError,
    PrecisionWarning,
    SupportError,
    TargetShapeError,
    TargetValueError,
)
from neural_vb.numpy_densities import NumPyLogProb
from neural_vb.probing import Probe, naming
from neural_vb.targets import JointTarget

logger = logging.getLogger(__name__)

NEGLIGIBLE = 1e6  # nats below the best point
PRECISION_TOLERANCE = 0.01  # nats
FLOAT32_EPSILON = 6e-8
MAX_DIFFERENCES = 64  # coordinates whose derivative is compared with differences


@dataclass(frozen=True, eq=False)
class Examination:
    """What was found before training.

    Attributes:
        target: in the precision it should be trained in.
        precise: the target in float64 if it accepts that, else as given; for the warm start.
        best: [M, D], the better half of the finite points, best first.
        finite_fraction: of the points examined.
        notes: sentences worth telling the user; also logged. Values that are not finite far from the start are one
            of them and no warning: ordinary models overflow there.
    """

    target: Target
    precise: Probe
    best: Array
    finite_fraction: float
    notes: tuple[str, ...]


def examine(target: Target, points: Array, *, seed: Seed) -> Examination:
    """Look for everything that would make training fail or mislead.

    Args:
        target: for one data set (B = 1, ``x = None``).
        points: [N, D] unconstrained float64 candidates for a start, about 64, at several scales around their median.
            The nearer half must be good; the farther half may have NaN and infinities, which are counted and reported.
        seed: for the directions of the rays on which log p must fall.

    Returns:
        ``Examination``. The target is moved to float64 when it accepts float64 and, at the best quarter of the points,
        log p in float32 differs from it by more than .01 nats *after their mean difference is taken off*: a common
        offset changes no posterior, while scatter is noise in every gradient and weight.

    Raises:
        TargetShapeError: wrong shape, or a row's value depends on other rows.
        TargetValueError: NaN or +inf near the start, -inf almost everywhere, or an exception inside the target.
        SupportError: -inf or NaN on a region next to the start.
        GradientError: no gradient, a zero gradient, or NaN in it.
        ImproperDensityError: log p does not fall along some direction.
        DtypeError: the target mixes dtypes.

    Warns:
        PrecisionWarning: float32 is too coarse and float64 is not accepted.
    """
    points = np.asarray(points, np.float64)
    slow = getattr(target, "log_prob_fn", None)
    if isinstance(slow, NumPyLogProb):
        # Directly, for TensorFlow would put what is raised inside into words of its own.
        with naming():
            slow.rows(np.asarray(target.constrain(tf.constant(points[:2], target.dtype)), np.float64))
    chosen, precise, notes = _in_best_precision(target, points)
    near = _near(points)
    labels = tuple(getattr(target, "labels", None) or (f"coordinate {i}" for i in range(points.shape[1])))
    values, gradients = chosen(points)
    # An overflow of single precision is no end of the support, but its gradients are what training gets.
    exact = values if precise is chosen else precise.values(points)
    _check_rows(precise, points, exact)  # of which the warm start needs one point alone, too
    notes += _check_values(precise, points, exact, near, labels)
    overflows = int((np.isfinite(exact) & ~np.isfinite(values)).sum())
    if overflows:
        where = counted(overflows, "point")
        notes.append(f"log p overflows in {chosen.target.dtype.name} at {where}; such points are skipped.")
    if isinstance(slow, NumPyLogProb):
        _check_differences(precise, points, labels)
    notes += _check_gradients(chosen, points, values, gradients, near, labels)
    _check_tails(precise, points, labels, seed)
    for note in notes:
        logger.info("%s", note)
    finite = np.flatnonzero(np.isfinite(values))
    best = points[finite[np.argsort(-values[finite], kind="stable")][: (len(finite) + 1) // 2]]
    return Examination(chosen.target, precise, best, float(np.isfinite(values).mean()), tuple(notes))


def precision_gap(coarse: Array, precise: Array) -> float:
    """Largest difference of two evaluations [N] of log p in nats, less their mean difference; inf if not finite."""
    difference = np.asarray(coarse, np.float64) - np.asarray(precise, np.float64)
    return float(np.abs(difference - difference.mean()).max()) if np.isfinite(difference).all() else np.inf


def _in_best_precision(target: Target, points: Array) -> tuple[Probe, Probe, list[str]]:
    own, failure = Probe(target), None
    try:
        values = own.values(points)
    except (DtypeError, TargetValueError) as error:  # may be right in float64
        failure = error
    wide = own if target.dtype == tf.float64 else _in_float64(target, points)
    if failure is not None:
        if wide is None or wide is own:
            raise failure
        return wide, wide, ["log_prob works in float64 only; it is evaluated in float64"]
    if wide is own:
        return own, own, []
    if wide is None:
        best = _best_quarter(values)
        scale = float(np.median(np.abs(values[best]))) if len(best) else 0.0
        if scale * FLOAT32_EPSILON > PRECISION_TOLERANCE:
            note = (
                f"log p is about {scale:.2g} in size and evaluated in {target.dtype.name}, so rounding alone moves it "
                f"by {scale * FLOAT32_EPSILON:.2g} nats. Build the target in float64, or centre and scale its data."
            )
            warnings.warn(note, PrecisionWarning, stacklevel=3)
            return own, own, [note]
        return own, own, []
    precise = wide.values(points)
    best = _best_quarter(precise)
    gap = precision_gap(values[best], precise[best]) if len(best) else 0.0
    if gap > PRECISION_TOLERANCE:
        return wide, wide, [f"float32 and float64 differ by {gap:.2g} nats; log p is evaluated in float64"]
    return own, wide, []


def _in_float64(target: Target, points: Array) -> Probe | None:
    try:
        wide = Probe(target.with_dtype(tf.float64))  # type: ignore[attr-defined]
        wide.values(points)
    except Exception:  # whatever goes wrong, the answer is no
        return None
    return wide


def _best_quarter(values: Array) -> Array:
    finite = np.flatnonzero(np.isfinite(values))
    return finite[np.argsort(-values[finite])][: max(len(finite) // 4, min(len(finite), 2))]


def _near(points: Array) -> Array:
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return distance <= np.median(distance)


def _check_rows(probe: Probe, points: Array, values: Array) -> None:
    """Permuting the rows must permute the result, and a row alone must have the value it has among others."""
    order = np.roll(np.arange(len(points))[::-1], 1)
    permuted = np.empty_like(values)
    permuted[order] = probe.values(points[order])
    _compare_rows(probe, points, values, permuted, "changes when other rows change places")
    finite = np.flatnonzero(np.isfinite(values))
    ranked = finite[np.argsort(-values[finite])]
    # At the best row, often the origin, too many log densities are the same number.
    for row in {ranked[0], ranked[len(ranked) // 2]} if len(finite) else {0}:
        alone = np.full_like(values, np.nan)
        alone[row] = probe.values(points[row : row + 1])[0]
        there = np.where(np.arange(len(values)) == row, values, np.nan)
        _compare_rows(probe, points, there, alone, "is another when the row comes alone")


def _compare_rows(probe: Probe, points: Array, values: Array, again: Array, what: str) -> None:
    wrong = _differ(probe, values, again)
    if not wrong.any():
        return
    _check_repeats(probe, points)
    i = int(np.argmax(wrong))
    raise TargetShapeError(
        expected="a log density that treats each row on its own",
        got=f"one whose value for a row {what} ({values[i]:.6g} and {again[i]:.6g})",
        fix="reduce over event axes only (axis=-1, not over all axes), keep data axes apart from the axis of draws "
        "(mu[:, None], z[..., tf.newaxis]), or pass vectorized=False; for a TFP joint use its AutoBatched class or "
        "tfd.Independent",
    )


def _differ(probe: Probe, values: Array, again: Array) -> Array:
    coarse = probe.target.dtype != tf.float64
    with np.errstate(invalid="ignore"):
        gap = np.abs(values - again)
        # Sums run in another order in another batch: allow for rounding.
        wrong = gap > (1e-2 + 1e-4 * np.abs(values) if coarse else 1e-4 + 1e-8 * np.abs(values))
    return np.where(np.isfinite(values) & np.isfinite(again), wrong, np.isfinite(values) != np.isfinite(again))


def _check_repeats(probe: Probe, points: Array) -> None:
    """The same rows must have the same values again, also when the function is traced anew."""
    values = probe.values(points)
    for again in (probe.values(points), Probe(probe.target).values(points)):
        wrong = _differ(probe, values, again)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise TargetValueError(
                expected="a log density that is a function of its arguments alone",
                got=f"two values at the same point ({values[i]:.6g} and {again[i]:.6g})",
                fix="take random numbers (minibatches, dropout, Monte Carlo averages), counters and variables that "
                "change out of log_prob: draw them once, before the fit, or make them parts to infer",
            )


def _check_values(probe: Probe, points: Array, values: Array, near: Array, labels: tuple[str, ...]) -> list[str]:
    finite = np.isfinite(values)
    if finite.all():
        return []
    kinds = {"NaN": np.isnan(values), "+inf": values == np.inf, "-inf": values == -np.inf}
    found = ", ".join(f"{kind} at {int(hits.sum())}" for kind, hits in kinds.items() if hits.any())
    found += f" of {len(values)} points"
    if finite[near].all():
        return [
            f"log p is not finite far from the start ({found}, all in the farther half). This is common and harmless: "
            "such points are skipped."
        ]
    start = "start=... at a point where log p is finite"
    joint = isinstance(probe.target, JointTarget)  # whose supports are its distributions' own
    if kinds["+inf"][near].any():
        fix = f"look for a division by zero or an overflow in log_prob, or pass {start}"
        raise TargetValueError(expected="a finite log density near the start", got=found, fix=fix)
    if not finite.any():
        fix = "look whether the data and constants can occur under the model (NaN, counts below zero, scales of zero)"
        if not joint:
            fix = f"constrain the parameters with bijector=..., compute densities in log space, {fix}, or pass {start}"
        raise TargetValueError(expected="a finite log density near the start", got=found, fix=fix)
    bounds = tails.coordinate_bounds(probe.values, points, values)
    if bounds:
        got = f"{found}: " + "; ".join(bound.sentence(labels) for bound in bounds)
        fix = "give these a bijector: " + ", ".join(bound.advice(labels) for bound in bounds)
        fix += " (parts by name with event_shape={...} and bijector={...}, parts of one array with tfb.Blockwise)"
        if joint:
            fix = "give these a prior on that support, such as tfd.HalfNormal or tfd.LogNormal for positive parts and "
            fix += "tfd.Uniform or tfd.Beta between bounds"
        few = points[:2]
        plain = (np.abs(_constrained(probe.target, few)[:, np.newaxis] - few[..., np.newaxis]) < 1e-6).all(0).any(1)
        if not joint and not all(plain[bound.index] for bound in bounds):
            got += ", unconstrained, before its bijector"
            fix = "the bijector reaches beyond the support: choose one onto it, such as tfb.Sigmoid() for numbers "
            fix += "between 0 and 1, tfb.Exp() for positive ones, or none"
        raise SupportError(
            expected="a log density that is finite on all of R^D, or a bijector for its support", got=got, fix=fix
        )
    if kinds["NaN"][near].any():
        fix = f"look for a logarithm or root of a negative number, constrain the parameters, or pass {start}"
        raise TargetValueError(expected="a finite log density near the start", got=found, fix=fix)
    if finite.mean() < 0.05:
        bounds_fix = "choose priors on the supports that the model needs" if joint else "constrain with bijector=..."
        fix = f"{bounds_fix}, compute densities in log space, or pass {start}"
        raise TargetValueError(expected="a finite log density at more than a few points", got=found, fix=fix)
    if kinds["-inf"][near].mean() > 0.1:
        raise SupportError(
            expected="a log density that is finite on all of R^D, or a bijector for its support",
            got=f"{found}, and no single coordinate explains it",
            fix="map the support with a bijector (tfb.SoftmaxCentered for a simplex, tfb.Ascending for an order, "
            f"tfb.FillScaleTriL for a covariance factor), or pass {start}",
        )
    return [f"log p is not finite at some points near the start ({found}); such points are skipped."]


def _check_gradients(
    probe: Probe, points: Array, values: Array, gradients: Array, near: Array, labels: tuple[str, ...]
) -> list[str]:
    finite = np.isfinite(values)
    # Where log p is astronomically low a gradient may overflow: no draw will be there.
    matters = finite & (values > np.max(values[finite], initial=-np.inf) - NEGLIGIBLE)
    everywhere = ~np.isfinite(gradients) & finite[:, np.newaxis]
    broken = everywhere & matters[:, np.newaxis]
    if broken[near].any():
        raise GradientError(
            expected="finite gradients wherever log p is finite",
            got=f"NaN or infinity in the derivative to {_listed(labels, broken[near].any(0))} "
            f"at {broken[near].any(1).sum()} of {near.sum()} points near the start",
            fix="look for tf.sqrt, tf.norm or a power at zero, and for tf.where with a branch that is NaN (make the "
            "argument of that branch safe first); at a single point, such as the origin, pass start=... off it",
        )
    flat = (gradients[finite] == 0).all(0)
    if flat.any():
        step = np.median(np.abs(points - np.median(points, axis=0)))
        for i in np.flatnonzero(flat):
            shifted = probe.values(points[finite] + (step or 1.0) * np.eye(points.shape[1])[i])
            if np.array_equal(shifted, values[finite]):
                raise ImproperDensityError(
                    expected="a density that depends on every coordinate",
                    got=f"log p does not change with {labels[i]}, so its posterior has no finite integral",
                    fix=f"give {labels[i]} a prior in log_prob, or leave it out of event_shape",
                )
        raise GradientError(
            expected="a gradient that says how log p changes",
            got=f"a gradient that is zero at every point in {_listed(labels, flat)}, although log p changes",
            fix="remove tf.round, tf.sign, tf.floor, tf.argmax, integer casts and tf.stop_gradient from their way",
        )
    if everywhere.any():
        where = counted(int(everywhere.any(1).sum()), "point")
        return [
            f"the gradient is not finite at {where} far from the start or from its values, which does no harm: skipped."
        ]
    return []


def _check_differences(probe: Probe, points: Array, labels: tuple[str, ...]) -> None:
    """A gradient from outside TensorFlow must agree with central differences, at one of three step sizes."""
    values, gradients = probe(points)
    finite = np.flatnonzero(np.isfinite(values) & np.isfinite(gradients).all(1))
    if not len(finite):
        return
    chosen = finite[np.argsort(-values[finite])][[len(finite) // 8, len(finite) // 4, len(finite) // 2]]
    axes = np.eye(points.shape[1])[:MAX_DIFFERENCES]
    found, gaps, noise = [], [], []
    for step in (1e-2, 1e-4, 1e-6):
        moved = step * np.maximum(np.abs(points[chosen]), 1.0)[:, : len(axes), np.newaxis] * axes
        base = points[chosen][:, np.newaxis]
        ends = [probe.values((base + sign * moved).reshape(-1, points.shape[1])) for sign in (1.0, -1.0)]
        length = 2.0 * np.abs(moved).sum(-1)
        found.append((ends[0] - ends[1]).reshape(length.shape) / length)
        noise.append(1e-12 * np.abs(ends).max() / length)
        gaps.append(np.abs(found[-1] - gradients[chosen][:, : len(axes)]) - noise[-1])
    given, gap = gradients[chosen][:, : len(axes)], np.array(gaps)
    size = np.abs(given) + np.abs(found)
    wrong = (~(gap < 1e-2 * size + 1e-6)).all(0)  # at every step size
    if (wrong.sum(0) < 2).all():  # one point may sit on a kink
        return
    i = int(np.argmax(wrong.sum(0)))
    row = int(np.argmax(wrong[:, i]))
    raise GradientError(
        expected="a gradient that agrees with differences of log p",
        got=f"{given[row, i]:.6g} for {labels[i]}, where log p changes by {found[1][row, i]:.6g} for each unit",
        fix="let value_and_grad return the gradient of the same number that it returns as log p: same sign, same "
        "parameters, in the same coordinates and order",
    )


def _check_tails(probe: Probe, points: Array, labels: tuple[str, ...], seed: Seed) -> None:
    values, gradients = probe(points)
    found = tails.rising_rays(probe.values, points, values, gradients, seed)
    axes = found.axes
    if not axes and not isinstance(probe.target, JointTarget):  # a joint's distributions are proper
        best = points[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]
        largest = 0.98 * math.log(probe.target.dtype.max)  # and its reciprocal is no denormal number
        axes = tails.level_ends(probe.values, partial(_constrained, probe.target), best, largest=largest)
    if axes:
        where = [f"{labels[i]} goes to {'+' if sign > 0 else '-'}infinity" for i, sign in axes[:4]]
        got = "a log density that does not fall when " + ", or when ".join(where)
    elif len(found.flat):
        mixed = _listed(labels, np.abs(found.flat[0]) > 0.05)
        got = f"a log density that stays the same along a combination of {mixed}"
    elif found.num_random:
        rays = f"{found.num_random} of {tails.NUM_RAYS} random rays"
        got = f"a log density that falls too slowly on {rays}, out to 1e12 scales"
    else:
        return
    raise ImproperDensityError(
        expected="a density whose mass does not run away to infinity",
        got=got,
        fix="add a proper prior in log_prob, or a bijector onto a bounded support; check the sign of log_prob (it is "
        "the positive log density, not a loss, and not the density itself); pass start=... where the mass is if it is "
        "1e12 units wide",
    )


def _constrained(target: Target, z: Array) -> Array:
    """[N, D] -> the constrained numbers of all parts, [N, E]."""
    parts = tf.nest.flatten(target.constrain(tf.constant(z, target.dtype)))
    return np.concatenate([np.reshape(part, [len(z), -1]) for part in parts], 1)


def _listed(labels: tuple[str, ...], chosen: Array) -> str:
    names = [label for label, hit in zip(labels, chosen, strict=True) if hit]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
