"""Disks that fill up or fail, and processes that die, at the n-th call of the operating system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

CALLS = ("open", "write", "fsync", "close", "replace", "rename", "mkdir", "unlink", "rmdir", "listdir")
FILLING = ("write", "fsync", "mkdir")  # what a full disk refuses, beside opening a new file


class Killed(BaseException):
    """The process is no more: nothing that it still wants to do happens."""


@contextmanager
def fault(kind: str, at: int) -> Iterator[list[str]]:
    """Within, the ``at``-th call goes wrong; yields the names of the calls so far.

    Args:
        kind: "ENOSPC", from then on for all that needs space; "EIO", once; "torn", a write of half the bytes and then
            an error; "kill", and everything after it.
        at: number of the call, from 0; -1 for none.
    """
    calls: list[str] = []

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            number = len(calls)
            calls.append(name)
            fires = 0 <= at <= number
            if fires and kind == "kill":
                raise Killed
            if fires and kind == "ENOSPC":
                creates = name == "open" and len(arguments) > 1 and arguments[1] & os.O_CREAT
                if name in FILLING or creates:
                    raise OSError(errno.ENOSPC, "No space left on device")
            if number == at and kind == "torn" and name == "write":
                original(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(errno.EIO, "Input/output error")
            if number == at and kind == "EIO":
                if name == "close":
                    original(*arguments, **keywords)
                raise OSError(errno.EIO, "Input/output error")
            return original(*arguments, **keywords)

        return call

    with mock.patch.multiple(os, **{name: wrapped(name, getattr(os, name)) for name in CALLS}):
        yield calls
