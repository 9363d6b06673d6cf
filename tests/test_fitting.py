"""``fit`` from end to end with short training: kinds of targets, what it says and repeats, silence, and errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from quick_fits import TINY, OneWay, check_normal, normal, quick

import neural_vb as nvb
from neural_vb.errors import TargetValueError, UnsupportedError

tfd = tfp.distributions


@pytest.fixture(scope="module")
def quick_posterior() -> nvb.Posterior:
    return quick(normal, event_shape=[2])


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
    with pytest.warns(nvb.PriorWarning, match=r"every part is latent \(a, b\).*pass data=\{'b': ...\}"):
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
        assert any(state.startswith(f"{stage} [") for state in states), stage
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


def test_a_joint_without_data_is_fitted_with_a_note() -> None:
    joint = tfp.distributions.JointDistributionNamedAutoBatched({"a": tfp.distributions.Normal(1.0, 2.0)})
    with pytest.warns(nvb.PriorWarning):
        assert "no data= was given" in str(quick(joint, start={"a": 1.0}))


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
