"""Kill processes with signal 9 while they fit and save, and look at what is left: ``python killing.py KILLS SEED``.

A parent that never touches TensorFlow's runtime forks children, so that none of them imports anything anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from faults import CALLS
from test_hostile_files import small_posterior

import neural_vb as nvb
from neural_vb import archives, checkpoints, resuming
from neural_vb.networks import MLP

CONFIG = nvb.TrainingConfig(max_steps=60, min_steps=0, decay_steps=20, window=4, batch_size=16, jit_compile=False)
WITHIN, SAVED = RawValue("b"), RawValue("q")  # shared with the children, so that they outlive them
WRITE = archives.write


def marked_write(*arguments: Any, **keywords: Any) -> None:
    """``archives.write``; a child that is killed within leaves the mark."""
    WITHIN.value = 1
    try:
        WRITE(*arguments, **keywords)
    finally:
        WITHIN.value = 0


def banana(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - z[:, 0] ** 2) / 0.5) ** 2


def fit(folder: Path | None) -> str:
    """A fit, and the sum of all its numbers."""
    network = MLP((8,), output_scale=0.01)
    posterior = nvb.fit(
        banana,
        event_shape=[2],
        start=np.zeros(2),
        config=CONFIG,
        seed=5,
        sampler=nvb.samplers.ResidualSampler(network),
        critic=nvb.critics.MLPCritic(network),
        contrast=nvb.contrasts.MomentMatched(),
        progress=False,
        checkpoint=folder,
        every=None if folder is None else 1e-9,
    )
    history = [np.asarray(values) for values in vars(posterior.history).values() if isinstance(values, np.ndarray)]
    leaves = [leaf.numpy() for leaf in tf.nest.flatten(posterior.parameters)]
    numbers = [*leaves, *history, posterior.sample_unconstrained(100, seed=1)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in numbers)).hexdigest()


def child(work: Callable[[], Any]) -> int:
    """The number of a process that does the work."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def killed(process: int, after: float | None) -> bool:
    """Wait, kill unless it has ended, and tell whether it was a kill that ended it."""
    end = time.monotonic() + (np.inf if after is None else after)
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            end = np.inf
        time.sleep(0.002)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit("a child failed; see above")
    return False


def die_in_save(at: int) -> None:
    """Within saves, the ``at``-th call of the operating system is the last."""
    count, write = [0], archives.write

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            count[0] += 1
            if count[0] > at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        return call

    def saving(*arguments: Any, **keywords: Any) -> None:
        with mock.patch.multiple(os, **{name: wrapped(getattr(os, name)) for name in CALLS}):
            write(*arguments, **keywords)

    archives.write = saving  # the child's own copy of the module


def newest(folder: Path) -> int:
    """The step of the newest state; -1 where there is none, -2 where one that is kept cannot be read."""
    paths = sorted(folder.glob(f"{resuming.NAME}*"))
    for path in paths[-resuming.KEPT :]:  # older ones may be half removed
        try:
            archives.read(path, resuming.KIND, {}, dict)
        except nvb.NeuralVBError as error:
            print(error, file=sys.stderr)
            return -2
    return int(paths[-1].name.removeprefix(resuming.NAME)) if paths else -1


def fits(root: Path, kills: int, rng: np.random.Generator) -> dict[str, int]:
    """Fits killed at random moments and at random calls inside of saves, each until it ends."""
    reference, result = root / "reference", root / "result"
    start = time.monotonic()
    assert not killed(child(lambda: reference.write_text(fit(None))), None)
    duration = time.monotonic() - start

    def work(folder: Path, at: int | None) -> None:
        if at is not None:
            die_in_save(at)
        result.write_text(fit(folder))

    found = {"kills": 0, "inside a save": 0, "fits": 0, "identical": 0, "lost": 0}
    while found["kills"] < kills:
        folder, best = root / f"fit-{found['fits']}", -1
        found["fits"] += 1
        result.unlink(missing_ok=True)
        while True:
            inside = rng.random() < 0.4
            at, after = int(rng.integers(200)), rng.uniform(0.0, 1.0) * duration

            last = found["kills"] >= kills
            if last:
                inside, at = False, 0
            WITHIN.value = 0
            process = child(partial(work, folder, at if inside else None))
            ended = not killed(process, None if inside or last else after)
            step = newest(folder)
            found["lost"] += step < best
            best = max(step, best)
            if ended:
                break
            found["kills"] += 1
            found["inside a save"] += WITHIN.value
        found["identical"] += result.read_text() == reference.read_text()
        print(found, file=sys.stderr, flush=True)
    return found


def saves(root: Path, kills: int, rng: np.random.Generator) -> dict[str, int]:
    """A process that saves two posteriors over each other, killed at random moments, and at random ones of a save."""
    folder = root / "posterior"
    found = {"kills": 0, "inside a save": 0, "whole": 0, "lost": 0}

    def work() -> None:
        posterior = small_posterior()
        for number in range(1, 10**6):
            replace(posterior, seed=number, versions={"number": str(number)}).save(folder, overwrite=True)
            SAVED.value = number

    for kill in range(kills):
        WITHIN.value = SAVED.value = 0
        process = child(work)
        end = time.monotonic() + 60.0  # one that has failed saves no more
        while not SAVED.value and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.05))
        while kill % 2 and not WITHIN.value and time.monotonic() < end:
            time.sleep(rng.uniform(0.0, 0.05))
        assert killed(process, 0.0)
        found["kills"] += 1
        found["inside a save"] += WITHIN.value
        try:
            content = archives.read(folder, "posterior", checkpoints.PARTS, dict)
            whole = SAVED.value <= content["seed"] == int(content["versions"]["number"])
            found["whole" if whole else "lost"] += 1
        except nvb.NeuralVBError:
            found["lost"] += 1
    found["names left over"] = len(os.listdir(folder))
    return found


def main() -> None:
    kills, seed = int(sys.argv[1]), int(sys.argv[2])
    rng = np.random.default_rng(seed)
    archives.write = marked_write
    with tempfile.TemporaryDirectory() as name:
        of_saves = saves(Path(name), kills // 3, rng)
        of_fits = fits(Path(name), kills - kills // 3, rng)
    print(json.dumps({"saves": of_saves, "fits": of_fits}))


if __name__ == "__main__":
    main()
