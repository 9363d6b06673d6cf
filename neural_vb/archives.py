"""What was trained as a folder: ``manifest.json`` for what can be read, ``tensors.npz`` for the numbers.

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
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import ratio_losses
from neural_vb._types import Array
from neural_vb._version import __version__
from neural_vb.avb import as_given
from neural_vb.errors import ConfigurationError, FileFormatError

SCHEMA = 3
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **ratio_losses.RATIO_LOSSES,
    "as_given": as_given,
    **{name: getattr(tf.nn, name) for name in ("silu", "elu", "gelu", "tanh", "softplus", "relu")},
}


def write(path: str | Path, kind: str, content: Mapping[str, Any], parts: Mapping[str, type]) -> None:
    """Write ``content`` to a new folder ``path``.

    Args:
        path: of the folder.
        kind: what it holds, such as "posterior".
        content: name -> numbers, text, arrays, parts, and dicts, lists and tuples of these.
        parts: the dataclasses that are written by name and fields.

    Raises:
        ConfigurationError: something exists there already, or it cannot be written.
    """
    folder = Path(path)
    tensors: list[Array] = []
    coded = {name: _encode(value, parts, tensors) for name, value in content.items()}
    text = json.dumps({"format": f"neural_vb {kind}", "schema": SCHEMA, "neural_vb": __version__, **coded}, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=False)
        arrays: dict[str, Any] = {f"tensor_{index}": tensor for index, tensor in enumerate(tensors)}
        np.savez(folder / "tensors.npz", **arrays)
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


def read(
    path: str | Path,
    kind: str,
    parts: Mapping[str, type],
    build: Callable[[Mapping[str, Any]], Any],
    *,
    supplied: Mapping[str, Any] | None = None,
) -> Any:
    """``build`` of the content that :func:`write` was given; lists come back as tuples.

    Args:
        path: of the folder.
        kind: what it should hold.
        parts: see :func:`write`.
        build: from name -> content to the result; what it misses or cannot use is damage.
        supplied: name -> the user's own parts, which stand for those of the file.

    Raises:
        FileFormatError: the folder is missing, incomplete, damaged, of another kind or of an unknown schema.
        ConfigurationError: a part of the user's own has to be passed again.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        # NumPy leaves a damaged file open when it is given its name.
        with (folder / "tensors.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except FileNotFoundError as error:
        raise _bad(folder, kind, f"no file {Path(error.filename).name}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _bad(folder, kind, f"unreadable: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != f"neural_vb {kind}":
        raise _bad(folder, kind, "a manifest of something else")
    if manifest.get("schema") != SCHEMA:
        found, writer = manifest.get("schema"), manifest.get("neural_vb")
        raise _bad(folder, kind, f"schema {found!r}, not {SCHEMA}; it was written by {writer}")
    own = supplied or {}
    try:
        content = {name: own.get(name) or _decode(code, name, parts, arrays) for name, code in manifest.items()}
        return build(content)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise _bad(folder, kind, f"{type(error).__name__}: {error}") from error


def _bad(folder: Path, kind: str, what: str) -> FileFormatError:
    return FileFormatError(
        expected=f"a folder written by the save of a {kind}",
        got=f"{folder} ({what})",
        fix="check the path, or fit and save again",
    )


def _encode(value: Any, parts: Mapping[str, type], tensors: list[Array]) -> Any:
    """JSON of a value; arrays go to ``tensors`` and leave their number."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, np.ndarray | np.generic | tf.Tensor):
        tensors.append(np.asarray(value))
        return {"tensor": len(tensors) - 1}
    if isinstance(value, Mapping):
        return {"dict": {name: _encode(item, parts, tensors) for name, item in value.items()}}
    if isinstance(value, tuple | list):
        return [_encode(item, parts, tensors) for item in value]
    for name, function in FUNCTIONS.items():
        if value is function:
            return {"function": name}
    if dataclasses.is_dataclass(value) and parts.get(type(value).__name__) is type(value):
        fields = [field for field in dataclasses.fields(value) if field.init]
        coded = {field.name: _encode(getattr(value, field.name), parts, tensors) for field in fields}
        return {"part": type(value).__name__, "fields": coded}
    return {"user": getattr(value, "__qualname__", type(value).__qualname__)}


def _decode(code: Any, role: str, parts: Mapping[str, type], arrays: Mapping[str, Array]) -> Any:
    if isinstance(code, list):
        return tuple(_decode(item, role, parts, arrays) for item in code)
    if not isinstance(code, dict):
        return code
    (key, *_) = code
    if key == "dict":
        return {name: _decode(item, role, parts, arrays) for name, item in code["dict"].items()}
    if key == "tensor":
        return arrays[f"tensor_{int(code['tensor'])}"]
    if key == "float":
        return float(code["float"])
    if key == "function":
        return FUNCTIONS[code["function"]]
    if key == "part":
        fields = {name: _decode(item, role, parts, arrays) for name, item in code["fields"].items()}
        return parts[code["part"]](**fields)
    raise ConfigurationError(
        expected=f"the {role} that was fitted, which has a part of your own ({code['user']})",
        got="none",
        fix=f"pass {role}=... to load",
    )
