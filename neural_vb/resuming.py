"""Checkpoints of a fit: a folder from which the same call goes on, after a kill, to the same bits.

The folder holds the two newest states, each an archive of its own (``checkpoint-<steps>``), and a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import _checks, archives, atomic, checkpoints, contrasts
from neural_vb._types import Array, Base, Status, Target
from neural_vb.configuration import TrainingConfig
from neural_vb.errors import CheckpointError, ConfigurationError, FileFormatError, StorageError, StorageWarning
from neural_vb.optimiser import TrainingState
from neural_vb.population import Population
from neural_vb.provenance import versions
from neural_vb.training import Snapshot
from neural_vb.warm_start import WarmStart
from neural_vb.whitening import WhitenedTarget

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # no locks on Windows
    fcntl = None

KIND = "checkpoint"
KEPT = 2
EVERY = 10.0  # seconds between two states
LOCK = "lock"
NAME = "checkpoint-"
OURS = re.compile(NAME + "[0-9]{10}")  # what else is in the folder is left alone


class Saved(NamedTuple):
    """Where a fit stood.

    Attributes:
        warm: the warm start.
        snapshot: of training; None before its first window.
    """

    warm: WarmStart
    snapshot: Snapshot | None


class Checkpoints:
    """A locked folder with the states of one call.

    Args:
        folder: where.
        every: seconds between two states.
        call: name -> text of everything that the result depends on, the target apart.
    """

    def __init__(self, folder: Path, every: float, call: Mapping[str, str]) -> None:
        self.folder, self.every, self.call = folder, every, dict(call)
        self._last = time.monotonic()
        self._warm: WarmStart | None = None

    def find(self, target: Target) -> Saved | None:
        """The newest state that can be read, if there is one; the older one is there in case the newest was damaged.

        Raises:
            CheckpointError: it belongs to another call, target or data.
            FileFormatError: there are states, and all are damaged.
        """
        damaged: list[tuple[str, FileFormatError]] = []
        for name in reversed(self._names()):
            try:
                found = archives.read(self.folder / name, KIND, {}, lambda content: self._restored(content, target))
            except FileFormatError as error:
                damaged.append((name, error))
                continue
            for other, _ in damaged:
                shutil.rmtree(self.folder / other, ignore_errors=True)
            self._warm = found.warm
            return found
        if damaged:
            raise damaged[0][1]
        return None

    def begin(self, warm: WarmStart) -> None:
        """Keep the warm start."""
        self._warm = warm
        self._write(None)

    def keep(self, snapshot: Snapshot, now: bool) -> None:
        """Keep a state, if it is the last, or asked for ``now``, or time is up."""
        if snapshot.done or now or time.monotonic() - self._last >= self.every:
            self._write(snapshot)

    def _write(self, snapshot: Snapshot | None) -> None:
        """Write a state and remove the oldest. A full disk ends no fit: its last state is still there."""
        step = 0 if snapshot is None else int(snapshot.state.step)
        path = self.folder / f"{NAME}{step:010d}"
        try:
            archives.write(path, KIND, self._content(snapshot), {}, overwrite=path.exists())
        except StorageError as error:
            warnings.warn(f"no checkpoint at step {step}: {error}", StorageWarning, stacklevel=2)
        else:
            for name in self._names()[:-KEPT]:
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self._last = time.monotonic()

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if OURS.fullmatch(name))

    def _content(self, snapshot: Snapshot | None) -> dict[str, Any]:
        warm = self._warm
        if warm is None:
            raise ValueError("no warm start to keep")
        met = None if warm.met is None else tuple(warm.met[1:])
        content = {
            "call": self.call,
            "witness": checkpoints.witness(warm.target),
            **checkpoints.whitening_content(warm.target.whitening),
            "offset": float(warm.target.offset),
            "max_score": float(warm.target.max_score),
            "base": tuple(np.asarray(part) for part in warm.base),
            "numbers": warm.numbers,
            "jit_compile": warm.jit_compile,
            "met": met,
            "training": None,
        }
        if snapshot is not None:
            names = list(snapshot.rows[0]) if snapshot.rows else []
            content["training"] = {
                "state": tuple(np.asarray(part) for part in snapshot.state),
                "rows": {name: np.array([row[name] for row in snapshot.rows], np.float64) for name in names},
                "end": (snapshot.decay_start, snapshot.decay_steps, snapshot.end),
                "status": tuple(snapshot.status),
                "done": snapshot.done,
            }
        return content

    def _restored(self, content: Mapping[str, Any], target: Target) -> Saved:
        self._confirm_call(content["call"])
        whitening = checkpoints.checked_whitening(content, target.event_size)
        whitened = WhitenedTarget(target, whitening, float(content["offset"]), float(content["max_score"]))
        self._confirm_target(whitened, np.asarray(content["witness"]))
        base = Base(*content["base"])
        met = None if content["met"] is None else Population(base, *content["met"])
        warm = WarmStart(whitened, base, dict(content["numbers"]), bool(content["jit_compile"]), met)
        training = content["training"]
        return Saved(warm, None if training is None else _snapshot(training))

    def _confirm_call(self, then: Mapping[str, str]) -> None:
        names = [name for name in {**then, **self.call} if then.get(name) != self.call.get(name)]
        if "seed" in names and "start" in names:
            names.remove("start")  # points to begin at follow from the seed
        if names:
            differences = (_difference(name, then.get(name), self.call.get(name)) for name in names)
            raise self._another(f"a call with {'; '.join(differences)}")

    def _confirm_target(self, target: WhitenedTarget, then: Array) -> None:
        now = checkpoints.witness(target)
        if now.shape != then.shape or not np.allclose(now, then, rtol=1e-5, atol=1e-5, equal_nan=True):
            raise self._another("a log density with other values at the points that were kept")

    def _another(self, what: str) -> CheckpointError:
        return CheckpointError(
            expected=f"the call whose checkpoints are in {self.folder}",
            got=what,
            fix="repeat that call to go on with it; for another one choose another folder, or remove this one",
        )


def seconds_between(every: Any, checkpoint: Any) -> float:
    """``every``, or its default; ``ConfigurationError`` where it is no positive number, or there is nothing to keep."""
    if every is None:
        return EVERY
    seconds = _checks.positive("every", every)
    if checkpoint is None:
        raise ConfigurationError(
            expected="checkpoint= beside every=, the seconds between two states that are kept there",
            got=f"every={every} and no checkpoint=",
            fix='pass checkpoint="a_folder", or leave every= out',
        )
    return seconds


def call_of(seed: int, config: TrainingConfig, asked: Sequence[Any], points: Array, moments: Any) -> dict[str, str]:
    """Everything but the target that the bits of a fit depend on, as text by name."""
    arrays: list[Array] = []
    parts = json.dumps(archives.encode(tuple(asked[1:]), checkpoints.PARTS, arrays))
    prior = next((part.distribution for part in asked[1:] if isinstance(part, contrasts.Prior)), None)
    with contextlib.suppress(ValueError, TypeError, AttributeError, tf.errors.OpError):  # named when it is tried
        if prior is not None:  # known by its density at the points
            arrays.append(np.asarray(prior.log_prob(tf.cast(points, prior.dtype))))
    sums = [
        hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16] for a in (points, *(moments or ()), *arrays)
    ]
    # A part of the user's own is known by its name alone.
    said = {"seed": seed, "config": config if asked[0] else None, "parts": parts, "start": " ".join(sums)}
    return {name: str(value) for name, value in said.items()} | versions(config.jit_compile, tf.float32)


@contextlib.contextmanager
def opened(folder: str | Path | None, every: float, call: Mapping[str, str]) -> Iterator[Checkpoints | None]:
    """A folder, locked and cleaned; None without one.

    Raises:
        StorageError: the folder cannot be written.
        CheckpointError: another fit uses it.
    """
    if folder is None:
        yield None
        return
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Of a link the target would be locked, and the opening of a pipe would wait for a reader.
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        lock = os.fdopen(os.open(path / LOCK, flags, 0o666), "wb")
    except OSError as error:
        raise StorageError(
            expected=f"a folder {path} that can be written, for checkpoints",
            got="a file" if path.is_file() else str(error),
            fix="choose a writable path with free space",
        ) from error
    with lock:  # closing it, or the end of the process, sets the folder free
        _acquire(lock, path)
        for name in os.listdir(path):
            if name.startswith(f".{NAME}") and name.endswith(atomic.NEW):
                shutil.rmtree(path / name, ignore_errors=True)
        yield Checkpoints(path, every, call)


def _acquire(lock: Any, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CheckpointError(
            expected=f"a folder {folder} that no other fit uses",
            got="one that is locked by a fit that still runs",
            fix="wait for it, or choose another folder",
        ) from error


def _snapshot(training: Mapping[str, Any]) -> Snapshot:
    state = TrainingState(*training["state"])
    if len({vector.shape for vector in state[:4]}) != 1 or any(vector.dtype != np.float32 for vector in state[:4]):
        raise ValueError("a state of other shapes")
    columns = {name: values.tolist() for name, values in training["rows"].items()}
    rows = tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    for row in rows:
        row.update({name: int(row[name]) for name in ("step", "last_step")})
    decay_start, decay_steps, end = training["end"]
    return Snapshot(state, rows, decay_start, decay_steps, end, Status(*training["status"]), bool(training["done"]))


def _difference(name: str, then: str | None, now: str | None) -> str:
    """What a user has changed, in the words of the call."""
    if name == "start":  # known by its sum, which says nothing
        return "another start="
    if name == "parts" and then is not None and now is not None:
        pairs = zip(checkpoints.ROLES, json.loads(then), json.loads(now), strict=True)
        return "another " + ", ".join(f"{role}=" for role, one, other in pairs if one != other)
    settings = [(text or "").removeprefix("TrainingConfig(").removesuffix(")").split(", ") for text in (then, now)]
    if name == "config" and len(settings[0]) == len(settings[1]) > 1:
        changed = [pair for pair in zip(*settings, strict=True) if pair[0] != pair[1]]
        return "another config: " + ", ".join(f"{one} there, {other} here" for one, other in changed)
    return f"another {name}: {name}={_short(then)} there, {name}={_short(now)} here"


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 60 else f"{text[:57]}..."
