"""Stein's identities: they hold for exact draws, tell the size of errors, and pass the mean-field optimum."""

from __future__ import annotations

import numpy as np

from neural_vb.diagnostics.stein import stein_identities

NUM = 20_000


def test_exact_draws_have_no_error() -> None:
    u = np.random.default_rng(0).standard_normal((NUM, 3))
    found = stein_identities(u, -u)
    assert found.state == "no_problem_found"
    assert np.abs(found.estimate / found.standard_error).max() < 4.0


def test_errors_have_their_sizes() -> None:
    u = np.random.default_rng(1).standard_normal((NUM, 2)) * [1.0, np.exp(0.05)] + [0.2, 0.0]
    found = stein_identities(u, -u, scale=np.eye(2))
    assert np.abs(found.estimate - [0.2, 0.0, 0.0, 0.5 * (np.exp(0.1) - 1.0)]).max() < 0.04
    assert found.state == "fail"


def test_the_best_factorised_gaussian_passes() -> None:
    """Which is why they are evidence of a stationary point, and of nothing else."""
    precision = np.linalg.inv([[1.0, 0.9], [0.9, 1.0]])
    u = np.random.default_rng(2).standard_normal((NUM, 2)) / np.sqrt(np.diag(precision))
    found = stein_identities(u, -u @ precision, scale=np.diag(1.0 / np.sqrt(np.diag(precision))))
    assert np.abs(found.estimate / found.standard_error).max() < 4.0
