"""Amortised posteriors against closed forms, their conversion to posteriors, and named refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import amortized, amortized_posterior
from neural_vb.amortized import AMORTIZED, AmortizedPosterior
from neural_vb.families import JointFamily
from neural_vb.features import Features
from neural_vb.networks import MLP, MeanPooled

tfd = tfp.distributions
NUM_ROWS = 5
SHORT = replace(AMORTIZED, min_steps=400, max_steps=400, decay_steps=200, batch_size=128, window=100)


def conjugate(num_rows: int = NUM_ROWS) -> Any:
    """mu ~ N(0, 2^2), rows N(mu, 1)."""
    return tfd.JointDistributionNamedAutoBatched(
        {"mu": tfd.Normal(0.0, 2.0), "y": lambda mu: tfd.Sample(tfd.Normal(mu, 1.0), num_rows)}
    )


def exact(y: np.ndarray) -> tuple[np.ndarray, float]:
    precision = 1.0 / 4.0 + NUM_ROWS
    return y.sum(-1) / precision, precision**-0.5


@pytest.fixture(scope="module")
def fitted() -> AmortizedPosterior:
    return nvb.fit_amortized(
        conjugate(),
        observed="y",
        summary=MeanPooled(),
        summary_size=4,
        config=SHORT,
        likelihood_steps=1_500,
        progress=False,
    )


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {"y": (2.0 * rng.standard_normal((40, 1)) + rng.standard_normal((40, NUM_ROWS))).astype(np.float32)}


def test_the_conjugate_normal_is_met_for_many_data_sets(fitted: AmortizedPosterior, data: dict) -> None:
    draws = fitted.sample(data, 2_000, seed=1)["mu"]
    assert draws.shape == (2_000, 40)
    mean, sd = exact(data["y"])
    assert np.abs((draws.mean(0) - mean) / sd).mean() < 0.1
    assert np.abs(draws.std(0) / sd - 1.0).mean() < 0.1


def test_one_data_set_becomes_a_posterior_with_everything_that_follows(fitted: AmortizedPosterior, data: dict) -> None:
    one = {"y": data["y"][3]}
    posterior = fitted.condition(one)
    mean, sd = exact(one["y"])
    draws = posterior.sample(20_000, seed=2)["mu"]
    assert abs(draws.mean() - mean) < 0.25 * sd and 0.8 < draws.std() / sd < 1.2
    covariance = np.eye(NUM_ROWS) + 4.0
    log_z = tfd.MultivariateNormalFullCovariance(np.zeros(NUM_ROWS), covariance).log_prob(one["y"].astype(np.float64))
    assert abs(posterior.elbo.value - float(log_z)) < 0.1
    assert posterior.to_arviz(100)["posterior"]["mu"].shape == (1, 100)
    assert "amortised" in str(posterior)


def test_a_batch_becomes_a_tuple_and_agrees_with_single_data_sets(fitted: AmortizedPosterior, data: dict) -> None:
    pair = fitted.condition({"y": data["y"][:2]})
    assert len(pair) == 2
    alone = fitted.condition({"y": data["y"][1]})
    np.testing.assert_array_equal(pair[1].sample(100, seed=4)["mu"], alone.sample(100, seed=4)["mu"])


@pytest.mark.slow
@pytest.mark.parametrize("from_draws", [True, False], ids=["from its draws", "its own parts"])
def test_a_few_steps_on_one_data_set_refine_it(fitted: AmortizedPosterior, data: dict, from_draws: bool) -> None:
    one = {"y": data["y"][7]}
    posterior = fitted.condition(one)
    start = posterior.sample(1_000) if from_draws else posterior
    config = nvb.TrainingConfig(max_steps=200, min_steps=0, decay_steps=200, window=100)
    refined = nvb.fit(conjugate(), one, start=start, config=config, progress=False)
    mean, sd = exact(one["y"])
    draws = refined.sample(20_000, seed=2)["mu"]
    assert abs(draws.mean() - mean) < 0.06 * sd and abs(draws.std() / sd - 1.0) < 0.06


def test_the_summary_does_not_depend_on_the_order_of_rows(fitted: AmortizedPosterior, data: dict) -> None:
    again = fitted.sample({"y": data["y"][:, ::-1]}, 50, seed=1)["mu"]
    np.testing.assert_allclose(again, fitted.sample(data, 50, seed=1)["mu"], atol=1e-4)


def test_the_same_seed_gives_the_same_draws(fitted: AmortizedPosterior, data: dict) -> None:
    np.testing.assert_array_equal(fitted.sample(data, 10, seed=1)["mu"], fitted.sample(data, 10, seed=1)["mu"])
    assert (fitted.sample(data, 10, seed=1)["mu"] != fitted.sample(data, 10, seed=2)["mu"]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": np.zeros((2, NUM_ROWS))}, "with the keys"),
        ({"y": np.zeros((2, NUM_ROWS + 1))}, r"of shape \[B, 5\]"),
        ({"y": np.full((2, NUM_ROWS), np.nan)}, "NaN or infinity in 2 of 2"),
        ({"y": np.zeros((0, NUM_ROWS))}, "positive number of data sets"),
        ({"y": [np.ma.masked_less(np.arange(-1.0, NUM_ROWS - 1), 0.0)] * 2}, "got 2 masked values"),
        ({"y": np.full((2, NUM_ROWS), 1e300)}, "in single precision too; got NaN or infinity in 2 of 2"),
        ({"y": np.ones((2, NUM_ROWS)) * 1j}, "numbers for 'y'; got an array of complex128"),
        ({"y": [["a"] * NUM_ROWS]}, "numbers for 'y'; got an array of <U1"),
        ({"y": [[1.0, 2.0], [1.0]]}, "numbers for 'y'; got ValueError"),
        ({"y": np.ma.masked_less(np.arange(-1.0, NUM_ROWS - 1)[None], 0.0)}, "without missing values; got 1 masked"),
    ],
)
def test_data_that_do_not_fit_are_named(fitted: AmortizedPosterior, wrong: dict, message: str) -> None:
    with pytest.raises(nvb.DataError, match=message):
        fitted.sample(wrong)


@pytest.mark.parametrize("observed", [[], ["mu", "y"], ["z"], "nothing"])
def test_observed_names_some_but_not_all_parts(observed: Any) -> None:
    with pytest.raises(nvb.DataError, match="some, not all"):
        nvb.fit_amortized(conjugate(), observed=observed, progress=False)


def test_only_names_are_observed_and_only_of_joints() -> None:
    with pytest.raises(nvb.DataError, match="`observed` as names of the joint's parts; got 3"):
        nvb.fit_amortized(conjugate(), observed=3, progress=False)  # type: ignore[arg-type]
    with pytest.raises(nvb.ConfigurationError, match=r"joint as a TFP joint distribution .*; got a function"):
        nvb.fit_amortized(lambda z: z, observed="y", progress=False)
    with pytest.raises(nvb.ConfigurationError, match=r"summary as an object .*; got the class MeanPooled"):
        nvb.fit_amortized(conjugate(), observed="y", summary=MeanPooled, progress=False)  # type: ignore[arg-type]
    with pytest.raises(nvb.ConfigurationError, match="likelihood_steps as a whole number from 1"):
        nvb.fit_amortized(conjugate(), observed="y", likelihood_steps=0, progress=False)


def test_the_seed_is_checked() -> None:
    with pytest.raises(nvb.ConfigurationError, match="seed as a whole number"):
        nvb.fit_amortized(conjugate(), observed="y", seed=-1)


# The family.


def test_the_family_agrees_with_the_target_of_each_data_set(data: dict) -> None:
    family = JointFamily(conjugate(), ("y",))
    z = np.random.default_rng(0).standard_normal((6, 3, 1)).astype(np.float32)
    x = family.flatten({"y": data["y"][:3]})
    assert x.shape == (3, NUM_ROWS) and family.x_size == NUM_ROWS and family.event_size == 1
    found = family.log_prob(tf.constant(z), tf.constant(x)).numpy()
    for b in range(3):
        alone = family.at({"y": data["y"][b]}).log_prob(tf.constant(z[:, b : b + 1])).numpy()[:, 0]
        np.testing.assert_allclose(found[:, b], alone, rtol=1e-5)


def test_rows_and_parts_are_inverse() -> None:
    joint = tfd.JointDistributionNamedAutoBatched(
        {
            "rate": tfd.Gamma(2.0, 1.0),
            "count": lambda rate: tfd.Bernoulli(probs=rate / (1.0 + rate)),
            "y": lambda rate: tfd.Sample(tfd.Normal(rate, 1.0), [2, 3]),
        }
    )
    family = JointFamily(joint, ("y", "count"))
    _, x = family.simulate(4, 0)
    again = family.flatten({name: part.numpy() for name, part in family.unflatten(x).items()})
    np.testing.assert_array_equal(again, x)
    assert family.data_shapes[family.observed[0]] in ((), (2, 3)) and x.shape == (4, 7)


def test_simulations_follow_the_joint() -> None:
    z, x = (part.numpy() for part in JointFamily(conjugate(), ("y",)).simulate(20_000, 3))
    assert z.std() == pytest.approx(2.0, rel=0.03) and np.abs(np.corrcoef(z[:, 0], x.mean(1))[0, 1]) > 0.9
    assert (x - z).std() == pytest.approx(1.0, rel=0.03)


def test_features_are_standardised_and_survive_constant_columns() -> None:
    x = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32) * [1.0, 100.0, 0.0] + [5.0, 0.0, 7.0]
    features = Features.of(x, None, 0)
    found = features(tf.constant(x, tf.float32)).numpy()
    assert features.size == 3 and found.shape == (500, 3)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), [1.0, 1.0, 0.0], atol=1e-4)
    assert np.abs(features(tf.constant([[1e9, 0.0, 0.0]], tf.float32))).max() <= 10.0


def test_mean_pooling_wants_whole_rows() -> None:
    with pytest.raises(nvb.ConfigurationError, match="whole rows of 2"):
        MeanPooled(row_size=2, rows=MLP((4,)), pooled=MLP((4,))).initial_parameters(5, 3, 0)


def test_adversarial_steps_that_lose_a_mode_are_undone(fitted: AmortizedPosterior) -> None:
    z, x = fitted.family.simulate(4_000, 5)
    u = tf.constant(fitted.whitening.to_u(z.numpy()), tf.float32)
    worse = tf.nest.map_structure(tf.identity, fitted.parameters)
    worse["contrast"]["base"]["network"]["mlp"][-1]["bias"] += 1.0  # of weights, means and scales alike
    kept, notes = amortized._better(fitted.parts, fitted.parameters, worse, u, x)
    assert "undone" in notes[0] and "nats" in notes[0]
    for leaf, same in zip(tf.nest.flatten(kept), tf.nest.flatten(fitted.parameters), strict=True):
        np.testing.assert_array_equal(leaf, same)
    kept, notes = amortized._better(fitted.parts, worse, fitted.parameters, u, x)
    assert kept is fitted.parameters and notes == ()


def test_what_is_loaded_is_what_was_saved(fitted: AmortizedPosterior, data: dict, tmp_path: Path) -> None:
    fitted.save(tmp_path / "amortized.nvb")
    again = nvb.load_amortized(tmp_path / "amortized.nvb", conjugate())
    for name, value in fitted.sample(data, 20, seed=3).items():
        np.testing.assert_array_equal(again.sample(data, 20, seed=3)[name], value)
    assert str(again) == str(fitted)
    with pytest.raises(nvb.FileFormatError, match=r"data {'y': \(3,\)}; got one of 1, data"):
        nvb.load_amortized(tmp_path / "amortized.nvb", conjugate(3))


def test_a_conditioned_posterior_is_loaded_like_any_other(
    fitted: AmortizedPosterior, data: dict, tmp_path: Path
) -> None:
    one = {"y": data["y"][0]}
    posterior = fitted.condition(one)
    posterior.save(tmp_path / "one.nvb")
    again = nvb.load(tmp_path / "one.nvb", conjugate(), one)
    for name, value in posterior.sample(20, seed=3).items():
        np.testing.assert_array_equal(again.sample(20, seed=3)[name], value)
    assert again.elbo == posterior.elbo


def test_transitions_take_what_the_sampler_got_wrong(fitted: AmortizedPosterior, data: dict) -> None:
    """On every one of forty data sets within Monte Carlo error, where draws of the sampler alone are not."""
    mean, sd = exact(data["y"])

    def errors(num_transitions: int) -> np.ndarray:
        z = (fitted.sample(data, 8_000, seed=1, num_transitions=num_transitions)["mu"] - mean) / sd
        return np.abs([z.mean(0), ((z**2).mean(0) - 1.0) / np.sqrt(2.0)]).max(1) * np.sqrt(8_000)

    assert errors(0).min() > 5.0
    assert errors(50).max() < 4.5  # 80 numbers: 5e-4


def two_modes() -> Any:
    """z ~ N(0, 1), y | z ~ N(z^2, .3^2): two narrow modes, and nothing between them."""
    return tfd.JointDistributionNamedAutoBatched({"z": tfd.Normal(0.0, 1.0), "y": lambda z: tfd.Normal(z**2, 0.3)})


@pytest.mark.slow
def test_draws_between_modes_are_left_behind() -> None:
    """A short fit bridges the modes. No chain would leave the bridge's steep sides soon; the weights drop it."""
    config = replace(SHORT, max_steps=100, min_steps=100, decay_steps=100)
    fitted = nvb.fit_amortized(two_modes(), observed="y", config=config, likelihood_steps=500, progress=False)
    y = np.array([1.0, 3.0], np.float32)
    grid = np.linspace(-4.0, 4.0, 8_001)
    log_p = -0.5 * grid[:, None] ** 2 - 0.5 * ((y - grid[:, None] ** 2) / 0.3) ** 2
    below = np.cumsum(np.exp(log_p), 0) / np.exp(log_p).sum(0)

    def distance(num_transitions: int) -> np.ndarray:
        draws = np.sort(fitted.sample({"y": y}, 2_000, seed=2, num_transitions=num_transitions)["z"], 0)
        levels = (np.arange(2_000) + 0.5)[:, None] / 2_000
        return np.array([np.abs(np.interp(draws[:, i], grid, below[:, i]) - levels[:, 0]).max() for i in (0, 1)])

    assert distance(0).max() > 0.06
    assert distance(30).max() < 1.95 / np.sqrt(2_000) + 0.02  # Kolmogorov's statistic at .999, and resampled weights


def test_few_draws_are_corrected_too(fitted: AmortizedPosterior) -> None:
    """One draw for each of many data sets; NumPy's whole numbers count as such."""
    y = np.random.default_rng(0).normal(1.0, 1.0, (300, NUM_ROWS)).astype(np.float32)
    mean, sd = exact(y)
    z = (fitted.sample({"y": y}, np.int64(1), np.int64(3), num_transitions=np.int64(20))["mu"][0] - mean) / sd
    assert abs(z.mean()) < 4.0 / np.sqrt(300) and abs(z.std() - 1.0) < 4.0 / np.sqrt(600)


def test_slices_of_data_sets_do_not_show(
    fitted: AmortizedPosterior, data: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amortized_posterior, "CHAINS_AT_ONCE", 15 * (500 + amortized_posterior.NUM_TUNING))
    mean, sd = exact(data["y"])
    draws = fitted.sample(data, 500, seed=4, num_transitions=10)["mu"]  # slices of 15, 15 and 10 of 40
    z = (draws - mean) / sd
    assert draws.shape == (500, 40) and np.abs(z.mean(0)).max() < 4.5 / np.sqrt(500)
    # Each slice with noise of its own; single precision has equal numbers among thousands now and then.
    assert len(np.unique(z[:, ::13])) > 0.99 * z[:, ::13].size


@pytest.mark.parametrize("wrong", [{"num_transitions": -1}, {"num_draws": 0}, {"seed": 0.5}])
def test_options_of_sample_are_checked(fitted: AmortizedPosterior, data: dict, wrong: dict) -> None:
    with pytest.raises(nvb.ConfigurationError, match=f"Expected {next(iter(wrong))} as a whole number"):
        fitted.sample(data, **wrong)
