"""XLA where it works; where it does not, one warning and the same numbers."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb.compilation import Compiled, quiet_tracing, slices
from neural_vb.errors import CompilationWarning, GradientError


def refused_by_xla(z: tf.Tensor) -> tf.Tensor:
    doubled = tf.numpy_function(lambda values: 2.0 * values, [z], tf.float32)
    return tf.reduce_sum(tf.ensure_shape(doubled, z.shape), -1)


def accepted_by_xla(z: tf.Tensor) -> tf.Tensor:
    return 2.0 * tf.reduce_sum(z, -1)


Z = tf.reshape(tf.range(12.0), [4, 3])


def test_the_fallback_warns_once_and_gives_the_same_numbers() -> None:
    compiled = Compiled(refused_by_xla, jit_compile=True)
    with pytest.warns(CompilationWarning, match="failed under XLA.*Fix: replace the operation it names, or pass"):
        first = compiled(Z)
    assert not compiled.jit_compile
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = compiled(Z)
    for value in (first, second):
        np.testing.assert_array_equal(value, accepted_by_xla(Z))


@pytest.mark.parametrize("part", [refused_by_xla, accepted_by_xla])
def test_xla_compiles_a_part_alone_and_falls_back_alike(part: Any) -> None:
    def around(part: Any, z: tf.Tensor) -> tf.Tensor:
        return refused_by_xla(part(z)[:, tf.newaxis]) + part(tf.ones_like(z))

    compiled = Compiled(around, jit_compile=True, part=part)
    expected = 2.0 * accepted_by_xla(Z) + 6.0
    if part is refused_by_xla:
        with pytest.warns(CompilationWarning, match="failed under XLA"):
            np.testing.assert_array_equal(compiled(Z), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(compiled(Z), expected)
    assert compiled.jit_compile is (part is accepted_by_xla)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_no_warning_without_a_reason(jit_compile: bool) -> None:
    compiled = Compiled(accepted_by_xla, jit_compile=jit_compile)
    np.testing.assert_array_equal(compiled(Z), accepted_by_xla(Z))
    assert compiled.jit_compile is jit_compile


def test_without_xla_nothing_is_refused() -> None:
    np.testing.assert_array_equal(Compiled(refused_by_xla, jit_compile=False)(Z), accepted_by_xla(Z))


@pytest.mark.parametrize("jit_compile", [True, False])
def test_errors_of_ours_pass_through(jit_compile: bool) -> None:
    def broken(z: tf.Tensor) -> tf.Tensor:
        raise GradientError(expected="a", got="b", fix="c")

    compiled = Compiled(broken, jit_compile=jit_compile)
    with pytest.raises(GradientError, match=r"Expected a; got b\. Fix: c"):
        compiled(Z)
    assert compiled.jit_compile is jit_compile


def test_what_fails_in_the_plain_graph_too_is_raised() -> None:
    def broken(z: tf.Tensor) -> tf.Tensor:
        return z @ tf.ones([5, 5])

    with pytest.warns(CompilationWarning), pytest.raises(ValueError, match="Dimensions must be equal"):
        Compiled(broken, jit_compile=True)(Z)


def test_tracing_advice_is_held_back_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tensorflow")
    filters = list(logger.filters)

    @quiet_tracing()
    def work() -> None:
        logger.warning("5 out of the last 5 calls to %s triggered tf.function retracing.", "f")
        logger.warning("Using a while_loop for converting %s", "Op")
        logger.warning("something else")

    logger.addHandler(caplog.handler)  # TensorFlow's logger does not propagate
    try:
        for _ in range(2):
            work()
            assert logger.filters == filters
        logger.warning("Using a while_loop for converting %s", "Op")
    finally:
        logger.removeHandler(caplog.handler)
    assert list(dict.fromkeys(caplog.messages)) == ["something else", "Using a while_loop for converting Op"]


def test_many_compiled_functions_from_one_line_bring_no_advice_on_retracing(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    try:
        for _ in range(8):
            Compiled(accepted_by_xla, jit_compile=False)(Z)
    finally:
        logger.removeHandler(caplog.handler)
    assert not any("retracing" in message for message in caplog.messages)


@pytest.mark.parametrize(("num", "width"), [(7, 3), (6, 3), (2, 5), (1, 1)])
def test_slices_have_one_shape_and_begin_with_every_row_once(num: int, width: int) -> None:
    found = list(slices(num, width))
    assert {rows.shape for rows in found} == {(width,)}
    together = np.concatenate(found)
    np.testing.assert_array_equal(together[:num], np.arange(num))
    assert len(together) < num + width and together.max() < num
