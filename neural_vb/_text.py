"""Fragments of error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'tau'?)``, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def first_line(error: BaseException) -> str:
    """Kind and first line of an exception, to be quoted in an error of ours."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
