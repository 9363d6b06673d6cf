"""The numbers behind the problems: centres, covariances and simulated data, in NumPy only.

Eight schools is read from ``neural_vb/_eight_schools.py`` *as a file*: importing the package would load TensorFlow
into the process of a JAX peer.
"""

from __future__ import annotations

import functools
import importlib.util
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

BANANA_SD = 0.5
X_COVARIANCES = (np.array([[2.0, 1.8], [1.8, 2.0]]), np.array([[2.0, -1.8], [-1.8, 2.0]]))
TWO_CENTRES = np.array([[-2.0, 0.0], [2.0, 0.0]])
TWO_WEIGHTS = np.array([0.5, 0.5])
FOUR_CENTRES = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
FOUR_WEIGHTS = np.array([0.125, 0.125, 0.5, 0.25])
FUNNEL_SIZE = 10
FUNNEL_SD = 3.0
LOGISTIC_PRIOR_SD = 2.0
FORTY_CENTRES = np.random.RandomState(0).uniform(-40.0, 40.0, (40, 2))
FORTY_WEIGHTS = np.full(40, 1.0 / 40.0)
# Haario, Saksman & Tamminen 1999 (Computational Statistics 14, 375-395): N(0, diag(10^2, 1)) with its second axis bent,
# z2 = x2 - b (x1^2 - 10^2). Theirs is the choice of b = .03, "moderately twisted".
TWIST_SD = 10.0
TWIST = 0.03
STUDENT_DOF = 5.0
STUDENT_CORRELATION = 0.7
GUMBEL_SCALES = np.array([0.5, 1.0, 2.0, 4.0, 8.0])


class Schools(NamedTuple):
    """y_j ~ N(mu + tau eta_j, sigma_j) with eta_j ~ N(0, 1): effects y [8] and standard errors sigma [8]."""

    y: Array
    sigma: Array


@functools.cache
def eight_schools_constants() -> dict[str, Any]:
    """Constants of ``neural_vb/_eight_schools.py`` by name."""
    spec = importlib.util.find_spec("neural_vb")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ModuleNotFoundError("neural_vb is not importable: run from the repository root, or pip install it")
    return runpy.run_path(str(Path(folders[0]) / "_eight_schools.py"))


def eight_schools() -> Schools:
    """posteriordb's data: effects and standard errors in points of the SAT."""
    constants = eight_schools_constants()
    return Schools(np.array(constants["EFFECTS"]), np.array(constants["STANDARD_ERRORS"]))


def avb_eight_schools() -> Schools:
    """The data of the AVB paper's example: a tenth of the effects, and its own standard errors."""
    return Schools(
        np.array([2.8, 0.8, -0.3, 0.7, -0.1, 0.1, 1.8, 1.2]), np.array([0.8, 0.5, 0.8, 0.6, 0.5, 0.6, 0.5, 0.4])
    )


@functools.cache
def correlated_covariance(size: int = 50) -> Array:
    """A A^T with A = G / sqrt(D) + .3 I and G standard normal from ``RandomState(1)``: [D, D]."""
    factor = np.random.RandomState(1).randn(size, size) / np.sqrt(size) + 0.3 * np.eye(size)
    return factor @ factor.T


def student_scale(size: int) -> Array:
    """Scale matrix of the Student t, .7^|i - j|: [D, D]. The covariance is 5/3 of it."""
    index = np.arange(size)
    return STUDENT_CORRELATION ** np.abs(index[:, None] - index)


class LogisticData(NamedTuple):
    """Design [500, 25], labels [500] in {0, 1}, and the coefficients [25] that made them."""

    design: Array
    labels: Array
    coefficients: Array


@functools.cache
def logistic_data() -> LogisticData:
    """500 simulated rows with 25 correlated regressors from ``RandomState(2)``."""
    random = np.random.RandomState(2)
    design = random.randn(500, 25) @ (np.eye(25) + 0.2 * random.randn(25, 25))
    coefficients = 0.5 * random.randn(25)
    labels = random.rand(500) < 1.0 / (1.0 + np.exp(-design @ coefficients))
    return LogisticData(design, labels.astype(float), coefficients)
