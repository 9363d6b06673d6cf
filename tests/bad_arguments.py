"""Arguments of ``fit`` other than the log density that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from bad_input import LINE, MU, Kinds, Row, Y, fit, normal, on, row, scaled

import neural_vb as nvb
from neural_vb.errors import (
    BijectorError,
    ConfigurationError,
    DataError,
    DtypeError,
    EventShapeError,
    StartError,
    UnsupportedError,
)

tfb, tfd = tfp.bijectors, tfp.distributions

NAMED: dict[str, Any] = {"event_shape": {"mu": [], "tau": []}}
POSITIVE: dict[str, Any] = NAMED | {"bijector": {"tau": tfb.Exp()}}


def settings(found: str, **fields: Any) -> Row:
    """A config that cannot be built."""
    name = next(iter(fields))

    def call(must_not_train: Callable) -> Any:
        return fit(normal, must_not_train, event_shape=[2], config=nvb.TrainingConfig(**fields))

    return Row(ConfigurationError, call, f"TrainingConfig.{name} {found}", f"pass {name}", repr(fields))


def part(name: str, value: Any, found: str, fix: str, error: type = ConfigurationError) -> Row:
    """A part of one's own that does not do what its Protocol says."""
    return row(error, normal, found, fix, **{name: value})


@dataclass(frozen=True)
class Own:
    """A sampler, critic or contrast made of one function."""

    function: Callable

    def initial_parameters(self, base: Any, x_size: int, seed: Any) -> Any:
        return {"scale": np.ones([], np.float32)}

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def update(self, parameters: Any, z: Any) -> Any:
        return parameters


def own_sampler(function: Callable[[tf.Tensor], Any]) -> Own:
    def draw(parameters: Any, num_samples: Any, x: Any, seed: Any) -> Any:
        return function(parameters["scale"] * tf.random.stateless_normal([num_samples, 1, 2], seed, alg="philox"))

    return Own(draw)


class NoUpdate:
    def initial_parameters(self, base: Any, x_size: int, seed: Any) -> Any:
        return ()

    def __call__(self, parameters: Any, x: Any) -> Any:
        return tfd.MultivariateNormalDiag(tf.zeros([1, 2]), tf.ones([1, 2]))


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
        "nothing": row(UnsupportedError, None, "got a NoneType", "pass a function"),
        "a string": row(UnsupportedError, "model.py", "got a str", "pass a function"),
        "an array": row(UnsupportedError, np.zeros(2), "got a ndarray", "pass a function"),
        "a tensor": row(UnsupportedError, tf.zeros(2), "Tensor", "pass a function"),
        "a list of distributions": row(UnsupportedError, [MU], "got a list", "pass a function"),
        "a single distribution": row(UnsupportedError, MU, "got a Normal", "into a tfd.JointDistributionNamed"),
        "a class": row(UnsupportedError, OneWay, "got the class OneWay", "pass a function"),
        "a joint's class": row(UnsupportedError, tfd.JointDistributionNamed, "the class", "pass a function"),
        "a posterior's draws": row(UnsupportedError, {"mu": np.zeros(3)}, "got a dict", "pass a function"),
    },
    "event shapes": {
        "missing": row(EventShapeError, normal, "got None", "state the shape of one point", event_shape=None),
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
            "scale, whose value or log-Jacobian is NaN or infinite",
            "own parameters",
            bijector=tfb.Scale(0.0),
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
        "an array for parts": row(EventShapeError, scaled, "a ndarray", "under its name", start=[0.0, 1.0], **POSITIVE),
        "missing part": row(EventShapeError, scaled, "keys ['mu']", "every part", start={"mu": 0.0}, **POSITIVE),
        "a part too long": row(
            StartError,
            scaled,
            "InvalidArgumentError",
            "the same for every part",
            start={"mu": [0.0, 1.0], "tau": 1.0},
            **POSITIVE,
        ),
        "draws of two lengths": row(
            StartError,
            scaled,
            "InvalidArgumentError",
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
    "values of a start": {
        "NaN": row(StartError, normal, "inside the support", "boundary", start=[np.nan, 0.0]),
        "infinite": row(StartError, normal, "inside the support", "boundary", start=[np.inf, 0.0]),
        "on the edge": row(StartError, scaled, "inside", "boundary", start={"mu": 0.0, "tau": 0.0}, **POSITIVE),
        "outside": row(StartError, scaled, "inside", "boundary", start={"mu": 0.0, "tau": -1.0}, **POSITIVE),
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
            "the same number in 2 coordinates of all draws",
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
    "seeds": {
        "a fraction": row(ConfigurationError, normal, "got 0.5", "pass, for example, seed=0", seed=0.5),
        "negative": row(ConfigurationError, normal, "got -1", "pass, for example, seed=0", seed=-1),
        "boolean": row(ConfigurationError, normal, "got True", "pass, for example, seed=0", seed=True),
        "nothing": row(ConfigurationError, normal, "got None", "pass, for example, seed=0", seed=None),
        "text": row(ConfigurationError, normal, "got '0'", "pass, for example, seed=0", seed="0"),
        "too large": row(ConfigurationError, normal, "got 2147483648", "pass, for example, seed=0", seed=2**31),
        "a pair": row(ConfigurationError, normal, "got (0, 1)", "pass, for example, seed=0", seed=(0, 1)),
    },
    "settings": {
        "config as a dict": row(ConfigurationError, normal, "a TrainingConfig; got a dict", "pass config=", config={}),
        "the class": row(ConfigurationError, normal, "TrainingConfig", "pass config=", config=nvb.TrainingConfig),
        "max_steps": settings("at least 0", max_steps=-1),
        "min_steps": settings("at least 0", min_steps=-1),
        "decay_steps": settings("at least 1", decay_steps=0),
        "batch_size": settings("at least 1", batch_size=0),
        "window": settings("at least 1", window=0),
        "plateau_windows": settings("at least 1", plateau_windows=0),
        "ramp_steps": settings("at least 0", ramp_steps=-5),
        "plateau_tolerance": settings("at least 0 and finite", plateau_tolerance=np.nan),
        "easy_divergence": settings("at least 0 and finite", easy_divergence=np.inf),
        "sampler_rate": settings("positive and finite", sampler_rate=0.0),
        "critic_rate": settings("positive and finite", critic_rate=-1e-3),
        "contrast_rate": settings("positive and finite", contrast_rate=np.inf),
        "target_rate": settings("positive and finite", target_rate=np.nan),
        "max_growth": settings("positive and finite", max_growth=0.0),
        "beta_1": settings("in [0, 1)", beta_1=1.0),
        "beta_2": settings("in [0, 1)", beta_2=-0.1),
        "average_decay": settings("in [0, 1)", average_decay=1.5),
        "fractional steps": settings("as int", max_steps=10.5),
        "text for steps": settings("as int", max_steps="many"),
        "nothing for a rate": settings("as float", sampler_rate=None),
        "text for XLA": settings("as bool", jit_compile="yes"),
        "an array for a rate": settings("as float", sampler_rate=np.ones(2)),
    },
    "samplers": {
        "a class": part(
            "sampler",
            nvb.samplers.ResidualSampler,
            "the class ResidualSampler",
            "pass an instance, such as ResidualSampler()",
        ),
        "text": part("sampler", "flow", "a str without initial_parameters, __call__", "see `Extending`"),
        "a function": part("sampler", lambda *a: None, "a function without initial_parameters", "see `Extending`"),
        "a critic": part("sampler", nvb.critics.MLPCritic(), "takes 4 positional arguments but 5", "see `Extending`"),
        "returns no proposal": part(
            "sampler", own_sampler(lambda z: z), "sampler to return a Proposal; got a tensor", "see `Extending`"
        ),
        "draws of another size": part(
            "sampler",
            own_sampler(lambda z: nvb.Proposal(z[..., :1], z[..., 0])),
            "shape [4, 1, 2]; got shape [4, 1, 1]",
            "see `Extending`",
        ),
        "without the axis of data": part(
            "sampler",
            own_sampler(lambda z: nvb.Proposal(z[:, 0], z[:, 0, 0])),
            "shape [4, 1, 2]; got shape [4, 2]",
            "see `Extending`",
        ),
        "non-finite draws": part(
            "sampler",
            own_sampler(lambda z: nvb.Proposal(z / 0.0, z[..., 0])),
            "finite draws z; got NaN or infinity",
            "see `Extending`",
        ),
        "raises": part("sampler", own_sampler(lambda z: z.missing), "'missing'", "see `Extending`"),
        "a number": part("sampler", 3, "a int without", "leave it out for the default"),
    },
    "critics": {
        "a class": part("critic", nvb.critics.MLPCritic, "the class MLPCritic", "such as MLPCritic()"),
        "a function": part("critic", lambda z: z, "a function without", "see `Extending`"),
        "one number for each coordinate": part(
            "critic", Own(lambda p, z, x: z), "[4, 1]; got shape [4, 1, 2]", "see `Extending`"
        ),
        "a scalar": part("critic", Own(lambda p, z, x: tf.reduce_sum(z)), "[4, 1]; got shape []", "see `Extending`"),
        "raises": part("critic", Own(lambda p, z, x: 1 / 0), "ZeroDivisionError", "see `Extending`"),
        "other precision": part(
            "critic",
            Own(lambda p, z, x: tf.cast(z[..., 0], tf.float64)),
            "float32 tensors of shape [4, 1]; got a tensor of float64",
            "see `Extending`",
        ),
    },
    "contrasts": {
        "a class": part("contrast", nvb.contrasts.Flow, "the class Flow", "such as Flow()"),
        "a distribution": part("contrast", MU, "a Normal without", "see `Extending`"),
        "text": part("contrast", "prior", "a str without", "see `Extending`"),
        "no update": part("contrast", NoUpdate(), "a NoUpdate without update", "see `Extending`"),
        "no density": part("contrast", Own(lambda p, x: 3.0), "no attribute 'sample'", "see `Extending`"),
        "another size": part(
            "contrast",
            Own(lambda p, x: tfd.MultivariateNormalDiag(tf.zeros([1, 3]), tf.ones([1, 3]))),
            "[4, 1, 2]; got shape [4, 1, 3]",
            "see `Extending`",
        ),
        "a prior without one": part(
            "contrast", nvb.contrasts.Prior(), "a prior to contrast with", "Prior(dist", UnsupportedError
        ),
        "a prior of another size": part(
            "contrast",
            nvb.contrasts.Prior(tfd.MultivariateNormalDiag(tf.zeros(3), tf.ones(3))),
            "Incompatible shapes",
            "see `Extending`",
        ),
    },
    "ratio losses": {
        "text": part("ratio_loss", "logistic", "a function; got 'logistic'", "such as ratio_losses.logistic"),
        "nothing": part("ratio_loss", None, "a function; got None", "or leave it out"),
        "one argument": part("ratio_loss", lambda t: t, "takes 1 positional argument but 2", "see `Extending`"),
        "not a scalar": part("ratio_loss", lambda q, r: q - r, "shape []; got shape [4, 1]", "see `Extending`"),
        "nothing returned": part("ratio_loss", lambda q, r: None, "got a NoneType", "see `Extending`"),
        "a number": part("ratio_loss", lambda q, r: 1.0, "got a float", "see `Extending`"),
        "NaN": part("ratio_loss", lambda q, r: tf.reduce_mean(q) * np.nan, "finite loss; got NaN", "see `Extending`"),
        "raises": part("ratio_loss", lambda q, r: q.missing, "'missing'", "see `Extending`"),
    },
    "derived quantities": {
        "text": part("derived", "ratio", "derived as a function; got 'ratio'", "from draws to a dict"),
        "a dict": part("derived", {"ratio": 1}, "got {'ratio': 1}", "from draws to a dict"),
        "no dict returned": part(
            "derived",
            lambda draws: draws[:, 0],
            "a dict of arrays; got a ndarray",
            "whose first axis is the draws",
            DataError,
        ),
        "nothing returned": part("derived", lambda draws: None, "got a NoneType", "return a dict", DataError),
        "a mean": part(
            "derived",
            lambda draws: {"mean": draws.mean()},
            "'mean' of shape ()",
            "keep the axis of draws first",
            DataError,
        ),
        "a name that is taken": row(
            DataError, scaled, "'tau'", "rename it", derived=lambda draws: {"tau": draws["tau"] ** 2}, **POSITIVE
        ),
        "an unknown part": row(
            DataError,
            scaled,
            "'sigma'",
            "return a dict",
            derived=lambda draws: {"ratio": draws["mu"] / draws["sigma"]},
            **POSITIVE,
        ),
        "two arguments": row(
            DataError, scaled, "'tau'", "return a dict", derived=lambda mu, tau: {"ratio": mu / tau}, **POSITIVE
        ),
    },
    "other options": {
        "callbacks that are none": part("callbacks", [3], "callbacks as a list", "pass callbacks=[function]"),
        "one callback without its list": part(
            "callbacks", lambda step, metrics: None, "callbacks as a list", "pass callbacks=[function]"
        ),
        "vectorized as text": part("vectorized", "no", "vectorized as True or False", "pass vectorized=True"),
        "progress as text": part("progress", "bar", "progress as True or False", "pass progress=True"),
        "data for a callable": row(DataError, normal, "`data` with a callable", "leave `data` out", data={"y": Y}),
        "a shape with a joint": on(EventShapeError, LINE, "with a joint", "leave `event_shape` out", event_shape=[1]),
        "one point with a joint": on(
            ConfigurationError,
            LINE,
            "`vectorized=False` with a joint",
            "leave `vectorized=False` out",
            vectorized=False,
        ),
        "a shape with a target": row(EventShapeError, OneWay(), "with a Target", "leave `event_shape` out"),
        "data with a target": row(
            DataError, OneWay(), "`data` with a Target", "leave `data` out", data={"y": Y}, event_shape=None
        ),
        "data with a pinned joint": on(
            DataError, LINE.experimental_pin(y=Y), "`data` with a pinned joint", "leave `data` out"
        ),
    },
}
