"""Named errors. Each says what was expected, what came and what to do next."""

from __future__ import annotations

import functools
from typing import Any


class NeuralVBError(Exception):
    """Base of every error that neural_vb raises on purpose.

    Args:
        expected: what the package needed, as a noun phrase or short sentence.
        got: what came instead, with names and numbers.
        fix: the next step for the user, as an imperative.
    """

    def __init__(self, *, expected: str, got: str, fix: str) -> None:
        stop = "" if got.endswith(".") else "."
        super().__init__(f"Expected {expected}; got {got}{stop} Fix: {fix}")
        self.expected = expected
        self.got = got
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """Through pickles between processes, with the notes added on the way."""
        make = functools.partial(type(self), expected=self.expected, got=self.got, fix=self.fix)
        return make, (), self.__dict__


class TargetShapeError(NeuralVBError):
    """The log density returned the wrong shape, or its value for one draw depends on other draws."""


class TargetValueError(NeuralVBError):
    """The log density is NaN or infinite where it must be finite, or could not be evaluated."""


class SupportError(NeuralVBError):
    """The log density is zero (log p = -inf) on a region that a bijector should map away."""


class GradientError(NeuralVBError):
    """The log density has no usable gradient with respect to the parameters."""


class DtypeError(NeuralVBError):
    """The log density works in, or returns, a dtype that does not fit."""


class DataError(NeuralVBError):
    """Observed data has unknown, missing or misshapen parts."""


class LatentError(NeuralVBError):
    """The latent parts of a joint distribution cannot be inferred as they are."""


class BijectorError(NeuralVBError):
    """A bijector does not fit the event it is meant to constrain."""


class EventShapeError(NeuralVBError):
    """`event_shape` is missing or malformed."""


class ImproperDensityError(NeuralVBError):
    """The density does not seem to have a finite integral: mass runs away to infinity."""


class StartError(NeuralVBError):
    """`start` does not describe a point, draws or an earlier posterior of this target."""


class ConfigurationError(NeuralVBError):
    """An option has a value outside its range, or options contradict each other."""


class UnsupportedError(NeuralVBError):
    """The posterior or target at hand cannot do what was asked of it."""


class FileFormatError(NeuralVBError):
    """A saved posterior is missing, incomplete or not of a known schema."""


class StorageError(NeuralVBError):
    """A file could not be written whole: the disk is full or failed. What was there before is as it was."""


class CheckpointError(NeuralVBError):
    """A checkpoint folder is in use, or belongs to another call."""


class MissingDependencyError(NeuralVBError):
    """An optional library is needed for this call and is not installed."""


class NeuralVBWarning(UserWarning):
    """Base of every warning that neural_vb emits."""


class PrecisionWarning(NeuralVBWarning):
    """The target's floating-point precision is too coarse for its log density."""


class CompilationWarning(NeuralVBWarning):
    """XLA could not compile the target; training falls back to the plain graph."""


class ImportanceWarning(NeuralVBWarning):
    """Importance weights were asked for where they are unreliable."""


class PriorWarning(NeuralVBWarning):
    """A joint distribution came without data: its draws are those of the prior."""


class StorageWarning(NeuralVBWarning):
    """A checkpoint could not be written; the fit goes on, and the checkpoint before is as it was."""
