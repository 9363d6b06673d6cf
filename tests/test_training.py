"""Training: how a run goes and ends, streams of data, what is skipped, and settings."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from short_training import PLAIN, SMALL, initial, normal, parts, run

from neural_vb.configuration import TrainingConfig, slowed
from neural_vb.contrasts import Flow
from neural_vb.errors import ConfigurationError
from neural_vb.training import METRICS, History, Trained, train


def leaves(parameters: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in tf.nest.flatten(parameters)]


def assert_finite(trained: Trained) -> None:
    assert all(np.isfinite(leaf).all() for leaf in leaves((trained.parameters, trained.state)))
    assert all(np.isfinite(getattr(trained.history, name)).all() for name in COLUMNS)


COLUMNS = [name for name in inspect.signature(History).parameters if name not in ("decay_start", "warm_start")]


# How a run goes and ends.


def test_a_plateau_starts_the_decay_and_ends_the_run_after_it() -> None:
    config = replace(PLAIN, max_steps=10_000, window=10, plateau_windows=1, decay_steps=30)
    trained = run(config=config)
    history = trained.history
    assert trained.status.reason == "plateau" and trained.status.advice == ""
    assert history.decay_start is not None and history.decay_start < 10_000
    assert history.step[-1] == history.decay_start + 30 == trained.state.step
    late = history.step > history.decay_start
    assert (history.rate[~late] == 1.0).all()
    np.testing.assert_allclose(history.rate[late], [2 / 3, 1 / 3, 0.0], atol=1e-12)


def test_the_step_limit_advises_to_go_on() -> None:
    trained = run(config=replace(PLAIN, min_steps=100, decay_steps=30))
    assert trained.status.reason == "step_limit"
    assert "start=posterior" in trained.status.advice and "max_steps" in trained.status.advice
    assert list(trained.history.step) == [20, 40, 60, 70]
    assert trained.history.decay_start == 40


def test_history_has_one_row_per_window_and_keeps_the_warm_starts_numbers() -> None:
    history = run(offset=100.0, warm_start={"optima": 2.0}).history
    assert {getattr(history, name).shape for name in COLUMNS} == {history.step.shape}
    assert history.step.dtype.kind == "i" and history.warm_start == {"optima": 2.0}
    assert (np.abs(history.elbo - 100.0 - 0.5 * math.log(2 * math.pi) * 2) < 1.0).all()
    assert (history.finite_share == 1.0).all() and (history.skipped == 0).all()
    assert ((history.critic_accuracy > 0.3) & (history.critic_accuracy < 0.7)).all()
    assert (history.sampler_gradient_norm > 0).all() and (history.critic_gradient_norm > 0).all()
    assert (history.contrast_gradient_norm == 0).all()  # moments follow by statistics


def test_the_samplers_rate_rises_while_the_critic_learns_at_its_full_rate() -> None:
    # Adam's first step has the length of its rate, whatever the gradient.
    config = replace(PLAIN, max_steps=1, decay_steps=1, window=1, ramp_steps=100, sampler_rate=1e-2, critic_rate=3e-3)
    chosen = parts()
    before = initial(chosen)
    moved = []
    trained = run(lambda z, x: normal(z - 3.0, x), config, callbacks=[lambda step, metrics: True])
    flat = trained.state.parameters.numpy()
    start = np.concatenate([np.ravel(leaf) for leaf in leaves(before)])
    sizes = [sum(leaf.size for leaf in leaves(before[name])) for name in sorted(before)]
    for change in np.split(np.abs(flat - start), np.cumsum(sizes)[:-1]):
        moved.append(change.max())
    _, critic, sampler = moved
    assert critic == pytest.approx(3e-3, rel=0.02)
    assert sampler == pytest.approx(1e-2 / 100, rel=0.05)


def test_callbacks_all_get_step_and_metrics_and_one_can_stop() -> None:
    seen: list[tuple[int, Mapping[str, float]]] = []
    trained = run(callbacks=[lambda step, metrics: step >= 40, lambda step, metrics: seen.append((step, metrics))])
    assert trained.status.reason == "callback" and trained.status.advice == ""
    assert [step for step, _ in seen] == [20, 40] == list(trained.history.step)
    assert trained.history.decay_start is None
    expected = {*METRICS, "elbo_standard_error", "step", "rate", "last_step"}
    assert set(seen[0][1]) == expected
    assert seen[1][1]["elbo"] == trained.history.elbo[1]


# Streams of data, and targets with parameters of their own.


def test_fresh_data_in_a_stream_do_not_compile_again() -> None:
    chosen = parts()
    config = replace(PLAIN, max_steps=100, jit_compile=True)
    ends: list[float] = []

    def log_prob(z: tf.Tensor, x: tf.Tensor) -> tf.Tensor:  # as in AutoBatched joints
        one = lambda pair: -0.5 * tf.reduce_sum((pair[0] - pair[1]) ** 2)  # noqa: E731
        return tf.vectorized_map(one, (z[0], x))[tf.newaxis]

    def stream(step: int, num: int) -> tf.Tensor:
        return tf.random.stateless_normal([num, 16, 2], [0, step])

    def watch(step: int, metrics: Mapping[str, float]) -> bool:
        ends.append(time.perf_counter())
        return False

    ends.append(time.perf_counter())
    trained = run(log_prob, config, chosen, start=initial(chosen, x_size=2), stream=stream, callbacks=[watch])
    seconds = np.diff(ends)
    assert trained.jit_compile and len(seconds) == 6
    assert np.median(seconds[1:]) < 0.1 * seconds[0], seconds


def test_a_stream_of_one_batch_repeated_is_that_batch() -> None:
    chosen = parts(Flow(2, SMALL))
    x = tf.constant(np.random.default_rng(0).standard_normal((4, 3)), tf.float32)
    asked: list[tuple[int, int]] = []

    def stream(step: int, num: int) -> tf.Tensor:
        asked.append((step, num))
        return tf.tile(x[tf.newaxis], [num, 1, 1])

    config = replace(PLAIN, batch_size=4)
    streamed = run(config=config, chosen=chosen, start=initial(chosen, x_size=3), stream=stream)
    fixed = run(config=replace(config, batch_size=1), chosen=chosen, start=initial(chosen, x_size=3), x=x)
    np.testing.assert_array_equal(streamed.state.parameters, fixed.state.parameters)
    np.testing.assert_allclose(streamed.history.elbo_standard_error, fixed.history.elbo_standard_error)
    assert asked == [(0, 20), (20, 20), (40, 20)]  # the last window is longer than what is left of it


def test_a_target_with_parameters_learns_them() -> None:
    """x ~ N(z + shift, 1), z ~ N(0, 1): the maximum likelihood shift is the mean of x."""
    rng = np.random.default_rng(1)
    data = 3.0 + np.sqrt(2.0) * rng.standard_normal((4_000, 1))

    def log_prob(z: tf.Tensor, x: tf.Tensor, own: Any) -> tf.Tensor:
        return normal(z, x) - 0.5 * tf.reduce_sum((x - z - own["shift"]) ** 2, -1)

    def stream(step: int, num: int) -> tf.Tensor:
        rows = np.random.default_rng(step).integers(len(data), size=(num, 64))
        return tf.constant(data[rows], tf.float32)

    chosen = parts(Flow(2, SMALL))
    start = initial(chosen, size=1, x_size=1) | {"target": {"shift": np.zeros(1, np.float32)}}
    config = replace(
        PLAIN,
        max_steps=900,
        min_steps=900,
        decay_steps=300,
        window=100,
        batch_size=64,
        target_rate=0.02,
        sampler_rate=3e-3,
    )
    trained = run(log_prob, config, chosen, start=start, stream=stream)
    assert float(trained.parameters["target"]["shift"][0]) == pytest.approx(data.mean(), abs=0.25)


def test_ctrl_c_in_a_callback_keeps_what_was_trained() -> None:
    def interrupt(step: int, metrics: Mapping[str, float]) -> None:
        if step == 40:
            raise KeyboardInterrupt

    trained = run(callbacks=[interrupt])
    stopped = run(callbacks=[lambda step, metrics: step == 40])
    assert trained.status.reason == "interrupted" and "Ctrl-C" in trained.status.message
    assert "start=posterior" in trained.status.advice
    for kept, same in zip(leaves(trained.parameters), leaves(stopped.parameters), strict=True):
        np.testing.assert_array_equal(kept, same)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    chosen = parts(Flow(2, SMALL))
    one, two = (train(chosen, normal, initial(chosen), config=PLAIN, seed=7) for _ in range(2))
    other = train(chosen, normal, initial(chosen), config=PLAIN, seed=8)
    for name in ("parameters", "average", "first_moment", "second_moment"):
        np.testing.assert_array_equal(getattr(one.state, name), getattr(two.state, name))
        assert not np.array_equal(getattr(one.state, name), getattr(other.state, name))
    np.testing.assert_array_equal(one.history.elbo, two.history.elbo)


@pytest.mark.slow
def test_each_mode_repeats_itself_and_the_argument_overrides_the_setting() -> None:
    with_xla = replace(PLAIN, jit_compile=True)
    compiled, again, plain = run(config=with_xla), run(config=with_xla), run()
    np.testing.assert_array_equal(compiled.state.parameters, again.state.parameters)
    np.testing.assert_array_equal(plain.state.parameters, run(config=with_xla, jit_compile=False).state.parameters)
    # TensorFlow makes other floats of the same random bits under XLA: the modes agree in law alone.
    np.testing.assert_allclose(plain.history.elbo, compiled.history.elbo, atol=0.05)


# Log densities that are not finite everywhere, or at every step.


def test_draws_without_a_finite_log_density_are_left_out_and_counted() -> None:
    def cut(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        return tf.where(z[..., 0] > 1.0, np.nan, normal(z, x))

    trained = run(cut)
    assert_finite(trained)
    np.testing.assert_allclose(trained.history.finite_share, 0.841, atol=0.08)
    assert trained.history.skipped.sum() == 0


def test_one_exploding_draw_leaves_the_run_as_it_was() -> None:
    def explodes(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        return normal(z, x) - tf.where(z[0, 0, 0] > 2.5, 1e8 * z[..., 0] ** 2, 0.0)  # at one step in 160

    config = replace(PLAIN, max_steps=600, min_steps=1000, window=50, ramp_steps=0, max_growth=3.0)
    with_bursts = run(explodes, config)
    assert with_bursts.history.sampler_gradient_norm.max() > 1e5 and (with_bursts.history.skipped == 0).all()
    free = run(explodes, replace(config, max_growth=1e30))
    distance = [
        np.linalg.norm(found.state.average.numpy() - run(normal, config).state.average.numpy())
        for found in (with_bursts, free)
    ]
    assert distance[0] < 0.5 * distance[1]
    assert with_bursts.state.second_moment.numpy().max() < 1e-6 * free.state.second_moment.numpy().max()


def test_steps_without_a_finite_gradient_are_skipped_and_counted() -> None:
    def sometimes(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        return normal(z, x) * tf.where(z[0, 0, 0] > 1.0, np.nan, 1.0)

    trained = run(sometimes, replace(PLAIN, max_steps=200, min_steps=1000, window=50))
    assert_finite(trained)
    skipped = trained.history.skipped.sum()
    assert 200 * 0.159 - 4 * 6 < skipped < 220 * 0.159 + 4 * 6  # four binomial sds
    assert trained.status.reason == "step_limit"


def test_a_run_without_one_finite_step_says_so_and_keeps_the_start() -> None:
    chosen = parts()
    trained = run(lambda z, x: normal(z, x) * np.nan, chosen=chosen)
    assert trained.status.reason == "non_finite"
    assert "overflow" in trained.status.advice and "sampler_rate" in trained.status.advice
    assert list(trained.history.step) == [20] and list(trained.history.skipped) == [20]
    for kept, start in zip(leaves(trained.parameters), leaves(initial(chosen)), strict=True):
        np.testing.assert_array_equal(kept, start)


# Settings.


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        *[(name, 0, "at least 1") for name in ("decay_steps", "batch_size", "window", "plateau_windows")],
        *[(name, -1, "at least 0") for name in ("max_steps", "min_steps", "ramp_steps")],
        *[(f"{part}_rate", 0.0, "positive and finite") for part in ("sampler", "critic", "contrast")],
        ("plateau_tolerance", -0.1, "at least 0 and finite"),
        ("critic_rate", math.inf, "positive and finite"),
        ("sampler_rate", math.nan, "positive and finite"),
        *[(name, 1.0, "in [0, 1)") for name in ("beta_1", "beta_2", "average_decay")],
        ("beta_1", -0.1, "in [0, 1)"),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float, rule: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        TrainingConfig(**{name: value})
    fix = f"pass {name} {rule}, or leave it out for the default"
    assert str(error.value) == f"Expected TrainingConfig.{name} {rule}; got {value!r}. Fix: {fix}"


def test_rates_shrink_in_many_dimensions_and_nowhere_else() -> None:
    config = TrainingConfig(sampler_rate=3e-4)
    assert slowed(config, 1) == slowed(config, 300) == config
    slow = slowed(config, 1_000)
    found = slow.sampler_rate, slow.critic_rate, slow.contrast_rate
    np.testing.assert_allclose(found, 0.3 * np.array([3e-4, config.critic_rate, config.contrast_rate]), rtol=1e-12)
    assert slow.target_rate == config.target_rate and slow.max_steps == config.max_steps
