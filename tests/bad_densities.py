"""Log densities that must be refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from bad_input import Kinds, normal, row, scaled

from neural_vb.errors import (
    DtypeError,
    GradientError,
    ImproperDensityError,
    SupportError,
    TargetShapeError,
    TargetValueError,
)

tfd = tfp.distributions

NAMED: dict[str, Any] = {"event_shape": {"mu": [], "tau": []}}
RNG = np.random.default_rng(0)
CALLS: list[int] = []
COUNTER = tf.Variable(0.0)


def where(condition: Callable, inside: Callable = normal, outside: float = -np.inf) -> Callable:
    return lambda z: tf.where(condition(z), inside(z), outside)


def counted(z: tf.Tensor) -> tf.Tensor:
    CALLS.append(1)
    return normal(z) * len(CALLS)


def added(z: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([COUNTER.assign_add(1.0)]):
        return normal(z) * COUNTER.read_value()


def minibatch(z: tf.Tensor) -> tf.Tensor:
    rows = tf.random.uniform([8], 0, 100, tf.int32)
    return normal(z) - tf.reduce_sum((z[:, :1] - tf.gather(tf.range(100.0), rows)) ** 2, -1)


def python_if(z: tf.Tensor) -> tf.Tensor:
    return -(z[:, 0] ** 2) if z[0, 0] > 0 else -(z[:, 1] ** 2)


def python_while(z: tf.Tensor) -> tf.Tensor:
    while tf.reduce_sum(z**2) > 1.0:
        z = 0.5 * z
    return normal(z)


def python_for(z: tf.Tensor) -> tf.Tensor:
    return tf.stack([normal(point) for point in tf.cast(z, z.dtype) if point[0] > -1e9])


def asserted(z: tf.Tensor) -> tf.Tensor:
    assert z.shape[-1] == 3, "three parameters"
    return normal(z)


def checked(z: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.assert_positive(z, message="rates")]):
        return normal(z)


def factor(z: tf.Tensor) -> tf.Tensor:
    return normal(z) + tf.linalg.cholesky(z[:, :1, None] - 0.1)[:, 0, 0]


def endless(z: tf.Tensor) -> tf.Tensor:
    return endless(z)


def large(z: tf.Tensor) -> tf.Tensor:
    return 1 / 0 if z.shape[0] > 64 else normal(z)


def zeroed(z: tf.Tensor) -> tf.Tensor:
    return normal(z) - tf.norm(0.0 * z, axis=-1)


def hidden(z: tf.Tensor) -> tf.Tensor:
    return normal(tf.stop_gradient(z)) + 0.0 * tf.reduce_sum(z, -1)


def integers(z: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(normal(z), tf.int32), tf.float32)


KINDS: Kinds = {
    "shape of the result": {
        "scalar": row(
            TargetShapeError,
            lambda z: -tf.reduce_sum(z**2),
            "on which log_prob is tried together, shape [64]; got shape [] (a scalar",
            "axis=-1",
        ),
        "column": row(TargetShapeError, lambda z: normal(z)[:, None], "got shape [64, 1]", "drop the last axis"),
        "one per coordinate": row(TargetShapeError, lambda z: -tf.reduce_sum(z**2, 0), "got shape [2]", "leading one"),
        "matrix": row(TargetShapeError, lambda z: -(z**2), "got shape [64, 2]", "reduce over the event axes only"),
        "pairs of rows": row(
            TargetShapeError, lambda z: -((z[:, :1] - z[:, 1]) ** 2), "got shape [64, 64]", "mu[:, None]"
        ),
        "first row": row(TargetShapeError, lambda z: normal(z)[:1], "got shape [1]", "keep the leading one"),
        "one row short": row(TargetShapeError, lambda z: normal(z)[1:], "got shape [63]", "keep the leading one"),
        "wide data": row(
            TargetShapeError, lambda z: -((z[:, :1] - tf.range(5.0)) ** 2), "got shape [64, 5]", "event axes only"
        ),
    },
    "rows that know each other": {
        "centred": row(
            TargetShapeError, lambda z: normal(z - tf.reduce_mean(z, 0)), "each row on its own", "vectorized"
        ),
        "cumulated": row(TargetShapeError, lambda z: tf.cumsum(normal(z)), "each row on its own", "vectorized=False"),
        "normalised": row(
            TargetShapeError, lambda z: tf.nn.log_softmax(normal(z)), "each row on its own", "vectorized=False"
        ),
        "sorted": row(TargetShapeError, lambda z: tf.sort(normal(z)), "each row on its own", "vectorized=False"),
        "reversed": row(TargetShapeError, lambda z: normal(z)[::-1], "each row on its own", "vectorized=False"),
        "repeated": row(
            TargetShapeError, lambda z: normal(z) * 0 + tf.reduce_sum(normal(z)), "each row", "axis=-1, not over all"
        ),
        "data along the rows": row(
            TargetShapeError, lambda z: normal(z) - (z[:, 0] - tf.range(64.0)) ** 2, "each row", "data axes apart"
        ),
    },
    "no tensor returned": {
        "nothing": row(TargetValueError, lambda z: None, "got None", "return the value it computes"),
        "a tuple": row(TargetValueError, lambda z: (normal(z), z), "got a tuple", "one tensor"),
        "a list": row(TargetValueError, lambda z: [normal(z)], "got a list", "one tensor"),
        "a dict": row(TargetValueError, lambda z: {"log_prob": normal(z)}, "got a dict", "one tensor"),
        "a number": row(GradientError, lambda z: 0.0, "got a float", "compute it with TensorFlow"),
        "a string": row(TargetValueError, lambda z: "normal", "got a str", "one tensor"),
        "a distribution": row(TargetValueError, lambda z: tfd.Normal(z[:, 0], 1.0), "Normal", "its log_prob"),
        "a function": row(TargetValueError, lambda z: normal, "got a function", "one tensor"),
        "a generator": row(TargetValueError, lambda z: (x for x in [z]), "got a generator", "one tensor"),
    },
    "exceptions inside": {
        "division": row(
            TargetValueError, lambda z: 1 / 0, "got ZeroDivisionError", "call log_prob on a batch of points"
        ),
        "unknown name": row(TargetValueError, lambda z: normal(z) + undefined, "NameError", "call log_prob"),  # noqa: F821
        "unknown key": row(TargetValueError, lambda z: normal(z) + {}["scale"], "KeyError: 'scale'", "call log_prob"),
        "matrix product": row(
            TargetValueError, lambda z: normal(z @ tf.ones([3, 3])), "ValueError: Dim", "call log_prob"
        ),
        "index": row(TargetValueError, lambda z: normal(z) + z[:, 5], "out of bounds", "call log_prob"),
        "assertion": row(TargetValueError, asserted, "AssertionError: three parameters", "call log_prob"),
        "check of values": row(TargetValueError, checked, "rates", "call log_prob"),
        "at many rows alone": row(TargetValueError, large, "got ZeroDivisionError", "call log_prob on a batch"),
        "endless recursion": row(TargetValueError, endless, "RecursionError", "call log_prob"),
    },
    "arguments of the log density": {
        "another name": row(
            TargetValueError, lambda mu, tau: -(mu**2), "'sigma'", "each name", event_shape={"mu": [], "sigma": []}
        ),
        "none": row(TargetValueError, lambda: tf.zeros(64), "argument", "one argument for each name"),
        "two for an array": row(
            TargetValueError, lambda a, b: normal(a) + normal(b), "'b'", "or one for an event_shape"
        ),
        "not broadcast against data": row(
            TargetValueError, lambda mu, tau: normal(mu - tf.range(5.0)) - tau**2, "64 and 5", "mu[:, None]", **NAMED
        ),
        "too few": row(TargetValueError, lambda mu: -(mu**2), "'tau'", "one argument for each name", **NAMED),
        "too many": row(TargetValueError, lambda mu, tau, nu: -(mu**2), "'nu'", "one argument for each name", **NAMED),
        "positional only": row(
            TargetValueError, lambda mu, tau, /: -(mu**2), "positional-only", "one argument", **NAMED
        ),
        "a dict": row(TargetValueError, lambda parts: -(parts["mu"] ** 2), "'mu'", "one argument for each", **NAMED),
    },
    "NaN near the start": {
        "in stripes": row(
            TargetValueError, where(lambda z: tf.sin(5 * z[:, 0]) > 0, outside=np.nan), "NaN at ", "start=..."
        ),
        "everywhere": row(TargetValueError, lambda z: normal(z) + np.nan, "NaN at 64 of 64", "start=..."),
        "in the middle": row(
            TargetValueError, lambda z: normal(z) + tf.where(tf.norm(z, axis=-1) < 2, np.nan, 0.0), "NaN at ", "start"
        ),
        "0 / 0": row(TargetValueError, lambda z: normal(z) + 0.0 * z[:, 0] / (0.0 * z[:, 1]), "NaN at 64", "start"),
        "data with NaN": row(
            TargetValueError, lambda z: normal(z) - (z[:, 0] - np.float32(np.nan)) ** 2, "NaN at 64", "start"
        ),
    },
    "+inf near the start": {
        "half": row(TargetValueError, where(lambda z: z[:, 0] > 0, outside=np.inf), "+inf at ", "division by zero"),
        "everywhere": row(TargetValueError, lambda z: normal(z) + np.inf, "+inf at 64", "division by zero"),
        "overflow": row(TargetValueError, lambda z: normal(z) + tf.exp(1e3 + z[:, 0] ** 2), "+inf", "overflow"),
        "1 / 0": row(TargetValueError, lambda z: normal(z) + 1.0 / tf.abs(0.0 * z[:, 0]), "+inf at 64", "division"),
    },
    "no finite point": {
        "-inf almost everywhere": row(
            TargetValueError, where(lambda z: tf.norm(z - 30.0, axis=-1) < 0.1), "-inf at 64 of 64", "or pass start=..."
        ),
        "-inf everywhere": row(TargetValueError, lambda z: normal(z) - np.inf, "-inf at 64 of 64", "start=..."),
        "probabilities underflow": row(
            TargetValueError, lambda z: tf.math.log(tf.exp(normal(z) - 1e4)), "-inf at 64", "in log space"
        ),
        "mixed": row(
            TargetValueError, lambda z: tf.where(z[:, 0] > 0, np.nan, -np.inf) + 0.0 * normal(z), "NaN at ", "start"
        ),
        "data outside": row(
            TargetValueError, lambda z: normal(z) + tfd.Gamma(2.0, 1.0).log_prob(-1.0), "of 64 points", "start="
        ),
    },
    "hard edges": {
        "half line": row(SupportError, where(lambda z: z[:, 0] > 0), "z[0] must be above 0", "tfb.Exp()"),
        "half line from elsewhere": row(SupportError, where(lambda z: z[:, 1] > -1.5), "above -1.5", "tfb.Shift(-1.5)"),
        "other half line": row(SupportError, where(lambda z: z[:, 1] < 1.0), "below 1", "tfb.Scale(-1.)"),
        "interval": row(SupportError, where(lambda z: tf.abs(z[:, 0] - 0.5) < 0.5), "between 0 and 1", "tfb.Sigmoid("),
        "a named part": row(
            SupportError, scaled, "tau must be above 0", "tfb.Exp() or tfb.Softplus() for tau", **NAMED
        ),
        "NaN instead": row(
            SupportError, lambda z: tf.reduce_sum(tf.math.log(z) - z, -1), "z[0] must be above 0; z[1]", "for z[1]"
        ),
        "a distribution's": row(
            SupportError, lambda z: normal(z) + tfd.Uniform(-1.0, 2.0).log_prob(z[:, 1]), "between -1 and 2", "Sigmoid"
        ),
        "simplex": row(
            SupportError, where(lambda z: tf.reduce_sum(z, -1) < 1.0), "no single coordinate", "SoftmaxCent"
        ),
        "order": row(SupportError, where(lambda z: z[:, 0] < z[:, 1]), "no single coordinate", "tfb.Ascending"),
        "disc": row(
            SupportError, where(lambda z: tf.norm(z, axis=-1) < 1.5), "no single coordinate", "with a bijector"
        ),
        "Cholesky factor": row(SupportError, factor, "z[0] must be above 0.1", "tfb.Softplus()"),
    },
    "no gradient": {
        "integers": row(GradientError, integers, "got None: an operation without derivative", "tf.cast to integers"),
        "stopped": row(GradientError, lambda z: tf.stop_gradient(normal(z)), "got None", "tf.stop_gradient"),
        "rounded": row(GradientError, lambda z: normal(tf.round(z)), "got None", "tf.round"),
        "argmax": row(
            GradientError, lambda z: tf.cast(tf.argmax(z, -1), tf.float32), "got None", "tf.cast to integers"
        ),
        "comparison": row(GradientError, lambda z: tf.cast(z[:, 0] > 0, z.dtype), "got None", "comparisons"),
        "NumPy function": row(
            GradientError,
            lambda z: tf.numpy_function(lambda v: -(v**2).sum(-1), [z], z.dtype),
            "got None",
            "numpy_log_prob",
        ),
        "random alone": row(GradientError, lambda z: tf.random.normal([64]), "got None", "does not use the parameters"),
        "constant": row(GradientError, lambda z: tf.zeros(z.shape[0]), "got None", "does not use the parameters"),
        "while loop of XLA": row(
            GradientError,
            lambda z: tf.cast(tf.bitcast(normal(z), tf.int32), z.dtype),
            "got None",
            "tf.cast to integers",
        ),
    },
    "a gradient that says nothing": {
        "zero": row(GradientError, hidden, "zero at every point in z[0], z[1]", "tf.stop_gradient"),
        "sign": row(GradientError, lambda z: normal(tf.sign(z) - 0.5), "zero at every point", "tf.sign"),
        "floor of one": row(
            GradientError, lambda z: normal(tf.stack([z[:, 0], tf.floor(z[:, 1])], 1)), "in z[1],", "tf.floor"
        ),
        "NaN": row(GradientError, zeroed, "NaN or infinity in the derivative to z[0], z[1]", "tf.norm"),
        "NaN behind where": row(
            GradientError,
            lambda z: normal(z) + tf.where(z[:, 1] > 0, tf.exp(-100.0 * z[:, 1]), 0.0),
            "derivative to z[1]",
            "tf.where",
        ),
        "root at zero": row(
            GradientError, lambda z: normal(z) - tf.sqrt(tf.nn.relu(z[:, 0])), "derivative to z[0]", "tf.sqrt"
        ),
    },
    "NumPy inside": {
        "sum": row(GradientError, lambda z: np.sum(z, -1), "on a tensor inside it", "np.sum -> tf.reduce_sum"),
        "exp": row(GradientError, lambda z: normal(z) - np.exp(z[:, 0]), "on a tensor inside it", "numpy_log_prob"),
        "array": row(GradientError, lambda z: normal(np.array(z)), "on a tensor inside it", "numpy_log_prob"),
        "SciPy statistics": row(
            GradientError, lambda z: scipy.stats.norm.logpdf(z).sum(-1), "NumPy or plain Python", "scipy.stats"
        ),
        "SciPy functions": row(
            GradientError, lambda z: -scipy.special.gammaln(z[:, 0]), "on a tensor inside it", "numpy_log_prob"
        ),
        "returned": row(GradientError, lambda z: np.zeros(64, np.float32), "got a numpy.ndarray", "numpy_log_prob"),
        "returned number": row(GradientError, lambda z: np.float64(1.0), "numpy.float64", "numpy_log_prob"),
        "math": row(GradientError, lambda z: normal(z) + math.exp(z[0, 0]), "must be real number", "numpy_log_prob"),
    },
    "eager code": {
        "numpy()": row(GradientError, lambda z: tf.reduce_sum(z.numpy(), -1), "numpy", "leave out .numpy()"),
        "float()": row(
            GradientError, lambda z: normal(z) * float(z[0, 0]), "float() argument", "leave out .numpy() and float()"
        ),
        "int()": row(GradientError, lambda z: normal(z) * int(z[0, 0]), "int() argument", "TensorFlow's"),
        "if": row(TargetValueError, python_if, "OperatorNotAllowedInGraphError", "by tf.where, tf.cond"),
        "while": row(TargetValueError, python_while, "OperatorNotAllowedInGraphError", "by tf.where, tf.cond"),
        "for with if": row(TargetValueError, python_for, "OperatorNotAllowedInGraphError", "by tf.where, tf.cond"),
        "min of Python": row(
            TargetValueError, lambda z: -min(tf.reduce_sum(z), 1.0) + normal(z), "OperatorNotAllowed", "tf.where"
        ),
        "assignment": row(TargetValueError, lambda z: z.__setitem__(0, 1.0), "'__setitem__'", "call log_prob"),
        "tolist": row(GradientError, lambda z: normal(tf.constant(z.tolist())), "'tolist'", "TensorFlow's"),
    },
    "dtypes": {
        "float16 returned": row(
            DtypeError, lambda z: tf.cast(normal(z), tf.float16), "got float16", "from the arguments"
        ),
        "bfloat16 returned": row(DtypeError, lambda z: tf.cast(normal(z), tf.bfloat16), "got bfloat16", "tf.cast"),
        "complex returned": row(
            DtypeError, lambda z: tf.cast(normal(z), tf.complex64), "got complex64", "tf.cast the result"
        ),
        "integers returned": row(DtypeError, lambda z: tf.cast(normal(z), tf.int32), "got int32", "tf.cast"),
        "booleans returned": row(DtypeError, lambda z: z[:, 0] > 0, "got bool", "tf.cast"),
        "text returned": row(DtypeError, lambda z: tf.strings.as_string(normal(z)), "got string", "from the arguments"),
        "integer data": row(
            DtypeError, lambda z: normal(z - tf.constant([1, 2])), "in one dtype", "tf.cast(data, z.dtype)"
        ),
        "both precisions": row(
            DtypeError,
            lambda z: normal(z * tf.constant(1.0, tf.float32) * tf.constant(1.0, tf.float64)),
            "one dtype",
            "dtype of the arguments",
        ),
        "float16 data": row(
            DtypeError, lambda z: normal(z * tf.constant([1.0, 2.0], tf.float16)), "one dtype", "tf.cast"
        ),
        "complex data": row(DtypeError, lambda z: normal(z * tf.constant([1j, 2.0])), "one dtype", "tf.cast"),
        "boolean data": row(DtypeError, lambda z: normal(z * tf.constant([True, False])), "one dtype", "tf.cast"),
    },
    "another value each time": {
        "noise of TensorFlow": row(
            TargetValueError, lambda z: normal(z) + tf.random.normal([64]), "two values at the same point", "before"
        ),
        "noise of NumPy": row(
            TargetValueError, lambda z: normal(z) + RNG.standard_normal(), "two values at the same point", "before"
        ),
        "noise of a layer": row(
            TargetValueError, lambda z: normal(tf.nn.dropout(z, 0.5)), "two values at the same point", "dropout"
        ),
        "counted calls": row(TargetValueError, counted, "two values at the same point", "counters"),
        "a variable that grows": row(TargetValueError, added, "two values at the same point", "variables"),
        "minibatches": row(TargetValueError, minibatch, "two values at the same point", "minibatches"),
    },
    "constant or without a part": {
        "a part without influence": row(
            ImproperDensityError, lambda z: -(z[:, 0] ** 2), "does not change with z[1]", "give z[1] a prior"
        ),
        "zero times": row(ImproperDensityError, lambda z: 0.0 * normal(z), "does not change with z[0]", "prior"),
        "a named part without": row(
            ImproperDensityError, lambda mu, tau: -(mu**2) + 0.0 * tau, "change with tau", "give tau a prior", **NAMED
        ),
    },
    "improper densities": {
        "level to one side": row(
            ImproperDensityError, lambda z: tf.math.log_sigmoid(z[:, 0]) - z[:, 1] ** 2, "z[0] goes to +inf", "prior"
        ),
        "level along a diagonal": row(
            ImproperDensityError, lambda z: -((z[:, 0] - z[:, 1]) ** 2), "a combination of z[0], z[1]", "proper prior"
        ),
        "a loss": row(
            ImproperDensityError, lambda z: -normal(z), "does not fall when", "positive log density, not a loss"
        ),
        "linear": row(ImproperDensityError, lambda z: tf.reduce_sum(z, -1), "does not fall when", "proper prior"),
        "tails of 1 / r": row(
            ImproperDensityError, lambda z: -0.5 * tf.math.log1p(tf.reduce_sum(z**2, -1)), "too slowly", "proper prior"
        ),
        "tails of 1 / r^2 in the plane": row(
            ImproperDensityError, lambda z: -tf.math.log1p(tf.reduce_sum(z**2, -1)), "too slowly", "proper prior"
        ),
        "bounded": row(
            ImproperDensityError,
            lambda z: tf.reduce_sum(tf.sin(z), -1),
            "does not fall when z[0] goes to +infinity",
            "prior",
        ),
    },
    "one point at a time": {
        "array": row(
            TargetShapeError, lambda z: -(z**2), "one point; got shape [2]", "return a scalar", vectorized=False
        ),
        "one number in an array": row(
            TargetShapeError,
            lambda z: -tf.reduce_sum(z**2, keepdims=True),
            "got shape [1]",
            "squeeze",
            vectorized=False,
        ),
        "nothing": row(TargetValueError, lambda z: None, "got None", "return", vectorized=False),
        "exception": row(TargetValueError, lambda z: z[7] ** 2, "out of bounds", "call log_prob", vectorized=False),
        "if": row(TargetValueError, lambda z: -z[0] if z[0] > 0 else z[0], "Operator", "tf.where", vectorized=False),
        "written for rows": row(
            TargetValueError, lambda z: normal(z[:, 0]), "only 1 dims", "call log_prob", vectorized=False
        ),
        "dtype": row(DtypeError, lambda z: tf.cast(normal(z), tf.float16), "got float16", "tf.cast", vectorized=False),
    },
}
