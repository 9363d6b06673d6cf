"""Folders that are written whole or not at all.

A new folder is written beside its place under another name, brought to the disk, and renamed. In a folder that exists
already, new files get new names, and the last one, which says which files count, is replaced by a rename: at every
moment the folder holds the old state or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from neural_vb.errors import ConfigurationError, FileFormatError, StorageError

NEW, OLD = ".new", ".old"


def write_folder(path: str | Path, files: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Write files as one folder.

    Args:
        path: of the folder; folders above it are made.
        files: name -> content, the last one being the file that says which others count. When a folder is written
            over, other files of its own keep their content for every name.
        overwrite: replace what such a call has written before.

    Raises:
        ConfigurationError: something exists there already that may not, or cannot, be replaced.
        StorageError: the disk is full or failed; what was there before is as it was.
    """
    folder = Path(path)
    last = list(files)[-1]
    with _named(folder):
        if not os.path.lexists(folder):
            _create(folder, files)
        elif not overwrite:
            raise _exists(folder, "choose another path, remove it, or pass overwrite=True")
        elif not (folder / last).is_file():
            raise _exists(folder, f"choose another path; without {last} in it, it is not replaced")
        else:
            _replace(folder, files, last)


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file, no larger than ``limit`` bytes; never that of a link, a pipe or a device.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        FileFormatError: it is no regular file, or too large.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise _strange(path, "a link")
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _strange(path, "no regular file")
        if found.st_size > limit:
            raise _strange(path, f"{found.st_size} bytes, more than {limit}")
        return file.read(limit + 1)


def clean(parent: Path, name: str) -> None:
    """Remove what killed processes of this machine have left beside ``parent / name``."""
    head = f".{name}.{_host()}."
    with contextlib.suppress(OSError):
        for entry in sorted(os.listdir(parent)):
            if entry.startswith(head) and entry.endswith(NEW) and not _alive(entry[len(head) : -len(NEW)]):
                shutil.rmtree(parent / entry, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    if os.name == "nt":  # which opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(folder: Path, files: Mapping[str, bytes]) -> None:
    os.makedirs(folder.parent, exist_ok=True)
    clean(folder.parent, folder.name)
    temporary = folder.parent / f".{folder.name}.{_host()}.{os.getpid()}-{os.urandom(4).hex()}{NEW}"
    try:
        os.mkdir(temporary)
        for name, content in files.items():
            _write(temporary / name, content)
        sync_folder(temporary)
        os.rename(temporary, folder)  # fails where somebody else has been faster
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        sync_folder(folder.parent)
    except BaseException:
        # It is there, but may not stay: that is not whole.
        os.rename(folder, temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace(folder: Path, files: Mapping[str, bytes], last: str) -> None:
    before = set(os.listdir(folder))
    previous = read_file(folder / last, limit=2**31)
    written: list[str] = []
    try:
        for name, content in files.items():
            written.append(name + NEW)
            _remove(folder / (name + NEW))
            _write(folder / (name + NEW), content)
            if name != last:
                os.replace(folder / (name + NEW), folder / name)
                written += [name] if name not in before else []
        written.append(last + OLD)
        _remove(folder / (last + OLD))
        _write(folder / (last + OLD), previous)
        sync_folder(folder)
        os.replace(folder / (last + NEW), folder / last)
        sync_folder(folder)
    except BaseException:
        # The old state, whether or not the new one had taken its place.
        with contextlib.suppress(OSError):
            if (folder / (last + OLD)).exists() and read_file(folder / last, limit=2**31) != previous:
                os.replace(folder / (last + OLD), folder / last)
        for name in written:
            with contextlib.suppress(OSError):
                _remove(folder / name)
        raise
    ours = {name for name in before | set(written) if name.endswith((NEW, OLD)) or _same_kind(name, files)}
    for name in ours - set(files):
        with contextlib.suppress(OSError):  # the new state is complete; the next save tries again
            _remove(folder / name)


def _same_kind(name: str, files: Mapping[str, bytes]) -> bool:
    """Whether a file has the beginning and the ending of one of ``files``, such as tensors-....safetensors."""
    stem, dot, ending = name.partition(".")
    return any(
        (stem.partition("-")[0], dot, ending) == (other.partition("-")[0], ".", other.partition(".")[2])
        for other in files
    )


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(content)
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and os.path.lexists(folder):  # somebody else has been faster
            raise _exists(folder, "choose another path, or remove it") from error
        raise StorageError(
            expected=f"a folder {folder} that can be written",
            got=f"{error}; what was there before is as it was",
            fix="choose a writable path with free space, and save again",
        ) from error


def _exists(folder: Path, fix: str) -> ConfigurationError:
    return ConfigurationError(expected="a path where nothing exists yet", got=f"{folder}, which exists", fix=fix)


def _strange(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        expected=f"a file {path.name} of a folder that was saved",
        got=f"{what} ({path})",
        fix="check where the folder comes from, or fit and save again",
    )


def _host() -> str:
    return "".join(letter for letter in socket.gethostname() if letter.isalnum()) or "host"


def _alive(token: str) -> bool:
    """Whether the process that has left ``token`` still runs; yes where that cannot be told."""
    try:
        process = int(token.partition("-")[0])
    except ValueError:
        return True
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
