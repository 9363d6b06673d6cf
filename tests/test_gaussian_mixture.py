"""Fitted Gaussian mixtures: densities, moments, recovered clusters, and their number by BIC."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from scipy.special import logsumexp

from neural_vb import gaussian_mixture
from neural_vb._types import Array, Base

CLUSTERS = Base(
    np.log([0.2, 0.5, 0.3]),
    np.array([[-6.0, 0.0], [0.0, 6.0], [6.0, -3.0]]),
    np.array([[[1.0, 0.0], [0.5, 0.8]], [[0.5, 0.0], [0.0, 1.5]], [[1.0, 0.0], [-0.9, 0.4]]]),
)


def draw(base: Base, size: int) -> tuple[Array, Array]:
    rng = np.random.RandomState(0)
    component = rng.choice(len(base.log_weights), size, p=np.exp(base.log_weights))
    noise = rng.randn(size, base.means.shape[1])
    return base.means[component] + np.einsum("nij,nj->ni", base.scale_trils[component], noise), component


def log_density(base: Base, points: Array) -> Array:
    return logsumexp(gaussian_mixture.log_prob(base, points), axis=1)


def num_free(num_components: int, event_size: int) -> int:
    return num_components - 1 + num_components * (event_size + event_size * (event_size + 1) // 2)


def test_log_prob_is_the_weighted_density_of_each_component() -> None:
    points, _ = draw(CLUSTERS, 20)
    for k, found in enumerate(gaussian_mixture.log_prob(CLUSTERS, points).T):
        scale_tril = CLUSTERS.scale_trils[k]
        exact = scipy.stats.multivariate_normal(CLUSTERS.means[k], scale_tril @ scale_tril.T).logpdf(points)
        np.testing.assert_allclose(found, CLUSTERS.log_weights[k] + exact, rtol=1e-10)


def test_draws_have_the_weights_and_moments_of_the_components() -> None:
    draws = gaussian_mixture.sample(CLUSTERS, 40_000, np.random.default_rng(0))
    nearest = gaussian_mixture.log_prob(CLUSTERS, draws).argmax(1)
    np.testing.assert_allclose(np.bincount(nearest) / 40_000, np.exp(CLUSTERS.log_weights), atol=0.01)
    for k, scale_tril in enumerate(CLUSTERS.scale_trils):
        np.testing.assert_allclose(draws[nearest == k].mean(0), CLUSTERS.means[k], atol=0.05)
        np.testing.assert_allclose(np.cov(draws[nearest == k].T), scale_tril @ scale_tril.T, atol=0.1)


def test_separated_clusters_are_recovered() -> None:
    size = 4_000
    points, component = draw(CLUSTERS, size)
    found = gaussian_mixture.fit(points, log_density(CLUSTERS, points), seed=0)
    assert len(found.log_weights) == 3
    order = [int(np.linalg.norm(found.means - mean, axis=1).argmin()) for mean in CLUSTERS.means]
    assert sorted(order) == [0, 1, 2]
    shares = np.bincount(component) / size
    np.testing.assert_allclose(np.exp(found.log_weights[order]), shares, atol=2e-3)
    for k, index in enumerate(order):
        members = points[component == k]
        np.testing.assert_allclose(found.means[index], members.mean(0), atol=0.02)
        covariance = found.scale_trils[index] @ found.scale_trils[index].T
        np.testing.assert_allclose(covariance, np.cov(members.T), atol=0.08)  # the weak prior widens a little


@pytest.mark.parametrize("event_size", [1, 2, 8])
def test_one_gaussian_is_one_component(event_size: int) -> None:
    points = np.random.RandomState(1).randn(2_000, event_size)
    found = gaussian_mixture.fit(points, scipy.stats.norm.logpdf(points).sum(1), seed=0)
    assert len(found.log_weights) == 1
    np.testing.assert_allclose(found.means[0], points.mean(0), atol=1e-8)


def test_the_number_of_components_has_the_smallest_bic() -> None:
    points, _ = draw(CLUSTERS, 1_000)
    exact = log_density(CLUSTERS, points)

    def bic(base: Base) -> float:
        return -2.0 * log_density(base, points).sum() + num_free(len(base.log_weights), 2) * np.log(len(points))

    candidates = (1, 2, 3, 4)
    alone = [gaussian_mixture.fit(points, np.full(1_000, np.inf), seed=0, candidates=(k,)) for k in candidates]
    assert [len(base.log_weights) for base in alone] == list(candidates)
    best = min(alone, key=bic)
    found = gaussian_mixture.fit(points, exact, seed=0, candidates=candidates)
    np.testing.assert_array_equal(found.means, best.means)
    simple = np.random.RandomState(1).randn(1_000, 2)  # here more components always fit better, and cost too much
    assert len(gaussian_mixture.fit(simple, np.full(1_000, np.inf), seed=0).log_weights) == 1


def test_no_mixture_is_tried_that_cannot_pay_for_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    original = gaussian_mixture._expectation_maximisation

    def spy(points: Array, base: Base) -> tuple[Base, float]:
        tried.append(len(base.log_weights))
        return original(points, base)

    monkeypatch.setattr(gaussian_mixture, "_expectation_maximisation", spy)
    points = np.random.RandomState(1).randn(2_000, 3)
    gaussian_mixture.fit(points, scipy.stats.norm.logpdf(points).sum(1), seed=0)
    assert tried == [1]


def test_expectation_maximisation_never_lowers_the_likelihood() -> None:
    points, _ = draw(CLUSTERS, 500)
    first = gaussian_mixture._dispersed(points, 3, 0)
    values = [gaussian_mixture._expectation_maximisation(points, first, n)[1] for n in (0, 1, 2, 4, 8, 16)]
    assert (np.diff(values) > -0.01 * len(points)).all()  # up to the weak prior on the covariances
    assert values[-1] > values[0] + len(points)


def test_moments_shrink_to_the_diagonal_when_points_are_few() -> None:
    rng = np.random.RandomState(2)
    for size, event_size in [(4, 4), (10, 4), (1_000, 4), (50, 1)]:
        points = rng.randn(size, event_size) @ (np.eye(event_size) + 0.5)
        base = gaussian_mixture.moments(points)
        covariance = np.atleast_2d(np.cov(points.T))
        expected = covariance * np.where(np.eye(event_size), 1.0, 1.0 - event_size / size)
        np.testing.assert_allclose(base.scale_trils[0] @ base.scale_trils[0].T, expected, atol=1e-10)
        np.testing.assert_allclose(base.means[0], points.mean(0))
        assert base.log_weights.tolist() == [0.0]


def test_fewer_points_than_parameters_leave_the_moments() -> None:
    points = np.random.RandomState(3).randn(8, 3)
    found = gaussian_mixture.fit(points, np.zeros(8), seed=0)
    np.testing.assert_array_equal(found.scale_trils, gaussian_mixture.moments(points).scale_trils)


def test_the_seed_decides() -> None:
    points, _ = draw(CLUSTERS, 500)
    exact = log_density(CLUSTERS, points)
    first, second = (gaussian_mixture.fit(points, exact, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.means, second.means)


def test_a_start_with_more_numbers_than_points_is_left_as_it_is() -> None:
    points = np.random.RandomState(2).randn(200, 30)
    start = gaussian_mixture.moments(points)
    found = gaussian_mixture.fit(points, scipy.stats.norm.logpdf(points).sum(1), seed=0, start=start)
    assert found is start


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = draw(CLUSTERS, 1_000)
    whole = gaussian_mixture.fit(points, log_density(CLUSTERS, points), seed=0)
    monkeypatch.setattr(gaussian_mixture, "CHUNK", 700)
    for found, expected in zip(gaussian_mixture.fit(points, log_density(CLUSTERS, points), seed=0), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
