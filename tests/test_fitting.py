"""``fit`` from end to end with short training: starts, kinds of targets, silence, and an error for every bad input."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb.errors import (
    ConfigurationError,
    EventShapeError,
    StartError,
    TargetValueError,
    UnsupportedError,
)
from neural_vb.networks import MLP

tfb, tfd = tfp.bijectors, tfp.distributions

TINY = nvb.TrainingConfig(max_steps=20, min_steps=0, decay_steps=20, window=20, batch_size=32, jit_compile=False)
NETWORK = MLP((8,), output_scale=0.01)


def quick(target: Any, data: Any = None, **options: Any) -> nvb.Posterior:
    """A fit with the smallest parts, which stays about where the warm start put it."""
    parts = {
        "sampler": nvb.samplers.ResidualSampler(NETWORK),
        "critic": nvb.critics.MLPCritic(NETWORK),
        "contrast": nvb.contrasts.MomentMatched(),
    }
    if isinstance(options.get("start"), nvb.Posterior):
        parts = {}
    return nvb.fit(target, data, **({"config": TINY, "progress": False} | parts | options))


def normal(z: tf.Tensor) -> tf.Tensor:
    """N((1, -1), diag(.5, 2)^2)."""
    return -0.5 * tf.reduce_sum(((z - [1.0, -1.0]) / [0.5, 2.0]) ** 2, -1)


def check_normal(draws: np.ndarray) -> None:
    np.testing.assert_allclose((draws.mean(0) - [1.0, -1.0]) / [0.5, 2.0], 0.0, atol=0.15)
    np.testing.assert_allclose(draws.std(0) / [0.5, 2.0], 1.0, atol=0.15)


# Starts.


def test_a_point_may_be_the_mode_itself() -> None:
    posterior = quick(normal, event_shape=[2], start=[1.0, -1.0])
    check_normal(posterior.sample(4_000))
    assert posterior.history.warm_start["optima"] == 1.0


def test_a_point_decides_where_the_log_density_is_looked_at() -> None:
    def walled(z: tf.Tensor) -> tf.Tensor:  # finite only within 3 of (50, 50), far from the origin
        return tf.where(tf.norm(z - 50.0, axis=-1) < 3.0, -8.0 * tf.reduce_sum((z - 50.0) ** 2, -1), -np.inf)

    with pytest.raises(TargetValueError, match=r"or pass start=\.\.\. at a point where log p is finite"):
        quick(walled, event_shape=[2])
    posterior = quick(walled, event_shape=[2], start=[50.1, 50.0])
    again = quick(walled, event_shape=[2], start=posterior)
    for draws in (posterior.sample(1_000), again.sample(1_000)):
        np.testing.assert_allclose(draws.mean(0), 50.0, atol=0.05)
        np.testing.assert_allclose(draws.std(0), 0.25, rtol=0.15)


def test_draws_give_the_scales() -> None:
    draws = np.random.default_rng(0).standard_normal((200, 2)) * [0.6, 1.5] + [0.8, -1.2]
    posterior = quick(normal, event_shape=[2], start=draws.astype(np.float32))
    check_normal(posterior.sample(4_000))
    assert posterior.history.warm_start["optima"] == 0.0


def test_named_points_and_draws_are_on_the_constrained_scale(named_arguments: dict, named_posterior: Any) -> None:
    point = quick(**named_arguments, start={"mu": 1.0, "tau": 1.5})
    draws = quick(**named_arguments, start=named_posterior.sample(100))  # its derived quantities are no hindrance
    for posterior in (point, draws):
        tau = posterior.sample(4_000)["tau"]
        assert abs(tau.mean() - 1.5) < 0.15


def test_an_earlier_posterior_is_trained_on_and_takes_new_data() -> None:
    def about(centre: float) -> Callable:
        return lambda z: -0.5 * tf.reduce_sum((z - centre) ** 2, -1)

    first = quick(about(0.0), event_shape=[2])
    unmoved = quick(about(0.0), event_shape=[2], start=first, callbacks=[lambda step, metrics: True])
    assert unmoved.parts == first.parts
    np.testing.assert_allclose(unmoved.sample(50), first.sample(50), atol=0.1)
    assert unmoved.history.warm_start == first.history.warm_start
    moved = replace(TINY, max_steps=500, decay_steps=100, window=100, sampler_rate=3e-3, critic_rate=3e-3)
    second = quick(about(0.7), event_shape=[2], start=first, config=moved)
    np.testing.assert_allclose(second.sample(4_000).mean(0), 0.7, atol=0.15)


def test_what_is_raised_while_the_training_step_is_traced_is_named() -> None:
    def breaks(z: tf.Tensor) -> tf.Tensor:
        return 1 / 0 if z.shape[0] == TINY.batch_size else normal(z)

    with pytest.raises(TargetValueError, match="got ZeroDivisionError"):
        quick(breaks, event_shape=[2])


def test_an_assertion_that_only_some_draws_break_is_named() -> None:
    def breaks(z: tf.Tensor) -> tf.Tensor:
        count = tf.reduce_sum(tf.cast(tf.abs(z) < np.inf, tf.int32))
        with tf.control_dependencies([tf.debugging.assert_less(count, 1_000, message="too many of them")]):
            return normal(z)

    with pytest.raises(TargetValueError, match=r"got InvalidArgumentError: .*too many of them"):
        quick(breaks, event_shape=[2])


@pytest.fixture(scope="module")
def quick_posterior() -> nvb.Posterior:
    return quick(normal, event_shape=[2])


class OneWay:
    """A target without `unconstrain`."""

    event_size = 2
    dtype = tf.float32

    def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
        return -0.5 * tf.reduce_sum(z**2, -1)

    def constrain(self, z: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.norm(z, axis=-1)}


@pytest.mark.parametrize(
    ("start", "options", "kind", "message"),
    [
        ([0.0, 0.0, 0.0], {}, EventShapeError, r"got .*\[3\]"),
        (
            np.zeros([3, 2]),
            {},
            StartError,
            r"at least 6 draws of 2 dimensions; got unconstrained shape \[3, 2\]\. Fix: pass",
        ),
        (np.zeros([4, 5, 2]), {}, StartError, r"got unconstrained shape \[4, 5, 2\]"),
        (
            [np.nan, 0.0],
            {},
            StartError,
            "Expected a start inside the support; got 1 non-finite unconstrained coordinates",
        ),
        ([-1.0, 2.0], {"bijector": tfb.Exp()}, StartError, "Fix: move it off the boundary of its support"),
    ],
)
def test_a_bad_start_is_named(start: Any, options: dict, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        quick(lambda z: normal(z), event_shape=[2], start=start, **options)


def test_a_joint_without_data_is_fitted_with_a_note() -> None:
    joint = tfp.distributions.JointDistributionNamedAutoBatched({"a": tfp.distributions.Normal(1.0, 2.0)})
    assert "no data= was given" in str(quick(joint, start={"a": 1.0}))


def test_draws_on_the_boundary_are_left_out_of_a_start() -> None:
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(100, 2))
    draws[:3, 0] = 0.0
    posterior = quick(
        lambda x: -tf.reduce_sum(x, -1), event_shape=[2], bijector=tfp.bijectors.Exp(), start=draws.astype("float32")
    )
    np.testing.assert_allclose(posterior.whitened.whitening.shift, [-0.577, -0.577], atol=0.3)  # E log x = -Euler
    assert posterior.history.warm_start["optima"] == 0.0


def test_an_earlier_posterior_must_fit(quick_posterior: nvb.Posterior) -> None:
    with pytest.raises(
        StartError, match=r"an earlier posterior of 3 unconstrained dimensions; got one of 2\. Fix: pass a"
    ):
        quick(lambda z: -tf.reduce_sum(z**2, -1), event_shape=[3], start=quick_posterior)
    message = (
        r"no `critic` with an earlier posterior as start, .*got critic=MLPCritic\(\.\.\.\)\. Fix: leave `critic` out"
    )
    with pytest.raises(ConfigurationError, match=message):
        quick(normal, event_shape=[2], start=quick_posterior, critic=nvb.critics.MLPCritic())


def test_a_start_needs_an_inverse() -> None:
    with pytest.raises(
        UnsupportedError, match=r"with `unconstrain` to take start=; got OneWay\. Fix: leave start= out"
    ):
        quick(OneWay(), start=[0.0, 0.0])


# Kinds of targets.


def test_a_callable_for_one_point() -> None:
    def one(z: tf.Tensor) -> tf.Tensor:
        assert z.shape == [2]
        return normal(z)

    check_normal(quick(one, event_shape=[2], vectorized=False).sample(4_000))


def test_a_target_of_ones_own() -> None:
    draws = quick(OneWay()).sample(4_000)
    assert abs(draws["length"].mean() - np.sqrt(np.pi / 2)) < 0.1


def test_a_pinned_joint_brings_its_data() -> None:
    joint = tfd.JointDistributionNamed({"mu": tfd.Normal(0.0, 1.0), "y": lambda mu: tfd.Normal(mu, 1.0)})
    draws = quick(joint.experimental_pin(y=2.0)).sample(4_000)["mu"]
    assert abs(draws.mean() - 1.0) < 0.1


Y = np.float32([1.0, 2.0, 0.0])
SIGMA = np.float32([1.0, 0.5, 2.0])


def coroutine() -> Any:
    root = tfd.JointDistributionCoroutine.Root
    mu = yield root(tfd.Normal(0.0, 2.0, name="mu"))
    scale = yield root(tfd.LogNormal(0.0, 0.25, name="scale"))
    yield tfd.Independent(tfd.Normal(mu[..., None], scale[..., None] * SIGMA), 1, name="y")


def auto_coroutine() -> Any:
    mu = yield tfd.Normal(0.0, 2.0, name="mu")
    scale = yield tfd.LogNormal(0.0, 0.25, name="scale")
    yield tfd.Normal(mu, scale * SIGMA, name="y")


def likelihood(scale: tf.Tensor, mu: tf.Tensor) -> Any:
    return tfd.Independent(tfd.Normal(mu[..., None], scale[..., None] * SIGMA), 1, name="y")


PARTS = {"mu": tfd.Normal(0.0, 2.0), "scale": tfd.LogNormal(0.0, 0.25)}
LISTED = [tfd.Normal(0.0, 2.0, name="mu"), tfd.LogNormal(0.0, 0.25, name="scale")]
JOINTS: dict[str, Callable[[], Any]] = {
    "coroutine": lambda: tfd.JointDistributionCoroutine(coroutine),
    "coroutine, batched": lambda: tfd.JointDistributionCoroutineAutoBatched(auto_coroutine),
    "named": lambda: tfd.JointDistributionNamed(PARTS | {"y": likelihood}),
    "named, batched": lambda: tfd.JointDistributionNamedAutoBatched(
        PARTS | {"y": lambda scale, mu: tfd.Normal(mu, scale * SIGMA)}
    ),
    "sequential": lambda: tfd.JointDistributionSequential([*LISTED, likelihood]),
    "sequential, batched": lambda: tfd.JointDistributionSequentialAutoBatched(
        [*LISTED, lambda scale, mu: tfd.Normal(mu, scale * SIGMA, name="y")]
    ),
}


@pytest.fixture(scope="module")
def exact_mean() -> tuple[float, float]:
    """E[mu] and E[scale] of the joints below given Y, by quadrature."""
    mu, log_scale = np.meshgrid(np.linspace(-6, 8, 701), np.linspace(-1.5, 1.5, 301), indexing="ij")
    sd = np.exp(log_scale)[..., None] * SIGMA
    log_p = -0.5 * (mu / 2) ** 2 - 0.5 * (log_scale / 0.25) ** 2
    log_p += (-0.5 * ((Y - mu[..., None]) / sd) ** 2 - np.log(sd)).sum(-1)
    p = np.exp(log_p - log_p.max())
    return float((p * mu).sum() / p.sum()), float((p * np.exp(log_scale)).sum() / p.sum())


@pytest.mark.parametrize("kind", JOINTS)
def test_every_kind_of_joint_has_the_same_posterior(kind: str, exact_mean: tuple[float, float]) -> None:
    posterior = quick(JOINTS[kind](), {"y": Y}, start={"mu": 0.5, "scale": 1.0})
    draws = posterior.sample(4_000)
    assert {name: value.shape for name, value in draws.items()} == {"mu": (4_000,), "scale": (4_000,)}
    assert (draws["scale"] > 0).all()
    assert abs(draws["mu"].mean() - exact_mean[0]) < 0.1
    assert abs(draws["scale"].mean() - exact_mean[1]) < 0.05
    assert set(posterior.to_arviz(10, log_likelihood=True)["log_likelihood"]["y"].dims[:2]) == {"chain", "draw"}


def test_a_joint_may_be_sampled_without_data() -> None:
    joint = tfd.JointDistributionNamedAutoBatched({"a": tfd.Normal(2.0, 1.0), "b": lambda a: tfd.Normal(a, 1.0)})
    draws = quick(joint).sample(4_000)
    assert abs(draws["b"].mean() - 2.0) < 0.15 and abs(draws["b"].std() - np.sqrt(2.0)) < 0.15


def test_a_joints_own_prior_serves_as_contrast() -> None:
    joint = JOINTS["coroutine, batched"]()
    posterior = quick(joint, {"y": Y}, contrast=nvb.contrasts.Prior(), start={"mu": 0.5, "scale": 1.0})
    assert isinstance(posterior.parts.contrast, nvb.contrasts.Prior)
    assert np.isfinite(posterior.history.elbo).all()
    with pytest.raises(UnsupportedError, match=r"Expected a prior to contrast with.*Fix: pass contrast=Prior\(distri"):
        quick(normal, event_shape=[2], contrast=nvb.contrasts.Prior(), start=[0.0, 0.0])


# What the run says, and what it repeats.


def test_the_same_seed_gives_the_same_posterior(quick_posterior: nvb.Posterior) -> None:
    again, other = quick(normal, event_shape=[2]), quick(normal, event_shape=[2], seed=1)
    draws = quick_posterior.sample(50)
    np.testing.assert_array_equal(again.sample(50), draws)
    np.testing.assert_array_equal(again.history.elbo, quick_posterior.history.elbo)
    assert not np.allclose(other.sample(50), draws)


def printed(capfd: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Standard output and error, less what TensorFlow's runtime says about processors."""
    out, err = capfd.readouterr()
    return out, re.sub(r"[IWE]\d{4} \d\d:\d\d:[^\n]*\n", "", err)


def test_without_progress_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    posterior = quick(JOINTS["named, batched"](), {"y": Y})
    posterior.to_arviz(5, log_likelihood=True, posterior_predictive=True)
    assert printed(capfd) == ("", "")


def test_progress_is_one_bar_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    quick(normal, event_shape=[2], start=[0.0, 0.0], progress=True)
    out, err = printed(capfd)
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n")
    states = err.rstrip("\n").split("\r")
    for stage in ("check", "optimise", "particles", "mixture", "compile"):
        assert any(state.startswith(f"{stage}: 0step") for state in states), stage
    assert states[-1].startswith("settle: 100%") and "40/40" in states[-1]
    assert "elbo=" in states[-1] and "critic=" in states[-1]


def test_callbacks_stop_and_the_posterior_says_so() -> None:
    seen: list[int] = []
    posterior = quick(
        normal, event_shape=[2], start=[0.0, 0.0], callbacks=[lambda step, m: bool(seen.append(step)) or step == 20]
    )
    assert seen == [20] and posterior.status.reason == "callback"
    assert "Training: stopped by a callback (step 20)" in str(posterior)


def test_ctrl_c_returns_a_posterior_that_works() -> None:
    def interrupt(step: int, metrics: Any) -> None:
        raise KeyboardInterrupt

    posterior = quick(normal, event_shape=[2], start=[0.0, 0.0], callbacks=[interrupt])
    assert posterior.status.reason == "interrupted"
    check_normal(posterior.sample(4_000))


def test_the_attributes_of_a_fit_are_recorded(quick_posterior: nvb.Posterior) -> None:
    versions = quick_posterior.versions
    assert versions["neural_vb"] == nvb.__version__ and versions["tensorflow"] == tf.__version__
    assert versions["jit_compile"] == "False" and versions["target_dtype"] == "float32"
    assert {"optima", "rounds", "components", "log_evidence"} <= set(quick_posterior.history.warm_start)


def test_notes_of_the_examination_are_kept() -> None:
    def holed(z: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reduce_sum(z**2, -1) > 400.0, np.nan, -0.5 * tf.reduce_sum(z**2, -1))

    posterior = quick(holed, event_shape=[2])
    (note,) = posterior.notes
    assert note.startswith("log p is not finite far from the start (NaN at ")
    assert f"Note: {note}" in str(posterior)


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


def test_a_config_or_parts_ask_for_training() -> None:
    for asked in ({"config": TINY}, {"critic": nvb.critics.MLPCritic(), "callbacks": [lambda step, metrics: True]}):
        assert nvb.fit(correlated, event_shape=[2], progress=False, **asked).history.step[-1] > 0
