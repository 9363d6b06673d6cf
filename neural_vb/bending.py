"""Curved coordinates: maps in which scales and centres depend on one direction, found from draws.

In a hierarchy written in centred form, in a funnel, and along a curved ridge, one direction t sets the scales and the
centres of others:

    w_1 = t,    w_i = m_i(t) + s_i(t) y_i,    z = shift + matrix w,    i > 1.

In coordinates y such a posterior is about Gaussian: the bend is what non-centring does by hand (Papaspiliopoulos,
Roberts & Skold, "A general framework for the parametrization of hierarchical models", Statistical Science 22, 2007;
Gorinova, Moore & Hoffman, "Automatic reparameterisation of probabilistic programs", arXiv 1906.03028).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Tensor

logger = logging.getLogger(__name__)

WORTH = 0.005  # nats; a number that gains less would do more harm where no draws have been
MIN_GAIN = 0.25  # nats; less is not worth another round of particles, nor its noise
NUM_TRIED = 6  # directions
FAR = 3.0  # sds, from where on draws no longer tell directions
MAX_THIRD = 64  # dimensions in which all third moments are looked at
ITERATIONS = 16
MAX_EXPONENT = 60.0
EDGE = 1.1  # times the largest eigenvalue that noise alone has; what is smaller is taken for noise
CENTRES = ((0,), (0, 1), (0, 1, 2), (0, 1, 3))  # columns of (1, t, t^2, h)
SCALES = ((0,), (0, 1), (0, 1, 2))  # columns of (1, t, h)


class Map(Protocol):
    """A map from coordinates y to z, in which posteriors are nearer to Gaussian; a named tuple of arrays."""

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] -> z [..., D], log |det dz/dy| [...]."""

    def inverse(self, z: Array) -> tuple[Array, Array]:
        """[N, D] -> y [N, D], log |det dz/dy| [N]."""

    def _asdict(self) -> dict[str, Any]: ...


class Bend(NamedTuple):
    """y -> z, in float64; with t = y_1 and h = (1 + t^2)^(1/2), which is linear far out on both sides,

        log s_i(t) = log_scale_i . (1, t, h),    m_i(t) = mean_i . (1, t, t^2, h),

    and none of both for i = 1.

    Attributes:
        shift: [D].
        matrix: [D, D].
        log_scale: [3, D], first column zero.
        mean: [4, D], first column zero.
        log_det: log |det matrix|, nats.
    """

    shift: Any
    matrix: Any
    log_scale: Any
    mean: Any
    log_det: Any

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] -> z [..., D], log |det dz/dy| [...]."""
        t = y[..., :1]
        h = tf.sqrt(1.0 + t**2)
        slope, curved = tf.unstack(self.log_scale)[:2], self.log_scale[2]
        numbers = tf.concat([self.mean, tf.stack([*slope, tf.zeros_like(curved), curved])], 1)
        both = tf.tensordot(tf.concat([tf.ones_like(t), t, t**2, h], -1), numbers, 1)
        mean, log_scale = tf.split(both, 2, -1)
        w = mean + tf.exp(log_scale) * y
        z = tf.tensordot(w, tf.transpose(self.matrix), 1) + self.shift
        return z, tf.reduce_sum(log_scale, -1) + self.log_det

    def inverse(self, z: Array) -> tuple[Array, Array]:
        """[N, D] -> y [N, D], log |det dz/dy| [N]."""
        w = np.linalg.solve(self.matrix, (z - self.shift).T).T
        bases = _bases(w[:, 0])
        log_scale, mean = bases.scale @ self.log_scale, bases.mean @ self.mean
        return (w - mean) * np.exp(-log_scale), log_scale.sum(1) + self.log_det

    @staticmethod
    def shapes(event_size: int) -> tuple[tuple[int, ...], ...]:
        """Of the attributes in D dimensions."""
        return (event_size,), (event_size, event_size), (3, event_size), (4, event_size), ()


def turn(basis: Array) -> Bend:
    """z = basis y, for an orthogonal basis [D, D]."""
    size = len(basis)
    return Bend(np.zeros(size), basis, np.zeros([3, size]), np.zeros([4, size]), np.zeros([]))


def forward(maps: Sequence[Map], y: Tensor) -> tuple[Tensor, Tensor]:
    """All maps, the last one first: y [..., D] -> z [..., D], log |det dz/dy| [...]."""
    log_det = tf.zeros(tf.shape(y)[:-1], y.dtype)
    for one in reversed(maps):
        y, change = one.forward(y)
        log_det += change
    return y, log_det


def inverse(maps: Sequence[Map], z: Array) -> tuple[Array, Array]:
    """z [N, D] -> y [N, D], log |det dz/dy| [N]; neither is finite where z is too far out for a map."""
    log_det = np.zeros(len(z))
    with np.errstate(over="ignore", invalid="ignore"):
        for one in maps:
            z, change = one.inverse(z)
            log_det = log_det + change
    return z, log_det


def pulled_back(
    maps: Sequence[Map], y: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Log density of y and its gradient, from those of z; y [..., D] -> [...], [..., D].

    Args:
        maps: from y to z.
        y: where.
        evaluate: z [..., D] -> log p [...], its gradient [..., D].
    """
    with tf.GradientTape() as tape:
        tape.watch(y)
        z, log_det = forward(maps, y)
    log_prob, gradient = evaluate(z)
    return log_prob + log_det, tape.gradient([z, log_det], y, [gradient, tf.ones_like(log_det)])


def find(z: Array) -> Bend | None:
    """The bend after which draws z [N, D] are nearest to Gaussian; None where none gains more than ``MIN_GAIN``."""
    found = steepest(z)
    if found is None or not found.gain > MIN_GAIN:
        return None
    logger.info("a bend gains %.2f nats", found.gain)
    return found.bend


class Steepest(NamedTuple):
    """A bend and its gain, nats."""

    bend: Bend
    gain: float


def steepest(z: Array) -> Steepest | None:
    """The bend that gains most, which may be nothing; None where draws are too few.

    In whitened coordinates v a direction a, a.v = t, sets scales where the third moments E[t v v^T] are not zero; their
    eigenvectors are the coordinates that it scales, and eigenvalues within the noise of N draws are left alone. Slopes
    and centres are those of the largest likelihood, as many as BIC allows. The gain of a bend is the fall of

        (log det cov(y)) / 2 + E[log |det dz/dy|],

    the bound on E[-log p] that a Gaussian in y gives, less BIC's penalty.

    Args:
        z: [N, D] draws.
    """
    size, event_size = z.shape
    if event_size == 1 or size < 4 * event_size:
        return None
    shift, scale = z.mean(0), z.std(0) + 1e-300
    correlation_factor = np.linalg.cholesky(np.corrcoef(z.T) + 1e-10 * np.eye(event_size))
    factor = scale[:, np.newaxis] * correlation_factor
    v = np.linalg.solve(factor, (z - shift).T).T
    before = 0.5 * np.linalg.slogdet(np.cov(z.T))[1]
    best = None
    for direction in _directions(v, correlation_factor):
        bend, numbers = _along(v, direction, shift, factor)
        y, log_det = inverse((bend,), z)
        after = 0.5 * np.linalg.slogdet(np.cov(y.T))[1] + log_det.mean()
        gain = float(np.nan_to_num(before - after - numbers * _penalty(size), nan=-np.inf))
        if best is None or gain > best.gain:
            best = Steepest(bend, gain)
    return best


def _directions(v: Array, correlation_factor: Array) -> list[Array]:
    """Unit vectors [D] worth trying: coordinates of z by their third moments, and where those of v are the largest."""
    v = np.clip(v, -FAR, FAR)
    along = v @ correlation_factor.T  # z, each coordinate standardised
    moments = along.T @ (v**2 - (v**2).mean(0)) / len(v)
    found = [correlation_factor[k] for k in np.argsort(-(moments**2).sum(1))[:NUM_TRIED]]
    if v.shape[1] <= MAX_THIRD:
        flat = products(v, v, v).reshape(v.shape[1], -1)
        found += list(np.linalg.eigh(flat @ flat.T)[1][:, -2:].T)
    return [vector / np.linalg.norm(vector) for vector in found]


def products(one: Array, other: Array, third: Array) -> Array:
    """Means of the products of three vectors, [N, D] each -> [D, D, D]."""
    return np.stack([(one[:, i : i + 1] * other).T @ third for i in range(one.shape[1])]) / len(one)


def _along(v: Array, direction: Array, shift: Array, factor: Array) -> tuple[Bend, int]:
    """The bend whose first coordinate is ``direction``, and how many numbers it has chosen."""
    size, event_size = v.shape
    first = np.eye(event_size)
    first[:, 0] = direction
    basis = np.linalg.qr(first)[0]
    basis[:, 0] = direction
    t = v @ direction
    rest = v @ basis[:, 1:]
    bases = _bases(t)
    centred = rest - bases.mean @ _fit(bases, rest, _mask(CENTRES[-1], rest), SCALES[0]).mean
    centred = np.clip(centred / (centred.std(0) + 1e-300), -FAR, FAR)
    values, vectors = np.linalg.eigh((centred * t[:, np.newaxis]).T @ centred / size)
    basis[:, 1:] = basis[:, 1:] @ vectors
    found = _chosen(bases, v @ basis[:, 1:], np.abs(values) > EDGE * 2.0 * math.sqrt(event_size / size) * t.std())
    numbers = int(np.count_nonzero(found.log_scale[1:]) + np.count_nonzero(found.mean[1:]))
    log_scale, mean = (np.pad(part, [(0, 0), (1, 0)]) for part in (found.log_scale, found.mean))
    matrix = factor @ basis
    return Bend(shift, matrix, log_scale, mean, np.linalg.slogdet(matrix)[1]), numbers


class _Regression(NamedTuple):
    """w_i ~ N(m_i(t), s_i(t)^2).

    Attributes:
        log_scale: [3, D'].
        mean: [4, D'].
        centre: [4, D'], columns of the centres' basis in use.
        cost: [D'], mean of -log density and what the numbers cost, nats.
    """

    log_scale: Array
    mean: Array
    centre: Array
    cost: Array


def _chosen(bases: _Bases, w: Array, scaled: Array) -> _Regression:
    """Of each coordinate the regression with the smallest BIC; with a constant scale where not ``scaled``.

    Slopes of log scales are either each coordinate's own, or those of all: in a hierarchy they are the same, and then
    known so much better that they hold where no draws have been.
    """
    penalty = _penalty(len(w))
    best = _fit(bases, w, _mask(CENTRES[0], w), SCALES[0])
    for scale in SCALES:
        columns = np.flatnonzero(scaled) if len(scale) > 1 else np.arange(w.shape[1])
        for centre in CENTRES:
            found = _fit(bases, w[:, columns], _mask(centre, columns), scale)
            found = found._replace(cost=found.cost + penalty * (len(centre) + len(scale) - 2))
            better = columns[found.cost < best.cost[columns]]
            for ours, theirs in zip(best, found, strict=True):
                ours[..., better] = theirs[..., np.isin(columns, better)]
    columns = np.flatnonzero(scaled)
    if not len(columns):
        return best
    centres = best.centre[:, columns]
    least = best.cost[columns].sum()
    for scale in SCALES[1:]:
        alike = _fit(bases, w[:, columns], centres, scale, shared=True)
        cost = alike.cost.sum() + penalty * (centres[1:].sum() + len(scale) - 1)
        if cost < least:
            least = cost
            for ours, theirs in zip(best, alike, strict=True):
                ours[..., columns] = theirs
    return best


def _mask(columns: tuple[int, ...], like: Array) -> Array:
    """[4, D'], one where a column of the basis is used; for each column of ``like`` [..., D'] the same."""
    return np.repeat(np.isin(np.arange(4), columns)[:, np.newaxis], like.shape[-1], 1).astype(float)


def _fit(bases: _Bases, w: Array, centre: Array, scale: tuple[int, ...], *, shared: bool = False) -> _Regression:
    """Largest likelihood with these columns of the bases, all coordinates at once, by turns and Fisher scoring.

    Args:
        bases: of t [N].
        w: [N, D'].
        centre: [4, D'], one for each column of the centres' basis that is used, else zero.
        scale: columns of the scales' basis.
        shared: slopes are the same for all coordinates.
    """
    in_scale, in_mean = bases.scale[:, scale], bases.mean
    log_scale, slope = np.zeros((3, w.shape[1])), np.zeros((len(scale), w.shape[1]))
    used = np.einsum("id,jd->dij", centre, centre)
    normal = np.linalg.inv(in_scale.T @ in_scale)
    weight = np.ones_like(w)
    for turn in range(ITERATIONS if len(scale) > 1 else 1):
        matrices = (bases.products.T @ weight).T.reshape(-1, 4, 4) * used
        # What is not used is left out; a ridge, for where scales explode few draws have all of the weight.
        diagonal = 1e-9 * np.trace(matrices, axis1=1, axis2=2) + 1e-300 + (1.0 - centre)
        matrices += np.einsum("id,ij->dij", diagonal, np.eye(4))
        sides = centre * (in_mean.T @ (weight * w))
        mean = np.linalg.solve(matrices, sides.T[..., np.newaxis])[..., 0].T
        squares = (w - in_mean @ mean) ** 2
        if turn == 0:
            slope[0] = 0.5 * np.log(squares.mean(0) + 1e-300)
        else:
            step = normal @ (in_scale.T @ (0.5 * (np.minimum(squares * weight, 30.0) - 1.0)))
            if shared:
                step[1:] = step[1:].mean(1, keepdims=True)
            slope += np.clip(step, -1.0, 1.0)
        weight = np.exp(np.clip(-2.0 * in_scale @ slope, -MAX_EXPONENT, MAX_EXPONENT))
    log_scale[list(scale)] = slope
    cost = (in_scale @ slope).mean(0) + 0.5 * (squares * weight).mean(0)
    return _Regression(log_scale, mean, centre.copy(), cost)


def _penalty(size: int) -> float:
    """Nats for each number: half of BIC's log N / N, and not less than what is worth a number."""
    return max(0.5 * math.log(size) / size, WORTH)


class _Bases(NamedTuple):
    """What log scales and centres are linear in, at t [N].

    Attributes:
        scale: [N, 3], (1, t, h).
        mean: [N, 4], (1, t, t^2, h).
        products: [N, 16], of all pairs of ``mean``.
    """

    scale: Array
    mean: Array
    products: Array


def _bases(t: Array) -> _Bases:
    one, h = np.ones_like(t), np.sqrt(1.0 + t**2)
    mean = np.stack([one, t, t**2, h], 1)
    return _Bases(mean[:, [0, 1, 3]], mean, np.einsum("ni,nj->nij", mean, mean).reshape(len(t), -1))
