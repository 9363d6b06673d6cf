"""Arguments of ``fit`` other than the log density that must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from bad_input import LINE, MU, Kinds, normal, on, row, scaled

import neural_vb as nvb
from neural_vb.errors import (
    BijectorError,
    DtypeError,
    EventShapeError,
    GradientError,
    StartError,
    TargetValueError,
    UnsupportedError,
)

tfb, tfd = tfp.bijectors, tfp.distributions

NAMED: dict[str, Any] = {"event_shape": {"mu": [], "tau": []}}
POSITIVE: dict[str, Any] = NAMED | {"bijector": {"tau": tfb.Exp()}}


class NotABijector(tfb.Bijector):
    """z -> 0 z, whose log-Jacobian is -inf."""

    def __init__(self) -> None:
        super().__init__(forward_min_event_ndims=0, name="flat")

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return 0.0 * x

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return y

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.log(0.0 * x)


def undecorated() -> Any:
    """A model that yields its distributions, and is nothing yet."""
    mu = yield tfd.Normal(0.0, 1.0, name="mu")
    yield tfd.Normal(mu, 1.0, name="y")


class OneWay:
    """A target without `unconstrain`."""

    event_size = 2
    dtype = tf.float32

    def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
        return normal(z)

    def constrain(self, z: tf.Tensor) -> tf.Tensor:
        return z


KINDS: Kinds = {
    "not a target": {
        "a number": row(UnsupportedError, 3.0, "got a float", "pass a function from points [n, ...]"),
        "nothing": row(UnsupportedError, None, "got None", "pass a function"),
        "a string": row(UnsupportedError, "model.py", "got a str", "pass a function"),
        "an array": row(UnsupportedError, np.zeros(2), "got an array", "pass a function"),
        "a tensor": row(UnsupportedError, tf.zeros(2), "got a tensor", "pass a function"),
        "a list of distributions": row(UnsupportedError, [MU], "got a list", "pass a function"),
        "a single distribution": row(UnsupportedError, MU, "got a Normal", "into a tfd.JointDistributionNamed"),
        "a class": row(UnsupportedError, OneWay, "got the class OneWay", "pass a function"),
        "a model that is not decorated": row(
            UnsupportedError, undecorated, "generator function undecorated", "CoroutineAutoBatched", data={"y": [0.0]}
        ),
        "a model that was called": row(UnsupportedError, undecorated(), "the generator", "CoroutineAutoBatched"),
        "a joint's class": row(UnsupportedError, tfd.JointDistributionNamed, "the class", "pass a function"),
        "a posterior's draws": row(UnsupportedError, {"mu": np.zeros(3)}, "got a dict", "pass a function"),
    },
    "event shapes": {
        "missing": row(EventShapeError, normal, "got None", "state the shape of one point", event_shape=None),
        "without its name": row(
            EventShapeError, normal, "got [2] in the place of data", "event_shape=[2]", data=[2], event_shape=None
        ),
        "parts without its name": row(
            EventShapeError,
            scaled,
            "in the place of data",
            "event_shape={'mu': [], 'tau': []}",
            data={"mu": [], "tau": []},
            event_shape=None,
        ),
        "a number": row(EventShapeError, normal, "got 2", "write [2] for a vector of 2", event_shape=2),
        "text": row(EventShapeError, normal, "'two'", "event_shape=[2]", event_shape="two"),
        "negative": row(EventShapeError, normal, "got [-1]", "event_shape=[2]", event_shape=[-1]),
        "unknown size": row(EventShapeError, normal, "got [None, 2]", "event_shape=[2]", event_shape=[None, 2]),
        "fractions": row(EventShapeError, normal, "got [2.0]", "event_shape=[2]", event_shape=[2.0]),
        "booleans": row(EventShapeError, normal, "got [True]", "event_shape=[2]", event_shape=[True]),
        "an array": row(EventShapeError, normal, "got array([2", "event_shape=[2]", event_shape=np.array([2])),
        "a set": row(EventShapeError, normal, "got {2}", "event_shape=[2]", event_shape={2}),
        "nothing free": row(EventShapeError, normal, "event shape [0]", "the shape of one point", event_shape=[0]),
        "unknown rank": row(
            EventShapeError, normal, "TensorShape(None)", "event_shape=[2]", event_shape=tf.TensorShape(None)
        ),
        "huge": row(
            EventShapeError,
            normal,
            "at most 16384 unconstrained coordinates",
            "without the axes of draws and data",
            event_shape=[10**9],
        ),
    },
    "named parts": {
        "no names": row(EventShapeError, scaled, "an empty dict", "name every part", event_shape={}),
        "numbers for names": row(EventShapeError, scaled, "the key 0", "name every part", event_shape={0: [], 1: []}),
        "a part without shape": row(EventShapeError, scaled, "for 'mu'", "[2]", event_shape={"mu": None, "tau": []}),
        "a negative part": row(EventShapeError, scaled, "for 'tau'", "[2]", event_shape={"mu": [], "tau": [-3]}),
        "parts in parts": row(
            EventShapeError, scaled, "for 'mu'", "for named parts", event_shape={"mu": {"a": []}, "tau": []}
        ),
        "no sizes at all": row(
            EventShapeError, scaled, "which has none", "the shape of one point", event_shape={"mu": [0], "tau": [0]}
        ),
    },
    "bijectors that are none": {
        "a function": row(BijectorError, normal, "function", "such as tfb.Exp()", bijector=tf.exp),
        "a class": row(BijectorError, normal, "Exp", "with the brackets", bijector=tfb.Exp),
        "text": row(BijectorError, normal, "'exp'", "such as tfb.Exp()", bijector="exp"),
        "a list": row(BijectorError, normal, "Exp", "such as tfb.Exp()", bijector=[tfb.Exp(), None]),
        "a class among named": row(
            BijectorError, scaled, "Exp", "with the brackets", bijector={"tau": tfb.Exp}, **NAMED
        ),
    },
    "bijectors of another structure": {
        "unknown part": row(
            BijectorError, scaled, "one for 'sigma'", "choose from mu, tau", bijector={"sigma": tfb.Exp()}, **NAMED
        ),
        "misspelt": row(BijectorError, scaled, "'Tau'", "did you mean 'tau'?", bijector={"Tau": tfb.Exp()}, **NAMED),
        "a dict for an array": row(BijectorError, normal, "a dict", "match the structure", bijector={"z": tfb.Exp()}),
        "one for a dict": row(BijectorError, scaled, "Exp", "match the structure", bijector=tfb.Exp(), **NAMED),
        "with a joint": on(BijectorError, LINE, "`bijector` with a joint", "leave `bijector` out", bijector=tfb.Exp()),
    },
    "bijectors of another shape": {
        "simplex of a number": row(
            BijectorError,
            normal,
            "softmax_centered, which fails",
            "output has",
            event_shape=[],
            bijector=tfb.SoftmaxCentered(),
        ),
        "covariance of a vector": row(
            BijectorError,
            normal,
            "fill_scale_tril, which fails",
            "output has that",
            event_shape=[3],
            bijector=tfb.FillScaleTriL(),
        ),
        "correlation of a number": row(
            BijectorError, scaled, "tau", "output has that shape", bijector={"tau": tfb.CorrelationCholesky()}, **NAMED
        ),
        "parameters of another size": row(
            BijectorError, normal, "which fails on it", "output has that shape", bijector=tfb.Scale([1.0, 2.0, 3.0])
        ),
        "broadcasting": row(
            BijectorError,
            normal,
            "shift, which fails on it",
            "output has that shape",
            event_shape=[],
            bijector=tfb.Shift([1.0, 2.0]),
        ),
        "oblong matrix": row(
            BijectorError, normal, "fill_triangular", "output has", event_shape=[2, 3], bijector=tfb.FillTriangular()
        ),
        "sizes of blocks": row(
            BijectorError,
            normal,
            "blockwise_of_exp_and_identity, which fails",
            "correct event_shape",
            bijector=tfb.Blockwise([tfb.Exp(), tfb.Identity()], block_sizes=[1, 2]),
        ),
    },
    "bijectors of values": {
        "other precision": row(
            DtypeError, normal, "in float64", "in the target's dtype", bijector=tfb.Scale(tf.constant(2.0, tf.float64))
        ),
        "NaN": row(
            BijectorError,
            normal,
            "value or log-Jacobian is NaN or infinite",
            "own parameters",
            bijector=tfb.Scale(np.float32(np.nan)),
        ),
        "infinite": row(
            BijectorError,
            normal,
            "shift, whose value or log-Jacobian is NaN or infinite",
            "own parameters",
            bijector=tfb.Shift(np.float32(np.inf)),
        ),
        "zero scale": row(
            BijectorError,
            normal,
            "whose value or log-Jacobian is NaN or infinite",
            "own parameters",
            bijector=tfb.Scale(0.0, name="zero"),
        ),
        "not one to one": row(
            BijectorError,
            normal,
            "flat, whose value or log-Jacobian is NaN or infinite",
            "own parameters",
            bijector=NotABijector(),
        ),
        "the wrong way round": row(
            BijectorError,
            normal,
            "invert_exp, whose value or log-Jacobian is NaN or infinite",
            "turn it round (tfb.Invert)",
            bijector=tfb.Invert(tfb.Exp()),
        ),
        "absolute value": row(
            BijectorError, normal, "absolute_value, which fails", "choose a bijector", bijector=tfb.AbsoluteValue()
        ),
        "a square": row(
            BijectorError, normal, "square, whose value", "tfb.Exp() for positive parts", bijector=tfb.Square()
        ),
    },
    "shapes of a start": {
        "too long": row(EventShapeError, normal, "shape [3]", "trailing", start=[0.0, 0.0, 0.0]),
        "a number": row(EventShapeError, normal, "shape []", "trailing", start=0.0),
        "few draws": row(StartError, normal, "unconstrained shape [3, 2]", "or more draws", start=np.zeros((3, 2))),
        "three axes": row(StartError, normal, "shape [4, 5, 2]", "one point", start=np.zeros((4, 5, 2))),
        "no draws": row(
            StartError, normal, "an array of shape [0, 2]", "draws with one more axis", start=np.zeros((0, 2))
        ),
        "an array for parts": row(EventShapeError, scaled, "an array", "under its name", start=[0.0, 1.0], **POSITIVE),
        "missing part": row(EventShapeError, scaled, "keys ['mu']", "every part", start={"mu": 0.0}, **POSITIVE),
        "a part too long": row(
            StartError,
            scaled,
            "got {'mu': [2], 'tau': []}",
            "the same for every part",
            start={"mu": [0.0, 1.0], "tau": 1.0},
            **POSITIVE,
        ),
        "draws of two lengths": row(
            StartError,
            scaled,
            "got {'mu': [9], 'tau': [8]}",
            "the same for every part",
            start={"mu": np.zeros(9), "tau": np.ones(8)},
            **POSITIVE,
        ),
        "ragged": row(
            StartError,
            normal,
            "inhomogeneous shape",
            "pass one point in the shape of event_shape",
            start=[[0.0, 1.0], [1.0]],
        ),
    },
    "a density that is not of this event": {
        "more coordinates": row(TargetValueError, lambda z: normal(z) + z[:, 2], "out of bounds.", "does not have"),
        "a box": row(GradientError, lambda z: tf.where(z[:, 0] > 0, 0.0, -np.inf), "got None", "Sigmoid(low, high)"),
    },
    "values of a start": {
        "NaN": row(StartError, normal, "missing values; got 1 NaN, in z[0]", "replace or drop", start=[np.nan, 0.0]),
        "infinite": row(StartError, normal, "inside the support", "boundary", start=[np.inf, 0.0]),
        "on the edge": row(
            StartError, scaled, "coordinates, tau", "boundary", start={"mu": 0.0, "tau": 0.0}, **POSITIVE
        ),
        "outside": row(StartError, scaled, "coordinates, tau", "boundary", start={"mu": 0.0, "tau": -1.0}, **POSITIVE),
        "beside the simplex": row(
            StartError,
            lambda w: tf.reduce_sum(tf.math.log(w), -1),
            "on the support; got numbers that the bijector changes, by 0.12",
            "sums, order",
            event_shape=[3],
            bijector=tfb.SoftmaxCentered(),
            start=[0.5, 0.5, 0.3],
        ),
        "text": row(
            StartError, normal, "a list of <U1", "pass one point in the shape of event_shape", start=["a", "b"]
        ),
        "text for start": row(
            StartError, normal, "a str of <U4", "pass one point in the shape of event_shape", start="mode"
        ),
        "complex": row(
            StartError, normal, "a list of complex128", "pass one point in the shape of event_shape", start=[1j, 0.0]
        ),
        "equal draws": row(
            StartError,
            normal,
            "the same number in 2 coordinates of all draws, z[0], z[1]",
            "or a single point",
            start=np.ones((50, 2)),
        ),
        "no posterior but its class": row(
            StartError, normal, "a type of object", "or an earlier posterior", start=nvb.Posterior
        ),
        "overflow": row(StartError, normal, "1 non-finite unconstrained", "boundary", start=[1e60, 0.0]),
        "a target without its inverse": row(
            UnsupportedError,
            OneWay(),
            "to take start=; got OneWay",
            "leave start= out",
            event_shape=None,
            start=[0.0, 0.0],
        ),
    },
}
