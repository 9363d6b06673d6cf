"""Classifier two-sample test: can a network tell draws from a reference?"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from benchmarks.definitions import Array


def c2st(reference: Array, draws: Array, *, seed: int, num_folds: int = 5) -> float:
    """Held-out accuracy of a classifier between two samples; .5 is best, 1 worst.

    A perfect classifier reaches 1/2 + TV / 2, TV the total variation. Settings are those of the benchmark of
    simulation-based inference: coordinates scaled by the reference's mean and sd, two hidden layers of 10 D ReLU units,
    Adam for at most 10,000 epochs, five-fold cross-validation.

    Args:
        reference: [S, D].
        draws: [S, D], as many, for else the larger class alone is guessed above .5.
        seed: of folds and network.
        num_folds: of the cross-validation.

    Raises:
        DataError: the samples differ in shape, or hold NaN or infinite values, or a reference coordinate is constant.
        MissingDependencyError: scikit-learn is not installed.

    Source: Lopez-Paz and Oquab 2017, arXiv 1610.06545; Lueckmann et al. 2021, arXiv 2101.04653, appendix.
    """
    reference, draws = np.asarray(reference, float), np.asarray(draws, float)
    _check(reference, draws)
    selection, network = _scikit_learn()
    mean, sd = reference.mean(axis=0), reference.std(axis=0, ddof=1)
    inputs = np.concatenate([(reference - mean) / sd, (draws - mean) / sd])
    labels = np.repeat([0, 1], [len(reference), len(draws)])
    width = 10 * reference.shape[1]
    classifier = network.MLPClassifier(
        hidden_layer_sizes=(width, width), activation="relu", solver="adam", max_iter=10_000, random_state=seed
    )
    folds = selection.KFold(n_splits=num_folds, shuffle=True, random_state=seed)
    return float(np.mean(selection.cross_val_score(classifier, inputs, labels, cv=folds, scoring="accuracy")))


def _check(reference: Array, draws: Array) -> None:
    finite = bool(np.isfinite(reference).all() and np.isfinite(draws).all())
    constant = reference.ndim == 2 and finite and bool(np.any(np.ptp(reference, axis=0) == 0.0))
    if reference.ndim == 2 and reference.shape == draws.shape and finite and not constant:
        return
    from neural_vb.errors import DataError  # here, as it loads TensorFlow

    shapes = f"shapes {list(reference.shape)} and {list(draws.shape)}"
    faults = [", with NaN or infinite values"] * (not finite) + [", with a constant reference coordinate"] * constant
    raise DataError(
        expected="two samples of one shape [S, D], finite, the reference with some spread",
        got=shapes + "".join(faults),
        fix="stack the coordinates of both samples along the last axis and take as many draws as references",
    )


def _scikit_learn() -> tuple[Any, Any]:
    if importlib.util.find_spec("sklearn") is None:
        from neural_vb.errors import MissingDependencyError

        raise MissingDependencyError(
            expected="scikit-learn for the classifier two-sample test",
            got="no package sklearn",
            fix="pip install 'neural_vb[bench]'",
        )
    import sklearn.model_selection
    import sklearn.neural_network

    return sklearn.model_selection, sklearn.neural_network
