"""Fragments of messages."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


def suggestion(name: object, known: Iterable[str]) -> str:
    """Advise on a misspelt name: the closest known one, else the known ones."""
    known = list(dict.fromkeys(known))
    close = closest(name, known)
    return f"did you mean {close!r}?" if close else f"choose from {listed(known)}"


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name most like `name`, letter case aside; None when none is much like it."""
    lower = {option.lower(): option for option in known}
    matches = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.6)
    return lower[matches[0]] if matches else None


def listed(names: Iterable[str], limit: int = 12) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def counted(number: int, noun: str) -> str:
    """Such as ``1 point`` and ``2 points``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def with_error(value: float, error: float) -> str:
    """A number with its standard error, in three decimals, or in as many more as show the error: at most six."""
    decimals = min(max(3, math.ceil(-math.log10(error))), 6) if 0.0 < error < math.inf else 3
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


_KINDS = {"ndarray": "array", "EagerTensor": "tensor", "SymbolicTensor": "tensor"}


def a_kind(value: object) -> str:
    """What a value is, with its article: ``a list``, ``an int``."""
    return "None" if value is None else with_article(_KINDS.get(type(value).__name__, type(value).__name__))


def a_kind_or_class(value: object) -> str:
    """The same, but a class by its name, as it is often taken for an instance: ``the class Normal``."""
    return f"the class {value.__name__}" if isinstance(value, type) else a_kind(value)


def with_article(noun: str) -> str:
    """``a posterior``, ``an Exponential``."""
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"


def shown(value: object, limit: int = 200) -> str:
    """What a user has passed, to be quoted in an error; its kind alone where it cannot say what it is."""
    try:
        text = repr(value)
    except Exception:
        return a_kind(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


_BOILERPLATE = ("Graph execution error", "Detected at node", "File ", "<stack traces", "[[{{node")


def first_line(error: BaseException, limit: int = 300) -> str:
    """Kind and first line of an exception, to be quoted in an error of ours; TensorFlow's: the first that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_BOILERPLATE)] or lines or ["no message"]
    said = telling[0].split(" for '{{node")[0]
    return f"{type(error).__name__}: {said[:limit]}"
