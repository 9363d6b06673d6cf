"""The objective: gradients against three separate losses, and the propositions of the paper on closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import mixtures
from neural_vb._types import Base, Contrast, Parameters, Tensor
from neural_vb.avb import GRADIENT_SIGNS, Losses, Parts, losses
from neural_vb.contrasts import Flow, MomentMatched
from neural_vb.critics import MLPCritic
from neural_vb.networks import MLP
from neural_vb.ratio_losses import RATIO_LOSSES, logistic
from neural_vb.samplers import ResidualSampler

S = 32
SEED = tf.constant([3, 4])
BASE = Base(
    np.log([0.3, 0.7]),
    np.array([[-1.5, 0.0], [1.0, 1.0]]),
    np.array([[[0.7, 0.0], [0.3, 0.6]], [[0.8, 0.0], [-0.5, 0.7]]]),
)
FLOW = Flow(num_couplings=2, network=MLP((8,), output_scale=0.3))
X = tf.constant([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]])
LOG_Z = 2.5


def log_p(z: Tensor, x: Tensor | None) -> Tensor:
    """A banana that x shifts."""
    centre = 0.0 if x is None else x[:, 0]
    return -0.5 * (z[..., 0] - centre) ** 2 - 2.0 * (z[..., 1] - 0.5 * z[..., 0] ** 2) ** 2


def half_finite(z: Tensor, x: Tensor | None) -> Tensor:
    return tf.where(z[..., 0] < 0.0, log_p(z, x), -np.inf)


def parts_of(contrast: Contrast = FLOW, ratio_loss: Callable = logistic) -> Parts:
    network = MLP((8,), output_scale=0.5)
    return Parts(ResidualSampler(network, extra_noise=1), MLPCritic(network), contrast, ratio_loss)


def parameters_of(parts: Parts, x: Tensor | None, base: Base = BASE) -> Parameters:
    x_size = 0 if x is None else x.shape[1]
    return tf.nest.map_structure(
        tf.constant,
        {
            "sampler": parts.sampler.initial_parameters(base, x_size, 0),
            "critic": parts.critic.initial_parameters(base, x_size, 1),
            "contrast": parts.contrast.initial_parameters(base, x_size, 2),
        },
    )


def signed_gradients(parts: Parts, log_prob: Callable, parameters: Parameters, x: Tensor | None) -> dict[str, list]:
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        total = losses(parts, log_prob, parameters, x, num_samples=S, seed=SEED).total
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(total, parameters, unconnected_gradients=zero)
    return {name: [GRADIENT_SIGNS[name] * g for g in tf.nest.flatten(found)] for name, found in gradients.items()}


def naive_gradients(parts: Parts, log_prob: Callable, parameters: Parameters, x: Tensor | None) -> dict[str, list]:
    """Each loss on a tape of its own that watches its own parameters only; means over finite draws by index."""
    contrast_draws = parts.contrast(parameters["contrast"], x).sample(S, mixtures.fold_in(SEED, 2))

    def draw(sampler_parameters: Parameters) -> tuple[Tensor, Tensor]:
        return parts.sampler(sampler_parameters, S, x, mixtures.fold_in(SEED, 1))

    z = draw(parameters["sampler"]).z
    finite = tf.where(tf.math.is_finite(log_prob(z, x)))

    def sampler_loss(own: Parameters) -> Tensor:
        proposal = draw(own)
        log_q = parts.contrast(parameters["contrast"], x).log_prob(proposal.z)
        log_q += parts.critic(parameters["critic"], proposal.z, x)
        gap = tf.gather_nd(log_q - log_prob(proposal.z, x), finite)
        advantage = tf.stop_gradient(gap - tf.reduce_mean(gap))
        return tf.reduce_mean(gap) + tf.reduce_mean(advantage * tf.gather_nd(proposal.log_choice, finite))

    def critic_loss(own: Parameters) -> Tensor:
        return parts.ratio_loss(parts.critic(own, z, x), parts.critic(own, contrast_draws, x))

    def contrast_loss(own: Parameters) -> Tensor:
        return -tf.reduce_mean(tf.gather_nd(parts.contrast(own, x).log_prob(z), finite))

    found = {}
    for name, loss in (("sampler", sampler_loss), ("critic", critic_loss), ("contrast", contrast_loss)):
        with tf.GradientTape() as tape:
            tape.watch(parameters[name])
            value = loss(parameters[name])
        found[name] = tape.gradient(
            value, tf.nest.flatten(parameters[name]), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
    return found


@pytest.mark.parametrize("log_prob", [log_p, half_finite], ids=["finite", "half finite"])
@pytest.mark.parametrize("x", [None, X], ids=["one data set", "three"])
@pytest.mark.parametrize(
    "contrast", [FLOW, MomentMatched(), MomentMatched(diagonal=True)], ids=["flow", "full", "diagonal"]
)
def test_one_backward_pass_gives_the_gradients_of_three_losses(
    contrast: Contrast, x: Tensor | None, log_prob: Callable
) -> None:
    parts = parts_of(contrast)
    parameters = parameters_of(parts, x)
    found = signed_gradients(parts, log_prob, parameters, x)
    expected = naive_gradients(parts, log_prob, parameters, x)
    assert found.keys() == expected.keys()
    for name in found:
        assert len(found[name]) == len(expected[name]) > 0
        for ours, theirs in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5, err_msg=name)
    moved = {name: max(np.abs(g).max() for g in expected[name]) > 1e-3 for name in expected}
    assert moved == {"sampler": True, "critic": True, "contrast": contrast is FLOW}  # moments follow without gradient


@pytest.mark.parametrize("name", RATIO_LOSSES)
def test_every_ratio_loss_reaches_the_critic_alone(name: str) -> None:
    parts, other = parts_of(ratio_loss=RATIO_LOSSES[name]), parts_of(ratio_loss=lambda q, r: tf.zeros([]))
    parameters = parameters_of(parts, None)
    found, without = (signed_gradients(p, log_p, parameters, None) for p in (parts, other))
    for group in ("sampler", "contrast"):
        for ours, theirs in zip(found[group], without[group], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert max(np.abs(g).max() for g in found["critic"]) > 1e-3
    assert max(np.abs(g).max() for g in without["critic"]) == 0.0


def test_the_elbo_with_conditions_is_the_mean_over_draws_and_conditions() -> None:
    parts = parts_of(MomentMatched())
    parameters = parameters_of(parts, X)
    found = losses(parts, log_p, parameters, X, num_samples=S, seed=SEED)
    assert found.draws.shape == (S, 3, 2)
    z = found.draws
    terms = log_p(z, X) - parts.contrast(parameters["contrast"], X).log_prob(z)
    terms = (terms - parts.critic(parameters["critic"], z, X)).numpy()
    assert float(found.elbo) == pytest.approx(terms.mean(), rel=1e-4)
    assert float(found.elbo_variance) == pytest.approx(terms.var(), rel=1e-3)


@dataclass(frozen=True)
class Exact:
    """T = log q - log r for a q that is known."""

    log_q: Callable[[Tensor], Tensor]
    log_r: Callable[[Tensor], Tensor]

    def initial_parameters(self, base: Base, x_size: int, seed: Any) -> Parameters:
        return {}

    def __call__(self, parameters: Parameters, z: Tensor, x: Tensor | None) -> Tensor:
        return self.log_q(z) - self.log_r(z)


def exact_parts(base: Base, contrast_base: Base) -> tuple[Parts, Parameters, Callable[[Tensor], Tensor]]:
    """A sampler that is its base mixture, a wide Gaussian contrast, and the optimal critic between them."""
    sampler, contrast = ResidualSampler(MLP((), output_scale=0.0)), MomentMatched()
    moments = contrast.initial_parameters(contrast_base, 0, 0)
    base_parameters = mixtures.initial_parameters(base)

    def log_q(z: Tensor) -> Tensor:
        return mixtures.log_prob(base_parameters, z)

    critic = Exact(log_q, contrast(moments, None).log_prob)
    parts = Parts(sampler, critic, contrast, logistic)
    parameters = {"sampler": sampler.initial_parameters(base, 0, 0), "critic": {}, "contrast": moments}
    return parts, parameters, log_q


WIDE = Base(np.zeros(1), np.array([[0.5, -0.5]]), 2.0 * np.eye(2)[None])


def test_with_the_optimal_critic_and_q_equal_p_every_term_is_log_z() -> None:
    """Proposition 1: r drops out. The estimate has no variance, and no gradient reaches the sampler's weights."""
    parts, parameters, log_q = exact_parts(BASE, WIDE)
    logits = tf.constant(parameters["sampler"]["base"]["logits"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        parameters["sampler"]["base"]["logits"] = logits
        found = losses(parts, lambda z, x: log_q(z) + LOG_Z, parameters, None, num_samples=500, seed=SEED)
    assert float(found.elbo) == pytest.approx(LOG_Z, abs=1e-4)
    assert float(found.elbo_variance) < 1e-8
    np.testing.assert_allclose(tape.gradient(found.total, logits), 0.0, atol=1e-5)


def test_with_the_optimal_critic_the_elbo_is_exact_whatever_the_contrast() -> None:
    """q = N(0, I), p = e^2.5 N(m, I): the ELBO is log Z - |m|^2 / 2 and its terms have variance |m|^2."""
    mean = np.array([0.6, -0.3])
    shift = mean @ mean
    for contrast_base in (WIDE, mixtures.standard_base(2)):
        parts, parameters, log_q = exact_parts(mixtures.standard_base(2), contrast_base)

        def log_prob(z: Tensor, x: Tensor | None, log_q: Callable = log_q) -> Tensor:
            return LOG_Z + log_q(z - tf.constant(mean, tf.float32))

        found = losses(parts, log_prob, parameters, None, num_samples=20_000, seed=SEED)
        assert float(found.elbo) == pytest.approx(LOG_Z - 0.5 * shift, abs=4.0 * np.sqrt(shift / 20_000))
        assert float(found.elbo_variance) == pytest.approx(shift, rel=4.0 * np.sqrt(2.0 / 20_000))


def test_the_score_function_gives_the_exact_gradient_of_the_weights() -> None:
    """q = w_1 N(-2, 1) + w_2 N(2, 1) against p = .8 N(-2, 1) + .2 N(2, 1), gradient by quadrature."""
    means = np.array([-2.0, 2.0])
    logits = np.array([0.4, -0.3])
    weights = np.exp(logits) / np.exp(logits).sum()
    base = Base(np.log(weights), means[:, None], np.ones((2, 1, 1)))
    target = mixtures.initial_parameters(Base(np.log([0.8, 0.2]), means[:, None], np.ones((2, 1, 1))))

    grid = np.linspace(-12.0, 12.0, 4_001)
    components = np.exp(-0.5 * (grid[:, None] - means) ** 2) / np.sqrt(2 * np.pi)
    gap = np.log(components @ weights) - np.log(components @ [0.8, 0.2])
    of_component = (gap @ components) * (grid[1] - grid[0])
    exact = weights * (of_component - weights @ of_component)  # d w_k / d logit_j = w_k (1[j = k] - w_j)

    wide = Base(np.zeros(1), np.zeros((1, 1)), 3.0 * np.ones((1, 1, 1)))
    parts, parameters, _ = exact_parts(base, wide)

    @tf.function(autograph=False)
    def gradient(logits: Tensor, seed: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            base_parameters = {**parameters["sampler"]["base"], "logits": logits}
            own = {**parameters, "sampler": {**parameters["sampler"], "base": base_parameters}}
            total = losses(
                parts, lambda z, x: mixtures.log_prob(target, z), own, None, num_samples=2_000, seed=seed
            ).total
        return tape.gradient(total, logits)

    found = np.array([gradient(tf.constant(logits, tf.float32), tf.constant([7, i])) for i in range(20)])
    standard_error = found.std(0, ddof=1) / np.sqrt(20)
    assert (standard_error < 0.02 * np.abs(exact)).all()
    assert (np.abs(found.mean(0) - exact) < 4.5 * standard_error).all()


@pytest.mark.parametrize("nowhere", [-np.inf, np.inf, np.nan])
def test_draws_without_a_finite_density_take_no_part(nowhere: float) -> None:
    parts = parts_of()
    parameters = parameters_of(parts, X)

    def log_prob(z: Tensor, x: Tensor | None) -> Tensor:
        return tf.where(z[..., 0] < 0.0, log_p(z, x), nowhere)

    found, whole = (losses(parts, f, parameters, X, num_samples=S, seed=SEED) for f in (log_prob, log_p))
    np.testing.assert_array_equal(found.draws, whole.draws)
    inside = found.draws.numpy()[..., 0] < 0.0
    assert 0.1 < inside.mean() < 0.9
    assert float(found.finite) == pytest.approx(inside.mean())
    terms = log_p(found.draws, X) - parts.contrast(parameters["contrast"], X).log_prob(found.draws)
    terms = (terms - parts.critic(parameters["critic"], found.draws, X)).numpy()[inside]
    assert float(found.elbo) == pytest.approx(terms.mean(), rel=1e-4)
    assert float(found.elbo_variance) == pytest.approx(terms.var(), rel=1e-3)
    gradients = signed_gradients(parts, log_prob, parameters, X)
    assert all(np.isfinite(g).all() for group in gradients.values() for g in group)


def test_with_no_finite_density_at_all_only_the_critic_moves() -> None:
    parts = parts_of()
    parameters = parameters_of(parts, None)

    def nowhere(z: Tensor, x: Tensor | None) -> Tensor:
        return tf.fill(tf.shape(z)[:-1], np.float32(-np.inf))

    found = losses(parts, nowhere, parameters, None, num_samples=S, seed=SEED)
    assert float(found.finite) == float(found.elbo) == float(found.elbo_variance) == 0.0
    gradients = signed_gradients(parts, nowhere, parameters, None)
    assert {name for name, group in gradients.items() if max(np.abs(g).max() for g in group) > 0} == {"critic"}


def test_accuracy_is_the_share_of_draws_on_the_right_side() -> None:
    parts = parts_of()
    parameters = parameters_of(parts, X)
    found = losses(parts, log_p, parameters, X, num_samples=S, seed=SEED)
    contrast_draws = parts.contrast(parameters["contrast"], X).sample(S, mixtures.fold_in(SEED, 2))
    right = (parts.critic(parameters["critic"], found.draws, X).numpy() > 0).mean()
    right += (parts.critic(parameters["critic"], contrast_draws, X).numpy() <= 0).mean()
    assert float(found.accuracy) == pytest.approx(right / 2)


def test_draws_of_the_sampler_and_of_the_contrast_are_independent() -> None:
    sampler, contrast = ResidualSampler(MLP((), output_scale=0.0)), Flow(num_couplings=0)
    base = mixtures.standard_base(2)
    seen: dict[str, np.ndarray] = {}

    def spy(posterior_logits: Tensor, contrast_logits: Tensor) -> Tensor:
        seen.update(q=posterior_logits.numpy().ravel(), r=contrast_logits.numpy().ravel())
        return tf.zeros([])

    first_coordinate = Exact(lambda z: z[..., 0], lambda z: tf.zeros_like(z[..., 0]))
    parts = Parts(sampler, first_coordinate, contrast, spy)
    parameters = parameters_of(parts, None, base)
    losses(parts, log_p, parameters, None, num_samples=5_000, seed=SEED)
    assert abs(np.corrcoef(seen["q"], seen["r"])[0, 1]) < 4.5 / np.sqrt(5_000)


def test_losses_are_scalars_and_signs_cover_the_groups() -> None:
    parts = parts_of()
    parameters = parameters_of(parts, None)
    found = losses(parts, log_p, parameters, None, num_samples=S, seed=SEED)
    assert all(value.shape == () for name, value in found._asdict().items() if name != "draws")
    assert GRADIENT_SIGNS.keys() == {*parameters, "target"}
    assert Losses._fields == ("total", "elbo", "elbo_variance", "accuracy", "finite", "draws")
