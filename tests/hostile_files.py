"""Random damage and malice for saved folders, one kind for each function, by number."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from saved_files import change, tensors

from neural_vb import archives

Generator = np.random.Generator
NODES = (
    *(0, -1, 1, 2**24, 2**31, 2**63, 10**30, 1e308, 0.5, True, False, None, "", "../../etc/passwd", "/dev/zero", "nan"),
    *([], {}, [[]], [0] * 1_000, {"tensor": 0}, {"tensor": -1}, {"tensor": 10**9}, {"tensor": "0"}, {"float": "1e9"}),
    *({"function": "system"}, {"function": "tanh"}, {"part": "MLP", "fields": {}}, {"part": "os", "fields": {}}),
    *({"dict": {}}, {"dict": []}, {"user": "x"}, {"user": ["x"] * 99}, {"part": "MLP", "fields": {"hidden": [2**40]}}),
    *({"py/object": "os.system"}, {"__reduce__": "os.system"}, "x" * 10**5, [[[[[[[[]]]]]]]]),
)


class Exploit:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


def _file(folder: Path, rng: Generator) -> Path:
    return folder / "manifest.json" if rng.random() < 0.5 else tensors(folder)


def flip_bits(folder: Path, rng: Generator) -> None:
    path = _file(folder, rng)
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content), size=rng.integers(1, 9)):
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def truncate(folder: Path, rng: Generator) -> None:
    path = _file(folder, rng)
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def insert_or_delete(folder: Path, rng: Generator) -> None:
    path = _file(folder, rng)
    content = path.read_bytes()
    place, length = int(rng.integers(len(content))), int(rng.integers(1, 100))
    new = rng.bytes(length) if rng.random() < 0.5 else b""
    path.write_bytes(content[:place] + new + content[place + (0 if new else length) :])


def replace_file(folder: Path, rng: Generator) -> None:
    contents = (b"", b"\0" * 64, pickle.dumps(Exploit()), b"PK\3\4" + rng.bytes(99), rng.bytes(10_000), b"{}", b"null")
    _file(folder, rng).write_bytes(contents[rng.integers(len(contents))])


def link_or_pipe(folder: Path, rng: Generator) -> None:
    path = _file(folder, rng)
    kept = folder.parent / f"{folder.name}-kept"
    path.rename(kept)
    kind = rng.integers(6)
    if kind < 4:
        path.symlink_to((kept, "/etc/passwd", path.name, "/dev/zero")[kind])
    elif kind == 4:
        os.mkfifo(path)
    else:
        path.mkdir()


def bomb(folder: Path, rng: Generator) -> None:
    texts = (
        "[" * 200_000,
        '{"a":' * 100_000,
        '"' + "x" * (5 * 2**20) + '"',
        "9" * 10**6,
        "[" + "0," * 10**6 + "0]",
        "1e999",
    )
    text = texts[rng.integers(len(texts))]
    if rng.random() < 0.5:
        (folder / "manifest.json").write_text(text)
    else:
        path = folder / "manifest.json"
        path.write_text(path.read_text().replace('"seed": 0', '"seed": ' + text, 1))


def change_nodes(folder: Path, rng: Generator) -> None:
    """Other values, missing or new names in the manifest, with a seal that fits."""

    def edit(manifest: dict[str, Any]) -> None:
        for _ in range(rng.integers(1, 4)):
            places: list[tuple[Any, Any]] = []

            def walk(node: Any, places: list[tuple[Any, Any]] = places) -> None:
                for key in list(node) if isinstance(node, dict) else range(len(node)):
                    places.append((node, key))
                    if isinstance(node[key], dict | list):
                        walk(node[key])

            walk(manifest if rng.random() < 0.2 else manifest["content"])
            if not places:
                return
            node, key = places[rng.integers(len(places))]
            action = rng.random()
            if action < 0.15 and isinstance(node, dict):
                del node[key]
            elif action < 0.25 and isinstance(node, dict):
                node["else" if rng.random() < 0.5 else "__class__"] = node.pop(key)
            elif action < 0.5:
                other, name = places[rng.integers(len(places))]
                node[key] = json.loads(json.dumps(other[name]))
            else:
                node[key] = json.loads(json.dumps(NODES[rng.integers(len(NODES))]))

    change(folder, edit)


def _sealed(folder: Path, raw: bytes, arrays: Any = None) -> None:
    tensors(folder).unlink()
    digest = hashlib.sha256(raw).hexdigest()
    (folder / archives.file_name(digest)).write_bytes(raw)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["tensors"] |= {"sha256": digest, "bytes": len(raw)} | ({} if arrays is None else {"arrays": arrays})

    change(folder, edit)


def change_tensors(folder: Path, rng: Generator) -> None:
    """Other shapes, types and values, with sums and shapes in the manifest that fit."""
    arrays = safetensors.numpy.load(tensors(folder).read_bytes())
    for _ in range(rng.integers(1, 4)):
        name = f"tensor_{rng.integers(len(arrays))}"
        value = arrays[name]
        options: tuple[Callable[[], Any], ...] = (
            lambda value=value: value[np.newaxis],
            lambda value=value: value.ravel(),
            lambda value=value: value.T,
            lambda value=value: np.zeros(rng.integers(0, 5, size=rng.integers(0, 5)), value.dtype),
            lambda value=value: value.astype(rng.choice(["float64", "float32", "float16", "int64", "int32", "uint8"])),
            lambda value=value: np.full_like(value, rng.choice([0, 1, -1])),
            lambda value=value: np.full(value.shape, rng.choice([np.nan, np.inf, -np.inf, 1e300])),
            lambda: arrays[f"tensor_{rng.integers(len(arrays))}"],
            lambda value=value: np.zeros((*value.shape, 10_000), np.uint8),
        )
        with np.errstate(all="ignore"):
            arrays[name] = np.ascontiguousarray(options[rng.integers(len(options))]())
    listed = [[arrays[f"tensor_{i}"].dtype.name, list(arrays[f"tensor_{i}"].shape)] for i in range(len(arrays))]
    _sealed(folder, safetensors.numpy.save(arrays), listed)


def change_header(folder: Path, rng: Generator) -> None:
    """Of the tensors: sizes, offsets, shapes and types that lie, under a sum that fits."""
    raw = tensors(folder).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[names[rng.integers(len(names))]]
    kind = rng.integers(6)
    if kind == 0:
        _sealed(folder, struct.pack("<Q", (2**63, 2**32, 0, length + 1, len(raw))[rng.integers(5)]) + raw[8:])
        return
    if kind == 1:
        entry["shape"] = [[2**62, 4], [-1], [2**40] * 8, [], ["3"], None][rng.integers(6)]
    elif kind == 2:
        entry["data_offsets"] = [[0, 2**62], [-4, 4], [8, 4], [0, 0], [0], "0"][rng.integers(6)]
    elif kind == 3:
        entry["dtype"] = ["object", "F8", "V8", "F64", "", None][rng.integers(6)]
    elif kind == 4:
        header = json.loads("[" * 100 + "]" * 100)
    else:
        header["__metadata__"] = {"code": "import os"} if rng.random() < 0.5 else {"a": {"b": []}}
    text = json.dumps(header).encode()
    _sealed(folder, struct.pack("<Q", len(text)) + text + raw[8 + length :])


HONEST = (flip_bits, truncate, insert_or_delete, replace_file, link_or_pipe, bomb)
SEALED = (change_nodes, change_tensors, change_header)


def mutant(original: Path, folder: Path, number: int) -> Callable[[Path, Generator], None]:
    """A copy of ``original`` in ``folder`` with damage of the given number; returns the kind."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder.parent / f"{folder.name}-kept").unlink(missing_ok=True)
    shutil.copytree(original, folder)
    kinds = HONEST + SEALED
    kind = kinds[number % len(kinds)]
    kind(folder, np.random.default_rng(number))
    return kind
