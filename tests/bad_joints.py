"""Joint distributions and data that must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from bad_input import LINE, MU, Kinds, Row, Y, joint, on

from neural_vb.errors import (
    DataError,
    DtypeError,
    LatentError,
    SupportError,
    TargetShapeError,
    TargetValueError,
)

tfd = tfp.distributions
Root = tfd.JointDistributionCoroutine.Root

DISCRETE: dict[str, Any] = {
    "Bernoulli": lambda: tfd.Bernoulli(0.5),
    "BetaBinomial": lambda: tfd.BetaBinomial(5.0, 1.0, 2.0),
    "Binomial": lambda: tfd.Binomial(5.0, probs=0.5),
    "Categorical": lambda: tfd.Categorical(probs=[0.5, 0.5]),
    "BatchReshape": lambda: tfd.Independent(tfd.BatchReshape(tfd.Poisson([1.0, 2.0]), [2, 1]), 2),
    "DeterminantalPointProcess": lambda: tfd.DeterminantalPointProcess([1.0, 2.0], tf.eye(2)),
    "DirichletMultinomial": lambda: tfd.DirichletMultinomial(5.0, [1.0, 2.0]),
    "Empirical": lambda: tfd.Empirical([1, 2, 3]),
    "FiniteDiscrete": lambda: tfd.FiniteDiscrete([1.0, 2.0], probs=[0.5, 0.5]),
    "Geometric": lambda: tfd.Geometric(probs=0.5),
    "HiddenMarkovModel": lambda: tfd.HiddenMarkovModel(
        tfd.Categorical(probs=[0.5, 0.5]),
        tfd.Categorical(probs=[[0.5, 0.5], [0.5, 0.5]]),
        tfd.Categorical(probs=[[0.5, 0.5], [0.2, 0.8]]),
        num_steps=3,
    ),
    "Independent": lambda: tfd.Independent(tfd.Poisson([1.0, 2.0]), 1),
    "Masked": lambda: tfd.Masked(tfd.Poisson(3.0), True),
    "MixtureSameFamily": lambda: tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.Poisson([1.0, 5.0])),
    "Multinomial": lambda: tfd.Multinomial(5.0, probs=[0.5, 0.5]),
    "NegativeBinomial": lambda: tfd.NegativeBinomial(5.0, probs=0.5),
    "OneHotCategorical": lambda: tfd.OneHotCategorical(probs=[0.5, 0.5]),
    "OrderedLogistic": lambda: tfd.OrderedLogistic([-1.0, 1.0], 0.0),
    "PlackettLuce": lambda: tfd.PlackettLuce([1.0, 2.0]),
    "Poisson": lambda: tfd.Poisson(3.0),
    "PoissonLogNormalQuadratureCompound": lambda: tfd.PoissonLogNormalQuadratureCompound(0.0, 1.0),
    "ProbitBernoulli": lambda: tfd.ProbitBernoulli(0.5),
    "QuantizedDistribution": lambda: tfd.QuantizedDistribution(tfd.Normal(0.0, 3.0)),
    "Sample": lambda: tfd.Sample(tfd.Bernoulli(0.5), 3),
    "Skellam": lambda: tfd.Skellam(1.0, 2.0),
    "StoppingRatioLogistic": lambda: tfd.StoppingRatioLogistic([-1.0, 1.0], 0.0),
    "TransformedDistribution": lambda: tfd.TransformedDistribution(tfd.Poisson(3.0), tfp.bijectors.Shift(1.0)),
    "Zipf": lambda: tfd.Zipf(3.0),
    "zero-inflated": lambda: tfd.Inflated(tfd.Poisson(3.0), 0.5),
}


def discrete(make: Any) -> Row:
    """A joint with one discrete latent part."""
    model = joint(k=make(), mu=MU, y=lambda mu: tfd.Normal(mu, tf.ones(3)))
    return on(LatentError, model, "a continuous latent part 'k'", "marginalise 'k' out")


def nameless() -> Any:
    mu = yield tfd.Normal(0.0, 1.0)
    yield tfd.Normal(mu, tf.ones(3), name="y")


def twins() -> Any:
    mu = yield tfd.Normal(0.0, 1.0, name="mu")
    again = yield tfd.Normal(0.0, 1.0, name="mu")
    yield tfd.Normal(mu + again, tf.ones(3), name="y")


def breaks() -> Any:
    mu = yield tfd.Normal(0.0, 1.0, name="mu")
    yield tfd.Normal(mu.missing, tf.ones(3), name="y")


def rootless() -> Any:
    mu = yield tfd.Normal(0.0, 1.0, name="mu")
    yield tfd.Normal(mu, tf.ones(3), name="y")


def _halved(mu: tf.Tensor) -> Any:
    return tfd.Normal(mu / 2.0, tf.ones(3))


def branching() -> Any:
    mu = yield tfd.Normal(0.0, 1.0, name="mu")
    if mu > 0:
        mu = -mu
    yield tfd.Normal(mu, tf.ones(3), name="y")


def shapes() -> Any:
    mu = yield tfd.Sample(tfd.Normal(0.0, 1.0), 2, name="mu")
    yield tfd.Normal(mu, tf.ones(3), name="y")


def empty() -> Any:
    return
    yield


Coroutine = tfd.JointDistributionCoroutineAutoBatched
WIDE = tf.constant(1.0, tf.float64)
COUNTS = joint(rate=tfd.Gamma(2.0, 1.0), y=lambda rate: tfd.Poisson(rate * tf.ones(3)))
COINS = joint(p=tfd.Beta(2.0, 2.0), y=lambda p: tfd.Bernoulli(probs=p * tf.ones(3)))
TIMES = joint(rate=tfd.Gamma(2.0, 1.0), y=lambda rate: tfd.Gamma(2.0, rate * tf.ones(3)))
VOTES = joint(a=MU, y=lambda a: tfd.Multinomial(10.0, logits=a * tf.constant([1.0, 0.0, -1.0])))
CHOICE = joint(a=MU, y=lambda a: tfd.OneHotCategorical(logits=a * tf.constant([1.0, 0.0, -1.0])))
MIXED = joint(
    a=MU,
    y=lambda a: tfd.Sample(
        tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.Poisson(tf.exp(a) * tf.constant([1.0, 5.0]))), 3
    ),
)
DECAYS = joint(rate=tfd.Gamma(2.0, 1.0), y=lambda rate: tfd.Exponential(rate * tf.ones(3)))
LIVES = joint(rate=tfd.Gamma(2.0, 1.0), y=lambda rate: tfd.Weibull(1.5, rate * tf.ones(3)))
LOGARITHMS = joint(mu=MU, y=lambda mu: tfd.LogNormal(mu, tf.ones(3)))
CHANCES = joint(a=tfd.Gamma(2.0, 1.0), y=lambda a: tfd.Beta(a, 2.0 * tf.ones(3)))
MOVING = joint(
    rate=tfd.Gamma(2.0, 1.0),
    y=lambda rate: tfd.TransformedDistribution(tfd.Gamma(2.0, rate * tf.ones(3)), tfp.bijectors.Shift(-rate)),
)
SHARES = joint(mu=MU, y=lambda mu: tfd.Dirichlet(tf.exp(mu) * tf.ones(3)))
SUM = joint(a=MU, s=lambda a: tfd.Deterministic(2.0 * a), y=lambda s: tfd.Normal(s, tf.ones(3)))
NESTED = tfd.JointDistributionNamed({"inner": tfd.JointDistributionNamed({"a": MU}), "y": tfd.Sample(MU, 3)})


KINDS: Kinds = {
    "names of data": {
        "unknown": on(DataError, LINE, "got data for 'yy'", "did you mean 'y'?", data={"yy": Y}),
        "one too many": on(DataError, LINE, "got data for 'x'", "use the joint's names", data={"y": Y, "x": Y}),
        "empty": on(DataError, LINE, "nothing is observed", "or data=None", data={}),
        "without names": on(DataError, LINE, "got an array", "pass data={'y': ...}", data=Y),
        "a list": on(DataError, LINE, "got a list", "pass data={'y': ...}", data=[1.0, 2.0, 0.0]),
        "numbers for names": on(DataError, LINE, "got data for 0", "use the joint's names", data={0: Y}),
        "text": on(DataError, LINE, "got a str", "pass data=", data="data.csv"),
    },
    "shapes of data": {
        "too short": on(DataError, LINE, "got shape [2]", "reshape the data", data={"y": Y[:2]}),
        "a column": on(DataError, LINE, "got shape [3, 1]", "reshape the data", data={"y": Y[:, None]}),
        "a number": on(DataError, LINE, "got shape []", "build the joint for this many", data={"y": 1.0}),
        "a batch of data sets": on(DataError, LINE, "got shape [5, 3]", "reshape", data={"y": np.zeros((5, 3))}),
        "no data at all": on(DataError, LINE, "got shape [0]", "build the joint", data={"y": []}),
        "ragged": on(DataError, LINE, "numbers for 'y'", "full rows", data={"y": [[1.0], [1.0, 2.0]]}),
    },
    "values of data": {
        "masked": on(
            DataError,
            LINE,
            "got 1 masked of 3 values",
            "drop them",
            data={"y": np.ma.masked_invalid([1.0, np.nan, 0.0])},
        ),
        "missing": on(DataError, LINE, "got 1 NaN of 3 values", "drop them", data={"y": [1.0, np.nan, 0.0]}),
        "nothing": on(DataError, LINE, "numbers for 'y'; got None", "leave it out: parts without", data={"y": None}),
        "None": on(DataError, LINE, "'y'", "one dtype", data={"y": [1.0, None, 0.0]}),
        "text": on(DataError, LINE, "numbers for 'y'", "pass an array", data={"y": ["a", "b", "c"]}),
        "infinite": on(DataError, LINE, "finite 'y'; got infinity", "rescale it", data={"y": [1.0, np.inf, 0.0]}),
        "complex": on(DataError, LINE, "an array of complex128", "one dtype", data={"y": [1j, 0.0, 1.0]}),
        "too large": on(DataError, LINE, "or an overflow", "rescale it", data={"y": np.array([1e300, 0.0, 1.0])}),
        "halves for counts": on(DataError, COINS, "'y' in int32", "whole numbers", data={"y": [0.5, 0.0, 1.0]}),
        "dates": on(
            DataError, LINE, "datetime64[D]", "one dtype", data={"y": np.array(["2020-01-01"] * 3, "datetime64[D]")}
        ),
    },
    "data that cannot be": {
        "negative counts": on(
            DataError, COUNTS, "whole numbers from 0; got -1", "correct the data", data={"y": [-1.0, 2.0, 3.0]}
        ),
        "fractions of counts": on(
            DataError, COUNTS, "whole numbers from 0; got 0.5", "correct the data", data={"y": [0.5, 2.0, 3.0]}
        ),
        "counts of another total": on(
            DataError,
            VOTES,
            "from 0 that add up to 10; got 7 and 2 more",
            "correct the data",
            data={"y": [7.0, 1.0, 1.0]},
        ),
        "two categories at once": on(
            DataError, CHOICE, "from 0 that add up to 1; got 1", "correct the data", data={"y": [1, 1, 0]}
        ),
        "fractions in a mixture of counts": on(
            DataError, MIXED, "whole numbers from 0; got 0.5", "correct the data", data={"y": [0.5, 2.0, 3.0]}
        ),
        "coins that show two": on(
            DataError, COINS, "from 0 to 1; got 2", "that can take these values", data={"y": [0, 1, 2]}
        ),
        "negative times": on(
            DataError, TIMES, "'y' between 0 and inf, the support of its Gamma", "correct", data={"y": [-1.0, 2.0, 3.0]}
        ),
        "negative times without memory": on(
            DataError, DECAYS, "of its Exponential distribution; got -1 and 1 more", "correct", data={"y": [-1, -2, 3]}
        ),
        "negative lives": on(DataError, LIVES, "its Weibull distribution; got -2", "correct", data={"y": [1, -2, 3]}),
        "a time of zero": on(
            DataError, LOGARITHMS, "of its LogNormal distribution; got 0", "give 'y'", data={"y": [1, 0, 3]}
        ),
        "percents for shares": on(
            DataError,
            CHANCES,
            "'y' between 0 and 1, the support of its Beta distribution; got 20",
            "correct",
            data={"y": [20, 0.3, 0.4]},
        ),
        "beyond a support that moves": on(
            TargetValueError, MOVING, "NaN at 64 of 64", "look whether the data", data={"y": [-1e4, 2.0, 3.0]}
        ),
        "shares that are negative": on(
            DataError,
            SHARES,
            "parts that are not negative and add up to 1; got -0.2",
            "correct",
            data={"y": [0.5, 0.7, -0.2]},
        ),
        "shares that do not add up": on(
            DataError, SHARES, "add up to 1; got 0.5 and 2 more like it", "correct", data={"y": [0.5, 0.2, 0.1]}
        ),
    },
    "discrete latents": {name: discrete(make) for name, make in DISCRETE.items()},
    "latents without a density": {
        "deterministic": on(
            LatentError, SUM, "a Deterministic distribution, which has none", "report it through `derived`"
        ),
        "deterministic vector": on(
            LatentError,
            joint(v=tfd.VectorDeterministic([1.0, 2.0]), y=tfd.Sample(MU, 3)),
            "VectorDeterministic",
            "`derived`",
        ),
        "a wrapped one": on(
            LatentError,
            joint(v=tfd.Independent(tfd.Deterministic([1.0]), 1), y=tfd.Sample(MU, 3)),
            "which has none",
            "`derived`",
        ),
        "a point mass among others": on(
            LatentError,
            joint(v=tfd.Mixture(tfd.Categorical(probs=[0.5, 0.5]), [MU, tfd.Deterministic(0.0)]), y=tfd.Sample(MU, 3)),
            "a continuous latent part 'v'",
            "marginalise 'v' out",
        ),
    },
    "latents to infer": {
        "nothing left": on(
            LatentError, LINE, "data for all of", "leave the parts to infer out", data={"y": Y, "mu": 0.0}
        ),
        "unnamed": on(LatentError, Coroutine(nameless), "positions [0], besides ['y']", 'name="mu"'),
        "the same name twice": on(
            LatentError, Coroutine(twins), "Duplicated distribution name: mu", "a name of its own"
        ),
        "unnamed list": on(
            LatentError,
            tfd.JointDistributionSequentialAutoBatched([MU, tfd.Normal(0.0, tf.ones(3), name="y")]),
            "[0]",
            "name",
        ),
        "a joint inside": on(LatentError, NESTED, "a joint with a joint inside", "each under its own name"),
        "no parts": on(TargetValueError, Coroutine(empty), "StopIteration", "sample it"),
    },
    "batches": {
        "one part": on(
            TargetShapeError,
            tfd.JointDistributionNamed({"mu": tfd.Normal(tf.zeros(3), 1.0), "y": lambda mu: tfd.Normal(mu, 1.0)}),
            "which would mix with the axis of draws",
            "use the AutoBatched class",
        ),
        "of the whole": on(
            TargetShapeError,
            tfd.JointDistributionNamedAutoBatched({"mu": tfd.Normal(tf.zeros(3), 1.0), "y": MU}, batch_ndims=1),
            "batch shapes [3]",
            "with batch_ndims=0",
        ),
        "data along the draws": on(
            TargetShapeError,
            tfd.JointDistributionNamed(
                {"mu": MU, "y": lambda mu: tfd.Independent(tfd.Normal(mu + tf.zeros(64), 1.0), 1)}
            ),
            "treats each row on its own",
            "tfd.Independent",
            data={"y": np.linspace(-1.0, 1.0, 64)},
        ),
        "data across the draws": on(
            TargetShapeError,
            tfd.JointDistributionNamed(
                {"mu": MU, "y": lambda mu: tfd.Independent(tfd.Normal(mu + tf.zeros(3), 1.0), 1)}
            ),
            "evaluates many draws at once",
            "AutoBatched",
        ),
    },
    "precision of a joint": {
        "two precisions": on(
            DtypeError,
            joint(mu=MU, s=tfd.HalfNormal(WIDE), y=lambda mu: tfd.Normal(mu, tf.ones(3))),
            "one precision",
            "same dtype",
        ),
        "float16": on(
            DtypeError,
            joint(
                mu=tfd.Normal(tf.constant(0.0, tf.float16), 1.0), y=lambda mu: tfd.Normal(mu, tf.ones(3, tf.float16))
            ),
            "float32 or float64",
            "same dtype",
        ),
        "data in other precision inside": on(
            DtypeError,
            joint(mu=MU, y=lambda mu: tfd.Normal(mu * WIDE, tf.ones(3))),
            "a log density in one dtype",
            "dtype of the arguments",
        ),
    },
    "models that do not run": {
        "exception": on(TargetValueError, Coroutine(breaks), "missing", "sample it"),
        "Python's if": on(TargetValueError, Coroutine(branching), "OperatorNotAllowedInGraphError", "tf.where"),
        "arguments": on(
            TargetValueError, joint(mu=MU, y=lambda mu: _halved(mu, 2.0)), "positional argument", "what they take"
        ),
        "shapes": on(TargetValueError, Coroutine(shapes), "loc.shape=(2,), scale.shape=(3,)", "sample it"),
        "root not marked": on(
            TargetShapeError, tfd.JointDistributionCoroutine(rootless), "batch shapes {'y': [3]}", "tfd.Independent"
        ),
        "no distribution": on(
            TargetValueError, joint(mu=MU, y=lambda mu: 3.0 * mu), "no attribute 'sample'", "sample it"
        ),
        "negative scale": on(
            TargetValueError,
            joint(mu=MU, y=lambda mu: tfd.Normal(mu, -tf.ones(3))),
            "NaN at 64 of 64",
            "under the model",
        ),
        "zero scale": on(
            TargetValueError,
            joint(mu=MU, y=lambda mu: tfd.Normal(mu, tf.zeros(3))),
            "NaN at 64 of 64",
            "scales of zero",
        ),
        "a scale that may be negative": on(
            SupportError,
            joint(s=MU, y=lambda s: tfd.Normal(0.0, s * tf.ones(3))),
            "s must be above 0",
            "such as tfd.HalfNormal",
        ),
    },
}
