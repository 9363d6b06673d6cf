"""What was trained as a folder: ``manifest.json`` for what can be read, a safetensors file for the numbers.

No code and no pickles are written or read. Parts of the package come back from their names and fields; a part of the
user's own is named in the manifest and has to be passed again when loading. Of a file that is read nothing is believed:
sizes, shapes and sums are compared before anything is made of them. The format is described in docs/reliability.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks, atomic, ratio_losses
from neural_vb._text import with_article
from neural_vb._types import Array
from neural_vb._version import __version__
from neural_vb.avb import as_given
from neural_vb.compilation import graph
from neural_vb.errors import ConfigurationError, FileFormatError, NeuralVBError
from neural_vb.networks import silu

SCHEMA = 4
MANIFEST = "manifest.json"
MAX_MANIFEST = 4 * 2**20  # bytes
MAX_DEPTH = 64  # of brackets in it
MAX_TENSORS = 10_000
MAX_BYTES = 2**31  # of all tensors
MAX_NUMBER = 2**24  # in a part: none of the package has wider layers, or more of them
DTYPES = {name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **ratio_losses.RATIO_LOSSES,
    "as_given": as_given,
    "silu": silu,
    "tf.nn.silu": tf.nn.silu,
    **{name: getattr(tf.nn, name) for name in ("elu", "gelu", "tanh", "softplus", "relu")},
}


def write(
    path: str | Path, kind: str, content: Mapping[str, Any], parts: Mapping[str, type], *, overwrite: bool = False
) -> None:
    """Write ``content`` to a folder ``path``, whole or not at all.

    Args:
        path: of the folder.
        kind: what it holds, such as "posterior".
        content: name -> numbers, text, arrays, parts, and dicts, lists and tuples of these.
        parts: the dataclasses that are written by name and fields.
        overwrite: replace what was saved there before; at every moment the folder holds one or the other.

    Raises:
        ConfigurationError: something exists there already, or ``path`` is none.
        StorageError: it cannot be written; what was there before is as it was.
    """
    from safetensors.numpy import save

    _checks.folder("path", path)
    _checks.flag("overwrite", overwrite)
    if overwrite:
        _confirm_ours(Path(path) / MANIFEST)
    tensors: list[Array] = []
    coded = {name: encode(value, parts, tensors) for name, value in content.items()}
    named = {_name(index): np.ascontiguousarray(tensor).reshape(tensor.shape) for index, tensor in enumerate(tensors)}
    numbers = save(named)
    manifest = {
        "format": f"neural_vb {kind}",
        "schema": SCHEMA,
        "neural_vb": __version__,
        "tensors": {
            "bytes": len(numbers),
            "sha256": hashlib.sha256(numbers).hexdigest(),
            "arrays": [[tensor.dtype.name, list(tensor.shape)] for tensor in tensors],
        },
        "content": coded,
    }
    text = json.dumps(manifest | {"seal": seal(manifest)}, indent=1, allow_nan=False)
    files = {file_name(manifest["tensors"]["sha256"]): numbers, MANIFEST: text.encode()}  # type: ignore[index]
    atomic.write_folder(path, files, overwrite=overwrite)


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
        ConfigurationError: a part of the user's own has to be passed again, or ``path`` is none.
    """
    _checks.folder("path", path)
    folder = Path(path)
    try:
        manifest = _parse(atomic.read_file(folder / MANIFEST, MAX_MANIFEST))
        _check_manifest(folder, manifest, kind)
        arrays = _arrays(folder, kind, manifest["tensors"])
        own = {name: part for name, part in (supplied or {}).items() if part is not None}
        coded = manifest["content"].items()
        content = {name: own[name] if name in own else _decode(code, name, parts, arrays) for name, code in coded}
        return build(content)
    except NeuralVBError:
        raise
    except FileNotFoundError as error:
        missing = f"no file {Path(error.filename or MANIFEST).name}" if folder.exists() else "there is no such folder"
        raise _bad(folder, kind, missing) from error
    except NotADirectoryError as error:
        raise _bad(folder, kind, "it is a file") from error
    except OSError as error:
        raise _bad(folder, kind, f"unreadable: {error}") from error
    except Exception as error:  # of damage anything may come
        raise _bad(folder, kind, f"damaged: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def _confirm_ours(manifest: Path) -> None:
    """Nothing, if the file is none or was written by this package; other programs have manifests too."""
    try:
        ours = b"neural_vb" in atomic.read_file(manifest, 2**31)
    except OSError:  # there is none, or what writes will say what is wrong
        return
    if not ours:
        raise ConfigurationError(
            expected="a folder of neural_vb's to write over",
            got=f"a {manifest} of something else",
            fix="choose another path, or remove the folder",
        )


def seal(manifest: Mapping[str, Any]) -> str:
    """The sum over a manifest without its seal; it tells damage, and keeps nobody from writing another."""
    text = json.dumps({name: value for name, value in manifest.items() if name != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_name(sha256: str) -> str:
    """Of the tensors with this sum: other tensors never have the same name, so that a folder can be written over."""
    return f"tensors-{sha256[:16]}.safetensors"


def traced(function: Callable[..., Any], *shapes: tuple[int | None, ...]) -> None:
    """Trace a function of float32 arguments of these shapes, without running it: parts and numbers have to fit."""
    graph(function).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes))


def _name(index: int) -> str:
    return f"tensor_{index}"


def _parse(raw: bytes) -> Any:
    """JSON of a limited depth, without NaN and without a name twice."""
    text = raw.decode("utf-8")
    depth = deepest = 0
    quoted = escaped = False
    for letter in text:
        if quoted:
            quoted, escaped = escaped or letter != '"', not escaped and letter == "\\"
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    if deepest > MAX_DEPTH:
        raise ValueError(f"brackets {deepest} deep")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name comes twice")
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def _check_manifest(folder: Path, manifest: Any, kind: str) -> None:
    if not isinstance(manifest, dict):
        raise _bad(folder, kind, "a manifest of something else")
    sealed = manifest.get("seal") == seal(manifest)
    if "seal" in manifest and not sealed:  # before what it says is taken at its word
        raise _bad(folder, kind, f"damaged: {MANIFEST} was changed: its sum is another")
    if manifest.get("format") != f"neural_vb {kind}":
        raise _bad(folder, kind, "a manifest of something else")
    if manifest.get("schema") != SCHEMA:
        found, writer = manifest.get("schema"), str(manifest.get("neural_vb"))[:40]
        raise FileFormatError(
            expected=f"{with_article(kind)} of schema {SCHEMA}",
            got=f"schema {str(found)[:40]} in {folder}, written by neural_vb {writer}",
            fix="fit and save again with this version, or load it with the version that wrote it",
        )
    if not sealed:
        raise _bad(folder, kind, f"damaged: {MANIFEST} was changed: it has no sum")
    if set(manifest) != {"format", "schema", "neural_vb", "tensors", "content", "seal"}:
        raise _bad(folder, kind, "damaged: a manifest with other names")


def _arrays(folder: Path, kind: str, listed: Mapping[str, Any]) -> list[Array]:
    """The tensors, after their sizes and sum have been compared with the manifest."""
    from safetensors.numpy import load

    size, sha256, shapes = listed["bytes"], listed["sha256"], listed["arrays"]
    if not isinstance(sha256, str) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise _bad(folder, kind, "damaged: a sum that is none")
    total = 0
    for dtype, shape in shapes:
        if not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape) or len(shape) > 8:
            raise _bad(folder, kind, f"damaged: a tensor of shape {str(shape)[:80]}")
        total += math.prod(shape) * DTYPES[dtype].itemsize
    if len(shapes) > MAX_TENSORS or total > MAX_BYTES or not total <= size <= total + MAX_MANIFEST:
        raise _bad(folder, kind, f"damaged: {len(shapes)} tensors of {total} bytes in a file of {size}")
    name = file_name(sha256)
    raw = atomic.read_file(folder / name, limit=size)
    if len(raw) != size or hashlib.sha256(raw).hexdigest() != sha256:
        raise _bad(folder, kind, f"damaged: {name} was changed: its sum is another")
    found = load(raw)
    arrays = [found[_name(index)] for index in range(len(shapes))]
    if len(found) != len(shapes) or [[a.dtype.name, list(a.shape)] for a in arrays] != shapes:
        raise _bad(folder, kind, "damaged: tensors of other shapes than the manifest says")
    return arrays


def _bad(folder: Path, kind: str, what: str) -> FileFormatError:
    return FileFormatError(
        expected=f"a folder written by the save of {with_article(kind)}",
        got=f"{folder} ({what})",
        fix="check the path, or fit and save again",
    )


def encode(value: Any, parts: Mapping[str, type], tensors: list[Array]) -> Any:
    """JSON of a value; arrays go to ``tensors`` and leave their number."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, np.ndarray | np.generic | tf.Tensor):
        tensors.append(np.asarray(value))
        return {"tensor": len(tensors) - 1}
    if isinstance(value, Mapping):
        return {"dict": {name: encode(item, parts, tensors) for name, item in value.items()}}
    if isinstance(value, tuple | list):
        return [encode(item, parts, tensors) for item in value]
    for name, function in FUNCTIONS.items():
        if value is function:
            return {"function": name}
    if dataclasses.is_dataclass(value) and parts.get(type(value).__name__) is type(value):
        fields = [field for field in dataclasses.fields(value) if field.init]
        coded = {field.name: encode(getattr(value, field.name), parts, tensors) for field in fields}
        return {"part": type(value).__name__, "fields": coded}
    return {"user": getattr(value, "__qualname__", type(value).__qualname__)}


def _decode(code: Any, role: str, parts: Mapping[str, type], arrays: list[Array], *, inside: bool = False) -> Any:
    """The value of JSON; ``inside`` a part numbers are sizes, and none is beyond reason."""
    if isinstance(code, list):
        return tuple(_decode(item, role, parts, arrays, inside=inside) for item in code)
    if not isinstance(code, dict):
        if inside and isinstance(code, int) and abs(code) > MAX_NUMBER:
            raise ValueError(f"{str(code)[:40]} in the {role}")
        return code
    (key, *_) = code
    if key == "dict":
        return {name: _decode(item, role, parts, arrays, inside=inside) for name, item in code["dict"].items()}
    if key == "tensor":
        return arrays[range(len(arrays)).index(code["tensor"])]
    if key == "float":
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[code["float"]]
    if key == "function":
        return FUNCTIONS[code["function"]]
    if key == "part":
        fields = code["fields"].items()
        return parts[code["part"]](**{n: _decode(item, role, parts, arrays, inside=True) for n, item in fields})
    raise ConfigurationError(
        expected=f"the {role} that was fitted, which has a part of your own ({str(code['user'])[:80]})",
        got="none",
        fix=f"pass {role}=... to load",
    )
