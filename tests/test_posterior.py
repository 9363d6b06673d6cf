"""The posterior: draws, tables, exports, predictions and figures, for unnamed, named and joint targets."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb.errors import ConfigurationError, DataError, LatentError, UnsupportedError
from neural_vb.evaluation import CHUNK

tfd = tfp.distributions


def derive(posterior: nvb.Posterior, derived: Callable | None) -> nvb.Posterior:
    return dataclasses.replace(posterior, derived=derived)


# Draws.


def test_an_unnamed_event_comes_as_an_array(banana_posterior: nvb.Posterior) -> None:
    draws = banana_posterior.sample(70, seed=1)
    assert isinstance(draws, np.ndarray) and draws.shape == (70, 2) and draws.dtype == np.float32
    assert banana_posterior.sample().shape == (1_000, 2)
    z = banana_posterior.sample_unconstrained(70, seed=1)
    assert z.dtype == np.float64
    np.testing.assert_allclose(draws, z, rtol=1e-6)


def test_named_parts_come_by_name_on_their_supports(named_posterior: nvb.Posterior) -> None:
    draws = named_posterior.sample(20_000, seed=1)
    assert {name: value.shape for name, value in draws.items()} == dict.fromkeys(("mu", "tau", "ratio"), (20_000,))
    assert {value.dtype for value in draws.values()} == {np.dtype(np.float32)}
    assert (draws["tau"] > 0).all() and (draws["mu"] < 0).any()
    # mu ~ N(1, .5^2) and tau ~ Gamma(3, 2)
    for name, mean, sd in (("mu", 1.0, 0.5), ("tau", 1.5, math.sqrt(3.0) / 2.0)):
        assert abs(draws[name].mean() - mean) < 0.08 * sd
        assert abs(draws[name].std() / sd - 1.0) < 0.08
    np.testing.assert_allclose(np.exp(named_posterior.sample_unconstrained(9, seed=1)[:, 1]), draws["tau"][:9], 1e-6)


def test_latent_parts_of_a_joint_come_by_name_and_are_right(
    joint_posterior: nvb.Posterior, joint_moments: tuple[np.ndarray, np.ndarray]
) -> None:
    draws = joint_posterior.sample(20_000, seed=1)
    assert list(draws) == ["level", "slope", "height"]
    assert all(value.shape == (20_000,) for value in draws.values())
    mean, covariance = joint_moments
    for name, exact, sd in (
        ("level", mean[0], math.sqrt(covariance[0, 0])),
        ("slope", mean[1], math.sqrt(covariance[1, 1])),
        ("height", math.exp(0.74), math.exp(0.74) * math.sqrt(math.expm1(0.2))),
    ):
        assert abs(draws[name].mean() - exact) < 0.1 * sd
        assert abs(draws[name].std() / sd - 1.0) < 0.1
    assert (draws["height"] > 0).all()


def test_seeds_reproduce_and_fewer_draws_are_a_prefix(named_posterior: nvb.Posterior) -> None:
    few, again, more = (named_posterior.sample(size, seed=4) for size in (10, 10, 15))
    other = named_posterior.sample(10, seed=5)
    for name in few:
        np.testing.assert_array_equal(few[name], again[name])
        np.testing.assert_array_equal(few[name], more[name][:10])
        assert not np.intersect1d(few[name], other[name]).size


@pytest.mark.parametrize("method", ["sample", "sample_unconstrained"])
@pytest.mark.parametrize("value", [0, -3, 2.0, "10", None, True, 2**31])
def test_numbers_of_draws_are_whole_and_positive(banana_posterior: nvb.Posterior, method: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        getattr(banana_posterior, method)(value)
    assert str(error.value) == (
        f"Expected num_draws as a whole number from 1 to 2**31 - 1; got {value!r}. Fix: pass, for example, num_draws=1"
    )


@pytest.mark.parametrize("value", [-1, 0.0, "a", None, False, 2**31])
def test_seeds_are_whole(banana_posterior: nvb.Posterior, value: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        banana_posterior.sample(5, seed=value)
    assert str(error.value).startswith(f"Expected seed as a whole number from 0 to 2**31 - 1; got {value!r}. Fix: pass")


def test_numpy_integers_will_do(banana_posterior: nvb.Posterior) -> None:
    draws = banana_posterior.sample(np.int64(3), seed=np.int32(2))
    np.testing.assert_array_equal(draws, banana_posterior.sample(3, seed=2))


def test_many_draws_are_made_chunk_by_chunk(banana_posterior: nvb.Posterior) -> None:
    sizes: list[int] = []

    def derived(draws: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(draws))
        return {"wide": np.repeat(draws[:, :1], 50, axis=1).sum(1)}  # 50 times as large on the way

    posterior = derive(banana_posterior, derived)
    posterior.sample(10)
    tracemalloc.start()
    draws = posterior.sample(200_000, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert draws["z"].shape == (200_000, 2)
    assert max(sizes) <= CHUNK and sum(sizes[1:]) == 200_000
    kept = sum(value.nbytes for value in draws.values())
    assert peak < 3 * kept + 60 * 4 * CHUNK  # pieces, the whole, and one chunk's scratch


# Derived quantities.


def test_derived_quantities_come_beside_the_parts(named_posterior: nvb.Posterior, banana_posterior: Any) -> None:
    draws = named_posterior.sample(50)
    np.testing.assert_array_equal(draws["ratio"], draws["mu"] / draws["tau"])
    radius = derive(banana_posterior, lambda z: {"radius": tf.norm(z, axis=-1)}).sample(50)
    assert list(radius) == ["z", "radius"]
    np.testing.assert_allclose(radius["radius"], np.linalg.norm(banana_posterior.sample(50), axis=-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("derived", "got"),
    [
        (lambda draws: {"mu": 2.0 * draws["mu"]}, r"'mu' of shape \(7,\)"),
        (lambda draws: {"total": draws["mu"].sum()}, r"'total' of shape \(\)"),
        (lambda draws: {"pair": np.stack([draws["mu"], draws["tau"]])}, r"'pair' of shape \(2, 7\)"),
    ],
    ids=["taken name", "no axis of draws", "draws not first"],
)
def test_bad_derived_quantities_are_named(named_posterior: nvb.Posterior, derived: Callable, got: str) -> None:
    message = f"Expected derived quantities under new names, each with the 7 draws as first axis; got {got}. Fix: rena"
    with pytest.raises(DataError, match=message):
        derive(named_posterior, derived).sample(7)


# Densities.


def test_log_prob_is_the_unconstrained_log_density(named_posterior: nvb.Posterior) -> None:
    draws = named_posterior.sample(100, seed=2)
    mu, tau = draws["mu"].astype(np.float64), draws["tau"].astype(np.float64)
    exact = -0.5 * ((mu - 1.0) / 0.5) ** 2 + 2.0 * np.log(tau) - 2.0 * tau + np.log(tau)  # the last is the Jacobian
    np.testing.assert_allclose(named_posterior.log_prob(draws), exact, rtol=1e-4, atol=1e-4)
    without = {name: draws[name] for name in ("mu", "tau")}
    np.testing.assert_array_equal(named_posterior.log_prob(without), named_posterior.log_prob(draws))


def test_draws_that_are_none_are_named(named_posterior: nvb.Posterior, banana_posterior: nvb.Posterior) -> None:
    wrong: list[tuple[nvb.Posterior, Any, str]] = [
        (banana_posterior, np.zeros(2), "on the first axis of every part; got a single point"),
        (named_posterior, {"mu": 0.0, "tau": 1.0}, "got a single point. Fix: add the axis"),
        (named_posterior, {"mu": np.zeros(3), "tau": np.ones(4)}, "the same draws, on the leading axes"),
        (banana_posterior, [["a", "b"]], "arrays of real numbers"),
        (banana_posterior, [[1.0, 2.0], [1.0]], "arrays of real numbers"),
        (banana_posterior, None, "arrays of real numbers"),
    ]
    for posterior, draws, message in wrong:
        for ask in (posterior.log_prob, posterior.log_prob_estimate):
            with pytest.raises(nvb.EventShapeError, match=message):
                ask(draws)
    assert banana_posterior.log_prob(np.zeros((0, 2))).shape == (0,)


def test_there_is_no_density_off_the_support(named_posterior: nvb.Posterior) -> None:
    draws = {"mu": np.float32([1.0, 1.0, np.nan]), "tau": np.float32([1.5, -1.5, 1.5])}
    for density in (named_posterior.log_prob, named_posterior.log_prob_estimate):
        assert np.isfinite(density(draws)).tolist() == [True, False, False]
        assert (density(draws)[1:] == -np.inf).all()


def test_log_prob_estimate_is_near_the_normalised_log_density(
    named_posterior: nvb.Posterior, joint_posterior: nvb.Posterior, named_log_z: float
) -> None:
    draws = named_posterior.sample(2_000, seed=2)
    gap = named_posterior.log_prob(draws) - named_posterior.log_prob_estimate(draws)
    assert gap.shape == (2_000,) and abs(gap.mean() - named_log_z) < 0.05 and gap.std() < 0.2
    draws = joint_posterior.sample(2_000, seed=2)
    gap = joint_posterior.log_prob(draws) - joint_posterior.log_prob_estimate(draws)
    assert gap.std() < 0.3 and abs(gap.mean() - joint_posterior.elbo.value) < 0.05


def test_densities_of_unnamed_draws_with_derived_quantities(banana_posterior: nvb.Posterior) -> None:
    plain = banana_posterior.sample(20)
    posterior = derive(banana_posterior, lambda z: {"sum": z.sum(-1)})
    np.testing.assert_array_equal(posterior.log_prob(posterior.sample(20)), banana_posterior.log_prob(plain))


def test_a_target_without_an_inverse_says_so(banana_posterior: nvb.Posterior) -> None:
    class OneWay:
        event_size, dtype = 2, tf.float32
        log_prob, constrain = banana_posterior.target.log_prob, staticmethod(lambda z: z)

    posterior = dataclasses.replace(
        banana_posterior, whitened=dataclasses.replace(banana_posterior.whitened, target=OneWay())
    )
    for method in (posterior.log_prob, posterior.log_prob_estimate):
        with pytest.raises(UnsupportedError, match=r"got OneWay without `unconstrain`\. Fix: add a method unconstrain"):
            method(posterior.sample(3))


def test_the_elbo_is_near_log_z_and_computed_once(named_posterior: nvb.Posterior, named_log_z: float) -> None:
    elbo = named_posterior.elbo
    assert abs(elbo.value - named_log_z) < 0.05 and 0.0 < elbo.standard_error < 0.01
    assert named_posterior.elbo is elbo


# Tables.


def test_the_summary_has_moments_and_quantiles_and_no_chain_diagnostics(named_posterior: nvb.Posterior) -> None:
    table = named_posterior.summary(2_000, seed=3, quantiles=(0.1, 0.9))
    draws = named_posterior.sample(2_000, seed=3)
    assert table.names == ("mu", "tau", "ratio") and table.num_draws == 2_000
    row = table["tau"]
    assert set(row) == {"name", "mean", "sd", "10%", "90%"}
    tau = draws["tau"].astype(np.float64)
    assert row["mean"] == pytest.approx(tau.mean()) and row["sd"] == pytest.approx(tau.std(ddof=1))
    assert row["90%"] == pytest.approx(np.quantile(tau, 0.9))
    assert list(named_posterior.summary(100)["mu"])[3:] == ["3%", "25%", "50%", "75%", "97%"]


def test_print_tells_status_elbo_notes_and_the_table(named_posterior: nvb.Posterior) -> None:
    posterior = dataclasses.replace(named_posterior, notes=("something to know.",))
    text = str(posterior)
    lines = text.splitlines()
    assert lines[0] == "Implicit posterior of 2 unconstrained dimensions"
    assert lines[1] == f"Training: {posterior.status.message} (step {posterior.history.step[-1]})"
    assert lines[2] == f"ELBO: {posterior.elbo} nats (estimate, not a bound; ± of draws alone)"
    assert "Note: something to know." in lines
    assert (f"Advice: {posterior.status.advice}" in lines) is bool(posterior.status.advice)
    assert "Accuracy: not assessed; run posterior.check()" in lines
    assert str(posterior.summary()) in text
    assert not [word for word in ("r_hat", "rhat", "R-hat", "ess", "converged", "valid") if f" {word}" in text]
    assert len(repr(posterior)) < 2_000  # no arrays


# Predictions.


def test_predictions_follow_the_fitted_joint(joint_posterior: nvb.Posterior, joint_moments: Any) -> None:
    predicted = joint_posterior.predict(8_000, seed=1)
    assert {name: value.shape for name, value in predicted.items()} == {"y": (8_000, 6), "measured": (8_000,)}
    x = np.linspace(-1.0, 1.0, 6)
    check_line(predicted["y"], x, joint_moments)
    # measured ~ N(log height, .25), log height ~ N(.64, .2)
    assert abs(predicted["measured"].mean() - 0.64) < 0.06
    assert abs(predicted["measured"].var() / 0.45 - 1.0) < 0.12


def test_predictions_for_new_inputs_through_a_changed_joint(
    joint_posterior: nvb.Posterior, make_joint: Callable, joint_moments: Any
) -> None:
    new = np.array([-2.0, 0.0, 3.0], np.float32)
    predicted = joint_posterior.predict(8_000, seed=1, joint=make_joint(new))
    assert predicted["y"].shape == (8_000, 3)
    check_line(predicted["y"], new, joint_moments)
    again = joint_posterior.predict(8_000, seed=1, joint=make_joint(new))
    np.testing.assert_array_equal(predicted["y"], again["y"])


def check_line(y: np.ndarray, x: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> None:
    design = np.stack([np.ones_like(x), x], -1)
    variance = np.einsum("ni,ij,nj->n", design, moments[1], design) + 0.25
    np.testing.assert_allclose((y.mean(0) - design @ moments[0]) / np.sqrt(variance), 0.0, atol=0.08)
    np.testing.assert_allclose(y.var(0) / variance, 1.0, atol=0.12)


def test_a_changed_joint_must_keep_the_latent_parts(joint_posterior: nvb.Posterior) -> None:
    other = tfd.JointDistributionNamedAutoBatched({"level": tfd.Normal(0.0, 1.0), "slope": tfd.Normal(0.0, 1.0)})
    with pytest.raises(LatentError, match="Expected a joint with the latent part 'height'"):
        joint_posterior.predict(5, joint=other)


# ArviZ.


def groups_of(data: Any) -> set[str]:
    return set(data.groups() if callable(data.groups) else {group.strip("/") for group in data.groups} - {""})


def test_exported_groups_hold_the_draws_and_their_densities(named_posterior: nvb.Posterior) -> None:
    data = named_posterior.to_arviz(300, seed=6)
    assert groups_of(data) == {"posterior", "unconstrained_posterior", "sample_stats"}
    draws = named_posterior.sample(300, seed=6)
    for name, value in draws.items():
        np.testing.assert_array_equal(data["posterior"][name].values, value[np.newaxis])
    stats = data["sample_stats"]
    assert stats["lp"].shape == (1, 300)
    np.testing.assert_allclose(stats["lp"].values[0], named_posterior.log_prob(draws), atol=1e-3)
    np.testing.assert_allclose(stats["log_q"].values[0], named_posterior.log_prob_estimate(draws), atol=1e-2)
    np.testing.assert_array_equal(stats["log_weight"].values, stats["lp"].values - stats["log_q"].values)
    z = data["unconstrained_posterior"]["z_unconstrained"].values
    np.testing.assert_array_equal(z[0], named_posterior.sample_unconstrained(300, seed=6))


def test_exported_attributes_say_where_the_draws_come_from(named_posterior: nvb.Posterior) -> None:
    attributes = named_posterior.to_arviz(10)["posterior"].attrs
    assert attributes["inference_library"] == "neural_vb"
    assert attributes["inference_library_version"] == nvb.__version__
    assert "draws are independent" in attributes["sampling_method"]
    assert attributes["elbo"] == named_posterior.elbo.value
    assert attributes["elbo_standard_error"] == named_posterior.elbo.standard_error
    assert attributes["training_status"] == named_posterior.status.reason
    assert attributes["training_steps"] == named_posterior.history.step[-1]
    assert attributes["seed"] == named_posterior.seed
    assert {"tensorflow", "tensorflow_probability", "numpy", "python", "device", "jit_compile"} <= set(attributes)


def test_a_joint_exports_more_on_request(joint_posterior: nvb.Posterior, joint_data: dict[str, np.ndarray]) -> None:
    plain = joint_posterior.to_arviz(50)
    assert groups_of(plain) == {"posterior", "unconstrained_posterior", "sample_stats", "observed_data"}
    data = joint_posterior.to_arviz(
        50,
        seed=2,
        coords={"row": list("abcdef")},
        dims={"y": ["row"]},
        log_likelihood=True,
        posterior_predictive=True,
        prior=True,
        constant_data={"x": np.arange(6.0)},
    )
    requested = {"log_likelihood", "posterior_predictive", "prior", "prior_predictive", "constant_data"}
    assert groups_of(data) == groups_of(plain) | requested
    np.testing.assert_array_equal(data["observed_data"]["y"].values, joint_data["y"])
    np.testing.assert_array_equal(data["constant_data"]["x"].values, np.arange(6.0))
    draws = joint_posterior.sample(50, seed=2)
    line = draws["level"][:, None] + draws["slope"][:, None] * np.linspace(-1.0, 1.0, 6)
    exact = -0.5 * ((joint_data["y"] - line) / 0.5) ** 2 - math.log(0.5 * math.sqrt(2.0 * math.pi))
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "row")
    np.testing.assert_allclose(data["log_likelihood"]["y"].values[0], exact, rtol=1e-3, atol=1e-3)
    assert data["posterior_predictive"]["y"].shape == (1, 50, 6)
    assert list(data["posterior_predictive"]["y"]["row"].values) == list("abcdef")
    assert set(data["prior"].data_vars) == {"level", "slope", "height"}
    assert set(data["prior_predictive"].data_vars) == {"y", "measured"}


@pytest.mark.parametrize("option", ["log_likelihood", "posterior_predictive", "prior"])
def test_a_log_density_cannot_say_how_data_arise(banana_posterior: nvb.Posterior, option: str) -> None:
    with pytest.raises(UnsupportedError, match=r"got a LogProbTarget, .*Fix: fit a tfd\.JointDistribution with data="):
        banana_posterior.to_arviz(5, **{option: True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "yes"}, r"prior as True or False; got 'yes'"),
        ({"log_likelihood": 1}, r"log_likelihood as True or False; got 1"),
        ({"constant_data": [1.0]}, r"constant_data as a dict, such as .*; got a list"),
    ],
)
def test_groups_are_asked_for_by_name(joint_posterior: nvb.Posterior, options: dict, message: str) -> None:
    refined = joint_posterior.refine(2, num_draws=64)
    for source in (joint_posterior, refined):
        with pytest.raises(ConfigurationError, match=message):
            source.to_arviz(**options)


def test_a_log_density_cannot_predict(banana_posterior: nvb.Posterior) -> None:
    with pytest.raises(UnsupportedError, match="Expected a TFP joint distribution for posterior predictive draws"):
        banana_posterior.predict(5)


def test_values_survive_netcdf(joint_posterior: nvb.Posterior, tmp_path: Path) -> None:
    import xarray

    data = joint_posterior.to_arviz(40, log_likelihood=True)
    path = str(tmp_path / "posterior.nc")
    data.to_netcdf(path)
    for group in groups_of(data):
        with xarray.open_dataset(path, group=group, engine="h5netcdf") as read:
            written = data[group]
            for name in written.data_vars:
                np.testing.assert_array_equal(read[name].values, written[name].values)
                assert read[name].dtype == written[name].dtype
            assert read.attrs["inference_library"] == "neural_vb"


# Figures.


@pytest.mark.parametrize("method", ["plot_training", "plot_pair", "plot_marginals"])
@pytest.mark.parametrize("kind", ["banana_posterior", "named_posterior"])
def test_plots_are_figures(method: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    import matplotlib.figure

    posterior = request.getfixturevalue(kind)
    figure = getattr(posterior, method)(**({} if method == "plot_training" else {"num_draws": 300, "seed": 1}))
    assert isinstance(figure, matplotlib.figure.Figure) and figure.axes
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
