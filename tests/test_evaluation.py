"""What a trained sampler is asked for, against a target whose density and normalising constant are known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import neural_vb as nvb
from neural_vb.evaluation import CHUNK, SLICE, Estimate, Evaluation
from neural_vb.mixtures import Stream


@pytest.fixture(scope="module")
def evaluation(named_posterior: nvb.Posterior) -> Evaluation:
    return Evaluation(named_posterior.parts, named_posterior.parameters, named_posterior.whitened)


def joined(evaluation: Evaluation, num_draws: int, seed: int = 0) -> np.ndarray:
    return np.concatenate([z.numpy() for z in evaluation.draws(num_draws, seed)])


def true_log_density(z: np.ndarray) -> np.ndarray:
    """Normalised log density of (mu, log tau): mu ~ N(1, .5^2), tau ~ Gamma(3, 2)."""
    tau = scipy.stats.gamma(3.0, scale=0.5)
    return scipy.stats.norm(1.0, 0.5).logpdf(z[:, 0]) + tau.logpdf(np.exp(z[:, 1])) + z[:, 1]


def test_draws_come_in_chunks_and_fewer_are_a_prefix_of_more(evaluation: Evaluation) -> None:
    num_draws = CHUNK + 5
    sizes = [len(z) for z in evaluation.draws(num_draws, 3)]
    assert sizes == [CHUNK, 5]
    many = joined(evaluation, num_draws, 3)
    assert many.shape == (num_draws, 2) and many.dtype == np.float64
    for fewer in (1, CHUNK - 1, CHUNK, CHUNK + 1):
        np.testing.assert_array_equal(joined(evaluation, fewer, 3), many[:fewer])


def test_chunks_and_seeds_bring_new_noise(evaluation: Evaluation) -> None:
    both = joined(evaluation, 2 * CHUNK, 3)
    assert np.unique(both[:, 0]).size > 1.99 * CHUNK
    assert abs(np.corrcoef(both[:CHUNK, 0], both[CHUNK:, 0])[0, 1]) < 5 / math.sqrt(CHUNK)
    other = joined(evaluation, CHUNK, 4)
    assert abs(np.corrcoef(both[:CHUNK, 0], other[:, 0])[0, 1]) < 5 / math.sqrt(CHUNK)


def test_the_density_estimate_is_near_the_true_density(evaluation: Evaluation) -> None:
    z = joined(evaluation, 4_000)
    error = evaluation.log_q(z) - true_log_density(z)
    assert abs(error.mean()) < 0.05 and error.std() < 0.2
    log_p = evaluation.log_p(z)
    np.testing.assert_allclose(log_p - true_log_density(z), (log_p - true_log_density(z))[0], atol=1e-4)


def test_log_p_takes_no_notice_of_whitening(evaluation: Evaluation, named_log_z: float) -> None:
    z = np.array([[1.0, 0.0], [0.3, -1.0]])
    np.testing.assert_allclose(evaluation.log_p(z), true_log_density(z) + named_log_z, rtol=1e-5)
    np.testing.assert_allclose(
        evaluation.log_p(z), [0.0 - 2.0 + 0.0, -0.5 * 1.4**2 - 2.0 - 2.0 * math.exp(-1.0) - 1.0], rtol=1e-5
    )


def test_the_target_is_evaluated_a_slice_at_a_time(evaluation: Evaluation) -> None:
    sizes: list[int] = []

    class Watched:
        """The same target, which tells how many draws it gets at once."""

        event_size = 2
        dtype = tf.float32

        def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
            sizes.append(z.shape[0])
            return evaluation.target.target.log_prob(z)

    whitened = type(evaluation.target)(Watched(), evaluation.target.whitening)
    watched = Evaluation(evaluation.parts, evaluation.parameters, whitened)
    z = joined(evaluation, 2 * SLICE + 3)
    np.testing.assert_array_equal(watched.log_p(z), evaluation.log_p(z))
    assert set(sizes) == {SLICE}
    for part in (z[:1], z[5:SLICE], z[-4:]):
        rows = (z[:, None] == part).all(-1).argmax(0)
        np.testing.assert_array_equal(evaluation.log_p(part), evaluation.log_p(z)[rows])


def test_the_critic_sees_one_known_number_of_draws(evaluation: Evaluation) -> None:
    """A user's own may look at it, and is traced once whatever is asked for."""
    sizes: list[int] = []

    class Watched:
        """The same critic, which tells how many draws it gets at once."""

        def __call__(self, parameters: Any, z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
            sizes.append(z.shape[0])
            return evaluation.parts.critic(parameters, z, x)

    parts = dataclasses.replace(evaluation.parts, critic=Watched())
    watched = Evaluation(parts, evaluation.parameters, evaluation.target)
    z = joined(evaluation, SLICE + 3)
    np.testing.assert_array_equal(watched.log_q(z), evaluation.log_q(z))
    np.testing.assert_allclose(watched.log_q(z[-2:]), evaluation.log_q(z)[-2:], rtol=1e-5, atol=1e-5)
    assert watched.log_q(z[:0]).shape == (0,)
    assert sizes == [SLICE]


def test_the_elbo_is_near_log_z(evaluation: Evaluation, named_log_z: float) -> None:
    elbo = evaluation.elbo(CHUNK + 100, seed=5)
    assert abs(elbo.value - named_log_z) < 0.05
    z = np.concatenate([chunk.numpy() for chunk in evaluation.draws(CHUNK + 100, 5, Stream.ELBO)])
    terms = evaluation.log_p(z).astype(np.float64) - evaluation.log_q(z)
    assert elbo.value == pytest.approx(terms.mean(), abs=1e-6)
    assert elbo.standard_error == pytest.approx(terms.std() / math.sqrt(terms.size), rel=1e-4)


def test_draws_without_a_finite_log_density_take_no_part_in_the_elbo(evaluation: Evaluation) -> None:
    class Cut:
        """The same target, impossible above its median."""

        event_size = 2
        dtype = tf.float32

        def __init__(self, level: float) -> None:
            self.level = level

        def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
            return tf.where(z[..., 0] > self.level, -np.inf, evaluation.target.target.log_prob(z))

    whole = evaluation.elbo(2_000, seed=0)
    for level, finite in ((1.0, True), (-100.0, False)):
        whitened = type(evaluation.target)(Cut(level), evaluation.target.whitening)
        cut = Evaluation(evaluation.parts, evaluation.parameters, whitened).elbo(2_000, seed=0)
        assert math.isfinite(cut.value) is finite
        assert not finite or abs(cut.value - whole.value) < 0.1


def test_an_estimate_prints_with_its_error() -> None:
    assert str(Estimate(-1.23456, 0.00456)) == "-1.235 ± 0.005"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (0.25, "-25.427 ± 0.250"),
        (0.0009, "-25.4269 ± 0.0009"),
        (3.1e-5, "-25.42691 ± 0.00003"),
        (2e-9, "-25.426912 ± 0.000000"),
        (0.0, "-25.427 ± 0.000"),
        (math.nan, "-25.427 ± nan"),
        (math.inf, "-25.427 ± inf"),
    ],
)
def test_a_standard_error_is_shown_as_long_as_it_is_no_rounding(error: float, text: str) -> None:
    assert str(Estimate(-25.4269124, error)) == text
