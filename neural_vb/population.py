"""Population Monte Carlo: a mixture improved on its own weighted draws, until it is told from the target no more.

Cappé, Douc, Guillin, Marin & Robert, "Adaptive importance sampling in general mixture classes" (Statistics and
Computing 18, 2008). Most posteriors of small models are nearly Gaussian, or a few Gaussians: they need no network.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from neural_vb import gaussian_mixture, psis
from neural_vb._types import Array, Base
from neural_vb.mixtures import Stream

logger = logging.getLogger(__name__)

NUM_DRAWS = 16_384
NUM_MOVED = 3_072  # draws that are moved,
NUM_TUNING = 512  # and draws whose step size they take
MAX_ROUNDS = 10
USABLE = 0.02  # effective share of the draws below which their weights say too little to make a mixture from
GAIN = 0.8  # of the divergence; a round that leaves more is the last,
NEARLY, TRIALS = 10.0, 3  # or the third of its kind within this many tolerances
AIM, MORE = 0.25, 2  # share of the tolerance that is aimed at, in up to as many rounds more of a few components
WIDER = 1.5
WIDE_SHARE = 0.25  # of the draws
PENALTY = 2.0  # between AIC's 2 and BIC's log N: the draws are many, and the next ones judge
FEW = 4  # components; more may follow a curve as far as their own draws go, and leave out its far ends
MAX_LOOKS = 4
REACH = 1.0  # nats; moved draws of a mixture farther away are not yet the target's
POINTS_A_NUMBER = 10

FAR, NEAR = 30, 10  # transitions: for draws that make the next mixture, and for those that only judge

Move = Callable[[Array, int, int], tuple[Array, Array]]


class Population(NamedTuple):
    """A mixture q, and what fresh draws say of it.

    Attributes:
        base: the mixture.
        divergence: half the variance of log p - log q, under q or under p, whichever is larger; about KL(q || p) and
            KL(p || q) where they are small; nats.
        log_evidence: log of the integral of p, nats.
        elbo: E_q[log p - log q], nats.
        standard_error: of ``elbo``.
    """

    base: Base
    divergence: float
    log_evidence: float
    elbo: float
    standard_error: float


def improve(
    log_prob: Callable[[Array], Array], base: Base, *, seed: int, tolerance: float, move: Move | None
) -> Population:
    """Weighted draws make a better mixture, whose draws are weighted in turn, as long as fresh draws find it better.

    A quarter of the draws comes from components half as wide again: what lies beyond the mixture's own tails is seen.
    Each round tries up to twice as many components, on draws resampled by their weights. Where the tolerance is met, or
    nearly, moments and weights are put right by :func:`corrected`: a mixture has the noise of the draws it comes from.

    More than ``FEW`` components are believed only where they meet the tolerance on draws that have been moved too, for
    the far ends of a curve may be more than half a width away from all of them. Where they do not, and where the rounds
    end without meeting it, the moved draws make the next mixture, as long as they are many for its numbers.

    Args:
        log_prob: [N, D] -> [N], nats.
        base: the mixture to begin with.
        seed: of the draws.
        tolerance: divergence that is good enough.
        move: (draws [N, D], index, number of transitions) -> draws nearer to the target, [N', D], and their log p [N'];
            without it there are no more than ``FEW`` components.

    Returns:
        The mixture with the smallest divergence, which is infinite where a draw of it has no density under the
        target, and was measured on draws that it was not fitted to.
    """
    rng = np.random.default_rng([seed, Stream.POPULATION])
    if move is None:
        return _rounds(log_prob, base, rng, seed, tolerance, most=FEW)
    found = _rounds(log_prob, base, rng, seed, tolerance)
    beyond = 0.0
    for look in range(MAX_LOOKS):
        number = len(found.base.log_weights)
        met = found.divergence < tolerance
        room = gaussian_mixture.count(2 * number, base.means.shape[1]) < NUM_MOVED / POINTS_A_NUMBER
        if met and number <= FEW:
            return found
        if not met and not (room and found.divergence < REACH):
            break
        u, log_p = move(gaussian_mixture.sample(found.base, NUM_TUNING + NUM_MOVED, rng), look, FAR if room else NEAR)
        gaps = log_p - logsumexp(gaussian_mixture.log_prob(found.base, u), 1)
        beyond = 0.5 * float(gaps.var()) if len(gaps) and np.isfinite(gaps).all() else np.inf
        if beyond == np.inf:
            break
        if not room or (met and beyond < tolerance):
            break
        more = tuple(k for k in gaussian_mixture.COMPONENTS if number < k <= 2 * number)
        wider = gaussian_mixture.fit(u, log_p, seed=seed, candidates=more, penalty=PENALTY, start=found.base)
        again = _rounds(log_prob, wider, rng, seed, tolerance)
        logger.info(
            "%d components: %.3f nats, moved %.3f; then %d: %.3f",
            *(number, found.divergence, beyond, len(again.base.log_weights), again.divergence),
        )
        if again.divergence > (tolerance if met else GAIN * found.divergence):
            break
        found = again
    return found._replace(divergence=max(found.divergence, beyond))


def _rounds(
    log_prob: Callable[[Array], Array],
    base: Base,
    rng: np.random.Generator,
    seed: int,
    tolerance: float,
    most: int = max(gaussian_mixture.COMPONENTS),
) -> Population:
    """The mixture after as many rounds as make it better.

    Few components that meet the tolerance may still have too much in a tail that constrained coordinates stretch: some
    rounds more look for ones that are better by far. More components would follow the noise of their draws there.
    """
    best = _look(log_prob, base, rng)
    latest = best
    for _ in range(MAX_ROUNDS):
        if best.population.divergence < tolerance or not latest.draws.usable > USABLE:
            break
        before = best.population.divergence
        for _ in range(TRIALS if before < NEARLY * tolerance else 1):
            latest = _look(log_prob, _grown(best.population.base, latest.draws, rng, seed, most), rng)
            best = min(latest, best, key=lambda look: look.population.divergence)
            if best.population.divergence < GAIN * before or not latest.draws.usable > USABLE:
                break
        else:
            break
    number = len(best.population.base.log_weights)
    # A mixture fitted to N draws is about half its numbers / N nats from them.
    aim = max(AIM * tolerance, gaussian_mixture.count(number, base.means.shape[1]) / NUM_DRAWS)
    for _ in range(MORE if number <= FEW else 0):
        if not aim < best.population.divergence < tolerance or not latest.draws.usable > USABLE:
            break
        latest = _look(log_prob, _grown(best.population.base, latest.draws, rng, seed, FEW), rng)
        best = min(latest, best, key=lambda look: look.population.divergence)
    found, draws = best
    if not found.divergence < NEARLY * tolerance:
        return found
    excess = np.exp(draws.log_weights - found.log_evidence) - np.exp(draws.log_q - draws.log_w)
    mended = _look(log_prob, corrected(found.base, draws.u, excess), rng).population
    return mended if mended.divergence < max(found.divergence, tolerance) else found


class _Draws(NamedTuple):
    """Draws from w, a mixture with wide tails.

    Attributes:
        u: [N, D].
        log_p: [N].
        log_q: [N].
        log_w: [N].
        usable: effective share of the weights p / w; zero where a draw of q has no density under p.
    """

    u: Array
    log_p: Array
    log_q: Array
    log_w: Array
    usable: float

    @property
    def log_weights(self) -> Array:
        """log p - log w, [N]."""
        return self.log_p - self.log_w


class _Look(NamedTuple):
    population: Population
    draws: _Draws


def _look(log_prob: Callable[[Array], Array], base: Base, rng: np.random.Generator) -> _Look:
    """Fresh draws of the mixture, and what they say of it."""
    num_wide = int(WIDE_SHARE * NUM_DRAWS)
    wide = base._replace(scale_trils=WIDER * base.scale_trils)
    u = np.concatenate(
        [gaussian_mixture.sample(base, NUM_DRAWS - num_wide, rng), gaussian_mixture.sample(wide, num_wide, rng)]
    )
    log_p = np.nan_to_num(log_prob(u), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    log_q, log_wide = (logsumexp(gaussian_mixture.log_prob(one, u), 1) for one in (base, wide))
    log_w = np.logaddexp(log_q + math.log1p(-WIDE_SHARE), log_wide + math.log(WIDE_SHARE))
    draws = _Draws(u, log_p, log_q, log_w, 0.0)
    own = (log_p - log_q)[:-num_wide]
    if not np.isfinite(own).all():
        return _Look(Population(base, np.inf, -np.inf, -np.inf, np.inf), draws)
    total = logsumexp(draws.log_weights)
    weights = np.exp(draws.log_weights - total)
    inside = weights > 0.0
    gaps = (log_p - log_q)[inside]
    under_p = float(np.average((gaps - np.average(gaps, weights=weights[inside])) ** 2, weights=weights[inside]))
    variance = float(own.var())
    found = Population(
        base,
        0.5 * max(variance, under_p),
        float(total) - math.log(NUM_DRAWS),
        float(own.mean()),
        math.sqrt(variance / len(own)),
    )
    return _Look(found, draws._replace(usable=1.0 / float((weights**2).sum()) / NUM_DRAWS))


def _grown(base: Base, draws: _Draws, rng: np.random.Generator, seed: int, most: int) -> Base:
    """The mixture improved on draws that are resampled by their weights; with more components where these pay."""
    size = int(draws.usable * NUM_DRAWS)  # more would be copies
    chosen = psis.systematic(draws.log_weights - logsumexp(draws.log_weights), size, rng)
    number = len(base.log_weights)
    more = tuple(k for k in gaussian_mixture.COMPONENTS if number < k <= min(max(2 * number, 3), most))
    u, log_p = draws.u[chosen], draws.log_p[chosen]
    return gaussian_mixture.fit(u, log_p, seed=seed, candidates=more, penalty=PENALTY, start=base)


def corrected(base: Base, u: Array, excess: Array) -> Base:
    """One step of weighted expectation-maximisation whose noise goes with the distance of q from p.

    With responsibilities rho_k, and draws from any density w, the moments that the step wants are

        E_p[rho_k f] = E_q[rho_k f] + E_w[(p - q) / w rho_k f],    f = 1, u, u u^T.

    The first term is known: q_k, q_k m_k and q_k (S_k + m_k m_k^T). The second is a mean over draws, and vanishes draw
    by draw at q = p.

    Args:
        base: q.
        u: [N, D], draws from w.
        excess: [N], (p - q) / w.
    """
    log_components = gaussian_mixture.log_prob(base, u)
    excess = np.exp(log_components - logsumexp(log_components, 1)[:, None]) * excess[:, None] / len(u)
    before = np.exp(base.log_weights)
    count = before + excess.sum(0)
    if count.min() <= 0.0:
        return base  # a component of too few draws
    means = (before[:, None] * base.means + excess.T @ u) / count[:, None]
    shifts = base.means - means  # moments about the new means: no difference of large numbers
    scale_trils = np.empty_like(base.scale_trils)
    for k, (scale_tril, shift) in enumerate(zip(base.scale_trils, shifts, strict=True)):
        around = u - means[k]
        second = (
            before[k] * (scale_tril @ scale_tril.T + np.outer(shift, shift)) + (excess[:, k, None] * around).T @ around
        )
        try:
            scale_trils[k] = np.linalg.cholesky(second / count[k])
        except np.linalg.LinAlgError:
            return base
    return Base(np.log(count / count.sum()), means, scale_trils)
