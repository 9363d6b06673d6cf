"""The classifier two-sample test against the best possible classifier."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import classifier
from neural_vb.errors import DataError, MissingDependencyError

needs_scikit_learn = pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="scikit-learn is not installed")


def normals(n: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, size))


@needs_scikit_learn
def test_equal_samples_are_told_apart_half_of_the_time() -> None:
    found = [classifier.c2st(normals(400, 2, seed), normals(400, 2, seed + 10), seed=seed) for seed in range(3)]
    assert np.mean(found) == pytest.approx(0.5, abs=4.0 * 0.5 / math.sqrt(3 * 800))


@needs_scikit_learn
@pytest.mark.parametrize("shift", [1.0, 4.0])
def test_shifted_samples_are_told_apart_as_well_as_can_be(shift: float) -> None:
    reference, draws = normals(400, 1, 0), normals(400, 1, 1) + shift
    best = stats.norm.cdf(shift / 2.0)
    sd = math.sqrt(best * (1.0 - best) / 800)
    found = classifier.c2st(reference, draws, seed=0)
    assert best - 4.0 * sd - 0.02 < found < best + 4.0 * sd


@needs_scikit_learn
def test_scale_of_a_coordinate_does_not_count() -> None:
    reference, draws, scale = normals(300, 1, 0), normals(300, 1, 1) + 1.0, 1024.0
    found = classifier.c2st(reference, draws, seed=0)
    assert classifier.c2st(reference * scale, draws * scale, seed=0) == found


def test_samples_that_cannot_be_compared_are_refused() -> None:
    good = normals(10, 2, 0)
    message = (
        "Expected two samples of one shape [S, D], finite, the reference with some spread; got shapes [10, 2] and {}. "
        "Fix: stack the coordinates of both samples along the last axis and take as many draws as references"
    )
    for reference, draws, came in (
        (good, good[:5], "[5, 2]"),
        (good, good * np.nan, "[10, 2], with NaN or infinite values"),
        (good * [1, 0], good, "[10, 2], with a constant reference coordinate"),
    ):
        with pytest.raises(DataError) as caught:
            classifier.c2st(reference, draws, seed=0)
        assert str(caught.value) == message.format(came)


def test_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        classifier.c2st(normals(10, 2, 0), normals(10, 2, 1), seed=0)
    assert str(caught.value) == (
        "Expected scikit-learn for the classifier two-sample test; got no package sklearn. "
        "Fix: pip install 'neural_vb[bench]'"
    )
