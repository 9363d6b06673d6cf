"""XLA where it works, the plain graph where it does not."""

from __future__ import annotations

import functools
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python.framework import ops

from neural_vb._types import Array
from neural_vb.errors import CompilationWarning, NeuralVBError

logger = logging.getLogger(__name__)

_tidying = threading.Lock()  # one thread at a time writes what a graph of any thread holds


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


def graph(function: Callable[..., Any], *, jit_compile: bool = False) -> Any:
    """``tf.function`` whose traces die with it.

    Two registries would keep them as long as the process lives. The cache that all TFP bijectors share has entries that
    hold tensors of the graph (as in https://github.com/tensorflow/probability/issues/647). That of TensorFlow's
    gradients has a closure over such tensors for each ``tf.custom_gradient``, and many of TFP's densities have one.
    """

    def traced(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        finally:
            with _tidying:
                _forget_bijectors(tf.compat.v1.get_default_graph())
                _tie_gradients()

    # TensorFlow counts traces by code object, and would warn of the fifth posterior; a partial has none.
    return tf.function(functools.partial(traced), jit_compile=jit_compile, autograph=False)


def slices(num: int, width: int) -> Iterator[Array]:
    """Rows 0 to ``num`` - 1, ``width`` at a time: indices [width], the last filled up with rows from the first on.

    One shape, one compilation. Of what comes out, put together, the first ``num`` count.
    """
    for begin in range(0, num, width):
        yield np.arange(begin, begin + width) % num


def _forget_bijectors(own: Any) -> None:
    """Drop what TFP's bijectors remember of tensors in a graph and in those inside it, which needs them no more."""
    remembered = tfp.bijectors.Bijector._cache.storage
    for key in list(remembered):
        if any(_within(getattr(tensor, "graph", None), own) for tensor in tf.nest.flatten(key())):
            key.cancel()
            remembered.pop(key, None)


def _tie_gradients() -> None:
    """Let each custom gradient live as long as the graph that it is of, and no longer."""
    registered = ops.gradient_registry._registry
    for name, entry in list(registered.items()):
        gradient = entry["type"]
        if not name.startswith("CustomGradient-") or isinstance(gradient, _Weak):
            continue
        result = _closed_over(_closed_over(gradient, "tape_grad_fn"), "result")
        home = tf.nest.flatten(result)[0].graph
        home._neural_vb_gradients = [*getattr(home, "_neural_vb_gradients", ()), gradient]
        entry["type"] = _Weak(gradient)
        weakref.finalize(home, registered.pop, name, None)


class _Weak:
    """A function that this does not keep."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = weakref.ref(function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function()(*arguments)  # type: ignore[misc]


def _closed_over(function: Callable[..., Any], name: str) -> Any:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return cells[name].cell_contents


def _within(inner: Any, outer: Any) -> bool:
    while inner is not None and inner is not outer:
        inner = getattr(inner, "outer_graph", None)
    return inner is outer


class Compiled:
    """A function compiled on first use, by XLA if asked for and possible.

    XLA compiles all or nothing: one unsupported operation in a user's density refuses the whole of what it is given.
    Then this warns once (:class:`CompilationWarning`) and goes on without XLA.

    Args:
        function: of tensors, traceable.
        jit_compile: try XLA.
        part: the one part of it that XLA is to compile; the function is given it before its arguments. None: all.
    """

    def __init__(
        self, function: Callable[..., Any], *, jit_compile: bool, part: Callable[..., Any] | None = None
    ) -> None:
        self._function, self._part = function, part
        self.jit_compile = jit_compile
        self._compiled = self._built()

    def _built(self) -> Any:
        if self._part is None:
            return graph(self._function, jit_compile=self.jit_compile)
        return graph(functools.partial(self._function, graph(self._part, jit_compile=self.jit_compile)))

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
            self._compiled = self._built()
            return self._compiled(*arguments)
