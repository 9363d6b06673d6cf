"""log Z and expectations by importance weights, where both are known."""

from __future__ import annotations

import numpy as np
import pytest

from neural_vb.diagnostics.evidence import evidence, expectation
from neural_vb.errors import ImportanceWarning

NUM = 20_000


def weights(scale: float, seed: int = 0, log_z: float = 7.0) -> tuple[np.ndarray, np.ndarray]:
    """Draws of N(0, scale^2), and their log weights under e^log_z N(.1, 1)."""
    u = scale * np.random.default_rng(seed).standard_normal(NUM)
    return u, log_z - 0.5 * (u - 0.1) ** 2 + 0.5 * (u / scale) ** 2 + np.log(scale)


def test_log_z_is_within_its_standard_errors() -> None:
    scores = []
    for seed in range(24):
        found = evidence(weights(1.2, seed)[1])
        scores.append((found.value - 7.0) / found.standard_error)
        assert found.lower_bound < 7.0 and found.usable
    assert abs(np.mean(scores)) < 4.0 / np.sqrt(24) and abs(np.std(scores) - 1.0) < 4.0 / np.sqrt(48)


def test_a_proposal_that_is_too_narrow_is_told() -> None:
    found = evidence(weights(0.3)[1])
    assert not found.usable and "not to be relied upon" in str(found)


def test_refined_draws_see_what_a_narrow_proposal_misses() -> None:
    """Of a proposal .4 as wide as the target, k-hat is below .7 now and then, and weights alone are .1 nats off."""
    scores, errors = [], []
    for seed in range(24):
        refined = np.random.default_rng([seed, 1]).standard_normal(NUM)
        found = evidence(
            weights(0.4, seed)[1], 7.0 - 0.5 * refined**2 + 0.5 * ((refined + 0.1) / 0.4) ** 2 + np.log(0.4)
        )
        scores.append((found.value - 7.0) / found.standard_error)
        errors.append([found.value - 7.0, found.importance - 7.0])
    assert np.abs(scores).max() < 4.0 and abs(np.std(scores) - 1.0) < 4.0 / np.sqrt(48)
    bridge, alone = np.abs(errors).max(0)
    assert bridge < 0.05 < alone


def test_bridge_against_a_root_of_its_equation() -> None:
    """Z = mean_r[p / (s p / Z + (1 - s) r)] / mean_p[r / (s p / Z + (1 - s) r)], by bisection."""
    from scipy.optimize import brentq

    at_r, at_p = weights(1.2, 1)[1][:500], weights(1.0, 2)[1][:300]
    share = 300 / 800

    def excess(log_z: float) -> float:
        above = np.exp(at_r) / (share * np.exp(at_r - log_z) + 1.0 - share)
        below = 1.0 / (share * np.exp(at_p - log_z) + 1.0 - share)
        return float(np.log(above.mean() / below.mean()) - log_z)

    assert evidence(at_r, at_p).value == pytest.approx(brentq(excess, 0.0, 20.0), abs=1e-7)


def test_estimates_that_disagree_are_not_usable() -> None:
    close = weights(1.1, 3)[1]
    assert evidence(close, close).usable
    assert not evidence(close, close + 1.0).usable
    assert evidence(close, np.full(9, -np.inf)).standard_error == np.inf


def test_the_target_itself_has_no_error() -> None:
    found = evidence(np.full(NUM, -3.0))
    assert found.value == pytest.approx(-3.0) and found.standard_error < 1e-12 and found.pareto_k == 0.0


def test_weights_of_zero_count() -> None:
    found = evidence(np.where(np.arange(NUM) % 2, 1.0, -np.inf))
    assert found.value == pytest.approx(1.0 - np.log(2.0)) and found.lower_bound == -np.inf
    assert evidence(np.full(100, np.nan)).value == -np.inf


def test_expectations_are_corrected() -> None:
    u, log_ratios = weights(1.2)
    found = expectation(np.stack([u, (u - 0.1) ** 2], 1), log_ratios)
    assert (np.abs(found.value - [0.1, 1.0]) < 4.0 * found.standard_error).all()


def test_a_heavy_tail_warns() -> None:
    u, log_ratios = weights(0.3)
    with pytest.warns(ImportanceWarning, match="k-hat"):
        expectation(u, log_ratios)
