"""The record of a training run, a row for each window of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neural_vb._types import Array

METRICS = (
    "elbo",
    "elbo_variance",
    "critic_accuracy",
    "finite_share",
    "sampler_gradient_norm",
    "critic_gradient_norm",
    "contrast_gradient_norm",
    "skipped",
)


@dataclass(frozen=True)
class History:
    """Metrics of a run, one row per window of steps; all arrays are [T].

    Attributes:
        step: steps taken at the end of the window.
        elbo: mean estimate of the ELBO over the window, nats.
        elbo_standard_error: its Monte Carlo error, nats.
        critic_accuracy: share of draws attributed correctly; .5 when q = r.
        sampler_gradient_norm: mean norm of the sampler's gradient.
        critic_gradient_norm: the same for the critic.
        contrast_gradient_norm: the same for the contrast.
        rate: learning rate relative to its start, at the end of the window.
        finite_share: share of draws with a finite log density.
        skipped: steps skipped because their gradient was not finite.
        decay_start: step at which the rates began to fall, or None.
        warm_start: numbers of the warm start, by name.
    """

    step: Array
    elbo: Array
    elbo_standard_error: Array
    critic_accuracy: Array
    sampler_gradient_norm: Array
    critic_gradient_norm: Array
    contrast_gradient_norm: Array
    rate: Array
    finite_share: Array
    skipped: Array
    decay_start: int | None
    warm_start: Mapping[str, float]

    @classmethod
    def of_rows(
        cls, rows: Sequence[Mapping[str, float]], decay_start: int | None, warm_start: Mapping[str, float]
    ) -> History:
        """From one dict for each window."""
        columns = {name: np.array([row[name] for row in rows]) for name in _COLUMNS}
        columns["step"] = columns["step"].astype(int)
        return cls(**columns, decay_start=decay_start, warm_start=dict(warm_start))

    @classmethod
    def untrained(cls, elbo: float, standard_error: float, warm_start: Mapping[str, float]) -> History:
        """One row, at step zero, for a start that needs no steps."""
        row = dict.fromkeys(_COLUMNS, 0.0)
        row |= {"elbo": elbo, "elbo_standard_error": standard_error, "critic_accuracy": 0.5, "finite_share": 1.0}
        return cls.of_rows([row], None, warm_start)


_COLUMNS = tuple(field.name for field in dataclasses.fields(History))[:-2]
