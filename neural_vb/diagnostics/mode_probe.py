"""Chains from elsewhere: do they end where the draws have not been, at points that are as probable as the draws?

An end is *outside* when its nearest neighbour among the draws is farther than that of all but one in a thousand draws,
and *probable* when its log density is above that of the least probable hundredth of the draws. Draws of the target
itself are both once in some thousands. Draws that are too narrow leave such ends too; of a mode of its own is only an
end that climbs to where few draws climb to. A mode that few chains come to, for it is far, has ends that are farther
out than draws of the target ever are: two of them are enough, if they do not climb to draws.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

from neural_vb._types import Array
from neural_vb.diagnostics.chains import NUM_TUNING, WIDTH, Chains, Kernel
from neural_vb.optima import climb
from neural_vb.verdicts import FAIL, INCONCLUSIVE, NO_PROBLEM, NOT_ASSESSED, Finding

NUM_TRANSITIONS = 24
SPREADS = (2.0, 4.0, 8.0)  # sds of over-dispersed starts, in those of the draws
RARE = 0.001
IMPROBABLE = 0.01
DISTANT, FEW = 2.0, 2  # times as far from draws, and how many such ends tell of a mode
SIGNIFICANT = 1e-6
SIGHTED = 10  # dimensions up to which a clean result says something
ARRIVED = 0.2  # least share of chains that come to where log p is as large as among the draws
NUM_NEIGHBOURS = 8_192
NUM_CLIMBS = 100
LONGEST = 0.5  # sds of ends and draws that one step of a climb may go, lest it jump into another mode
NEAR = 0.05  # such sds between tops that are the same
FLATTEST = 1e-14  # least variance along any axis, in the largest
AT_REST = 0.2  # largest gradient of log p, for such an sd, at a top; where it is larger a climb is still on its way
NUM_NEAREST = 32
ALONE = 0.2  # share of draws among ends and draws around a top, below which it is the ends' own; half if they agree


class Outside(NamedTuple):
    """Ends of chains against draws.

    Attributes:
        missed: [M], ends that are outside and probable.
        probable: [M], ends that are probable.
        expected: the largest number of missed ends that chance would leave, at one in a million.
        far: distance of the nearest neighbour from which an end is outside.
        distant: [M], missed ends that are so much farther out that chance leaves none.
    """

    missed: Array
    probable: Array
    expected: int
    far: float
    distant: Array


def starts(u: Array, others: Array, *, num: int, seed: Any) -> Array:
    """Where to begin, [num, D]: around the draws u [S, D] at several times their spread, and at other points [M, D].

    The other points, such as draws of the prior, make up half of them.
    """
    rng = np.random.default_rng(seed)
    factor = np.linalg.cholesky(np.atleast_2d(np.cov(u.T)) + 1e-9 * np.eye(u.shape[1]))
    spread = np.resize(SPREADS, num)[:, np.newaxis]
    points = u.mean(0) + spread * (rng.standard_normal((num, u.shape[1])) @ factor.T)
    if len(others):
        points[::2] = others[np.arange(len(points[::2])) % len(others)]
    return points


def outside(ends: Array, log_p: Array, draws: Array, log_p_draws: Array) -> Outside:
    """Which ends [M, D] of chains lie where the draws [S, D] have not been.

    Args:
        ends: of chains, in coordinates in which the draws are about standard.
        log_p: [M], at the ends.
        draws: half of them are neighbours, the other half tell how near neighbours are.
        log_p_draws: [S].
    """
    neighbours, others = draws[: len(draws) // 2], draws[len(draws) // 2 :]
    far = np.quantile(_nearest(others, neighbours), 1.0 - RARE)
    probable = log_p >= np.quantile(log_p_draws[np.isfinite(log_p_draws)], IMPROBABLE)
    nearest = _nearest(ends, neighbours)
    missed = probable & (nearest > far)
    # The quantile has an error of its own: twice the rate.
    expected = int(binom.isf(SIGNIFICANT, len(ends), 2.0 * RARE))
    return Outside(missed, probable, expected, float(far), missed & (nearest > DISTANT * far))


def _nearest(points: Array, neighbours: Array) -> Array:
    """Distance of the nearest neighbour, [M]."""
    points, neighbours = np.asarray(points, np.float32), np.asarray(neighbours, np.float32)
    lengths = (neighbours**2).sum(1)
    squares = [
        (lengths - 2.0 * piece @ neighbours.T).min(1) + (piece**2).sum(1)
        for piece in np.array_split(points, max(len(points) // 512, 1))
    ]
    return np.sqrt(np.maximum(np.concatenate(squares), 0.0))


class _Tops(NamedTuple):
    """Where ends [M, D] and draws [N, D] climb to, and which ends came to rest there, [M]."""

    ends: Array
    draws: Array
    at_rest: Array


def _tops(chains: Chains, ends: Array, probable: Array, draws: Array) -> _Tops:
    """Tops in coordinates in which draws and probable ends together are about standard.

    Other ends may be anywhere: a chain from very far does not arrive, and would set the scale of all.
    """
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(np.concatenate([ends[probable], draws]).T)))
    # What a mode at 1e9 sds leaves of the others' variance is rounding, of which a Cholesky factor may not exist.
    factor = axes * np.sqrt(np.maximum(variances, FLATTEST * variances[-1]))
    tops, steepness = _climbed(chains, np.concatenate([ends, draws]), factor)
    return _Tops(tops[: len(ends)], tops[len(ends) :], steepness[: len(ends)] < AT_REST)


def _climbed(chains: Chains, u: Array, factor: Array) -> tuple[Array, Array]:
    """Where u [N, D] climb to in coordinates in which the covariance of ``factor`` is standard, and the slope there."""

    def density(v: Array) -> tuple[Array, Array]:
        value, score = chains.look(v @ factor.T)
        return value, score @ factor

    tops = climb(density, np.linalg.solve(factor, u.T).T, NUM_CLIMBS, longest=LONGEST)
    return tops, np.linalg.norm(density(tops)[1], axis=1)


def alone(chosen: Array, ends: Array, draws: Array) -> Array:
    """[M], whether few draws, as against ends, have climbed to where the chosen ends have.

    Args:
        chosen: [N], M of the ends.
        ends: [N, D], tops of all ends.
        draws: [N, D], tops of as many draws.
    """
    verdicts = []
    for top in ends[chosen]:
        near_ends, near_draws = (np.linalg.norm(points - top, axis=1) for points in (ends, draws))
        both = np.concatenate([near_ends, near_draws])
        radius = max(NEAR, np.partition(both, NUM_NEAREST)[NUM_NEAREST])
        verdicts.append((near_draws <= radius).sum() < ALONE * (both <= radius).sum())
    return np.array(verdicts, bool)


def mode_probe(
    chains: Chains, u: Array, tuned: Kernel, others: Array, *, log_p: Array | None = None, seed: int = 0
) -> Finding:
    """Chains from over-dispersed points, and from ``others``, against the draws.

    Args:
        chains: of the target.
        u: [S, D], whitened draws.
        tuned: coordinates and tuning draws.
        others: [M, D], further starts, whitened; may be empty.
        log_p: [S] at the draws, the target's offset taken off, where it is known.
        seed: of starts and transitions.
    """
    size = u.shape[1]
    u = u[: 2 * NUM_NEIGHBOURS]
    begin = starts(u, others, num=WIDTH, seed=[seed, 2])
    # Tuning chains begin where the others do too: a step that is right at the mode may be wrong further out.
    mixed = tuned.tuning.copy()
    mixed[::2, 0] = begin[1 : NUM_TUNING + 1 : 2].astype(np.float32)
    log_p = chains.look(u)[0] if log_p is None else log_p[: len(u)]
    if not np.isfinite(log_p).any():
        return Finding(NOT_ASSESSED, "no draw has a finite log density", {}, {}, "fit again from another start=")
    ends = chains.run(begin, tuned._replace(tuning=mixed), num_transitions=NUM_TRANSITIONS, seed=[seed, 7_919])
    mean, factor = (np.asarray(part)[0] for part in tuned.coordinates)
    standard = lambda u: np.linalg.solve(factor, (u - mean).T).T  # noqa: E731
    found = outside(standard(ends.u), ends.log_prob, standard(u), log_p)
    missed, arrived = found.missed, float(found.probable.mean())
    evidence = {"chains": len(begin), "arrived": arrived, "ended outside": int(missed.sum())}
    evidence["by chance at most"] = found.expected
    evidence["farthest tenth of their starts, sds"] = reach = float(
        np.quantile(np.linalg.norm(standard(begin[found.probable]), axis=1) / size**0.5, 0.9) if arrived else 0.0
    )
    seen = {"share of starts a mode attracts": (found.expected + 1) / max(found.probable.sum(), 1)}
    many = missed.sum() > found.expected
    suspects, least = (missed, found.expected + 1) if many else (found.distant, FEW)
    if suspects.sum() >= least:
        own = suspects.copy()
        if many:
            tops = _tops(chains, ends.u, found.probable, u[:WIDTH])
            own[suspects] = alone(suspects, tops.ends, tops.draws) & tops.at_rest[suspects]
        else:
            tops_of_few = _climbed(chains, ends.u[suspects], factor)[0] @ factor.T
            own[suspects] = _nearest(standard(tops_of_few), standard(u)) > found.far
        evidence["in modes of their own"] = int(own.sum())
        if own.sum() >= least:
            centre = chains.target.whitening.to_z(ends.u[own]).numpy()
            where = ", ".join(f"{value:.3g}" for value in np.median(centre, 0)[:4]) + (", …" if size > 4 else "")
            text = f"{own.sum()} chains from elsewhere ended where no draw is, as probable as draws, around ({where})"
            return Finding(FAIL, text, evidence, seen, "fit again with start= near there, or another seed")
        if many:
            text = "chains from elsewhere ended outside the draws, but not in modes of their own"
            return Finding(INCONCLUSIVE, text, evidence, seen, "local_fit tells of draws that are too narrow")
    if size > SIGHTED:
        text = f"nothing found, which says little in {size} dimensions"
        return Finding(INCONCLUSIVE, text, evidence, seen, "compare fits of several seeds")
    if arrived < ARRIVED:
        text = "too few chains from elsewhere came to where log p is as large as among the draws"
        return Finding(INCONCLUSIVE, text, evidence, seen, "compare fits of several seeds")
    text = f"chains from elsewhere that arrived, nine of ten of them from within {reach:.2g} sds, ended among the draws"
    text += "; farther off is not seen"
    return Finding(NO_PROBLEM, text, evidence, seen)
