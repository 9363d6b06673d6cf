"""Constants of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neural_vb import _checks
from neural_vb.errors import ConfigurationError

FULL_RATES = 300  # dimensions up to which the rates are those of the configuration


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train. The defaults are one recipe for every posterior.

    Args:
        max_steps: most steps before the rates start to fall.
        min_steps: fewest steps before a plateau may end the first phase.
        decay_steps: most steps over which the rates fall linearly to zero; they fall over as many steps as went before,
            within half of this and this.
        batch_size: draws from the sampler and from the contrast per step: S for one data set, else about S times B.
        sampler_rate: Adam rate of the sampler; a tenth of the critic's, which must not lag behind. In D > 300
            dimensions ``fit`` multiplies this rate and the next two by 300 / D.
        critic_rate: Adam rate of the critic.
        contrast_rate: Adam rate of a flow contrast.
        target_rate: Adam rate of a target with parameters, such as a decoder.
        beta_1: Adam's first decay.
        beta_2: Adam's second decay.
        average_decay: decay of the exponential average of the parameters.
        max_growth: a gradient longer than this many times the usual is cut to that, for each network.
        window: steps per metrics window; also per compiled call.
        plateau_windows: windows on each side of the plateau test.
        plateau_tolerance: change of the ELBO, in nats, that counts as none however small its standard error is.
        easy_divergence: half the variance of log p - log r - T over draws is about KL(q || p) once that is small. Below
            this many nats, ``min_steps`` shrinks in proportion: a posterior that the warm start has met ends early.
        ramp_steps: steps over which the sampler's rate rises from zero, while the critic learns the start.
        jit_compile: compile with XLA; falls back to the plain graph, with a warning, when a target cannot be compiled.
    """

    max_steps: int = 5_000
    min_steps: int = 1_200
    decay_steps: int = 1_000
    batch_size: int = 256
    sampler_rate: float = 6e-4
    critic_rate: float = 5e-3
    contrast_rate: float = 5e-3
    target_rate: float = 1e-3
    beta_1: float = 0.5
    beta_2: float = 0.999
    average_decay: float = 0.998
    max_growth: float = 10.0
    window: int = 200
    plateau_windows: int = 3
    plateau_tolerance: float = 0.02
    easy_divergence: float = 0.03
    ramp_steps: int = 300
    jit_compile: bool = True

    def __post_init__(self) -> None:
        _checks.fields(self)
        for name in ("decay_steps", "batch_size", "window", "plateau_windows"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("max_steps", "min_steps", "ramp_steps"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("plateau_tolerance", "easy_divergence"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "at least 0 and finite")
        for name in ("sampler_rate", "critic_rate", "contrast_rate", "target_rate", "max_growth"):
            self._require(name, 0 < getattr(self, name) < math.inf, "positive and finite")
        for name in ("beta_1", "beta_2", "average_decay"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigurationError(
                expected=f"TrainingConfig.{name} {rule}",
                got=repr(getattr(self, name)),
                fix=f"pass {name} {rule}, or leave it out for the default",
            )


def slowed(config: TrainingConfig, event_size: int) -> TrainingConfig:
    """The rates for D dimensions: a step moves all coordinates, and KL(q || p) is the sum of what that costs."""
    factor = min(1.0, FULL_RATES / event_size)
    return replace(
        config,
        sampler_rate=factor * config.sampler_rate,
        critic_rate=factor * config.critic_rate,
        contrast_rate=factor * config.contrast_rate,
    )
