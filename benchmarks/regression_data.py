"""Data of the regressions: four published sets, read from a folder, and simulated groups."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.definitions import Array

DATA_VARIABLE = "BENCHMARK_DATA"


class Regression(NamedTuple):
    """y ~ Bernoulli(sigmoid(X w)): design X [N, D] with a column of ones first, and labels y [N] in {0, 1}."""

    design: Array
    labels: Array


def data_path(given: str | Path | None) -> Path:
    """The folder a user named by option or by the environment.

    Raises:
        DataError: neither names it.
    """
    text = given or os.environ.get(DATA_VARIABLE)
    if not text:
        from neural_vb.errors import DataError

        raise DataError(
            expected="a folder with waveform.mat, german.data-numeric, sonar.all-data and ionosphere.data",
            got=f"neither --data nor the environment's {DATA_VARIABLE}",
            fix="download the files and name their folder, or leave these problems out",
        )
    return Path(text).expanduser()


def _file(name: str) -> Path:
    """A file in the folder or in a folder inside it."""
    folder = data_path(None)
    found = sorted([*folder.glob(name), *folder.glob(f"*/{name}")])
    if not found:
        from neural_vb.errors import DataError

        raise DataError(expected=f"a file {name} in {folder}", got="none", fix="download it, or leave its problem out")
    return found[0]


def _rows(name: str) -> tuple[Array, list[str]]:
    """Numbers [N, D - 1] and the last word of each line; lines of another length are headers."""
    lines = [line.split(",") for line in _file(name).read_text(encoding="utf-8").split()]
    width = max(map(len, lines))
    rows = [line for line in lines if len(line) == width and line[-1].strip('"').isalpha()]
    return np.array([[float(cell) for cell in row[:-1]] for row in rows]), [row[-1].strip('"') for row in rows]


def _with_ones(features: Array) -> Array:
    return np.concatenate([np.ones((len(features), 1)), features], axis=1)


@functools.cache
def waveform() -> Regression:
    """Breiman's waveforms, two of three classes, 400 rows as in Yin & Zhou 2018 (arXiv 1805.11183)."""
    from scipy import io

    found = io.loadmat(str(_file("waveform.mat")))
    return Regression(found["X_train"].astype(float), found["y_train"].ravel().astype(float))


@functools.cache
def german_credit() -> Regression:
    """Statlog's German credit, numeric version (UCI): features over their sds; label 1 is good."""
    rows = np.loadtxt(_file("german.data-numeric"))
    return Regression(_with_ones(rows[:, :-1] / rows[:, :-1].std(axis=0)), (rows[:, -1] == 1).astype(float))


@functools.cache
def sonar() -> Regression:
    """Sonar, mines against rocks (UCI): features scaled to [-1, 1]."""
    features, words = _rows("sonar.all-data")
    low, high = features.min(axis=0), features.max(axis=0)
    return Regression(_with_ones(2.0 * (features - low) / (high - low) - 1.0), (np.array(words) == "M").astype(float))


@functools.cache
def ionosphere() -> Regression:
    """Ionosphere, good against bad radar returns (UCI). Its second feature is constant, so that its prior is left."""
    features, words = _rows("ionosphere.data")
    return Regression(_with_ones(features), (np.array(words) == "g").astype(float))


class Groups(NamedTuple):
    """Hierarchical data: features [J, M, P] and labels [J, M] in {0, 1} of J groups with M rows each."""

    features: Array
    labels: Array


NUM_FEATURES = 8
ROWS_PER_GROUP = 5


@functools.cache
def groups(size: int) -> Groups:
    """Simulated by ``RandomState(3)`` for D = 2 + 8 + J unknowns."""
    random, number = np.random.RandomState(3), size - 2 - NUM_FEATURES
    features = random.randn(number, ROWS_PER_GROUP, NUM_FEATURES)
    slopes = 0.5 * (-1.0) ** np.arange(NUM_FEATURES)
    logits = 0.5 + features @ slopes + random.randn(number, 1)
    labels = random.rand(number, ROWS_PER_GROUP) < 1.0 / (1.0 + np.exp(-logits))
    return Groups(features, labels.astype(float))
