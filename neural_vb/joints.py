"""TFP joint distributions: names, data, supports and pointwise likelihoods, the same for every kind of joint.

Traps that this room closes. Plain joints keep component batch dimensions as batch, where they mix with the axis of
draws; AutoBatched ones move them into the event. Parts without a name get unstable dummy names. Discrete parts have no
bijector.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import supports
from neural_vb._mends import mend_pad
from neural_vb._text import a_kind, a_kind_or_class, closest, first_line, shown, suggestion, with_article
from neural_vb._types import Array, Seed, Tensor
from neural_vb.errors import ConfigurationError, DataError, DtypeError, LatentError, TargetShapeError

mend_pad()

tfb = tfp.bijectors
tfd = tfp.distributions

AXIS_FIX = (
    "use the AutoBatched class of the same name (tfd.JointDistribution...AutoBatched), or wrap batches in "
    "tfd.Independent and let every operation keep leading axes (x[..., tf.newaxis])"
)
_DUMMY = "unnamed part #"


@dataclass(frozen=True, eq=False)
class PinnedJoint:
    """A joint distribution with its data fixed.

    Attributes:
        joint: the TFP joint.
        latent_names: parts to infer, in the joint's order.
        latent_shapes: event shape of each.
        latent_dtypes: dtype of each.
        observed: data by name, in the joint's order and the parts' dtypes.
    """

    joint: Any
    latent_names: tuple[str, ...]
    latent_shapes: tuple[tuple[int, ...], ...]
    latent_dtypes: tuple[tf.DType, ...]
    observed: dict[str, Array]

    @property
    def auto_batched(self) -> bool:
        """Whether TFP vectorises the model itself."""
        return bool(getattr(self.joint, "use_vectorized_map", False))

    @property
    def pinned(self) -> Any:
        """TFP's view of the latent parts alone."""
        return self.joint.experimental_pin(**self.observed) if self.observed else self.joint

    def pack(self, parts: Sequence[Any]) -> Any:
        """Latent parts in order -> the structure that TFP uses for them."""
        return pack(self.pinned.dtype, dict(zip(self.latent_names, parts, strict=True)))

    def unpack(self, structure: Any) -> tuple[Any, ...]:
        """The structure that TFP uses -> latent parts in order."""
        return _unpack(structure, self.latent_names)

    def support(self) -> tuple[Any, float]:
        """Event-space bijector of all latent parts together, each given its ancestors, and its ``log_area``."""
        found = distributions(self.joint)
        parts = [found[name] for name in self.latent_names]
        log_area = sum(map(supports.log_area_of, parts, self.latent_shapes))
        if any(map(supports.is_mended, parts)):
            return supports.joint_bijector(self.pinned, self.auto_batched), log_area
        return self.pinned.experimental_default_event_space_bijector(), log_area

    def log_prob(self, latents: Mapping[str, Tensor]) -> Tensor:
        """log p(data, latents) in nats, latents [n, *event] -> [n]."""
        return self.pinned.unnormalized_log_prob(self.pack([latents[name] for name in self.latent_names]))

    def log_likelihood(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """log p(y_i | latents) in nats: latents [S, *event] -> name -> [S, ...]."""

        @tf.autograph.experimental.do_not_convert
        def one(draw: Mapping[str, Tensor]) -> dict[str, Tensor]:
            # One draw at a time: without an axis of draws plain and AutoBatched joints are the same.
            known = {**draw, **_tensors(self.observed)}
            values = pack(self.joint.dtype, {name: known[name] for name in unpack(self.joint, self.joint.dtype)})
            distributions, _ = self.joint.sample_distributions(value=values, seed=(0, 0))
            parts = unpack(self.joint, distributions)
            return {name: _pointwise(parts[name], value) for name, value in _tensors(self.observed).items()}

        return tf.vectorized_map(one, dict(latents))


def pin(joint: Any, data: Mapping[str, Any] | None) -> PinnedJoint:
    """Fix the data of a joint after looking for everything that would go wrong later.

    Raises:
        DataError: unknown name, wrong shape, NaN, or a value that does not fit the part's dtype; ``data`` is empty.
        DtypeError: the parts are in different precisions.
        LatentError: nothing left to infer; a latent part is unnamed, discrete, deterministic or nested.
        TargetShapeError: a component batch dimension would mix with the axis of draws.
    """
    names = part_names(joint)
    floats = {name: tf.as_dtype(d) for name, d in unpack(joint, joint.dtype).items() if tf.as_dtype(d).is_floating}
    if len(set(floats.values())) > 1 or not set(floats.values()) <= {tf.float32, tf.float64}:
        raise DtypeError(
            expected="a joint distribution in one precision, float32 or float64, as TFP adds up the log densities",
            got=str({name: dtype.name for name, dtype in floats.items()}),
            fix="build all parameters in the same dtype",
        )
    _check_batch(joint, names)  # before the data: a batch looks like data of a wrong shape
    observed = _observed(joint, names, data)
    latent = tuple(name for name in names if name not in observed)
    if not latent:
        raise LatentError(
            expected="at least one part without data",
            got=f"data for all of {list(names)}",
            fix="leave the parts to infer out of `data`",
        )
    parts = distributions(joint)
    for name in latent:
        _check_latent(name, parts[name])
    shapes, dtypes = unpack(joint, joint.event_shape), unpack(joint, joint.dtype)
    return PinnedJoint(
        joint=joint,
        latent_names=latent,
        latent_shapes=tuple(tuple(tf.TensorShape(shapes[name]).as_list()) for name in latent),
        latent_dtypes=tuple(tf.as_dtype(dtypes[name]) for name in latent),
        observed=observed,
    )


def unpack(joint: Any, structure: Any) -> dict[str, Any]:
    """A structure over all parts of a joint -> dict by name."""
    names = joint._flat_resolve_names()
    return dict(zip(names, _unpack(structure, names), strict=True))


def sample_observables(joint: Any, latents: Mapping[str, Tensor], seed: Seed) -> dict[str, Tensor]:
    """Replicated values of every other part: latents [S, *event] -> name -> [S, *event].

    Raises:
        ConfigurationError: ``joint`` is no joint distribution.
        LatentError: the joint has no such latent part, or one of another shape.
        TargetShapeError: the joint has batch dimensions.
    """
    names = part_names(joint)
    _check_batch(joint, names)
    shapes = unpack(joint, joint.event_shape)
    others = [name for name in names if name not in latents]
    for name, value in latents.items():
        if name not in names:
            close = closest(name, others)
            hint = f": did you mean {close!r}?" if close else ""
            raise LatentError(
                expected=f"a joint with the latent part {name!r}",
                got=f"one with the parts {list(names)}",
                fix=f"keep the names of the latent parts when you change the joint{hint}",
            )
        if not value.shape[1:].is_compatible_with(shapes[name]):
            raise LatentError(
                expected=f"a latent part {name!r} of shape {value.shape[1:].as_list()}, as it was fitted",
                got=f"shape {tf.TensorShape(shapes[name]).as_list()} in the changed joint",
                fix="keep the shapes of the latent parts when you change the joint",
            )
    num_draws = next(iter(latents.values())).shape[0]
    drawn = sample_parts(joint, num_draws, seed, known=latents)
    return {name: value for name, value in drawn.items() if name not in latents}


def sample_parts(
    joint: Any, num_draws: int, seed: Seed, *, known: Mapping[str, Tensor], wanted: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Ancestral draws of all parts that are not known, [S, *event] each, one part after the other.

    Of these only ``wanted`` ones, if some are named, and what comes before them.

    TFP's own ``sample`` gives every row of an AutoBatched joint the same noise when it has known values and a stateless
    seed, loops over the rows when it has none, and draws a part of a plain joint once when no known part feeds it.
    """
    names, shapes = part_names(joint), unpack(joint, joint.event_shape)
    values: dict[str, Any] = {name: known.get(name) for name in names}
    seeds = tf.unstack(tfp.random.split_seed(stateless(seed), n=len(names)))
    last = max(names.index(name) for name in wanted or names)
    for name, part_seed in zip(names[: last + 1], seeds, strict=False):
        if values[name] is None:
            structure = pack(joint.dtype, values)
            # The int seed is for draws that are thrown away: only the distribution given its ancestors is used.
            distribution = unpack(joint, joint.sample_distributions(value=structure, seed=0)[0])[name]
            rank = distribution.batch_shape.rank + distribution.event_shape.rank
            rows = () if rank > tf.TensorShape(shapes[name]).rank else num_draws
            values[name] = distribution.sample(rows, seed=part_seed)
    return values


def stateless(seed: Seed) -> Tensor:
    """A seed of shape [2]; TFP draws with hidden state when it gets an int."""
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)
    return seed if seed.shape.rank else tf.stack([tf.zeros_like(seed), seed])


def part_names(joint: Any) -> tuple[str, ...]:
    """Names of the parts, in the joint's order.

    Raises:
        ConfigurationError: ``joint`` is no joint distribution.
        LatentError: a part has no name, or a joint lies inside.
    """
    if not isinstance(joint, tfd.JointDistribution):
        raise ConfigurationError(
            expected="joint as a TFP joint distribution (tfd.JointDistribution...)",
            got=a_kind_or_class(joint),
            fix="build one, such as tfd.JointDistributionNamedAutoBatched({...}), and pass that",
        )
    # The argument that names dummies differs between the kinds; a name of our own shows which parts have none.
    arguments = inspect.signature(joint._flat_resolve_names).parameters
    dummy = "dummy_name" if "dummy_name" in arguments else "leaf_name"
    try:
        names = tuple(joint._flat_resolve_names(**{dummy: _DUMMY}))
    except ValueError as error:  # duplicate or contradictory names, or the model's own
        if "name" not in str(error):
            raise
        raise LatentError(
            expected="one name for each part", got=first_line(error), fix="give every part a name of its own"
        ) from error
    if any(
        tf.nest.is_nested(part) for part in (joint.dtype.values() if isinstance(joint.dtype, Mapping) else joint.dtype)
    ):
        raise LatentError(
            expected="a flat joint distribution",
            got="a joint with a joint inside",
            fix="write the inner parts into the outer model, each under its own name",
        )
    unnamed = [i for i, name in enumerate(names) if name.startswith(_DUMMY)]
    if unnamed:
        raise LatentError(
            expected="a name for every part of the joint distribution",
            got=f"unnamed parts at positions {unnamed}" + (f", besides {[n for n in names if _DUMMY not in n]}"),
            fix='pass name=... to each distribution, e.g. tfd.Normal(0., 1., name="mu")',
        )
    return names


def _observed(joint: Any, names: tuple[str, ...], data: Mapping[str, Any] | None) -> dict[str, Array]:
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not data:
        raise DataError(
            expected=f"data as a dict from names of the joint's parts, {list(names)}, to values",
            got="an empty dict: nothing is observed" if isinstance(data, Mapping) else a_kind(data),
            fix=f"pass data={{{names[-1]!r}: ...}}, or data=None to sample the joint density itself",
        )
    for name in data:
        if name not in names:
            raise DataError(
                expected=f"data for parts of the joint, {list(names)}",
                got=f"data for {name!r}",
                fix=f"use the joint's names as keys: {suggestion(name, names)}",
            )
    shapes, dtypes = unpack(joint, joint.event_shape), unpack(joint, joint.dtype)
    return {
        name: _value(name, data[name], tf.TensorShape(shapes[name]), tf.as_dtype(dtypes[name]))
        for name in names
        if name in data
    }


def _value(name: str, raw: Any, shape: tf.TensorShape, dtype: tf.DType) -> Array:
    if np.ma.is_masked(raw):
        raise missing_values(name, f"{np.ma.count_masked(raw)} masked of {np.size(raw)} values")
    try:
        given, fault = np.asarray(raw), ""
    except (TypeError, ValueError) as error:
        given, fault = np.zeros(()), first_line(error)
    if fault or given.dtype.kind not in "biuf":
        raise DataError(
            expected=f"numbers for {name!r}",
            got="None" if raw is None else fault or f"an array of {given.dtype}",
            fix="leave it out: parts without data are inferred"
            if raw is None
            else "pass an array of one dtype and full rows",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        value = given.astype(dtype.as_numpy_dtype)
    if not shape.is_compatible_with(value.shape):
        raise DataError(
            expected=f"{name!r} of shape {shape.as_list()}, its event shape in the joint",
            got=f"shape {list(value.shape)}",
            fix="reshape the data, or build the joint for this many observations",
        )
    if np.issubdtype(given.dtype, np.floating) and np.isnan(given).any():
        raise missing_values(name, f"{int(np.isnan(given).sum())} NaN of {given.size} values")
    if np.isinf(value).any():
        raise DataError(expected=f"finite {name!r}", got="infinity, or an overflow", fix="drop, bound or rescale it")
    if not dtype.is_floating and np.any(value != given):
        raise DataError(
            expected=f"{name!r} in {dtype.name}, the dtype of its distribution",
            got=f"{given.dtype.name} values that it cannot hold",
            fix="pass whole numbers in the distribution's range",
        )
    return value


def chosen_names(observed: Sequence[str] | str) -> tuple[str, ...]:
    """The names in ``observed``, one or several; ``DataError`` when they are none."""
    names = tuple(observed) if isinstance(observed, Iterable) and not isinstance(observed, str) else (observed,)
    if not all(isinstance(name, str) for name in names):
        expected, fix = "`observed` as names of the joint's parts", 'pass, for example, observed=["y"]'
        raise DataError(expected=expected, got=shown(observed), fix=fix)
    return names


def missing_values(name: str, got: str) -> DataError:
    """The error for data that are not all there."""
    return DataError(
        expected=f"{name!r} without missing values",
        got=got,
        fix="drop them, or make the missing values a latent part of their own",
    )


def _check_batch(joint: Any, names: tuple[str, ...]) -> None:
    shapes = [tf.TensorShape(shape) for shape in tf.nest.flatten(joint.batch_shape)]
    if all(shape.rank == 0 for shape in shapes):
        return
    per_part = len(shapes) == len(names) and not getattr(joint, "use_vectorized_map", False)
    batched = (
        {name: shape.as_list() for name, shape in unpack(joint, joint.batch_shape).items() if shape.rank}
        if per_part
        else shapes[0].as_list()
    )
    raise TargetShapeError(
        expected="a joint distribution without batch dimensions, one log density for one draw",
        got=f"batch shapes {batched}, which would mix with the axis of draws",
        fix=AXIS_FIX + ("" if per_part else ", with batch_ndims=0"),
    )


def _check_latent(name: str, distribution: Any) -> None:
    kind = type(distribution).__name__
    distribution = supports.bare(distribution)
    if isinstance(distribution, tfd.Deterministic | tfd.VectorDeterministic):
        raise LatentError(
            expected=f"a latent part {name!r} with a density",
            got=f"{with_article(kind)} distribution, which has none",
            fix="compute it inside the model without yielding it, and report it through `derived`",
        )
    if not tf.as_dtype(distribution.dtype).is_floating or supports.bijector_of(distribution) is None:
        raise LatentError(
            expected=f"a continuous latent part {name!r}",
            got=f"{with_article(kind)} distribution, which is discrete or has no known map to the real line",
            fix=f"marginalise {name!r} out (for a discrete choice: tfd.MixtureSameFamily), or pass data for it",
        )


def distributions(joint: Any, seed: int = 0, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One distribution for each part, at one draw from the joint, with the known parts as they are."""
    values = {name: None if known is None else known.get(name) for name in part_names(joint)}
    value = pack(joint.dtype, {name: each if each is None else tf.constant(each) for name, each in values.items()})
    return unpack(joint, joint.sample_distributions(value=value if known else None, seed=(0, seed))[0])


def _tensors(values: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: tf.constant(value) for name, value in values.items()}


def _pointwise(distribution: Any, value: Tensor) -> Tensor:
    """log density of each independent row of one observed value."""
    if isinstance(distribution, tfd.Independent):
        return _pointwise(distribution.distribution, value)
    if isinstance(distribution, tfd.Sample) and distribution.distribution.batch_shape.rank == 0:
        return _pointwise(distribution.distribution, value)
    log_prob = distribution.log_prob(value)
    rows = value.shape[: value.shape.rank - distribution.event_shape.rank]
    return tf.broadcast_to(log_prob, rows)


def pack(like: Any, parts: Mapping[str, Any]) -> Any:
    """Parts by name, in the joint's order -> a structure of the same kind as ``like``."""
    if isinstance(like, dict):
        return type(like)(parts)
    if hasattr(like, "_fields"):
        return type(like)(**parts)
    return type(like)(parts.values())


def _unpack(structure: Any, names: Sequence[str]) -> tuple[Any, ...]:
    if isinstance(structure, Mapping):
        return tuple(structure[name] for name in names)
    if hasattr(structure, "_fields"):
        return tuple(getattr(structure, name) for name in names)
    return tuple(structure)
