"""Training: the plateau rule, schedules, what is skipped, how a run ends, and closed forms for every part."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb.avb import Parts
from neural_vb.contrasts import Flow, MomentMatched, Prior
from neural_vb.critics import MLPCritic
from neural_vb.errors import ConfigurationError
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP
from neural_vb.ratio_losses import RATIO_LOSSES, logistic
from neural_vb.samplers import ResidualSampler
from neural_vb.training import METRICS, History, Trained, TrainingConfig, _Log, train

tfd = tfp.distributions

PLAIN = TrainingConfig(
    max_steps=40, min_steps=0, decay_steps=20, window=20, batch_size=16, easy_divergence=0.0, jit_compile=False
)
SMALL = MLP((8,), output_scale=0.01)


def parts(contrast: Any = None, loss: Callable = logistic, network: MLP = SMALL) -> Parts:
    return Parts(ResidualSampler(network), MLPCritic(network), contrast or MomentMatched(), loss)


def initial(parts: Parts, size: int = 2, x_size: int = 0) -> dict[str, Any]:
    base = standard_base(size)
    return {
        "sampler": parts.sampler.initial_parameters(base, x_size, 1),
        "critic": parts.critic.initial_parameters(base, x_size, 2),
        "contrast": parts.contrast.initial_parameters(base, x_size, 3),
    }


def normal(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


def run(
    log_prob: Callable = normal, config: TrainingConfig = PLAIN, chosen: Parts | None = None, **more: Any
) -> Trained:
    chosen = chosen or parts()
    x_size = more["x"].shape[-1] if "x" in more else 0
    start = more.pop("start", None) or initial(chosen, more.pop("size", 2), x_size)
    return train(chosen, log_prob, start, config=config, seed=0, **more)


def leaves(parameters: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in tf.nest.flatten(parameters)]


def assert_finite(trained: Trained) -> None:
    assert all(np.isfinite(leaf).all() for leaf in leaves((trained.parameters, trained.state)))
    assert all(np.isfinite(getattr(trained.history, name)).all() for name in COLUMNS)


COLUMNS = [name for name in inspect.signature(History).parameters if name not in ("decay_start", "warm_start")]


# The plateau rule, on windows made by hand.


_WINDOWS: dict[str, Any] = {"max_steps": 1_000, "window": 10, "plateau_windows": 3, "plateau_tolerance": 0.0}


def log_of(elbos: list[float], variance: float = 0.0, **config: Any) -> _Log:
    log = _Log(replace(PLAIN, **_WINDOWS | config), offset=0.0, draws_per_step=PLAIN.batch_size, step=0)
    for elbo in elbos:
        totals = dict.fromkeys(METRICS, 0.0) | {"elbo": 10 * elbo, "elbo_variance": 10 * variance}
        log.append(np.array([totals[name] for name in METRICS]), 10)
    return log


def test_a_rising_estimate_does_not_rest_and_a_level_one_does() -> None:
    wobble = [0.1, -0.1, 0.0]
    assert log_of([*wobble, *wobble]).rests()
    assert not log_of([*wobble, *(1.0 + value for value in wobble)]).rests()
    assert not log_of([*wobble, *(value - 1.0 for value in wobble)]).rests()


@pytest.mark.parametrize("seed", range(20))
def test_the_plateau_rule_is_a_two_sample_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    elbos, variance = rng.standard_normal(8) * 0.1 + np.repeat([0.0, 0.1], 4), 10.0 ** rng.uniform(-1, 1)
    earlier, later = elbos[2:5], elbos[5:]
    monte_carlo = variance / (10 * PLAIN.batch_size)
    scatter = (earlier.var(ddof=1) + later.var(ddof=1)) / 2
    limit = math.sqrt(2 * max(scatter, monte_carlo) / 3)
    assert log_of(list(elbos), variance).rests() == (abs(later.mean() - earlier.mean()) < limit)


def test_no_plateau_before_min_steps_nor_with_too_few_windows_nor_while_rates_fall() -> None:
    level = [0.1, -0.1, 0.0] * 2
    assert not log_of(level, min_steps=61).rests()
    assert log_of(level, min_steps=60).rests()
    assert not log_of(level[:5]).rests()
    assert not log_of(level, max_steps=60).rests()
    log = log_of(level)
    log.start_decay()
    assert not log.rests()


def test_min_steps_shrink_in_proportion_to_the_divergence_that_is_left() -> None:
    config = {"min_steps": 100, "easy_divergence": 0.05}
    for num_windows in (1, 2, 5, 9):  # of ten steps
        limit = 2.0 * 0.05 * num_windows / 10
        assert log_of([0.0] * num_windows, 0.99 * limit, **config).rests()
        assert not log_of([0.0] * num_windows, 1.01 * limit, **config).rests()
    assert not log_of([0.0], math.nan, **config).rests()


@pytest.mark.parametrize(("num_windows", "expected"), [(1, 50), (5, 50), (8, 80), (20, 100)])
def test_rates_fall_over_as_many_steps_as_went_before_within_bounds(num_windows: int, expected: int) -> None:
    log = log_of([0.0] * num_windows, max_steps=1_000, decay_steps=100)
    log.start_decay()
    assert log.decay_steps == expected and log.end == 10 * num_windows + expected


def test_there_is_no_rest_while_a_burst_of_variance_is_within_the_windows() -> None:
    level = [0.1, -0.1, 0.0] * 2
    for scale, rests in ((9.0, True), (11.0, False)):
        log = log_of(level[:3], 1.0)
        for elbo, variance in zip(level[3:], (1.0, scale, 1.0), strict=True):
            totals = dict.fromkeys(METRICS, 0.0) | {"elbo": 10 * elbo, "elbo_variance": 10 * variance}
            log.append(np.array([totals[name] for name in METRICS]), 10)
        assert log.rests() is rests


def test_windows_of_one_use_the_monte_carlo_error_alone() -> None:
    standard_error = math.sqrt(2 * 1.0 / (10 * PLAIN.batch_size))
    assert log_of([0.0, 0.99 * standard_error], 1.0, plateau_windows=1).rests()
    assert not log_of([0.0, 1.01 * standard_error], 1.0, plateau_windows=1).rests()


def test_a_change_within_the_tolerance_is_none_however_precise_it_is() -> None:
    elbos = [0.0, 0.0, 0.0, 0.009, 0.009, 0.009]
    assert log_of(elbos, plateau_tolerance=0.01).rests()
    assert not log_of(elbos, plateau_tolerance=0.008).rests()


def test_skipped_steps_take_no_part_in_a_windows_means() -> None:
    log = _Log(PLAIN, offset=5.0, draws_per_step=PLAIN.batch_size, step=0)
    totals = dict.fromkeys(METRICS, 0.0) | {"elbo": -12.0, "elbo_variance": 6.0, "finite_share": 6.0, "skipped": 4.0}
    row = log.append(np.array([totals[name] for name in METRICS]), 10)
    assert row["elbo"] == 5.0 - 2.0 and row["finite_share"] == 1.0 and row["skipped"] == 4.0
    assert row["elbo_standard_error"] == pytest.approx(math.sqrt(1.0 / (6 * PLAIN.batch_size)))


def test_a_window_without_a_step_has_no_means() -> None:
    log = _Log(PLAIN, offset=5.0, draws_per_step=PLAIN.batch_size, step=0)
    totals = dict.fromkeys(METRICS, 0.0) | {"skipped": 10.0}
    row = log.append(np.array([totals[name] for name in METRICS]), 10)
    assert row["skipped"] == 10.0 and row["step"] == 10
    assert all(math.isnan(row[name]) for name in (*METRICS[:-1], "elbo_standard_error"))
    assert not log.rests()


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


# Closed forms.

MEAN, COVARIANCE = np.array([0.4, -0.3]), np.array([[1.3**2, 0.5 * 1.3 * 0.8], [0.5 * 1.3 * 0.8, 0.8**2]])
GAUSSIAN = tfd.MultivariateNormalTriL(np.float32(MEAN), np.float32(np.linalg.cholesky(COVARIANCE)))
LOG_Z = 2.5
ACCURATE = TrainingConfig(
    max_steps=700, min_steps=700, decay_steps=300, window=100, sampler_rate=1e-3, ramp_steps=100, jit_compile=False
)
EYE = tuple(map(tuple, np.eye(2)))
CONTRASTS = {
    "flow": Flow(2, MLP((16,), output_scale=0.01)),
    "full": MomentMatched(),
    "diagonal": MomentMatched(diagonal=True),
    "prior": Prior(tfd.MultivariateNormalDiag(np.zeros(2, np.float32), 1.4 * np.ones(2, np.float32)), (0.0, 0.0), EYE),
}


@pytest.mark.parametrize(
    ("contrast", "loss"),
    [*[(name, "logistic") for name in CONTRASTS], *[("full", name) for name in RATIO_LOSSES if name != "logistic"]],
)
def test_every_contrast_and_every_ratio_loss_reaches_a_gaussian(contrast: str, loss: str) -> None:
    chosen = parts(CONTRASTS[contrast], RATIO_LOSSES[loss], MLP((32, 32), output_scale=0.01))
    trained = run(lambda z, x: GAUSSIAN.log_prob(z) + LOG_Z, ACCURATE, chosen)
    z = chosen.sampler(trained.parameters["sampler"], 20_000, None, tf.constant([0, 1])).z[:, 0].numpy()
    sd = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose((z.mean(0) - MEAN) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(z.std(0) / sd, 1.0, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(z.T)[0, 1], 0.5, atol=0.1)
    assert abs(trained.history.elbo[-1] - LOG_Z) < 0.1


@pytest.mark.parametrize("contrast", [CONTRASTS["flow"], CONTRASTS["full"]], ids=["flow", "moments pooled over x"])
def test_one_network_learns_the_posterior_of_every_data_point(contrast: Any) -> None:
    """z ~ N(0, I) and x | z ~ N(z, I): the posterior given x is N(x / 2, I / 2), log Z is log N(x; 0, 2 I)."""

    def log_prob(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        return tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(z) + tfd.Normal(z, 1.0).log_prob(x), -1)

    x = np.float32([[a, b] for a in (-2, -1, 0, 1, 2) for b in (-1, 0, 1)])
    chosen = parts(contrast, network=MLP((32, 32), output_scale=0.01))
    trained = run(log_prob, replace(ACCURATE, batch_size=32), chosen, x=tf.constant(x))
    new = np.float32([[-1.7, 0.4], [-0.6, -0.9], [0.3, 0.1], [1.1, 0.8]])  # not among those trained on, and fewer
    z = chosen.sampler(trained.parameters["sampler"], 10_000, tf.constant(new), tf.constant([0, 1])).z.numpy()
    assert z.shape == (10_000, 4, 2)
    np.testing.assert_allclose(z.mean(0), new / 2, atol=0.1 * math.sqrt(0.5))
    np.testing.assert_allclose(z.std(0), math.sqrt(0.5), rtol=0.1)
    log_evidence = tfd.Normal(0.0, math.sqrt(2.0)).log_prob(x).numpy().sum(-1).mean()
    assert abs(trained.history.elbo[-1] - log_evidence) < 0.1
