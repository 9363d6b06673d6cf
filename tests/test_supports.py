"""Latent parts of every continuous TFP distribution stay inside their support, wherever the network sends them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bad_joints import DISCRETE

from neural_vb.targets import JointTarget

tfd = tfp.distributions

NUM_DRAWS = 10_000
Check = Callable[[np.ndarray], Any]


def between(low: float, high: float) -> Check:
    return lambda x: (x >= low) & (x <= high)


def simplex(x: np.ndarray) -> Any:
    return (x >= 0.0) & (np.abs(x.sum(-1, keepdims=True) - 1.0) < 1e-4)


def correlation_factor(x: np.ndarray) -> Any:
    return (np.abs(x) <= 1.0 + 1e-6) & (np.abs((x**2).sum(-1, keepdims=True) - 1.0) < 1e-3) & (x == np.tril(x))


def increasing(x: np.ndarray) -> Any:
    return x[..., 1:] >= x[..., :-1]


def unit(x: np.ndarray) -> Any:
    return np.abs((x**2).sum(-1) - 1.0) < 1e-3


def symmetric(x: np.ndarray) -> Any:
    return np.isclose(x, np.swapaxes(x, -1, -2), rtol=1e-4)


real, positive = between(-np.inf, np.inf), between(0.0, np.inf)
EYE = tf.linalg.LinearOperatorIdentity(2)
SUPPORTS: dict[str, tuple[Callable[[], Any], Check]] = {
    "AutoregressiveTransition": (lambda: tfd.Normal(0.0, 1.0), real),
    "Bates": (lambda: tfd.Bates(3.0, -1.0, 2.0), between(-1.0, 2.0)),
    "Beta": (lambda: tfd.Beta(0.5, 2.0), between(0.0, 1.0)),
    "Cauchy": (lambda: tfd.Cauchy(0.0, 1.0), real),
    "Chi": (lambda: tfd.Chi(3.0), positive),
    "Chi2": (lambda: tfd.Chi2(3.0), positive),
    "CholeskyLKJ": (lambda: tfd.CholeskyLKJ(4, 2.0), correlation_factor),
    "ContinuousBernoulli": (lambda: tfd.ContinuousBernoulli(probs=0.3), between(0.0, 1.0)),
    "Dirichlet": (lambda: tfd.Dirichlet([0.5, 1.0, 3.0]), simplex),
    "DoublesidedMaxwell": (lambda: tfd.DoublesidedMaxwell(0.0, 1.0), real),
    "ExpGamma": (lambda: tfd.ExpGamma(2.0, 1.0), real),
    "ExpInverseGamma": (lambda: tfd.ExpInverseGamma(2.0, 1.0), real),
    "ExponentiallyModifiedGaussian": (lambda: tfd.ExponentiallyModifiedGaussian(0.0, 1.0, 1.0), real),
    "Exponential": (lambda: tfd.Exponential(2.0), positive),
    "Gamma": (lambda: tfd.Gamma(0.5, 1.0), positive),
    "GammaGamma": (lambda: tfd.GammaGamma(2.0, 2.0, 1.0), positive),
    "GeneralizedExtremeValue": (lambda: tfd.GeneralizedExtremeValue(0.0, 1.0, 0.5), between(-2.0001, np.inf)),
    "GeneralizedNormal": (lambda: tfd.GeneralizedNormal(0.0, 1.0, 1.5), real),
    "GeneralizedPareto": (lambda: tfd.GeneralizedPareto(1.0, 2.0, -0.5), between(1.0, 5.0001)),
    "GeneralizedPareto, heavy": (lambda: tfd.GeneralizedPareto(1.0, 2.0, 0.5), between(1.0, np.inf)),
    "Gumbel": (lambda: tfd.Gumbel(0.0, 1.0), real),
    "HalfCauchy": (lambda: tfd.HalfCauchy(1.0, 2.0), between(1.0, np.inf)),
    "HalfNormal": (lambda: tfd.HalfNormal(2.0), positive),
    "HalfStudentT": (lambda: tfd.HalfStudentT(3.0, 1.0, 2.0), between(1.0, np.inf)),
    "Horseshoe": (lambda: tfd.Horseshoe(1.0), real),
    "InverseGamma": (lambda: tfd.InverseGamma(2.0, 1.0), positive),
    "InverseGaussian": (lambda: tfd.InverseGaussian(2.0, 1.0), positive),
    "JohnsonSU": (lambda: tfd.JohnsonSU(0.0, 1.0, 0.0, 1.0), real),
    "Kumaraswamy": (lambda: tfd.Kumaraswamy(2.0, 3.0), between(0.0, 1.0)),
    "LKJ": (lambda: tfd.LKJ(3, 2.0), symmetric),
    "LambertWNormal": (lambda: tfd.LambertWNormal(0.0, 1.0, tailweight=0.1), real),
    "Laplace": (lambda: tfd.Laplace(0.0, 1.0), real),
    "LogLogistic": (lambda: tfd.LogLogistic(0.0, 1.0), positive),
    "LogNormal": (lambda: tfd.LogNormal(0.0, 1.0), positive),
    "Logistic": (lambda: tfd.Logistic(0.0, 1.0), real),
    "LogitNormal": (lambda: tfd.LogitNormal(0.0, 1.0), between(0.0, 1.0)),
    "Moyal": (lambda: tfd.Moyal(0.0, 1.0), real),
    "MultivariateNormalDiag": (lambda: tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)), real),
    "MultivariateNormalFullCovariance": (lambda: tfd.MultivariateNormalTriL(tf.zeros(2), tf.eye(2)), real),
    "MultivariateNormalTriL": (lambda: tfd.MultivariateNormalTriL(tf.zeros(2), tf.eye(2)), real),
    "MultivariateStudentTLinearOperator": (
        lambda: tfd.MultivariateStudentTLinearOperator(3.0, tf.zeros(2), EYE),
        real,
    ),
    "NoncentralChi2": (lambda: tfd.NoncentralChi2(3.0, 1.0), positive),
    "Normal": (lambda: tfd.Normal(0.0, 1.0), real),
    "NormalInverseGaussian": (lambda: tfd.NormalInverseGaussian(0.0, 1.0, 2.0, 0.5), real),
    "OrderedLogistic's cutpoints": (
        lambda: tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 3), tfp.bijectors.Ascending()),
        increasing,
    ),
    "PERT": (lambda: tfd.PERT(1.0, 2.0, 5.0), between(1.0, 5.0)),
    "Pareto": (lambda: tfd.Pareto(2.0, 1.5), between(1.5, np.inf)),
    "PowerSpherical": (lambda: tfd.PowerSpherical(tf.constant([1.0, 0.0, 0.0]), 2.0), unit),
    "ProbitBernoulli's probability": (lambda: tfd.Uniform(0.0, 1.0), between(0.0, 1.0)),
    "RelaxedBernoulli": (lambda: tfd.RelaxedBernoulli(0.5, probs=0.3), between(0.0, 1.0)),
    "RelaxedOneHotCategorical": (lambda: tfd.RelaxedOneHotCategorical(0.5, probs=[0.2, 0.8]), simplex),
    "SigmoidBeta": (lambda: tfd.SigmoidBeta(2.0, 3.0), real),
    "SinhArcsinh": (lambda: tfd.SinhArcsinh(0.0, 1.0, 0.2, 1.1), real),
    "SphericalUniform": (lambda: tfd.SphericalUniform(3), unit),
    "StudentT": (lambda: tfd.StudentT(2.0, 0.0, 1.0), real),
    "Triangular": (lambda: tfd.Triangular(-1.0, 2.0, 0.0), between(-1.0, 2.0)),
    "TruncatedCauchy": (lambda: tfd.TruncatedCauchy(0.0, 1.0, -1.0, 3.0), between(-1.0, 3.0)),
    "TruncatedNormal": (lambda: tfd.TruncatedNormal(0.0, 1.0, -1.0, 3.0), between(-1.0, 3.0)),
    "TwoPieceNormal": (lambda: tfd.TwoPieceNormal(0.0, 1.0, 2.0), real),
    "TwoPieceStudentT": (lambda: tfd.TwoPieceStudentT(3.0, 0.0, 1.0, 2.0), real),
    "Uniform": (lambda: tfd.Uniform(-2.0, 3.0), between(-2.0, 3.0)),
    "VonMises": (lambda: tfd.VonMises(0.0, 2.0), between(-np.pi - 1e-5, np.pi + 1e-5)),
    "VonMisesFisher": (lambda: tfd.VonMisesFisher(tf.constant([1.0, 0.0, 0.0]), 2.0), unit),
    "Weibull": (lambda: tfd.Weibull(2.0, 1.0), positive),
    "WishartTriL": (lambda: tfd.WishartTriL(4.0, tf.eye(2)), symmetric),
    "Zipf's exponent": (lambda: tfd.Uniform(1.0, 5.0), between(1.0, 5.0)),
}


def vectors(size: int) -> np.ndarray:
    """Standard normal, ten and thirty times as wide, and each corner of +-30 and +-100."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((NUM_DRAWS, size)) * rng.choice([1.0, 10.0, 30.0], (NUM_DRAWS, 1))
    z[:200] = rng.choice([-1.0, 1.0], (200, size)) * np.repeat([30.0, 100.0], 100)[:, None]
    return z.astype(np.float32)


@pytest.mark.parametrize("name", SUPPORTS)
def test_no_draw_leaves_the_support_wherever_the_network_sends_it(name: str) -> None:
    """Far out single precision rounds to the ends of the support and overflows; the fit skips what is not finite."""
    make, check = SUPPORTS[name]
    target = JointTarget(tfd.JointDistributionNamed({"x": make()}))
    z = vectors(target.event_size)
    draws = target.constrain(z)["x"].numpy()
    log_prob = target.log_prob(z[:, None])[:, 0].numpy()
    finite = np.isfinite(draws).reshape(NUM_DRAWS, -1).all(1)
    inside = np.asarray(check(draws)).reshape(NUM_DRAWS, -1).all(1)
    assert inside[finite].all()
    core = np.abs(z).max(1) < 10.0
    assert core.mean() > 0.3
    assert finite[core].all() and not np.isnan(log_prob[core]).any() and (log_prob[core] < np.inf).all()
    assert np.isfinite(log_prob[core]).mean() > 0.99


ELSEWHERE = {  # wrappers, processes over an index set, other names of what is above, and what has no plain density
    *(
        "AutoCompositeTensorDistribution",
        "Autoregressive",
        "BatchBroadcast",
        "BatchConcat",
        "BatchReshape",
        "Blockwise",
    ),
    *(
        "Distribution",
        "LambertWDistribution",
        "MarkovChain",
        "Masked",
        "Mixture",
        "PixelCNN",
        "TransformedDistribution",
    ),
    *("JointDistribution", "JointDistributionCoroutine", "JointDistributionCoroutineAutoBatched"),
    *("JointDistributionNamed", "JointDistributionNamedAutoBatched", "JointDistributionSequential"),
    *("JointDistributionSequentialAutoBatched", "LinearGaussianStateSpaceModel", "GaussianProcess"),
    *("GaussianProcessRegressionModel", "StudentTProcess", "StudentTProcessRegressionModel"),
    *("VariationalGaussianProcess", "MatrixNormalLinearOperator", "MatrixTLinearOperator", "WishartLinearOperator"),
    *("MultivariateNormalDiagPlusLowRank", "MultivariateNormalDiagPlusLowRankCovariance"),
    *("MultivariateNormalFullCovariance", "MultivariateNormalLinearOperator", "FlatDirichlet"),
    *("ExpRelaxedOneHotCategorical", "BetaQuotient", "Deterministic", "VectorDeterministic"),
    "ZeroInflatedNegativeBinomial",
}


def test_every_distribution_is_in_one_of_the_tables() -> None:
    known = {type(make()).__name__ for make, _ in SUPPORTS.values()} | {
        type(make()).__name__ for make in DISCRETE.values()
    }
    every = {
        name for name, value in vars(tfd).items() if inspect.isclass(value) and issubclass(value, tfd.Distribution)
    }
    assert every - known - ELSEWHERE == set()
