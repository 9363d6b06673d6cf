"""Moments of a trained sampler, put right by what the contrast's importance weights say of the target's.

At the end of training the contrast r is often nearer to the target than the sampler is, and its density is known:
draws of r weighted by p / r give means and covariances of p. An affine map of the whitened coordinates gives them to
the sampler. Sampler, critic and contrast live in these coordinates and stay as they are: only the map to z changes, so
that log q = log r + T holds as before.

What is wanted is E_p[f] = E_r[f] + E_r[(p / r - 1) f]. Draws of r cost little, so that the first term is known well;
where r is near p the second has little noise, and it alone needs log p.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from neural_vb import psis
from neural_vb._types import Array
from neural_vb.whitening import Whitening

NUM_WEIGHTED = 32_768  # draws of the contrast at which log p is looked at
MOST, FEWEST, WORK = 262_144, 32_768, 2**30  # other draws of the contrast, and of the sampler: so many multiplications
NUM_GUARDS = 4_096  # of the sampler's draws, at which the contrast must not be much too small
ABOVE, MISSED = 3.0, 0.01  # nats above log Z that log p - log r may be, but for this share of them
USABLE = 0.2  # effective share of the weighted draws
NOISE = 3.0  # standard errors; what is below is left as it is
LOST = 0.05  # nats of the bound that moments may cost
LARGEST = 0.5  # of a mean, in sds, and of a covariance in u; what is farther off is another error, and is not hidden


class Moments(NamedTuple):
    """Of draws u, with the variances of their estimates.

    Attributes:
        mean: [D].
        covariance: [D, D].
        mean_noise: [D], squared standard errors.
        covariance_noise: [D, D].
    """

    mean: Array
    covariance: Array
    mean_noise: Array
    covariance_noise: Array

    @classmethod
    def of(cls, pieces: Iterable[Array]) -> Moments:
        """Of draws in pieces [S, D] of equal size."""
        found = [cls._of_one(np.asarray(u, np.float64)) for u in pieces]
        mean, covariance, mean_noise, noise = (np.mean(part, 0) for part in zip(*found, strict=True))
        between = np.stack([one.mean for one in found]) - mean
        covariance += between.T @ between / len(found)
        return cls(mean, covariance, mean_noise / len(found), noise / len(found))

    @classmethod
    def _of_one(cls, u: Array) -> Moments:
        size, mean = len(u), u.mean(0)
        around = u - mean
        covariance, squares = around.T @ around / size, around**2
        return cls(mean, covariance, np.diag(covariance) / size, (squares.T @ squares / size - covariance**2) / size)


def num_draws(event_size: int) -> int:
    """How many draws moments are made of; a covariance of D dimensions is D^2 sums."""
    return int(np.clip(WORK // event_size**2, FEWEST, MOST))


def target_moments(r: Moments, u: Array, log_weights: Array, guards: Array) -> Moments | None:
    """Moments of p from those of r, and draws u [S, D] of r.

    Args:
        r: of many draws.
        u: [S, D].
        log_weights: [S], log p - log r, nats.
        guards: [M], log p - log r at draws of the sampler.

    Returns:
        None where k-hat is .7 or more, where the weights are those of few draws, or where the sampler goes to places
        that r does not: then its draws know nothing of what r misses.
    """
    smoothed = psis.smooth(log_weights)
    weights = np.exp(smoothed.log_weights)
    log_z = np.logaddexp.reduce(np.where(np.isfinite(log_weights), log_weights, -np.inf)) - np.log(len(u))
    missed = (~(guards < log_z + ABOVE)).mean()
    if not (smoothed.pareto_k < psis.USABLE and (weights**2).sum() * len(u) * USABLE < 1.0 and missed < MISSED):
        return None
    excess = (weights - 1.0 / len(u))[:, np.newaxis]
    around = np.where(np.isfinite(u), u, r.mean) - r.mean
    shift, squares = (excess * around).sum(0), around**2
    covariance = r.covariance + (excess * around).T @ around - np.outer(shift, shift)
    mean_noise, noise = (excess**2 * squares).sum(0), (excess**2 * squares).T @ squares
    return Moments(r.mean + shift, covariance, r.mean_noise + mean_noise, r.covariance_noise + noise)


def matched(whitening: Whitening, q: Moments, p: Moments) -> tuple[Whitening, bool]:
    """The map from u to y after which the sampler has p's moments, where these differ by more than their noise.

    With the lower triangular A, A C_q A^T = C, that takes the sampler's covariance to the corrected one, u becomes

        m + A (u - m_q),

    where entries of m and C are those of p if they are more than three standard errors from q's, else q's own.

    Args:
        whitening: of u.
        q: of the sampler's draws u.
        p: of the target in u.

    Returns:
        The map, and whether it is another one.
    """
    mean = _significant(p.mean - q.mean, p.mean_noise + q.mean_noise)
    covariance = _significant(p.covariance - q.covariance, p.covariance_noise + q.covariance_noise)
    if not (mean.any() or covariance.any()) or max(np.abs(mean).max(), np.abs(covariance).max()) > LARGEST:
        return whitening, False
    try:
        factor = np.linalg.cholesky(q.covariance)
        move = np.linalg.solve(factor.T, np.linalg.cholesky(q.covariance + covariance).T).T
    except np.linalg.LinAlgError:
        return whitening, False
    shift = whitening.shift + whitening.scale_tril @ (q.mean + mean - move @ q.mean)
    return replace(whitening, shift=shift, scale_tril=np.tril(whitening.scale_tril @ move)), True


def loses(before: Array, after: Array) -> bool:
    """Whether a map has lowered E_q[log p - log q] by more than moments are worth.

    Where modes are far apart moments are those of their weights and places, and no affine map puts weights right.

    Args:
        before: [S], log p + log |det| at draws of the sampler, nats.
        after: [S], at the same draws by the other map.
    """
    usable = np.isfinite(before), np.isfinite(after)
    if usable[1].sum() < usable[0].sum() or not (usable[0] & usable[1]).any():
        return True
    return bool((after - before)[usable[0] & usable[1]].mean() < -LOST)


def _significant(difference: Array, noise: Array) -> Array:
    """Differences beyond their noise, else zero."""
    return np.where(difference**2 > NOISE**2 * noise, difference, 0.0)
