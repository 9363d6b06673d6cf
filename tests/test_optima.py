"""Optima: modes that are found, exact Laplace approximations, and scales of any size."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from densities import COVARIANCES, constant, evaluator, gaussian, two_modes

from neural_vb._types import Tensor
from neural_vb.optima import (
    Laplace,
    _is_smooth,
    climb,
    cover,
    dispersed_points,
    elsewhere,
    find_optima,
    laplace,
    optimise,
)


def test_dispersed_points_have_four_scales_and_the_origin() -> None:
    points = dispersed_points(3, 4_000, seed=1)
    np.testing.assert_array_equal(points, dispersed_points(3, 4_000, seed=1))
    assert (points != dispersed_points(3, 4_000, seed=2))[1:].all()
    assert points.shape == (4_000, 3) and not points[0].any()
    assert np.abs(points[1:2_000]).max() < 2.0
    assert points[2_000:3_000].std() == pytest.approx(5.0, rel=4.0 / np.sqrt(2 * 3_000))
    assert points[3_000:].std() == pytest.approx(20.0, rel=4.0 / np.sqrt(2 * 3_000))


def test_the_evaluator_gives_values_and_gradients_in_float64() -> None:
    evaluate = evaluator(lambda z: tf.sin(z[:, 0]) * z[:, 1], 2)
    z = np.random.RandomState(0).randn(5, 2)
    log_prob, gradient = evaluate(z)
    np.testing.assert_allclose(log_prob, np.sin(z[:, 0]) * z[:, 1], rtol=1e-12)
    np.testing.assert_allclose(gradient, np.stack([np.cos(z[:, 0]) * z[:, 1], np.sin(z[:, 0])], -1), rtol=1e-12)


def test_optimise_finds_the_mode() -> None:
    mean = np.array([3.0, -40.0])
    found, log_prob = optimise(evaluator(gaussian(mean, np.diag([0.01, 100.0]), 2.0), 2), np.zeros(2))
    np.testing.assert_allclose(found, mean, atol=1e-3)
    assert log_prob == pytest.approx(2.0 - np.log(2 * np.pi), abs=1e-6)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_laplace_approximation_of_a_gaussian_is_exact(name: str) -> None:
    covariance = np.array(COVARIANCES[name])
    origin = np.zeros(len(covariance))
    found = laplace(evaluator(gaussian(origin, covariance, -7.5), len(covariance)), origin)
    scales = np.sqrt(np.diag(covariance))
    shape = found.scale_tril @ found.scale_tril.T / np.outer(scales, scales)
    np.testing.assert_allclose(shape, covariance / np.outer(scales, scales), atol=1e-5)
    assert found.log_evidence == pytest.approx(-7.5, abs=1e-4)


def test_laplace_scales_are_measured_where_there_is_no_curvature() -> None:
    """log p = -z^4 falls by half a nat at .84; its second derivative at zero is zero."""
    found = laplace(evaluator(lambda z: -(z[:, 0] ** 4), 1), np.zeros(1))
    assert 0.5 ** (1 / 4) / 2 < found.scale_tril[0, 0] < 2 * 0.5 ** (1 / 4)


def test_laplace_is_equivariant_to_units() -> None:
    def log_prob(z: Tensor) -> Tensor:
        return -tf.math.log(tf.cosh(z[:, 0])) - 0.25 * z[:, 1] ** 4 - 0.5 * (z[:, 0] + z[:, 1]) ** 2

    units = np.array([2.0**5, 2.0**-17])  # powers of two, as is the grid on which scales are searched
    plain = laplace(evaluator(log_prob, 2), np.zeros(2))
    other = laplace(evaluator(lambda z: log_prob(z / constant(units, z)), 2), np.zeros(2))
    np.testing.assert_allclose(other.scale_tril, plain.scale_tril * units[:, None], rtol=1e-4)
    assert other.log_evidence - np.log(units).sum() == pytest.approx(plain.log_evidence, abs=1e-4)


def test_the_cover_has_the_moments_of_the_tempered_mixture() -> None:
    rng = np.random.RandomState(0)
    optima = [
        Laplace(3.0 * rng.randn(2), np.tril(rng.rand(2, 2)) + np.eye(2), evidence) for evidence in (0.0, 2.0, -1e6)
    ]
    weights = np.array([1.0, np.exp(1.0), 0.0]) / (1.0 + np.exp(1.0))
    mean = sum(w * o.mean for w, o in zip(weights, optima, strict=True))
    second = sum(
        w * (o.scale_tril @ o.scale_tril.T + np.outer(o.mean, o.mean)) for w, o in zip(weights, optima, strict=True)
    )
    found_mean, found_scale = cover(optima)
    np.testing.assert_allclose(found_mean, mean)
    np.testing.assert_allclose(found_scale @ found_scale.T, second - np.outer(mean, mean), rtol=1e-9, atol=1e-9)


def test_the_cover_of_scales_that_a_covariance_cannot_hold() -> None:
    scale_tril = np.array([[1.0, 0.0], [1.0, 1e-12]])
    optima = [Laplace(np.zeros(2), scale_tril, 0.0)] * 2
    np.testing.assert_allclose(cover(optima)[1], scale_tril, rtol=1e-3, atol=1e-14)


def test_each_optimum_is_listed_once() -> None:
    optima = find_optima(evaluator(two_modes, 2), dispersed_points(2, 64, seed=0)[::6])
    found = sorted(optimum.mean.tolist() for optimum in optima)
    np.testing.assert_allclose(found, [[-20.0, 0.0], [20.0, 15.0]], atol=1e-3)
    np.testing.assert_allclose(
        sorted(o.log_evidence for o in optima), [3.0 + np.log(0.3), 3.0 + np.log(0.7)], atol=1e-3
    )


def test_a_search_that_ran_out_of_steps_finds_no_optimum_of_its_own() -> None:
    """A Gaussian has one, however long L-BFGS takes to it in coordinates of very different scales."""
    factor = np.linalg.qr(np.random.RandomState(0).randn(60, 60))[0] * np.logspace(-3.0, 1.0, 60)
    evaluate = evaluator(gaussian(np.zeros(60), factor @ factor.T, 0.0), 60)
    points = dispersed_points(60, 6, seed=0)
    ends = [optimise(evaluate, point)[0] for point in points]
    first = laplace(evaluate, ends[0])
    assert max(np.abs(np.linalg.solve(first.scale_tril, end - ends[0])).max() for end in ends) > 1.0
    assert len(find_optima(evaluate, points)) == 1


@pytest.mark.parametrize(("size", "distance"), [(1, 6.0), (2, 4.0), (10, 2.0)])
def test_modes_on_both_sides_of_a_saddle_at_the_origin_are_found(size: int, distance: float) -> None:
    """The gradient at the origin of a symmetric density is zero: no optimum, and wide enough to hide both modes."""

    def log_prob(z: Tensor) -> Tensor:
        each = [-0.5 * tf.reduce_sum((z - sign * distance) ** 2, -1) for sign in (-1.0, 1.0)]
        return tf.reduce_logsumexp(tf.stack(each), 0)

    found = find_optima(evaluator(log_prob, size), dispersed_points(size, 10, seed=0))
    ends = sorted(float(optimum.mean[0]) for optimum in found)
    np.testing.assert_allclose(ends, [-distance, distance], atol=0.05)


def test_a_mode_that_ten_searches_miss_is_found_by_climbs() -> None:
    """A narrow mode whose slopes reach past the origin, and three quarters of the mass beside a bent one."""

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        narrow = np.log(0.25 / np.pi) - 0.5 * ((z[:, 0] + 6.0) / 0.5) ** 2 - 0.5 * z[:, 1] ** 2
        x = z[:, 0] - 6.0
        bent = np.log(0.75 / np.pi) - 0.5 * x**2 - 0.5 * ((z[:, 1] - 3.0 - 0.7 * (x**2 - 1.0)) / 0.5) ** 2
        return tf.reduce_logsumexp(tf.stack([narrow, bent]), 0)

    evaluate = evaluator(log_prob, 2)
    (first,) = find_optima(evaluate, np.array([[0.0, 0.0]]))
    for seed in range(4):
        (second,) = elsewhere(evaluate, dispersed_points(2, 64, seed=seed), first)
        np.testing.assert_allclose(second.mean, [6.0, 2.3], atol=0.01)
    assert elsewhere(evaluate, dispersed_points(2, 64, seed=0) * [1.0, 0.1] - [6.0, 0.0], first) == []


@pytest.mark.parametrize(("place", "smooth"), [(0.0, True), (30.0, False)])
def test_rounding_is_no_mode(place: float, smooth: bool) -> None:
    """What the last digits of z make of this log density is larger where these are larger; its gradient vanishes."""

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        digits = tf.sin(1e12 * tf.stop_gradient(z[:, 0]))
        return -0.5 * (z[:, 0] - place) ** 2 - 0.5 * z[:, 1] ** 2 + 10.0 * digits

    mode = Laplace(np.array([place, 0.0]), np.eye(2), 0.0)
    assert _is_smooth(evaluator(log_prob, 2), mode) == smooth


def test_a_slope_is_no_mode() -> None:
    slope = Laplace(np.array([3.0, 0.0]), np.eye(2), 0.0)
    assert not _is_smooth(evaluator(lambda z: -0.5 * tf.reduce_sum(z**2, -1), 2), slope)


def test_gradients_too_large_for_squares_give_no_warning() -> None:
    """log p = v - exp(v) far above its top: a log link's points at twenty sds come there."""
    start = np.array([[380.0], [3.0]])
    ends = climb(lambda v: ((v - np.exp(v))[:, 0], 1.0 - np.exp(v)), start, 60)
    assert np.isfinite(ends).all() and abs(ends[1, 0]) < 1e-3


def test_ends_of_one_mode_leave_room_for_another() -> None:
    """The three highest ends are often of one mode."""
    means = np.array([[0.0, 0.0], [-15.0, 0.0], [15.0, 0.0]])

    def density(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        apart = z[:, np.newaxis] - means
        logits = -0.5 * (apart**2).sum(-1)
        weights = scipy.special.softmax(logits, 1)
        return scipy.special.logsumexp(logits, 1), -(weights[:, :, np.newaxis] * apart).sum(1)

    first = find_optima(density, np.zeros([1, 2]))[0]
    for seed in range(3):
        found = elsewhere(density, dispersed_points(2, 64, seed=seed), first)
        assert sorted(round(float(one.mean[0])) for one in found) == [-15, 15]
