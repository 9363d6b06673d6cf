"""Tempered particles on densities with known normalisers, with tolerances from independent repeats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import smc
from neural_vb._types import Tensor

LogProb = Callable[[Tensor], Tensor]
REPEATS = 8


def value_and_gradient(log_prob: LogProb) -> smc.ValueAndGradient:
    def evaluate(u: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(u)
            value = log_prob(u)
        gradient = tape.gradient(value, u)
        return value, tf.where(tf.math.is_finite(value)[:, tf.newaxis], gradient, 0.0)

    return evaluate


def repeat(log_prob: LogProb, event_size: int, repeats: int = REPEATS, **options: object) -> list[smc.Particles]:
    """Independent runs of one compiled sampler."""

    @tf.function(autograph=False)
    def run(seed: Tensor) -> smc.Particles:
        density = value_and_gradient(log_prob)
        beginning = {name: options[name] for name in ("num_particles", "max_stages", "scale") if name in options}
        moves = {name: value for name, value in options.items() if name not in ("num_particles", "max_stages")}
        return smc.sample(density, smc.start(density, event_size, seed=seed, **beginning), seed=seed, **moves)

    found = [run(tf.constant([7, number])) for number in range(repeats)]
    return [smc.Particles(*(part.numpy() for part in particles)) for particles in found]


def close(values: list, exact: object, at_most: float) -> None:
    """Means over independent runs agree with ``exact`` within their standard error, which is small itself."""
    values = np.array(values, np.float64)
    standard_error = values.std(0, ddof=1) / np.sqrt(len(values))
    assert np.max(standard_error) < at_most
    error = np.abs(values.mean(0) - exact)
    assert np.max(error / np.maximum(standard_error, 1e-6)) < 5.4, (values.mean(0), exact)  # t with 7 degrees: 1e-3


MEAN = np.array([1.0, -2.0, 0.5])
FACTOR = np.array([[0.4, 0.0, 0.0], [0.3, 1.2, 0.0], [-0.5, 0.2, 0.1]])
LOG_Z = -3.25


def gaussian(u: Tensor) -> Tensor:
    noise = tf.linalg.matvec(tf.constant(np.linalg.inv(FACTOR), tf.float32), u - tf.constant(MEAN, tf.float32))
    constant = LOG_Z - 1.5 * np.log(2 * np.pi) - np.log(np.diag(FACTOR)).sum()
    return constant - 0.5 * tf.reduce_sum(noise**2, -1)


def test_evidence_and_moments_of_a_gaussian() -> None:
    runs = repeat(gaussian, 3, num_particles=512, num_moves=4)
    assert all(run.beta == 1.0 and run.num_stages > 1 for run in runs)
    assert all(run.u.shape == (512, 3) and run.log_prob.shape == (512,) for run in runs)
    close([run.log_evidence for run in runs], LOG_Z, 0.1)
    close([run.u.mean(0) for run in runs], MEAN, 0.04)
    covariance = FACTOR @ FACTOR.T
    products = [np.einsum("ni,nj->ij", run.u - MEAN, run.u - MEAN) / 512 for run in runs]
    close(products, covariance, 0.1)
    for run in runs:
        np.testing.assert_allclose(run.log_prob, gaussian(tf.constant(run.u)), atol=1e-4)
        assert 0.6 < run.acceptance <= 1.0


def test_two_modes_keep_their_weights() -> None:
    def log_prob(u: Tensor) -> Tensor:
        """.3 N(-2, .2^2) + .7 N(2, .4^2), of mass e^2, beside a standard normal."""
        parts = [
            np.log(weight) - 0.5 * ((u[:, 0] - mean) / scale) ** 2 - np.log(scale)
            for weight, mean, scale in ((0.3, -2.0, 0.2), (0.7, 2.0, 0.4))
        ]
        return 2.0 + tf.reduce_logsumexp(tf.stack(parts), 0) - 0.5 * u[:, 1] ** 2 - np.log(2 * np.pi)

    runs = repeat(log_prob, 2, num_particles=1_024, scale=2.5)
    close([(run.u[:, 0] < 0).mean() for run in runs], 0.3, 0.03)
    close([run.log_evidence for run in runs], 2.0, 0.05)
    close([run.u[run.u[:, 0] < 0, 0].std() for run in runs], 0.2, 0.01)
    close([run.u[run.u[:, 0] > 0, 0].mean() for run in runs], 2.0, 0.03)


def test_a_region_without_density_loses_its_particles() -> None:
    def log_prob(u: Tensor) -> Tensor:
        return tf.where(u[:, 0] > 0.5, -0.5 * u[:, 0] ** 2 - 0.5 * np.log(2 * np.pi), -np.inf)

    runs = repeat(log_prob, 1, num_particles=512)
    assert all((run.u > 0.5).all() and np.isfinite(run.log_prob).all() for run in runs)
    close([run.log_evidence for run in runs], np.log(0.3085375), 0.05)  # 1 - Phi(.5)


def test_a_target_that_is_the_start_needs_one_step_and_has_its_evidence_exactly() -> None:
    def log_prob(u: Tensor) -> Tensor:
        return 4.0 - 0.5 * tf.reduce_sum((u / 2.0) ** 2, -1) - np.log(2 * np.pi) - 2 * np.log(2.0)

    (run,) = repeat(log_prob, 2, repeats=1, num_particles=256, scale=2.0)
    assert run.num_stages == 1
    assert run.log_evidence == pytest.approx(4.0, abs=1e-4)


def test_running_out_of_stages_is_told() -> None:
    (run,) = repeat(gaussian, 3, repeats=1, num_particles=128, max_stages=2)
    assert run.num_stages == 2 and 0.0 < run.beta < 1.0


def test_the_effective_sample_size_sets_the_temperatures() -> None:
    few, many = (
        repeat(gaussian, 3, repeats=1, num_particles=256, ess_ratio=ratio, num_moves=1, num_final_moves=1)[0]
        for ratio in (0.2, 0.8)
    )
    assert few.num_stages < many.num_stages


def test_the_seed_decides() -> None:
    first, second = (repeat(gaussian, 3, repeats=2, num_particles=64) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.u, other.u)
    assert not np.array_equal(first[0].u, first[1].u)


@pytest.mark.parametrize("num_leapfrog", [1, 5])
def test_moves_alone_leave_the_target_invariant(num_leapfrog: int) -> None:
    """With the target equal to the start, nothing but Hamiltonian moves acts."""

    def log_prob(u: Tensor) -> Tensor:
        return -0.5 * tf.reduce_sum((u / 1.5) ** 2, -1)

    runs = repeat(log_prob, 1, num_particles=20_000, num_leapfrog=num_leapfrog)
    close([run.u.mean(0) for run in runs], 0.0, 0.01)
    close([(run.u**2).mean(0) for run in runs], 2.25, 0.02)
