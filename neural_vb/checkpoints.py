"""A trained posterior as a folder, and the parts that come back from files by name; see :mod:`neural_vb.archives`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import archives, binding, conditional_flows, contrasts, critics, features, networks, samplers
from neural_vb._text import counted
from neural_vb._types import Array, Contrast, Derived, Parameters, Status, Target
from neural_vb.avb import Parts, losses
from neural_vb.bending import Bend, Map
from neural_vb.errors import DataError, EventShapeError, FileFormatError, NeuralVBError
from neural_vb.history import History
from neural_vb.probing import naming
from neural_vb.ridges import Ridge
from neural_vb.targets import JointTarget
from neural_vb.warping import Warp
from neural_vb.whitening import WhitenedTarget, Whitening

KIND = "posterior"
MAPS = (Bend, Ridge, Warp)
Resolve = Callable[[Contrast, WhitenedTarget], Contrast]
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
            fix="pass the target, its bijector= and the data of the fit, or fit again",
        )


def save(record: Record, path: str | Path, *, derived: Derived | None = None, overwrite: bool = False) -> None:
    """Write a record to a folder ``path``; errors as in :func:`archives.write`."""
    content = {
        "event_size": record.whitened.event_size,
        **{name: getattr(record.parts, name) for name in ROLES},
        "derived": derived,
        "parameters": record.parameters,
        **whitening_content(record.whitened.whitening),
        "offset": float(record.whitened.offset),
        "max_score": float(record.whitened.max_score),
        "history": vars(record.history),
        "status": record.status._asdict(),
        "seed": record.seed,
        "notes": record.notes,
        "versions": record.versions,
        "witness": witness(record.whitened),
    }
    archives.write(path, KIND, content, PARTS, overwrite=overwrite)


def confirm_arguments(
    path: str | Path, target: Any, data: Any, event_shape: Any, *, supplied: Mapping[str, Any] | None = None
) -> None:
    """Look at the file before the target is built, and at what is easily left out because the file seems to have it.

    Raises:
        FileFormatError, ConfigurationError: as in :func:`load`.
        DataError: a joint distribution without data, and the posterior was fitted with some.
        EventShapeError: a log density without ``event_shape``.
    """
    size = archives.read(path, KIND, PARTS, lambda content: int(content["event_size"]), supplied=supplied)
    if isinstance(target, tfp.distributions.JointDistribution) and data is None and _size_of(target) != size:
        raise DataError(
            expected=f"the data= that the posterior in {path} was fitted to, which the file does not hold",
            got="a joint distribution and no data=",
            fix="pass data={...} as to fit",
        )
    plain = callable(target) and not isinstance(target, tfp.distributions.Distribution | Target | type)
    if plain and event_shape is None and not inspect.isgeneratorfunction(target):
        raise EventShapeError(
            expected="event_shape= with a log density, as it was passed to fit",
            got=f"no event_shape=, for a posterior of {counted(size, 'unconstrained dimension')} in {path}",
            fix=f"pass event_shape=..., such as [{size}], and bijector= if there was one",
        )


def _size_of(joint: Any) -> int | None:
    """Unconstrained dimensions of a joint without data; None where that is no target."""
    with suppress(NeuralVBError):
        return JointTarget(joint, None).event_size
    return None


def load(
    path: str | Path,
    target: Target,
    *,
    supplied: Mapping[str, Any] | None = None,
    resolve: Resolve = lambda part, _: part,
) -> Record:
    """Read a record for ``target``.

    Args:
        path: the folder.
        target: the target that was fitted.
        supplied: the user's own parts by role (``sampler``, ``critic``, ``contrast``, ``ratio_loss``).
        resolve: (contrast, target) -> the contrast in the target's coordinates.

    Raises:
        FileFormatError: the folder is missing, incomplete, damaged, of an unknown schema or of another event size, or
            was written for another target or other data.
        ConfigurationError: a part of the user's own has to be passed again.
    """

    def record(content: Mapping[str, Any]) -> tuple[Record, Array]:
        if content["event_size"] != target.event_size:
            raise FileFormatError(
                expected=f"a posterior of {counted(target.event_size, 'unconstrained dimension')}, like the target's",
                got=f"one of {str(content['event_size'])[:40]} in {path}",
                fix="pass the target that was fitted, with its event_shape= and bijector=",
            )
        whitening, known = checked_whitening(content, target.event_size), about(content)
        trained = _as_trained(target, known["versions"])
        whitened = WhitenedTarget(trained, whitening, float(content["offset"]), float(content["max_score"]))
        then = np.asarray(content["witness"], np.float64)
        if then.shape != (NUM_WITNESSES,):
            raise ValueError(f"witnesses {then.shape}")
        parts = Parts(*(content[name] for name in ROLES))
        parts = replace(parts, contrast=resolve(parts.contrast, whitened))
        parameters = tf.nest.map_structure(tf.constant, checked_parameters(content["parameters"]))
        rehearse(parts, parameters, target.event_size)
        return Record(parts, parameters, whitened, **known), then

    found, then = archives.read(path, KIND, PARTS, record, supplied=supplied)
    with naming():
        _confirm(found.whitened, then, path)
    return found


def about(content: Mapping[str, Any]) -> dict[str, Any]:
    """History, status, seed, notes and versions of a file; ValueError, TypeError or KeyError where they are none."""
    columns = dict(content["history"])
    numbers = [*dict(columns.pop("warm_start")).values(), columns.pop("decay_start") or 0]
    if len({values.shape for values in columns.values()}) != 1 or columns["step"].ndim != 1:
        raise ValueError("a history of other shapes")
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("numbers of a history that are none")
    status, notes, versions = Status(**content["status"]), tuple(content.get("notes", ())), content["versions"]
    words = (*status, *notes, *versions, *versions.values())
    if type(content["seed"]) is not int or not all(isinstance(word, str) for word in words):
        raise TypeError("a seed or text of another type")
    history = History(**content["history"])
    return {"history": history, "status": status, "seed": content["seed"], "notes": notes, "versions": versions}


def checked_parameters(parameters: Parameters) -> Parameters:
    """The parameters, if they are finite float32 arrays; else ValueError."""
    for leaf in tf.nest.flatten(parameters):
        if not isinstance(leaf, np.ndarray) or leaf.dtype != np.float32 or not np.isfinite(leaf).all():
            raise ValueError("parameters that are no finite float32 arrays")
    return parameters


def checked_whitening(content: Mapping[str, Any], event_size: int) -> Whitening:
    """The whitening of a file, if it is one of D dimensions; else ValueError."""
    shift, scale_tril = (np.asarray(content[name], np.float64) for name in ("shift", "scale_tril"))
    if shift.shape != (event_size,) or scale_tril.shape != (event_size, event_size):
        raise ValueError(f"a whitening of shapes {shift.shape} and {scale_tril.shape}")
    usable = np.isfinite(shift).all() and np.isfinite(scale_tril).all() and (np.diag(scale_tril) > 0).all()
    if not usable or np.triu(scale_tril, 1).any():
        raise ValueError("a whitening that is not lower triangular with a positive diagonal")
    return Whitening(shift, scale_tril, tuple(_checked_map(fields, event_size) for fields in content.get("bends", ())))


def whitening_content(whitening: Whitening) -> dict[str, Any]:
    """The whitening for a file, from which :func:`checked_whitening` takes it."""
    bends = tuple(bend._asdict() for bend in whitening.bends)
    return {"shift": whitening.shift, "scale_tril": whitening.scale_tril, "bends": bends}


def _checked_map(fields: Mapping[str, Any], event_size: int) -> Map:
    kind = next((kind for kind in MAPS if set(kind._fields) == set(fields)), None)
    if kind is None:
        raise ValueError(f"a map of coordinates with the parts {sorted(fields)}")
    found = kind(**{name: np.asarray(value, np.float64) for name, value in fields.items()})
    shapes = tuple(part.shape for part in found)
    if shapes != kind.shapes(event_size) or not all(np.isfinite(part).all() for part in found):
        raise ValueError(f"a {kind.__name__} of shapes {shapes}, or one that is not finite")
    if isinstance(found, Ridge) and (np.triu(found.mixing).any() or any(part[..., 0].any() for part in found)):
        raise ValueError("a ridge that is not triangular, or moves its first coordinate")
    if isinstance(found, Bend) and not np.isclose(np.linalg.slogdet(found.matrix)[1], found.log_det):
        raise ValueError("a bend with another determinant")
    return found


def rehearse(
    parts: Parts, parameters: Parameters, event_size: int, data_size: int | None = None, *, log_prob: Any = None
) -> None:
    """Trace the losses, without running them: ValueError or the like where parts and parameters do not fit.

    Args:
        parts: of a file.
        parameters: of a file.
        event_size: D.
        data_size: X, or None for one data set.
        log_prob: a target with parameters, which have to fit too.
    """
    seed = tf.constant([0, 0])

    def run(*data: Any) -> Any:
        log_density = log_prob or (lambda z, x: tf.reduce_sum(z, -1))
        found = losses(parts, log_density, parameters, *(data or (None,)), num_samples=2, seed=seed)
        if found.draws.shape[-1] != event_size or found.total.shape.rank != 0:
            raise ValueError(f"draws of shape {found.draws.shape}")
        return found.total

    archives.traced(run, *([] if data_size is None else [(3, data_size)]))


def _as_trained(target: Target, versions: Mapping[str, str]) -> Target:
    """The target in the precision it was trained in."""
    dtype = versions.get("target_dtype", target.dtype.name)
    if dtype == target.dtype.name or not hasattr(target, "with_dtype"):
        return target
    return target.with_dtype(tf.as_dtype(dtype))
