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
