"""A verdict says what was looked for and found, and never that a fit is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import neural_vb as nvb
from neural_vb import verdicts
from neural_vb.diagnostics.verdict import NUM_DRAWS, Subject, assess
from neural_vb.verdicts import Finding, Verdict


def test_a_table_of_five_parts() -> None:
    found = Finding("fail", "moved", {"largest mean error": 0.25, "transitions": 8}, {"mean": 0.12}, "refine")
    text = str(Verdict(local_fit=found))
    assert [part for part in verdicts.PARTS if f"  {part}" in text] == list(verdicts.PARTS)
    assert "largest mean error 0.25, transitions 8" in text and "would have seen: mean 0.12" in text
    assert sum(line.endswith("not_assessed") for line in text.splitlines()) == 4
    assert not any(word in text for word in ("converged", "valid"))


def test_the_gravest_parts_come_first_in_one_line() -> None:
    verdict = Verdict(local_fit=Finding("no_problem_found"), elbo_trust=Finding("fail"), optimisation=Finding("fail"))
    told = "fail: optimisation, elbo_trust; no_problem_found: local_fit; not_assessed: mode_coverage, calibration"
    assert verdict.summary == told
    assert str(verdict).splitlines()[1] == f"  {told}"


def test_sizes_that_would_have_been_seen_have_their_units() -> None:
    seen = {"mean": 0.12, "log_sd": 0.11, "correlation": 0.13, "tail": 0.017, "log_p": 0.21, "ELBO, nats": 0.14}
    text = " ".join(str(Verdict(local_fit=Finding("no_problem_found", "", {}, seen))).split())
    assert (
        "would have seen: mean 0.12 sd, log sd 0.11 in logs, correlation 0.13, tail 0.017 of probability, "
        "log p 0.21 nats, ELBO, nats 0.14"
    ) in text


def test_attributes_have_names_without_commas() -> None:
    told = Verdict(local_fit=Finding("fail", "moved", {"effect, in sds": 0.25})).attributes()
    assert told["verdict_local_fit_effect_in_sds"] == 0.25


def test_attributes_are_flat() -> None:
    told = Verdict(local_fit=Finding("fail", "moved", {"largest mean error": 0.25})).attributes()
    assert told["verdict_local_fit"] == "fail" and told["verdict_local_fit_largest_mean_error"] == 0.25
    assert all(isinstance(value, (str, int, float)) for value in told.values())


def test_draws_around_one_of_two_modes_are_not_cleared(gaussian_chains: Any) -> None:
    """The local fit of what is there is no local fit of the posterior."""
    from neural_vb.diagnostics.verdict import _in_view_of

    fine, missing = Finding("no_problem_found"), Finding("fail")
    assert _in_view_of(missing, fine).state == "inconclusive"
    assert _in_view_of(fine, fine) is fine


def test_exact_and_shifted_samplers_end_to_end(gaussian_chains: Any) -> None:
    u = np.random.default_rng(1).standard_normal((NUM_DRAWS, 2))
    exact = assess(Subject(gaussian_chains, u), seed=1)
    states = {part: finding.state for part, finding in exact.findings().items()}
    assert states == dict.fromkeys(("optimisation", "local_fit", "mode_coverage"), "no_problem_found") | dict.fromkeys(
        ("elbo_trust", "calibration"), "not_assessed"
    )
    shifted = assess(Subject(gaussian_chains, 0.2 + u), seed=1)
    assert shifted.local_fit.state == shifted.optimisation.state == "fail"


@pytest.mark.filterwarnings("ignore::neural_vb.errors.ImportanceWarning")
def test_a_posterior_shows_its_verdict_once_it_has_one(
    named_posterior: nvb.Posterior, named_log_z: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    posterior = dataclasses.replace(named_posterior, verdict=None)
    assert "Accuracy: not assessed; run posterior.check()" in str(posterior)
    verdict = posterior.check(seed=2)
    assert posterior.verdict is verdict and named_posterior.verdict is None
    assert str(verdict) == str(dataclasses.replace(named_posterior).check(seed=2))
    assert str(verdict) in str(posterior)
    assert verdict.mode_coverage.state == "no_problem_found" and verdict.elbo_trust.state != "not_assessed"
    attributes = posterior.to_arviz(50)["posterior"].attrs
    assert attributes["verdict_local_fit"] == verdict.local_fit.state
    assert "local fit" in posterior.plot_training().get_supxlabel()
    found = posterior.log_evidence(seed=1)
    assert abs(found.value - named_log_z) < 4.0 * found.standard_error + 0.01 or not found.usable


def test_refusals(named_posterior: nvb.Posterior) -> None:
    for call in (
        lambda: named_posterior.check(seed=-1),
        lambda: named_posterior.check(budget=0),
        lambda: named_posterior.check(calibration=3),
        lambda: named_posterior.refine(0),
        lambda: named_posterior.log_evidence(seed="a"),
    ):
        with pytest.raises(nvb.ConfigurationError):
            call()
