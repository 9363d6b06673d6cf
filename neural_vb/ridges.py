"""Conditional Gaussians along one direction, from scores: q(w) = q(t) N(w'; m(t), L(t) L(t)^T), t = w_1.

In most hierarchies all but one direction are about Gaussian once it is given. Conditional Gaussians are fitted under
KL(q || p) by natural gradients (Khan & Rue, "The Bayesian learning rule", arXiv 2107.04562), as one Gaussian is, but
with all of their numbers in the span of a few functions of t, and t drawn from farther out than p has it. The density
of t is then a matter of one dimension: at each t, from importance weights of the conditional draws,

    p(t) = E_{q(w' | t)}[p(t, w') / q(w' | t)]

(Tierney & Kadane 1986; Rue, Martino & Chopin 2009 take one Gaussian each, and no weights), wherever no draw has been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy import interpolate, special

from neural_vb import warping
from neural_vb._types import Array, Density, Tensor
from neural_vb.warping import Warp

KNOTS = (-2.0, -0.7, 0.7, 2.0)
NUM_BASIS = 2 + len(KNOTS)
MIN_DRAWS, DRAWS_A_FEATURE = 2_048, 8
WIDE = 1.3  # sds of t for most of the draws,
EDGE = 4.0  # and bound of a few, which are uniform: in tails the same numbers hold
FAR_SHARE = 8  # of so many draws one
ROUNDING = 1e-3  # nats
GRID = 40  # values of t at which steps are taken
ITERATIONS, AVERAGED = 24, 4
ROUNDS = 3  # of conditionals and the density of t by turns
RESTED = 0.1  # sds of t
REACH, POINTS, NUM_EACH = 7.0, 57, 64  # of the quadrature
USABLE = 0.1  # effective share of the weights at one t
FEWEST = 5  # points that show a density
FINE = 4_001  # points of the interpolated density
LOST = 0.01  # share of the draws that may have no density
LONGEST = 3.0  # gradient of one coordinate, in the root of the mean square; longer ones are cut
DEEPEST = 30.0  # nats below the median; how far below does not tell better steps from worse


class Ridge(NamedTuple):
    """x -> w, in float64; with t = x_1, h(t) = (1 + t^2)^(1/2) and b = (1, t, h(t - c_k) - h(c_k)), k = 1, ..., 4,

        w_1 = t,    w_i = mean_i . b + exp(log_scale_i . b) x_i + sum_{1 < j < i} (mixing_ij . b) x_j.

    Attributes:
        mean: [6, D], first column zero.
        log_scale: [6, D], first column zero.
        mixing: [6, D, D], strictly lower triangular, first column zero.
    """

    mean: Any
    log_scale: Any
    mixing: Any

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] -> w [..., D], log |det dw/dx| [...]."""
        t = x[..., :1]
        bends = tf.sqrt(1.0 + (t - tf.constant(KNOTS, t.dtype)) ** 2) - tf.constant(np.hypot(1.0, KNOTS), t.dtype)
        basis = tf.concat([tf.ones_like(t), t, bends], -1)
        # Few products of many columns: XLA compiles each for as long as all.
        mean, log_scale = tf.split(tf.tensordot(basis, tf.concat([self.mean, self.log_scale], 1), 1), 2, -1)
        mixed = tf.tensordot(x, tf.transpose(self.mixing, [2, 0, 1]), 1)
        w = mean + tf.exp(log_scale) * x + tf.reduce_sum(basis[..., tf.newaxis] * mixed, -2)
        return w, tf.reduce_sum(log_scale, -1)

    def inverse(self, w: Array) -> tuple[Array, Array]:
        """[N, D] -> x [N, D], log |det dw/dx| [N]."""
        basis = _basis(w[:, 0])
        log_scale = basis @ self.log_scale
        rest, inverse_scale = w - basis @ self.mean, np.exp(-log_scale)
        x = np.empty_like(w)
        for i in range(w.shape[1]):
            x[:, i] = (rest[:, i] - ((basis @ self.mixing[:, i, :i]) * x[:, :i]).sum(1)) * inverse_scale[:, i]
        return x, log_scale.sum(1)

    @staticmethod
    def shapes(event_size: int) -> tuple[tuple[int, ...], ...]:
        """Of the attributes in D dimensions."""
        return (NUM_BASIS, event_size), (NUM_BASIS, event_size), (NUM_BASIS, event_size, event_size)


def _basis(t: Array) -> Array:
    """[N] -> [N, 6]."""
    return np.stack(
        [np.ones_like(t), t, *(np.sqrt(1.0 + (t - knot) ** 2) - math.hypot(1.0, knot) for knot in KNOTS)], 1
    )


def fit(evaluate: Density, w: Array, *, seed: Sequence[int]) -> tuple[Ridge, Warp] | None:
    """Conditional Gaussians, and the warp of t after which it is about standard normal.

    Args:
        evaluate: [N, D] -> log p [N], nats, and its gradient [N, D].
        w: [N, D] draws near p, for a start; in about unit scale along t.
        seed: of the draws.

    Returns:
        None where draws leave the support, or the density of t cannot be seen.
    """
    size = w.shape[1]
    rng = np.random.default_rng(seed)
    ridge, along = _start(w), warping.fit(w[:, :1])[0]
    standard = np.linspace(-2.0, 2.0, 9)[:, np.newaxis]
    for _ in range(ROUNDS):
        following = _ascended(evaluate, ridge, along, rng)
        found = None if following is None else _marginal(evaluate, following, along, rng)
        if following is None or found is None:
            return None
        moved = np.abs(found.inverse(along.forward(tf.constant(standard))[0].numpy())[0] - standard).max()
        ridge, along = following, found
        if moved < RESTED:
            break
    others = warping.identity(size)
    warp = Warp(*(np.concatenate([one, rest[1:]]) for one, rest in zip(along, others, strict=True)))
    return ridge, warp


def _start(w: Array) -> Ridge:
    """The Gaussian of draws, its regression on t the same everywhere."""
    size = w.shape[1]
    t, rest = w[:, 0], w[:, 1:]
    features = np.stack([np.ones_like(t), t], 1)
    coefficients = np.linalg.lstsq(features, rest, rcond=None)[0]
    factor = np.linalg.cholesky(np.cov((rest - features @ coefficients).T).reshape(size - 1, size - 1))
    mean, log_scale = np.zeros([NUM_BASIS, size]), np.zeros([NUM_BASIS, size])
    mixing = np.zeros([NUM_BASIS, size, size])
    mean[:2, 1:] = coefficients
    log_scale[0, 1:] = np.log(np.diag(factor))
    mixing[0, 1:, 1:] = np.tril(factor, -1)
    return Ridge(mean, log_scale, mixing)


class _Look(NamedTuple):
    """What draws of a ridge say: terms of the bound, and regressions of its natural gradients on t.

    Attributes:
        terms: log p + log |det dw/de| + |e|^2 / 2 of near and of far draws, nats.
        gradient: of the bound in the conditional mean, in sds, [6, D - 1].
        hessian: of log p + |e|^2 / 2, [6, D - 1, D - 1].
    """

    terms: tuple[Array, Array]
    gradient: Array
    hessian: Array

    def gains(self, before: _Look) -> Array:
        """What the bound has gained, near and far, in three standard errors, of which a nat is trusted at most."""
        found = []
        for ours, theirs in zip(self.terms, before.terms, strict=True):
            deepest = np.median(theirs) - DEEPEST
            ours, theirs = np.maximum(ours, deepest), np.maximum(theirs, deepest)
            noise = 3.0 * math.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs)) + ROUNDING
            found.append((ours.mean() - theirs.mean()) / min(noise, 1.0))
        return np.array(found)


def _spread(num: int, shift: Array) -> Array:
    """Values of a standard normal t [num, 1], near ones and then far ones, at ``shift`` in (0, 1) of their strata."""
    far = num // FAR_SHARE
    near = (np.arange(num - far) + shift[far:]) / (num - far)
    return np.concatenate([WIDE * special.ndtri(near), EDGE * (2.0 * (np.arange(far) + shift[:far]) / far - 1.0)])[
        :, np.newaxis
    ]


def _look(evaluate: Density, ridge: Ridge, along: Warp, rng: np.random.Generator) -> _Look | None:
    size = ridge.mean.shape[1]
    num = max(MIN_DRAWS, DRAWS_A_FEATURE * NUM_BASIS * size)
    t = along.forward(tf.constant(_spread(num, rng.random(num))))[0].numpy()
    e = rng.standard_normal((num, size - 1))
    w, log_det = (part.numpy() for part in ridge.forward(tf.constant(np.concatenate([t, e], 1))))
    log_prob, score = evaluate(w)
    usable = np.isfinite(log_prob) & np.isfinite(score).all(1)
    if usable.mean() < 1.0 - LOST:
        return None
    basis = _basis(t[:, 0])
    rest = score[:, 1:] * np.exp(basis @ ridge.log_scale[:, 1:]) + e
    for k in range(NUM_BASIS):
        rest += basis[:, k : k + 1] * (score[:, 1:] @ ridge.mixing[k, 1:, 1:])
    terms = log_prob + log_det + 0.5 * (e**2).sum(1)
    near, far = (part[np.isfinite(part)] for part in np.split(np.where(usable, terms, np.nan), [-(num // FAR_SHARE)]))
    features = (basis[:, :, np.newaxis] * np.concatenate([np.ones([num, 1]), e], 1)[:, np.newaxis]).reshape(num, -1)
    features, rest = features[usable], rest[usable]
    rest = shortened(rest)
    normal = features.T @ features
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    found = np.linalg.solve(normal, features.T @ rest).reshape(NUM_BASIS, size, size - 1)
    hessian = found[:, 1:].transpose(0, 2, 1)
    return _Look((near, far), found[:, 0], 0.5 * (hessian + hessian.transpose(0, 2, 1)))


def shortened(gradients: Array) -> Array:
    """[N, D], of which few long ones would decide regressions: those of more than ``LONGEST`` a coordinate are cut."""
    return gradients * np.minimum(1.0, LONGEST / (np.sqrt((gradients**2).mean(1, keepdims=True)) + 1e-300))


def _step(ridge: Ridge, look: _Look, along: Warp, radius: float, share: float) -> Ridge:
    """A share of the natural gradient step, at a grid of t; numbers of the ridge by least squares."""
    size = ridge.mean.shape[1]
    basis = _basis(along.forward(tf.constant(_spread(GRID, np.full(GRID, 0.5))))[0].numpy()[:, 0])
    bound = 2.0 * min(radius, 1.0)
    hessian = share * np.tensordot(basis, look.hessian, 1)
    precisions, vectors = np.linalg.eigh(np.eye(size - 1) - hessian)
    precisions = np.clip(precisions, math.exp(-bound), math.exp(bound))
    move = share * np.einsum("gij,gi->gj", vectors, basis @ look.gradient) / precisions
    length = np.abs(move).max(1, keepdims=True)
    move = np.einsum("gij,gj->gi", vectors, move * np.minimum(1.0, radius / (length + 1e-30)))
    covariance = (vectors / precisions[:, np.newaxis]) @ vectors.transpose(0, 2, 1)
    factor = np.tensordot(basis, ridge.mixing[:, 1:, 1:], 1)
    diagonal = np.arange(size - 1)
    factor[:, diagonal, diagonal] = np.exp(basis @ ridge.log_scale[:, 1:])
    mean = basis @ ridge.mean[:, 1:] + np.einsum("gij,gj->gi", factor, move)
    factor = factor @ np.linalg.cholesky(covariance)
    project = np.linalg.pinv(basis)
    following = Ridge(*(np.zeros_like(part) for part in ridge))
    following.mean[:, 1:] = project @ mean
    following.log_scale[:, 1:] = project @ np.log(factor[:, diagonal, diagonal])
    following.mixing[:, 1:, 1:] = np.tensordot(project, np.tril(factor, -1), 1)
    return following


def _ascended(evaluate: Density, ridge: Ridge, along: Warp, rng: np.random.Generator) -> Ridge | None:
    """The conditional bound's maximum: whole steps while it grows, then shares of steps, which average their noise."""
    current, radius, averaged = _look(evaluate, ridge, along, rng), 1.0, 0
    if current is None:
        return None
    for _ in range(ITERATIONS):
        proposal = _step(ridge, current, along, radius, 1.0 / (1.0 + averaged))
        following = _look(evaluate, proposal, along, rng)
        gains = np.array([-np.inf]) if following is None else following.gains(current)
        if following is None or gains.min() < -1.0:
            radius /= 4.0
            if radius < 1e-3:
                break
            continue
        if averaged or gains.max() < 1.0:
            averaged += 1
        ridge, current, radius = proposal, following, min(2.0 * radius, 8.0)
        if averaged > AVERAGED:
            break
    return ridge


def _marginal(evaluate: Density, ridge: Ridge, along: Warp, rng: np.random.Generator) -> Warp | None:
    """The warp of t whose density is nearest to p's."""
    size = ridge.mean.shape[1]
    t = along.forward(tf.constant(np.linspace(-REACH, REACH, POINTS)[:, np.newaxis]))[0].numpy()
    e = rng.standard_normal((NUM_EACH // 2, size - 1))
    e = np.tile(np.concatenate([e, -e]), (POINTS, 1))
    x = np.concatenate([np.repeat(t, NUM_EACH, 0), e], 1)
    w, log_det = (part.numpy() for part in ridge.forward(tf.constant(x)))
    log_weights = (evaluate(w)[0] + log_det + 0.5 * (e**2).sum(1)).reshape(POINTS, -1)
    log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
    log_prob = special.logsumexp(log_weights, 1)
    seen = np.isfinite(log_prob)
    effective = 2.0 * log_prob[seen] - special.logsumexp(2.0 * log_weights[seen], 1)
    trusted = seen.copy()
    trusted[seen] = effective > math.log(USABLE * NUM_EACH)
    first, last = _run(trusted, int(np.argmax(np.where(trusted, log_prob, -np.inf))))
    t, log_prob = t[first : last + 1, 0], log_prob[first : last + 1]
    if len(t) < FEWEST or not (np.diff(t) > 0.0).all():
        return None
    fine = np.linspace(t[0], t[-1], FINE)
    log_prob = interpolate.PchipInterpolator(t, log_prob)(fine)
    return warping.of_density(fine, log_prob)


def _run(true: Array, inside: int) -> tuple[int, int]:
    """First and last of the places around ``inside`` that are all true."""
    false = np.flatnonzero(~true)
    before, after = false[false < inside], false[false > inside]
    return (before[-1] + 1 if len(before) else 0), (after[0] - 1 if len(after) else len(true) - 1)
