"""posteriordb: its data and reference draws, the models as fits and as JAX log densities, and their verification."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import arrays
from benchmarks.database_models import MODELS, Model
from benchmarks.definitions import Array
from benchmarks.supports import to_vector


@dataclass(frozen=True, eq=False)
class Entry:
    """A posterior of posteriordb.

    Attributes:
        name: of it.
        data: name -> array, float64.
        columns: reference draws by column, [10000] each.
    """

    name: str
    data: Mapping[str, Array]
    columns: Mapping[str, Array]

    @functools.cached_property
    def model(self) -> Model:
        """Its model, with the data."""
        return MODELS[self.name](self.data)

    @functools.cached_property
    def draws(self) -> Array:
        """Reference draws in unconstrained coordinates [10000, D], float64."""
        return to_vector(self.model.parameters, self.model.from_columns(self.columns))

    def fit_arguments(self) -> Any:
        """``FitArguments`` of a log density over named, constrained parameters; imports TensorFlow."""
        from benchmarks.densities_tf import FitArguments

        model, tensors = self.model, arrays.tensorflow()
        bijectors = {each.name: each.bijector() for each in model.parameters}
        keywords = {
            "event_shape": {each.name: each.shape for each in model.parameters},
            "bijector": {name: bijector for name, bijector in bijectors.items() if bijector is not None},
        }
        return FitArguments(lambda **values: model.log_prob(tensors, values), None, keywords)

    def jax_log_prob(self) -> Callable[[Any], Any]:
        """Log density of one unconstrained vector [D], log-Jacobians included."""
        model, tensors = self.model, arrays.jax()

        def log_prob(z: Any) -> Any:
            values, total, start = {}, 0.0, 0
            for each in model.parameters:
                values[each.name], log_det = each.constrain_jax(z[None, start : start + each.size])
                total, start = total + log_det, start + each.size
            return total + model.log_prob(tensors, values)[0]

        return log_prob

    def to_vector(self, draws: Mapping[str, Array]) -> Array:
        """Draws of a fit -> unconstrained vectors [S, D]."""
        return to_vector(self.model.parameters, draws)


def names(path: Path) -> list[str]:
    """Of the posteriors that are there and have a model here."""
    return sorted(set(_open(str(path)).posterior_names()) & set(MODELS))


@functools.cache
def load(name: str, path: Path) -> Entry:
    """One posterior, read once in a process.

    Raises:
        DataError: the folder is not posteriordb's, or has no such posterior.
        MissingDependencyError: the client is not installed.
    """
    database = _open(str(path))
    if name not in database.posterior_names() or name not in MODELS:
        from neural_vb.errors import DataError

        raise DataError(
            expected=f"a posterior of posteriordb in {path} that has a model in benchmarks.database_models",
            got=repr(name),
            fix="name one of " + ", ".join(names(path)),
        )
    posterior = database.posterior(name)
    chains = posterior.reference_draws()
    columns = {column: np.concatenate([chain[column] for chain in chains]) for column in chains[0]}
    data = {key: np.asarray(value, float) for key, value in posterior.data.values().items()}
    return Entry(name, data, columns)


@functools.cache
def _open(path: str) -> Any:
    try:
        from posteriordb import PosteriorDatabase
    except ModuleNotFoundError as error:
        from neural_vb.errors import MissingDependencyError

        raise MissingDependencyError(
            expected="the client of posteriordb", got="no package posteriordb", fix="pip install 'neural_vb[bench]'"
        ) from error
    for folder in (Path(path) / "posterior_database", Path(path)):
        if (folder / "posteriors").is_dir():
            return PosteriorDatabase(str(folder))
    from neural_vb.errors import DataError

    raise DataError(
        expected="a checkout of posteriordb",
        got=f"no folder posteriors in {path}",
        fix="git clone https://github.com/stan-dev/posteriordb and name that folder with --posteriordb",
    )


class Identities(NamedTuple):
    """How far the score s at reference draws u is from its identities, in standard errors.

    Attributes:
        mean: largest |E[t_i]| over i, with t = L^T s and L L^T the covariance of u, so that units do not matter.
        product: largest |E[v_i t_j] + 1{i = j}| over i and j, with v = L^-1 (u - E u).
        error: largest standard error of the products: what could have been seen.
    """

    mean: float
    product: float
    error: float


def identities(draws: Array, score: Array) -> Identities:
    """E[s] = 0 and E[(u - E u) s^T] = -I at draws [S, D] with scores [S, D]."""
    centred = draws - draws.mean(0)
    scale = np.linalg.cholesky(np.atleast_2d(np.cov(centred.T)))
    white, turned = np.linalg.solve(scale, centred.T).T, score @ scale
    products = white[:, :, None] * turned[:, None, :] + np.eye(draws.shape[1])
    root = np.sqrt(len(draws))
    errors = products.std(0) / root
    means = np.abs(turned.mean(0)) / (turned.std(0) / root)
    return Identities(float(means.max()), float((np.abs(products.mean(0)) / errors).max()), float(errors.max()))


LARGEST_DEVIATION = 5.0  # standard errors; of up to 702 numbers the largest is about 3


def show_identities(path: Path) -> bool:
    """A line for each model; whether all are there and hold."""
    missing = sorted(set(MODELS) - set(names(path)))
    if missing:
        print("not in this checkout: " + ", ".join(missing))
    good = not missing
    for name in names(path):
        entry = load(name, path)
        found = identities(entry.draws, score(entry, entry.draws))
        holds = max(found.mean, found.product) < LARGEST_DEVIATION
        good &= holds
        print(
            f"{name}: D = {entry.model.size}, E[s] = 0 within {found.mean:.1f} standard errors, E[(u - Eu) s] = -I "
            f"within {found.product:.1f} of at most {found.error:.3f}{'' if holds else '  DOES NOT HOLD'}",
            flush=True,
        )
    return good


def score(entry: Entry, draws: Array) -> Array:
    """Gradient of the log density that ``neural_vb.fit`` would be given, at draws [S, D], in double precision."""
    import tensorflow as tf

    from neural_vb.targets import LogProbTarget

    log_prob, _, keywords = entry.fit_arguments()
    target = LogProbTarget(log_prob, **keywords, dtype=tf.float64)
    pieces = []
    for part in np.array_split(draws, max(len(draws) // 500, 1)):
        z = tf.constant(part)
        with tf.GradientTape() as tape:
            tape.watch(z)
            total = tf.reduce_sum(target.log_prob(z[:, tf.newaxis]))
        pieces.append(tape.gradient(total, z).numpy())
    return np.concatenate(pieces)
