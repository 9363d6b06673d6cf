"""Structures of draws and data as ArviZ data: `InferenceData` with ArviZ 0.x, an xarray `DataTree` with ArviZ 1.x."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from neural_vb import _checks
from neural_vb._text import closest, shown, suggestion
from neural_vb._version import __version__
from neural_vb.draws import named
from neural_vb.errors import ConfigurationError, DataError, MissingDependencyError

SAMPLE_AXES = ("chain", "draw")
# Their event need not be the variable's own: an unconstrained simplex is shorter, and a log likelihood has summed over
# the event of one observation. There names are given as far as they fit.
RESHAPED_GROUPS = ("unconstrained_posterior", "log_likelihood")


def to_arviz(
    groups: Mapping[str, Any],
    *,
    coords: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str] | str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    chains: bool = False,
) -> Any:
    """Convert groups of draws and data to the data structure of the ArviZ that is installed.

    Groups whose name ends in ``_data`` (``observed_data``, ``constant_data``) hold plain arrays. All others
    (``posterior``, ``sample_stats``, ``prior_predictive``, …, and names of your own) hold draws, [S, *event], and get
    one chain. dtypes are kept, so values survive netCDF bit by bit.

    Args:
        groups: group -> {variable: array}, or group -> array, which is then named ``z``.
        coords: dimension -> labels, as many as the dimension is long. Those of unused dimensions are ignored.
        dims: variable -> names of its event dimensions, without ``chain`` and ``draw``; those of a variable without an
            entry are called ``theta_dim_0``, ….
        attributes: written to every group; None becomes "", a bool an int, and a structure JSON, for netCDF has none.
        chains: whether draws come as [C, S, *event] instead.

    Returns:
        ``arviz.InferenceData`` (ArviZ 0.x) or ``xarray.DataTree`` (ArviZ 1.x, or arviz-base alone).

    Raises:
        MissingDependencyError: when ArviZ is not installed.
        DataError: when a group is empty, an array has a shape or dtype that cannot be, or a variable and a dimension
            share a name.
        ConfigurationError: when `coords` or `dims` do not fit the shapes, or misspell a name.

    Example:
        >>> import numpy as np
        >>> groups = {"posterior": {"theta": np.zeros([100, 2])}}
        >>> data = to_arviz(groups, coords={"school": ["a", "b"]}, dims={"theta": "school"})
        >>> dict(data["posterior"].sizes)
        {'chain': 1, 'draw': 100, 'school': 2}
    """
    arviz = _import_arviz()
    _checks.mapping("coords", coords, '{"school": ["A", "B"]}')
    _checks.mapping("dims", dims, '{"theta": ["school"]}')
    labels = {name: _labels(name, values) for name, values in (coords or {}).items()}
    names = {variable: _dimension_names(variable, value) for variable, value in (dims or {}).items()}
    tables = {group: _arrays(group, values, chains) for group, values in groups.items()}
    if not tables:
        raise DataError(expected="at least one group", got="none", fix="pass {'posterior': {'theta': [S, ...]}}")
    _check_spelling(tables, names, labels)
    attrs = _attributes(arviz, attributes or {})
    datasets = {group: _dataset(group, arrays, names, labels, attrs) for group, arrays in tables.items()}
    return _container(arviz, datasets)


def _import_arviz() -> Any:
    for name in ("arviz", "arviz_base"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingDependencyError(
        expected="ArviZ to convert draws", got="no module named arviz", fix="pip install arviz"
    )


def _is_old(arviz: Any) -> bool:
    """ArviZ 0.x, by the name of an argument: asking 1.x for `InferenceData` warns and returns something else."""
    return "default_dims" in inspect.signature(arviz.dict_to_dataset).parameters


def _container(arviz: Any, datasets: dict[str, Any]) -> Any:
    """Data sets are built here and not by `from_dict`, which drops groups it does not know (0.x), or
    takes a group for data by a substring of its name (1.x), and makes a scalar an array (0.x)."""
    if _is_old(arviz):
        return arviz.InferenceData(**datasets)
    import xarray

    return xarray.DataTree.from_dict(datasets)


def _attributes(arviz: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """ArviZ's own attributes (time and maker), ours, and the user's."""
    ours = {"inference_library": "neural_vb", "inference_library_version": __version__}
    plain = {str(key): _netcdf_attribute(value) for key, value in attributes.items()}
    return dict(arviz.dict_to_dataset({}, attrs=ours | plain).attrs)


def _netcdf_attribute(value: Any) -> str | int | float:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None:
        return ""
    if isinstance(value, (bool, float)):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, default=lambda part: part.tolist() if hasattr(part, "tolist") else str(part))
    return str(value)


def _labels(name: str, values: Any) -> np.ndarray:
    if name in SAMPLE_AXES:
        raise ConfigurationError(
            expected="`coords` of event dimensions", got=repr(name), fix=f"leave {name!r} out: it is added for you"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        array = None
    if array is None or array.ndim != 1:
        raise ConfigurationError(
            expected=f"a list of labels for the dimension {name!r} in `coords`",
            got="rows of different lengths" if array is None else f"shape {array.shape}",
            fix=f"pass {{{name!r}: [one label per position]}}",
        )
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array):
        return array.astype(str)
    return array


def _dimension_names(variable: str, value: Sequence[str] | str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            expected=f"names of the dimensions of {variable!r} in `dims`",
            got=shown(value),
            fix=f"pass {{{variable!r}: [one name for each axis of its event]}}",
        )
    clash = [name for name in names if name in SAMPLE_AXES]
    if clash:
        raise ConfigurationError(
            expected=f"the event dimensions of {variable!r} in `dims`",
            got=repr(list(names)),
            fix=f"leave {clash[0]!r} out: chain and draw are added for you",
        )
    if len(set(names)) < len(names):
        raise ConfigurationError(
            expected=f"different names for the dimensions of {variable!r} in `dims`",
            got=repr(list(names)),
            fix="rename one of them, for example with a suffix",
        )
    return names


def _check_spelling(tables: Mapping[str, Mapping[str, Any]], names: Mapping[str, Any], labels: Iterable[str]) -> None:
    """Names that fit nothing are ignored, as one dict may serve several calls, unless they look like a slip."""
    variables = {variable for arrays in tables.values() for variable in arrays}
    for variable in set(names) - variables:
        if closest(variable, variables - set(names)):
            raise ConfigurationError(
                expected="names of variables in `dims`",
                got=repr(variable),
                fix=suggestion(variable, variables - set(names)),
            )
    used = {dimension for value in names.values() for dimension in value}
    for dimension in set(labels) - used:
        if closest(dimension, used - set(labels)):
            raise ConfigurationError(
                expected="names in `coords` that appear in `dims`",
                got=repr(dimension),
                fix=suggestion(dimension, used - set(labels)),
            )


def _is_data(group: str) -> bool:
    return group.endswith("_data")


def _arrays(group: str, values: Any, chains: bool) -> dict[str, np.ndarray]:
    """Check one group and give every variable its final axes."""
    if not isinstance(group, str) or not group.isidentifier():
        raise DataError(expected="groups named like Python variables", got=repr(group), fix="use letters, digits and _")
    arrays = named(values)
    if not arrays:
        raise DataError(expected=f"variables in the group {group!r}", got="none", fix="leave the group out")
    for name, array in arrays.items():
        _check_variable(group, name, array)
    if _is_data(group):
        return arrays
    needed = len(SAMPLE_AXES) if chains else 1
    for name, array in arrays.items():
        if array.ndim < needed or 0 in array.shape[:needed]:
            axes = "[C, S, ...]" if chains else "[S, ...]"
            raise DataError(
                expected=f"draws of {group}.{name}, shape {axes} with at least one draw",
                got=f"shape {array.shape}",
                fix="put the draws first, or pass plain data in a group that ends in _data",
            )
    counts = {name: array.shape[:needed] for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            expected=f"the same number of draws of every variable in {group!r}",
            got=", ".join(f"{name} {array.shape}" for name, array in arrays.items()),
            fix="draw all of them together, or use another group",
        )
    return arrays if chains else {name: array[np.newaxis] for name, array in arrays.items()}


def _check_variable(group: str, name: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "biufUS" or (array.dtype.itemsize > 8 and array.dtype.kind in "f"):
        raise DataError(
            expected=f"{group}.{name} in a dtype that netCDF can hold (bool, integers, float32, float64, text)",
            got=str(array.dtype),
            fix="convert it first; split a complex array into real and imaginary parts",
        )
    if "/" in name:
        raise DataError(
            expected="variable names without a slash, which separates groups in files",
            got=repr(name),
            fix=f"rename it {name.replace('/', '_')!r}",
        )
    if name in SAMPLE_AXES:
        raise DataError(
            expected="variables that are not called chain or draw, the names of the sample dimensions",
            got=f"{group}.{name}",
            fix=f"rename it, for example {name + 's'!r}",
        )


def _event_dims(
    group: str,
    name: str,
    shape: tuple[int, ...],
    names: Mapping[str, tuple[str, ...]],
    labels: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    default = tuple(f"{name}_dim_{axis}" for axis in range(len(shape)))
    given = names.get(name)
    if group in RESHAPED_GROUPS:
        given = (given or ())[: len(shape)]
        fits = all(size == len(labels.get(dim, range(size))) for dim, size in zip(given, shape, strict=False))
        return (given if fits else ()) + default[len(given) if fits else 0 :]
    if given is None:
        given = default
    elif len(given) != len(shape):
        raise ConfigurationError(
            expected=f"{len(shape)} names in `dims` for {group}.{name}, whose event shape is {shape}",
            got=f"{len(given)}: {list(given)}",
            fix="give one name per axis of the event, chain and draw excluded",
        )
    for dim, size in zip(given, shape, strict=True):
        if dim in labels and len(labels[dim]) != size:
            raise ConfigurationError(
                expected=f"{size} labels for {dim!r} in `coords`, for {group}.{name} with event shape {shape}",
                got=f"{len(labels[dim])} labels",
                fix="give one label per position, or name that axis differently in `dims`",
            )
    return given


def _dataset(
    group: str,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, tuple[str, ...]],
    labels: Mapping[str, np.ndarray],
    attrs: Mapping[str, Any],
) -> Any:
    import xarray

    sample_axes = () if _is_data(group) else SAMPLE_AXES
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    variables = {}
    for name, array in arrays.items():
        dims = sample_axes + _event_dims(group, name, array.shape[len(sample_axes) :], names, labels)
        for dim, size in zip(dims, array.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise ConfigurationError(
                    expected=f"one length of the dimension {dim!r} in the group {group!r}",
                    got=f"{sizes[dim]} in {owner[dim]!r} and {size} in {name!r}",
                    fix="name the two differently in `dims`",
                )
            owner.setdefault(dim, name)
        variables[name] = (dims, array)
    for dim in sizes:
        if dim in variables:
            raise DataError(
                expected="variables and dimensions with different names",
                got=f"{dim!r} for a variable in {group!r} and for a dimension of {owner[dim]!r}",
                fix="rename the dimension in `dims`, or the variable",
            )
    coords = {dim: labels.get(dim, np.arange(size)) for dim, size in sizes.items()}
    if _is_data(group):
        attrs = {key: value for key, value in attrs.items() if key != "sample_dims"}  # ArviZ 1.x writes it everywhere
    return xarray.Dataset(variables, coords=coords, attrs=dict(attrs))
