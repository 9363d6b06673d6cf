"""Population Monte Carlo: a mixture meets what a few Gaussians can meet, and says of the rest how far off it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from scipy.special import logsumexp

from neural_vb import gaussian_mixture, population
from neural_vb._types import Array, Base

MEAN, COVARIANCE = [0.1, -0.1, 0.05], [[1.1, 0.1, 0.0], [0.1, 0.9, -0.1], [0.0, -0.1, 1.0]]
STANDARD = Base(np.zeros(1), np.zeros((1, 3)), np.eye(3)[None])


def still(log_prob: Callable[[Array], Array]) -> population.Move:
    """Moves nothing: the kernel of which every density is invariant."""
    return lambda u, look, num: (u, log_prob(u))


def gaussian(u: Array) -> Array:
    return scipy.stats.multivariate_normal(MEAN, COVARIANCE).logpdf(u) + 5.0


def test_a_gaussian_is_met_to_far_less_than_the_error_of_the_draws() -> None:
    """Their 9 moments alone would cost 9 / (2 n) nats; their noise is cut by the spread of the weights, about .01."""
    found = population.improve(gaussian, STANDARD, seed=0, tolerance=0.01, move=still(gaussian))
    assert len(found.base.log_weights) == 1
    assert found.divergence < 0.1 * 9 / (2 * population.NUM_DRAWS)
    assert abs(found.elbo - 5.0) < 1e-3 and abs(found.log_evidence - 5.0) < 1e-3
    np.testing.assert_allclose(found.base.means[0], MEAN, atol=1e-3)
    np.testing.assert_allclose(found.base.scale_trils[0] @ found.base.scale_trils[0].T, COVARIANCE, atol=2e-3)


def test_one_correction_is_exact_at_the_target_and_right_nearby() -> None:
    """At p = q nothing moves, whatever the draws; else the step is that of weighted moments, with less noise."""
    rng = np.random.default_rng(0)
    u = gaussian_mixture.sample(STANDARD, 5_000, rng)
    same = population.corrected(STANDARD, u, np.zeros(len(u)))
    for found, before in zip(same, STANDARD, strict=True):
        np.testing.assert_allclose(found, before, atol=1e-12)
    weights = np.exp(gaussian(u) - 5.0 - scipy.stats.norm.logpdf(u).sum(-1))
    found = population.corrected(STANDARD, u, weights - 1.0)
    error = 5.0 * weights.std() / np.sqrt(len(u))
    np.testing.assert_allclose(found.means[0], MEAN, atol=error)
    np.testing.assert_allclose(found.scale_trils[0] @ found.scale_trils[0].T, COVARIANCE, atol=3.0 * error)
    assert error < 0.5 * 5.0 / np.sqrt(len(u))


def test_skew_takes_more_components() -> None:
    def skewed(u: Array) -> Array:
        return scipy.stats.skewnorm(2.0).logpdf(u).sum(-1)

    mean, sd = scipy.stats.skewnorm(2.0).mean(), scipy.stats.skewnorm(2.0).std()
    moments = Base(np.zeros(1), np.full((1, 2), mean), sd * np.eye(2)[None])
    found = population.improve(skewed, moments, seed=0, tolerance=0.0, move=still(skewed))
    gaussian_gap = 2 * scipy.stats.skewnorm(2.0).stats("s") ** 2 / 12.0  # KL of a Gaussian with the same moments
    assert len(found.base.log_weights) > 1
    assert found.divergence < 0.5 * gaussian_gap


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_weights_of_modes_are_put_right(share: float) -> None:
    """The particles' mixture has the modes, and their weights with the noise of particles."""
    means = np.array([[-4.0, 0.0], [4.0, 0.0]])

    def modes(u: Array) -> Array:
        parts = -0.5 * ((u[:, None] - means) ** 2).sum(-1) + np.log([share, 1.0 - share])
        return logsumexp(parts, axis=1)

    start = Base(np.log([share + 0.02, 0.98 - share]), means + 0.05, np.repeat(1.05 * np.eye(2)[None], 2, 0))
    found = population.improve(modes, start, seed=1, tolerance=0.01, move=still(modes))
    weights = np.exp(found.base.log_weights)
    assert abs(weights[found.base.means[:, 0].argmin()] - share) < 1e-3
    assert found.divergence < 2e-4


def test_what_a_mixture_cannot_meet_is_told() -> None:
    def ring(u: Array) -> Array:
        return -8.0 * ((u[:, :2] ** 2).sum(-1) - 2.0) ** 2 - 0.5 * u[:, 2] ** 2

    start = population.improve(ring, STANDARD, seed=0, tolerance=1e3, move=still(ring)).divergence
    assert 0.01 < population.improve(ring, STANDARD, seed=0, tolerance=1e-9, move=still(ring)).divergence < start


def test_a_support_that_draws_leave_is_not_met() -> None:
    def half(u: Array) -> Array:
        return np.where(u[:, 0] > -2.0, gaussian(u), -np.inf)

    found = population.improve(half, STANDARD, seed=0, tolerance=0.01, move=still(gaussian))
    assert found.divergence == np.inf


def test_the_same_seed_gives_the_same_mixture() -> None:
    first, again, other = (
        population.improve(gaussian, STANDARD, seed=s, tolerance=0.01, move=still(gaussian)) for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.base.means, again.base.means)
    assert (first.base.means != other.base.means).all()


def twisted(u: Array) -> Array:
    """u_1 ~ N(0, 1), u_2 given u_1 ~ N(u_1^2 - 1, .5^2) (Haario, Saksman & Tamminen 1999)."""
    return scipy.stats.norm.logpdf(u[:, 0]) + scipy.stats.norm(u[:, 0] ** 2 - 1.0, 0.5).logpdf(u[:, 1])


def twisted_draws(num: int, rng: np.random.Generator) -> Array:
    first = rng.standard_normal(num)
    return np.stack([first, first**2 - 1.0 + 0.5 * rng.standard_normal(num)], 1)


@pytest.mark.parametrize("seed", range(3))
def test_many_components_are_believed_where_moved_draws_find_no_more(seed: int) -> None:
    """With draws that have been moved all the way, the mixture is within the tolerance under the target itself."""

    def move(u: Array, look: int, num: int) -> tuple[Array, Array]:
        moved = twisted_draws(len(u), np.random.default_rng([seed, look]))
        return moved, twisted(moved)

    start = Base(np.zeros(1), np.zeros((1, 2)), np.diag([1.0, 1.5])[None])
    found = population.improve(twisted, start, seed=seed, tolerance=0.02, move=move)
    assert found.divergence < 0.02 and len(found.base.log_weights) > population.FEW
    exact = twisted_draws(200_000, np.random.default_rng(seed))
    gaps = twisted(exact) - logsumexp(gaussian_mixture.log_prob(found.base, exact), 1)
    assert 0.0 < gaps.mean() < 0.02
    draws = gaussian_mixture.sample(found.base, 200_000, np.random.default_rng(seed))
    np.testing.assert_allclose(draws.std(0), exact.std(0), rtol=0.03)


def test_a_mixture_that_moved_draws_leave_is_not_met() -> None:
    """Draws moved to where the mixture has nothing say that it is not near, whatever its own draws say."""

    def move(u: Array, look: int, num: int) -> tuple[Array, Array]:
        away = np.where(np.arange(len(u))[:, None] % 10 == 0, u + np.array([0.0, 40.0]), u)
        return away, twisted(u)

    start = Base(np.zeros(1), np.zeros((1, 2)), np.diag([1.0, 1.5])[None])
    found = population.improve(twisted, start, seed=0, tolerance=0.02, move=move)
    assert len(found.base.log_weights) > population.FEW
    assert found.divergence > 0.02


def test_without_moves_there_are_few_components() -> None:
    start = Base(np.zeros(1), np.zeros((1, 2)), np.diag([1.0, 1.5])[None])
    found = population.improve(twisted, start, seed=0, tolerance=0.02, move=None)
    assert 1 < len(found.base.log_weights) <= population.FEW
    assert found.divergence > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_no_number_where_the_mixture_hardly_draws_is_no_error(seed: int) -> None:
    """NaN beyond 5.2 sds, which only the wide quarter of the draws sees, is no density."""

    def broken(u: Array) -> Array:
        return np.where(np.linalg.norm(u, axis=1) < 5.2, gaussian(u), np.nan)

    found = population.improve(broken, STANDARD, seed=seed, tolerance=0.01, move=still(gaussian))
    assert not np.isnan(found.divergence) and not np.isnan(found.log_evidence)


@pytest.mark.parametrize("edge", [3.8, 4.0, 4.2])
@pytest.mark.parametrize("seed", range(6))
def test_an_edge_that_some_rounds_see_is_no_error(edge: float, seed: int) -> None:
    """A trial whose draws leave the support has none for the next one."""

    def bounded(u: Array) -> Array:
        shape = scipy.stats.norm.logpdf(u).sum(1) + 0.5 * np.tanh(u[:, 0]) * np.sin(2.0 * u[:, 1])
        return np.where(u[:, 0] > edge, -np.inf, shape)

    start = Base(np.zeros(1), np.zeros((1, 2)), np.eye(2)[None])
    found = population.improve(bounded, start, seed=seed, tolerance=0.015, move=None)
    assert not np.isnan(found.divergence)
