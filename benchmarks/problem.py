"""What a run, a peer and an evaluation need to know of a posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arrays
from benchmarks.definitions import Array
from benchmarks.references import POSTERIORDB_VARIABLE, Moments

ExactSampler = Callable[[int, np.random.Generator], Array]
SharedDensity = Callable[[arrays.Arrays, Any], Any]
PANELS = ("toy zoo", "multimodal", "posteriordb", "regressions", "high-dimensional Gaussians")


@dataclass(frozen=True, eq=False)
class Modes:
    """Modes of a target and their true weights.

    Attributes:
        assign: [S, D] -> [S], index of the mode of each draw.
        weights: [number of modes], the probability of each region of ``assign``.
    """

    assign: Callable[[Array], Array]
    weights: Array


@dataclass(frozen=True, eq=False)
class Problem:
    """A posterior with a known answer.

    Attributes:
        name: key of the registry.
        size: D.
        density: name of its log density in ``densities_tf`` and ``densities_jax``; or one that is written for both,
            () -> ((arrays, [n, D]) -> [n]).
        moments: mean and sd of the unconstrained vector, [D] each.
        source: where the reference comes from.
        exact: (n, rng) -> [n, D] independent draws of the unconstrained vector, or None.
        log_evidence: log of the target's integral in nats, or None.
        exact_moments: moments without Monte Carlo error where ``moments`` come from draws, or None.
        modes: modes and weights, or None.
        parts: for a structured posterior, its draws as a dict -> unconstrained [S, D]; None for plain arrays.
        named: unconstrained [S, D] -> constrained quantities [S, k] by name, or None.
        named_moments: their reference moments, [k] each.
        reference_draws: folder -> draws of an outside source as unconstrained vectors [S', D], or None.
        draws_from: variable of the environment that names this folder.
        panel: of the report, one of ``PANELS``.
        needs: variable of the environment that names a folder without which there is no problem, or None.
    """

    name: str
    size: int
    density: str | Callable[[], SharedDensity]
    moments: Callable[[], Moments]
    source: str
    exact: ExactSampler | None = None
    log_evidence: Callable[[], float] | None = None
    exact_moments: Callable[[], Moments] | None = None
    modes: Modes | None = None
    parts: Callable[[Mapping[str, Array]], Array] | None = None
    named: Callable[[Array], dict[str, Array]] | None = None
    named_moments: Callable[[], dict[str, Moments]] | None = None
    reference_draws: Callable[[Path], Array] | None = None
    draws_from: str = POSTERIORDB_VARIABLE
    panel: str = "toy zoo"
    needs: str | None = None

    def fit_arguments(self) -> Any:
        """Target, data and keywords for ``neural_vb.fit``; imports TensorFlow."""
        from benchmarks import densities_tf

        if isinstance(self.density, str):
            return getattr(densities_tf, self.density)()
        shared, tensors = self.density(), arrays.tensorflow()
        return densities_tf.FitArguments(lambda z: shared(tensors, z), None, {"event_shape": [self.size]})

    def jax_log_prob(self) -> Callable[[Any], Any]:
        """Log density of one unconstrained vector [D]; imports JAX."""
        if isinstance(self.density, str):
            from benchmarks import densities_jax

            return getattr(densities_jax, self.density)()
        shared, tensors = self.density(), arrays.jax()
        return lambda z: shared(tensors, z[None])[0]

    def to_vector(self, draws: Any) -> Array:
        """Draws as the posterior returns them -> unconstrained vectors [S, D]."""
        if self.parts is None:
            return np.asarray(draws, float)
        return self.parts({name: np.asarray(part, float) for name, part in draws.items()})


def constant_moments(mean: Any, sd: Any) -> Callable[[], Moments]:
    """Known moments, as a problem wants them."""
    return lambda: Moments(np.asarray(mean, float), np.asarray(sd, float))


def zero() -> float:
    """The log evidence of a normalised density."""
    return 0.0
