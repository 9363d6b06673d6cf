"""Coordinates in which particles of a posterior, and its scores, are about standard normal: warps, bends and ridges."""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

from neural_vb import bending, necks, ridges, warping
from neural_vb._types import Array, Density
from neural_vb.bending import Map, Steepest
from neural_vb.mixtures import Stream

logger = logging.getLogger(__name__)

MOST = 128  # dimensions; a ridge has 3 D^2 numbers
MAX_RIDGES = 3
NUM_DRAWS = 4_096
HOPELESS = 1.0  # nats of half variance that a first ridge leaves where there is none
WORTH = 0.01  # nats that the bound has to gain by another ridge

ABOVE, MISSED = 3.0, 0.01  # nats above the bound, and share of the particles that may be

Key: TypeAlias = tuple[int, ...]
T = TypeVar("T")


def inside(maps: tuple[Map, ...], evaluate: Density) -> Density:
    """log p of y and its gradient, [N, D] -> [N], [N, D], from those of z."""

    def in_z(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        log_prob, gradient = evaluate(z.numpy())
        return tf.constant(log_prob), tf.constant(gradient)

    def density(y: Array) -> tuple[Array, Array]:
        log_prob, gradient = bending.pulled_back(maps, tf.constant(y), in_z)
        return log_prob.numpy(), gradient.numpy()

    return density


class Curved(NamedTuple):
    """Maps from y, about standard normal, to z.

    Attributes:
        maps: the first one last.
        bound: E[log p - log q] over standard normal y, nats.
        divergence: half the variance of log p - log q.
    """

    maps: tuple[Map, ...]
    bound: float
    divergence: float


def curve(evaluate: Density, z: Array, *, seed: int, tolerance: float) -> Curved | None:
    """Bends with ridges as long as they raise the bound, with or without a warp of z before the first.

    Args:
        evaluate: z [N, D] -> log p [N], nats, and its gradient [N, D].
        z: [N, D] particles.
        seed: of draws.
        tolerance: divergence that is good enough, nats.

    Returns:
        None where there is no ridge.
    """
    if not 1 < z.shape[1] <= MOST:
        return None
    with np.errstate(all="ignore"):  # far out maps overflow
        steepest = _tried(bending.steepest, z)
        best = _tried(_found, evaluate, z, steepest, (), (seed, Stream.RIDGE, 0))
        if not _is_met(best, tolerance):
            best = _better(best, _tried(_uncentred, evaluate, z, steepest, (seed, Stream.RIDGE, 1 + MAX_RIDGES)), 0.0)
        warp, shapes = warping.fit(z)
        if shapes and not _is_met(best, tolerance):
            y = warp.inverse(z)[0]
            key = (seed, Stream.RIDGE, 1)
            best = _better(best, _tried(_found, evaluate, y, _tried(bending.steepest, y), (warp,), key), 0.0)
        for number in range(1, MAX_RIDGES):
            if best is None or not tolerance < best.divergence < HOPELESS:
                break
            again = _tried(_again, evaluate, z, best.maps, (seed, Stream.RIDGE, 1 + number))
            if (following := _better(best, again, WORTH)) is best:
                break
            best = following
        return None if best is None or _misses(best, evaluate, z) else best


class _Purpose(enum.IntEnum):
    """Random numbers of one ridge."""

    FIT = 0
    JUDGE = 1
    DIRECTION = 2


def _is_met(found: Curved | None, tolerance: float) -> bool:
    return found is not None and found.divergence < tolerance


def _tried(step: Callable[..., T | None], *arguments: Any) -> T | None:
    """The step's result; none where particles lie in a plane, or draws overflow."""
    try:
        return step(*arguments)
    except np.linalg.LinAlgError:
        return None


def _found(evaluate: Density, y: Array, found: Steepest | None, before: tuple[Map, ...], key: Key) -> Curved | None:
    """A ridge along the bend that particles y show, after maps."""
    return None if found is None else _ridge(evaluate, (*before, found.bend), found.bend.inverse(y)[0], key)


def _uncentred(evaluate: Density, z: Array, found: Steepest | None, key: Key) -> Curved | None:
    """A ridge along the same direction in coordinates that shrink with it."""
    if found is None:
        return None
    straight = found.bend._replace(log_scale=0.0 * found.bend.log_scale, mean=0.0 * found.bend.mean)
    w = straight.inverse(z)[0]
    neck = necks.find(inside((straight,), evaluate), w)
    return None if neck is None else _ridge(evaluate, (straight, neck), neck.inverse(w)[0], key)


def _again(evaluate: Density, z: Array, before: tuple[Map, ...], key: Key) -> Curved | None:
    """A ridge more, along the direction in which scores show most of what is left."""
    size = z.shape[1]
    rng = np.random.default_rng((*key, _Purpose.DIRECTION))
    y = rng.standard_normal((NUM_DRAWS, size))
    rest = inside(before, evaluate)(y)[1] + y
    usable = np.isfinite(rest).all(1)
    y, rest = y[usable], ridges.shortened(rest[usable])
    # Third derivatives of log p by Stein's identity, E[s_i (y_j y_k - delta_jk)].
    third = bending.products(rest, y, y) - rest.mean(0)[:, np.newaxis, np.newaxis] * np.eye(size)
    flat = (third + third.transpose(1, 0, 2) + third.transpose(1, 2, 0)).reshape(size, -1)
    basis = np.linalg.eigh(flat @ flat.T)[1][:, ::-1]
    return _ridge(evaluate, (*before, bending.turn(basis)), rng.standard_normal((NUM_DRAWS, size)), key)


def _ridge(evaluate: Density, maps: tuple[Map, ...], w: Array, key: Key) -> Curved | None:
    """A ridge along the first coordinate of w [N, D], particles after maps."""
    ridge = ridges.fit(inside(maps, evaluate), w, seed=(*key, _Purpose.FIT))
    if ridge is None:
        return None
    maps = (*maps, *ridge)
    y = np.random.default_rng((*key, _Purpose.JUDGE)).standard_normal((NUM_DRAWS, w.shape[1]))
    gaps = inside(maps, evaluate)(y)[0] - _log_normal(y)
    bound = float(gaps.mean())
    if not np.isfinite(bound):
        return None
    logger.info("%d maps: bound %.3f, half variance %.3f", len(maps), bound, 0.5 * gaps.var())
    return Curved(maps, bound, 0.5 * float(gaps.var()))


def _better(one: Curved | None, other: Curved | None, worth: float) -> Curved | None:
    """The other one if its bound is larger by more than it has to be."""
    if one is None or other is None:
        return one or other
    return other if other.bound > one.bound + worth else one


def _misses(found: Curved, evaluate: Density, z: Array) -> bool:
    """Whether particles z show what q does not have, a mode or an arm: q's own draws would not tell."""
    y, log_det = bending.inverse(found.maps, z)
    gaps = evaluate(z)[0] + log_det - _log_normal(y)
    return bool((~(gaps < found.bound + ABOVE)).mean() > MISSED)


def _log_normal(y: Array) -> Array:
    """[N, D] -> [N]."""
    return -0.5 * (y**2).sum(1) - 0.5 * y.shape[1] * math.log(2.0 * math.pi)
