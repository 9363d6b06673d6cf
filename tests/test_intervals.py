"""Simultaneous intervals: their level, and what they call beyond and inside."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from neural_vb.diagnostics.intervals import Effects, max_t


def effects(estimate: list[float], error: float = 0.01, critical: float = 3.0, usable: bool = True) -> Effects:
    names = tuple(f"mean[{i}]" for i in range(len(estimate)))
    ones = np.ones(len(estimate))
    return Effects(
        names, np.repeat("mean", len(names)), np.array(estimate), error * ones, 0.1 * ones, critical, ones == usable
    )


@pytest.mark.parametrize("size", [1, 20])
def test_the_quantile_of_independent_terms_is_sidaks(size: int) -> None:
    psi = np.random.default_rng(0).standard_normal((2_000, size))
    exact = norm.ppf(0.5 + 0.5 * 0.95 ** (1.0 / size))
    assert abs(max_t(psi, seed=1, num=4_000) - exact) < 0.1  # four standard errors of a quantile of 4,000


def test_copies_of_one_term_need_no_correction() -> None:
    psi = np.random.default_rng(0).standard_normal((2_000, 1)) * np.array([1.0, 5.0, -0.1, 0.0])
    assert abs(max_t(psi, seed=1, num=4_000) - norm.ppf(0.975)) < 0.1


def test_terms_that_are_all_constant_have_a_quantile() -> None:
    assert np.isfinite(max_t(np.zeros((10, 3)), seed=0))


def test_states() -> None:
    assert effects([0.0, 0.05]).state == "no_problem_found"
    assert effects([0.0, 0.09]).state == "inconclusive"
    assert effects([0.0, 0.12]).state == "inconclusive"
    assert effects([0.0, -0.14]).state == "fail"
    assert effects([0.0, 0.0], usable=False).state == "inconclusive"
    assert effects([0.0, -0.14], usable=False).state == "fail"


def test_a_margin_widens_both_claims() -> None:
    assert effects([0.0, 0.05])._replace(margin=np.array([0.0, 0.03])).state == "inconclusive"
    assert effects([0.0, -0.14])._replace(margin=np.array([0.0, 0.03])).state == "inconclusive"
    wide = effects([0.0, -0.18])._replace(margin=np.array([np.inf, 0.03]))
    assert wide.state == "fail" and wide.worst == 1
    assert wide.smallest_effect() == {"mean": np.inf}


def test_the_worst_and_the_smallest_effect() -> None:
    found = effects([0.0, -0.2, 0.15])
    assert found.worst == 1 and found.largest() == {"mean": 0.2}
    assert found.smallest_effect() == {"mean": pytest.approx(0.13)}
