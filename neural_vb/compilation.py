"""XLA where it works, the plain graph where it does not."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from neural_vb.errors import CompilationWarning, NeuralVBError

logger = logging.getLogger(__name__)


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Hold back TensorFlow's advice on tracing: it is about code that the user neither sees nor can change."""

    def keep(record: logging.LogRecord) -> bool:
        return not any(text in str(record.msg) for text in ("tf.function retracing", "Using a while_loop"))

    tensorflow_logger = logging.getLogger("tensorflow")
    tensorflow_logger.addFilter(keep)
    try:
        yield
    finally:
        tensorflow_logger.removeFilter(keep)


class Compiled:
    """A function compiled on first use, by XLA if asked for and possible.

    XLA compiles all or nothing: one unsupported operation in a user's density refuses the whole function. Then this
    warns once (:class:`CompilationWarning`) and goes on without XLA.

    Args:
        function: of tensors, traceable.
        jit_compile: try XLA.
    """

    def __init__(self, function: Callable[..., Any], *, jit_compile: bool) -> None:
        self._function = function
        self.jit_compile = jit_compile
        # TensorFlow counts traces by code object, and would warn of the fifth posterior; a partial has none.
        self._compiled = tf.function(functools.partial(function), jit_compile=jit_compile, autograph=False)

    def __call__(self, *arguments: Any) -> Any:
        if not self.jit_compile:
            return self._compiled(*arguments)
        try:
            return self._compiled(*arguments)
        except NeuralVBError:
            raise
        except (tf.errors.OpError, ValueError, TypeError) as error:
            logger.info("XLA refused: %s", error)
            message = str(error).strip().splitlines()[0][:300]
            warnings.warn(
                f"the log density failed under XLA; continuing in the plain graph, several times slower. "
                f"Fix: replace the operation it names, or pass TrainingConfig(jit_compile=False). It said: {message}",
                CompilationWarning,
                stacklevel=2,
            )
            self.jit_compile = False
            self._compiled = tf.function(functools.partial(self._function), autograph=False)
            return self._compiled(*arguments)
