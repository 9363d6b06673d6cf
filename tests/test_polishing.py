"""Local fit: exact draws pass, errors of known size are measured, and chains that forget nothing say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neural_vb.diagnostics import polishing
from neural_vb.diagnostics.polishing import compare, functionals, labels, local_fit, pairs_of

NUM = 24_576
PIECES = ((0, 32_768), (2, 4_096))


def draws(seed: int = 0, num: int = NUM, size: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, size))


@pytest.mark.parametrize("far", [1.0, 4.0])
def test_influence_values_are_derivatives(far: float) -> None:
    """Doubling the weight of one draw moves each functional by its influence / n; that of a far one is clipped."""
    v, pairs = draws(1, 400, 3), pairs_of(3, 0)
    v[0] *= far
    found = functionals(v, pairs)
    heavier = functionals(np.concatenate([v, v[:1]]), pairs)
    np.testing.assert_allclose(
        heavier.value - found.value, found.influence[0] / 400, atol=3e-4 * far**2
    )  # second order
    np.testing.assert_allclose(found.influence.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(polishing.values(v, pairs), found.value, atol=1e-6)
    assert len(labels(range(3), pairs)[0]) == len(found.value) + 1


def test_values_against_numpy() -> None:
    v, pairs = draws(2, 500, 3) * [1.0, 1.2, 1.5], pairs_of(3, 0)
    names, _ = labels(range(3), pairs)
    found = dict(zip(names, functionals(v, pairs).value, strict=False))
    np.testing.assert_allclose(found["mean[1]"], v[:, 1].mean(), atol=1e-6)
    np.testing.assert_allclose(found["log_sd[2]"], np.log(v[:, 2].std()), atol=1e-6)
    np.testing.assert_allclose(found["correlation[0, 2]"], np.corrcoef(v.T)[0, 2], atol=1e-6)
    np.testing.assert_allclose(found["tail[1, above]"], (v[:, 1] > 2.0).mean(), atol=1e-6)


@pytest.mark.parametrize("kept", [0.0, 0.4])
def test_an_error_is_divided_by_what_chains_forgot(kept: float) -> None:
    """An autoregression towards N(.3, 1) keeps the share ``kept`` of an error of the mean."""
    pool, noise = draws(3, 60_000), draws(4, 8_000)
    before = pool[:8_000]
    after = 0.3 + kept * (before - 0.3) + np.sqrt(1.0 - kept**2) * noise
    log_p = tuple(-0.5 * ((z - 0.3) ** 2).sum(1) for z in (before, after))
    found = compare(before, after, pool[8_000:], log_p)
    means = found.effects.estimate[:2]
    assert np.abs(means - 0.3).max() < 4.0 * found.effects.standard_error[:2].max()
    assert np.abs(found.remaining[:2] - kept).max() < 4.0 / np.sqrt(8_000)
    assert found.effects.state == "fail"


def test_standard_errors_are_those_of_repetitions() -> None:
    estimates, errors = [], []
    for seed in range(40):
        pool, after = draws(seed, 6_000), draws(1_000 + seed, 1_000)
        log_p = tuple(-0.5 * (z**2).sum(1) for z in (pool[:1_000], after))
        found = compare(pool[:1_000], after, pool[1_000:], log_p, seed=seed).effects
        estimates.append(found.estimate)
        errors.append(found.standard_error)
    ratio = np.std(estimates, axis=0) / np.mean(errors, axis=0)
    assert (np.abs(ratio - 1.0) < 4.0 / np.sqrt(2 * 40)).all()


@pytest.mark.parametrize(
    ("shift", "scale", "state"),
    [(0.0, 1.0, "no_problem_found"), (0.2, 1.0, "fail"), (0.0, 0.8, "fail"), (0.0, 1.25, "fail")],
)
def test_states_of_known_errors(gaussian_chains: Any, shift: float, scale: float, state: str) -> None:
    found = local_fit(gaussian_chains, shift + scale * draws(5), seed=1)
    assert found.finding.state == state
    assert found.after.shape == found.before.shape == (polishing.NUM_CHAINS, 2)


def test_the_same_seed_gives_the_same_finding(gaussian_chains: Any) -> None:
    first, second, other = (local_fit(gaussian_chains, draws(6), num_chains=2_048, seed=s).finding for s in (1, 1, 2))
    assert first == second != other


def test_transitions_that_are_refused_are_inconclusive(gaussian_chains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polishing, "LOW_ACCEPTANCE", 1.1)
    found = local_fit(gaussian_chains, draws(7), num_chains=2_048, budget=9).finding
    assert found.state == "inconclusive" and "accepted" in found.message


def test_chains_that_forget_nothing_are_inconclusive() -> None:
    pool = draws(8, 20_000)
    log_p = -0.5 * (pool[:4_000] ** 2).sum(1)
    found = compare(pool[:4_000], pool[:4_000] + 1e-3, pool[4_000:], (log_p, log_p))
    assert found.effects.state == "inconclusive" and (found.remaining > 0.9).all()


def test_moments_that_one_draw_makes_fail_nobody() -> None:
    """Exact draws, independent ends: of N(0, e^v), v ~ N(0, 9), thousands of draws do not know the second moments."""
    states = []
    for seed in range(12):
        pool, after = (draws(4 * seed + i, n, 5) * np.exp(1.5 * draws(4 * seed + i + 1, n, 1)) for i, n in PIECES)
        log_p = draws(900 + seed, 4_096, 2)
        found = compare(pool[:4_096], after, pool[4_096:], (log_p[:, 0], log_p[:, 1]), seed=seed)
        states.append(found.effects.state)
        assert found.effects.margin[5:10].max() > found.effects.tolerance[5]
    assert states.count("fail") <= 2  # .05 of 12: more than two in one of fifty


def test_heavy_tails_that_are_right_pass() -> None:
    """Student's t with five degrees of freedom: the exact variance of its squares is infinite."""
    states = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pool, after = (rng.standard_normal((n, 5)) / np.sqrt(rng.chisquare(5.0, (n, 1)) / 5.0) for n in (57_000, 8_192))
        log_p = draws(900 + seed, 8_192, 2)
        states.append(compare(pool[:8_192], after, pool, (log_p[:, 0], log_p[:, 1]), seed=seed).effects.state)
    assert states.count("no_problem_found") >= 10 and "fail" not in states


def test_a_few_wild_draws_are_not_passed() -> None:
    """One draw in a thousand at fifty sds makes two thirds of the variance; clipped, little is left of it."""
    pool, after = draws(1, 40_000), draws(2, 8_192)
    pool[::1000] *= 50.0
    log_p = draws(3, 8_192, 2)
    found = compare(pool[:8_192], after, pool, (log_p[:, 0], log_p[:, 1])).effects
    assert found.margin[2:4].min() > 0.3 and not found.inside[2:4].any()


def test_what_clipping_leaves_out_is_the_difference_of_moments() -> None:
    rng = np.random.default_rng(4)
    v = rng.standard_normal((2_000, 2)) @ np.array([[1.0, 0.0], [0.5, 0.8]]) * rng.lognormal(0.0, 0.7, (2_000, 1))
    v = (v - v.mean(0)) / v.std(0)
    clipped = np.clip(v, -polishing.CLIP, polishing.CLIP)
    few = v[:200]
    found = polishing._left_out(v, few, pairs_of(2, 0))
    np.testing.assert_allclose(found[:2], np.maximum(np.abs(clipped.mean(0)), np.abs((few - clipped[:200]).mean(0))))
    ends = np.log(few.std(0) / clipped[:200].std(0))
    np.testing.assert_allclose(found[2:4], np.maximum(-np.log(clipped.std(0)), ends), atol=1e-9)
    np.testing.assert_allclose(found[4], abs(np.corrcoef(v.T)[0, 1] - np.corrcoef(clipped.T)[0, 1]))
    assert not found[5:].any()


def test_many_dimensions_take_some_pairs() -> None:
    pairs = pairs_of(80, 3)
    assert pairs.shape == (2, polishing.MAX_PAIRS) and (pairs[0] < pairs[1]).all()
