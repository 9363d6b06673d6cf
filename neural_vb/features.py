"""Features of a data set: what sampler, critic and contrast see of x."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Parameters, Seed, Tensor
from neural_vb.networks import Network

BOUND = 10.0


@dataclass(frozen=True, eq=False)
class Features:
    """x [B, X] -> [B, F]: standardised, then through a summary network with fixed parameters, if there is one.

    Attributes:
        shift: [X].
        scale: [X].
        size: F.
        network: the summary, or None.
        parameters: of the summary.
    """

    shift: Array
    scale: Array
    size: int
    network: Network | None = None
    parameters: Any = None

    @classmethod
    def of(cls, x: Array, network: Network | None, size: int) -> Features:
        """Standardised by the data sets x [N, X]; without a network, F = X.

        Rows of a network with ``row_size`` are exchangeable: they are standardised alike.
        """
        width = int(getattr(network, "row_size", 0) or x.shape[1])
        rows = x.reshape(-1, width)
        shift, scale = (np.tile(values, x.shape[1] // width) for values in (rows.mean(0), rows.std(0)))
        scale = np.where(scale > 0, scale, 1.0)
        size = x.shape[1] if network is None else size
        return cls(shift.astype(np.float32), scale.astype(np.float32), size, network)

    def initial_parameters(self, seed: Seed) -> Parameters:
        """Of the summary network; empty without one."""
        return {} if self.network is None else self.network.initial_parameters(len(self.shift), self.size, seed)

    def with_parameters(self, parameters: Parameters) -> Features:
        """The same features with these parameters of the summary."""
        return replace(self, parameters=parameters)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, X] -> [B, F]."""
        standard = tf.clip_by_value((x - self.shift) / self.scale, -BOUND, BOUND)
        return standard if self.network is None else self.network(self.parameters, standard)
