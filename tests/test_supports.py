"""Latent parts of every continuous TFP distribution stay inside their support, wherever the network sends them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from bad_joints import DISCRETE

from neural_vb.supports import Sphere
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


def triangular(x: np.ndarray) -> Any:
    return (x == np.tril(x)) & (np.diagonal(x, axis1=-2, axis2=-1) >= 0.0).all(-1)[:, None, None]


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
    "LKJ, its factor": (lambda: tfd.LKJ(3, 2.0, input_output_cholesky=True), correlation_factor),
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
    "WishartTriL, its factor": (lambda: tfd.WishartTriL(4.0, tf.eye(2), input_output_cholesky=True), triangular),
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


def log_density(name: str, z: np.ndarray) -> np.ndarray:
    target = JointTarget(tfd.JointDistributionNamed({"x": SUPPORTS[name][0]()}))
    return target.log_prob(z[:, None].astype(np.float32))[:, 0].numpy().astype(np.float64)


@pytest.mark.parametrize("name", SUPPORTS)
def test_the_density_of_unconstrained_vectors_integrates_to_one(name: str) -> None:
    """Evidence is right, and the map reaches all of the support; by quadrature in one dimension, else by sampling."""
    distribution = SUPPORTS[name][0]()
    target = JointTarget(tfd.JointDistributionNamed({"x": distribution}))
    if target.event_size == 1:
        t = np.linspace(-12.0, 12.0, 20_001)
        density = np.exp(log_density(name, np.sinh(t)[:, None])) * np.cosh(t)
        total, error = np.trapezoid(np.where(np.isfinite(density), density, 0.0), t), 0.002
    else:
        z = target.unconstrain({"x": distribution.sample(4_000, seed=(0, 1))}).numpy().astype(np.float64)
        z = z[np.isfinite(z).all(1)]
        proposal = scipy.stats.multivariate_t(z.mean(0), 1.5 * np.atleast_2d(np.cov(z.T)), df=4.0, seed=0)
        points = np.asarray(proposal.rvs(100_000)).reshape(-1, target.event_size)
        weights = np.exp(log_density(name, points) - proposal.logpdf(points))
        weights = np.where(np.isfinite(weights), weights, 0.0)  # of parts that single precision rounds to zero
        total, error = weights.mean(), weights.std() / len(weights) ** 0.5
    assert error < 0.02
    assert abs(total - 1.0) < 5.0 * error


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_sphere_is_covered_and_its_log_det_is_that_of_its_area(parts: int) -> None:
    bijector, free = Sphere(), parts - 1
    v = np.random.default_rng(0).standard_normal((2_000, free))
    x = bijector.forward(v).numpy()
    np.testing.assert_allclose((x**2).sum(-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(bijector.inverse(x), v, rtol=1e-6, atol=1e-9)
    assert len({tuple(signs) for signs in np.sign(x)}) == 2**parts
    for row in v[:5]:
        step = 1e-6 * np.eye(free)
        jacobian = np.stack([(bijector.forward(row + d) - bijector.forward(row - d)) / 2e-6 for d in step], -1)
        expected = 0.5 * np.linalg.slogdet(jacobian.T @ jacobian)[1]
        np.testing.assert_allclose(bijector.forward_log_det_jacobian(row, 1), expected, rtol=1e-6, atol=1e-7)
    assert np.isfinite(bijector.forward_log_det_jacobian(np.zeros(free), 1))


def test_directions_have_their_own_mean_wherever_they_point() -> None:
    """E x = mean_direction (coth kappa - 1 / kappa) in three dimensions; weights of z from a wide normal density."""
    direction, kappa = np.array([-0.6, 0.0, -0.8], np.float32), 3.0
    plain = tfd.JointDistributionNamed({"x": tfd.VonMisesFisher(direction, kappa)})
    rows = tfd.JointDistributionNamed({"x": tfd.Independent(tfd.VonMisesFisher([direction, -direction], kappa), 1)})
    for joint, signs in ((plain, [1.0]), (rows, [1.0, -1.0])):
        target = JointTarget(joint)
        assert target.event_size == 2 * len(signs)
        z = 2.0 * np.random.default_rng(0).standard_normal((100_000, target.event_size))
        weights = np.exp(target.log_prob(z[:, None].astype(np.float32))[:, 0] + (z**2).sum(1) / 8.0)
        x = target.constrain(z)["x"].numpy().reshape(-1, len(signs), 3)
        mean = np.average(x, axis=0, weights=weights)
        expected = np.outer(signs, direction) * (1.0 / np.tanh(kappa) - 1.0 / kappa)
        np.testing.assert_allclose(mean, expected, atol=0.03)


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
