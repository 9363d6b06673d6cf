"""The registry of what is compared. A new peer is a function in a file of its own and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import own, own_parts, peers_blackjax, peers_numpyro, peers_nutpie
from benchmarks.problem import Problem
from benchmarks.runs import Run


@dataclass(frozen=True)
class Method:
    """A way to draw from a posterior.

    Attributes:
        run: (problem, seed) -> run.
        packages: what must be installed beyond ``neural_vb``.
        variational: draws come from a fitted approximation, and are independent; else from Markov chains.
        smallest: D below which it does not work.
    """

    run: Callable[[Problem, int], Run]
    packages: tuple[str, ...] = ()
    variational: bool = True
    smallest: int = 1


OURS = "neural_vb"
METHODS: dict[str, Method] = {
    OURS: Method(own.run_neural_vb),
    "numpyro_nuts_sequential": Method(peers_numpyro.run_nuts_sequential, ("numpyro",), variational=False),
    "numpyro_nuts_vectorized": Method(peers_numpyro.run_nuts_vectorized, ("numpyro",), variational=False),
    "nutpie_nuts": Method(peers_nutpie.run_nutpie, ("nutpie", "jax"), variational=False),
    "blackjax_pathfinder": Method(peers_blackjax.run_pathfinder, ("blackjax",)),
    "numpyro_mean_field": Method(peers_numpyro.run_mean_field, ("numpyro",)),
    "numpyro_full_rank": Method(peers_numpyro.run_full_rank, ("numpyro",)),
    "numpyro_iaf": Method(peers_numpyro.run_iaf, ("numpyro",), smallest=2),
    "flow_reverse_kl": Method(own_parts.run_flow),
    "stein_sampler": Method(own_parts.run_stein),
}
PEERS: tuple[str, ...] = tuple(name for name in METHODS if name != OURS)
NUTS: tuple[str, ...] = ("numpyro_nuts_sequential", "numpyro_nuts_vectorized")  # time is taken against the quicker
RIVALS: tuple[str, ...] = tuple(name for name in PEERS if METHODS[name].variational)
