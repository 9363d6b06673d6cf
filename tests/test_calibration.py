"""Simulation-based calibration: exact posteriors have uniform ranks, and planted bugs do not."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import joints
from neural_vb.diagnostics import Calibration, refits, sbc
from neural_vb.errors import (
    ConfigurationError,
    DataError,
    LatentError,
    MissingDependencyError,
    TargetShapeError,
    TargetValueError,
)

tfd = tfp.distributions
ROWS = 4
LOG_LIKELIHOOD = "log likelihood"


def joint(kind: type = tfd.JointDistributionNamedAutoBatched) -> Any:
    """theta [2] ~ N(0, I), four rows of y ~ N(theta, I): theta | y ~ N(sum y / 5, I / 5)."""
    return kind(
        {
            "theta": tfd.Sample(tfd.Normal(0.0, 1.0), 2),
            "y": lambda theta: tfd.Independent(
                tfd.Normal(tf.repeat(theta[..., tf.newaxis, :], ROWS, axis=-2), 1.0), reinterpreted_batch_ndims=2
            ),
        }
    )


JOINT = joint()


def posterior(
    *, sd: float = 1.0, shift: float = 0.0, prior: bool = False
) -> Callable[[dict[str, np.ndarray], int, int], dict[str, np.ndarray]]:
    """The exact posterior, its sd multiplied and its mean moved by posterior sds, or the prior instead of it."""

    def sample(data: dict[str, np.ndarray], num_draws: int, seed: int) -> dict[str, np.ndarray]:
        y = data["y"]
        noise = np.random.default_rng(seed).normal(size=(num_draws, len(y), 2))
        exact = 1.0 / np.sqrt(1.0 + ROWS)
        return {"theta": noise if prior else y.sum(-2) / (1.0 + ROWS) + exact * (shift + sd * noise)}

    return sample


def run(sample: Any, **options: Any) -> Calibration:
    return sbc(JOINT, sample, **{"observed": ["y"], "progress": False, **options})


def test_exact_posterior_has_uniform_ranks_for_many_seeds() -> None:
    pvalues = np.array(
        [list(run(posterior(), num_simulations=200, seed=seed).pvalues().values()) for seed in range(20)]
    )
    assert pvalues.shape == (20, 3)
    # Sixty p values, dependent within a run: their mean is one half to within .29 / sqrt(20), thrice.
    assert abs(pvalues.mean() - 0.5) < 0.2
    assert pvalues.min() > 1e-4


def test_labels_sizes_and_range() -> None:
    calibration = run(posterior(), num_simulations=100, num_draws=31)
    assert list(calibration.ranks) == ["theta[0]", "theta[1]", LOG_LIKELIHOOD]
    assert calibration.num_simulations == 100 and calibration.num_draws == 31
    for ranks in calibration.ranks.values():
        assert ranks.shape == (100,) and ranks.dtype.kind == "i"
        assert ranks.min() >= 0 and ranks.max() <= 31 and len(np.unique(ranks)) > 16


@pytest.mark.parametrize("bug", [{"sd": 0.8}, {"sd": 1.25}, {"shift": 0.3}], ids=str)
def test_planted_bug_is_caught(bug: dict[str, float]) -> None:
    assert [seed for seed in range(5) if run(posterior(**bug), seed=seed).pvalue > 0.01] == []


def test_only_the_log_likelihood_sees_that_the_posterior_is_the_prior() -> None:
    pvalues = run(posterior(prior=True), seed=1).pvalues()
    assert min(pvalues["theta[0]"], pvalues["theta[1]"]) > 0.01
    assert pvalues[LOG_LIKELIHOOD] < 1e-6


def test_rows_tell_too_narrow_from_too_wide_and_from_too_small() -> None:
    rows = {
        bug: run(posterior(**dict([bug])), seed=2).rows()[0] for bug in [("sd", 0.8), ("sd", 1.25), ("shift", -0.3)]
    }
    assert rows["sd", 0.8]["spread"] > 1.05 and rows["sd", 1.25]["spread"] < 0.95
    assert rows["shift", -0.3]["mean"] > 0.55
    # The mean rank of N(0, 1) among N(-.3, 1): Phi(.3 / sqrt 2), to within four standard errors of .29 / sqrt(500).
    assert abs(rows["shift", -0.3]["mean"] - 0.584) < 0.052


def test_ranks_are_those_counted_naively(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[dict, dict]] = []
    simulated: list[dict[str, Any]] = []

    def sample_parts(*arguments: Any, **keywords: Any) -> dict[str, Any]:
        simulated.append(joints_sample_parts(*arguments, **keywords))
        return simulated[-1]

    joints_sample_parts = joints.sample_parts
    monkeypatch.setattr(joints, "sample_parts", sample_parts)

    def sample(data: dict[str, np.ndarray], num_draws: int, seed: int) -> dict[str, np.ndarray]:
        draws = posterior()(data, num_draws, seed)
        seen.append((data, draws))
        return {**draws, "derived": np.zeros([num_draws, 1])}

    calibration = run(sample, num_simulations=25, num_draws=15, batch_size=10, seed=3)
    assert [len(data["y"]) for data, _ in seen] == [10, 10, 5]
    y = np.concatenate([data["y"] for data, _ in seen])
    draws = np.concatenate([draws["theta"] for _, draws in seen], axis=1)
    truth = simulated[0]["theta"].numpy()
    np.testing.assert_array_equal(simulated[0]["y"], y)
    np.testing.assert_array_equal(calibration.ranks["theta[1]"], np.sum(draws[..., 1] < truth[:, 1], axis=0))

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        return -0.5 * np.sum((y - theta[..., np.newaxis, :]) ** 2, axis=(-2, -1))

    naive = np.sum(log_likelihood(draws) < log_likelihood(truth), axis=0)
    np.testing.assert_array_equal(calibration.ranks[LOG_LIKELIHOOD], naive)


def test_ranks_do_not_change_under_monotone_transforms() -> None:
    def model(scale: float) -> Any:
        return tfd.JointDistributionNamedAutoBatched(
            {
                "sigma": tfd.LogNormal(0.0, 1.0) if scale else tfd.Normal(0.0, 1.0),
                "y": lambda sigma: tfd.Normal(tf.math.log(sigma) if scale else sigma, 1.0),
            }
        )

    def sample(transform: Callable) -> Callable:
        def draws(data: dict[str, np.ndarray], num_draws: int, seed: int) -> dict[str, np.ndarray]:
            noise = np.random.default_rng(seed).normal(size=(num_draws, len(data["y"])))
            return {"sigma": transform(data["y"] / 2 + noise / np.sqrt(2))}

        return draws

    same, exp = (
        sbc(model(scale), sample(transform), observed="y", num_simulations=100, seed=5, progress=False)
        for scale, transform in ((0.0, lambda z: z), (1.0, np.exp))
    )
    assert list(same.ranks) == ["sigma", LOG_LIKELIHOOD]
    # Logarithms and exponentials in float32 can swap neighbours.
    for label in same.ranks:
        assert np.abs(same.ranks[label] - exp.ranks[label]).max() <= 1
        assert np.mean(same.ranks[label] == exp.ranks[label]) > 0.95


def test_kinds_of_joints_agree() -> None:
    plain = sbc(
        joint(tfd.JointDistributionNamed), posterior(), observed=["y"], num_simulations=60, seed=4, progress=False
    )
    for label, ranks in run(posterior(), num_simulations=60, seed=4).ranks.items():
        np.testing.assert_array_equal(plain.ranks[label], ranks)


def test_the_seed_decides() -> None:
    first, again, other = (run(posterior(), num_simulations=50, seed=seed) for seed in (7, 7, 8))
    for label, ranks in first.ranks.items():
        np.testing.assert_array_equal(again.ranks[label], ranks)
        assert np.any(other.ranks[label] != ranks)
    stateless = run(posterior(), num_simulations=50, seed=tf.constant([7, 1]))
    assert np.any(stateless.ranks["theta[0]"] != first.ranks["theta[0]"])


def test_ties_are_broken_at_random() -> None:
    counts = tfd.JointDistributionNamedAutoBatched(
        {"p": tfd.Beta(1.0, 1.0), "y": lambda p: tfd.Bernoulli(probs=p * 0.0 + 0.5)}
    )

    def sample(data: dict[str, np.ndarray], num_draws: int, seed: int) -> dict[str, np.ndarray]:
        return {"p": np.random.default_rng(seed).random((num_draws, len(data["y"])))}

    # The likelihood is constant, so all of its ranks are ties; the posterior is the prior, exactly.
    calibration = sbc(counts, sample, observed=["y"], num_simulations=300, seed=1, progress=False)
    assert len(np.unique(calibration.ranks[LOG_LIKELIHOOD])) > 128
    assert calibration.pvalue > 0.01


def test_likelihood_in_pieces_is_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(posterior(), num_simulations=30, seed=6)
    monkeypatch.setattr("neural_vb.diagnostics.calibration._NUMBERS", 20_000)
    pieces = run(posterior(), num_simulations=30, seed=6)
    for label, ranks in whole.ranks.items():
        np.testing.assert_array_equal(pieces.ranks[label], ranks)


def test_print_shows_the_table_and_claims_nothing() -> None:
    ranks = np.arange(512) // 2
    text = str(Calibration({"mu": ranks, "tau": np.zeros(512, int)}, 255))
    assert text.splitlines() == [
        "     p value   mean  spread",
        "mu     1.000  0.500   1.000",
        "tau   < .001  0.000   0.000",
        "(512 simulations, 255 draws each; uniform: mean .5, spread 1)",
        "all labels: p < .001 (Bonferroni); 95 % band of one label: up to ± 0.068",
    ]
    assert not any(word in text for word in ("valid", "converged", "calibrated"))
    many = str(Calibration({f"a[{i}]": ranks for i in range(60)}, 255))
    assert "… and 20 more rows" in many and "all labels: p = 1.000" in many


def test_overall_pvalue_is_bonferroni() -> None:
    rng = np.random.default_rng(2)
    calibration = Calibration({name: rng.integers(0, 256, 200) for name in "abc"}, 255)
    assert calibration.pvalue == min(1.0, 3 * min(calibration.pvalues().values()))


def test_ranks_out_of_range_are_refused() -> None:
    for ranks, message in [
        ({}, "got none"),
        ({"a": np.zeros(3, int), "b": np.zeros(4, int)}, r"got a \(3,\), b \(4,\)"),
        ({"a": np.array([0, 16])}, r"'a' as whole numbers from 0 to 15.*got 2 of dtype int64 from 0 to 16"),
        ({"a": np.array([0.5])}, "dtype float64"),
        ({"a": np.zeros(0, int)}, "got 0 of dtype"),
    ]:
        with pytest.raises(DataError, match=message):
            Calibration(ranks, 15)


def _returns(value: Any) -> Callable:
    return lambda data, num_draws, seed: value


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"observed": ["z"]},
            DataError,
            r"`observed` to name parts of the joint, \['theta', 'y'\]; got 'z'\. Fix: choose",
        ),
        ({"observed": ["Y"]}, DataError, r"got 'Y'\. Fix: did you mean 'y'\?"),
        ({"observed": []}, DataError, r"got none\. Fix: without data"),
        ({"observed": 3}, DataError, r"`observed` as names of the joint's parts; got 3"),
        ({"observed": ["theta", "y"]}, LatentError, r"got all of \['theta', 'y'\] in `observed`"),
        ({"num_draws": 14}, ConfigurationError, "num_draws as a whole number from 15 to .*; got 14"),
        ({"num_simulations": 9}, ConfigurationError, "num_simulations as a whole number from 10 to .*; got 9"),
        ({"batch_size": 2.5}, ConfigurationError, "batch_size as a whole number from 1 to .*; got 2.5"),
    ],
)
def test_bad_options(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(posterior(), **options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros([15, 20, 2]), r"dict from the latent names, \['theta'\], to draws; got an array"),
        ({}, r"draws of every latent part, \['theta'\]; got none"),
        ({"mu": np.zeros([15, 20, 2])}, r"got only mu\. Fix: let `sample` return 'theta' too"),
        ({"theta": np.zeros([20, 15, 2])}, r"'theta' of shape \[15, 20, 2\].*got shape \[20, 15, 2\]"),
        ({"theta": np.full([15, 20, 2], np.nan)}, r"draws of 'theta' without NaN; got 600 NaN of 600 values"),
    ],
)
def test_bad_draws(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(_returns(value), num_simulations=20, num_draws=15)


def test_bad_joints() -> None:
    for none in ("model.py", tfd.JointDistributionNamed, lambda z: z):
        with pytest.raises(ConfigurationError, match="joint as a TFP joint distribution"):
            sbc(none, posterior(), observed=["y"], progress=False)
    batch = tfd.JointDistributionNamed({"mu": tfd.Normal([0.0, 1.0], 1.0), "y": lambda mu: tfd.Normal(mu, 1.0)})
    with pytest.raises(TargetShapeError, match="batch dimensions"):
        sbc(batch, posterior(), observed=["y"], progress=False)
    discrete = tfd.JointDistributionNamedAutoBatched({"k": tfd.Poisson(3.0), "y": lambda k: tfd.Normal(k, 1.0)})
    with pytest.raises(LatentError, match="continuous latent part 'k'"):
        sbc(discrete, posterior(), observed=["y"], progress=False)
    broken = tfd.JointDistributionNamedAutoBatched({"mu": tfd.Normal(0.0, 1.0), "y": lambda mu: tfd.Normal(mu, np.nan)})
    with pytest.raises(TargetValueError, match="simulations of 'y' without NaN; got 500 NaN of 500"):
        sbc(broken, posterior(), observed=["y"], progress=False)
    rooted = tfd.JointDistributionNamedAutoBatched(
        {"tau": tfd.HalfNormal(1.0), "y": lambda tau: tfd.Normal(0.0, tf.sqrt(tau))}
    )
    with pytest.raises(TargetValueError, match="log likelihoods of the draws without NaN"):
        sbc(rooted, lambda data, n, seed: {"tau": -np.ones([n, len(data["y"])])}, observed=["y"], progress=False)


class Exact:
    """A posterior of one data set, as a fit would return it."""

    def __init__(self, data: dict[str, np.ndarray], seed: int) -> None:
        if data["y"].shape != (ROWS, 2):
            raise ValueError(f"data of shape {data['y'].shape}")
        self._data, self._seed = data, seed

    def sample(self, num_draws: int, *, seed: int) -> dict[str, np.ndarray]:
        draws = posterior()({"y": self._data["y"][np.newaxis]}, num_draws, seed)
        return {"theta": draws["theta"][:, 0] + 1e-12 * self._seed}


def test_refits_make_a_sampler() -> None:
    calibration = run(refits(Exact), num_simulations=150, seed=2)
    assert calibration.pvalue > 0.01
    assert np.corrcoef(calibration.ranks["theta[0]"], calibration.ranks["theta[1]"])[0, 1] < 0.35  # other seeds


def test_refits_do_not_depend_on_the_number_of_jobs() -> None:
    data = {"y": np.random.default_rng(0).normal(size=(6, ROWS, 2))}
    one = refits(Exact)(data, 20, 5)["theta"]
    assert one.shape == (20, 6, 2)
    np.testing.assert_array_equal(refits(Exact, n_jobs=2, backend="threading")(data, 20, 5)["theta"], one)
    np.testing.assert_array_equal(refits(Exact, n_jobs=None)(data, 20, 5)["theta"], one)
    assert np.all(refits(Exact)(data, 20, 6)["theta"] != one)


@pytest.mark.slow
def test_refits_in_processes_are_the_same() -> None:
    data = {"y": np.random.default_rng(0).normal(size=(4, ROWS, 2))}
    here, there = (refits(Exact, n_jobs=n_jobs)(data, 20, 5)["theta"] for n_jobs in (1, 2))
    np.testing.assert_array_equal(here, there)


def test_errors_of_refits_say_which_data_set() -> None:
    def fit(data: dict[str, np.ndarray], seed: int) -> Any:
        if data["y"] == 2.0:
            raise FloatingPointError("no luck")
        return SimpleNamespace(sample=lambda num_draws, *, seed: {"a": np.zeros(num_draws)})

    for options in ({}, {"n_jobs": 2, "backend": "threading"}):
        with pytest.raises(FloatingPointError, match="no luck") as caught:
            refits(fit, **options)({"y": np.arange(4.0)}, 3, 0)
        assert caught.value.__notes__ == ["in the fit of data set 2 of its batch"]


def test_draws_of_refits_are_checked() -> None:
    def fit(draws: Callable[[float], Any]) -> Callable:
        return lambda data, seed: SimpleNamespace(sample=lambda num_draws, *, seed: draws(data["y"]))

    data = {"y": np.arange(2.0)}
    with pytest.raises(DataError, match="returns a dict of draws by name; got an array"):
        refits(fit(lambda y: np.zeros(3)))(data, 3, 0)
    with pytest.raises(DataError, match=r"every fit: a \[3\]; got b \[3\] for data set 1 of its batch"):
        refits(fit(lambda y: {"b" if y else "a": np.zeros(3)}))(data, 3, 0)


def test_refits_without_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "joblib":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for options in ({"n_jobs": 2}, {"backend": "loky"}, {"n_jobs": None}):
        with pytest.raises(MissingDependencyError, match=r"joblib.*pip install neural_vb\[parallel\]"):
            refits(Exact, **options)
    assert refits(Exact)({"y": np.zeros([1, ROWS, 2])}, 3, 0)["theta"].shape == (3, 1, 2)


@pytest.mark.slow
def test_refits_of_this_package(
    make_joint: Callable, joint_data: dict, joint_moments: tuple, short: nvb.TrainingConfig
) -> None:
    line = make_joint(np.linspace(-1.0, 1.0, 6).astype(np.float32))
    fit = refits(lambda data, seed: nvb.fit(line, data, config=short, seed=seed, progress=False))
    other = {"y": joint_data["y"] + 1.0, "measured": joint_data["measured"]}
    draws = fit({name: np.stack([joint_data[name], other[name]]) for name in other}, 1_000, 0)
    assert {name: values.shape for name, values in draws.items()} == dict.fromkeys(
        ["level", "slope", "height"], (1_000, 2)
    )
    mean, covariance = joint_moments
    shift = covariance[0, 0] * 6 / 0.25  # of the level's mean, when all six observations rise by one
    np.testing.assert_allclose(
        draws["level"].mean(0), [mean[0], mean[0] + shift], atol=0.25 * np.sqrt(covariance[0, 0])
    )
