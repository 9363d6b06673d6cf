"""Draws corrected by transitions that leave the target as it is: exact in the limit, and honest about how far off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from neural_vb import bending
from neural_vb._types import Array, Draws
from neural_vb.diagnostics.chains import WIDTH, Chains, Kernel, kernel

FIRST, MOST = 4, 64  # transitions at the first look, and at the last, where the number is left open
MARGIN = 4  # nested R-hat does not see a tenth of an error that is left
MOST_LOOKS = 4  # at coordinates, after as many transitions as at the first look each
RESTS = 0.2  # log sd; a change of coordinates that is worth no further look
RETUNING = 16  # transitions after which a bend is found anew
FORGOTTEN = 1.03  # nested R-hat; the largest of fifty is about 1.023 by chance
DRIFTED = 0.3  # sd, of a mean
REMEMBERED = 1.1  # nested R-hat of chains that are far from having forgotten
NUM_SUPERCHAINS = 64
PER_DIMENSION = 10  # draws that a covariance wants
METHOD = (
    "implicit posterior, each draw followed by {} Hamiltonian transitions; draws come from separate chains, "
    "exact only as the number of transitions grows; modes that chains do not cross between keep the sampler's weights"
)


class Refined(NamedTuple):
    """Ends of chains in whitened coordinates.

    Attributes:
        u: [S, D].
        num_transitions: of each chain.
        acceptance: mean over chains and transitions.
        drift: [D], how far means moved, in sds of the ends.
        nested_r_hat: [D]; see :func:`folded_r_hat`.
    """

    u: Array
    num_transitions: int
    acceptance: float
    drift: Array
    nested_r_hat: Array


def nested_r_hat(ends: Array) -> Array:
    """sqrt(1 + B / W) over superchains, whose chains all began at one point (Margossian et al., arXiv 2110.13017).

    B is the variance between means of superchains, W that between chains inside one. With M chains in each, chains
    that have forgotten where they began have about 1 + 1 / (2 M), and chains that have not have more.

    Args:
        ends: [K, M, D], K superchains of M chains each, M > 1.
    """
    between = ends.mean(1).var(0, ddof=1)
    within = ends.var(1, ddof=1).mean(0)
    return np.sqrt(1.0 + between / (within + 1e-300))


def folded_r_hat(ends: Array) -> Array:
    """The larger of :func:`nested_r_hat` of z and of |z - median|: spreads may be slower than centres.

    Vehtari, Gelman, Simpson, Carpenter & Burkner, "Rank-normalization, folding, and localization" (Bayesian Analysis
    16, 2021).

    Args:
        ends: [K, M, D], K superchains of M chains each, M > 1.
    """
    return np.maximum(nested_r_hat(ends), nested_r_hat(np.abs(ends - np.median(ends, (0, 1)))))


def refine(chains: Chains, u: Array, tuning: Array, *, num_transitions: int | None = None, seed: int) -> Refined:
    """Transitions of all draws u [S, D], with coordinates and step size from the ``tuning`` draws.

    Without a number they are four times as many as bring nested R-hat to ``FORGOTTEN``, at most ``MOST``. Where there
    are enough tuning draws, coordinates are those of their chains' ends, once these rest: a sampler that is ten times
    too narrow in one direction would have chains creep along it. Where chains do not forget at the first look,
    coordinates are curved, if the ends have a bend (:mod:`neural_vb.bending`). Drift and nested R-hat are in the
    target's unconstrained coordinates, whatever the number of draws; R-hat comes from chains of its own, 64 groups of
    32 that begin at one of the ``tuning`` draws each.
    """
    to_z = lambda u: chains.target.whitening.to_z(u).numpy()  # noqa: E731
    settled, tuned = _settled(chains, tuning, [seed, 13])
    begin = np.repeat(tuning[-NUM_SUPERCHAINS:], WIDTH // NUM_SUPERCHAINS, axis=0)
    groups, done, straight = begin, 0, True
    total, enough = num_transitions or MOST, num_transitions is not None
    while done < total:
        num = min(max(done, FIRST) if straight or not enough else total, total - done)
        ends = chains.run(groups, tuned, num_transitions=num, seed=[seed, 12, done])
        groups, done, tuned = ends.u, done + num, tuned._replace(step_size=ends.step_size)
        spread = to_z(groups)
        r_hat = folded_r_hat(spread.reshape(NUM_SUPERCHAINS, -1, u.shape[1]))
        forgotten = r_hat.max() < FORGOTTEN
        if forgotten and not enough:
            total, enough = min(MARGIN * done, MOST), True
        bent = None if forgotten or not straight else _bent(chains, settled, [seed, 14])
        straight = False
        if bent is not None:
            tuned, groups, done = bent, begin, 0
    found = chains.run(u, tuned, num_transitions=total, seed=[seed, 11])
    drift = (to_z(found.u).mean(0) - to_z(u).mean(0)) / (spread.std(0) + 1e-300)
    return Refined(found.u, total, found.acceptance, drift, r_hat)


def _settled(chains: Chains, tuning: Array, seed: list[int]) -> tuple[Array, Kernel]:
    """Ends of chains from the tuning draws, and a kernel from them, once the draws' covariance rests."""
    tuned, ends = kernel(tuning), np.resize(tuning, [min(len(tuning), WIDTH), tuning.shape[1]])
    noise = tuning.shape[1] / len(ends)
    if PER_DIMENSION * noise > 1.0:
        return ends, tuned
    for look in range(MOST_LOOKS):
        found = chains.run(ends, tuned, num_transitions=FIRST, seed=[*seed, look])
        factor = tuned.coordinates.scale_tril[0]
        ends, tuned = found.u, kernel(found.u)._replace(step_size=found.step_size)
        change = np.linalg.solve(factor, tuned.coordinates.scale_tril[0])
        # Of two samples of a covariance the singular values are within about twice the square root of the noise.
        if np.abs(np.log(np.linalg.svd(change, compute_uv=False))).max() < RESTS + 2.0 * noise**0.5:
            break
    return ends, tuned


def _bent(chains: Chains, ends: Array, seed: list[int]) -> Kernel | None:
    """A kernel in curved coordinates, found from ends of chains, and again from those of chains in them."""
    bend = bending.find(ends)
    if bend is None:
        return None
    found = chains.run(ends, kernel(ends, bend), num_transitions=RETUNING, seed=seed)
    return kernel(found.u, bending.find(found.u) or bend)


@dataclass(frozen=True, eq=False)
class RefinedDraws:
    """Draws of a posterior, corrected.

    Attributes:
        draws: in the user's names, [S, *event] each.
        unconstrained: the same, z [S, D].
        num_transitions: of each chain.
        acceptance: mean over chains and transitions; some .8 is aimed at.
        drift: largest move of a mean of an unconstrained coordinate, in sds. What is still to come is unknown; with a
            nested R-hat near one it is little.
        nested_r_hat: the largest of unconstrained coordinates: about 1.016 when chains forget where they began. It
            sees nothing of modes that chains do not cross between.
        seed: of the transitions.
    """

    draws: Draws
    unconstrained: Array = field(repr=False)
    num_transitions: int
    acceptance: float
    drift: float
    nested_r_hat: float
    seed: int
    export: Callable[..., Any] = field(repr=False)

    def to_arviz(
        self,
        *,
        coords: Mapping[str, Any] | None = None,
        dims: Mapping[str, Sequence[str] | str] | None = None,
        log_likelihood: bool = False,
        posterior_predictive: bool = False,
        prior: bool = False,
        constant_data: Mapping[str, Any] | None = None,
    ) -> Any:
        """As ArviZ data, one chain of draws, with what was done to them in the attributes.

        Arguments and groups are those of :meth:`Posterior.to_arviz`, but that ``sample_stats`` has only ``lp``: the
        density of refined draws is not known.
        """
        told = {
            "sampling_method": METHOD.format(self.num_transitions),
            "num_transitions": self.num_transitions,
            "acceptance": self.acceptance,
            "largest_drift_in_sds": self.drift,
            "largest_nested_r_hat": self.nested_r_hat,
            "refinement_seed": self.seed,
        }
        return self.export(
            self,
            told,
            coords=coords,
            dims=dims,
            log_likelihood=log_likelihood,
            posterior_predictive=posterior_predictive,
            prior=prior,
            constant_data=constant_data,
        )

    def __str__(self) -> str:
        said = (
            f"Draws after {self.num_transitions} transitions: acceptance {self.acceptance:.2g}, largest drift of a "
            f"mean {self.drift:.2g} sd, nested R-hat at most {self.nested_r_hat:.3f}"
        )
        if self.drift > max(DRIFTED, 5.0 * (2.0 / len(self.unconstrained)) ** 0.5):  # not by the noise of few draws
            said += ". The fit was off by so much, and its evidence and ELBO still are"
        if self.nested_r_hat > REMEMBERED:
            said += ". Chains still know where they began: modes that they do not cross between keep their weights"
        return said
