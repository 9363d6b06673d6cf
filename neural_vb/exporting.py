"""Groups of ArviZ data: what goes with draws, and what goes with a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks
from neural_vb._text import a_kind
from neural_vb._types import Array, Draws, Target
from neural_vb.errors import UnsupportedError


def check(*, constant_data: Any, **groups: Any) -> None:
    """Nothing, if groups are asked for by True or False, and constant data have names.

    Raises:
        ConfigurationError: they are not.
    """
    for name, value in groups.items():
        _checks.flag(name, value)
    _checks.mapping("constant_data", constant_data, '{"x": x}')


def joint_of(target: Target, what: str) -> Any:
    """The target, if it is that of a joint distribution.

    Raises:
        UnsupportedError: it does not say how data arise.
    """
    if not hasattr(target, "posterior_predictive"):
        raise UnsupportedError(
            expected=f"a TFP joint distribution for {what}",
            got=f"{a_kind(target)}, which does not say how data arise",
            fix="fit a tfd.JointDistribution with data={...}, or compute it from the draws with derived=",
        )
    return target


def with_draws(
    target: Target, draws: Draws, z: Array, *, seed: int, log_likelihood: bool, posterior_predictive: bool
) -> dict[str, Any]:
    """Groups of S draws: ``posterior``, ``unconstrained_posterior``, and those asked for.

    Args:
        target: theirs.
        draws: in the user's names, [S, *event] each.
        z: the same, unconstrained, [S, D].
        seed: of the draws; replicated data have that after it.
        log_likelihood: pointwise.
        posterior_predictive: replicated data.
    """
    groups: dict[str, Any] = {"posterior": draws, "unconstrained_posterior": {"z_unconstrained": z}}
    if log_likelihood:
        joint = joint_of(target, "the log likelihood")
        groups["log_likelihood"] = joint.log_likelihood(latents(joint, draws))
    if posterior_predictive:
        joint = joint_of(target, "posterior predictive draws")
        groups["posterior_predictive"] = joint.posterior_predictive(latents(joint, draws), _checks.later(seed, 1))
    return groups


def of_model(target: Target, *, prior_draws: int, seed: int, constant_data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Groups that need no posterior draws; those of draws with an axis for one chain, [1, S, *event].

    Args:
        target: the model's.
        prior_draws: S of ``prior`` and ``prior_predictive``; without any the groups are missing.
        seed: of the prior draws.
        constant_data: name -> array.
    """
    groups: dict[str, Any] = {}
    if prior_draws:
        drawn = joint_of(target, "prior draws").prior_sample(prior_draws, seed)
        groups["prior"], groups["prior_predictive"] = tf.nest.map_structure(lambda part: part[np.newaxis], drawn)
    if observed := getattr(target, "observed_data", None):
        groups["observed_data"] = observed
    if constant_data:
        groups["constant_data"] = constant_data
    return groups


def latents(joint: Any, draws: Any) -> dict[str, Any]:
    """The latent parts of draws, without what is derived from them."""
    return {name: draws[name] for name in joint.latent_names}
