"""Structures of draws: names, and elements such as ``theta[0]``. Pure NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from neural_vb._text import listed, suggestion
from neural_vb.errors import ConfigurationError, DataError

UNNAMED = "z"  # the name given to draws that are one plain array


def named(values: Any) -> dict[str, np.ndarray]:
    """Return a structure of values as a flat dict of NumPy arrays.

    A mapping or named tuple keeps its names, nested ones joined by a dot; a plain array is named ``z``.
    Sixteen-bit floats become float32, exactly, for neither ArviZ nor netCDF knows them.

    Raises:
        DataError: when a name is not a string, or a value is not a rectangular array of numbers or text.
    """
    if hasattr(values, "_asdict"):
        values = values._asdict()
    if not isinstance(values, Mapping):
        return {UNNAMED: _array(UNNAMED, values)}
    flat: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            raise DataError(
                expected="variables named by non-empty strings",
                got=f"the name {name!r}",
                fix="rename it, for example {'theta': theta}",
            )
        if isinstance(value, Mapping) or hasattr(value, "_asdict"):
            flat.update({f"{name}.{inner}": array for inner, array in named(value).items()})
        else:
            flat[name] = _array(name, value)
    return flat


def columns(draws: Any, *, var_names: Sequence[str] | str | None = None) -> dict[str, np.ndarray]:
    """Split draws into one column [S] per element, labelled ``theta[0]``, ``cov[0, 1]``, and ``tau`` for a scalar.

    Args:
        draws: structure of arrays, each [S, *event]; or one array [S, D], whose elements are ``z[0]``, …, ``z[D - 1]``.
        var_names: variables (all of their elements) or single elements, in the order wanted; all when None.

    Returns:
        Label -> [S], as numbers; views of the input where that is possible.

    Raises:
        DataError: when there are no draws, the variables disagree on S, or a value is not real.
        ConfigurationError: when `var_names` is empty or has a name that does not exist.
    """
    split = {name: _elements(name, array) for name, array in named(draws).items()}
    everything = {label: column for parts in split.values() for label, column in parts.items()}
    sizes = {label: column.size for label, column in everything.items()}
    if not everything or min(sizes.values()) == 0:
        raise DataError(
            expected="at least one draw of at least one variable",
            got="nothing" if not everything else f"{min(sizes, key=sizes.__getitem__)!r} with 0 draws",
            fix="pass draws as {'theta': [S, ...]} or as an array [S, D]",
        )
    if len(set(sizes.values())) > 1:
        shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in named(draws).items())
        raise DataError(
            expected="the same number of draws, the first axis, of every variable", got=shapes, fix="align the draws"
        )
    if var_names is None:
        return everything
    wanted = list(var_names) if isinstance(var_names, Iterable) and not isinstance(var_names, str) else [var_names]
    if not wanted:
        raise ConfigurationError(
            expected="at least one name in `var_names`", got="an empty list", fix=f"choose from {listed(split)}"
        )
    chosen: dict[str, np.ndarray] = {}
    for name in wanted:
        if name not in split and name not in everything:
            raise ConfigurationError(
                expected="names of variables or of their elements in `var_names`",
                got=repr(name),
                fix=suggestion(name, [*split, *everything]),
            )
        chosen.update(split.get(name) or {name: everything[name]})
    return chosen


def _array(name: str, value: Any) -> np.ndarray:
    if np.ma.is_masked(value):
        raise DataError(
            expected=f"{name!r} without missing values",
            got=f"{np.ma.count_masked(value)} masked of {np.size(value)} values",
            fix="drop them, or fill them in",
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            expected=f"{name!r} to be a rectangular array", got=type(value).__name__, fix="pass an array [S, ...]"
        ) from error
    if array.dtype.kind == "O":
        raise DataError(
            expected=f"{name!r} to be an array of numbers or text",
            got=f"an array of Python objects, shape {array.shape}",
            fix="convert it first, for example with numpy.asarray(values, dtype=float)",
        )
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def _elements(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    if array.dtype.kind not in "biuf":
        raise DataError(
            expected=f"{name!r} to be real numbers", got=f"dtype {array.dtype}", fix="leave it out or convert it"
        )
    if array.ndim == 0:
        raise DataError(
            expected=f"{name!r} to have the draws as its first axis",
            got="a single number",
            fix="pass an array [S, ...]",
        )
    if array.ndim == 1:
        return {name: array}
    indices = np.ndindex(*array.shape[1:])
    return {f"{name}[{', '.join(map(str, index))}]": array[(slice(None), *index)] for index in indices}
