"""What ``fit`` is given besides a log density, looked at before anything is trained.

Parts of a user's own are run once, eagerly, on a few draws: a wrong shape would otherwise come to light inside the
compiled training step, minutes later and in TensorFlow's words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import _checks, avb, joints, mixtures, supports
from neural_vb._text import a_kind, first_line, shown
from neural_vb._types import Array, Derived, Parameters, Proposal, Target, Tensor
from neural_vb.avb import Parts
from neural_vb.bijectors import SAME_DRAWS
from neural_vb.draws import UNNAMED
from neural_vb.errors import ConfigurationError, DataError, EventShapeError, NeuralVBError, StartError, UnsupportedError
from neural_vb.numpy_densities import NumPyLogProb
from neural_vb.targets import JointTarget, LogProbTarget

tfb = tfp.bijectors
tfd = tfp.distributions

COUNTS = (
    tfd.Bernoulli,
    tfd.BetaBinomial,
    tfd.Binomial,
    tfd.Categorical,
    tfd.Geometric,
    tfd.Multinomial,
    tfd.NegativeBinomial,
    tfd.OneHotCategorical,
    tfd.Poisson,
)
NUM_TRIED = 4
SIMPLEX_TOLERANCE = 1e-3
MAX_SIZE = 16_384  # the whitening holds D^2 numbers in double precision, 2 GiB
_DERIVED_FIX = "return a dict of new names -> arrays whose first axis is the draws', e.g. {'ratio': d['mu'] / d['tau']}"
_SEE = "see `Extending` in the documentation for what this part must offer, or leave it out for the default"


def check_options(
    *, vectorized: Any, progress: Any, callbacks: Any, derived: Any, ratio_loss: Any, **parts: Any
) -> None:
    """Nothing, if every option is of its kind; ``parts`` are sampler, critic, contrast or summary, or None.

    Raises:
        ConfigurationError: an option is of another kind.
    """
    for name, value in {"vectorized": vectorized, "progress": progress}.items():
        _checks.flag(name, value)
    if not isinstance(callbacks, Sequence) or not all(map(_takes_two, callbacks)):
        raise ConfigurationError(
            expected="callbacks as a list of functions of (step, metrics)",
            got=shown(callbacks),
            fix="pass callbacks=[function]",
        )
    for name, function in {"derived": derived, "ratio_loss": ratio_loss}.items():
        if not (callable(function) or (name == "derived" and function is None)):
            raise ConfigurationError(
                expected=f"{name} as a function",
                got=shown(function),
                fix="pass a function from draws to a dict of named quantities"
                if name == "derived"
                else "pass one of neural_vb.ratio_losses, such as ratio_losses.logistic, or leave it out",
            )
    for name, part in parts.items():
        wanted = ("initial_parameters", "__call__") + (("update",) if name == "contrast" else ())
        missing = [method for method in wanted if not hasattr(part, method)]
        if part is not None and (missing or isinstance(part, type)):
            known = isinstance(part, type)
            raise ConfigurationError(
                expected=f"{name} as an object with {', '.join(wanted)}",
                got=f"the class {part.__name__}" if known else f"{a_kind(part)} without {', '.join(missing)}",
                fix=f"pass an instance, such as {part.__name__}()" if known else _SEE,
            )


def _takes_two(function: Any) -> bool:
    """Whether it can be called with two arguments, as far as it tells."""
    try:
        inspect.signature(function).bind(0, {})
    except ValueError:  # code in C may not tell
        return True
    except TypeError:
        return False
    return True


def check_size(target: Target) -> None:
    """Nothing, if the unconstrained vector is no longer than can be whitened; else ``EventShapeError``."""
    if target.event_size > MAX_SIZE:
        raise EventShapeError(
            expected=f"at most {MAX_SIZE} unconstrained coordinates, for the whitening holds a number for each pair",
            got=f"{target.event_size}",
            fix="give event_shape the shape of one point, without the axes of draws and data; marginalise parts out",
        )


def is_numpy(target: Target) -> bool:
    """Whether the target calls Python for its log density, which XLA cannot.

    Raises:
        ConfigurationError: it is to be called with one point, of which it takes care itself.
        UnsupportedError: it is to be called with named parts.
    """
    if not isinstance(target, LogProbTarget) or not isinstance(target.log_prob_fn, NumPyLogProb):
        return False
    if not target.vectorized:
        raise ConfigurationError(
            expected="no `vectorized=False` with numpy_log_prob, which has an option of its own",
            got="vectorized=False",
            fix="leave it out: numpy_log_prob(value_and_grad) takes a function of one point",
        )
    if target.event_map.names is not None:
        raise UnsupportedError(
            expected="one unnamed array with numpy_log_prob",
            got=f"the parts {list(target.event_map.names)}",
            fix="pass event_shape as a list, such as [3], and take the array apart inside value_and_grad",
        )
    return True


def check_data(target: Target) -> None:
    """Nothing, if the data of a joint are values that their distributions can take.

    TFP's log densities go on between and beyond the whole numbers, and those of Exponential and Weibull below zero, so
    that the fit would look fine.

    Raises:
        DataError: counts that are negative, not whole, too large or add up to another total; values outside a support
            that does not depend on latent parts.
    """
    if not isinstance(target, JointTarget) or not target.observed_names:
        return
    distributions, others = (joints.distributions(target.joint, seed, target.observed_data) for seed in (0, 1))
    for name, value in target.observed_data.items():
        distribution, other = supports.bare(distributions[name]), supports.bare(others[name])
        mixed = isinstance(distribution, tfd.MixtureSameFamily)
        counts = supports.bare(distribution.components_distribution) if mixed else distribution
        if isinstance(counts, COUNTS):
            wrong, wanted = _no_counts(counts, value)
        else:
            wrong, wanted = _outside(distribution, other, value)
        if wrong.any():
            more = int(wrong.sum()) - 1
            raise DataError(
                expected=f"{name!r} {wanted}",
                got=f"{value[wrong][0]:g}" + (f" and {more} more like it" if more else ""),
                fix=f"correct the data, or give {name!r} a distribution that can take these values",
            )


def _no_counts(distribution: Any, value: Array) -> tuple[Array, str]:
    """Which values are no counts that a discrete distribution can take, and what it can."""
    top = np.inf
    if isinstance(distribution, tfd.Bernoulli):
        top = 1
    elif isinstance(distribution, tfd.Categorical):
        top = int(distribution.logits_parameter().shape[-1]) - 1
    wrong = (value < 0) | (value > top) | (value != np.round(value))
    wanted = "in whole numbers from 0" + (f" to {top}" if top < np.inf else "")
    if isinstance(distribution, tfd.Multinomial | tfd.OneHotCategorical) and not wrong.any():
        total = np.asarray(distribution.total_count if isinstance(distribution, tfd.Multinomial) else 1.0)
        wrong = np.broadcast_to((value.sum(-1) != total)[..., np.newaxis], value.shape)
        wanted += " that add up to " + (f"{total:g}" if total.ndim == 0 else "total_count")
    return wrong, wanted


def _outside(distribution: Any, other: Any, value: Array) -> tuple[Array, str]:
    """Which values are outside a continuous distribution's support, and what is inside.

    None where the support differs between two draws of the latent parts, for it may move to the data; none for an
    angle, whose density is periodic.
    """
    none = np.zeros(value.shape, bool), ""
    bijectors: list[Any] = [supports.bijector_of(each) for each in (distribution, other)]
    if None in bijectors or isinstance(distribution, tfd.VonMises) or not np.issubdtype(value.dtype, np.floating):
        return none
    free = np.asarray(bijectors[0].inverse(tf.constant(value)))
    inside = tf.fill(free.shape, tf.cast(0.3, distribution.dtype))
    if not np.array_equal(bijectors[0].forward(inside), bijectors[1].forward(inside)):
        return none
    if isinstance(bijectors[0], tfb.SoftmaxCentered):
        wrong = (value < 0.0) | (np.abs(value.sum(-1, keepdims=True) - 1.0) > SIMPLEX_TOLERANCE)
        return wrong, "in rows of parts that are not negative and add up to 1"
    if free.shape != value.shape:
        return none
    wrong, at_end = np.isnan(free), np.isinf(free)
    if at_end.any() and distribution.event_shape.rank == 0:  # an end, such as zero, may have a density or none
        wrong |= at_end & ~(np.isfinite(distribution.log_prob(value)) | np.isfinite(other.log_prob(value)))
    if not wrong.any():
        return none
    far = [tf.fill(value.shape, tf.cast(end, distribution.dtype)) for end in (-np.inf, np.inf)]
    low, high = (np.asarray(bijectors[0].forward(points))[wrong][0] for points in far)
    return wrong, f"between {low:g} and {high:g}, the support of its {type(distribution).__name__} distribution"


def try_parts(parts: Parts, event_size: int) -> None:
    """Run every part once on a standard base, as the training step would.

    Raises:
        ConfigurationError: a part raises, or returns another kind, shape or dtype, or what is not finite.
    """
    base = mixtures.standard_base(event_size)
    parameters: dict[str, Parameters] = {}
    for index, name in enumerate(("sampler", "critic", "contrast")):
        with _named(name):
            parameters[name] = getattr(parts, name).initial_parameters(base, 0, index)
    parameters = tf.nest.map_structure(tf.convert_to_tensor, parameters)
    seed, z_shape, shape = tf.constant([0, 1]), [NUM_TRIED, 1, event_size], [NUM_TRIED, 1]
    with _named("sampler"):
        proposal = parts.sampler(parameters["sampler"], NUM_TRIED, None, seed)
        if not isinstance(proposal, Proposal):
            raise ConfigurationError(expected="sampler to return a Proposal", got=a_kind(proposal), fix=_SEE)
        _check("sampler", "draws z", proposal.z, z_shape)
        _check("sampler", "log_choice", proposal.log_choice, shape)
        if proposal.log_density is not None:
            _check("sampler", "log_density", proposal.log_density, shape)
    with _named("contrast"):
        density = avb.contrast_density(parts, parameters, None)
        drawn = density.sample(NUM_TRIED, seed)
        _check("contrast", "draws", drawn, z_shape)
        _check("contrast", "log_prob", density.log_prob(proposal.z), shape)
        parts.contrast.update(parameters["contrast"], proposal.z)
    with _named("critic"):
        logits = [avb.critic_logits(parts, parameters["critic"], density, z, None) for z in (proposal.z, drawn)]
        _check("critic", "T", logits[0], shape)
    with _named("ratio_loss"):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = parts.ratio_loss(*logits)
        _check("ratio_loss", "loss", loss, [])
        if all(part is None for part in tape.gradient(loss, logits)):
            raise ConfigurationError(
                expected="ratio_loss to have a gradient", got="none with respect to the critic's values", fix=_SEE
            )


def try_derived(derived: Derived, draws: Any, num_draws: int) -> None:
    """Call ``derived`` on draws [S, ...]; ``DataError`` when it raises, or what it returns is not [S, ...] by name."""
    try:
        with np.errstate(all="ignore"):
            found = derived(draws)
    except (ArithmeticError, np.linalg.LinAlgError, tf.errors.OpError):
        return  # of these draws, perhaps, not of the function
    except Exception as error:
        got = first_line(error)
        raise DataError(expected="derived to run on a batch of draws", got=got, fix=_DERIVED_FIX) from error
    check_derived(found, draws if isinstance(draws, Mapping) else {UNNAMED: draws}, num_draws)


def check_derived(found: Mapping[str, Any], named: Mapping[str, Any], num_draws: int) -> None:
    """Nothing, if derived quantities have names beside those of the draws, and their first axis; else ``DataError``."""
    if not isinstance(found, Mapping):
        raise DataError(expected="derived to return a dict of arrays", got=a_kind(found), fix=_DERIVED_FIX)
    for name, value in found.items():
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            array = np.zeros((), object)
        shape, fits = array.shape, array.dtype.kind in "biuf" and not np.ma.is_masked(value)
        if not isinstance(name, str) or not fits:
            raise DataError(
                expected="derived quantities as arrays of numbers, with names as keys",
                got=f"{name!r}: {a_kind(value)}" + ("" if fits else f" of dtype {array.dtype}"),
                fix="return a dict of text -> array, e.g. {'ratio': d['mu'] / d['tau']}; of a complex array its parts",
            )
        if name in named or shape[:1] != (num_draws,):
            raise DataError(
                expected=f"derived quantities under new names, each with the {num_draws} draws as first axis",
                got=f"{name!r} of shape {shape}",
                fix="rename it, or keep the axis of draws first: write mu[..., None] to broadcast against vectors",
            )


def start_values(start: Any) -> Any:
    """A point or draws as arrays of numbers; ``StartError`` when they are none."""
    named = isinstance(start, Mapping)
    try:
        parts = {name: np.asarray(value) for name, value in (start if named else {"": start}).items()}
    except ValueError as error:
        raise _no_start(first_line(error)) from error
    if any(map(np.ma.is_masked, start.values() if named else [start])):
        raise _no_start("masked values")
    for value in parts.values():
        if value.dtype.kind not in "iuf":
            raise _no_start(f"{a_kind(start)} of {value.dtype}")
        if not value.size:
            raise _no_start(f"an array of shape {list(value.shape)}")
    return parts if named else parts[""]


def unconstrained(unconstrain: Callable[[Any], Tensor], start: Any) -> Array:
    """z [D] or [S, D] of a start; ``StartError`` when its parts do not go together."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(unconstrain(start_values(start)), np.float64)
    except EventShapeError as error:
        if error.expected == SAME_DRAWS:
            raise _no_start(error.got) from None
        raise EventShapeError(expected=f"start= as {error.expected}", got=error.got, fix=error.fix) from None
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise _no_start(first_line(error)) from error


def _no_start(got: str) -> StartError:
    return StartError(
        expected="start as a point, draws or a dict of them, as numbers of the event's shape",
        got=got,
        fix="pass one point in the shape of event_shape, draws with one more axis in front (the same for every part), "
        "or an earlier posterior",
    )


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Whatever is raised inside a part, as an error of ours."""
    try:
        yield
    except NeuralVBError:
        raise
    except Exception as error:
        raise ConfigurationError(
            expected=f"{part} to run on {NUM_TRIED} draws", got=first_line(error), fix=_SEE
        ) from error


def _check(part: str, what: str, value: Any, shape: list[int]) -> None:
    expected = f"{part} to return {what} as float32 tensors of shape {shape}"
    if not tf.is_tensor(value) or value.dtype != tf.float32:
        got = a_kind(value) + (f" of {value.dtype.name}" if tf.is_tensor(value) else "")
        raise ConfigurationError(expected=expected, got=got, fix=_SEE)
    if value.shape.as_list() != shape:
        raise ConfigurationError(expected=expected, got=f"shape {value.shape.as_list()}", fix=_SEE)
    if not np.isfinite(value.numpy()).all():
        raise ConfigurationError(expected=f"{part} to return finite {what}", got="NaN or infinity", fix=_SEE)
