"""Checks of options that many functions share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from neural_vb._text import a_kind, shown
from neural_vb.errors import ConfigurationError

LIMIT = 2**31
MAX_RANK = 4  # longer lists of numbers are data


def whole(name: str, value: Any, least: int = 1) -> int:
    """The value as an int in [least, 2^31 - 1].

    Raises:
        ConfigurationError: it is another number, or none.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value < LIMIT:
        raise ConfigurationError(
            expected=f"{name} as a whole number from {least} to 2**31 - 1",
            got=shown(value),
            fix=f"pass, for example, {name}={least}",
        )
    return int(value)


def flag(name: str, value: Any) -> None:
    """Nothing, if the value is True or False.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ConfigurationError(
            expected=f"{name} as True or False", got=shown(value), fix=f"pass {name}=True or {name}=False"
        )


def instance(name: str, value: Any, kind: type, made_by: str = "") -> None:
    """Nothing, if the value is of that kind or None; ``made_by`` is a call that returns one.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(
            expected=f"{name} as a {kind.__name__}",
            got=a_kind(value),
            fix=f"pass {name}={made_by or kind.__name__ + '(...)'}, or leave it out",
        )


def mapping(name: str, value: Any, example: str) -> None:
    """Nothing, if the value is a dict or None; ``example`` is one.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(
            expected=f"{name} as a dict, such as {example}",
            got=a_kind(value),
            fix=f"pass, for example, {name}={example}",
        )


def seed(value: Any) -> int:
    """A seed as an int in [0, 2^31 - 1]; errors as in :func:`whole`."""
    return whole("seed", value, 0)


def later(value: int, by: int) -> int:
    """Another seed, ``by`` further; after the last comes the first."""
    return (value + by) % LIMIT


def folder(name: str, value: Any) -> None:
    """Nothing, if the value is a path.

    Raises:
        ConfigurationError: it is something else, or no system has a path of that name.
    """
    try:
        fits = isinstance(value, str | os.PathLike) and len(os.fspath(value)) > 0 and b"\0" not in os.fsencode(value)
    except (TypeError, ValueError):
        fits = False
    if not fits or isinstance(os.fspath(value), bytes):
        raise ConfigurationError(
            expected=f"{name} as the path of a folder", got=shown(value), fix=f'pass {name}="a_folder"'
        )


def positive(name: str, value: Any) -> float:
    """The value as a float above zero, infinity included.

    Raises:
        ConfigurationError: it is another number, or none.
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool) or not value > 0:
        raise ConfigurationError(
            expected=f"{name} as a positive number", got=shown(value), fix=f"pass, for example, {name}=10.0"
        )
    return float(value)


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int, np.integer),
    "float": (int, float, np.integer, np.floating),
    "bool": (bool, np.bool_),
}


def fields(options: Any) -> None:
    """Nothing, if every int, float and bool among a dataclass's fields holds one.

    Raises:
        ConfigurationError: one holds something else.
    """
    for field in dataclasses.fields(options):
        kinds, value = _KINDS.get(str(field.type)), getattr(options, field.name)
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and field.type != "bool")):
            raise ConfigurationError(
                expected=f"{type(options).__name__}.{field.name} as {field.type}",
                got=shown(value),
                fix=f"pass {field.name} as {field.type}, or leave it out for the default",
            )


def is_shape(value: Any) -> bool:
    """Whether it looks like an ``event_shape``: a number, a list of them, or lists by name."""
    if isinstance(value, Mapping):
        return len(value) > 0 and all(isinstance(part, list | tuple) and is_shape(part) for part in value.values())
    sizes = value if isinstance(value, list | tuple) else [value]
    return len(sizes) <= MAX_RANK and all(type(size) is int and size >= 0 for size in sizes)
