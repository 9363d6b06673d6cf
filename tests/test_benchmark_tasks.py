"""The tasks for amortised posteriors: exact draws against their joints, grids and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from benchmarks import simulation_references as references
from benchmarks.moon import Moon
from benchmarks.simulation_tasks import (
    TASKS,
    Task,
    conjugate_normal,
    gaussian_mixture,
    linear_regression,
    slcp,
    two_moons,
)
from neural_vb.errors import DataError
from neural_vb.targets import JointTarget

NAMES = sorted(TASKS)


def one_data_set(task: Task, index: int = 0) -> dict[str, np.ndarray]:
    _, data = task.simulate(3, seed=5)
    return {name: part[index] for name, part in data.items()}


def stein_errors(task: Task, data: dict[str, np.ndarray], num_draws: int = 4_000) -> np.ndarray:
    """E[s_d] = 0 and E[z_d s_d] = -1 for the score s of the unconstrained posterior, in standard errors: [2 D]."""
    draws = task.reference(data, num_draws, seed=1)
    target = JointTarget(task.joint(), data)
    z = target.unconstrain({name: part.astype(np.float32) for name, part in draws.items()})
    with tf.GradientTape() as tape:
        tape.watch(z)
        log_prob = target.log_prob(z[:, tf.newaxis])
    score, z = tape.gradient(log_prob, z).numpy(), z.numpy()
    found = np.concatenate([score, z * score + 1.0], axis=1)
    return found.mean(axis=0) / (found.std(axis=0) / math.sqrt(num_draws))


# Laws that every task keeps.


def test_registry_names_its_rows() -> None:
    assert NAMES == ["conjugate_normal", "gaussian_mixture", "linear_regression", "slcp", "two_moons"]
    assert all(name == task.name for name, task in TASKS.items())


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_seeds(name: str) -> None:
    task = TASKS[name]
    latents, data = task.simulate(6, seed=0)
    shapes = task.joint().event_shape._asdict()
    assert set(latents) == set(task.latents) and set(data) == set(task.observed)
    assert {**latents, **data}.keys() == shapes.keys()
    assert all(part.shape == (6, *shapes[key]) for key, part in {**latents, **data}.items())
    row = {key: part[2] for key, part in data.items()}
    draws, again, others = (task.reference(row, 50, seed) for seed in (0, 0, 1))
    for key in task.latents:
        assert draws[key].shape == (50, *shapes[key])
        np.testing.assert_array_equal(draws[key], again[key])
        assert not np.any(draws[key] == others[key])
        np.testing.assert_array_equal(latents[key], task.simulate(6, seed=0)[0][key])


@pytest.mark.parametrize("name", NAMES)
def test_reference_fulfils_steins_identities(name: str) -> None:
    for index in range(2):
        assert np.abs(stein_errors(TASKS[name], one_data_set(TASKS[name], index))).max() < 4.5


@pytest.mark.parametrize("name", NAMES)
def test_truth_has_uniform_ranks_among_reference_draws(name: str) -> None:
    task, num_sets, num_draws = slcp(0.0) if name == "slcp" else TASKS[name], 400, 19  # its floor has a test of its own
    latents, data = task.simulate(num_sets, seed=11)
    (key,) = task.latents
    ranks = []
    for i in range(num_sets):
        draws = task.reference({k: part[i] for k, part in data.items()}, num_draws, seed=i)[key]
        ranks.append((draws.reshape(num_draws, -1) < latents[key][i].reshape(1, -1)).sum(axis=0))
    for column in np.transpose(ranks):
        counts = np.bincount(column, minlength=num_draws + 1)
        assert stats.chisquare(counts).pvalue > 1e-4, counts


@pytest.mark.parametrize("name", NAMES)
def test_data_of_another_shape_are_refused(name: str) -> None:
    task = TASKS[name]
    ((key, shape),) = task.shapes.items()
    with pytest.raises(DataError) as caught:
        task.reference({key: np.zeros((3, *shape))}, 10, seed=0)
    wanted, came = {key: shape}, {key: (3, *shape)}
    assert str(caught.value) == (
        f"Expected one data set of the task {name!r}, shapes {wanted}; got shapes {came}. "
        "Fix: pick one row of what `simulate` returns"
    )
    with pytest.raises(DataError, match=r"got shapes \{\}"):
        task.reference({}, 10, seed=0)


# Gaussian posteriors.


@pytest.mark.parametrize("num_rows", [1, 4, 50])
def test_conjugate_normal_is_a_ratio_of_integrals(num_rows: int) -> None:
    y = np.random.default_rng(num_rows).normal(1.5, 1.0, num_rows)
    mu = np.linspace(-15.0, 15.0, 60_001)
    log_joint = stats.norm.logpdf(mu, 0.0, 2.0) + stats.norm.logpdf(y[:, None], mu).sum(axis=0)
    weights = np.exp(log_joint - log_joint.max())
    weights /= weights.sum()
    mean = weights @ mu
    found = conjugate_normal(num_rows).moments({"y": y})
    np.testing.assert_allclose(found.mean, [mean], rtol=1e-8)
    np.testing.assert_allclose(found.sd, [math.sqrt(weights @ (mu - mean) ** 2)], rtol=1e-6)


def test_linear_regression_is_least_squares_with_the_prior_as_rows() -> None:
    task = linear_regression(7)
    data = one_data_set(task)
    design = np.concatenate([references.regression_design(7) / 0.5, np.eye(3)])
    rows = np.concatenate([data["y"] / 0.5, np.zeros(3)])
    found = task.moments(data)
    np.testing.assert_allclose(found.mean, np.linalg.lstsq(design, rows, rcond=None)[0], rtol=1e-6)
    np.testing.assert_allclose(found.sd, np.sqrt(np.diag(np.linalg.inv(design.T @ design))), rtol=1e-6)


@pytest.mark.parametrize("name", ["conjugate_normal", "linear_regression"])
def test_draws_have_the_closed_moments(name: str) -> None:
    task, num_draws = TASKS[name], 20_000
    data = one_data_set(task)
    draws = task.reference(data, num_draws, seed=2)[task.latents[0]].reshape(num_draws, -1)
    moments = task.moments(data)
    assert np.abs((draws.mean(axis=0) - moments.mean) / moments.sd).max() < 4.5 / math.sqrt(num_draws)
    assert np.abs(draws.std(axis=0) / moments.sd - 1.0).max() < 4.5 / math.sqrt(2 * num_draws)


# Two Gaussians of different width.


def test_gaussian_mixture_log_prob_is_the_naive_one() -> None:
    z, x = np.float32([[1.0, -2.0], [9.0, 0.5]]), np.float32([[1.3, -2.1], [7.5, 0.5]])
    parts = [stats.multivariate_normal(np.zeros(2), sd**2 * np.eye(2)).pdf(x - z) for sd in (1.0, 0.1)]
    expected = np.log(0.5 * parts[0] + 0.5 * parts[1]) - 2.0 * math.log(20.0)
    np.testing.assert_allclose(gaussian_mixture().joint().log_prob(z=z, x=x), expected, rtol=1e-5)


@pytest.mark.parametrize("x", [(1.0, -3.0), (9.8, 0.0), (10.6, 10.05)])
def test_gaussian_mixture_is_cut_by_its_prior(x: tuple[float, float]) -> None:
    z = gaussian_mixture().reference({"x": np.float32(x)}, 5_000, seed=3)["z"]
    inside = [[np.diff(stats.norm.cdf([-10.0, 10.0], c, sd))[0] for c in x] for sd in (1.0, 0.1)]
    weights = np.prod(inside, axis=1) / np.prod(inside, axis=1).sum()

    def cdf(t: np.ndarray) -> np.ndarray:
        parts = [stats.truncnorm.cdf(t, (-10 - x[0]) / s, (10 - x[0]) / s, x[0], s) for s in (1.0, 0.1)]
        return weights @ np.array(parts)

    assert stats.kstest(z[:, 0], cdf).pvalue > 1e-4


# Two moons.


def naive_moon(offset: np.ndarray, edge: float) -> np.ndarray:
    """Density of the moon around the origin, [n, 2] -> [n]."""
    radius = np.hypot(offset[:, 0], offset[:, 1])
    cosine = offset[:, 0] / radius
    angular = 1.0 / (1.0 + np.exp(-np.clip(cosine / edge, -600, 600))) if edge else (cosine > 0).astype(float)
    return stats.norm.pdf(radius, 0.1, 0.01) / (np.pi * radius) * angular


def cells(low: float, high: float, num: int) -> tuple[np.ndarray, float]:
    """Midpoints of a square grid, [num^2, 2], and the area of a cell."""
    side = low + (np.arange(num) + 0.5) * (high - low) / num
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2), ((high - low) / num) ** 2


@pytest.mark.parametrize("edge", [0.0, 0.01, 0.2])
def test_moon_is_normalised_and_the_naive_one(edge: float) -> None:
    points, area = cells(-0.2, 0.2, 800)
    centre = np.float32([0.5, -0.25])
    log_prob = Moon(centre, edge=edge).log_prob(points.astype(np.float32) + centre).numpy()
    assert np.exp(log_prob.astype(float)).sum() * area == pytest.approx(1.0, abs=1e-3)
    naive = naive_moon(points, edge)
    seen = naive > 1e-3
    np.testing.assert_allclose(log_prob[seen], np.log(naive[seen]), atol=5e-3)  # x is rounded to 3e-8, widths are .01


def test_moon_has_finite_gradients_everywhere() -> None:
    points = tf.constant([[0.0, 0.0], [-0.1, 0.0], [0.0, 0.1], [3.0, -2.0], [-50.0, 40.0], [1e-5, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(points)
        log_prob = Moon(tf.zeros(2)).log_prob(points)
    assert np.isfinite(log_prob).all() and np.isfinite(tape.gradient(log_prob, points)).all()
    # The far side of the circle lies 1 / edge = 100 nats below the near one, and the way out of it leads back.
    assert log_prob[1].numpy() == pytest.approx(Moon(tf.zeros(2)).log_prob([0.1, 0.0]).numpy() - 100.0, abs=1e-2)
    assert Moon(tf.zeros(2), edge=0.0).log_prob([-0.1, 0.0]).numpy() == -math.inf


@pytest.mark.parametrize("edge", [0.0, 0.2])
def test_moon_draws_follow_its_density(edge: float) -> None:
    centre = tf.constant([[0.5, -0.25], [0.0, 0.0]])
    offset = (Moon(centre, edge=edge).sample(20_000, seed=(1, 2)) - centre).numpy().reshape(-1, 2)
    assert offset.shape == (40_000, 2)
    assert stats.kstest(np.hypot(offset[:, 0], offset[:, 1]), stats.norm(0.1, 0.01).cdf).pvalue > 1e-4
    sectors = np.floor((np.arctan2(offset[:, 1], offset[:, 0]) + np.pi) / (2 * np.pi) * 16).astype(int) % 16
    angle = -np.pi + (np.arange(16_000) + 0.5) * 2 * np.pi / 16_000
    density = 1 / (1 + np.exp(-np.cos(angle) / edge)) if edge else (np.cos(angle) > 0).astype(float)
    expected = density.reshape(16, -1).sum(axis=1) / density.sum()
    counts = np.bincount(sectors, minlength=16)
    assert counts[expected == 0].sum() == 0
    some = expected > 0
    assert stats.chisquare(counts[some], expected[some] * counts.sum()).pvalue > 1e-4


@pytest.mark.parametrize("edge", [0.0, references.MOONS_EDGE])
@pytest.mark.parametrize(
    "centre", [(0.3, 0.5), (0.02, -0.01), (0.97, 0.9)]
)  # one plain, one crossed, one cut by the prior
def test_two_moons_reference_is_the_posterior_on_a_grid(edge: float, centre: tuple[float, float]) -> None:
    sums = np.array([-abs(sum(centre)), centre[1] - centre[0]]) / math.sqrt(2.0)
    x = sums + np.array([0.25 + 0.1 * math.cos(0.4), 0.1 * math.sin(0.4)])
    z = two_moons(edge).reference({"x": x}, 10_000, seed=4)["z"]
    grid, _ = cells(-1.0, 1.0, 1_600)
    shift = np.stack([-np.abs(grid.sum(axis=1)), grid[:, 1] - grid[:, 0]], axis=1) / math.sqrt(2.0)
    density = naive_moon(x - shift - [0.25, 0.0], edge)

    def bins(points: np.ndarray) -> np.ndarray:
        return ((points + 1.0) * 20).astype(int) @ [40, 1]

    expected = np.bincount(bins(grid), density, minlength=1_600) / density.sum()
    counts = np.bincount(bins(z), minlength=1_600)
    often = expected * len(z) > 20
    pooled = [np.append(values[often], values[~often].sum()) for values in (counts, expected * len(z))]
    assert stats.chisquare(pooled[0], pooled[1]).pvalue > 1e-4


def test_impossible_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "MAX_PROPOSALS", 1_000)
    with pytest.raises(DataError) as caught:
        two_moons().reference({"x": np.float32([5.0, 5.0])}, 10, seed=0)
    assert str(caught.value) == (
        "Expected data that the task 'two_moons' is likely to simulate; got 0 accepted posterior draws of 1,000 "
        "proposals, where 10 were wanted. Fix: take data from the task's own `simulate`, or fewer draws"
    )


# Simple likelihood, complex posterior.


@pytest.mark.parametrize("floor", [0.0, 1e-8, 0.3])
def test_slcp_log_prob_is_the_naive_one(floor: float) -> None:
    latents, data = slcp(floor).simulate(20, seed=1)
    z, x = latents["z"], data["x"]
    expected = []
    for (m1, m2, z3, z4, z5), points in zip(z.astype(float), x.astype(float), strict=True):
        covariance = math.tanh(z5) * z3**2 * z4**2
        matrix = [[z3**4 + floor, covariance], [covariance, z4**4 + floor]]
        expected.append(stats.multivariate_normal([m1, m2], matrix).logpdf(points).sum())
    mine = [references.slcp_log_likelihood(row[None], points, floor)[0] for row, points in zip(z, x, strict=True)]
    np.testing.assert_allclose(mine, expected, rtol=1e-4)
    found = slcp(floor).joint().log_prob(z=z, x=x) + 5.0 * math.log(6.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)  # single precision, and sds down to 1e-2


def test_slcp_is_finite_where_z_is_zero() -> None:
    z, x = tf.zeros([1, 5]), tf.constant(one_data_set(slcp())["x"])[tf.newaxis]
    with tf.GradientTape() as tape:
        tape.watch(z)
        log_prob = slcp().joint().log_prob(z=z, x=x)
    assert np.isfinite(log_prob).all() and np.isfinite(tape.gradient(log_prob, z)).all()


def test_slcp_has_four_modes_of_equal_weight() -> None:
    data = one_data_set(slcp())
    z = slcp().reference(data, 8_000, seed=6)["z"]
    modes = (z[:, 2] > 0).astype(int) + 2 * (z[:, 3] > 0)
    assert stats.chisquare(np.bincount(modes, minlength=4)).pvalue > 1e-4
    flipped = z * [1, 1, -1, 1, 1]
    np.testing.assert_array_equal(*(references.slcp_log_likelihood(v, data["x"], 1e-8) for v in (z, flipped)))


@pytest.mark.parametrize("patience", [references.PATIENCE, 0])  # all by rejection, or by chains from 200 draws
def test_slcp_reference_is_the_posterior_on_a_grid(patience: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marginals of |z3|, |z4| and z5 from a grid over the three, with z1 and z2 integrated over the prior's square."""
    x = np.array([[1.1, -0.2], [3.6, 0.5], [2.4, 0.1], [3.2, 0.7]])  # the prior cuts a part of z1 and long tails of S
    monkeypatch.setattr(references, "PATIENCE", patience)
    z = slcp(0.0).reference({"x": x}, 10_000, seed=7)["z"]
    assert (len(np.unique(z[:, 0])) == len(z)) and np.all(np.abs(z) < 3.0)
    mean, scatter = x.mean(axis=0), (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))
    size, correlation = (np.arange(80) + 0.5) * 3.0 / 80, -3.0 + (np.arange(40) + 0.5) * 6.0 / 40
    z3, z5 = np.meshgrid(size, correlation, indexing="ij")
    s1, rho = z3**2, np.tanh(z5)
    # z1 given S by midpoints of its distribution function, then z2 given z1 in closed form.
    low, high = stats.norm.cdf([[[-3.0]], [[3.0]]], mean[0], s1 / 2.0)
    quantiles = stats.norm.ppf(low + (high - low) * (np.arange(30)[:, None, None] + 0.5) / 30)
    mass = np.zeros((80, 80, 40))
    for k, z4 in enumerate(size):
        s2 = z4**2
        square = scatter[0, 0] / s1**2 + scatter[1, 1] / s2**2 - 2.0 * rho * scatter[0, 1] / (s1 * s2)
        likelihood = (s1 * s2) ** -3.0 * (1.0 - rho**2) ** -1.5 * np.exp(-0.5 * square / (1.0 - rho**2))
        centre, sd = mean[1] + rho * s2 / 2.0 * quantiles, s2 / 2.0 * np.sqrt(1.0 - rho**2)
        second = (stats.norm.cdf(3.0, centre, sd) - stats.norm.cdf(-3.0, centre, sd)).mean(axis=0)
        mass[:, k] = likelihood * (high - low) * second
    mass /= mass.sum()
    for draws, marginal, side in (
        (np.abs(z[:, 2]), mass.sum(axis=(1, 2)), size),
        (np.abs(z[:, 3]), mass.sum(axis=(0, 2)), size),
        (z[:, 4], mass.sum(axis=(0, 1)), correlation),
    ):
        # The distribution functions at the edges of cells, of which a midpoint sum is sure to a few thousandths.
        edges = side[:-1] + np.diff(side) / 2.0
        found = np.searchsorted(np.sort(draws), edges) / len(draws)
        assert np.abs(found - np.cumsum(marginal)[:-1]).max() < 1.95 / math.sqrt(len(draws)) + 0.004


def test_slcp_reference_knows_of_the_floor() -> None:
    x = np.float32([[0.10, -0.05], [0.16, 0.03], [0.04, -0.01], [0.12, 0.08]])  # variances of about twice the floor
    task = slcp(3e-4)
    assert np.abs(stein_errors(task, {"x": x})).max() < 4.5
    draws, without = (slcp(floor).reference({"x": x}, 10_000, seed=8)["z"][:, 2:4] for floor in (3e-4, 0.0))
    change = np.abs(draws).mean(axis=0) - np.abs(without).mean(axis=0)
    assert np.all(change < -5.0 * np.abs(draws).std(axis=0) / 100.0)  # the floor takes over a part of the spread


def test_slcp_refuses_data_as_narrow_as_its_floor() -> None:
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1e-4, -1.0], [0.0, 0.5]])
    with pytest.raises(DataError) as caught:
        slcp().reference({"x": x}, 10, seed=0)
    assert str(caught.value) == (
        "Expected four points with a spread well above the floor of the variance; got a sum of squares of 7.5e-09 with "
        "floor 1e-08. Fix: leave this data set out, or build the task with a smaller floor"
    )
