"""From unconstrained vectors to parameters and back, by support: for reference draws (NumPy), fits (TFP) and JAX.

Maps and log-Jacobians: positive exp(u), u; unit 1 / (1 + exp(-u)), log x + log(1 - x); ordered (u1, u1 + exp u2), u2;
positive ordered (exp u1, exp u1 + exp u2), u1 + u2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.definitions import Array

SUPPORTS = ("real", "positive", "unit", "ordered", "positive_ordered")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model.

    Attributes:
        name: of it.
        shape: of its event; of ordered ones [2].
        support: one of ``SUPPORTS``.
    """

    name: str
    shape: tuple[int, ...] = ()
    support: str = "real"

    @property
    def size(self) -> int:
        """Unconstrained coordinates."""
        return math.prod(self.shape)

    def bijector(self) -> Any:
        """From the real line, for ``neural_vb.fit``; None for real ones. Imports TFP."""
        from tensorflow_probability import bijectors as tfb

        return {
            "real": None,
            "positive": tfb.Exp(),
            "unit": tfb.Sigmoid(),
            "ordered": tfb.Ascending(),
            "positive_ordered": tfb.Chain([tfb.Cumsum(), tfb.Exp()]),
        }[self.support]

    def unconstrain(self, x: Array) -> Array:
        """[S, *shape] -> [S, size], float64."""
        x = np.asarray(x, float).reshape(len(x), -1)
        if self.support == "positive":
            return np.log(x)
        if self.support == "unit":
            return np.log(x) - np.log1p(-x)
        if self.support == "ordered":
            return np.stack([x[:, 0], np.log(x[:, 1] - x[:, 0])], -1)
        if self.support == "positive_ordered":
            return np.log(np.stack([x[:, 0], x[:, 1] - x[:, 0]], -1))
        return x

    def constrain_jax(self, u: Any) -> tuple[Any, Any]:
        """[1, size] -> the parameter [1, *shape] and the log-Jacobian. Imports JAX."""
        import jax
        import jax.numpy as jnp

        if self.support == "positive":
            x, log_det = jnp.exp(u), u.sum()
        elif self.support == "unit":
            x, log_det = jax.nn.sigmoid(u), (jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u)).sum()
        elif self.support == "ordered":
            x, log_det = jnp.stack([u[:, 0], u[:, 0] + jnp.exp(u[:, 1])], -1), u[0, 1]
        elif self.support == "positive_ordered":
            x, log_det = jnp.cumsum(jnp.exp(u), -1), u.sum()
        else:
            x, log_det = u, 0.0
        return x.reshape(1, *self.shape), log_det


def to_vector(parameters: Sequence[Parameter], values: Mapping[str, Array]) -> Array:
    """Name -> [S, *shape] to unconstrained vectors [S, D], in the order of the parameters."""
    return np.concatenate([parameter.unconstrain(values[parameter.name]) for parameter in parameters], -1)
