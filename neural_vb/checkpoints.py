"""A trained posterior as a folder, and the parts that come back from files by name; see :mod:`neural_vb.archives`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import archives, binding, conditional_flows, contrasts, critics, features, networks, samplers
from neural_vb._types import Array, Parameters, Status, Target
from neural_vb.avb import Parts
from neural_vb.errors import FileFormatError
from neural_vb.history import History
from neural_vb.whitening import WhitenedTarget, Whitening

KIND = "posterior"
ROLES = ("sampler", "critic", "contrast", "ratio_loss")
PARTS: dict[str, type] = {
    part.__name__: part
    for part in (
        samplers.ResidualSampler,
        critics.MLPCritic,
        contrasts.Flow,
        contrasts.MomentMatched,
        networks.Linear,
        networks.MLP,
        networks.AffineAndMLP,
        networks.MeanPooled,
        conditional_flows.ConditionalFlow,
        conditional_flows.FlowSampler,
        conditional_flows.MixtureNetwork,
        binding.BoundSampler,
        binding.BoundCritic,
        binding.BoundContrast,
        features.Features,
    )
}


class Record(NamedTuple):
    """What a file holds of a posterior: all but the target."""

    parts: Parts
    parameters: Parameters
    whitened: WhitenedTarget
    history: History
    status: Status
    seed: int
    notes: tuple[str, ...]
    versions: Mapping[str, str]


NUM_WITNESSES = 64
WITNESS_TOLERANCE = 0.05  # nats


def witness(target: WhitenedTarget) -> Array:
    """log p [N] at fixed points about the centre, in the precision of the target; it tells targets and data apart."""
    u = 1.5 * np.random.default_rng(0).standard_normal((NUM_WITNESSES, 1, target.event_size)).astype(np.float32)
    return np.asarray(target.log_prob(tf.constant(u)), np.float64)[:, 0]


def _confirm(target: WhitenedTarget, then: Array, path: str | Path) -> None:
    """Compare log p with what it was at the witnesses when the posterior was saved, up to a constant and to rounding.

    Raises:
        FileFormatError: another target, or other data.
    """
    now = witness(target)
    known = np.isfinite(now) & np.isfinite(then)
    gap = (now - then)[known]
    moved = float(np.abs(gap - gap.mean()).max()) if known.any() else 0.0
    rounding = 1e-6 * (abs(target.offset) + np.abs(then[known]).max(initial=0.0))
    unlike = int((np.isfinite(now) != np.isfinite(then)).sum())
    if moved > WITNESS_TOLERANCE + rounding or unlike > NUM_WITNESSES // 8:
        raise FileFormatError(
            expected="the target and the data that were fitted",
            got=f"a log density that differs by up to {moved:.3g} nats from the one saved in {path}"
            + (f", and is finite elsewhere ({unlike} of {NUM_WITNESSES} points)" if unlike else ""),
            fix="pass the target and the data of the fit, or fit again",
        )


def save(record: Record, path: str | Path) -> None:
    """Write a record to a new folder ``path``; errors as in :func:`archives.write`."""
    content = {
        "event_size": record.whitened.event_size,
        **{name: getattr(record.parts, name) for name in ROLES},
        "parameters": record.parameters,
        "shift": record.whitened.whitening.shift,
        "scale_tril": record.whitened.whitening.scale_tril,
        "offset": float(record.whitened.offset),
        "max_score": float(record.whitened.max_score),
        "history": vars(record.history),
        "status": record.status._asdict(),
        "seed": record.seed,
        "notes": record.notes,
        "versions": record.versions,
        "witness": witness(record.whitened),
    }
    archives.write(path, KIND, content, PARTS)


def load(path: str | Path, target: Target, *, supplied: Mapping[str, Any] | None = None) -> Record:
    """Read a record for ``target``.

    Args:
        path: the folder.
        target: the target that was fitted.
        supplied: the user's own parts by role (``sampler``, ``critic``, ``contrast``, ``ratio_loss``).

    Raises:
        FileFormatError: the folder is missing, incomplete, damaged, of an unknown schema or of another event size, or
            was written for another target or other data.
        ConfigurationError: a part of the user's own has to be passed again.
    """

    def record(content: Mapping[str, Any]) -> tuple[Record, Array]:
        if content["event_size"] != target.event_size:
            raise FileFormatError(
                expected=f"a posterior of {target.event_size} unconstrained dimensions, like the target's",
                got=f"one of {content['event_size']} in {path}",
                fix="pass the target that was fitted",
            )
        whitening = Whitening(content["shift"], content["scale_tril"])
        trained = _as_trained(target, content["versions"])
        found = Record(
            parts=Parts(*(content[name] for name in ROLES)),
            parameters=tf.nest.map_structure(tf.constant, content["parameters"]),
            whitened=WhitenedTarget(trained, whitening, content["offset"], content["max_score"]),
            history=History(**content["history"]),
            status=Status(**content["status"]),
            seed=content["seed"],
            notes=content["notes"],
            versions=content["versions"],
        )
        return found, np.asarray(content["witness"])

    found, then = archives.read(path, KIND, PARTS, record, supplied=supplied)
    _confirm(found.whitened, then, path)
    return found


def _as_trained(target: Target, versions: Mapping[str, str]) -> Target:
    """The target in the precision it was trained in."""
    dtype = versions.get("target_dtype", target.dtype.name)
    if dtype == target.dtype.name or not hasattr(target, "with_dtype"):
        return target
    return target.with_dtype(tf.as_dtype(dtype))
