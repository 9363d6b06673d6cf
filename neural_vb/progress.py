"""One progress bar over all stages of a fit."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

STAGE = "{desc} [{elapsed}]"


class Progress:
    """One bar over all stages of a fit, with the ELBO and the critic's accuracy while training."""

    def __init__(self, *, enabled: bool) -> None:
        self._bar = tqdm(disable=not enabled, unit="step", dynamic_ncols=True, leave=True, bar_format=STAGE)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def stage(self, name: str) -> None:
        """A new stage; its steps are counted from zero."""
        self._bar.bar_format = STAGE  # until there are steps to count
        self._bar.set_description_str(name, refresh=False)
        self._bar.n = 0
        self._bar.refresh()

    def density(self, step: int, log_density: float) -> None:
        """After a window of maximum-likelihood steps."""
        self._bar.bar_format = None
        self._bar.set_postfix(log_density=f"{log_density:.3f}", refresh=False)
        self._bar.update(step - self._bar.n)

    def window(self, step: int, metrics: Mapping[str, float]) -> None:
        """After a window of training steps."""
        self._bar.bar_format = None
        self._bar.set_description_str("train" if metrics["rate"] == 1.0 else "settle", refresh=False)
        self._bar.total = int(metrics["last_step"])
        self._bar.set_postfix(elbo=f"{metrics['elbo']:.3f}", critic=f"{metrics['critic_accuracy']:.3f}", refresh=False)
        self._bar.update(step - self._bar.n)
