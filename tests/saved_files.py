"""Saved folders taken apart and put together again, for tests of damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from neural_vb import archives


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit the manifest, with a seal that fits."""
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    manifest["seal"] = archives.seal(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit(folder: Path, **content: Any) -> None:
    change(folder, lambda manifest: manifest["content"].update(content))


def drop(folder: Path, key: str) -> None:
    change(folder, lambda manifest: manifest["content"].pop(key))


def tensors(folder: Path) -> Path:
    (found,) = folder.glob("tensors-*.safetensors")
    return found


def rewrite(folder: Path, edit: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    """Other tensors, with a sum and a size that fit."""
    path = tensors(folder)
    raw = safetensors.numpy.save(edit(safetensors.numpy.load(path.read_bytes())))
    path.unlink()
    digest = hashlib.sha256(raw).hexdigest()
    (folder / archives.file_name(digest)).write_bytes(raw)
    change(folder, lambda manifest: manifest["tensors"].update(sha256=digest, bytes=len(raw)))


def swap(folder: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of the manifest, whose seal stays."""
    path = folder / "manifest.json"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def swap_sealed(folder: Path, old: str, new: str) -> None:
    """The same, with a seal that fits."""
    swap(folder, old.encode(), new.encode())
    change(folder, lambda manifest: None)
