"""Targets: unnormalised log densities over unconstrained vectors.

A target maps z [S, B, D] to log p [S, B] in nats, the log-Jacobian of the event map included, and draws back to the
user's own names. ``LogProbTarget`` is a TensorFlow callable, ``JointTarget`` a TFP joint distribution with data;
``as_target`` takes either, or an object that already is a target.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import _checks, bijectors, joints, returned
from neural_vb._text import a_kind_or_class, first_line, listed
from neural_vb._types import Array, Draws, LogProbFn, Seed, Target, Tensor
from neural_vb.bijectors import EventMap
from neural_vb.compilation import graph
from neural_vb.errors import (
    BijectorError,
    ConfigurationError,
    DataError,
    DtypeError,
    EventShapeError,
    PriorWarning,
    TargetShapeError,
    UnsupportedError,
)

tfd = tfp.distributions


@dataclass(frozen=True, eq=False)
class LogProbTarget:
    """A TensorFlow callable as target: log p(z) = log_prob_fn(forward(z)) + log |d forward / d z|.

    With a list as ``event_shape`` the callable gets one positional array [n, *event_shape]; with a dict it gets keyword
    arguments, one array [n, *shape] for each part. It returns one log density for each of the n points, [n], in nats.

    >>> import tensorflow as tf, tensorflow_probability as tfp
    >>> target = LogProbTarget(lambda z: -0.5 * tf.reduce_sum(z**2, axis=-1), event_shape=[2])
    >>> target.log_prob(tf.zeros([5, 1, 2])).shape
    TensorShape([5, 1])

    Args:
        log_prob_fn: the callable.
        event_shape: shape of one point, or dict of names -> shapes.
        bijector: None, a TFP bijector, or a dict of names -> bijectors; a missing name means identity.
        vectorized: False when the callable takes a single point (no leading n) and returns a scalar.
        dtype: tf.float32 or tf.float64, of the points that the callable gets.

    Raises:
        EventShapeError, BijectorError, DtypeError: on construction, when the arguments do not fit together.
        TargetShapeError, TargetValueError, GradientError, DtypeError: from ``log_prob``, when what the callable
            returns has the wrong shape, is None, is not a TensorFlow tensor, or has another dtype.
    """

    log_prob_fn: LogProbFn
    event_shape: Any = field(kw_only=True)
    bijector: Any = field(default=None, kw_only=True)
    vectorized: bool = field(default=True, kw_only=True)
    dtype: tf.DType = field(default=tf.float32, kw_only=True)
    event_map: EventMap = field(init=False, repr=False)

    def __post_init__(self) -> None:
        dtype = tf.as_dtype(self.dtype)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "event_map", bijectors.map_for_callable(self.event_shape, self.bijector, dtype))

    @property
    def event_size(self) -> int:
        """D."""
        return self.event_map.event_size

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each unconstrained coordinate."""
        return self.event_map.labels

    def with_dtype(self, dtype: tf.DType) -> LogProbTarget:
        """The same target evaluated in another precision.

        Raises:
            DtypeError: a bijector is tied to the old one.
        """
        return replace(self, dtype=dtype)

    def constrain(self, z: Tensor) -> Draws:
        """[..., D] -> an array [..., *event_shape], or a dict of such arrays."""
        return self.event_map.forward(z)

    def unconstrain(self, draws: Draws) -> Tensor:
        """Draws -> z [..., D]; raises ``EventShapeError`` when parts are missing or misshapen."""
        return self.event_map.inverse(draws)

    def log_prob(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Unnormalised log density with the log-Jacobian, [S, B, D] -> [S, B] in nats; ``x`` is not used."""
        flat, lead = _flatten(z, self.dtype, self.event_size)
        event = self.event_map.forward(flat)
        if self.vectorized:
            value = returned.checked(self._call(event), flat.shape[0], self.dtype, returned.ROW_FIX)
        else:
            value = self._map(event)
        return tf.reshape(value + self.event_map.log_det(flat), lead)

    def _call(self, event: Draws) -> Any:
        return self.log_prob_fn(**event) if self.event_map.names else self.log_prob_fn(event)

    def _map(self, event: Draws) -> Tensor:
        raised: list[Exception] = []

        @tf.autograph.experimental.do_not_convert
        def one(point: Draws) -> Tensor:
            try:
                return returned.checked(self._call(point), None, self.dtype, returned.POINT_FIX, rank=0)
            except Exception as error:
                raised.append(error)
                raise

        try:
            return tf.vectorized_map(one, event)
        except Exception:
            # TensorFlow wraps what is raised inside in an error of its own, whose kind says nothing.
            if raised:
                raise raised[0] from None
            raise


@dataclass(frozen=True, eq=False)
class JointTarget:
    """A TFP joint distribution with some parts observed: log p(z) = log p(data, forward(z)) + log |d forward / d z|.

    Supports of the latent parts come from the joint's default event-space bijector, all parts together, because a
    part's support may depend on its ancestors. Data are cast to the dtype of their part. Without data (None) the joint
    density itself is the target.

    >>> import tensorflow_probability as tfp
    >>> tfd = tfp.distributions
    >>> model = {"mu": tfd.Normal(0., 1.), "y": lambda mu: tfd.Normal(mu, [1., 2.])}
    >>> joint = tfd.JointDistributionNamedAutoBatched(model)
    >>> target = JointTarget(joint, {"y": [0.5, 1.0]})
    >>> target.latent_names, target.event_size
    (('mu',), 1)

    Args:
        joint: any ``tfd.JointDistribution*``.
        data: observed values by name.

    Raises:
        DataError: a name is unknown, a value has the wrong shape, is NaN or does not fit the part's dtype.
        LatentError: a latent part is unnamed, discrete, deterministic or nested, or nothing is left to infer.
        TargetShapeError: component batch dimensions would mix with the axis of draws (also from ``log_prob``).
    """

    joint: Any
    data: Mapping[str, Any] | None = None
    model: joints.PinnedJoint = field(init=False, repr=False)
    event_map: EventMap = field(init=False, repr=False)

    def __post_init__(self) -> None:
        model = joints.pin(self.joint, self.data)
        bijector, log_area = model.support()
        event_map = bijectors.map_for_joint(
            bijector,
            names=model.latent_names,
            shapes=model.latent_shapes,
            dtypes=model.latent_dtypes,
            pack=model.pack,
            unpack=model.unpack,
            log_area=log_area,
        )
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "event_map", event_map)

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Names of the parts to infer, in the joint's order."""
        return self.model.latent_names

    @property
    def observed_names(self) -> tuple[str, ...]:
        """Names of the parts with data, in the joint's order."""
        return tuple(self.model.observed)

    @property
    def observed_data(self) -> dict[str, Array]:
        """Data by name, in the dtype of their parts."""
        return dict(self.model.observed)

    @property
    def event_size(self) -> int:
        """D."""
        return self.event_map.event_size

    @property
    def event_shape(self) -> dict[str, list[int]]:
        """Constrained shape of each latent part."""
        return self.event_map.event_shape

    @property
    def dtype(self) -> tf.DType:
        """Precision of z: the widest of the latent parts."""
        return self.event_map.dtype

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each unconstrained coordinate."""
        return self.event_map.labels

    def with_dtype(self, dtype: tf.DType) -> JointTarget:
        """The target itself; raises ``DtypeError`` for another precision, which a built joint cannot change."""
        if tf.as_dtype(dtype) != self.dtype:
            raise DtypeError(
                expected=f"{self.dtype.name}, the precision the joint distribution was built in",
                got=tf.as_dtype(dtype).name,
                fix="build the joint with parameters of that dtype, e.g. tfd.Normal(tf.constant(0., tf.float64), 1.)",
            )
        return self

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        """[..., D] -> latent parts by name, each [..., *event]."""
        return self.event_map.forward(z)

    def unconstrain(self, draws: Mapping[str, Any]) -> Tensor:
        """Latent parts by name -> z [..., D]; raises ``EventShapeError`` when parts are missing or misshapen."""
        return self.event_map.inverse(draws)

    def log_prob(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """log p(data, latents) with the log-Jacobian, [S, B, D] -> [S, B] in nats; ``x`` is not used."""
        flat, lead = _flatten(z, self.dtype, self.event_size)
        try:
            value = self.model.log_prob(self.event_map.forward(flat))
            log_det = self.event_map.log_det(flat)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            if self.model.auto_batched:
                raise
            raise TargetShapeError(
                expected="a joint that evaluates many draws at once", got=first_line(error), fix=joints.AXIS_FIX
            ) from error
        value = returned.checked(value, flat.shape[0], None, joints.AXIS_FIX)
        return tf.reshape(tf.cast(value, self.dtype) + log_det, lead)

    def log_likelihood(self, draws: Mapping[str, Any]) -> dict[str, Tensor]:
        """log p(y_i | draw) in nats for each observed part, pointwise where its distribution factorises.

        Args:
            draws: latent parts, each [S, *event].

        Returns:
            Dict of observed name -> [S, ...]. Rows of ``Independent``, ``Sample`` and AutoBatched batches stay apart;
            one event of a multivariate distribution gives one number.

        Raises:
            DataError: nothing is observed.
        """
        if not self.observed_names:
            raise DataError(expected="observed parts", got="a target without data", fix="pass data={name: value}")
        return self.model.log_likelihood(self._latents(draws))

    def posterior_predictive(self, draws: Mapping[str, Any], seed: Seed, *, joint: Any = None) -> dict[str, Tensor]:
        """Replicated data given posterior draws: one set for each draw.

        Args:
            draws: latent parts, each [S, *event].
            seed: int, or a stateless seed of shape [2].
            joint: a changed joint with the same latent parts, for predictions at new inputs; default the target's own.

        Returns:
            Dict of name -> [S, *event] for every part of the joint that is not latent.

        Raises:
            ConfigurationError: ``joint`` is no joint distribution.
            LatentError: a latent part has no counterpart of the same shape in the changed joint.
        """
        return joints.sample_observables(self.joint if joint is None else joint, self._latents(draws), seed)

    def prior_sample(self, num_samples: int, seed: Seed) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draws from the joint before it saw data: (latent parts, observed parts), each name -> [S, *event]."""
        parts = joints.sample_parts(self.joint, num_samples, seed, known={})
        latents = {name: parts[name] for name in self.latent_names}
        return latents, {name: parts[name] for name in self.observed_names}

    def starting_points(self, num_points: int, seed: Seed) -> Tensor:
        """Unconstrained draws from the prior, [n, D]; a coordinate on the edge of its support becomes 0."""
        return self._prior(num_points, joints.stateless(seed))

    @cached_property
    def _prior(self) -> Any:
        joint, names, event_map = self.joint, self.latent_names, self.event_map

        def draw(num: int, seed: Tensor) -> Tensor:
            z = event_map.inverse(joints.sample_parts(joint, num, seed, known={}, wanted=names))
            return tf.where(tf.math.is_finite(z), z, tf.zeros_like(z))

        return graph(draw)  # eagerly each call traces the joint anew, part by part

    def _latents(self, draws: Mapping[str, Any]) -> dict[str, Tensor]:
        # Through the map's own checks of names and shapes; the values stay as they came.
        return dict(zip(self.latent_names, self.event_map.parts(draws), strict=True))


def as_target(
    target: Any, data: Any = None, *, event_shape: Any = None, bijector: Any = None, vectorized: bool = True
) -> Target:
    """The target that a user's object stands for.

    Args:
        target: a callable, a TFP joint distribution (or a pinned one), or a ``Target``, which passes through.
        data: observed values by name, for a joint distribution; without them its own density is the target.
        event_shape: shape of one point, for a callable.
        bijector: support of the parts, for a callable.
        vectorized: False for a callable that takes a single point.

    Raises:
        UnsupportedError: ``target`` is none of these.
        EventShapeError: a callable without ``event_shape``, or another target with it.
        DataError, BijectorError, ConfigurationError: an argument is given that this kind of target does not take.

    Warns:
        PriorWarning: a joint distribution without ``data``.
    """
    if isinstance(target, tfp.experimental.distributions.JointDistributionPinned):
        _refuse(data is not None, DataError, "data", "a pinned joint distribution, which has its own")
        target, data = target.distribution, target.pins
    if isinstance(target, tfd.JointDistribution):
        _refuse_shape_arguments(event_shape, bijector, vectorized, "a joint distribution, which knows its own events")
        if data is None:
            _warn_of_the_prior(joints.part_names(target))
        return JointTarget(target, data)
    if isinstance(target, Target) and not isinstance(target, type):
        _refuse(data is not None, DataError, "data", "a Target, which has its own")
        _refuse_shape_arguments(event_shape, bijector, vectorized, "a Target, which knows its own events")
        return target
    if isinstance(target, tfd.Distribution | type) or not callable(target):
        if inspect.isgenerator(target):
            raise _undecorated(f"the generator {target.__name__}")
        single = isinstance(target, tfd.Distribution)
        raise UnsupportedError(
            expected="a log density (a callable), a TFP joint distribution or a Target",
            got=a_kind_or_class(target),
            fix="pass its log_prob with event_shape=..., or put it into a tfd.JointDistributionNamed"
            if single
            else "pass a function from points [n, ...] to log densities [n], with event_shape=...",
        )
    if inspect.isgeneratorfunction(target):
        raise _undecorated(f"the generator function {getattr(target, '__name__', '')}".rstrip())
    if event_shape is None and _checks.is_shape(data):
        raise EventShapeError(
            expected="event_shape by its name",
            got=f"{data!r} in the place of data",
            fix=f"pass event_shape={data!r}: only `target` and `data` go without a name",
        )
    _refuse(data is not None, DataError, "data", "a callable, which takes only parameters; let it close over its data")
    return LogProbTarget(target, event_shape=event_shape, bijector=bijector, vectorized=vectorized)


def _flatten(z: Tensor, dtype: tf.DType, size: int) -> tuple[Tensor, Any]:
    """[S, B, D] -> ([n, D], [S, B]), with static shapes where they are known."""
    z = tf.convert_to_tensor(z, dtype)
    lead = z.shape[:-1]
    static = lead.is_fully_defined()
    flat = tf.reshape(z, [lead.num_elements() if static else -1, size])
    return flat, lead.as_list() if static else tf.shape(z)[:-1]


def _undecorated(got: str) -> UnsupportedError:
    return UnsupportedError(
        expected="a log density (a callable), a TFP joint distribution or a Target",
        got=f"{got}, which yields distributions but is no joint distribution yet",
        fix="decorate the function with @tfd.JointDistributionCoroutineAutoBatched, and pass it with data={...}",
    )


def _warn_of_the_prior(names: tuple[str, ...]) -> None:
    warnings.warn(
        f"no data= was given, so that every part is latent ({listed(names)}): the draws will be those of the joint "
        f"distribution itself, the prior. If something was observed, pass data={{{names[-1]!r}: ...}}",
        PriorWarning,
        stacklevel=5,  # the user's line: fit is decorated
    )


def _refuse(given: bool, error: Callable[..., Exception], argument: str, kind: str) -> None:
    if given:
        raise error(expected=f"no `{argument}`", got=f"`{argument}` with {kind}", fix=f"leave `{argument}` out")


def _refuse_shape_arguments(event_shape: Any, bijector: Any, vectorized: bool, kind: str) -> None:
    _refuse(event_shape is not None, EventShapeError, "event_shape", kind)
    _refuse(bijector is not None, BijectorError, "bijector", kind)
    _refuse(not vectorized, ConfigurationError, "vectorized=False", kind)
