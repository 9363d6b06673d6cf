"""Samplers, contrasts and critics of the autoencoder: densities of their own draws, moments, naive NumPy twins."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import ratio_losses
from neural_vb.applications import encoders, inference
from neural_vb.applications.contrasts import EncoderMoments, GaussianDensity, MomentsAndFlow, StandardNormal
from neural_vb.applications.encoders import (
    ConcatSampler,
    GaussianEncoder,
    InverseAutoregressiveEncoder,
    NoiseBasisSampler,
    ResidualSampler,
    quasi_normal,
)
from neural_vb.applications.inference import (
    LatentCritic,
    NoCritic,
    ProductCritic,
    adversarial_autoencoder,
    avb_adaptive,
    avb_flow,
    avb_prior,
    gaussian,
    iaf,
)
from neural_vb.avb import Parts, contrast_density, losses
from neural_vb.errors import ConfigurationError
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP

RNG = np.random.RandomState(0)
SEED = tf.constant([1, 2])
X = tf.constant(RNG.randn(3, 4), tf.float32)
OTHER = tf.constant([[0.0], [1.0], [0.0]])
EXPLICIT: dict[str, Any] = {
    "gaussian": GaussianEncoder(),
    "iaf": InverseAutoregressiveEncoder(num_flows=2, hidden=12, context_size=5),
}
SAMPLERS: dict[str, Any] = {
    **EXPLICIT,
    "concat": ConcatSampler(),
    "more noise": ConcatSampler(MLP((8,)), noise_size=5),
    "noise basis": NoiseBasisSampler(),
    "residual": ResidualSampler(),
    "small noise basis": NoiseBasisSampler(num_bases=3, noise_size=3, basis=MLP((7,), activation=tf.nn.tanh)),
}
CRITICS: dict[str, Any] = {
    "product": ProductCritic(MLP((6,)), MLP((5,)), num_features=3),
    "latent": LatentCritic(MLP((5,))),
    "none": NoCritic(),
}
PRESETS = (gaussian, iaf, avb_prior, avb_adaptive, avb_flow, adversarial_autoencoder)


def shaken(part: Any, event_size: int, amount: float = 0.3) -> Any:
    """Parameters as training could leave them."""
    rng = np.random.RandomState(7)
    start = part.initial_parameters(standard_base(event_size), 4, 0)
    return tf.nest.map_structure(lambda leaf: (leaf + amount * rng.randn(*leaf.shape)).astype("float32"), start)


def public(module: Any, prefix: str) -> set[type]:
    return {
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and prefix in kind.__name__ and "__call__" in vars(kind)
    }


def test_every_part_is_in_a_registry() -> None:
    assert public(encoders, "Sampler") | public(encoders, "Encoder") == {type(each) for each in SAMPLERS.values()}
    assert public(inference, "Critic") == {type(critic) for critic in CRITICS.values()}


@pytest.mark.parametrize("event_size", [1, 2])
@pytest.mark.parametrize("name", SAMPLERS)
def test_shapes_and_seeds(name: str, event_size: int) -> None:
    sampler = SAMPLERS[name]
    parameters = sampler.initial_parameters(standard_base(event_size), 4, 0)
    proposal = sampler(parameters, 5, X, SEED)
    assert proposal.z.shape == (5, 3, event_size) and proposal.log_choice.shape == (5, 3)
    np.testing.assert_array_equal(proposal.log_choice, 0.0)
    np.testing.assert_array_equal(proposal.z, sampler(parameters, 5, X, SEED).z)
    assert (np.abs(proposal.z - sampler(parameters, 5, X, SEED + 1).z) > 1e-6).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_x_has_its_own_draws(name: str) -> None:
    parameters = shaken(SAMPLERS[name], 2)
    before = SAMPLERS[name](parameters, 5, X, SEED).z
    after = SAMPLERS[name](parameters, 5, X + OTHER, SEED).z
    moved = (np.abs(after - before) > 1e-5).any(-1)
    assert moved[:, 1].all() and not moved[:, [0, 2]].any()


@pytest.mark.parametrize("name", EXPLICIT)
def test_log_density_is_the_change_of_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """log q(z(eps)) = log N(eps) - log |dz / deps|; rows do not mix, so three gradients make the Jacobian."""
    sampler, parameters = EXPLICIT[name], shaken(EXPLICIT[name], 3)
    noise = tf.random.stateless_normal([4, 3, 3], SEED)
    monkeypatch.setattr(encoders.mixtures, "normal", lambda *_: noise)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(noise)
        proposal = sampler(parameters, 4, X, SEED)
        columns = [tf.reduce_sum(proposal.z[..., i]) for i in range(3)]
    log_det = np.linalg.slogdet(np.stack([tape.gradient(column, noise) for column in columns], -1))[1]
    expected = -0.5 * np.sum(noise**2, -1) - 1.5 * np.log(2 * np.pi) - log_det
    np.testing.assert_allclose(proposal.log_density, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_density_is_that_of_the_draws(name: str) -> None:
    """E_q[1 / q] over a region is its area: the draws and their log density belong together."""
    sampler, parameters = EXPLICIT[name], shaken(EXPLICIT[name], 2, 0.1)
    num = 100_000
    proposal = sampler(parameters, num, X[:1], SEED)
    z, log_q = proposal.z.numpy()[:, 0], proposal.log_density.numpy()[:, 0].astype(np.float64)
    centre, width = np.median(z, 0), 0.5 * z.std(0)
    inside = (np.abs(z - centre) < width).all(-1)
    terms = np.where(inside, np.exp(-log_q), 0.0)
    assert abs(terms.mean() - 4.0 * width.prod()) < 4.5 * terms.std() / np.sqrt(num)


def test_autoregressive_outputs_see_only_earlier_coordinates() -> None:
    sampler = EXPLICIT["iaf"]
    flow = shaken(sampler, 4, 1.0)["flows"][0]
    z = RNG.randn(1, 3, 4).astype("float32")
    context = tf.constant(RNG.randn(3, 5), tf.float32)
    before = np.stack(sampler.masked(flow, tf.constant(z), context))
    for i in range(4):
        other = z.copy()
        other[..., i] += 1.0
        moved = (np.abs(np.stack(sampler.masked(flow, tf.constant(other), context)) - before) > 1e-6).any((0, 1, 2))
        np.testing.assert_array_equal(moved, np.arange(4) > i)


@pytest.mark.parametrize("name", ["gaussian", "noise basis", "small noise basis"])
def test_moments_are_those_of_the_draws(name: str) -> None:
    sampler, num = SAMPLERS[name], 40_000
    if name != "gaussian":
        sampler = dataclasses.replace(sampler, num_points=4_096)
    parameters = shaken(sampler, 2, 0.1)
    mean, scale = (part.numpy() for part in sampler.moments(parameters, X)[:2])
    z = sampler(parameters, num, X, SEED).z.numpy()
    quadrature = 0.0 if name == "gaussian" else 0.03  # of 4,096 points, in standard deviations
    assert (np.abs(z.mean(0) - mean) < (4.5 / np.sqrt(num) + quadrature) * scale).all()
    fourth = ((z - z.mean(0)) ** 4).mean(0) / z.std(0) ** 4
    assert (np.abs(z.std(0) / scale - 1.0) < 4.5 * np.sqrt((fourth - 1.0) / (4.0 * num)) + quadrature).all()


def test_noise_basis_starts_near_the_prior_and_is_its_formula() -> None:
    sampler = NoiseBasisSampler(encoder=MLP((5,), output_scale=0.0))
    scale = sampler.moments(sampler.initial_parameters(standard_base(2), 4, 0), X).scale
    np.testing.assert_allclose(scale, 1.0, atol=1e-3)
    sampler = SAMPLERS["small noise basis"]
    parameters = shaken(sampler, 2)
    raw = sampler.encoder(parameters["encoder"], X).numpy().reshape(3, 4, 2)
    weights = raw[:, 1:] + parameters["weights"]
    noise = tf.random.stateless_normal([5, 3, 3, 3], SEED, alg="philox").numpy() + parameters["noise_shift"]
    expected = raw[:, 0] + np.zeros((5, 1, 1))
    for i in range(3):
        number = np.broadcast_to(np.eye(3)[i], (5, 3, 3))
        inputs = np.concatenate([noise[:, :, i], number], -1).astype("float32")
        vectors = noise[:, :, i, :2] + sampler.basis(parameters["basis"], tf.constant(inputs)).numpy()
        expected = expected + weights[:, i] * vectors
    np.testing.assert_allclose(sampler(parameters, 5, X, SEED).z, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_quasi_normal_points_have_standard_moments(size: int) -> None:
    points = quasi_normal(256, size).astype(np.float64)
    assert points.shape == (256, size)
    np.testing.assert_allclose(points.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(points.std(0), 1.0, atol=0.01)
    assert np.abs(np.corrcoef(points.T) - np.eye(size)).max() < 4.5 / np.sqrt(256)


def test_a_gaussian_density_is_scipys_and_standardises() -> None:
    density = GaussianDensity(tf.constant([[1.0, -2.0]]), tf.constant([[0.5, 2.0]]))
    z = density.sample(30_000, SEED)
    np.testing.assert_allclose(np.mean(z, 0), [[1.0, -2.0]], atol=4.5 * 2.0 / np.sqrt(30_000))
    standard = density.standardise(z).numpy()
    np.testing.assert_allclose(standard.std(0), 1.0, atol=4.5 / np.sqrt(60_000))
    expected = -0.5 * (standard**2).sum(-1) - np.log(2 * np.pi) - np.log(0.5 * 2.0)
    np.testing.assert_allclose(density.log_prob(z), expected, rtol=1e-4, atol=1e-4)


def test_standard_normal_is_the_prior() -> None:
    contrast = StandardNormal()
    parameters = contrast.initial_parameters(standard_base(2), 4, 0)
    density = contrast(parameters, X)
    z = density.sample(5, SEED)
    assert z.shape == (5, 3, 2) and contrast.update(parameters, z) is parameters
    np.testing.assert_allclose(density.log_prob(z), -0.5 * np.sum(z**2, -1) - np.log(2 * np.pi), rtol=1e-5)


def test_adaptive_contrast_follows_the_samplers_parameters_without_gradient() -> None:
    sampler = SAMPLERS["noise basis"]
    parts = Parts(sampler, NoCritic(), EncoderMoments(sampler), ratio_losses.logistic)
    start = tf.nest.map_structure(tf.constant, shaken(sampler, 2))
    with tf.GradientTape() as tape:
        tape.watch(start)
        density = contrast_density(parts, {"sampler": start, "contrast": {}}, X)
        log_prob = tf.reduce_sum(density.log_prob(tf.ones([5, 3, 2])))
    np.testing.assert_array_equal(density.mean, sampler.moments(start, X).mean)
    assert all(g is None for g in tape.gradient(log_prob, tf.nest.flatten(start)))


FLOW_ON_MOMENTS = MomentsAndFlow(NoiseBasisSampler(num_bases=3))


def test_a_flow_on_moments_starts_as_the_gaussian_of_the_moments() -> None:
    flow = dataclasses.replace(
        FLOW_ON_MOMENTS.flow,
        network=MLP((8,), output_scale=0.0),
        base=dataclasses.replace(FLOW_ON_MOMENTS.flow.base, network=MLP((8,), output_scale=0.0)),
    )
    contrast = dataclasses.replace(FLOW_ON_MOMENTS, flow=flow)
    sampler = shaken(contrast.sampler, 2)
    z = tf.constant(RNG.randn(5, 3, 2), tf.float32)
    density = contrast({**contrast.initial_parameters(standard_base(2), 4, 0), "sampler": sampler}, X)
    gaussian = EncoderMoments(contrast.sampler)({"sampler": sampler}, X)
    np.testing.assert_allclose(density.log_prob(z), gaussian.log_prob(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("contrast", [EncoderMoments(FLOW_ON_MOMENTS.sampler), FLOW_ON_MOMENTS], ids=type)
def test_adaptive_contrasts_draw_from_their_density(contrast: Any) -> None:
    """E_r[1 / r] over a region is its area."""
    parameters = {**shaken(contrast, 2, 0.1), "sampler": shaken(contrast.sampler, 2)}
    density = contrast(parameters, X[:1])
    z = density.sample(100_000, SEED)
    log_r = density.log_prob(z).numpy()[:, 0].astype(np.float64)
    z = z.numpy()[:, 0]
    width = 0.5 * z.std(0)
    terms = np.exp(-log_r) * (np.abs(z - np.median(z, 0)) < width).all(-1)
    area = np.prod(2.0 * width)
    assert abs(terms.mean() - area) < 5.0 * terms.std() / np.sqrt(len(terms))
    assert terms.std() / np.sqrt(len(terms)) < 0.02 * area


def test_a_flow_on_moments_learns_by_gradient_in_its_own_parameters_alone() -> None:
    sampler = FLOW_ON_MOMENTS.sampler
    parts = Parts(sampler, NoCritic(), FLOW_ON_MOMENTS, ratio_losses.logistic)
    start = {"sampler": shaken(sampler, 2), "contrast": shaken(FLOW_ON_MOMENTS, 2)}
    start = tf.nest.map_structure(tf.constant, start)
    with tf.GradientTape() as tape:
        tape.watch(start)
        log_prob = tf.reduce_sum(contrast_density(parts, start, X).log_prob(tf.ones([5, 3, 2])))
    gradients = tape.gradient(log_prob, start)
    assert all(g is None for g in tf.nest.flatten(gradients["sampler"]))
    assert all(g is not None for g in tf.nest.flatten(gradients["contrast"]["flow"]["couplings"]))


def test_the_standardised_q_depends_on_x_through_the_shape_alone() -> None:
    """Encoders that differ in z_0, and in the scale of all a_i alike, give the same standardised draws."""
    sampler = FLOW_ON_MOMENTS.sampler
    first = shaken(sampler, 2)
    encoder = list(first["encoder"])
    last = {"kernel": encoder[-1]["kernel"].copy(), "bias": encoder[-1]["bias"].copy()}
    last["kernel"][:, :2] += 1.0
    last["kernel"][:, 2:] *= 2.0
    last["bias"][2:] *= 2.0
    second = {**first, "encoder": (*encoder[:-1], last), "weights": 2.0 * first["weights"]}
    both = []
    for parameters in (first, second):
        density = EncoderMoments(sampler)({"sampler": parameters}, X)
        both.append((density.standardise(sampler(parameters, 50, X, SEED).z), density.condition, density.mean))
    np.testing.assert_allclose(both[0][0], both[1][0], atol=1e-4)
    np.testing.assert_allclose(both[0][1], both[1][1], atol=1e-5)
    assert (np.abs(both[0][2] - both[1][2]) > 0.1).any()


def test_an_explicit_density_makes_the_objective_the_elbo() -> None:
    """For q = p the terms are log Z exactly, and the gradient is zero in expectation, not through a critic."""
    encoder = GaussianEncoder(MLP((), output_scale=0.0))
    parts = Parts(encoder, NoCritic(), StandardNormal(), ratio_losses.logistic)
    base = standard_base(2)
    parameters = {
        "sampler": encoder.initial_parameters(base, 4, 0),
        "critic": {},
        "contrast": StandardNormal().initial_parameters(base, 4, 0),
    }
    found = losses(parts, lambda z, x: 3.0 - 0.5 * tf.reduce_sum(z**2, -1), parameters, X, num_samples=50, seed=SEED)
    np.testing.assert_allclose(found.elbo, 3.0 + np.log(2 * np.pi), rtol=1e-5)
    np.testing.assert_allclose(found.elbo_variance, 0.0, atol=1e-8)


@pytest.mark.parametrize("name", CRITICS)
def test_critics_keep_rows_apart(name: str) -> None:
    critic = CRITICS[name]
    parameters = shaken(critic, 2)
    z = RNG.randn(6, 3, 2).astype("float32")
    before = critic(parameters, tf.constant(z), X).numpy()
    other = z.copy()
    other[4, 0] += 1.0
    moved = np.abs(critic(parameters, tf.constant(other), X).numpy() - before) > 1e-5
    assert before.shape == (6, 3) and moved.sum() == moved[4, 0] == (name != "none")
    moved = np.abs(critic(parameters, tf.constant(z), X + OTHER).numpy() - before) > 1e-5
    assert moved.any(0).tolist() == [False, name == "product", False]


def test_product_critic_is_its_formula() -> None:
    critic = CRITICS["product"]
    parameters = shaken(critic, 2)
    z = tf.constant(RNG.randn(6, 3, 2), tf.float32)
    of_x = critic.data_network(parameters["data"], X).numpy()
    of_z = critic.latent_network(parameters["latent"], z).numpy()
    expected = np.einsum("bf,sbf->sb", of_x[:, :3], of_z[..., :3]) + of_x[:, 3] + of_z[..., 3]
    np.testing.assert_allclose(critic(parameters, z, X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("make", [*PRESETS, lambda: avb_flow(ConcatSampler())])
def test_presets_compose(make: Any, size: int) -> None:
    parts = make().parts
    parameters = make().initial_parameters(size, X, [0, 1])
    found = losses(parts, lambda z, x: -tf.reduce_sum(z**2, -1), parameters, X, num_samples=5, seed=SEED)
    assert np.isfinite(found.total) and found.draws.shape == (5, 3, size)


@pytest.mark.parametrize("kind", [ConcatSampler, NoiseBasisSampler])
def test_too_little_noise_is_named(kind: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(noise_size=1).initial_parameters(standard_base(2), 4, 0)
    assert str(caught.value) == (
        f"Expected {kind.__name__}.noise_size of at least 2, the latent size; got 1. "
        "Fix: leave it out, or raise it: with less noise the draws lie on a surface and have no density"
    )


def test_a_flow_has_a_step() -> None:
    with pytest.raises(ConfigurationError, match="num_flows at least 1; got 0"):
        InverseAutoregressiveEncoder(num_flows=0)
