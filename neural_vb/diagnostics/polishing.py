"""Local fit: do draws stay where they are under transitions that leave the target as it is?

With q_K the distribution after K Hamiltonian transitions, q_K = q when q = p, and TV(q, q_K) <= 2 TV(q, p): what moves
was wrong. For each functional theta (means, log sds, correlations, tails, log p) the error is estimated as

    (theta(q_K) - theta(q)) / (1 - rho),

where rho, the correlation of its influence values before and after, tells how much of an error is left. theta(q) is
known better than from the chains' own starts, as raw draws are free; these are its control variate.

Moments are those of draws clipped at six sds, so that no single draw makes them: the exact variance of a second moment
can be beyond thousands of draws. What clipping leaves out is known from the draws, and widens the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neural_vb._types import Array
from neural_vb.diagnostics.chains import Chains, kernel
from neural_vb.diagnostics.intervals import Effects, max_t
from neural_vb.verdicts import DEFAULT, FAIL, INCONCLUSIVE, NO_PROBLEM, Finding, Tolerances

NUM_CHAINS = 8_192
FIRST = 4  # transitions of the first look; each further one doubles what has been done
BUDGET = 128
MAX_PAIRS = 1_225  # correlations; all of them up to D = 50
TAIL = 2.0  # sds
FORGOTTEN, ENOUGH = 0.1, 32  # more than that many transitions tell nothing new where less than that correlation remains
REMAINING = 0.5  # largest correlation with the start at which an estimate is relied upon
CLIP = 6.0  # sds
HEAVY = 0.2  # share of one of thousands of draws in the variance of log p, from which on the central limit is far
SHOWN = 1.96  # standard errors beside an estimate in a message
LOW_ACCEPTANCE = 0.3
WITHOUT_DENSITY = 0.01  # tolerated share of draws at which log p is not finite


class Functionals(NamedTuple):
    """theta [F] of a sample, and its influence values [n, F], float32: theta's standard error is their sd / n^(1/2)."""

    value: Array
    influence: Array


def pairs_of(size: int, seed: int) -> Array:
    """Index pairs [2, P] of which correlations are compared: all, or ``MAX_PAIRS`` at random."""
    pairs = np.array(np.triu_indices(size, 1))
    if pairs.shape[1] <= MAX_PAIRS:
        return pairs
    return pairs[:, np.sort(np.random.default_rng([seed, 1]).choice(pairs.shape[1], MAX_PAIRS, replace=False))]


def labels(coordinates: Sequence[Any], pairs: Array) -> tuple[tuple[str, ...], Array]:
    """Names and kinds of the functionals of coordinates, in the order of :func:`functionals`, log p last."""
    parts = {
        "mean": [f"mean[{name}]" for name in coordinates],
        "log_sd": [f"log_sd[{name}]" for name in coordinates],
        "correlation": [f"correlation[{coordinates[i]}, {coordinates[j]}]" for i, j in pairs.T],
        "tail": [f"tail[{name}, {side}]" for side in ("below", "above") for name in coordinates],
        "log_p": ["log_p"],
    }
    names = tuple(name for part in parts.values() for name in part)
    return names, np.repeat(list(parts), [len(part) for part in parts.values()])


def functionals(v: Array, pairs: Array) -> Functionals:
    """Means, log sds, correlations and tails of v [n, D], in the sds of the raw draws, which are centred; clipped."""
    v = np.clip(np.asarray(v, np.float32), -CLIP, CLIP)
    mean = v.mean(0, dtype=np.float64)
    centred = v - mean.astype(np.float32)
    sd = np.sqrt((centred**2).mean(0, dtype=np.float64)) + 1e-12
    a = centred / sd.astype(np.float32)
    square = a**2
    first, second = pairs
    product = a[:, first] * a[:, second]
    correlation = product.mean(0, dtype=np.float64)
    product -= (0.5 * correlation).astype(np.float32) * (square[:, first] + square[:, second])
    tails = np.concatenate([v < -TAIL, v > TAIL], 1).astype(np.float32)
    share = tails.mean(0, dtype=np.float64)
    value = np.concatenate([mean, np.log(sd), correlation, share])
    influence = np.concatenate([centred, 0.5 * (square - 1.0), product, tails - share.astype(np.float32)], 1)
    return Functionals(value, influence)


class Shift(NamedTuple):
    """Errors, as transitions tell them.

    Attributes:
        effects: estimates of the errors, divided by the share of them that transitions have undone.
        remaining: rho [F], correlations with the start.
    """

    effects: Effects
    remaining: Array


def compare(
    before: Array,
    after: Array,
    pool: Array,
    log_p: tuple[Array, Array],
    *,
    tolerances: Tolerances = DEFAULT,
    seed: int = 0,
    coordinates: Sequence[Any] | None = None,
) -> Shift:
    """Errors of all functionals of draws, from chains that began at some of them.

    Args:
        before: [n, D], where chains began, in unconstrained space.
        after: [n, D], where they ended.
        pool: [N, D], more draws.
        log_p: [n] each, before and after, nats.
        tolerances: of the errors.
        seed: of the choice of pairs and the bootstrap.
        coordinates: their D names; else numbers.
    """
    centre, scale = pool.mean(0), pool.std(0) + 1e-300
    before, after, pool = ((z - centre) / scale for z in (before, after, pool))
    num, size = before.shape
    pairs = pairs_of(size, seed)
    start, end = functionals(before, pairs), functionals(after, pairs)
    few = functionals(pool[:num], pairs)
    known = few.value if len(pool) <= num else values(pool, pairs)
    scatter = few.influence.var(0)
    names, kinds = labels(range(size) if coordinates is None else coordinates, pairs)

    moments = [np.einsum("nf,nf->f", *both) / num for both in ((start.influence,) * 2, (end.influence,) * 2)]
    joint = np.einsum("nf,nf->f", start.influence, end.influence) / num
    remaining = np.clip(joint / np.sqrt(moments[0] * moments[1] + 1e-30), 0.0, 1.0)
    beta = np.clip(joint / (moments[0] + 1e-30), 0.0, 1.0)
    shift = end.value - known - beta * (start.value - known)
    influence = end.influence - beta.astype(np.float32) * start.influence
    variance = influence.var(0) / num + (1.0 - beta) ** 2 * scatter / len(pool)
    # One of the tails may be empty: its rate is known to about one draw.
    variance += np.where(kinds[:-1] == "tail", 1.0 / num**2, 0.0)

    change = log_p[1] - log_p[0]
    paired = np.corrcoef(*log_p)[0, 1] if log_p[0].std() > 0.0 and log_p[1].std() > 0.0 else 1.0
    shift = np.append(shift, change.mean())
    variance = np.append(variance, change.var() / num)
    remaining = np.append(remaining, np.clip(paired, 0.0, 1.0))
    influence = np.concatenate([influence, (change - change.mean())[:, np.newaxis].astype(np.float32)], 1)

    usable = remaining <= REMAINING
    undone = np.where(usable, 1.0 - remaining, 1.0)
    tolerance = np.array([getattr(tolerances, kind) * (size if kind == "log_p" else 1.0) for kind in kinds])
    critical = max_t(influence, seed=seed)
    margin = _left_out(pool, after, pairs)
    square = influence[:, -1] ** 2
    margin = np.append(margin, np.inf if square.max() > HEAVY * square.sum() else 0.0)
    effects = Effects(names, kinds, shift / undone, np.sqrt(variance) / undone, tolerance, critical, usable, margin)
    return Shift(effects, remaining)


def _left_out(pool: Array, after: Array, pairs: Array) -> Array:
    """[F], what clipping leaves out of means and sds, of raw draws or of chains' ends, and of raw correlations."""
    size = pool.shape[1]
    found = np.abs(_moments(pool, pairs) - values(pool, pairs)[: 2 * size + pairs.shape[1]])
    ends = np.abs(_moments(after, pairs[:, :0]) - values(after, pairs[:, :0])[: 2 * size])
    found[: 2 * size] = np.maximum(found[: 2 * size], ends)
    return np.concatenate([found, np.zeros(2 * size)])


def _moments(v: Array, pairs: Array) -> Array:
    """Means, log sds and correlations of v [n, D]."""
    centred = v - v.mean(0)
    covariance = centred.T @ centred / len(v)
    sd = np.sqrt(np.diag(covariance)) + 1e-12
    return np.concatenate([v.mean(0), np.log(sd), covariance[pairs[0], pairs[1]] / (sd[pairs[0]] * sd[pairs[1]])])


def values(pool: Array, pairs: Array) -> Array:
    """Values of the functionals alone, of many draws."""
    v = np.clip(np.asarray(pool, np.float64), -CLIP, CLIP)
    return np.concatenate([_moments(v, pairs), (v < -TAIL).mean(0), (v > TAIL).mean(0)])


class Polishing(NamedTuple):
    """A finding, and the chains' ends u [n, D] behind it with log p there; where they began, with scores there."""

    finding: Finding
    before: Array
    scores: Array
    after: Array
    log_prob: Array


def local_fit(
    chains: Chains,
    u: Array,
    *,
    tolerances: Tolerances = DEFAULT,
    budget: int = BUDGET,
    num_chains: int = NUM_CHAINS,
    seed: int = 0,
) -> Polishing:
    """Transitions of ``num_chains`` draws, doubled until they decide or the budget is used up.

    Coordinates and step size come from as many other draws, and what remains of u is the pool.

    Args:
        chains: of the target.
        u: [S, D] whitened draws, at least three times ``num_chains``.
        tolerances: of the errors.
        budget: most transitions of a chain.
        num_chains: n.
        seed: of transitions and bootstrap.
    """
    start, rest = u[:num_chains], u[num_chains:]
    tuned = kernel(rest[:num_chains])
    to_z = lambda u: chains.target.whitening.to_z(u).numpy()  # noqa: E731
    begin, pool = to_z(start), to_z(rest)
    coordinates = getattr(chains.target.target, "labels", None)
    log_p, scores = chains.look(start)
    without = float(1.0 - np.isfinite(log_p).mean())
    end, done = start, 0
    while True:
        num = min(max(done, FIRST), budget - done)
        ends = chains.run(end, tuned, num_transitions=num, seed=[seed, done])
        end, done, tuned = ends.u, done + num, tuned._replace(step_size=ends.step_size)
        both = _finite(log_p), _finite(ends.log_prob)
        shift = compare(begin, to_z(end), pool, both, tolerances=tolerances, seed=seed, coordinates=coordinates)
        decided = shift.effects.state != INCONCLUSIVE and ends.acceptance >= LOW_ACCEPTANCE
        forgotten = done >= ENOUGH and shift.remaining.max() < FORGOTTEN
        if decided or forgotten or done >= budget or without > WITHOUT_DENSITY:
            break
    return Polishing(_finding(shift, done, ends.acceptance, without), start, scores, end, ends.log_prob)


def _finite(log_p: Array) -> Array:
    finite = np.isfinite(log_p)
    return np.where(finite, log_p, log_p[finite].min() if finite.any() else 0.0).astype(np.float64)


def _finding(shift: Shift, done: int, acceptance: float, without: float) -> Finding:
    effects = shift.effects
    worst = effects.worst
    evidence = {f"largest {kind} error": value for kind, value in effects.largest().items()}
    evidence |= {"transitions": done, "acceptance": acceptance, "remaining": float(shift.remaining.max())}
    said = f"{effects.names[worst]}: {effects.estimate[worst]:+.2g} ± {SHOWN * effects.standard_error[worst]:.2g}"
    seen = effects.smallest_effect()
    if without > WITHOUT_DENSITY:
        text = f"{100 * without:.2g} % of the draws have no density under the target"
        return Finding(FAIL, text, evidence, seen, "train longer, or refine the draws")
    if acceptance < LOW_ACCEPTANCE:
        text = f"too few transitions are accepted ({acceptance:.2g}) to tell"
        return Finding(INCONCLUSIVE, text, evidence, seen, "compare with a long run of MCMC")
    if effects.state == FAIL:
        text = f"transitions that leave the target as it is move the draws; {said}"
        return Finding(FAIL, text, evidence, seen, "use posterior.refine(), or fit again with more steps")
    if effects.state == NO_PROBLEM:
        return Finding(NO_PROBLEM, "no error beyond the tolerances around the draws", evidence, seen)
    slow = int((~effects.usable).sum())
    if slow:
        text = f"chains did not forget where they began in {slow} of {len(effects.names)} quantities"
        return Finding(INCONCLUSIVE, text, evidence, seen, "a larger budget=; compare the weights of modes")
    text = f"intervals reach past the tolerance; {said}"
    return Finding(INCONCLUSIVE, text, evidence, seen, "use posterior.refine(), or train longer")
