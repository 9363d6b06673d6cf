"""Where a hierarchy is centred: the coordinates that shrink with t far out, from curvatures of log p along t = w_1.

In a centred hierarchy t is the logarithm of a scale, and far out on one side of it the prior of what has that scale is
all that counts: the curvature of log p given t grows as e^(2 k |t|) in those directions, and rests in the others.
Given t, the optimum w' = c(t) and the curvature H(t) are followed outwards from the draws by Newton's method. At two
places t_a and t_b the directions V and rates k are those of H(t_b) v = e^(2 k (|t_b| - |t_a|)) H(t_a) v; the optimum
moves linearly there. So

    w' = c(t_b) + c' (t - t_b) + sum_i v_i e^(-k_i (|t| - |t_a|)) y_i

is a bend in whose coordinates y the hierarchy is not centred: they are about as wide in the neck as elsewhere.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from scipy import linalg

from neural_vb._types import Array, Density
from neural_vb.bending import Bend

logger = logging.getLogger(__name__)

NEAREST = 100  # draws to t = 0, whose mean is the first guess of an optimum
STEP = 0.03  # of differences, in conditional sds
FLAT = 0.1  # curvature where draws have about one
ITERATIONS, RESTED = 20, 1e-6  # of Newton's method; half of what is left to gain, nats
APART, FEWEST, MOST = 2, 4, 12  # of the places t, in sds of the draws
DEEP = 1e5  # curvature at which the neck is narrow enough; beyond, single precision sees nothing
LEAST = 0.1  # rate for each sd of t; less is no neck
HOPELESS = 0.03  # rate over the first places, where data may still outweigh the prior; with less no neck comes
SHARE = 0.2  # of the largest rate; less than that is none


class _Place(NamedTuple):
    """The optimum given t [D - 1], and the negative Hessian there [D - 1, D - 1], ``FLAT`` where it is less."""

    optimum: Array
    curvature: Array


def find(evaluate: Density, w: Array) -> Bend | None:
    """The bend from y to w, on the side of t on which it is steepest; None where nothing shrinks.

    Args:
        evaluate: w [N, D] -> log p [N], nats, and its gradient [N, D].
        w: [N, D] draws, in about unit scale along t.
    """
    with np.errstate(all="ignore"):  # far out a density may overflow
        found = [side for side in (_side(evaluate, w, -1.0), _side(evaluate, w, 1.0)) if side is not None]
    if not found:
        return None
    rate, bend = max(found, key=lambda side: side[0])
    logger.info("%d coordinates shrink by %.2f for each sd", np.count_nonzero(bend.log_scale[1]), rate)
    return bend


def _side(evaluate: Density, w: Array, side: float) -> tuple[float, Bend] | None:
    """The largest rate and the bend that the way out on one side shows."""
    size = w.shape[1]
    places = [_Place(w[np.argsort(np.abs(w[:, 0]))[:NEAREST], 1:].mean(0), np.eye(size - 1))]
    for far in range(MOST + 1):
        place = _climbed(evaluate, side * far, places[-1])
        if place is None:
            return None
        places.append(place)
        if far == FEWEST and _rates(places[1], place, far)[0].max() < HOPELESS:
            return None
        if far >= FEWEST and place.curvature.diagonal().max() > DEEP:
            break
    inner, outer = places[-1 - APART], places[-1]
    rates, vectors = _rates(inner, outer, APART)
    rates[rates < max(SHARE * rates.max(), LEAST)] = 0.0
    if not rates.any():
        return None
    drift = side * (outer.optimum - inner.optimum) / APART
    matrix, shift = np.eye(size), np.zeros(size)
    matrix[1:, 0], matrix[1:, 1:] = drift, vectors
    shift[1:] = outer.optimum - side * far * drift
    log_scale = np.zeros([3, size])
    log_scale[:2, 1:] = (far - APART) * rates, -side * rates
    bend = Bend(shift, matrix, log_scale, np.zeros([4, size]), np.array(np.linalg.slogdet(matrix)[1]))
    return float(rates.max()), bend


def _rates(inner: _Place, outer: _Place, apart: int) -> tuple[Array, Array]:
    """Rates k [D - 1] at which widths shrink between two places, and directions, the columns of [D - 1, D - 1]."""
    ratios, vectors = linalg.eigh(outer.curvature, inner.curvature)
    return np.log(np.maximum(ratios, 1e-300)) / (2.0 * apart), vectors


def _climbed(evaluate: Density, t: float, start: _Place) -> _Place | None:
    """The optimum given t, and its curvature; None where log p is not finite, or it is not reached.

    Nothing moves along what has no curvature, as the scale of another hierarchy does, whose own neck has no end.
    """
    optimum, steps = start.optimum, STEP / np.sqrt(start.curvature.diagonal())
    value, gradient, curvature = _look(evaluate, t, optimum, steps)
    for _ in range(ITERATIONS):
        if not (np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(curvature).all()):
            return None
        values, vectors = np.linalg.eigh(curvature)
        move = vectors @ np.where(values > FLAT, (vectors.T @ gradient) / np.maximum(values, FLAT), 0.0)
        if not move @ gradient > RESTED:
            break
        shares = 0.5 ** np.arange(12)
        tried = evaluate(_at(t, optimum + shares[:, np.newaxis] * move))[0]
        higher = np.flatnonzero(tried >= value)
        if not higher.size:  # rounding
            break
        optimum = optimum + shares[higher[0]] * move
        steps = STEP / np.sqrt(np.maximum(curvature.diagonal(), FLAT))
        value, gradient, curvature = _look(evaluate, t, optimum, steps)
    else:
        return None
    return _Place(optimum, (vectors * np.maximum(values, FLAT)) @ vectors.T)


def _look(evaluate: Density, t: float, optimum: Array, steps: Array) -> tuple[float, Array, Array]:
    """log p given t, its gradient, and its negative Hessian by central differences of gradients."""
    moves = np.diag(steps)
    values, gradients = evaluate(_at(t, np.concatenate([optimum[np.newaxis], optimum + moves, optimum - moves])))
    size = len(optimum)
    ahead, behind = gradients[1 : 1 + size, 1:], gradients[1 + size :, 1:]
    hessian = (ahead - behind) / (2.0 * steps[:, np.newaxis])
    return float(values[0]), gradients[0, 1:], -0.5 * (hessian + hessian.T)


def _at(t: float, rest: Array) -> Array:
    """[N, D] of t and the other coordinates."""
    return np.concatenate([np.full([len(rest), 1], t), rest], 1)
