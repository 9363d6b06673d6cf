"""Faults during training: what is skipped, what stops a run, what is said of it, and Ctrl-C at any moment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.stats import norm

import neural_vb as nvb
from neural_vb import faults
from neural_vb._types import Proposal
from neural_vb.avb import Parts
from neural_vb.configuration import TrainingConfig
from neural_vb.contrasts import MomentMatched
from neural_vb.critics import MLPCritic
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP
from neural_vb.samplers import ResidualSampler
from neural_vb.targets import as_target
from neural_vb.training import Trained, train

tfb, tfd = tfp.bijectors, tfp.distributions
Z = np.random.default_rng(0).standard_normal((200, 2))
SMALL = MLP((4,), output_scale=0.01)
CONFIG = TrainingConfig(
    max_steps=60,
    min_steps=1_000,
    decay_steps=20,
    window=20,
    batch_size=16,
    ramp_steps=0,
    easy_divergence=0.0,
    jit_compile=False,
)


def run(log_prob: Callable, config: TrainingConfig = CONFIG, seed: int = 0, **options: Any) -> Trained:
    parts = Parts(ResidualSampler(SMALL), MLPCritic(SMALL), MomentMatched(), nvb.ratio_losses.logistic)
    base = standard_base(2)
    start = {name: getattr(parts, name).initial_parameters(base, 0, 1) for name in ("sampler", "critic", "contrast")}
    return train(parts, log_prob, start, config=config, seed=seed, **options)


def draws(trained: Trained) -> np.ndarray:
    return ResidualSampler(SMALL)(trained.parameters["sampler"], 200, None, [0, 0]).z.numpy()


def normal(z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


# Steps that are not finite.


@tf.custom_gradient
def lost_gradient(values: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    return values, lambda upstream: upstream * np.nan


def spoiled(kind: str, share: float) -> Callable:
    """A normal log density that is spoiled at about this share of steps, told by the first draw."""
    threshold = float(norm.isf(share))

    def log_prob(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        bad = z[0, 0, 0] > threshold
        if kind == "gradient":
            return tf.cond(bad, lambda: lost_gradient(normal(z)), lambda: normal(z))
        return tf.where(bad, {"nan": np.nan, "+inf": np.inf, "-inf": -np.inf}[kind], normal(z))

    return log_prob


KINDS = ("nan", "+inf", "-inf", "gradient")


def spoil(kind: str, share: float, seed: int) -> None:
    trained = run(spoiled(kind, share), seed=seed)
    count = trained.history.skipped.sum()
    assert abs(count - 80 * share) < 5 * np.sqrt(80 * share) + 1.0
    assert np.isfinite(draws(trained)).all() and np.isfinite(trained.state.second_moment).all()
    assert np.isfinite(trained.history.elbo).all() and trained.status.reason == "step_limit"


@pytest.mark.parametrize(("kind", "share"), [("nan", 0.01), ("gradient", 0.5), ("-inf", 0.5)])
def test_spoiled_steps_are_skipped_and_counted(kind: str, share: float) -> None:
    spoil(kind, share, 0)


@pytest.mark.slow
def test_spoiled_steps_leave_no_draw_that_is_not_finite_in_200_runs() -> None:
    cases = [(kind, share) for kind in KINDS for share in (0.001, 0.01, 0.5)]
    for seed in range(204):
        spoil(*cases[seed % len(cases)], seed)


@pytest.mark.parametrize("kind", ["nan", "gradient"])
def test_too_many_in_a_row_stop_the_run_with_the_last_good_state(kind: str) -> None:
    step = iter(range(100))

    def breaks(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        late = tf.py_function(lambda: next(step) >= 25, [], tf.bool)  # within the second window
        late.set_shape([])
        bad = (lambda: lost_gradient(normal(z))) if kind == "gradient" else (lambda: normal(z) * np.nan)
        return tf.cond(late, bad, lambda: normal(z))

    trained = run(breaks, replace(CONFIG, max_steps=200))
    assert trained.status.reason == "non_finite" and "none of 20 steps in a row was finite" in trained.status.message
    np.testing.assert_array_equal(trained.history.skipped, [0, 15, 20])
    assert np.isfinite(draws(trained)).all() and np.isnan(trained.history.elbo[-1])
    good = run(normal, replace(CONFIG, max_steps=25, decay_steps=1), callbacks=[lambda step, metrics: False])
    assert trained.state.parameters.shape == good.state.parameters.shape


# What is said of them.


def joint(kind: type) -> Any:
    def model() -> Any:
        x = yield tfd.Normal(0.0, 1.0, name="x")
        tau = yield tfd.LogNormal(0.0, 1.0, name="tau")
        yield tfd.Normal(x, tf.sqrt(1.0 - x), name="y")  # no scale where x > 1
        yield tfd.Normal(tau, 1.0, name="w")

    return kind(model)


@pytest.mark.parametrize("kind", [tfd.JointDistributionCoroutine, tfd.JointDistributionCoroutineAutoBatched])
def test_the_site_of_a_joint_that_broke_is_named(kind: type) -> None:
    target = as_target(joint(kind), {"y": 0.5, "w": 1.0})
    count = int((Z[:, 0] > 1).sum())
    assert faults.broken(target, Z) == f"the log density of the site 'y' is not finite at {count} of 200 draws"
    far = Z + np.array([0.0, 200.0])
    said = faults.broken(target, far)
    assert "tau after its bijector is not finite at 200 of 200 draws" in said and "site 'w'" in said
    assert faults.broken(target, np.abs(Z) * [-1.0, 0.1]) == ""


def test_the_part_of_a_callable_that_broke_is_named() -> None:
    def log_prob(mu: tf.Tensor, tau: tf.Tensor) -> tf.Tensor:
        return -0.5 * mu**2 + 0.0 * lost_gradient(mu) - tf.where(tau > 8.0, np.nan, tau)

    target = as_target(log_prob, None, event_shape={"mu": [], "tau": []}, bijector={"tau": tfb.Exp()})
    above = int((Z[:, 1] > np.log(8.0)).sum())
    assert faults.broken(target, Z) == (
        f"the log density is not finite at {above} of 200 draws; "
        f"the gradient with respect to mu is not finite at {200 - above} of 200 draws"
    )
    z = np.where(np.arange(200)[:, np.newaxis] < 3, np.nan, np.abs(Z) * 0.1)
    assert faults.broken(target, z).startswith("the sampler's output is not finite at 3 of 200 draws; the gradient")


@dataclass(frozen=True)
class Far:
    """A sampler that has left for where the log density breaks."""

    inner: ResidualSampler = ResidualSampler(SMALL)  # noqa: RUF009
    every: int = 1  # draw

    def initial_parameters(self, *arguments: Any) -> Any:
        return self.inner.initial_parameters(*arguments)

    def __call__(self, *arguments: Any) -> Proposal:
        proposal = self.inner(*arguments)
        gone = tf.cast(tf.range(tf.shape(proposal.z)[0]) % self.every == 0, tf.float32)
        return proposal._replace(z=proposal.z + gone[:, tf.newaxis, tf.newaxis] * tf.constant([1e3, 0.0]))


def test_a_fit_that_breaks_says_where() -> None:
    @tfd.JointDistributionCoroutineAutoBatched
    def model() -> Any:
        x = yield tfd.Normal(tf.zeros(2), 1.0, name="x")
        yield tfd.Normal(x[0], tf.sqrt(50.0 - x[0]), name="y")

    posterior = nvb.fit(
        model,
        {"y": 0.5},
        start={"x": np.zeros(2)},
        sampler=Far(),
        contrast=MomentMatched(),
        critic=MLPCritic(SMALL),
        config=CONFIG,
        progress=False,
    )
    assert posterior.status.reason == "non_finite"
    assert "kept the last good state: the log density of the site 'y' is not finite at 2048" in posterior.status.message


def test_mass_beyond_numbers_is_refused_or_told() -> None:
    """e^z overflows in single precision from 88.7 on: there a logarithm has ever more of its mass."""
    target = as_target(lambda tau: -tau, None, event_shape={"tau": []}, bijector={"tau": tfb.Exp()})
    z = np.where(np.arange(200)[:, np.newaxis] < 5, 89.0, Z[:, :1])
    assert faults.lost(target, Z[:, :1]) == ("", 0.0)
    assert faults.lost(target, z) == ("tau after its bijector is not finite at 5 of 200 draws", 0.025)
    faults.check_reach(target, z[4:])
    with pytest.raises(nvb.errors.ImproperDensityError, match="float32 can hold; got tau after its bijector is not"):
        faults.check_reach(target, z)


class Pair(NamedTuple):
    a: Any
    b: Any


class PairTarget:
    """A target of one's own, whose draws are a named tuple of parts of different shapes."""

    event_size, dtype = 3, tf.float32

    def constrain(self, z: tf.Tensor) -> Pair:
        return Pair(tf.exp(z[:, 0]), z[:, 1:])


def test_draws_of_any_structure_are_counted_part_by_part() -> None:
    z = np.zeros((200, 3))
    z[:5, 0] = 1e3
    assert faults.lost(PairTarget(), z) == ("a after its bijector is not finite at 5 of 200 draws", 0.025)
    assert faults.lost(PairTarget(), np.full((4, 3), np.nan)) == ("the sampler's output is not finite", 1.0)


def test_a_sampler_that_leaves_for_infinity_says_so() -> None:
    posterior = nvb.fit(
        lambda tau: tf.reduce_sum(-0.5 * tf.math.log(tau) ** 2 - tf.math.log(tau), -1),
        event_shape={"tau": [2]},
        bijector={"tau": tfb.Exp()},
        start={"tau": np.ones(2)},
        sampler=Far(every=2),
        contrast=MomentMatched(),
        critic=MLPCritic(SMALL),
        config=replace(CONFIG, max_steps=20),
        progress=False,
    )
    assert posterior.status.reason == "non_finite" and "proper" in posterior.status.advice
    said = "tau after its bijector is not finite at 1024 of 2048 draws"
    assert said in posterior.status.message and said in posterior.notes and "Note: tau after" in str(posterior)


# Ctrl-C.


def interrupted(delay: float, seed: int) -> Trained:
    """A run of a million steps that is sent SIGINT some seconds after it has begun to be traced."""
    timers: list[threading.Timer] = []

    def log_prob(z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        if not timers:
            timers.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)))
            timers[0].start()
        return normal(z)

    return run(log_prob, replace(CONFIG, max_steps=10**6, min_steps=10**6), seed=seed)


@pytest.fixture
def listening() -> Iterator[None]:
    """Of a process in the background the shell has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def assert_usable(trained: Trained) -> None:
    assert trained.status.reason == "interrupted"
    assert int(trained.state.step) == (trained.history.step[-1] if len(trained.history.step) else 0)
    assert np.isfinite(draws(trained)).all() and np.isfinite(trained.history.elbo).all()


def test_ctrl_c_returns_what_was_trained(listening: None) -> None:
    assert_usable(interrupted(2.0, 0))


@pytest.mark.slow
def test_ctrl_c_at_fifty_moments(listening: None) -> None:
    rng = np.random.default_rng(0)
    for seed in range(50):
        assert_usable(interrupted(rng.uniform(0.0, 3.0), seed))


def test_ctrl_c_before_the_first_window_gives_a_posterior_with_everything(tmp_path: Path) -> None:
    def interrupt(z: tf.Tensor) -> tf.Tensor:
        if armed:
            raise KeyboardInterrupt
        return normal(z)

    armed: list[bool] = []

    class Arming(Far):
        def __call__(self, *arguments: Any) -> Proposal:
            if not tf.executing_eagerly():  # parts are tried once, eagerly, before training
                armed.append(True)
            return self.inner(*arguments)

    posterior = nvb.fit(
        interrupt,
        event_shape=[2],
        start=np.zeros(2),
        sampler=Arming(),
        contrast=MomentMatched(),
        critic=MLPCritic(SMALL),
        config=CONFIG,
        progress=False,
    )
    armed.clear()
    assert posterior.status.reason == "interrupted" and len(posterior.history.step) == 0
    posterior = replace(posterior, parts=replace(posterior.parts, sampler=ResidualSampler(SMALL)))
    assert "stopped by Ctrl-C" in str(posterior) and np.isfinite(posterior.elbo.value)
    posterior.save(tmp_path / "a")
    again = nvb.load(tmp_path / "a", normal, event_shape=[2])
    np.testing.assert_array_equal(again.sample(9), posterior.sample(9))
    assert posterior.to_arviz(9).posterior.attrs["training_status"] == "interrupted"
    with pytest.raises(nvb.errors.DataError, match="train for at least one step"):
        posterior.plot_training()


def test_callbacks_see_skipped_steps() -> None:
    seen: list[Mapping[str, float]] = []
    run(spoiled("nan", 0.5), callbacks=[lambda step, metrics: seen.append(metrics)])
    assert all(0 < metrics["skipped"] < 20 for metrics in seen)
