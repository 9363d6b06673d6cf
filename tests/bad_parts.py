"""Settings and parts of a fit that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from bad_arguments import POSITIVE, OneWay
from bad_input import LINE, MU, Kinds, Row, Y, fit, normal, on, row, scaled

import neural_vb as nvb
from neural_vb.errors import (
    ConfigurationError,
    DataError,
    EventShapeError,
    UnsupportedError,
)

tfb, tfd = tfp.bijectors, tfp.distributions


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


KINDS: Kinds = {
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
        "a callback without arguments": row(
            ConfigurationError, normal, "functions of (step, metrics)", "callbacks=[function]", callbacks=[lambda: None]
        ),
        "a checkpoint without a name": row(
            ConfigurationError, normal, "path of a folder; got ''", "a_folder", checkpoint=""
        ),
        "a checkpoint that no system has": row(
            ConfigurationError, normal, "path of a folder; got 'a\\x00b'", "a_folder", checkpoint="a\0b"
        ),
        "a checkpoint that is no path": row(
            ConfigurationError, normal, "path of a folder; got 3", "a_folder", checkpoint=3
        ),
        "its restarts": row(
            ConfigurationError, normal, "path of a folder; got 3", "a_folder", checkpoint=3, num_restarts=2
        ),
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
        "a number": part("sampler", 3, "an int without", "leave it out for the default"),
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
        "nothing returned": part("ratio_loss", lambda q, r: None, "got None", "see `Extending`"),
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
            "a dict of arrays; got an array",
            "whose first axis is the draws",
            DataError,
        ),
        "nothing returned": part("derived", lambda draws: None, "got None", "return a dict", DataError),
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
