"""Which part of a log density is not finite at given draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import joints
from neural_vb._types import Array, Target
from neural_vb.draws import named
from neural_vb.errors import ImproperDensityError
from neural_vb.probing import Probe
from neural_vb.targets import JointTarget

MOST_LOST = 0.01  # of draws; of a tail such as that of a logarithm with a Cauchy distribution a few are beyond numbers


def broken(target: Target, z: Array) -> str:
    """In words, what is not finite at draws z [n, D]: draws, parts after their bijector, sites, log p or its gradient.

    Sites are the components of a joint, each evaluated on its own. Empty when everything is finite.
    """
    usable = np.isfinite(z).all(-1)
    found = [_count("the sampler's output", ~usable)] if not usable.all() else []
    if usable.any():
        found += _parts(target, z[usable])
    return "; ".join(found)


def lost(target: Target, z: Array) -> tuple[str, float]:
    """In words, which parts are not finite after their bijector at draws z [n, D], and the largest share of one.

    Of a joint distribution nothing is said.
    """
    if isinstance(target, JointTarget):
        return "", 0.0  # its distributions are proper, and its bijectors, asked one by one, leave graphs behind
    usable = np.isfinite(z).all(-1)
    if not usable.any():
        return "the sampler's output is not finite", 1.0
    found = _lost(target.constrain(tf.constant(z[usable], target.dtype)))
    words = [_count(f"{name} after its bijector", hits) for name, hits in found.items()]
    return "; ".join(words), max((float(hits.mean()) for hits in found.values()), default=0.0)


def check_reach(target: Target, z: Array) -> None:
    """Nothing, if no more than ``MOST_LOST`` of draws z [n, D] are too large for numbers after their bijector.

    Raises:
        ImproperDensityError: more are.
    """
    words, share = lost(target, z)
    if share > MOST_LOST:
        raise ImproperDensityError(
            expected=f"a density whose mass lies at numbers that {target.dtype.name} can hold",
            got=words,
            fix="add a proper prior in log_prob; if it is proper and as wide as that, infer the logarithm, without a "
            "bijector",
        )


def _lost(draws: Any) -> dict[str, Array]:
    """Where each part is not finite, of those that are not everywhere."""
    parts = named(draws) if isinstance(draws, Mapping) or hasattr(draws, "_asdict") else {"the draws": draws}
    found = {name: _unusable(part) for name, part in parts.items()}
    return {name: hits for name, hits in found.items() if hits.any()}


def _parts(target: Target, z: Array) -> list[str]:
    draws = target.constrain(tf.constant(z, target.dtype))
    found = [_count(f"{name} after its bijector", hits) for name, hits in _lost(draws).items()]
    if isinstance(target, JointTarget):
        sites = _sites(target, draws)
        found += [_count(f"the log density of the site {name!r}", hits) for name, hits in sites.items() if hits.any()]
    log_prob, gradient = Probe(target)(z)
    if not np.isfinite(log_prob).all() and not found:
        found.append(_count("the log density", ~np.isfinite(log_prob)))
    broken_at = ~np.isfinite(gradient) & np.isfinite(log_prob)[:, np.newaxis]
    if broken_at.any():
        found.append(_count(f"the gradient with respect to {names_of(target, broken_at)}", broken_at.any(1)))
    return found


def names_of(target: Target, hits: Array) -> str:
    """Names of the unconstrained coordinates with a hit, [..., D], at most five."""
    labels = getattr(target, "labels", None) or tuple(f"z[{index}]" for index in range(target.event_size))
    which = [labels[index] for index in np.flatnonzero(hits.reshape(-1, len(labels)).any(0))]
    return ", ".join(which[:5]) + (", ..." if len(which) > 5 else "")


def _sites(target: JointTarget, draws: Mapping[str, Any]) -> dict[str, Array]:
    """For each component of the joint, data included, where its own log density is not finite: name -> [n]."""
    joint, model = target.joint, target.model

    @tf.autograph.experimental.do_not_convert
    def one(draw: Mapping[str, Any]) -> dict[str, Any]:
        # One draw at a time: without an axis of draws plain and AutoBatched joints are the same.
        known = {**draw, **{name: tf.constant(value) for name, value in model.observed.items()}}
        names = joints.unpack(joint, joint.dtype)
        values = joints.pack(joint.dtype, {name: known[name] for name in names})
        distributions = joints.unpack(joint, joint.sample_distributions(value=values, seed=(0, 0))[0])
        return {name: tf.reduce_sum(distributions[name].log_prob(known[name])) for name in names}

    found = tf.vectorized_map(one, {name: draws[name] for name in model.latent_names})
    return {name: ~np.isfinite(np.asarray(value)) for name, value in found.items()}


def _unusable(part: Any) -> Array:
    value = np.asarray(part)
    return ~np.isfinite(value.reshape(len(value), -1)).all(-1)


def _count(what: str, hits: Array) -> str:
    return f"{what} is not finite at {int(hits.sum())} of {len(hits)} draws"
