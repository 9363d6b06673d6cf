"""Conditional flows and the sampler built on them: densities that integrate to one, draws that follow them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from neural_vb import conditional_flows
from neural_vb.conditional_flows import ConditionalFlow, FlowSampler, MixtureNetwork
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP

X = np.array([[0.5, -1.0, 2.0], [2.0, 0.3, 0.0]], np.float32)


def flow(event_size: int, num_components: int = 3) -> tuple[ConditionalFlow, dict]:
    network = MLP((8,), output_scale=0.2)
    made = ConditionalFlow(num_couplings=2, network=network, base=MixtureNetwork(num_components, network))
    return made, made.initial_parameters(standard_base(event_size), 3, 7)


def grid(event_size: int) -> tuple[np.ndarray, float]:
    edges = np.linspace(-15.0, 15.0, 4_001 if event_size == 1 else 601)
    points = np.stack(np.meshgrid(*[edges] * event_size, indexing="ij"), -1).reshape(-1, event_size)
    return points, (edges[1] - edges[0]) ** event_size


@pytest.mark.parametrize(("event_size", "num_components"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_the_density_integrates_to_one_for_every_x(event_size: int, num_components: int) -> None:
    made, parameters = flow(event_size, num_components)
    points, cell = grid(event_size)
    z = tf.constant(np.repeat(points[:, None], 2, 1), tf.float32)
    density = np.exp(made(parameters, tf.constant(X)).log_prob(z).numpy().astype(np.float64))
    np.testing.assert_allclose(density.sum(0) * cell, 1.0, atol=2e-3)
    assert np.abs(density[:, 0] - density[:, 1]).max() > 0.01  # x matters


def test_draws_follow_the_density() -> None:
    made, parameters = flow(2)
    density = made(parameters, tf.constant(X))
    draws = density.sample(20_000, tf.constant([0, 1])).numpy()
    assert draws.shape == (20_000, 2, 2)
    points, cell = grid(2)
    weights = np.exp(density.log_prob(tf.constant(np.repeat(points[:, None], 2, 1), tf.float32)).numpy()) * cell
    for b in range(2):
        mean = weights[:, b] @ points
        sd = np.sqrt(weights[:, b] @ (points - mean) ** 2)
        np.testing.assert_array_less(np.abs(draws[:, b].mean(0) - mean) / sd, 4.5 / np.sqrt(20_000) + 2e-3)
        np.testing.assert_allclose(draws[:, b].std(0) / sd, 1.0, atol=0.04)


def test_components_against_a_naive_twin() -> None:
    network = MixtureNetwork(3, MLP((8,), output_scale=0.5))
    components = network(network.initial_parameters(2, 3, 5), tf.constant(X))
    u = np.random.default_rng(0).standard_normal((7, 2, 2)).astype(np.float32)
    found = conditional_flows.log_prob(components, tf.constant(u)).numpy()
    log_weights, means, log_scales = (part.numpy().astype(np.float64) for part in components)
    np.testing.assert_allclose(np.exp(log_weights).sum(-1), 1.0, rtol=1e-6)
    for s in range(7):
        for b in range(2):
            exact = np.logaddexp.reduce(
                [
                    log_weights[b, k] + scipy.stats.norm.logpdf(u[s, b], means[b, k], np.exp(log_scales[b, k])).sum()
                    for k in range(3)
                ]
            )
            assert found[s, b] == pytest.approx(exact, abs=1e-4)


def test_components_are_chosen_by_their_weights() -> None:
    network = MixtureNetwork(3, MLP((8,), output_scale=2.0))
    components = network(network.initial_parameters(2, 3, 5), tf.constant(X))
    noise = tf.random.stateless_normal([40_000, 2], [1, 2])
    chosen, log_choice = conditional_flows.choose(components, noise)
    weights = np.exp(components.log_weights.numpy())
    shares = chosen.numpy().mean(0)
    assert np.abs(shares - weights).max() < 4.5 * 0.5 / np.sqrt(40_000)
    np.testing.assert_allclose(np.exp(log_choice), (chosen.numpy() * weights).sum(-1), rtol=1e-5)


def test_the_sampler_starts_as_its_flow() -> None:
    made, parameters = flow(2)
    sampler = FlowSampler(made, MLP((8,), output_scale=0.0))
    own = {**sampler.initial_parameters(standard_base(2), 3, 7), "flow": parameters}
    proposal = sampler(own, 50, tf.constant(X), tf.constant([3, 4]))
    np.testing.assert_array_equal(proposal.z, made(parameters, tf.constant(X)).sample(50, tf.constant([3, 4])))
    assert proposal.log_choice.shape == (50, 2)
    with tf.GradientTape() as tape:
        leaves = [tf.Variable(leaf) for leaf in tf.nest.flatten(own)]
        packed = tf.nest.pack_sequence_as(own, [leaf + 0.0 for leaf in leaves])
        total = tf.reduce_sum(sampler(packed, 50, tf.constant(X), tf.constant([3, 4])).z ** 2)
    gradients = tape.gradient(total, leaves)
    assert sum(g is not None and float(tf.norm(g)) > 0 for g in gradients) >= len(leaves) - 2
