"""Mistakes with a posterior that has been fitted: each is named, and says what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_probability as tfp

import neural_vb as nvb

tfd = tfp.distributions


@pytest.mark.parametrize(
    ("derived", "got"),
    [
        (lambda draws: {1: draws["mu"]}, "got 1: an array"),
        (lambda draws: {"sign": np.where(draws["mu"] > 1.0, "high", "low")}, "got 'sign': an array of dtype <U4"),
        (lambda draws: {"root": np.sqrt(draws["mu"] + 0j)}, "of a complex array its parts"),
        (lambda draws: {"rows": [[1.0], [1.0, 2.0]]}, "got 'rows': a list of dtype object"),
        (lambda draws: {"mu_": np.ma.masked_less(draws["mu"], 1.0)}, "got 'mu_': a MaskedArray"),
    ],
    ids=["number for a name", "text", "complex", "ragged", "masked"],
)
def test_derived_quantities_are_numbers_with_names(named_posterior: nvb.Posterior, derived: Callable, got: str) -> None:
    with pytest.raises(nvb.DataError, match=f"arrays of numbers, with names as keys; .*{got}"):
        dataclasses.replace(named_posterior, derived=derived).sample(7)


def test_draws_have_one_axis_before_those_of_the_event(banana_posterior: nvb.Posterior) -> None:
    derived = dataclasses.replace(banana_posterior, derived=lambda z: {"radius": np.linalg.norm(z, axis=-1)})
    for ask in (banana_posterior.log_prob, banana_posterior.log_prob_estimate, derived.log_prob):
        with pytest.raises(nvb.EventShapeError, match=r"got 2 axes before .*Fix: flatten them: draws\.reshape"):
            ask(np.zeros((4, 5, 2)))
    with pytest.raises(nvb.EventShapeError, match=r"under 'z'; got a dict with keys \['radius'\]"):
        derived.log_prob({"radius": np.ones(3)})


def test_draws_are_real_numbers_without_masks(banana_posterior: nvb.Posterior) -> None:
    masked = np.ma.masked_less(np.arange(6.0).reshape(3, 2), 1.0)
    for wrong, got in ((np.zeros((3, 2)) * 1j, "complex128"), ([["a", "b"]], "string"), (masked, "masked values")):
        with pytest.raises(nvb.EventShapeError, match=f"real numbers; got TypeError: {got}"):
            banana_posterior.log_prob(wrong)
    with pytest.raises(nvb.DataError, match="'x' without missing values; got 1 masked of 6 values"):
        banana_posterior.to_arviz(5, constant_data={"x": masked})
    with pytest.raises(nvb.ConfigurationError, match=r"labels for the dimension 'k' .*; got rows of different lengths"):
        banana_posterior.to_arviz(5, coords={"k": [[1], [1, 2]]})


def test_a_calibration_comes_from_sbc(banana_posterior: nvb.Posterior) -> None:
    with pytest.raises(nvb.ConfigurationError, match=r"pass calibration=nvb\.diagnostics\.sbc\(\.\.\.\), or leave"):
        banana_posterior.check(calibration="x")


def test_predictions_want_a_joint_without_batches(joint_posterior: nvb.Posterior) -> None:
    parts = {name: tfd.Normal(0.0, 1.0) for name in ("level", "slope")} | {"height": tfd.LogNormal(0.0, 1.0)}
    batch = tfd.JointDistributionNamed({**parts, "y": lambda level: tfd.Normal(level, [1.0, 2.0])})
    with pytest.raises(nvb.TargetShapeError, match=r"batch shapes {'y': .2.}"):
        joint_posterior.predict(5, joint=batch)
    with pytest.raises(nvb.ConfigurationError, match="got the class JointDistributionNamed"):
        joint_posterior.predict(5, joint=tfd.JointDistributionNamed)


def test_overwriting_is_asked_for_by_true(banana_posterior: nvb.Posterior, tmp_path: Path) -> None:
    wrong: Any = "no"
    with pytest.raises(nvb.ConfigurationError, match="overwrite as True or False; got 'no'"):
        banana_posterior.save(tmp_path / "posterior", overwrite=wrong)
    assert not list(tmp_path.iterdir())
