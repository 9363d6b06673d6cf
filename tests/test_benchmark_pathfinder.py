"""Pathfinder's Gaussians: the inverse Hessian keeps the secant equations, and is the dense BFGS update."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from benchmarks import pathfinder
from benchmarks.definitions import Array
from benchmarks.peers_blackjax import resample

PRECISION = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, 0.3], [0.0, 0.3, 1.0]])
CENTRE = np.array([1.0, -2.0, 0.5])


def gradient(z: Array) -> Array:
    return (z - CENTRE) @ PRECISION


def dense(alpha: Array, steps: Array, changes: Array) -> Array:
    """H by the BFGS update, pair by pair."""
    inverse = np.diag(alpha)
    for s, z in zip(steps, changes, strict=True):
        rho = 1.0 / (s @ z)
        left = np.eye(len(s)) - rho * np.outer(s, z)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)
    return inverse


def covariance(found: pathfinder.LowRankGaussian) -> Array:
    factor = np.eye(len(found.mean)) + found.q @ (found.lower - np.eye(len(found.lower))) @ found.q.T
    return (found.root[:, None] * factor) @ (found.root[:, None] * factor).T


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_the_covariance_is_the_dense_update(number: int) -> None:
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((number, 3))
    changes, alpha = steps @ PRECISION, rng.uniform(0.5, 2.0, 3)
    position = rng.standard_normal(3)
    found = pathfinder.gaussian(position, gradient(position), steps, changes, alpha)
    expected = dense(alpha, steps, changes)
    np.testing.assert_allclose(covariance(found), expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.mean, position - expected @ gradient(position), rtol=1e-8)
    assert found.log_det == pytest.approx(np.linalg.slogdet(expected)[1])


def test_draws_have_their_density() -> None:
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((2, 3))
    found = pathfinder.gaussian(np.zeros(3), np.ones(3), steps, steps @ PRECISION, np.ones(3))
    z, log_density = found.sample(50_000, rng)
    np.testing.assert_allclose(np.cov(z.T), covariance(found), atol=0.05)
    centred = z[:5] - found.mean
    expected = -0.5 * np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance(found)), centred)
    expected -= 0.5 * (found.log_det + 3 * np.log(2 * np.pi))
    np.testing.assert_allclose(log_density[:5], expected)


def test_a_path_to_a_gaussian_ends_at_it() -> None:
    path = [np.array([3.0, 3.0, 3.0])]
    objective = lambda z: 0.5 * (z - CENTRE) @ gradient(z)  # noqa: E731
    optimize.minimize(objective, path[0], jac=gradient, method="BFGS", callback=lambda z: path.append(z.copy()))
    positions = np.array(path)
    gradients = gradient(positions)
    used, alphas = np.ones(len(path) - 1, bool), np.ones_like(positions)
    last = pathfinder.along(positions, gradients, alphas, used, window=6)[-1]
    np.testing.assert_allclose(last.mean, CENTRE, atol=1e-3)
    np.testing.assert_allclose(covariance(last), np.linalg.inv(PRECISION), atol=0.1)
    # Pairs that do not count are left out.
    none = pathfinder.along(positions, gradients, alphas, np.zeros_like(used), window=6)[-1]
    np.testing.assert_allclose(covariance(none), np.eye(3), atol=1e-12)


def test_resampling_follows_the_target_and_never_takes_what_is_not_finite() -> None:
    wide = pathfinder.LowRankGaussian(np.zeros(1), np.full(1, 2.0), np.eye(1), np.eye(1))

    def evaluate(z: Array) -> Array:
        return np.where(z[:, 0] > 0, -0.5 * z[:, 0] ** 2, np.nan)

    def weigh(log_ratios: Array) -> tuple[Array, float]:
        return np.exp(log_ratios), 0.1

    z, pareto_k = resample([wide], evaluate, weigh, 5_000, np.random.default_rng(0))
    assert z.shape == (5_000, 1) and (z > 0).all() and pareto_k == 0.1
    assert z.mean() == pytest.approx(np.sqrt(2.0 / np.pi), abs=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # JAX's own, which change from version to version
def test_gaussians_of_our_own_are_still_needed() -> None:
    """At a point of a standard normal, with the exact Hessian, the mean is 0. BlackJAX 1.7.1's is twice the point."""
    jax = pytest.importorskip("jax")
    vi = pytest.importorskip("blackjax.vi.pathfinder")
    start = jax.numpy.array([1.0, -2.0])
    path = vi.approximate(jax.random.PRNGKey(0), lambda z: -0.5 * z @ z, start, maxiter=3)[1].path
    first = jax.tree.map(lambda part: part[0], path)
    mean = vi.sample(jax.random.PRNGKey(1), first, 20_000)[0].mean(0)
    np.testing.assert_allclose(mean, 2.0 * start, atol=0.05, err_msg="use BlackJAX's multi-path Pathfinder as it is")
    ours = pathfinder.gaussian(np.array(start, float), np.array(start, float), *np.zeros((2, 0, 2)), np.ones(2))
    np.testing.assert_allclose(ours.mean, 0.0, atol=1e-12)
