"""Saved posteriors: the same draws come back, and every kind of damage has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import binding, features
from neural_vb.checkpoints import PARTS
from neural_vb.errors import (
    ConfigurationError,
    DataError,
    EventShapeError,
    FileFormatError,
    StorageError,
    TargetValueError,
)
from neural_vb.networks import MLP

tfd = tfp.distributions


@pytest.fixture
def saved(named_posterior: nvb.Posterior, tmp_path: Path) -> Path:
    named_posterior.save(tmp_path / "named.nvb")
    return tmp_path / "named.nvb"


def normal(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


TINY = nvb.TrainingConfig(max_steps=10, min_steps=0, decay_steps=10, window=10, batch_size=16, jit_compile=False)
NETWORK = MLP((8,), activation=tf.nn.tanh, output_scale=0.01)


def quick(target: Callable = normal, **options: Any) -> nvb.Posterior:
    options = {"contrast": nvb.contrasts.MomentMatched(), "start": np.zeros(2), "event_shape": [2]} | options
    options |= {
        "sampler": nvb.samplers.ResidualSampler(NETWORK, extra_noise=1),
        "critic": nvb.critics.MLPCritic(NETWORK),
    }
    return nvb.fit(target, config=TINY, progress=False, **options)


def test_what_is_loaded_is_what_was_saved(
    saved: Path, named_posterior: nvb.Posterior, named_arguments: dict[str, Any]
) -> None:
    again = nvb.load(saved, **named_arguments)
    before, after = named_posterior.sample(300, seed=1), again.sample(300, seed=1)
    assert list(before) == list(after) == ["mu", "tau", "ratio"]
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    np.testing.assert_array_equal(again.log_prob_estimate(after), named_posterior.log_prob_estimate(before))
    assert again.elbo == named_posterior.elbo
    for name in ("parts", "status", "seed", "notes", "versions"):
        assert getattr(again, name) == getattr(named_posterior, name)
    for name, value in vars(named_posterior.history).items():
        np.testing.assert_array_equal(getattr(again.history, name), value)
    assert str(again) == str(named_posterior)


def test_a_joint_comes_back_with_its_data(
    joint_posterior: nvb.Posterior, joint_data: dict[str, np.ndarray], tmp_path: Path
) -> None:
    joint_posterior.save(str(tmp_path / "joint.nvb"))
    again = nvb.load(str(tmp_path / "joint.nvb"), joint_posterior.target.joint, joint_data)
    for name, value in joint_posterior.sample(20, seed=1).items():
        np.testing.assert_array_equal(again.sample(20, seed=1)[name], value)


def test_the_file_is_looked_at_first_and_what_was_left_out_is_named(
    saved: Path, named_arguments: dict[str, Any], joint_posterior: nvb.Posterior, tmp_path: Path
) -> None:
    target, derived = named_arguments["target"], named_arguments["derived"]
    with pytest.raises(FileFormatError, match=r"there is no such folder"):
        nvb.load(tmp_path / "nowhere", target)
    with pytest.raises(EventShapeError, match=r"got no event_shape=, for a posterior of 2 unconstrained dimensions in"):
        nvb.load(saved, target, derived=derived)
    with pytest.raises(ConfigurationError, match=r"Expected the derived that was fitted.*Fix: pass derived="):
        nvb.load(saved, **{**named_arguments, "derived": None})
    joint_posterior.save(tmp_path / "joint.nvb")
    with pytest.raises(FileFormatError, match=r"there is no such folder"):
        nvb.load(tmp_path / "nowhere", joint_posterior.target.joint)
    with pytest.raises(DataError, match=r"got a joint distribution and no data=\. Fix: pass data=\{\.\.\.\} as to fit"):
        nvb.load(tmp_path / "joint.nvb", joint_posterior.target.joint)


def test_parts_of_every_kind_come_back(tmp_path: Path) -> None:
    posterior = quick(ratio_loss=nvb.ratio_losses.lsif, contrast=nvb.contrasts.MomentMatched(diagonal=True, decay=0.9))
    posterior.save(tmp_path / "parts.nvb")
    again = nvb.load(tmp_path / "parts.nvb", normal, event_shape=[2])
    assert again.parts == posterior.parts
    np.testing.assert_array_equal(again.sample(10), posterior.sample(10))


def test_every_public_part_without_code_of_the_users_is_known() -> None:
    modules = (nvb.samplers, nvb.critics, nvb.contrasts, nvb.networks, nvb.conditional_flows, binding, features)
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "initial_parameters")
    }
    # A Network is the Protocol; a Prior holds the user's distribution, and is passed again.
    assert public - {"Network", "Prior"} == set(PARTS)


def test_a_target_that_needed_float64_is_loaded_in_float64(tmp_path: Path) -> None:
    def offset(z: tf.Tensor) -> tf.Tensor:  # normal, but float32 loses it in the difference of large numbers
        return -0.5 * tf.reduce_sum((1e3 + z) ** 2, -1) + 1e3 * tf.reduce_sum(z, -1)

    posterior = quick(offset)
    assert posterior.target.dtype == tf.float64
    posterior.save(tmp_path / "wide.nvb")
    again = nvb.load(tmp_path / "wide.nvb", offset, event_shape=[2])
    draws = posterior.sample(10)
    assert again.target.dtype == tf.float64 and again.sample(10).dtype == draws.dtype == np.float64
    np.testing.assert_array_equal(again.sample(10), draws)
    np.testing.assert_array_equal(again.log_prob(draws), posterior.log_prob(draws))


def test_a_prior_contrast_is_passed_again(tmp_path: Path) -> None:
    prior = nvb.contrasts.Prior(tfd.MultivariateNormalDiag([0.0, 0.0], [2.0, 2.0]))
    posterior = quick(contrast=prior)
    posterior.save(tmp_path / "prior.nvb")
    again = nvb.load(tmp_path / "prior.nvb", normal, event_shape=[2], contrast=prior)
    draws = posterior.sample(10)
    np.testing.assert_array_equal(again.sample(10), draws)
    np.testing.assert_array_equal(again.log_prob_estimate(draws), posterior.log_prob_estimate(draws))
    with pytest.raises(ConfigurationError) as error:
        nvb.load(tmp_path / "prior.nvb", normal, event_shape=[2])
    assert str(error.value) == (
        "Expected the contrast that was fitted, which has a part of your own (Prior); got none. "
        "Fix: pass contrast=... to load"
    )


@dataclass(frozen=True)
class OwnCritic:
    """A critic that is not the package's."""

    inner: nvb.critics.MLPCritic = nvb.critics.MLPCritic(NETWORK)  # noqa: RUF009

    def initial_parameters(self, base: Any, x_size: int, seed: int) -> Any:
        return self.inner.initial_parameters(base, x_size, seed)

    def __call__(self, parameters: Any, z: tf.Tensor, x: tf.Tensor | None) -> tf.Tensor:
        return self.inner(parameters, z, x)


def test_parts_of_the_users_own_are_passed_again(
    saved: Path, named_posterior: nvb.Posterior, named_arguments: dict[str, Any], tmp_path: Path
) -> None:
    own = replace(named_posterior, parts=replace(named_posterior.parts, critic=OwnCritic(named_posterior.parts.critic)))
    own.save(tmp_path / "own.nvb")
    with pytest.raises(
        ConfigurationError, match=r"Expected the critic that was fitted, which has a part of your own \(O"
    ):
        nvb.load(tmp_path / "own.nvb", **named_arguments)
    again = nvb.load(tmp_path / "own.nvb", **named_arguments, critic=own.parts.critic)
    draws = own.sample(5)
    np.testing.assert_array_equal(again.log_prob_estimate(draws), own.log_prob_estimate(draws))

    own = replace(named_posterior, parts=replace(named_posterior.parts, ratio_loss=lambda q, r: 0.0))
    own.save(tmp_path / "loss.nvb")
    with pytest.raises(ConfigurationError, match=r"Expected the ratio_loss that was fitted"):
        nvb.load(tmp_path / "loss.nvb", **named_arguments)


def test_a_part_inside_a_part_may_be_the_users_own(
    named_posterior: nvb.Posterior, named_arguments: dict[str, Any], tmp_path: Path
) -> None:
    network = replace(named_posterior.parts.critic.network, activation=lambda x: tf.nn.silu(x))
    own = replace(named_posterior, parts=replace(named_posterior.parts, critic=nvb.critics.MLPCritic(network)))
    own.save(tmp_path / "own.nvb")
    with pytest.raises(ConfigurationError, match=r"Expected the critic that was fitted, .*lambda.*Fix: pass critic="):
        nvb.load(tmp_path / "own.nvb", **named_arguments)


def test_nothing_is_overwritten_unasked(saved: Path, named_posterior: nvb.Posterior) -> None:
    before = (saved / "manifest.json").read_bytes()
    with pytest.raises(ConfigurationError) as error:
        named_posterior.save(saved)
    assert str(error.value) == (
        f"Expected a path where nothing exists yet; got {saved}, which exists. "
        "Fix: choose another path, remove it, or pass overwrite=True"
    )
    assert (saved / "manifest.json").read_bytes() == before


def test_a_manifest_of_something_else_is_not_written_over(named_posterior: nvb.Posterior, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"got a .* of something else"):
        named_posterior.save(tmp_path, overwrite=True)
    assert (tmp_path / "manifest.json").read_text() == "{}"


def test_a_path_below_a_file_cannot_be_written(named_posterior: nvb.Posterior, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"that can be written; got .*Fix: choose a writable path"):
        named_posterior.save(tmp_path / "file" / "below")


def test_other_data_are_named(
    joint_posterior: nvb.Posterior, joint_data: dict[str, np.ndarray], tmp_path: Path
) -> None:
    joint_posterior.save(tmp_path / "joint.nvb")
    joint = joint_posterior.target.joint
    other = {name: value + 1.0 for name, value in joint_data.items()}
    with pytest.raises(FileFormatError, match=r"got a log density that differs by up to [0-9.]+ nats .*or fit again"):
        nvb.load(tmp_path / "joint.nvb", joint, other)


def test_a_constant_in_the_log_density_is_no_other_target(tmp_path: Path) -> None:
    quick().save(tmp_path / "a.nvb")
    again = nvb.load(tmp_path / "a.nvb", lambda z: normal(z) + 3.0, event_shape=[2])
    assert again.seed == 0
    with pytest.raises(FileFormatError, match="the target and the data that were fitted"):
        nvb.load(tmp_path / "a.nvb", lambda z: normal(z - 0.5), event_shape=[2])


@pytest.mark.parametrize("shift", [0.2, np.nan])
def test_a_small_difference_is_seen_in_one_dimension(tmp_path: Path, shift: float) -> None:
    quick(event_shape=[1], start=np.zeros(1)).save(tmp_path / "a.nvb")
    nvb.load(tmp_path / "a.nvb", normal, event_shape=[1])
    with pytest.raises(FileFormatError, match="the target and the data that were fitted"):
        nvb.load(tmp_path / "a.nvb", lambda z: normal(z - shift), event_shape=[1])


@pytest.mark.parametrize("path", [None, 3, "", "a\0b", b"a", "\ud800"], ids=ascii)
def test_a_path_that_is_none_is_named(path: Any, named_posterior: nvb.Posterior) -> None:
    with pytest.raises(ConfigurationError, match="path as the path of a folder"):
        named_posterior.save(path)
    with pytest.raises(ConfigurationError, match="path as the path of a folder"):
        nvb.load(path, normal, event_shape=[2])


def test_what_a_log_density_raises_is_named_by_load(tmp_path: Path) -> None:
    quick().save(tmp_path / "a")
    with pytest.raises(TargetValueError, match="ZeroDivisionError"):
        nvb.load(tmp_path / "a", lambda z: 1 / 0, event_shape=[2])


@pytest.mark.parametrize("option", ["derived", "sampler", "critic", "contrast", "ratio_loss", "vectorized"])
def test_options_of_load_are_looked_at(saved: Path, named_arguments: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Expected {option} as"):
        nvb.load(saved, **(named_arguments | {option: 3}))


def test_another_event_size_is_named(saved: Path, named_arguments: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError) as error:
        nvb.load(saved, normal, event_shape=[3], derived=named_arguments["derived"])
    assert str(error.value) == (
        "Expected a posterior of 3 unconstrained dimensions, like the target's; "
        f"got one of 2 in {saved}. Fix: pass the target that was fitted, with its event_shape= and bijector="
    )
