"""Aliases, Protocols and small records shared by every floor.

Shape letters, used in every docstring:

=====  =====================================================================
S      draws
B      conditioning data points (1 for one data set)
D      size of the unconstrained latent vector
K      components of the base mixture
X      features of a conditioning data point
P      numbers in the flat parameter vector
=====  =====================================================================

Log quantities are in nats. ``z`` is unconstrained; a *draw* is constrained and carries the user's names. ``u`` is
``z`` in whitened coordinates, ``z = shift + scale_tril @ u``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import tensorflow as tf

Tensor: TypeAlias = tf.Tensor
Array: TypeAlias = np.ndarray
Seed: TypeAlias = Any  # int, or a stateless seed of shape [2]
Parameters: TypeAlias = Any  # nested tuples and dicts of tensors
Draws: TypeAlias = Any  # an array, or a structure of arrays with the user's names
LogProbFn: TypeAlias = Callable[..., Tensor]
Density: TypeAlias = Callable[[Array], tuple[Array, Array]]  # [N, D] -> log p [N], nats, its gradient [N, D]
Derived: TypeAlias = Callable[[Any], Mapping[str, Any]]


class Base(NamedTuple):
    """Mixture of Gaussians in whitened coordinates that a sampler and a flow start from.

    Attributes:
        log_weights: [K], normalised.
        means: [K, D].
        scale_trils: [K, D, D], lower triangular.
    """

    log_weights: Any
    means: Any
    scale_trils: Any


class Proposal(NamedTuple):
    """What a sampler returns: draws, and the log probability of the discrete choices that made them.

    Attributes:
        z: [S, B, D], differentiable in the sampler's parameters.
        log_choice: [S, B], log probability of the mixture component each draw came from; zero without a choice.
        log_density: [S, B], log q of the draws, differentiable in the sampler's parameters, where it is known; then
            neither contrast nor critic is needed, and the objective is the ordinary ELBO.
    """

    z: Tensor
    log_choice: Tensor
    log_density: Tensor | None = None


@runtime_checkable
class Target(Protocol):
    """An unnormalised log density over unconstrained vectors, log p(x, z) with the log-Jacobian included.

    Attributes:
        event_size: D.
        dtype: precision in which ``log_prob`` wants ``z``.
    """

    @property
    def event_size(self) -> int: ...

    @property
    def dtype(self) -> tf.DType: ...

    def log_prob(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """[S, B, D] -> [S, B]."""
        ...

    def constrain(self, z: Tensor) -> Draws:
        """[..., D] -> structure of draws, each part [..., *event]."""
        ...


class Sampler(Protocol):
    """An implicit posterior q(z | x): noise in, draws out. Its density is never needed."""

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters: ...

    def __call__(self, parameters: Parameters, num_samples: int, x: Tensor | None, seed: Seed) -> Proposal: ...


class Critic(Protocol):
    """T(z, x) -> [S, B]; its optimum is log q - log r."""

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters: ...

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor | None) -> Tensor: ...


class Contrast(Protocol):
    """A tractable density r(z | x) near q: ``sample(S, seed) -> [S, B, D]`` and ``log_prob([S, B, D]) -> [S, B]``.

    Three things are optional. A contrast with ``follows_sampler = True`` finds the sampler's parameters beside its own,
    as "sampler", behind a stop-gradient: its moments are functions of them. A density with ``standardise`` shows the
    critic z in coordinates in which r is near standard normal, and one with ``condition`` [B, C] shows it that in place
    of x.
    """

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters: ...

    def __call__(self, parameters: Parameters, x: Tensor | None) -> Any: ...

    def update(self, parameters: Parameters, z: Tensor) -> Parameters:
        """New parameters from the sampler's draws [S, B, D], for what follows q by statistics and not by gradient."""
        ...


class RatioLoss(Protocol):
    """Pure function of critic logits on posterior and contrast draws; minimised at log q - log r."""

    def __call__(self, posterior_logits: Tensor, contrast_logits: Tensor) -> Tensor: ...


class Status(NamedTuple):
    """How a run ended.

    Attributes:
        reason: ``"met"``, ``"plateau"``, ``"step_limit"``, ``"no_gain"``, ``"callback"``, ``"interrupted"`` or
            ``"non_finite"``.
        message: one sentence for a person.
        advice: what to try next; empty when there is nothing to advise.
    """

    reason: str
    message: str
    advice: str

    @property
    def is_of_start(self) -> bool:
        """Whether draws are those of the warm start, whose density is known: no step was needed, or none was of use."""
        return self.reason in ("met", "no_gain")
