"""The prior of a joint distribution over its unconstrained latent vector, for the prior contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from neural_vb import joints
from neural_vb._types import Seed, Tensor
from neural_vb.errors import UnsupportedError
from neural_vb.targets import JointTarget


@dataclass(frozen=True, eq=False)
class JointPrior:
    """p(z) = product over latent parts of p(part | its ancestors), with the log-Jacobian of the event map.

    Args:
        target: a joint distribution with data.

    Raises:
        UnsupportedError: a latent part depends on observed data, so that the latent parts have no prior of their own.
    """

    target: JointTarget

    def __post_init__(self) -> None:
        latents, observables = self.target.prior_sample(2, 0)
        observed = {name: tf.constant(value)[tf.newaxis] for name, value in self.target.observed_data.items()}
        data = {name: tf.repeat(value, 2, 0) for name, value in observed.items()}
        replicated = {name: observables[name] for name in data}
        here, there = self._log_prob_parts(latents, data), self._log_prob_parts(latents, replicated)
        changed = [name for name in self.target.latent_names if not np.array_equal(here[name], there[name])]
        if changed:
            raise UnsupportedError(
                expected="latent parts that do not depend on observed data, for a prior contrast",
                got=f"{', '.join(map(repr, changed))}, whose density changes with the data",
                fix="pass contrast=Prior(distribution) over the unconstrained vector [D], or use the default contrast",
            )

    @property
    def dtype(self) -> tf.DType:
        """Precision of z."""
        return self.target.dtype

    def sample(self, num_samples: int | Tensor, seed: Seed) -> Tensor:
        """Draws z [n, D]; a coordinate on the edge of its support becomes 0."""
        return self.target.starting_points(num_samples, seed)

    def log_prob(self, z: Tensor) -> Tensor:
        """[n, D] -> [n] in nats."""
        latents = self.target.constrain(z)
        observed = self.target.observed_data.items()
        data = {name: tf.repeat(tf.constant(value)[tf.newaxis], tf.shape(z)[0], 0) for name, value in observed}
        parts = self._log_prob_parts(latents, data)
        log_prob = tf.add_n([parts[name] for name in self.target.latent_names])
        return log_prob + self.target.event_map.log_det(z)

    def _log_prob_parts(self, latents: dict[str, Tensor], data: dict[str, Tensor]) -> dict[str, Tensor]:
        joint = self.target.joint
        known = {**latents, **data}
        order = joints.unpack(joint, joint.dtype)
        return joints.unpack(
            joint, joint.log_prob_parts(joints.pack(joint.dtype, {name: known[name] for name in order}))
        )
