"""Targets: every kind of TFP joint gives the density that the formula gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import tensorflow as tf
import tensorflow_probability as tfp
from hierarchical import SIGMA, Y, hierarchical

from neural_vb.errors import ConfigurationError, DataError, DtypeError, LatentError, TargetShapeError
from neural_vb.targets import JointTarget

tfb = tfp.bijectors
tfd = tfp.distributions
Root = tfd.JointDistributionCoroutine.Root
RNG = np.random.RandomState

KINDS = [(kind, auto) for kind in ("Coroutine", "Named", "Sequential") for auto in (False, True)]


def latents(n: int) -> dict[str, np.ndarray]:
    tau = np.exp(RNG(1).randn(n))
    bound = tau * (-1.0 + 3.0 * RNG(2).rand(n))
    values = {"mu": RNG(0).randn(n), "tau": tau, "bound": bound, "eta": RNG(3).randn(n, 3)}
    return {name: value.astype("float32") for name, value in values.items()}


def location(draws: dict) -> np.ndarray:
    return (draws["mu"] + draws["bound"])[:, None] + draws["tau"][:, None] * draws["eta"]


def log_joint(draws: dict) -> np.ndarray:
    """The formula of `hierarchical`, with the Jacobians of tau = exp(u), bound = tau (3 sigmoid(v) - 1)."""
    mu, tau, bound, eta = draws["mu"], draws["tau"], draws["bound"], draws["eta"]
    fraction = (bound + tau) / (3.0 * tau)
    prior = st.norm(0, 5).logpdf(mu) + st.halfcauchy(0, 5).logpdf(tau) - np.log(3 * tau) + st.norm.logpdf(eta).sum(-1)
    likelihood = st.norm(location(draws), SIGMA).logpdf(Y).sum(-1)
    jacobians = np.log(tau) + np.log(3 * tau) + np.log(fraction) + np.log1p(-fraction)
    return prior + likelihood + jacobians


@pytest.fixture(scope="module", params=KINDS, ids=[f"{kind}{'AutoBatched' * auto}" for kind, auto in KINDS])
def target(request: pytest.FixtureRequest) -> JointTarget:
    kind, auto = request.param
    return JointTarget(hierarchical(kind, auto=auto), {"y": Y})


def test_every_kind_of_joint_is_the_same_density(target: JointTarget) -> None:
    assert set(target.latent_names) == {"mu", "tau", "bound", "eta"}
    assert target.observed_names == ("y",)
    assert target.event_size == 6
    assert target.event_shape["eta"] == [3]
    np.testing.assert_array_equal(target.observed_data["y"], Y.astype("float32"))
    draws = latents(14)
    z = target.unconstrain(draws)
    back = target.constrain(tf.identity(z))
    for name, value in draws.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-3, atol=1e-4)
    log_prob = tf.function(target.log_prob, autograph=False)(tf.reshape(z, [7, 2, 6]))
    assert log_prob.shape == (7, 2)
    np.testing.assert_allclose(np.ravel(log_prob), log_joint(draws), rtol=1e-3, atol=1e-3)


def test_pointwise_likelihood_and_replicated_data(target: JointTarget) -> None:
    draws = latents(5)
    pointwise = target.log_likelihood(draws)["y"]
    np.testing.assert_allclose(pointwise, st.norm(location(draws), SIGMA).logpdf(Y), rtol=1e-4, atol=1e-4)

    repeated = {name: np.repeat(value, 4000, axis=0) for name, value in draws.items()}
    y = target.posterior_predictive(repeated, seed=3)["y"].numpy().reshape(5, 4000, 3)
    error = (y.mean(1) - location(draws)) / (SIGMA / np.sqrt(4000))
    assert np.abs(error).max() < 4.5  # of 15 standard normal numbers
    np.testing.assert_allclose(y.std(1), np.tile(SIGMA, (5, 1)), rtol=0.06)
    again = target.posterior_predictive(draws, seed=3)["y"]
    np.testing.assert_array_equal(again, target.posterior_predictive(draws, seed=3)["y"])
    assert np.any(again != target.posterior_predictive(draws, seed=4)["y"])


def test_prior_draws_and_starting_points(target: JointTarget) -> None:
    parts, observables = target.prior_sample(2000, seed=0)
    assert parts["eta"].shape == (2000, 3)
    assert observables["y"].shape == (2000, 3)
    noise = (observables["y"] - location({k: v.numpy() for k, v in parts.items()})) / SIGMA
    np.testing.assert_allclose(np.cov(noise.numpy().T), np.eye(3), atol=4.5 * np.sqrt(2 / 2000))
    assert np.all(np.abs(parts["bound"] - parts["tau"] / 2) <= 1.5001 * parts["tau"])
    assert abs(np.mean(parts["mu"])) < 4.5 * 5 / np.sqrt(2000)
    assert np.median(parts["tau"]) == pytest.approx(5.0, rel=0.15)
    start = target.starting_points(2000, seed=0)
    np.testing.assert_array_equal(start, target.unconstrain(parts))  # the same seed, the same draws
    assert np.isfinite(target.log_prob(start[:, None])).all()


@pytest.mark.parametrize("auto", [False, True])
def test_log_prob_of_a_joint_with_an_unknown_number_of_draws(auto: bool) -> None:
    target = JointTarget(hierarchical("Sequential", auto=auto), {"y": Y})
    traced = tf.function(target.log_prob, input_signature=[tf.TensorSpec([None, 1, 6])], autograph=False)
    z = RNG(0).randn(6, 1, 6).astype("float32")
    np.testing.assert_allclose(traced(z), target.log_prob(z), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(traced(z[:2]), target.log_prob(z)[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("auto", [False, True])
def test_log_prob_of_a_joint_under_xla(auto: bool) -> None:
    target = JointTarget(hierarchical("Coroutine", auto=auto), {"y": Y})
    z = RNG(0).randn(6, 1, 6).astype("float32")
    compiled = tf.function(target.log_prob, jit_compile=True, autograph=False)(z)
    np.testing.assert_allclose(compiled, target.log_prob(z), rtol=1e-4, atol=1e-4)


def test_new_inputs_through_a_changed_joint() -> None:
    def joint(x: list[float]) -> tfd.JointDistribution:
        return tfd.JointDistributionNamedAutoBatched(
            {"slope": tfd.Normal(0.0, 1.0), "y": lambda slope: tfd.Normal(slope * tf.constant(x), 1e-3)}
        )

    target = JointTarget(joint([1.0, 2.0]), {"y": [1.0, 2.0]})
    predictions = target.posterior_predictive({"slope": [1.0, -1.0]}, seed=0, joint=joint([10.0, 20.0, 30.0]))
    np.testing.assert_allclose(predictions["y"], [[10.0, 20.0, 30.0], [-10.0, -20.0, -30.0]], atol=0.01)
    other = tfd.JointDistributionNamed({"slop": tfd.Normal(0.0, 1.0)})
    with pytest.raises(LatentError, match=r"latent part 'slope'; got one with the parts \['slop'\]\..*did you mean"):
        target.posterior_predictive({"slope": [1.0]}, seed=0, joint=other)
    wide = tfd.JointDistributionNamedAutoBatched({"slope": tfd.Normal(tf.zeros(2), 1.0)})
    with pytest.raises(LatentError, match=r"'slope' of shape \[\], as it was fitted; got shape \[2\]"):
        target.posterior_predictive({"slope": [1.0]}, seed=0, joint=wide)
    with pytest.raises(ConfigurationError, match=r"Expected joint as a TFP joint distribution .*; got a function"):
        target.posterior_predictive({"slope": [1.0]}, seed=0, joint=lambda: other)


def test_data_that_no_latent_part_feeds_are_replicated_for_every_draw() -> None:
    joint = tfd.JointDistributionNamed({"mu": tfd.Normal(0.0, 1.0), "noise": tfd.Sample(tfd.Normal(0.0, 1.0), 2)})
    target = JointTarget(joint, {"noise": [0.0, 1.0]})
    noise = target.posterior_predictive({"mu": np.zeros(6, "float32")}, seed=0)["noise"]
    assert noise.shape == (6, 2)
    assert len(np.unique(noise)) == 12
    assert target.log_likelihood({"mu": np.zeros(6, "float32")})["noise"].shape == (6, 2)


def test_pointwise_likelihood_of_a_multivariate_row_is_one_number() -> None:
    joint = tfd.JointDistributionNamed(
        {
            "mu": tfd.Normal(0.0, 1.0),
            "y": lambda mu: tfd.Sample(tfd.MultivariateNormalDiag(tf.stack([mu, -mu], -1), [1.0, 1.0]), 4),
        }
    )
    y = RNG(0).randn(4, 2)
    mu = np.array([0.5, -2.0, 1.0], "float32")
    loc = np.stack([mu, -mu], -1)[:, None]
    expected = st.norm(loc, 1.0).logpdf(y).sum(-1)
    np.testing.assert_allclose(JointTarget(joint, {"y": y}).log_likelihood({"mu": mu})["y"], expected, rtol=1e-4)


def test_supports_of_latent_parts() -> None:
    """Simplex, correlation factor, positive mixture: prior density plus TFP's log-det, of area for simplices."""
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.3, 0.7]), tfd.Gamma([2.0, 5.0], [1.0, 2.0]))
    parts = {"w": tfd.Dirichlet([1.0, 2.0, 3.0]), "L": tfd.CholeskyLKJ(3, 2.0), "g": mixture}
    for joint in (tfd.JointDistributionNamed(parts), tfd.JointDistributionNamedAutoBatched(parts)):
        target = JointTarget(joint)
        assert target.event_size == 2 + 3 + 1
        z = RNG(0).randn(5, 6).astype("float32")
        draws = target.constrain(z)
        np.testing.assert_allclose(np.sum(draws["w"], -1), 1.0, rtol=1e-5)
        assert np.all(draws["g"].numpy() > 0)
        maps = {"w": tfb.SoftmaxCentered(), "L": tfb.CorrelationCholesky(), "g": tfb.Softplus()}
        expected = sum(parts[name].log_prob(draws[name]) for name in parts)
        for name, rank in (("w", 1), ("L", 2), ("g", 0)):
            expected -= maps[name].inverse_log_det_jacobian(tf.identity(draws[name]), rank)
        expected -= 0.5 * np.log(3.0)
        np.testing.assert_allclose(target.log_prob(z[:, None])[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_float64_joint_and_mixed_precision() -> None:
    zero, one = tf.constant(0.0, tf.float64), tf.constant(1.0, tf.float64)
    joint = tfd.JointDistributionNamed({"a": tfd.Normal(zero, one), "b": tfd.Normal(zero, one)})
    target = JointTarget(joint, {"b": 0.5})
    assert target.dtype == tf.float64
    assert target.log_prob(np.zeros([3, 1, 1])).dtype == tf.float64
    assert target.with_dtype(tf.float64) is target
    with pytest.raises(DtypeError, match="Expected float64, the precision the joint distribution was built in"):
        target.with_dtype(tf.float32)
    mixed = tfd.JointDistributionNamed({"a": tfd.Normal(zero, one), "b": tfd.Normal(0.0, 1.0)})
    with pytest.raises(DtypeError, match=r"one precision.*'float64'"):
        JointTarget(mixed, {"b": 0.5})


def test_counts_are_cast_to_the_distribution() -> None:
    joint = tfd.JointDistributionNamed(
        {"rate": tfd.Gamma(2.0, 1.0), "n": lambda rate: tfd.Poisson(rate), "b": tfd.Bernoulli(0.5)}
    )
    target = JointTarget(joint, {"n": 3, "b": 1.0})
    assert target.observed_data["n"].dtype == np.float32
    assert target.observed_data["b"].dtype == np.int32
    with pytest.raises(DataError, match=r"'b' in int32.*Fix: pass whole numbers"):
        JointTarget(joint, {"n": 3, "b": 0.5})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"yy": Y}, r"got data for 'yy'\. Fix: use the joint's names as keys: did you mean 'y'\?"),
        ({"y": Y[:2]}, r"Expected 'y' of shape \[3\], its event shape in the joint; got shape \[2\]"),
        ({"y": [1.0, np.nan, 2.0]}, "got 1 NaN of 3 values"),
        ({"y": ["a", "b", "c"]}, "Expected numbers for 'y'"),
        ({}, "got an empty dict: nothing is observed"),
        (Y, "got an array"),
    ],
)
def test_data_errors(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        JointTarget(hierarchical("Named", auto=True), data)


def test_latent_errors() -> None:
    everything = {"y": Y, "mu": 0.0, "tau": 1.0, "bound": 0.0, "eta": np.zeros(3)}
    with pytest.raises(LatentError, match="at least one part without data"):
        JointTarget(hierarchical("Named", auto=True), everything)

    for part, kind in ((tfd.Bernoulli(0.5), "Bernoulli"), (tfd.Independent(tfd.Poisson([1.0]), 1), "Independent")):
        joint = tfd.JointDistributionNamed({"k": part, "mu": tfd.Normal(0.0, 1.0)})
        with pytest.raises(LatentError, match=f"latent part 'k'; got an? {kind} .*marginalise 'k' out"):
            JointTarget(joint)

    joint = tfd.JointDistributionNamed({"mu": tfd.Normal(0.0, 1.0), "d": lambda mu: tfd.Deterministic(mu)})
    with pytest.raises(LatentError, match=r"'d' with a density; got a Deterministic.*`derived`"):
        JointTarget(joint)

    for dummy in (
        tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0, name="b")]),
        tfd.JointDistributionCoroutine(lambda: (yield from _unnamed())),
    ):
        with pytest.raises(LatentError, match=r"unnamed parts at positions \[0\], besides \['b'\].*name=\"mu\""):
            JointTarget(dummy)

    inner = tfd.JointDistributionNamed({"a": tfd.Normal(0.0, 1.0)})
    with pytest.raises(LatentError, match="a joint with a joint inside"):
        JointTarget(tfd.JointDistributionNamed({"inner": inner, "b": tfd.Normal(0.0, 1.0)}))


def _unnamed():
    yield Root(tfd.Normal(0.0, 1.0))
    yield Root(tfd.Normal(0.0, 1.0, name="b"))


def test_batch_dimensions_that_would_mix_with_the_draws() -> None:
    plain = tfd.JointDistributionNamed({"theta": tfd.Normal(tf.zeros(3), 1.0)})
    with pytest.raises(TargetShapeError, match=r"batch shapes \{'theta': \[3\]\}.*AutoBatched.*tfd.Independent"):
        JointTarget(plain)
    batched = tfd.JointDistributionNamedAutoBatched({"theta": tfd.Normal(tf.zeros(3), 1.0)}, batch_ndims=1)
    with pytest.raises(TargetShapeError, match=r"batch shapes \[3\].*batch_ndims=0"):
        JointTarget(batched)
    hidden = tfd.JointDistributionNamed(
        {"mu": tfd.Normal(0.0, 1.0), "y": lambda mu: tfd.Independent(tfd.Normal(mu + tf.zeros(3), 1.0), 1)}
    )
    with pytest.raises(TargetShapeError, match=r"evaluates many draws at once; got .*shape.*AutoBatched"):
        JointTarget(hidden, {"y": Y}).log_prob(np.zeros([7, 1, 1], "float32"))
