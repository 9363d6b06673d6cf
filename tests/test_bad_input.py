"""Bad input through ``fit``: one error each, of the right kind, with its fix, before any training."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import errors
from neural_vb.errors import NeuralVBError

tfb, tfd = tfp.bijectors, tfp.distributions


class Case(NamedTuple):
    """What is passed to ``fit``, and a piece of the error before and after its ``Fix:``."""

    target: Any
    found: str
    fix: str
    options: dict[str, Any]


def case(target: Any, found: str, fix: str, **options: Any) -> Case:
    return Case(target, found, fix, {"event_shape": [2]} | options)


def normal(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


def where(condition: Callable, inside: Callable = normal, outside: float = -np.inf) -> Callable:
    return lambda z: tf.where(condition(z), inside(z), outside)


def centred_by_the_batch(z: tf.Tensor) -> tf.Tensor:
    return normal(z - tf.reduce_mean(z, 0))


def integers(z: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(normal(z), tf.int32), tf.float32)


def whole_numbers(z: tf.Tensor) -> tf.Tensor:
    return normal(z - tf.constant([1, 2]))


def hidden(z: tf.Tensor) -> tf.Tensor:
    return normal(tf.stop_gradient(z)) + 0.0 * tf.reduce_sum(z, -1)


def nameless() -> Any:
    mu = yield tfd.Normal(0.0, 1.0)
    yield tfd.Normal(mu, tf.ones(3), name="y")


def python_if(z: tf.Tensor) -> tf.Tensor:
    return -(z[:, 0] ** 2) if z[0, 0] > 0 else -(z[:, 1] ** 2)


def gamma(mu: tf.Tensor, tau: tf.Tensor) -> tf.Tensor:
    inside = tf.where(tau > 0.0, tau, 1.0)
    return -0.5 * mu**2 + tf.where(tau > 0.0, tf.math.log(inside) - tau, -np.inf)


NAMED: dict[str, Any] = {"event_shape": {"mu": [], "tau": []}}
SUPPORT = "finite on all of R^D"

LOG_DENSITIES: dict[type[NeuralVBError], dict[str, Case]] = {
    errors.TargetShapeError: {
        "scalar": case(
            lambda z: -tf.reduce_sum(z**2), "shape [64]; got shape [] (a scalar", "tf.reduce_sum(..., axis=-1)"
        ),
        "column": case(lambda z: normal(z)[:, None], "got shape [64, 1]", "drop the last axis of size 1 (tf.squeeze"),
        "one per coordinate": case(
            lambda z: -tf.reduce_sum(z**2, 0), "shape [64]; got shape [2]", "keep the leading one"
        ),
        "matrix": case(lambda z: -(z**2), "got shape [64, 2]", "reduce over the event axes only"),
        "mixing rows": case(centred_by_the_batch, "treats each row on its own", "or pass vectorized=False"),
        "array for one point": case(
            lambda z: -(z**2), "scalar log density for one point; got shape [2]", "return a scalar", vectorized=False
        ),
    },
    errors.TargetValueError: {
        "NaN near the start": case(where(lambda z: tf.sin(5.0 * z[:, 0]) > 0, outside=np.nan), "NaN at ", "start=..."),
        "an argument of another name": case(
            lambda mu, tau: -(mu**2),
            "argument 'sigma'",
            "each name of event_shape",
            event_shape={"mu": [], "sigma": []},
        ),
        "+inf near the start": case(where(lambda z: z[:, 0] > 0, outside=np.inf), "+inf at ", "division by zero"),
        "-inf almost everywhere": case(
            where(lambda z: tf.norm(z - 30.0, axis=-1) < 0.1), "-inf at 64 of 64 points", "or pass start=... at a point"
        ),
        "nothing returned": case(lambda z: None, "got None", "return the value it computes"),
        "an exception": case(lambda z: 1 / 0, "got ZeroDivisionError", "call log_prob on a batch of points yourself"),
        "Python's if": case(python_if, "OperatorNotAllowedInGraphError", "by tf.where, tf.cond"),
    },
    errors.SupportError: {
        "half line": case(where(lambda z: z[:, 0] > 0), SUPPORT, "tfb.Exp()"),
        "half line from elsewhere": case(where(lambda z: z[:, 1] > -1.5), SUPPORT, "tfb."),
        "interval": case(where(lambda z: tf.abs(z[:, 0] - 0.5) < 0.5), SUPPORT, "tfb.Sigmoid("),
        "a named part": case(gamma, "tau", "tfb.Exp()", **NAMED),
        "NaN instead": case(lambda z: tf.reduce_sum(tf.math.log(z) - z, -1), SUPPORT, "z[0]"),
        "simplex": case(
            where(lambda z: tf.reduce_sum(z, -1) < 1.0), "no single coordinate explains it", "SoftmaxCentered"
        ),
    },
    errors.GradientError: {
        "rounded": case(integers, "got None: an operation without derivative", "tf.cast to integers"),
        "stopped": case(lambda z: tf.stop_gradient(normal(z)), "got None", "tf.stop_gradient"),
        "zero": case(hidden, "a gradient that is zero at every point in z[0], z[1]", "tf.stop_gradient"),
        "NumPy inside": case(lambda z: np.sum(z, -1), "NumPy on a tensor inside it", "np.sum -> tf.reduce_sum"),
        "NumPy returned": case(lambda z: np.zeros(64, np.float32), "got a numpy.ndarray", "compute it with TensorFlow"),
    },
    errors.DtypeError: {
        "returned": case(lambda z: tf.cast(normal(z), tf.float16), "got float16", "take the dtype from the arguments"),
        "mixed": case(whole_numbers, "a log density in one dtype", "tf.cast(data, z.dtype)"),
    },
    errors.ImproperDensityError: {
        "a part without influence": case(
            lambda z: -(z[:, 0] ** 2), "log p does not change with z[1]", "give z[1] a prior"
        ),
        "level to one side": case(
            lambda z: tf.math.log_sigmoid(z[:, 0]) - z[:, 1] ** 2, "z[0] goes to +infinity", "add a proper prior"
        ),
        "level along a diagonal": case(
            lambda z: -((z[:, 0] - z[:, 1]) ** 2), "a combination of z[0], z[1]", "proper prior"
        ),
        "a loss": case(lambda z: -normal(z), "does not fall when", "it is the positive log density, not a loss"),
    },
    errors.EventShapeError: {
        "missing": case(normal, "event_shape", "event_shape=", event_shape=None),
        "empty": case(normal, "[0]", "", event_shape=[0]),
        "not a shape": case(normal, "'two'", "event_shape", event_shape="two"),
    },
    errors.BijectorError: {
        "for an unknown part": case(gamma, "'sigma'", "choose from mu, tau", bijector={"sigma": tfb.Exp()}, **NAMED),
        "a dict for an array": case(normal, "dict", "", bijector={"z": tfb.Exp()}),
        "one for a dict": case(gamma, "Exp", "", bijector=tfb.Exp(), **NAMED),
        "no bijector": case(normal, "function", "tfb.", bijector=tf.exp),
        "of another rank": case(gamma, "tau", "", bijector={"tau": tfb.CorrelationCholesky()}, **NAMED),
    },
    errors.DataError: {
        "for a callable": case(normal, "`data` with a callable", "leave `data` out", data={"y": 1.0}),
    },
    errors.UnsupportedError: {
        "a number": case(3.0, "got a float", "pass a function from points [n, ...]"),
        "a single distribution": case(tfd.Normal(0.0, 1.0), "got a Normal", "into a tfd.JointDistributionNamed"),
    },
    errors.ConfigurationError: {
        "fractional seed": case(normal, "got 0.5", "pass, for example, seed=0", seed=0.5),
        "negative seed": case(normal, "got -1", "pass, for example, seed=0", seed=-1),
        "config as a dict": case(normal, "config as a TrainingConfig; got a dict", "pass config=", config={}),
        "boolean seed": case(normal, "got True", "pass, for example, seed=0", seed=True),
    },
}

Y = np.float32([1.0, 2.0, 0.0])
MU = tfd.Normal(0.0, 1.0)


def joint(**parts: Any) -> Any:
    return tfd.JointDistributionNamedAutoBatched(parts)


def on(model: Any, found: str, fix: str, data: Any = {"y": Y}, **options: Any) -> Case:  # noqa: B006
    return case(model, found, fix, **{"data": data, "event_shape": None} | options)


LINE = joint(mu=MU, y=lambda mu: tfd.Normal(mu, tf.ones(3)))
CHOICE = joint(k=tfd.Bernoulli(0.5), y=lambda k: tfd.Normal(tf.cast(k, tf.float32), tf.ones(3)))
UNNAMED = tfd.JointDistributionCoroutineAutoBatched(nameless)
BATCHED = tfd.JointDistributionNamed({"mu": tfd.Normal(tf.zeros(3), 1.0), "y": lambda mu: tfd.Normal(mu, 1.0)})
SUM = joint(a=MU, s=lambda a: tfd.Deterministic(2.0 * a), y=lambda s: tfd.Normal(s, tf.ones(3)))

JOINTS: dict[type[NeuralVBError], dict[str, Case]] = {
    errors.DataError: {
        "unknown name": on(LINE, "got data for 'yy'", "did you mean 'y'?", data={"yy": Y}),
        "empty": on(LINE, "nothing is observed", "or data=None", data={}),
        "without names": on(LINE, "got a ndarray", "pass data={'y': ...}", data=Y),
        "wrong shape": on(LINE, "got shape [2]", "reshape the data", data={"y": Y[:2]}),
        "missing values": on(LINE, "got 1 NaN of 3 values", "drop them", data={"y": [1.0, np.nan, 0.0]}),
        "text": on(LINE, "numbers for 'y'", "pass an array", data={"y": ["a", "b", "c"]}),
    },
    errors.LatentError: {
        "nothing left": on(LINE, "got data for all of", "leave the parts to infer out", data={"y": Y, "mu": 0.0}),
        "unnamed": on(UNNAMED, "got unnamed parts at positions [0], besides ['y']", 'name="mu"'),
        "discrete": on(CHOICE, "a Bernoulli distribution, which is discrete", "marginalise 'k' out"),
        "deterministic": on(SUM, "got a Deterministic distribution, which has none", "report it through `derived`"),
    },
    errors.TargetShapeError: {
        "batch dimensions": on(BATCHED, "which would mix with the axis of draws", "use the AutoBatched class"),
    },
    errors.EventShapeError: {
        "given": on(LINE, "`event_shape` with a joint", "leave `event_shape` out", event_shape=[1]),
    },
    errors.BijectorError: {
        "given": on(LINE, "`bijector` with a joint", "leave `bijector` out", bijector=tfb.Exp()),
    },
    errors.ConfigurationError: {
        "vectorized": on(LINE, "`vectorized=False` with a joint", "leave `vectorized=False` out", vectorized=False),
    },
}


def must_not_train(step: int, metrics: Any) -> bool:
    pytest.fail("training started")


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        pytest.param(kind, case, id=f"{kind.__name__} - {name}")
        for table in (LOG_DENSITIES, JOINTS)
        for kind, cases in table.items()
        for name, case in cases.items()
    ],
)
def test_bad_input_gets_a_named_error_with_its_fix_before_training(kind: type[NeuralVBError], case: Case) -> None:
    start = time.monotonic()
    with pytest.raises(NeuralVBError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.NeuralVBWarning)
        nvb.fit(case.target, **case.options, progress=False, callbacks=[must_not_train])
    error = caught.value
    assert type(error) is kind, error
    assert case.found in f"Expected {error.expected}; got {error.got}", error
    assert error.fix and case.fix in error.fix, error
    assert time.monotonic() - start < 10.0


def test_every_kind_of_error_has_a_case() -> None:
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NeuralVBError)}
    elsewhere = {NeuralVBError, errors.StartError, errors.FileFormatError, errors.MissingDependencyError}
    assert kinds - elsewhere == {*LOG_DENSITIES, *JOINTS}
