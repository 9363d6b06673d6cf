"""Restarts: what they differ by, and that R-hat over them tells what independent draws of one cannot."""

from __future__ import annotations

import arviz
import numpy as np
import pytest
import tensorflow as tf

import neural_vb
from neural_vb.diagnostics import disagreement
from neural_vb.errors import DataError


def log_prob(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2 / tf.constant([1.0, 4.0], z.dtype), -1)


def test_differences_are_those_of_the_moments() -> None:
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((20_000, 2))
    found = disagreement([draws, draws + np.array([0.3, 0.0]), draws * [1.0, 1.2]], [1.0, 1.5, 1.25])
    pooled = np.sqrt((1.0 + 1.0 + np.array([1.0, 1.2**2])) / 3.0)
    np.testing.assert_allclose(found.mean, np.array([0.3, 0.0]) / pooled, atol=4.0 * found.noise)
    np.testing.assert_allclose(found.log_sd, [0.0, np.log(1.2)], atol=1e-9)
    assert found.elbo == 0.5 and found.noise == pytest.approx(0.01)
    assert "0.5 nats" in str(found)


@pytest.mark.parametrize("sets", [1, 0])
def test_one_sampler_disagrees_with_none(sets: int) -> None:
    with pytest.raises(DataError, match="num_restarts=2"):
        disagreement([np.zeros([10, 2])] * sets, [0.0] * sets)


def test_restarts_are_chains_and_the_best_is_returned() -> None:
    posterior = neural_vb.fit(log_prob, event_shape=[2], num_restarts=3, progress=False)
    assert len(posterior.restarts) == 3 and len({one.seed for one in posterior.restarts}) == 3
    assert posterior.elbo.value == max(one.elbo.value for one in posterior.restarts)
    found = posterior.disagreement()
    assert found.mean.max() < 5.0 * found.noise and found.elbo < 0.05
    assert "Best of 3 by ELBO; restarts differ by" in str(posterior)
    assert "where they agree" in str(found) and len(repr(posterior.restarts)) < 300
    with pytest.raises(DataError, match="restarts to compare; got a posterior of one fit"):
        posterior.restarts[0].disagreement(100)
    last = posterior.to_arviz(5, seed=2**31 - 1)
    assert dict(last["posterior"].sizes)["chain"] == 3
    idata = posterior.to_arviz(500)
    assert dict(idata["posterior"].sizes)["chain"] == 3 and idata["posterior"].attrs["restarts"] == 3
    assert float(arviz.rhat(idata)["z"].max()) < 1.02
    first = posterior.restarts[0].to_arviz(500)
    np.testing.assert_array_equal(first["posterior"]["z"].values[0], idata["posterior"]["z"].values[0])
