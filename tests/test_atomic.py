"""Writing folders whole: a disk that fills up or fails, or a kill, at every call of the operating system."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from faults import Killed, fault

from neural_vb import atomic
from neural_vb.errors import ConfigurationError, FileFormatError, StorageError

OLD = {"tensors-1.safetensors": b"one" * 1_000, "manifest.json": b"tensors-1.safetensors"}
NEW = {"tensors-2.safetensors": b"two" * 2_000, "manifest.json": b"tensors-2.safetensors"}
MOST = 60  # more than there are calls in a save


def read(folder: Path) -> dict[str, bytes]:
    """The manifest, and the file that it names: what a reader sees."""
    manifest = (folder / "manifest.json").read_bytes()
    return {manifest.decode(): (folder / manifest.decode()).read_bytes(), "manifest.json": manifest}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def number_of_calls(folder: Path, files: dict[str, bytes], *, overwrite: bool) -> int:
    with fault("EIO", -1) as calls:
        atomic.write_folder(folder, files, overwrite=overwrite)
    assert {"open", "write", "fsync", "close"} < set(calls) and len(calls) < MOST
    return len(calls)


def test_what_is_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    atomic.write_folder(tmp_path / "above" / "a", OLD)
    assert read(tmp_path / "above" / "a") == OLD and names(tmp_path / "above") == {"a"}
    atomic.write_folder(tmp_path / "above" / "a", NEW, overwrite=True)
    assert read(tmp_path / "above" / "a") == NEW and names(tmp_path / "above" / "a") == set(NEW)
    atomic.write_folder(tmp_path / "above" / "a", NEW, overwrite=True)  # the same once more
    assert read(tmp_path / "above" / "a") == NEW and names(tmp_path / "above" / "a") == set(NEW)
    assert names(tmp_path / "above") == {"a"}


def test_nothing_of_others_is_replaced(tmp_path: Path) -> None:
    atomic.write_folder(tmp_path / "a", OLD)
    with pytest.raises(ConfigurationError, match=r"which exists. Fix: .* or pass overwrite=True"):
        atomic.write_folder(tmp_path / "a", NEW)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(ConfigurationError, match=r"without manifest\.json in it, it is not replaced"):
        atomic.write_folder(tmp_path / "b", NEW, overwrite=True)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    atomic.write_folder(tmp_path / "a", NEW, overwrite=True)
    assert read(tmp_path / "a") == NEW and names(tmp_path / "a") == {*NEW, "notes.txt"}


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "torn"])
def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path, kind: str) -> None:
    count, failed = number_of_calls(tmp_path / "count", OLD, overwrite=False), 0
    for at in range(count):
        parent = tmp_path / str(at)
        parent.mkdir()
        try:
            with fault(kind, at):
                atomic.write_folder(parent / "a", OLD)
        except StorageError as error:
            failed += 1
            assert f"[Errno {errno.ENOSPC if kind == 'ENOSPC' else errno.EIO}]" in error.got
            assert "what was there before is as it was" in error.got and "free space" in error.fix
            # A disk that cannot even remove a file keeps it; the next save does.
            assert all(name.endswith(".new") for name in names(parent)) and (kind == "EIO" or not names(parent))
        else:
            assert read(parent / "a") == OLD
    assert failed >= {"ENOSPC": count // 2, "EIO": count // 2, "torn": 2}[kind]


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "torn"])
def test_what_was_there_before_survives_a_failed_save(tmp_path: Path, kind: str) -> None:
    atomic.write_folder(tmp_path / "count", OLD)
    count, failed = number_of_calls(tmp_path / "count", NEW, overwrite=True), 0
    for at in range(count):
        folder = tmp_path / str(at)
        atomic.write_folder(folder, OLD)
        try:
            with fault(kind, at):
                atomic.write_folder(folder, NEW, overwrite=True)
        except StorageError:
            failed += 1
            assert read(folder) == OLD and names(folder) == set(OLD)
        else:
            assert read(folder) == NEW
        atomic.write_folder(folder, NEW, overwrite=True)
        assert read(folder) == NEW and names(folder) == set(NEW)
    assert failed >= {"ENOSPC": count // 2, "EIO": count // 2, "torn": 3}[kind]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_leaves_the_old_state_or_the_new(
    tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic.write_folder(tmp_path / "count", OLD)
    count = number_of_calls(tmp_path / ("count" if overwrite else "first"), NEW, overwrite=overwrite)
    monkeypatch.setattr(atomic, "_alive", lambda token: False)  # the killed process, which is this one, counts as dead
    seen = set()
    for at in range(count):
        parent = tmp_path / str(at)
        if overwrite:
            atomic.write_folder(parent / "a", OLD)
        with pytest.raises(Killed), fault("kill", at):
            atomic.write_folder(parent / "a", NEW, overwrite=overwrite)
        found = read(parent / "a") if (parent / "a").exists() else None
        assert found in ((OLD, NEW) if overwrite else (None, NEW))
        seen.add(found == NEW)
        atomic.write_folder(parent / "a", NEW, overwrite=True)
        assert read(parent / "a") == NEW and names(parent / "a") == set(NEW)
        assert names(parent) == {"a"} or found == NEW
    assert seen == {False, True}


def test_orphans_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    host = atomic._host()
    dead, alive = tmp_path / f".a.{host}.{2**22 + 1}-00.new", tmp_path / f".a.{host}.{os.getpid()}-00.new"
    elsewhere = tmp_path / ".a.elsewhere.4194305-00.new"
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
    atomic.write_folder(tmp_path / "a", OLD)
    assert names(tmp_path) == {"a", alive.name, elsewhere.name}


def test_of_many_threads_one_makes_the_folder_and_the_others_are_told(tmp_path: Path) -> None:
    results: list[object] = []

    def save() -> None:
        try:
            atomic.write_folder(tmp_path / "a", OLD)
            results.append("made")
        except ConfigurationError:
            results.append("told")

    threads = [threading.Thread(target=save) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["made"] + ["told"] * 7
    assert read(tmp_path / "a") == OLD and names(tmp_path) == {"a"}


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert atomic.read_file(tmp_path / "file", limit=5) == b"12345"
    with pytest.raises(FileFormatError, match="5 bytes, more than 4"):
        atomic.read_file(tmp_path / "file", limit=4)
    with pytest.raises(FileFormatError, match="a link"):
        atomic.read_file(tmp_path / "link", limit=5)
