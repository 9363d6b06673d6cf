"""Checkpoints of a fit: a killed one goes on to the same bits, and a folder is of one call and one process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from faults import Killed, fault

import neural_vb as nvb
from neural_vb import fitting, resuming, warm_start
from neural_vb.networks import MLP

CONFIG = nvb.TrainingConfig(max_steps=60, min_steps=0, decay_steps=20, window=10, batch_size=16, jit_compile=False)
NETWORK = MLP((8,), output_scale=0.01)


def banana(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - z[:, 0] ** 2) / 0.5) ** 2


def fit(folder: Path | None = None, target: Callable = banana, **options: Any) -> nvb.Posterior:
    options = {"config": CONFIG, "seed": 3, "every": None if folder is None else 1e-9} | options
    return nvb.fit(
        target,
        event_shape=[2],
        start=options.pop("start", np.zeros(2)),
        sampler=nvb.samplers.ResidualSampler(NETWORK),
        critic=nvb.critics.MLPCritic(NETWORK),
        contrast=options.pop("contrast", nvb.contrasts.MomentMatched()),
        progress=False,
        checkpoint=folder,
        **options,
    )


def assert_same(one: nvb.Posterior, other: nvb.Posterior) -> None:
    for a, b in zip(tf.nest.flatten(one.parameters), tf.nest.flatten(other.parameters), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, value in vars(one.history).items():
        np.testing.assert_array_equal(getattr(other.history, name), value)
    assert (one.status, one.notes, one.versions, one.seed) == (other.status, other.notes, other.versions, other.seed)
    np.testing.assert_array_equal(one.whitened.whitening.scale_tril, other.whitened.whitening.scale_tril)
    np.testing.assert_array_equal(one.sample(50, seed=1), other.sample(50, seed=1))


WARM: list[Any] = []


def remembered(target: Any, **options: Any) -> Any:
    """The warm start, made once for all fits of this module."""
    if not WARM:
        WARM.append(warm_start.warm_start(target, **options))
    return WARM[0]._replace(target=replace(WARM[0].target, target=target))


@pytest.fixture(autouse=True)
def one_warm_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "warm_start", remembered)


def no_warm_start(target: Any, **options: Any) -> None:
    pytest.fail("the warm start was made anew")


@pytest.fixture(scope="module")
def whole() -> nvb.Posterior:
    """The fit that nothing interrupted, with a warm start of its own."""
    return fit()


def kill_at(step: int) -> Callable[[int, Mapping[str, float]], None]:
    def callback(now: int, metrics: Mapping[str, float]) -> None:
        if now == step:
            raise Killed

    return callback


def folders(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_checkpoints_change_no_bit_and_a_finished_call_returns_at_once(
    whole: nvb.Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(fit(tmp_path / "above" / "a"), whole)
    kept = folders(tmp_path / "above" / "a")
    assert kept == ["checkpoint-0000000070", "checkpoint-0000000080", "lock"]
    monkeypatch.setattr(fitting, "warm_start", no_warm_start)
    steps: list[int] = []
    assert_same(fit(tmp_path / "above" / "a", callbacks=[lambda step, metrics: steps.append(step)]), whole)
    assert steps == [] and folders(tmp_path / "above" / "a") == kept


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit that was killed when it had made forty steps, and had kept thirty."""
    folder = tmp_path_factory.mktemp("killed") / "a"
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "warm_start", remembered)
        fit(folder, callbacks=[kill_at(40)])
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(killed_once, tmp_path / "a")
    return tmp_path / "a"


def test_a_killed_fit_goes_on_to_the_same_bits(whole: nvb.Posterior, killed: Path) -> None:
    assert folders(killed) == ["checkpoint-0000000020", "checkpoint-0000000030", "lock"]
    seen: list[int] = []
    assert_same(fit(killed, callbacks=[lambda now, metrics: seen.append(now)]), whole)
    assert seen == [40, 50, 60, 70, 80]


def test_a_fit_without_a_window_goes_on_from_its_warm_start(
    whole: nvb.Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, callbacks=[kill_at(10)], every=np.inf)
    assert folders(tmp_path) == ["checkpoint-0000000000", "lock"]
    monkeypatch.setattr(fitting, "warm_start", no_warm_start)
    assert_same(fit(tmp_path), whole)


def test_a_posterior_that_is_met_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "warm_start", warm_start.warm_start)
    normal = lambda z: -0.5 * tf.reduce_sum(z**2, -1)  # noqa: E731
    first = nvb.fit(normal, event_shape=[2], progress=False, checkpoint=tmp_path)
    assert first.status.reason == "met"
    monkeypatch.setattr(fitting, "warm_start", no_warm_start)
    assert_same(nvb.fit(normal, event_shape=[2], progress=False, checkpoint=tmp_path), first)


def test_ctrl_c_keeps_a_state_and_the_call_goes_on(whole: nvb.Posterior, tmp_path: Path) -> None:
    def interrupt(step: int, metrics: Mapping[str, float]) -> None:
        if step == 40:
            raise KeyboardInterrupt

    partial = fit(tmp_path, callbacks=[interrupt], every=np.inf)
    assert partial.status.advice == "repeat the same call to go on from the checkpoint"
    assert partial.status.reason == "interrupted" and np.isfinite(partial.sample(10)).all()
    assert_same(fit(tmp_path), whole)


def test_a_continued_posterior_goes_on_too(whole: nvb.Posterior, tmp_path: Path) -> None:
    def more(folder: Path | None, **options: Any) -> nvb.Posterior:
        options |= {"config": CONFIG, "seed": 1, "progress": False, "event_shape": [2], "start": whole}
        return nvb.fit(banana, **options, checkpoint=folder, every=None if folder is None else 1e-9)

    with pytest.raises(Killed):
        more(tmp_path, callbacks=[kill_at(40)])
    assert_same(more(tmp_path), more(None))


# What a folder is not for.


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 4}, r"got a call with another seed: seed=3 there, seed=4 here\. Fix"),
    "config": (
        {"config": nvb.TrainingConfig(max_steps=61, jit_compile=False)},
        r"another config: max_steps=[0-9]+ there, max_steps=61 here",
    ),
    "parts": ({"contrast": nvb.contrasts.MomentMatched(diagonal=True)}, r"got a call with another contrast=\. Fix"),
    "start": ({"start": np.array([0.5, 0.5])}, r"got a call with another start=\. Fix"),
    "target": ({"target": lambda z: banana(z) - 0.01 * z[:, 0]}, "a log density with other values at the points"),
}


@pytest.mark.parametrize(("change", "what"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_call_is_refused_and_the_folder_stays(killed: Path, change: dict[str, Any], what: str) -> None:
    before = folders(killed)
    with pytest.raises(nvb.errors.CheckpointError, match=what) as error:
        fit(killed, **change)
    assert "remove this one" in error.value.fix and folders(killed) == before


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    errors: list[nvb.NeuralVBError] = []

    def again(step: int, metrics: Mapping[str, float]) -> bool:
        with pytest.raises(nvb.errors.CheckpointError, match="locked by a fit that still runs") as error:
            fit(tmp_path)
        errors.append(error.value)
        return True

    fit(tmp_path, callbacks=[again])
    assert len(errors) == 1
    code = f"""
from neural_vb import errors, resuming
for _ in range(2):
    try:
        with resuming.opened({str(tmp_path)!r}, 1.0, {{}}):
            print("free", flush=True)
    except errors.CheckpointError as error:
        print(error, flush=True)
    input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        with resuming.opened(tmp_path, 1.0, {}):
            assert other.stdout.readline().startswith("Expected a folder")
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "free\n"
        other.communicate("\n")
    assert other.returncode == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(nvb.errors.StorageError, match="for checkpoints; got a file"):
        fit(tmp_path / "file")


@pytest.mark.parametrize("every", [0.0, -1.0, np.nan, "10"])
def test_every_is_a_positive_number(every: Any) -> None:
    with pytest.raises(nvb.errors.ConfigurationError, match="every as a positive number"):
        fit(every=every)


def test_every_without_a_folder_is_named(whole: nvb.Posterior) -> None:
    with pytest.raises(nvb.errors.ConfigurationError, match=r"got every=5\.0 and no checkpoint=\. Fix: pass"):
        nvb.fit(banana, event_shape=[2], every=5.0, progress=False)


# Damage, and what is left behind.


def test_the_older_state_stands_in_for_a_damaged_one_and_orphans_go(whole: nvb.Posterior, killed: Path) -> None:
    (killed / "checkpoint-0000000030" / "manifest.json").write_text("{")
    (killed / ".checkpoint-0000000040.host.1-0.new").mkdir()
    assert_same(fit(killed), whole)
    assert folders(killed) == ["checkpoint-0000000070", "checkpoint-0000000080", "lock"]


def test_what_else_is_in_the_folder_is_left_alone(whole: nvb.Posterior, killed: Path) -> None:
    others = ["checkpoint-0", "checkpoint-0000000001.txt", "checkpoint-z"]
    for name in others:
        (killed / name).mkdir()
    assert_same(fit(killed), whole)
    assert folders(killed) == sorted([*others, "checkpoint-0000000070", "checkpoint-0000000080", "lock"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.parent / "away"), os.mkdir])
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "lock")
    with pytest.raises(nvb.errors.StorageError, match="for checkpoints"):
        fit(tmp_path)
    assert not (tmp_path / "away").exists()


def test_a_folder_of_damaged_states_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-0000000030").mkdir()
    with pytest.raises(nvb.errors.FileFormatError, match=r"of a checkpoint; got .* \(no file manifest\.json\)"):
        fit(tmp_path)


def test_a_full_disk_ends_no_fit_and_leaves_the_last_state(whole: nvb.Posterior, tmp_path: Path) -> None:
    def fill(step: int, metrics: Mapping[str, float]) -> None:
        if step == 40:
            disk.__enter__()

    disk = fault("ENOSPC", 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior = fit(tmp_path, callbacks=[fill])
    disk.__exit__(None, None, None)
    said = [str(one.message) for one in caught if one.category is nvb.errors.StorageWarning]
    assert len(said) == 5 and re.match(r"no checkpoint at step 40: .*No space left.*as it was", said[0])
    assert_same(posterior, whole)
    assert folders(tmp_path) == ["checkpoint-0000000020", "checkpoint-0000000030", "lock"]
