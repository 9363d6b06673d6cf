"""What a run hands back, and the budget that methods share.

A method runs in a process of its own. Its imports are timed apart; ``seconds`` is what a user waits for after them,
tracing and compilation included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import bars
from benchmarks.definitions import Array

NUM_CHAINS = 4
NUM_WARMUP = 1_000
NUM_SAMPLES = 2_500
DRAW_SEED = 1_000
LARGEST_SET = 50_000_000  # numbers; a million draws of a thousand coordinates would take the memory, not the time

Sampler = Callable[[int, int], Array]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        import_seconds: imports of the libraries.
        seconds: the fit, compilation included.
        draw_sets: unconstrained draws, [S, D] each.
        elbo: in nats, or None.
        details: further facts for the record.
    """

    import_seconds: float
    seconds: float
    draw_sets: list[Array]
    elbo: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def variational_run(
    import_seconds: float, seconds: float, sample: Sampler, size: int, elbo: float | None, **details: Any
) -> Run:
    """A run of a method that can be asked for as many draws as wanted: all of these are measured alike.

    Args:
        import_seconds: of the libraries.
        seconds: of the fit.
        sample: (S, seed) -> unconstrained draws [S, D] as a NumPy array.
        size: D.
        elbo: in nats, or None.
        details: further facts.
    """
    peak = peak_memory()
    first_sample, rates = sampling_rates(sample, size)
    draw_sets = [np.asarray(sample(bars.NUM_DRAWS, DRAW_SEED + i), float) for i in range(bars.NUM_DRAW_SETS)]
    facts = {
        "first_sample_seconds": first_sample,
        "sampling": rates,
        "draws_per_second": rates[-1]["draws_per_second"],
        "fit_peak_memory_mb": peak,
    }
    return Run(import_seconds, seconds, draw_sets, elbo, facts | details)


def peak_memory() -> float | None:
    """Of this process so far, in MB; taken after a fit, before draws by the million."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def sampling_rates(sample: Callable[[int, int], Any], size: int) -> tuple[float, list[dict[str, float]]]:
    """Seconds of the very first call, and the rate of the next call at each size; draws end as NumPy arrays."""

    def timed(num_draws: int, seed: int) -> float:
        start = time.perf_counter()
        sample(num_draws, seed)
        return time.perf_counter() - start

    sizes = [num for num in bars.SAMPLING_SIZES if num * size <= LARGEST_SET] or [bars.SAMPLING_SIZES[0]]
    first = timed(sizes[0], 1)
    seconds = [timed(num, 2 + i) for i, num in enumerate(sizes)]
    rates = [
        {"num_draws": num, "seconds": took, "draws_per_second": num / took}
        for num, took in zip(sizes, seconds, strict=True)
    ]
    return first, rates
