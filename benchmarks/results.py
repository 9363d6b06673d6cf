"""Result files: one JSON object per (problem, method, seed)."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1
PACKAGES = ("neural_vb", "tensorflow", "tensorflow_probability", "numpy", "jax", "numpyro", "blackjax", "nutpie")


def result_path(out: Path, problem: str, method: str, seed: int) -> Path:
    """Where the result of a run belongs."""
    return out / f"{problem}.{method}.seed{seed}.json"


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def write_json(path: Path, value: Any) -> None:
    """Write so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_result(path: Path) -> dict[str, Any] | None:
    """A stored result; None when there is no file, or one that is not a result of this schema."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def is_finished(path: Path) -> bool:
    """Whether the run need not be repeated; failed runs are."""
    found = read_result(path)
    return found is not None and "error" not in found


def read_results(out: Path) -> list[dict[str, Any]]:
    """All results in a folder, in order of file names."""
    found = (read_result(path) for path in sorted(out.glob("*.seed*.json")))
    return [result for result in found if result is not None]


def machine() -> dict[str, Any]:
    """Versions and hardware, for the record."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"python": platform.python_version(), "platform": platform.platform(), "cpus": cpus, "versions": versions}
