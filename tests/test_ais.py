"""Annealed importance sampling and importance bounds against linear-Gaussian models, whose log p(x) is exact."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from neural_vb.applications.ais import AISConfig, Annealer, temperatures
from neural_vb.applications.decoders import log_standard_normal
from neural_vb.applications.vae_evaluation import log_mean_exp
from neural_vb.errors import ConfigurationError

NUM, D, X, NOISE = 6, 3, 6, 0.5
RNG = np.random.default_rng(0)
LOADINGS = RNG.standard_normal((X, D))
DATA = RNG.standard_normal((NUM, D)) @ LOADINGS.T + NOISE * RNG.standard_normal((NUM, X))
EXACT = scipy.stats.multivariate_normal(np.zeros(X), LOADINGS @ LOADINGS.T + NOISE**2 * np.eye(X)).logpdf(DATA)
COVARIANCE = np.linalg.inv(np.eye(D) + LOADINGS.T @ LOADINGS / NOISE**2)
MEAN = DATA @ LOADINGS @ COVARIANCE / NOISE**2


def log_joint(z: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    residual = (x - tf.tensordot(z, tf.constant(LOADINGS.T, tf.float32), 1)) / NOISE
    log_likelihood = -0.5 * tf.reduce_sum(residual**2, -1) - X * (np.log(NOISE) + 0.5 * np.log(2 * np.pi))
    return log_likelihood + log_standard_normal(z)


def start(shift: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The exact posterior, moved by ``shift`` of its standard deviations and widened."""
    factor = np.linalg.cholesky(COVARIANCE)
    return MEAN + shift * factor.sum(1), np.tile(scale * factor, (NUM, 1, 1))


def test_from_the_exact_posterior_every_weight_is_exact() -> None:
    found = Annealer(log_joint, AISConfig(num_temperatures=3, num_chains=4, jit_compile=False))(
        DATA, *start(0.0, 1.0), seed=0
    )
    assert found.log_weights.shape == (4, NUM) and found.acceptance.shape == (NUM,)
    np.testing.assert_allclose(found.log_weights, np.tile(EXACT, (4, 1)), atol=1e-3)
    assert (found.standard_error < 1e-3).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_from_a_poor_start_log_p_is_within_five_hundredths(jit_compile: bool) -> None:
    config = AISConfig(num_temperatures=1_000, num_chains=64, jit_compile=jit_compile)
    found = Annealer(log_joint, config)(DATA, *start(1.0, 1.5), seed=1)
    np.testing.assert_allclose(found.log_likelihood, EXACT, atol=0.05)
    assert (found.standard_error < 0.03).all()
    assert (np.abs(found.acceptance - 0.75) < 0.1).all()


def test_weights_are_unbiased_however_coarse() -> None:
    """The mean weight is p(x) with five temperatures too; a wrong weight or transition would move it."""
    config = AISConfig(num_temperatures=5, num_chains=20_000, num_leapfrog=2, jit_compile=False)
    found = Annealer(log_joint, config)(DATA, *start(0.5, 1.3), seed=2)
    error = found.log_likelihood - EXACT
    assert (np.abs(error) < 4.5 * found.standard_error).all() and (found.standard_error < 0.05).all()
    assert (found.log_weights.mean(0) < EXACT - 0.02).all()  # each weight alone is a lower bound in expectation


def test_seeds_and_chains() -> None:
    anneal = Annealer(log_joint, AISConfig(num_temperatures=10, num_chains=3, jit_compile=False))
    first, same, other = (anneal(DATA, *start(0.5, 1.3), seed=seed).log_weights for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (np.abs(first - other) > 1e-6).all() and len(np.unique(first)) == 3 * NUM


def test_temperatures_rise_from_zero_to_one() -> None:
    betas = temperatures(50)
    assert len(betas) == 51 and betas[0] == 0.0 and betas[-1] == 1.0 and (np.diff(betas) > 0).all()
    np.testing.assert_allclose(betas + betas[::-1], 1.0, atol=1e-6)


def test_log_mean_exp_is_its_formula_without_overflow() -> None:
    values = RNG.standard_normal((7, 3))
    np.testing.assert_allclose(log_mean_exp(values), np.log(np.exp(values).mean(0)))
    np.testing.assert_allclose(log_mean_exp(values - 2_000.0), log_mean_exp(values) - 2_000.0)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("num_chains", 0, "at least 1"),
        ("num_temperatures", 0, "at least 1"),
        ("num_leapfrog", -1, "at least 1"),
        ("step_size", float("nan"), "positive and finite"),
        ("target_accept", 1.0, "between 0 and 1"),
    ],
)
def test_options_outside_their_range_are_named(name: str, value: float, rule: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AISConfig(**{name: value})
    assert str(caught.value) == (
        f"Expected AISConfig.{name} {rule}; got {value!r}. Fix: pass {name} {rule}, or leave it out for the default"
    )
