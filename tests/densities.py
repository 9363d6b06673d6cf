"""Log densities that several test modules look at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Tensor
from neural_vb.probing import Probe
from neural_vb.targets import LogProbTarget

LogProb = Callable[[Tensor], Tensor]

COVARIANCES = {
    "scalar": [[0.3]],
    "units": np.diag([1e-6, 1.0, 1e8]) ** 2,
    "correlated": [[1.0, 0.999], [0.999, 1.0]],
    "correlated in units": [[1e-12, 0.999e-3], [0.999e-3, 1e6]],
    "ten": np.eye(10) + 3.0,
}


def constant(values: object, z: Tensor) -> Tensor:
    return tf.constant(values, z.dtype)


def gaussian(mean: Array, covariance: Array, log_z: float = 0.0) -> LogProb:
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    precision = np.linalg.inv(covariance)
    offset = log_z - 0.5 * np.linalg.slogdet(2.0 * np.pi * covariance)[1]

    def log_prob(z: Tensor) -> Tensor:
        centred = z - constant(mean, z)
        return constant(offset, z) - 0.5 * tf.einsum("ni,ij,nj->n", centred, constant(precision, z), centred)

    return log_prob


def evaluator(log_prob: LogProb, event_size: int) -> Probe:
    return Probe(LogProbTarget(log_prob, event_shape=[event_size], dtype=tf.float64))


def two_modes(z: Tensor) -> Tensor:
    """.3 N((-20, 0), I) + .7 N((20, 15), I), of mass e^3."""
    parts = [
        np.log(weight) - 0.5 * tf.reduce_sum((z - constant(mean, z)) ** 2, -1)
        for weight, mean in ((0.3, [-20.0, 0.0]), (0.7, [20.0, 15.0]))
    ]
    return 3.0 - np.log(2 * np.pi) + tf.reduce_logsumexp(tf.stack(parts), 0)
