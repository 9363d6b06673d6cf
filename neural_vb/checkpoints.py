"""A trained posterior as a folder: ``manifest.json`` for what can be read, ``tensors.npz`` for the numbers.

No code and no pickles are written or read. Parts of the package come back from their names and fields; a part of the
user's own is named in the manifest and has to be passed again when loading.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import contrasts, critics, networks, ratio_losses, samplers
from neural_vb._types import Array, Parameters, Status, Target
from neural_vb._version import __version__
from neural_vb.avb import Parts
from neural_vb.errors import ConfigurationError, FileFormatError
from neural_vb.training import History
from neural_vb.whitening import WhitenedTarget, Whitening

SCHEMA = 1
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
        networks.MeanPooled,
    )
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **ratio_losses.RATIO_LOSSES,
    **{name: getattr(tf.nn, name) for name in ("silu", "elu", "gelu", "tanh", "softplus", "relu")},
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


def save(record: Record, path: str | Path) -> None:
    """Write a record to a new folder ``path``.

    Raises:
        ConfigurationError: something exists there already, or it cannot be written.
    """
    folder = Path(path)
    tensors: list[Array] = []
    history = dataclasses.asdict(record.history)
    columns = {name: value for name, value in history.items() if isinstance(value, np.ndarray)}
    manifest = {
        "format": "neural_vb posterior",
        "schema": SCHEMA,
        "neural_vb": __version__,
        "event_size": record.whitened.event_size,
        "parts": {name: _encode(getattr(record.parts, name)) for name in ROLES},
        "parameters": _skeleton(record.parameters, tensors),
        "offset": record.whitened.offset,
        "max_score": _finite_or_none(record.whitened.max_score),
        "history": {name: value for name, value in history.items() if name not in columns},
        "status": record.status._asdict(),
        "seed": record.seed,
        "notes": list(record.notes),
        "versions": dict(record.versions),
    }
    arrays = {f"parameter_{index}": tensor for index, tensor in enumerate(tensors)}
    arrays |= {f"history_{name}": column for name, column in columns.items()}
    arrays |= {"shift": record.whitened.whitening.shift, "scale_tril": record.whitened.whitening.scale_tril}
    text = json.dumps(manifest, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=False)
        np.savez(folder / "tensors.npz", **arrays)  # type: ignore[arg-type]
        (folder / "manifest.json").write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise ConfigurationError(
            expected="a path where nothing exists yet",
            got=f"{folder}, which exists",
            fix="choose another path, or remove it",
        ) from error
    except OSError as error:
        raise ConfigurationError(
            expected=f"a folder {folder} that can be written",
            got=str(error),
            fix="choose a writable path with free space",
        ) from error


def load(path: str | Path, target: Target, *, supplied: Mapping[str, Any] | None = None) -> Record:
    """Read a record for ``target``.

    Args:
        path: the folder.
        target: the target that was fitted.
        supplied: the user's own parts by role (``sampler``, ``critic``, ``contrast``, ``ratio_loss``).

    Raises:
        FileFormatError: the folder is missing, incomplete, damaged, of an unknown schema or of another event size.
        ConfigurationError: a part of the user's own has to be passed again.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        # NumPy leaves a damaged file open when it is given its name.
        with (folder / "tensors.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except FileNotFoundError as error:
        raise _bad(folder, f"no file {Path(error.filename).name}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _bad(folder, f"unreadable: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "neural_vb posterior":
        raise _bad(folder, "a manifest of something else")
    if manifest.get("schema") != SCHEMA:
        raise _bad(
            folder, f"schema {manifest.get('schema')!r}, not {SCHEMA}; it was written by {manifest.get('neural_vb')}"
        )
    if manifest.get("event_size") != target.event_size:
        raise FileFormatError(
            expected=f"a posterior of {target.event_size} unconstrained dimensions, like the target's",
            got=f"one of {manifest.get('event_size')} in {folder}",
            fix="pass the target that was fitted",
        )
    try:
        return _record(manifest, arrays, target, dict(supplied or {}))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise _bad(folder, f"{type(error).__name__}: {error}") from error


def _record(manifest: dict[str, Any], arrays: dict[str, Array], target: Target, supplied: dict[str, Any]) -> Record:
    parts = {name: supplied.get(name) or _decode(code, name) for name, code in manifest["parts"].items()}
    columns: dict[str, Any] = {name[8:]: value for name, value in arrays.items() if name.startswith("history_")}
    max_score = manifest["max_score"]
    return Record(
        parts=Parts(**parts),
        parameters=_fill(manifest["parameters"], arrays),
        whitened=WhitenedTarget(
            target,
            Whitening(arrays["shift"], arrays["scale_tril"]),
            float(manifest["offset"]),
            math.inf if max_score is None else float(max_score),
        ),
        history=History(**columns, **manifest["history"]),
        status=Status(**manifest["status"]),
        seed=int(manifest["seed"]),
        notes=tuple(manifest["notes"]),
        versions=manifest["versions"],
    )


def _bad(folder: Path, what: str) -> FileFormatError:
    return FileFormatError(
        expected="a folder written by Posterior.save",
        got=f"{folder} ({what})",
        fix="check the path, or fit and save again",
    )


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _encode(part: Any) -> Any:
    """JSON of a part: numbers as they are, functions and classes of the package by name, the user's by name alone."""
    if isinstance(part, bool | int | float | str) or part is None:
        return part
    if isinstance(part, tuple):
        return [_encode(item) for item in part]
    for name, function in FUNCTIONS.items():
        if part is function:
            return {"function": name}
    if dataclasses.is_dataclass(part) and PARTS.get(type(part).__name__) is type(part):
        fields = {field.name: _encode(getattr(part, field.name)) for field in dataclasses.fields(part)}
        return {"part": type(part).__name__, "fields": fields}
    return {"user": getattr(part, "__qualname__", type(part).__qualname__)}


def _decode(code: Any, role: str) -> Any:
    if isinstance(code, list):
        return tuple(_decode(item, role) for item in code)
    if not isinstance(code, dict):
        return code
    if "function" in code:
        return FUNCTIONS[code["function"]]
    if "part" in code:
        return PARTS[code["part"]](**{name: _decode(value, role) for name, value in code["fields"].items()})
    raise ConfigurationError(
        expected=f"the {role} that was fitted, which has a part of your own ({code['user']})",
        got="none",
        fix=f"pass {role}=... to load",
    )


def _skeleton(value: Any, tensors: list[Array]) -> Any:
    """Nested dicts and lists of positions in ``tensors``, which is filled on the way."""
    if isinstance(value, Mapping):
        return {name: _skeleton(item, tensors) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_skeleton(item, tensors) for item in value]
    tensors.append(np.asarray(value))
    return len(tensors) - 1


def _fill(skeleton: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(skeleton, dict):
        return {name: _fill(item, arrays) for name, item in skeleton.items()}
    if isinstance(skeleton, list):
        return tuple(_fill(item, arrays) for item in skeleton)
    return tf.constant(arrays[f"parameter_{int(skeleton)}"])
