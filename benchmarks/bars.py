"""What ``neural_vb`` with default settings must reach, for every seed: the one place where bars are written."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.references import FLOORS

NUM_DRAWS = 20_000
NUM_DRAW_SETS = 10  # single comparisons scatter around the floor: metrics are means over this many draw sets of a fit
SAMPLING_SIZES = (20_000, 100_000, 1_000_000)
TIME_RATIO = 1.5
FLOOR_FACTOR = 3.0


@dataclass(frozen=True)
class Bar:
    """A limit on one metric of one problem.

    Attributes:
        problem: key of the registry.
        metric: key of a run's metrics.
        limit: in the metric's unit.
        at_least: the metric must not be below the limit, instead of not above.
    """

    problem: str
    metric: str
    limit: float
    at_least: bool = False

    def met(self, value: float | None) -> bool:
        """Whether a value holds the bar; a missing or non-finite value does not."""
        if value is None:
            return False
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:.4g}"


def _bars(problem: str, **limits: float) -> tuple[Bar, ...]:
    return tuple(Bar(problem, metric, limit) for metric, limit in limits.items())


BARS: tuple[Bar, ...] = (
    *_bars("eight_schools", mean_error=0.05, sd_error=0.05, mean_error_named=0.05, sd_error_named=0.05),
    Bar("eight_schools", "draws_per_second", 500_000.0, at_least=True),
    *_bars("avb_eight_schools", mode_error=0.08, mean_error_named=0.08, sd_error_named=0.08, elbo_error=0.1),
    *_bars("banana", sw1=FLOOR_FACTOR * FLOORS["banana"][0]),
    *_bars("ring", sw1=FLOOR_FACTOR * FLOORS["ring"][0]),
    *_bars("X", sw1=FLOOR_FACTOR * FLOORS["X"][0], mode_error=0.04),
    *_bars("two_modes", sw1=FLOOR_FACTOR * FLOORS["two_modes"][0], mode_error=0.04),
    *_bars("four_modes", sw1=FLOOR_FACTOR * FLOORS["four_modes"][0], mode_error=0.04),
    *_bars("correlated_gaussian_50", mean_error=0.05, sd_error=0.05),
    *_bars("logistic_25", mean_error=0.05, sd_error=0.05),
)

# The time ratio's median is taken over the problems that have bars.
TIMED_PROBLEMS: tuple[str, ...] = tuple(dict.fromkeys(bar.problem for bar in BARS))
