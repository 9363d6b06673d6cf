"""Exact posterior draws of the simulation tasks, in NumPy: closed forms and rejection."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.definitions import Array
from benchmarks.references import Moments

if TYPE_CHECKING:
    from neural_vb.errors import DataError

Rng = np.random.Generator
Draws = dict[str, Array]

NORMAL_PRIOR_SD = 2.0
NORMAL_NOISE_SD = 1.0
REGRESSION_NOISE_SD = 0.5
REGRESSION_SIZE = 3
MIXTURE_BOUND = 10.0
MIXTURE_SDS = (1.0, 0.1)
MOONS_BOUND = 1.0
MOONS_OFFSET = 0.25
MOONS_RADIUS = 0.1
MOONS_WIDTH = 0.01
MOONS_EDGE = 0.01
SLCP_BOUND = 3.0
SLCP_ROWS = 4
SLCP_FLOOR = 1e-8

MAX_PROPOSALS = 40_000_000
PATIENCE = 2_000_000  # proposals for SLCP, after which chains take over from rejection
NUM_STARTS = 200  # exact draws that they need
NUM_STEPS = 500


class Gaussian(NamedTuple):
    """Mean [D] and covariance [D, D]."""

    mean: Array
    covariance: Array

    def sample(self, num_draws: int, rng: Rng) -> Array:
        """Draws [S, D]."""
        return self.mean + rng.standard_normal((num_draws, len(self.mean))) @ np.linalg.cholesky(self.covariance).T

    def moments(self) -> Moments:
        """Mean and sd, [D] each."""
        return Moments(self.mean, np.sqrt(np.diag(self.covariance)))


def regression_design(num_rows: int) -> Array:
    """An intercept and two correlated regressors from ``RandomState(3)``: [n, 3]."""
    noise = np.random.RandomState(3).standard_normal((num_rows, REGRESSION_SIZE - 1))
    return np.column_stack([np.ones(num_rows), noise[:, 0], 0.6 * noise[:, 0] + 0.8 * noise[:, 1]])


def conjugate_normal(data: Mapping[str, Array]) -> Gaussian:
    """mu | y ~ N(v sum(y) / noise^2, v), v = 1 / (1 / prior^2 + n / noise^2), for y [n]."""
    y = np.asarray(data["y"], float)
    variance = 1.0 / (NORMAL_PRIOR_SD**-2 + len(y) * NORMAL_NOISE_SD**-2)
    return Gaussian(np.array([variance * y.sum() / NORMAL_NOISE_SD**2]), np.array([[variance]]))


def linear_regression(data: Mapping[str, Array]) -> Gaussian:
    """b | y ~ N(V X^T y / noise^2, V), V = (X^T X / noise^2 + I)^-1, for y [n]."""
    y = np.asarray(data["y"], float)
    design = regression_design(len(y))
    covariance = np.linalg.inv(design.T @ design / REGRESSION_NOISE_SD**2 + np.eye(REGRESSION_SIZE))
    return Gaussian(covariance @ design.T @ y / REGRESSION_NOISE_SD**2, covariance)


def gaussian_mixture(data: Mapping[str, Array], num_draws: int, rng: Rng) -> Draws:
    """z | x for x ~ .5 N(z, I) + .5 N(z, .01 I): that mixture around x, cut to the prior's square. [S, 2]."""
    x = np.asarray(data["x"], float)

    def propose(size: int) -> Array:
        sds = np.array(MIXTURE_SDS)[rng.integers(0, 2, size)]
        z = x + sds[:, None] * rng.standard_normal((size, 2))
        return z[(np.abs(z) < MIXTURE_BOUND).all(axis=1)]

    return {"z": _filled(propose, num_draws, "gaussian_mixture")}


def two_moons(data: Mapping[str, Array], num_draws: int, rng: Rng, *, edge: float) -> Draws:
    """z | x by solving x = p + (-|z1 + z2|, z2 - z1) / sqrt(2) for z, p drawn from the moon around (.25, 0): [S, 2].

    The map from z to p has unit Jacobian on each side of z1 + z2 = 0, so that both solutions are equally likely. A p
    that would need a negative |z1 + z2| has no solution, and one outside the prior's square no weight: both are
    rejected.

    Args:
        data: x [2].
        num_draws: S.
        rng: source of random numbers.
        edge: of the ``Moon``; 0 for the original task.
    """
    x = np.asarray(data["x"], float)

    def propose(size: int) -> Array:
        angle = rng.uniform(-np.pi, np.pi, size)
        cosine = np.cos(angle)
        if edge > 0.0:
            keep = rng.random(size) * (1.0 + np.exp(np.minimum(-cosine / edge, 700.0))) < 1.0
            cosine = np.where(keep, cosine, -cosine)
        else:
            cosine = np.abs(cosine)
        radius = MOONS_RADIUS + MOONS_WIDTH * rng.standard_normal(size)
        across = MOONS_OFFSET + radius * cosine - x[0]  # |z1 + z2| / sqrt(2)
        along = x[1] - radius * np.sin(angle)  # (z2 - z1) / sqrt(2)
        signed = np.where(rng.random(size) < 0.5, across, -across)
        z = np.stack([signed - along, signed + along], axis=1) / math.sqrt(2.0)
        return z[(across >= 0.0) & (np.abs(z) < MOONS_BOUND).all(axis=1)]

    return {"z": _filled(propose, num_draws, "two_moons")}


def slcp(data: Mapping[str, Array], num_draws: int, rng: Rng, *, floor: float) -> Draws:
    """z | x for four points x ~ N((z1, z2), S), S = [[z3^4 + f, c], [c, z4^4 + f]], c = tanh(z5) z3^2 z4^2: [S, 5].

    Without the floor f, and with A the points' scatter about their mean, the marginal of S is

        p(S | x) ~ |S|^(-11/4) exp(-tr(S^-1 A) / 2) (1 - rho^2)^(1/4)   inside the prior's box,

    an inverse Wishart law with 2.5 degrees of freedom times a factor below one: |S|^(-3/2) from the points, the rest
    from z3, z4, z5 being uniform. So S is drawn by rejection, then (z1, z2) ~ N(mean of x, S / 4), rejected outside the
    box, and the signs of z3 and z4 are two coins. A floor enters by one more rejection, with the ratio of the
    likelihoods with and without it over its largest value among a first round of draws.

    Markov chains go on from the draws there are where the prior's box cuts almost all of that law off (correlations
    near +-1, means far outside), each in equilibrium from its first step; and where the floor matters so much that its
    rejection is only about right.

    Args:
        data: x [4, 2].
        num_draws: S.
        rng: source of random numbers.
        floor: f.

    Raises:
        DataError: the points' spread is so small that the floor decides the posterior; or x is nearly impossible.
    """
    x = np.asarray(data["x"], float)
    scatter = (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))
    if np.diag(scatter).min() < 20.0 * floor:
        raise _data_error(
            expected="four points with a spread well above the floor of the variance",
            got=f"a sum of squares of {np.diag(scatter).min():.2g} with floor {floor:.2g}",
            fix="leave this data set out, or build the task with a smaller floor",
        )
    factor = np.linalg.cholesky(scatter)

    def propose(size: int) -> Array:
        # Bartlett: S^-1 = A^-T/2 T T^T A^-1/2 with T lower triangular, so S = R R^T with R = A^1/2 T^-T.
        first, second = np.sqrt(rng.chisquare(2.5, size)), np.sqrt(rng.chisquare(1.5, size))
        inverse = np.zeros((size, 2, 2))
        inverse[:, 0, 0], inverse[:, 1, 1] = 1.0 / first, 1.0 / second
        inverse[:, 0, 1] = -rng.standard_normal(size) / (first * second)
        root = factor @ inverse
        variances = (root**2).sum(axis=2)
        rho = (root[:, 0] * root[:, 1]).sum(axis=1) / np.sqrt(variances.prod(axis=1))
        accept = rng.random(size) < np.maximum(1.0 - rho**2, 0.0) ** 0.25
        accept &= (variances < SLCP_BOUND**4).all(axis=1) & (np.abs(rho) < math.tanh(SLCP_BOUND))
        root, variances, rho = root[accept], variances[accept], rho[accept]
        noise = rng.standard_normal((len(root), 2)) / math.sqrt(SLCP_ROWS)
        means = x.mean(axis=0) + np.einsum("nij,nj->ni", root, noise)
        z = np.column_stack([means, rng.choice([-1.0, 1.0], (len(root), 2)) * variances**0.25, np.arctanh(rho)])
        return z[(np.abs(means) < SLCP_BOUND).all(axis=1)]

    if floor == 0.0:
        z, even = _collected(propose, num_draws, enough=NUM_STARTS), True
    else:
        first_round = _log_floor_ratio(_collected(propose, 1_000, enough=NUM_STARTS), x, floor)
        log_bound = float(np.max(first_round, initial=-math.inf))
        even = log_bound - float(np.median(first_round)) < 0.1 if len(first_round) else True

        def corrected(size: int) -> Array:
            z = propose(size)
            return z[np.log(rng.random(len(z))) < _log_floor_ratio(z, x, floor) - log_bound]

        z = _collected(corrected, num_draws if even else NUM_STARTS, enough=NUM_STARTS)
    if len(z) < min(num_draws, NUM_STARTS):
        raise _too_few(len(z), num_draws, "slcp")
    return {"z": z if even and len(z) == num_draws else _continued(z, x, num_draws, rng, floor=floor)}


def _continued(starts: Array, x: Array, num_draws: int, rng: Rng, *, floor: float) -> Array:
    """Posterior draws of SLCP by Metropolis steps from exact ones: [K, 5] -> [S, 5].

    A step adds a multiple of the difference of two starts, which follows the posterior's ridges and is symmetric; in
    coordinates (z1, z2, log|z3|, log|z4|, z5).
    """
    fixed = np.column_stack([starts[:, :2], np.log(np.abs(starts[:, 2:4])), starts[:, 4]])

    def unpacked(w: Array) -> Array:
        return np.column_stack([w[:, :2], np.exp(np.minimum(w[:, 2:4], 10.0)), w[:, 4]])

    def log_density(w: Array) -> Array:
        z = unpacked(w)
        inside = (np.abs(z) < SLCP_BOUND).all(axis=1)
        z[~inside] = 1.0  # not looked at, but finite
        return np.where(inside, slcp_log_likelihood(z, x, floor) + w[:, 2] + w[:, 3], -math.inf)

    w = fixed[rng.integers(0, len(fixed), num_draws)]
    value = log_density(w)
    for _ in range(NUM_STEPS):
        one, other = rng.integers(0, len(fixed), (2, num_draws))
        scale = rng.choice([0.2, 0.5, 1.0], (num_draws, 1))
        noise = 0.02 * fixed.std(axis=0) * rng.standard_normal(w.shape)
        proposal = w + scale * (fixed[one] - fixed[other]) + noise
        proposed = log_density(proposal)
        accept = np.log(rng.random(num_draws)) < proposed - value
        w, value = np.where(accept[:, None], proposal, w), np.where(accept, proposed, value)
    z = unpacked(w)
    z[:, 2:4] *= rng.choice([-1.0, 1.0], (num_draws, 2))
    return z


def _log_floor_ratio(z: Array, x: Array, floor: float) -> Array:
    return slcp_log_likelihood(z, x, floor) - slcp_log_likelihood(z, x, 0.0)


def slcp_log_likelihood(z: Array, x: Array, floor: float) -> Array:
    """log p(x | z) in nats: z [S, 5], x [4, 2] -> [S]."""
    first, second = z[:, 2] ** 2, z[:, 3] ** 2
    variances, rho = np.stack([first**2 + floor, second**2 + floor], axis=1), np.tanh(z[:, 4])
    covariance = rho * first * second
    # v1 v2 - c^2, with its terms added up and not subtracted: 1 - rho^2 may be small.
    determinant = (1.0 - rho**2) * (first * second) ** 2 + floor * (first**2 + second**2 + floor)
    offset = x - z[:, None, :2]
    square = variances[:, None, ::-1] * offset**2
    quadratic = (square.sum(axis=2) - 2.0 * covariance[:, None] * offset.prod(axis=2)).sum(axis=1) / determinant
    return -0.5 * quadratic - 0.5 * len(x) * np.log(determinant) - len(x) * math.log(2.0 * math.pi)


def _filled(propose: Callable[[int], Array], num_draws: int, task: str) -> Array:
    """The first S accepted draws, [S, D]."""
    z = _collected(propose, num_draws, enough=num_draws)
    if len(z) < num_draws:
        raise _too_few(len(z), num_draws, task)
    return z


def _collected(propose: Callable[[int], Array], num_draws: int, *, enough: int) -> Array:
    """At most S accepted draws, [.., D]; after some patience any number from ``enough`` on will do.

    Args:
        propose: n -> what it accepts of n proposals, [.., D].
        num_draws: S.
        enough: number of draws with which to stop when acceptance is low.
    """
    kept: list[Array] = []
    have, tried = 0, 0
    while have < num_draws and tried < MAX_PROPOSALS and not (tried >= PATIENCE and have >= enough):
        size = int(np.clip(max(tried, 2 * num_draws), 200, 50_000))
        kept.append(propose(size))
        have, tried = have + len(kept[-1]), tried + size
    return np.concatenate(kept)[:num_draws]


def _too_few(have: int, num_draws: int, task: str) -> DataError:
    return _data_error(
        expected=f"data that the task {task!r} is likely to simulate",
        got=f"{have} accepted posterior draws of {MAX_PROPOSALS:,} proposals, where {num_draws} were wanted",
        fix="take data from the task's own `simulate`, or fewer draws",
    )


def _data_error(*, expected: str, got: str, fix: str) -> DataError:
    from neural_vb.errors import DataError  # here, as it loads TensorFlow

    return DataError(expected=expected, got=got, fix=fix)
