"""The event map: joint event <-> flat unconstrained vector z of size D.

A posterior over named parts with supports (positive, simplex, correlation Cholesky factor, ...) becomes a density over
R^D. The map cuts z into parts, shapes them and sends them through bijectors; ``log_det`` is log |d forward / d z|,
summed over all parts, so that

    log p_z(z) = log p(forward(z)) + log_det(z)   [nats].

A part's unconstrained shape may differ from its constrained one: a simplex of 3 has 2 free coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import supports
from neural_vb._text import a_kind, first_line, suggestion
from neural_vb._types import Draws, Tensor
from neural_vb.errors import BijectorError, DtypeError, EventShapeError
from neural_vb.part_bijectors import Parts, PartsBijector, Separate, Together

tfb = tfp.bijectors

Shape = tuple[int, ...]
SAME_DRAWS = "the same draws, on the leading axes, of every part"


@dataclass(frozen=True, eq=False)
class EventMap:
    """Joint event <-> flat unconstrained vector.

    Attributes:
        names: of the parts, or None for one unnamed array.
        shapes: constrained shape of each part.
        unconstrained_shapes: shape of each part of z.
        dtypes: of the constrained parts.
        dtype: of z.
        bijector: maps all parts.
        log_area: taken off its log-Jacobian, in nats; see ``supports.log_area``.
    """

    names: tuple[str, ...] | None
    shapes: tuple[Shape, ...]
    unconstrained_shapes: tuple[Shape, ...]
    dtypes: tuple[tf.DType, ...]
    dtype: tf.DType
    bijector: PartsBijector
    log_area: float = 0.0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of unconstrained coordinates of each part; they add up to D."""
        return tuple(math.prod(shape) for shape in self.unconstrained_shapes)

    @property
    def event_size(self) -> int:
        """D."""
        return sum(self.sizes)

    @property
    def event_shape(self) -> Any:
        """Constrained shape: a list for an unnamed array, a dict of lists for named parts."""
        shapes = [list(shape) for shape in self.shapes]
        return shapes[0] if self.names is None else dict(zip(self.names, shapes, strict=True))

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each of the D unconstrained coordinates: ``tau``, ``theta[2]``, ``z[0]``."""
        names = ("z",) if self.names is None else self.names
        return tuple(
            f"{name}[{', '.join(map(str, index))}]" if index else name
            for name, shape in zip(names, self.unconstrained_shapes, strict=True)
            for index in np.ndindex(*shape)
        )

    def forward(self, z: Tensor) -> Draws:
        """Constrained draws from z.

        Args:
            z: [..., D].

        Returns:
            An array [..., *event_shape], or a dict of such arrays.

        Raises:
            EventShapeError: the last axis of z is not of size D.
        """
        parts = self.bijector.forward(self._split(z))
        parts = tuple(tf.cast(part, dtype) for part, dtype in zip(parts, self.dtypes, strict=True))
        return parts[0] if self.names is None else dict(zip(self.names, parts, strict=True))

    def inverse(self, draws: Draws) -> Tensor:
        """z [..., D] from constrained draws; entries of a dict that are not parts are ignored.

        Raises:
            EventShapeError: a part is missing or its trailing shape is not the part's event shape.
        """
        parts = self.bijector.inverse(self.parts(draws))
        lead = _leading(parts[0], len(self.unconstrained_shapes[0]))
        flat = [
            tf.reshape(tf.cast(part, self.dtype), tf.concat([lead, [size]], 0))
            for part, size in zip(parts, self.sizes, strict=True)
        ]
        return tf.concat(flat, axis=-1)

    def log_det(self, z: Tensor) -> Tensor:
        """log |d forward(z) / d z| in nats: [..., D] -> [...]."""
        value = tf.cast(self.bijector.log_det(self._split(z)), self.dtype) - self.log_area
        return tf.broadcast_to(value, _leading(tf.convert_to_tensor(z, self.dtype), 1))

    def _split(self, z: Tensor) -> Parts:
        z = tf.convert_to_tensor(z, self.dtype)
        if z.shape.rank == 0 or z.shape[-1] not in (None, self.event_size):
            raise EventShapeError(
                expected=f"z with a last axis of size D = {self.event_size}",
                got=f"shape {z.shape.as_list()}",
                fix="pass unconstrained vectors [..., D]; `unconstrain` makes them from draws",
            )
        lead = _leading(z, 1)
        return tuple(
            tf.cast(tf.reshape(part, tf.concat([lead, tf.constant(shape, tf.int32)], 0)), dtype)
            for part, shape, dtype in zip(
                tf.split(z, self.sizes, axis=-1), self.unconstrained_shapes, self.dtypes, strict=True
            )
        )

    def parts(self, draws: Draws) -> Parts:
        """The parts of constrained draws in order and dtype; raises ``EventShapeError`` as ``inverse`` does."""
        if self.names is None:
            if isinstance(draws, Mapping):
                raise EventShapeError(
                    expected="one array, for an event without names, or beside derived quantities under 'z'",
                    got=f"a dict with keys {sorted(map(str, draws))}",
                    fix="pass the array itself",
                )
            values = [draws]
        elif isinstance(draws, Mapping) and not set(self.names) - set(draws):
            values = [draws[name] for name in self.names]
        else:
            came = f"a dict with keys {sorted(draws)}" if isinstance(draws, Mapping) else a_kind(draws)
            raise EventShapeError(
                expected=f"a dict with the parts {list(self.names)}", got=came, fix="pass every part under its name"
            )
        try:
            tensors = [tf.convert_to_tensor(value) for value in values]
            odd = [tensor.dtype.name for tensor in tensors if tensor.dtype.is_complex or tensor.dtype == tf.string]
            if odd or any(map(np.ma.is_masked, values)):
                raise TypeError(odd[0] if odd else "masked values")
            parts = tuple(tf.cast(tensor, dtype) for tensor, dtype in zip(tensors, self.dtypes, strict=True))
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise EventShapeError(
                expected="draws as arrays of real numbers",
                got=first_line(error),
                fix="pass arrays [S, ...] with full rows",
            ) from error
        for i, (part, shape) in enumerate(zip(parts, self.shapes, strict=True)):
            if part.shape.rank < len(shape) or not part.shape[part.shape.rank - len(shape) :].is_compatible_with(shape):
                name = "the event" if self.names is None else f"part {self.names[i]!r}"
                raise EventShapeError(
                    expected=f"{name} with trailing shape {list(shape)}",
                    got=f"shape {part.shape.as_list()}",
                    fix="put draws on the leading axes and the event on the trailing ones",
                )
        leads = [part.shape[: part.shape.rank - len(shape)] for part, shape in zip(parts, self.shapes, strict=True)]
        if not all(lead.is_compatible_with(leads[0]) for lead in leads):
            raise EventShapeError(
                expected=SAME_DRAWS,
                got=str({name: part.shape.as_list() for name, part in zip(self.names or (), parts, strict=True)}),
                fix="give every part as many draws as the others",
            )
        return parts


def map_for_callable(event_shape: Any, bijector: Any = None, dtype: tf.DType = tf.float32) -> EventMap:
    """Event map of a callable's arguments.

    Args:
        event_shape: list of ints for one unnamed array, or dict of names -> lists of ints.
        bijector: None, a TFP bijector for the unnamed array, or a dict of names -> bijectors; a name without one is
            unconstrained.
        dtype: of z and of every part.

    Raises:
        EventShapeError: ``event_shape`` is missing or malformed, or has no free coordinate.
        BijectorError: the bijectors do not fit the structure or a part's shape.
        DtypeError: ``dtype`` is not float32 or float64, or a bijector has another one.
    """
    if dtype not in (tf.float32, tf.float64):
        raise DtypeError(expected="dtype tf.float32 or tf.float64", got=repr(dtype), fix="pass one of these two")
    named = isinstance(event_shape, Mapping)
    names = _names(event_shape) if named else None
    shapes = tuple(_shape(shape, name) for name, shape in event_shape.items()) if named else (_shape(event_shape),)
    bijectors = _bijectors(bijector, names)
    labels = names or ("the event",)
    free = tuple(_free_shape(*item, dtype) for item in zip(bijectors, shapes, labels, strict=True))
    separate = Separate(bijectors, tuple(map(len, free)))
    log_area = sum(map(supports.log_area, bijectors, free))
    return _checked(EventMap(names, shapes, free, (dtype,) * len(shapes), dtype, separate, log_area))


def map_for_joint(
    bijector: Any,
    *,
    names: tuple[str, ...],
    shapes: tuple[Shape, ...],
    dtypes: tuple[tf.DType, ...],
    pack: Callable[[Sequence[Any]], Any],
    unpack: Callable[[Any], Sequence[Any]],
    log_area: float,
) -> EventMap:
    """Event map of a joint distribution's latent parts, transformed together.

    Args:
        bijector: event-space bijector of the joint with its data pinned.
        names, shapes, dtypes: of the latent parts, shapes constrained; z has the widest dtype.
        pack, unpack: parts -> the joint's structure, and back.
        log_area: as of the map.

    Raises:
        EventShapeError: there is no free coordinate.
    """
    event_shape = pack([tf.TensorShape(shape) for shape in shapes])
    free = tuple(tuple(tf.TensorShape(s).as_list()) for s in unpack(bijector.inverse_event_shape(event_shape)))
    together = Together(bijector, pack, unpack, tuple(map(len, free)))
    widest = max(dtypes, key=lambda dtype: dtype.size)
    return _checked(EventMap(names, shapes, free, dtypes, widest, together, log_area))


def _checked(event_map: EventMap) -> EventMap:
    """The map itself, when it has a coordinate to infer."""
    if event_map.event_size == 0:
        raise EventShapeError(
            expected="at least one free coordinate",
            got=f"event shape {event_map.event_shape}, which has none",
            fix="give event_shape the shape of one point, e.g. event_shape=[2]",
        )
    return event_map


def _leading(value: Tensor, event_rank: int) -> Any:
    """Shape of the leading axes: static where it is known, which XLA and shape checks like best."""
    lead = value.shape[: value.shape.rank - event_rank]
    if lead.is_fully_defined():
        return tf.constant(lead.as_list(), tf.int32)
    return tf.shape(value)[: value.shape.rank - event_rank]


def _names(event_shape: Mapping[Any, Any]) -> tuple[str, ...]:
    wrong = [key for key in event_shape if not isinstance(key, str)]
    if wrong or not event_shape:
        raise EventShapeError(
            expected="event_shape as a dict from names to shapes",
            got=f"the key {wrong[0]!r}" if wrong else "an empty dict",
            fix='name every part, e.g. event_shape={"mu": [], "theta": [8]}',
        )
    return tuple(event_shape)


def _shape(shape: Any, name: str | None = None) -> Shape:
    if isinstance(shape, tf.TensorShape) and shape.is_fully_defined():
        shape = shape.as_list()
    sizes: Any = shape if isinstance(shape, list | tuple) else [None]
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0 for n in sizes):
        of = "" if name is None else f" for {name!r}"
        hint = f"write [{shape}] for a vector of {shape}, " if isinstance(shape, int) else ""
        hint = "state the shape of one point, " if shape is None else hint
        raise EventShapeError(
            expected=f"event_shape{of} as a list of sizes of one point, without the draws' axis",
            got=repr(shape),
            fix=hint + 'for example event_shape=[2], or event_shape={"mu": [], "theta": [8]} for named parts',
        )
    return tuple(int(n) for n in sizes)


def _bijectors(bijector: Any, names: tuple[str, ...] | None) -> tuple[Any, ...]:
    if isinstance(bijector, Mapping) and names is not None:
        for key in bijector:
            if key not in names:
                raise BijectorError(
                    expected=f"bijectors for parts of event_shape, {list(names)}",
                    got=f"one for {key!r}",
                    fix=f"use the names of event_shape as keys, none for a free part: {suggestion(key, names)}",
                )
        chosen = tuple(bijector.get(name) for name in names)
    elif bijector is None:
        chosen = (None,) * len(names or ("",))
    elif names is not None or isinstance(bijector, Mapping):
        wanted = "a dict from part names to bijectors" if names else "one bijector for the unnamed array"
        raise BijectorError(
            expected=wanted,
            got=a_kind(bijector),
            fix='match the structure of event_shape: event_shape={"tau": []} with bijector={"tau": tfb.Exp()}, '
            "event_shape=[2] with bijector=tfb.Exp()",
        )
    else:
        chosen = (bijector,)
    for item in chosen:
        if item is not None and not isinstance(item, tfb.Bijector):
            raise BijectorError(
                expected="tfp.bijectors.Bijector instances",
                got=f"{item!r}",
                fix="pass an instance, such as tfb.Exp() (with the brackets)",
            )
    return chosen


def _free_shape(bijector: Any, shape: Shape, name: str, dtype: tf.DType) -> Shape:
    """Unconstrained shape of a part, after asking whether the bijector can map it at all."""
    if bijector is None:
        return shape
    if bijector.dtype is not None and bijector.dtype != dtype:
        raise _wrong_dtype(bijector, name, dtype, tf.as_dtype(bijector.dtype).name)
    try:
        free = tuple(bijector.inverse_event_shape(tf.TensorShape(shape)).as_list())
        back = tuple(bijector.forward_event_shape(tf.TensorShape(free)).as_list())
        point = bijector.forward(tf.zeros((7, *free), dtype))
        back = tuple(point.shape[1:].as_list()) if back == shape else back
        broken = _broken(bijector, free, dtype) if back == shape else ""
    except Exception as error:  # whatever TFP raises for a shape or dtype that it cannot map
        if "dtype" in str(error):
            raise _wrong_dtype(bijector, name, dtype, first_line(error)) from error
        raise _wrong_shape(bijector, name, shape, f"fails on it: {first_line(error)}") from error
    if back != shape:
        raise _wrong_shape(bijector, name, shape, f"makes shape {list(back)} from {list(free)}")
    if broken:
        raise BijectorError(
            expected=f"a bijector that maps all of R one to one onto the support of {name}",
            got=f"{bijector.name}, {broken} at standard normal points",
            fix="turn it round (tfb.Invert), use tfb.Exp() for positive parts, or check the bijector's own parameters",
        )
    return free


def _broken(bijector: Any, free: Shape, dtype: tf.DType) -> str:
    """What is wrong with a bijector's numbers at a few points; empty when nothing is."""
    z = tf.constant(np.random.default_rng(0).standard_normal((16, *free)), dtype)
    values, log_det = bijector.forward(z), bijector.forward_log_det_jacobian(z, event_ndims=len(free))
    if not (np.isfinite(values).all() and np.isfinite(log_det).all()):
        return "whose value or log-Jacobian is NaN or infinite"
    back = bijector.inverse(tf.identity(values))  # TFP would hand back z itself for the very same tensor
    return "" if np.allclose(back, z, rtol=0.05, atol=0.05) else "whose inverse does not lead back"


def _wrong_shape(bijector: Any, name: str, shape: Shape, what: str) -> BijectorError:
    wanted = f"a bijector that can produce {name} of shape {list(shape)}"
    fix = "choose a bijector whose output has that shape, or correct event_shape"
    return BijectorError(expected=wanted, got=f"{bijector.name}, which {what}", fix=fix)


def _wrong_dtype(bijector: Any, name: str, dtype: tf.DType, came: str) -> DtypeError:
    return DtypeError(
        expected=f"a bijector for {name} in {dtype.name}, the dtype of the target",
        got=f"{bijector.name} in {came}",
        fix="build its parameters in the target's dtype, or pass the other dtype to the target",
    )
