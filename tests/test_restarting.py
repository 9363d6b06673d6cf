"""Which of several fits is returned, and that none is lost."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from neural_vb.restarting import best_of


@dataclass(frozen=True)
class Fit:
    seed: int
    status: Any
    elbo: Any
    restarts: tuple[Any, ...] = ()


def fits(*told: tuple[str, float]) -> Any:
    left = list(told)

    def again(seed: int, checkpoint: Any) -> Fit:
        reason, elbo = left.pop(0)
        if reason == "Ctrl-C":
            raise KeyboardInterrupt
        return Fit(seed, SimpleNamespace(reason=reason), SimpleNamespace(value=elbo))

    return again


def test_the_largest_elbo_of_those_that_ended_is_the_best() -> None:
    told = ("plateau", 1.0), ("met", 2.0), ("step_limit", 9.0), ("plateau", float("nan"))
    best = best_of(fits(*told), 4, 0, None)
    assert best.elbo.value == 2.0 and len(best.restarts) == 4


def test_an_interrupted_fit_is_the_last_and_not_the_best() -> None:
    best = best_of(fits(("plateau", 1.0), ("interrupted", 5.0), ("plateau", 7.0)), 3, 0, None)
    assert best.elbo.value == 1.0 and len(best.restarts) == 2


def test_what_was_fitted_before_ctrl_c_is_kept() -> None:
    assert best_of(fits(("plateau", 1.0), ("Ctrl-C", 0.0)), 2, 0, None).elbo.value == 1.0
    with pytest.raises(KeyboardInterrupt):
        best_of(fits(("Ctrl-C", 0.0)), 2, 0, None)


def test_more_restarts_begin_with_the_same_seeds() -> None:
    few, many = (best_of(fits(*[("met", float(-i)) for i in range(n)]), n, 7, None) for n in (2, 5))
    assert [one.seed for one in few.restarts] == [one.seed for one in many.restarts[:2]]
    assert few.seed == 7 and len({one.seed for one in many.restarts}) == 5
