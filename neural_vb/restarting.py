"""Several fits from as many seeds, and which of them to return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np


def best_of(again: Callable[..., Any], num_restarts: int, seed: int, checkpoint: str | Path | None) -> Any:
    """The posterior with the largest ELBO, of those that came to their end, with all of them as ``restarts``.

    Ctrl-C ends the last one.

    Args:
        again: (seed, checkpoint) -> posterior.
        num_restarts: at most.
        seed: of the first; those of the others follow from it.
        checkpoint: folder with a folder for each, or None.
    """
    # The same first seeds whatever the number: more restarts of one checkpoint go on from those that are there.
    seeds = [seed, *np.random.SeedSequence([seed, 1]).generate_state(num_restarts - 1) >> 1]
    restarts: list[Any] = []
    for index, one in enumerate(seeds):
        folder = None if checkpoint is None else Path(checkpoint) / f"restart_{index}"
        try:
            restarts.append(again(seed=int(one), checkpoint=folder))
        except KeyboardInterrupt:
            if not restarts:
                raise
            break
        if restarts[-1].status.reason == "interrupted":
            break

    def rank(found: Any) -> tuple[bool, bool, float]:
        """The ELBO of a critic that had no time to learn is too high: fits that came to their end go first."""
        reason, elbo = found.status.reason, found.elbo.value
        return (
            reason in ("met", "plateau"),
            reason not in ("interrupted", "non_finite"),
            elbo if np.isfinite(elbo) else -np.inf,
        )

    best = max(restarts, key=rank)
    return replace(best, restarts=tuple(restarts)) if len(restarts) > 1 else best
