"""Contrasts: normalised densities that agree with their own draws, follow q, and see x."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import checkpoints, contrasts, mixtures
from neural_vb._types import Base, Contrast, Parameters
from neural_vb.contrasts import Flow, MomentMatched, Prior, _Order, kept_mask
from neural_vb.networks import MLP

tfd = tfp.distributions

SEED = tf.constant([1, 2])
SIZE = 20_000
SHIFT, SCALE_TRIL = (1.0, -2.0), ((2.0, 0.0), (0.5, 0.8))
PRIOR_SCALE = np.array([[1.5, 0.0], [-1.0, 0.7]])
CONTRASTS: dict[str, Contrast] = {
    "flow": Flow(),
    "strong flow": Flow(num_couplings=3, network=MLP((16,), output_scale=0.4), max_log_scale=0.7),
    "full Gaussian": MomentMatched(),
    "diagonal Gaussian": MomentMatched(diagonal=True),
    "prior": Prior(tfd.MultivariateNormalTriL([0.5, -1.0], PRIOR_SCALE.astype("float32")), SHIFT, SCALE_TRIL),
}
FLOWS = ("flow", "strong flow")
FOLLOWERS = ("full Gaussian", "diagonal Gaussian")
LINE = Base(np.log([0.3, 0.7]), np.array([[-1.0], [2.0]]), np.array([[[0.5]], [[1.2]]]))
PLANE = Base(
    np.log([0.3, 0.7]),
    np.array([[-1.5, 0.0], [1.0, 1.0]]),
    np.array([[[0.7, 0.0], [0.3, 0.6]], [[0.8, 0.0], [-0.5, 0.7]]]),
)


def shaken(contrast: Contrast, base: Base, x_size: int = 0) -> Parameters:
    """Parameters as training could leave them."""
    parameters = contrast.initial_parameters(base, x_size, 5)
    if isinstance(contrast, Flow):
        rng = np.random.RandomState(4)
        parameters["base"]["log_scales"] += (0.1 * rng.randn(*parameters["base"]["log_scales"].shape)).astype("float32")
    return parameters


def grid(event_size: int, end: float, num: int) -> tuple[np.ndarray, float]:
    """Midpoints [num^D, 1, D] of cells, and the volume of one."""
    step = 2.0 * end / num
    axis = -end + step * (np.arange(num) + 0.5)
    points = np.stack(np.meshgrid(*[axis] * event_size, indexing="ij"), -1).reshape(-1, 1, event_size)
    return points, step**event_size


def public(module: Any) -> set[type]:
    return {
        kind
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and not name.startswith("_") and "__call__" in vars(kind)
    }


def test_every_contrast_is_in_the_registry_and_can_be_saved() -> None:
    assert public(contrasts) == {type(contrast) for contrast in CONTRASTS.values()}
    assert public(contrasts) <= set(checkpoints.PARTS.values()) | {Prior}  # a prior holds the user's distribution


@pytest.mark.parametrize("name", CONTRASTS)
def test_shapes_and_seeds(name: str) -> None:
    contrast = CONTRASTS[name]
    for x, num_conditions in ((None, 1), (tf.ones([3, 2]), 3)):
        density = contrast(contrast.initial_parameters(PLANE, 0 if x is None else 2, 0), x)
        draws = density.sample(5, SEED)
        assert draws.shape == (5, num_conditions, 2) and draws.dtype == tf.float32
        np.testing.assert_array_equal(draws, density.sample(5, SEED))
        assert (np.abs(draws - density.sample(5, SEED + 1)) > 1e-6).all()
        assert len(np.unique(draws.numpy().reshape(-1, 2), axis=0)) == 5 * num_conditions
        assert density.log_prob(draws).shape == (5, num_conditions)


@pytest.mark.parametrize("name", CONTRASTS)
def test_the_density_integrates_to_one_and_is_that_of_the_draws(name: str) -> None:
    """Two-dimensional quadrature of 1, u, u u^T and log r, against means over draws."""
    density = CONTRASTS[name](shaken(CONTRASTS[name], PLANE), None)
    points, volume = grid(2, 13.0, 500)
    mass = np.exp(density.log_prob(tf.constant(points, tf.float32)).numpy().astype(np.float64)) * volume
    assert mass.sum() == pytest.approx(1.0, abs=2e-4)

    def statistics(u: np.ndarray) -> np.ndarray:
        log_prob = density.log_prob(tf.constant(u, tf.float32)).numpy()[:, 0]
        u = u[:, 0]
        columns = [u, u[:, :1] ** 2, u[:, 1:] ** 2, u[:, :1] * u[:, 1:], np.cos(u), log_prob[:, None]]
        return np.concatenate(columns, 1)

    exact = mass[:, 0] @ np.nan_to_num(statistics(points), neginf=0.0)
    found = statistics(density.sample(SIZE, SEED).numpy().astype(np.float64))
    error = (found.mean(0) - exact) / (found.std(0) / np.sqrt(SIZE))
    assert np.abs(error).max() < 4.5


@pytest.mark.parametrize("name", [*FLOWS, *FOLLOWERS])
def test_one_dimension(name: str) -> None:
    density = CONTRASTS[name](shaken(CONTRASTS[name], LINE), None)
    points, volume = grid(1, 15.0, 20_000)
    mass = np.exp(density.log_prob(tf.constant(points, tf.float32)).numpy()[:, 0].astype(np.float64)) * volume
    assert mass.sum() == pytest.approx(1.0, abs=1e-4)
    draws = density.sample(SIZE, SEED).numpy()[:, 0, 0]
    edges = points[:, 0, 0] + volume / 2
    cumulated = np.cumsum(mass)
    assert scipy.stats.kstest(draws, lambda values: np.interp(values, edges, cumulated)).pvalue > 1e-4


@pytest.mark.parametrize("name", FLOWS)
def test_a_one_dimensional_flow_starts_with_the_bases_moments(name: str) -> None:
    parameters = CONTRASTS[name].initial_parameters(LINE, 0, 0)["base"]
    assert parameters["means"].shape == (16, 1)
    weights, means = np.exp(parameters["logits"].astype(np.float64)), parameters["means"][:, 0].astype(np.float64)
    variances = parameters["scale_trils"][:, 0, 0].astype(np.float64) ** 2
    for k, (log_weight, mean, scale) in enumerate(zip(LINE.log_weights, LINE.means, LINE.scale_trils, strict=True)):
        own = slice(8 * k, 8 * (k + 1))
        assert weights[own].sum() == pytest.approx(np.exp(log_weight), rel=1e-5)
        share = weights[own] / weights[own].sum()
        assert share @ means[own] == pytest.approx(mean[0], abs=1e-5)
        assert share @ (variances[own] + means[own] ** 2) - mean[0] ** 2 == pytest.approx(scale[0, 0] ** 2, rel=1e-5)


@pytest.mark.parametrize("event_size", [2, 3, 7, 40])
def test_couplings_undo_themselves_and_their_log_determinants(event_size: int) -> None:
    flow = CONTRASTS["strong flow"]
    density = flow(flow.initial_parameters(mixtures.standard_base(event_size), 0, 1), None)
    u = tf.constant(np.random.RandomState(0).randn(50, 1, event_size), tf.float32)
    order = _Order(event_size)
    u = order.inside(u)
    for index, coupling in enumerate(density.parameters["couplings"]):
        forward, change = density._couple(coupling, u, index, order, inverse=False)
        again, back = density._couple(coupling, forward, index, order, inverse=True)
        np.testing.assert_allclose(again, u, atol=1e-5)
        np.testing.assert_allclose(back, -change, atol=1e-5)
        moved = np.abs(order.outside(forward - u)).max((0, 1)) > 1e-4
        np.testing.assert_array_equal(moved, ~kept_mask(event_size, index))


def test_couplings_are_the_same_whatever_comes_first() -> None:
    """[D, S, B] and [S, B, D], with three data sets that the conditioners see."""
    event_size = 5
    flow = CONTRASTS["strong flow"]
    x = tf.constant(np.random.RandomState(1).randn(3, 2), tf.float32)
    density = flow(flow.initial_parameters(mixtures.standard_base(event_size), 2, 1), x)
    u = tf.constant(np.random.RandomState(0).randn(50, 3, event_size), tf.float32)
    first, last = _Order(event_size), _Order(event_size)
    last.axis = -1
    for index, coupling in enumerate(density.parameters["couplings"]):
        for inverse in (False, True):
            moved, change = density._couple(coupling, first.inside(u), index, first, inverse=inverse)
            same, equal = density._couple(coupling, u, index, last, inverse=inverse)
            np.testing.assert_allclose(first.outside(moved), same, atol=1e-6)
            np.testing.assert_allclose(change, equal, atol=1e-6)


@pytest.mark.parametrize("event_size", [2, 3, 10])
def test_each_pair_of_couplings_moves_every_coordinate_once(event_size: int) -> None:
    for index in (0, 2, 4):
        first, second = kept_mask(event_size, index), kept_mask(event_size, index + 1)
        np.testing.assert_array_equal(first, ~second)
        assert first.sum() == event_size // 2
    assert len({kept_mask(10, index).tobytes() for index in range(6)}) == 6


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_near_its_base_at_the_start(name: str) -> None:
    flow = Flow() if name == "flow" else Flow(num_couplings=0)
    density = flow(flow.initial_parameters(PLANE, 0, 0), None)
    u = tf.constant(np.random.RandomState(0).randn(100, 1, 2), tf.float32)
    exact = mixtures.log_prob(mixtures.initial_parameters(PLANE), u)
    np.testing.assert_allclose(density.log_prob(u), exact, atol=0.3 if name == "flow" else 1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_x_changes_a_flow_in_its_own_rows_only(name: str) -> None:
    flow = CONTRASTS["strong flow"] if name == "strong flow" else Flow(network=MLP((8, 8), output_scale=1.0))
    parameters = shaken(flow, PLANE, 2)
    x = np.random.RandomState(0).randn(3, 2).astype("float32")
    u = tf.constant(np.random.RandomState(1).randn(20, 3, 2), tf.float32)
    log_prob = flow(parameters, tf.constant(x)).log_prob(u).numpy()
    for b in range(3):
        alone = flow(parameters, tf.constant(x[b : b + 1])).log_prob(u[:, b : b + 1])
        np.testing.assert_allclose(log_prob[:, b], alone[:, 0], rtol=1e-4, atol=1e-4)
    changed = x.copy()
    changed[1] += 2.0
    other = flow(parameters, tf.constant(changed))
    assert (np.abs(other.log_prob(u) - log_prob).max(0) > 1e-3).tolist() == [False, True, False]
    moved = np.abs(other.sample(9, SEED) - flow(parameters, tf.constant(x)).sample(9, SEED)).max((0, 2))
    assert (moved > 1e-3).tolist() == [False, True, False]


@pytest.mark.parametrize("name", FLOWS)
def test_a_conditional_flow_is_normalised_for_each_x(name: str) -> None:
    flow = CONTRASTS[name]
    density = flow(shaken(flow, PLANE, 1), tf.constant([[-1.0], [2.0]]))
    points, volume = grid(2, 13.0, 300)
    log_prob = density.log_prob(tf.constant(np.repeat(points, 2, 1), tf.float32)).numpy().astype(np.float64)
    np.testing.assert_allclose(np.exp(log_prob).sum(0) * volume, 1.0, atol=5e-4)


def test_likelihood_trains_every_number_of_a_flow_but_the_fixed_scales() -> None:
    flow = CONTRASTS["strong flow"]
    parameters = tf.nest.map_structure(tf.constant, shaken(flow, PLANE, 1))
    u = tf.constant(np.random.RandomState(1).randn(50, 2, 2), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        loss = tf.reduce_mean(flow(parameters, tf.constant([[0.3], [-1.0]])).log_prob(u))
    gradient = tape.gradient(loss, parameters)
    trained = {key for key, value in gradient["base"].items() if value is not None and np.abs(value).max() > 0}
    assert trained == {"logits", "means", "log_scales"}
    assert all(np.abs(value).max() > 0 for value in tf.nest.flatten(gradient["couplings"]))


def test_moments_start_at_those_of_the_base() -> None:
    parameters = MomentMatched().initial_parameters(PLANE, 0, 0)
    weights = np.exp(PLANE.log_weights)
    mean, second = np.zeros(2), np.zeros((2, 2))
    for weight, component_mean, scale_tril in zip(weights, PLANE.means, PLANE.scale_trils, strict=True):
        mean += weight * component_mean
        second += weight * (scale_tril @ scale_tril.T + np.outer(component_mean, component_mean))
    np.testing.assert_allclose(parameters["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(parameters["covariance"], second - np.outer(mean, mean), rtol=1e-5)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_moments_converge_to_those_of_the_draws(name: str) -> None:
    """Pooled over x; the fixed point does not depend on the start."""
    contrast = MomentMatched(diagonal=CONTRASTS[name].diagonal, decay=0.5)
    z = (np.random.RandomState(0).randn(40, 3, 2) @ [[2.0, 1.0], [0.0, 0.5]] + [5.0, -3.0]).astype("float32")
    parameters = contrast.initial_parameters(PLANE, 0, 0)
    for _ in range(60):
        parameters = contrast.update(parameters, tf.constant(z))
    flat = z.reshape(-1, 2).astype(np.float64)
    mean, covariance = flat.mean(0), np.cov(flat.T, bias=True)
    np.testing.assert_allclose(parameters["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(parameters["covariance"], covariance, rtol=1e-4, atol=1e-4)
    if contrast.diagonal:
        covariance = np.diag(np.diag(covariance))
    exact = scipy.stats.multivariate_normal(mean, covariance).logpdf(z)
    np.testing.assert_allclose(contrast(parameters, None).log_prob(tf.constant(z)), exact, rtol=1e-3, atol=1e-3)


def test_one_update_is_an_exponential_average() -> None:
    contrast, z = MomentMatched(decay=0.9), tf.constant([[[1.0, 2.0]], [[3.0, -4.0]]])
    start = {"mean": np.float32([10.0, 20.0]), "covariance": np.float32([[2.0, 0.5], [0.5, 1.0]])}
    found = contrast.update(start, z)
    mean = 0.9 * np.array([10.0, 20.0]) + 0.1 * np.array([2.0, -1.0])
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-6)
    centred = np.array([[1.0, 2.0], [3.0, -4.0]]) - mean
    expected = 0.9 * start["covariance"] + 0.1 * centred.T @ centred / 2
    np.testing.assert_allclose(found["covariance"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_no_gradient_reaches_the_moments(name: str) -> None:
    contrast = CONTRASTS[name]
    parameters = tf.nest.map_structure(tf.constant, contrast.initial_parameters(PLANE, 0, 0))
    z = tf.ones([5, 1, 2])
    with tf.GradientTape() as tape:
        tape.watch((parameters, z))
        log_prob = tf.reduce_sum(contrast(parameters, None).log_prob(z))
    of_parameters, of_z = tape.gradient(log_prob, (parameters, z))
    assert all(value is None for value in of_parameters.values())
    assert np.abs(of_z).min() > 0


@pytest.mark.parametrize("name", [*FLOWS, "prior"])
def test_what_does_not_follow_by_moments_is_left_alone(name: str) -> None:
    parameters = CONTRASTS[name].initial_parameters(PLANE, 0, 0)
    assert CONTRASTS[name].update(parameters, tf.ones([4, 1, 2])) is parameters


def test_the_prior_in_whitened_coordinates_is_an_affine_image() -> None:
    prior = CONTRASTS["prior"]
    u = np.random.RandomState(0).randn(30, 2, 2)
    inverse = np.linalg.inv(np.array(SCALE_TRIL))
    mean = inverse @ (np.array([0.5, -1.0]) - SHIFT)
    covariance = inverse @ PRIOR_SCALE @ PRIOR_SCALE.T @ inverse.T
    exact = scipy.stats.multivariate_normal(mean, covariance)
    found = prior({}, tf.ones([2, 1])).log_prob(tf.constant(u, tf.float32))
    np.testing.assert_allclose(found, exact.logpdf(u), rtol=1e-4, atol=1e-4)


def test_a_prior_in_float64_and_far_away_loses_no_digits() -> None:
    """sd 1e-3 at 1e6: float32 could not tell the draws apart."""
    far = Prior(tfd.MultivariateNormalDiag(np.array([1e6]), np.array([1e-3])), (1e6,), ((1e-3,),))
    u = tf.constant(np.linspace(-3.0, 3.0, 7).reshape(-1, 1, 1), tf.float32)
    exact = scipy.stats.norm.logpdf(u.numpy()[..., 0])
    np.testing.assert_allclose(far({}, None).log_prob(u), exact, atol=1e-5)
    draws = far({}, None).sample(SIZE, SEED).numpy().ravel()
    assert scipy.stats.kstest(draws, "norm").pvalue > 1e-4
