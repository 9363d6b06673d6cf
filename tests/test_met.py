"""Posteriors that the warm start meets, so that no step is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from quick_fits import TINY

import neural_vb as nvb
from neural_vb import finishing, fitting
from neural_vb._types import Status
from neural_vb.history import METRICS, History


def correlated(z: tf.Tensor) -> tf.Tensor:
    """N((1, -2), [[1, .9], [.9, 1]]) times e^3."""
    x, y = z[:, 0] - 1.0, z[:, 1] + 2.0
    return 3.0 - 0.5 * (x**2 - 1.8 * x * y + y**2) / 0.19 - 0.5 * np.log(0.19) - np.log(2.0 * np.pi)


@pytest.fixture(scope="module")
def met() -> nvb.Posterior:
    return nvb.fit(correlated, event_shape=[2], seed=0, progress=False)


def test_a_gaussian_is_met_by_the_warm_start(met: nvb.Posterior) -> None:
    assert met.status.reason == "met" and "no steps were needed" in str(met)
    assert met.history.step.tolist() == [0] and met.history.warm_start["divergence"] < 1e-3
    draws = met.sample(50_000, seed=1)
    error = 4.5 / np.sqrt(len(draws))
    np.testing.assert_allclose(draws.mean(0), [1.0, -2.0], atol=error)
    np.testing.assert_allclose(draws.std(0), 1.0, atol=error)
    assert abs(np.corrcoef(draws.T)[0, 1] - 0.9) < error
    assert abs(met.elbo.value - 3.0) < 0.01
    z = draws[:1_000]
    np.testing.assert_allclose(met.log_prob_estimate(z), met.log_prob(z) - 3.0, atol=0.02)


def test_one_dimension_is_met_too() -> None:
    found = nvb.fit(lambda z: -0.5 * ((z[:, 0] - 3.0) / 0.1) ** 2, event_shape=[1], seed=0, progress=False)
    log_z = 0.5 * np.log(2.0 * np.pi) + np.log(0.1)
    assert found.status.reason == "met" and abs(found.elbo.value - log_z) < 1e-3
    z = np.linspace(2.7, 3.3, 7)[:, None].astype(np.float32)
    np.testing.assert_allclose(found.log_prob_estimate(z), found.log_prob(z) - log_z, atol=0.01)


def test_a_posterior_that_was_met_does_all_that_others_do(met: nvb.Posterior, tmp_path: Path) -> None:
    met.save(tmp_path / "met.nvb")
    again = nvb.load(tmp_path / "met.nvb", correlated, event_shape=[2])
    np.testing.assert_array_equal(again.sample(10, seed=3), met.sample(10, seed=3))
    assert met.plot_training() is not None
    assert met.to_arviz(100)["posterior"] is not None
    more = nvb.fit(correlated, event_shape=[2], start=met, config=TINY, progress=False)
    assert more.history.step[-1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["parts", "config"])
def test_a_config_or_parts_ask_for_training(asked: str) -> None:
    parts = {"critic": nvb.critics.MLPCritic(), "callbacks": [lambda step, metrics: True]}
    options: dict[str, Any] = parts if asked == "parts" else {"config": TINY}
    assert nvb.fit(correlated, event_shape=[2], progress=False, **options).history.step[-1] > 0


def record(*elbo: float, error: float = 0.01) -> History:
    row = dict.fromkeys(METRICS, 0.0) | {"elbo_standard_error": error, "rate": 0.0}
    return History.of_rows([row | {"elbo": value, "step": 200.0 * (i + 1)} for i, value in enumerate(elbo)], None, {})


def test_what_training_lost_against_its_start() -> None:
    assert (
        finishing.shortfall(record(-1.0, 2.9), 3.0)
        == finishing.shortfall(record(), 3.0)
        == finishing.shortfall(record(0.0), None)
        == 0
    )
    assert finishing.shortfall(record(2.0, error=0.3), 3.0) == 0.0
    assert finishing.shortfall(record(3.0, 2.0), 3.0) == 1.0
    assert finishing.shortfall(record(-1e30, error=1e30), 3.0) > 1e29  # of an explosion the error tells nothing
    assert finishing.shortfall(record(np.nan), 3.0) == np.inf


@pytest.mark.slow
def test_a_training_that_explodes_gives_its_start_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begin, train = fitting.warm_start, fitting.train

    def exploded(parts: Any, log_prob: Any, parameters: Any, **options: Any) -> Any:
        found = train(parts, log_prob, parameters, **options | {"config": TINY})
        worse = tf.nest.map_structure(lambda values: 30.0 + values, found.parameters)
        return found._replace(parameters=worse, history=record(-1e9), status=Status("plateau", "rested", ""))

    monkeypatch.setattr(fitting, "warm_start", lambda *given, **options: begin(*given, **options)._replace(met=None))
    monkeypatch.setattr(fitting, "train", exploded)
    found = nvb.fit(correlated, event_shape=[2], seed=0, progress=False)
    assert found.status.reason == "no_gain" and "1e+09 nats below the Gaussians" in str(found)
    draws, error = found.sample(50_000, seed=1), 4.5 / np.sqrt(50_000)
    np.testing.assert_allclose(draws.mean(0), [1.0, -2.0], atol=error)
    np.testing.assert_allclose(draws.std(0), 1.0, atol=error)
    assert abs(found.elbo.value - 3.0) < 0.01
    found.save(tmp_path / "start.nvb")
    again = nvb.load(tmp_path / "start.nvb", correlated, event_shape=[2])
    np.testing.assert_array_equal(again.sample(10, seed=3), found.sample(10, seed=3))


def test_a_run_from_an_earlier_posterior_is_not_compared_with_its_start(
    met: nvb.Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound in its numbers is that of the data before."""
    monkeypatch.setattr(fitting, "TrainingConfig", lambda: TINY)
    assert met.history.warm_start["bound"] > 2.9
    more = nvb.fit(lambda z: correlated(z) - 100.0, event_shape=[2], start=met, progress=False)
    assert more.status.reason in ("step_limit", "plateau") and more.elbo.value < -90.0
