"""Moments after training: weighted ones are right with their errors, the map gives them exactly, log q moves along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf
from densities import gaussian

from neural_vb import contrasts, critics, finishing, mixtures, moments, samplers, warping
from neural_vb._types import Base
from neural_vb.avb import Parts
from neural_vb.errors import TargetValueError
from neural_vb.evaluation import Evaluation
from neural_vb.moments import Moments
from neural_vb.probing import Probe
from neural_vb.targets import LogProbTarget
from neural_vb.warm_start import WarmStart
from neural_vb.whitening import WhitenedTarget, Whitening

SIZE, NUM = 3, 20_000
MEAN = np.array([0.1, -0.2, 0.0])
FACTOR = np.array([[1.1, 0.0, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 1.0]])  # of p's covariance; r is standard normal
COVARIANCE = FACTOR @ FACTOR.T
WHITENING = Whitening(np.array([5.0, 0.0, -300.0]), np.array([[2.0, 0.0, 0.0], [0.3, 0.01, 0.0], [-40.0, 9.0, 70.0]]))


def log_ratio(u: np.ndarray) -> np.ndarray:
    """log p - log r, with another constant."""
    noise = np.linalg.solve(FACTOR, (u - MEAN).T)
    return 7.0 - 0.5 * (noise**2).sum(0) + 0.5 * (u**2).sum(1) - np.log(np.diag(FACTOR)).sum()


def normal(num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, SIZE))


def equal(u: np.ndarray) -> Moments:
    return Moments.of([u])


def trained(whitening: Whitening) -> tuple[Parts, Any, WarmStart]:
    """A sampler that is standard normal in u, a contrast that is so, too, and the target."""
    centre, factor = WHITENING.shift + WHITENING.scale_tril @ MEAN, WHITENING.scale_tril @ FACTOR
    target = LogProbTarget(gaussian(centre, factor @ factor.T, -4.0), event_shape=[SIZE], dtype=tf.float64)
    parts = Parts(samplers.ResidualSampler(), critics.MLPCritic(), contrasts.MomentMatched(), None)
    base = mixtures.standard_base(SIZE)
    names = ("sampler", "critic", "contrast")
    parameters = {name: getattr(parts, name).initial_parameters(base, 0, 0) for name in names}
    return parts, parameters, WarmStart(WhitenedTarget(target, whitening, -4.0), base, {}, False)


def from_weights(seed: int, num: int = NUM) -> Moments:
    u = normal(num, seed)
    found = moments.target_moments(equal(normal(2 * num, 1_000 + seed)), u, log_ratio(u), log_ratio(normal(500, 99)))
    assert found is not None
    return found


def test_moments_are_numpy_s() -> None:
    u = normal(300, 0) @ FACTOR.T + MEAN
    found = Moments.of(np.split(u, 3))
    np.testing.assert_allclose(found.mean, u.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(u.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(found.mean_noise, u.var(0) / 300, rtol=0.05)  # within pieces, and not between them
    around = u - u.mean(0)
    naive = [[(around[:, i] * around[:, j]).var() / 300 for j in range(SIZE)] for i in range(SIZE)]
    np.testing.assert_allclose(found.covariance_noise, naive, rtol=0.15)


def test_weights_tell_the_target_s_moments_and_their_errors() -> None:
    runs = [from_weights(seed, 4_000) for seed in range(100)]
    for values, truth, noise in (
        (np.array([run.mean for run in runs]), MEAN, np.array([run.mean_noise for run in runs])),
        (np.array([run.covariance for run in runs]), COVARIANCE, np.array([run.covariance_noise for run in runs])),
    ):
        scores = (values - truth) / np.sqrt(noise)
        assert np.abs(scores.mean(0)).max() < 4.0 / np.sqrt(len(runs))
        # A hundred runs know a standard error within 7 %.
        np.testing.assert_allclose(scores.std(0), 1.0, atol=0.3)


def test_what_the_weights_cannot_tell_is_not_asked() -> None:
    u, r = normal(NUM, 0), equal(normal(NUM, 1))
    near = log_ratio(normal(500, 99))
    assert moments.target_moments(r, u, log_ratio(u), near) is not None
    assert moments.target_moments(r, u, 1.5 * (u**2).sum(1), near) is None  # k-hat
    assert moments.target_moments(r, u, -300.0 * u[:, 0] ** 2, near) is None  # few
    assert (
        moments.target_moments(r, u, log_ratio(u), np.where(np.arange(500) < 10, 17.0, near)) is None
    )  # missed places
    assert moments.target_moments(r, u, log_ratio(u), np.where(np.arange(500) < 10, np.nan, near)) is None
    assert moments.target_moments(r, u, np.full(NUM, -np.inf), near) is None


def test_the_map_gives_the_sampler_the_moments() -> None:
    u = normal(NUM, 3)
    target = Moments(MEAN, COVARIANCE, np.zeros(SIZE), np.zeros([SIZE, SIZE]))
    found, changed = moments.matched(WHITENING, equal(u)._replace(mean_noise=0.0, covariance_noise=0.0), target)
    y = found.shift + u @ found.scale_tril.T
    np.testing.assert_allclose(y.mean(0), WHITENING.shift + WHITENING.scale_tril @ MEAN, rtol=1e-9)
    expected = WHITENING.scale_tril @ COVARIANCE @ WHITENING.scale_tril.T
    np.testing.assert_allclose(np.cov(y.T, bias=True), expected, rtol=1e-9)
    assert changed and (np.triu(found.scale_tril, 1) == 0.0).all() and (np.diag(found.scale_tril) > 0.0).all()


def test_noise_and_errors_of_another_kind_are_left_alone() -> None:
    same = equal(normal(NUM, 3))
    assert sum(moments.matched(WHITENING, same, equal(normal(NUM, 10 + seed)))[1] for seed in range(20)) <= 4
    far = same._replace(mean=same.mean + 0.6)
    assert moments.matched(WHITENING, same, far) == (WHITENING, False)


def test_a_map_that_loses_is_seen() -> None:
    before = log_ratio(normal(8_000, 5))
    noise = np.random.default_rng(6).standard_normal(8_000)
    assert not moments.loses(before, before) and not moments.loses(before, before + 0.05 + noise)
    assert moments.loses(before, before - 0.06 + noise)
    assert moments.loses(before, np.where(np.arange(8_000) == 0, -np.inf, before + 1.0))
    assert not moments.loses(np.where(np.arange(8_000) == 0, -np.inf, before), before)


def test_modes_are_not_moved_for_their_weights() -> None:
    """Two far modes, at the right places with the wrong weights: an affine map could but shift both."""

    def two_modes(z: tf.Tensor) -> tf.Tensor:
        return tf.reduce_logsumexp([-0.5 * tf.reduce_sum((z - m) ** 2, -1) / 0.04 for m in (1.0, -1.0)], 0)

    target = LogProbTarget(two_modes, event_shape=[2], dtype=tf.float64)
    parts, _, warm = trained(Whitening(np.zeros(2), np.eye(2)))
    base = Base(np.log([0.6, 0.4]), np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.2 * np.eye(2)] * 2))
    names = ("sampler", "critic", "contrast")
    parameters = {name: getattr(parts, name).initial_parameters(base, 0, 0) for name in names}
    asked: list[bool] = []
    warm = warm._replace(target=replace(warm.target, target=target))
    with pytest.MonkeyPatch.context() as patch:
        loses = moments.loses
        patch.setattr(moments, "loses", lambda *both: asked.append(loses(*both)) or asked[-1])
        found, notes = finishing.finish(warm, parts, parameters, Probe(target), 0)
    assert asked == [True] and found.target.whitening is warm.target.whitening and not notes


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TargetValueError(expected="a", got="b", fix="c")])
def test_training_is_not_lost_to_what_comes_after(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raises(z: np.ndarray) -> Any:
        raise error

    parts, parameters, warm = trained(WHITENING)
    found, notes = finishing.finish(warm, parts, parameters, cast(Probe, raises), 0)
    assert found.target.whitening is WHITENING
    assert [note.split()[0] for note in notes] == (["interrupted"] if isinstance(error, KeyboardInterrupt) else [])


@pytest.mark.parametrize("bends", [False, True])
def test_after_the_finish_draws_have_the_target_s_moments_and_log_q_is_their_density(bends: bool) -> None:
    """A sampler that is standard normal in u, with log q = log r there, and a target that is not."""
    warp = (warping.identity(SIZE),) if bends else ()
    parts, parameters, warm = trained(Whitening(WHITENING.shift, WHITENING.scale_tril, warp))
    found, notes = finishing.finish(warm, parts, parameters, Probe(warm.target.target), 0)
    assert len(notes) == 1 and "importance weights" in notes[0]
    evaluation = Evaluation(parts, parameters, found.target)
    z = np.concatenate([part.numpy() for part in evaluation.draws(NUM, 1)])
    centre, factor = WHITENING.shift + WHITENING.scale_tril @ MEAN, WHITENING.scale_tril @ FACTOR
    sds = np.sqrt(np.diag(factor @ factor.T))
    noise = np.sqrt(2.0 / NUM)  # of these draws, and of what the finish has seen
    np.testing.assert_allclose((z.mean(0) - centre) / sds, 0.0, atol=5.0 * noise)
    np.testing.assert_allclose(z.std(0) / sds, 1.0, atol=5.0 * noise)
    gaps = evaluation.log_p(z) - evaluation.log_q(z)
    np.testing.assert_allclose(gaps.mean(), -4.0, atol=0.01)
    assert gaps.std() < 0.1
