"""Critics T(z, x), whose optimum is log q - log r (the discriminator of Mescheder, Nowozin & Geiger 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from neural_vb._types import Base, Parameters, Seed, Tensor
from neural_vb.networks import MLP, Network, join_condition


@dataclass(frozen=True)
class MLPCritic:
    """T(z, x) = network([z, x]), starting near zero: q starts near r.

    Args:
        network: the map to one number.
    """

    network: Network = MLP((64, 64), output_scale=0.01)

    def initial_parameters(self, base: Base, x_size: int, seed: Seed) -> Parameters:
        """The network's own parameters for inputs of size D + X."""
        return self.network.initial_parameters(base.means.shape[-1] + x_size, 1, seed)

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor | None) -> Tensor:
        """[S, B, D] -> [S, B]."""
        return self.network(parameters, join_condition(z, x))[..., 0]
