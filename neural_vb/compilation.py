"""XLA where it works, the plain graph where it does not."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from neural_vb.errors import CompilationWarning, NeuralVBError

logger = logging.getLogger(__name__)


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
        self._compiled = tf.function(function, jit_compile=jit_compile, autograph=False)

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
                f"XLA could not compile the log density; continuing in the plain graph, several times slower. "
                f"Fix: replace the operation it names, or pass TrainingConfig(jit_compile=False). It said: {message}",
                CompilationWarning,
                stacklevel=2,
            )
            self.jit_compile = False
            self._compiled = tf.function(self._function, autograph=False)
            return self._compiled(*arguments)
