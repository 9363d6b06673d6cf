"""The bar of a fit: stages by name, steps where there are some."""

from __future__ import annotations

import re

import pytest

from neural_vb.progress import Progress

METRICS = {"rate": 1.0, "last_step": 400, "elbo": -3.0, "critic_accuracy": 0.5}


def test_a_stage_without_steps_has_its_name_and_the_time_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=True) as bar:
        bar.stage("mixture")
    shown = capsys.readouterr().err
    assert re.search(r"mixture \[\d\d:\d\d\]", shown) and "step" not in shown


def test_training_counts_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=True) as bar:
        bar.stage("compile")
        bar.window(200, METRICS)
    shown = capsys.readouterr().err
    assert "200/400" in shown and not re.search(r"\b0step", shown)


def test_a_stage_after_steps_counts_none(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=True) as bar:
        bar.density(50, -1.0)
        capsys.readouterr()
        bar.stage("check")
    assert "step" not in capsys.readouterr().err


def test_a_bar_that_is_not_wanted_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=False) as bar:
        bar.stage("check")
        bar.window(200, METRICS)
    assert capsys.readouterr().err == ""
