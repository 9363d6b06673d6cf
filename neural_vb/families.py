"""A joint distribution as one target for every data set: log p(x, z) with x an argument."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import joints
from neural_vb._text import a_kind, first_line
from neural_vb._types import Array, Draws, Seed, Tensor
from neural_vb.compilation import Compiled
from neural_vb.errors import DataError
from neural_vb.priors import JointPrior
from neural_vb.targets import JointTarget


@dataclass(frozen=True, eq=False)
class JointFamily:
    """log p(x, z) of a TFP joint for many data sets at once, in unconstrained space, log-Jacobian included.

    A data set travels as one flat row x [X]: its observed parts one after the other, float32.

    Args:
        joint: any ``tfd.JointDistribution*``.
        observed: names of the parts that will be observed.

    Raises:
        DataError: a name is unknown, or nothing is left to infer.
        UnsupportedError: a latent part depends on an observed one, so that it has no prior of its own.
        LatentError, TargetShapeError: as for a ``JointTarget``.
    """

    joint: Any
    observed: tuple[str, ...]
    template: JointTarget = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = joints.part_names(self.joint)
        given = joints.chosen_names(self.observed)
        if not given or not set(given) < set(names):
            raise DataError(
                expected=f"`observed` as some, not all, of the joint's parts {list(names)}",
                got=repr(list(given)),
                fix="name the parts that are data; the others are inferred",
            )
        object.__setattr__(self, "observed", tuple(name for name in names if name in given))
        simulated = joints.sample_parts(self.joint, 1, 0, known={})
        data = {name: simulated[name][0].numpy() for name in self.observed}
        template = JointTarget(self.joint, data)
        JointPrior(template)  # refuses latent parts that depend on data
        object.__setattr__(self, "template", template)

    @property
    def event_size(self) -> int:
        """D."""
        return self.template.event_size

    @property
    def dtype(self) -> tf.DType:
        """Precision of z."""
        return self.template.dtype

    @property
    def data_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each observed part."""
        return {name: value.shape for name, value in self.template.observed_data.items()}

    @property
    def x_size(self) -> int:
        """X."""
        return sum(math.prod(shape) for shape in self.data_shapes.values())

    def at(self, data: Mapping[str, Any]) -> JointTarget:
        """The target of one data set."""
        return JointTarget(self.joint, data)

    def constrain(self, z: Tensor) -> Draws:
        """[..., D] -> latent parts by name, each [..., *event]."""
        return self.template.constrain(z)

    def flatten(self, data: Mapping[str, Any]) -> Array:
        """Data sets, name -> [B, *event], as rows x [B, X], float32.

        Raises:
            DataError: a name is missing or unknown, shapes differ from the joint's, or a value is not finite.
        """
        if not isinstance(data, Mapping) or set(data) != set(self.observed):
            raise DataError(
                expected=f"data sets as a dict with the keys {list(self.observed)}",
                got=f"{sorted(map(str, data))}" if isinstance(data, Mapping) else a_kind(data),
                fix="pass {name: array [B, *event]} with one entry for each observed part",
            )
        rows, sizes = [], {}
        for name, shape in self.data_shapes.items():
            value = _numbers(name, data[name])
            if value.ndim != len(shape) + 1 or value.shape[1:] != shape:
                raise DataError(
                    expected=f"{name!r} of shape [B, {', '.join(map(str, shape))}]",
                    got=f"shape {list(value.shape)}",
                    fix="put the axis of data sets first, and keep the joint's shape behind it",
                )
            finite = np.isfinite(value).reshape(len(value), math.prod(shape)).all(1)
            if not finite.all():
                raise DataError(
                    expected=f"finite values of {name!r}, in single precision too",
                    got=f"NaN or infinity in {int((~finite).sum())} of {len(value)} data sets",
                    fix="drop those data sets, or make missing values a latent part",
                )
            sizes[name] = len(value)
            rows.append(value.reshape(len(value), math.prod(shape)))
        if len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise DataError(
                expected="the same positive number of data sets in every part",
                got=repr(sizes),
                fix="pass arrays whose first axes agree",
            )
        return np.concatenate(rows, 1)

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """Rows x [n, X] -> name -> [n, *event], in the dtype of each part."""
        sizes = [math.prod(shape) for shape in self.data_shapes.values()]
        parts = {}
        for piece, (name, shape) in zip(tf.split(x, sizes, -1), self.data_shapes.items(), strict=True):
            dtype = tf.as_dtype(self.template.observed_data[name].dtype)
            parts[name] = tf.cast(tf.reshape(piece, [-1, *shape]), dtype)
        return parts

    def simulate(self, num: int, seed: Seed) -> tuple[Tensor, Tensor]:
        """``num`` pairs from the joint: z [n, D], float64, and x [n, X], float32."""
        return self._simulators(num)(tf.constant(seed) if np.ndim(seed) else tf.constant([0, seed]))

    @cached_property
    def _compiled(self) -> dict[int, Compiled]:
        return {}

    def _simulators(self, num: int) -> Compiled:
        if num not in self._compiled:

            def simulate(seed: Tensor) -> tuple[Tensor, Tensor]:
                latents, data = self.template.prior_sample(num, seed)
                z = tf.cast(self.template.unconstrain(latents), tf.float64)
                z = tf.where(tf.math.is_finite(z), z, tf.zeros_like(z))
                flat = [tf.cast(tf.reshape(data[name], [num, -1]), tf.float32) for name in self.data_shapes]
                return z, tf.concat(flat, 1)

            self._compiled[num] = Compiled(simulate, jit_compile=False)
        return self._compiled[num]

    def log_prob(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """[S, B, D], [B, X] -> [S, B] in nats; without x there is nothing to condition on (``DataError``)."""
        if x is None:
            raise DataError(
                expected="data sets x [B, X]", got="None", fix="call `at(data)` for the target of one data set"
            )
        lead = tf.shape(z)[:-1]
        flat = tf.reshape(tf.cast(z, self.dtype), [-1, self.event_size])
        rows = tf.reshape(tf.broadcast_to(x[tf.newaxis], tf.concat([lead, tf.shape(x)[1:]], 0)), [-1, self.x_size])
        known = {**self.template.constrain(flat), **self.unflatten(rows)}
        order = joints.unpack(self.joint, self.joint.dtype)
        value = self.joint.log_prob(joints.pack(self.joint.dtype, {name: known[name] for name in order}))
        return tf.reshape(tf.cast(value, self.dtype) + self.template.event_map.log_det(flat), lead)


def _numbers(name: str, raw: Any) -> Array:
    """Data sets as single-precision numbers; ``DataError`` when they are none, or not all there."""
    pieces = raw if isinstance(raw, list | tuple) else [raw]
    if any(map(np.ma.is_masked, pieces)):
        masked = sum(int(np.ma.count_masked(piece)) for piece in pieces)
        raise joints.missing_values(name, f"{masked} masked values")
    try:
        value, fault = np.asarray(raw), ""
    except (TypeError, ValueError) as error:
        value, fault = np.zeros(()), first_line(error)
    if fault or value.dtype.kind not in "biuf":
        got = fault or f"an array of {value.dtype}"
        raise DataError(expected=f"numbers for {name!r}", got=got, fix="pass an array of one dtype and full rows")
    with np.errstate(over="ignore"):
        return value.astype(np.float32)
