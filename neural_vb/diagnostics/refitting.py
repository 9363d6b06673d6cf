"""Fits of single data sets as one sampler of many, in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neural_vb._text import a_kind, listed
from neural_vb._types import Array
from neural_vb.errors import DataError, MissingDependencyError


def refits(
    fit: Callable[[dict[str, Array], int], Any], *, n_jobs: int | None = 1, backend: Any = None
) -> Callable[[dict[str, Array], int, int], dict[str, Array]]:
    """Make a sampler for `sbc` of a fit: one fit for each data set, run through ``joblib.Parallel``.

    Args:
        fit: ``(data, seed) -> posterior``, with data as name -> [*event] of one data set and a posterior whose method
            ``sample(num_draws, seed=...)`` returns a dict of name -> [S, *event]. Processes need to pickle it.
        n_jobs: fits at a time, -1 for one on each core; None takes it from ``joblib.parallel_config``. With 1, and no
            backend, joblib is not used.
        backend: joblib's, such as "loky" or "threading"; "dask" and "ray" spread the fits over machines once they are
            registered with joblib.

    Returns:
        ``(data, num_draws, seed) -> draws`` with data [B, *event] and draws [S, B, *event]. The draws do not depend on
        `n_jobs`. An error in a fit carries a note of the data set's index in its batch.

    Raises:
        MissingDependencyError: joblib is needed and is not installed.
        DataError: when sampling, if the draws of a fit are not a dict, or differ in names or shapes between data sets.

    Example:
        ``sbc(joint, refits(lambda data, seed: nvb.fit(joint, data, seed=seed, progress=False)), observed=["y"])``
    """
    if n_jobs != 1 or backend is not None:
        _joblib()

    def sample(data: dict[str, Array], num_draws: int, seed: int) -> dict[str, Array]:
        number = len(next(iter(data.values())))
        seeds = [
            [int(word) >> 1 for word in one.generate_state(2)] for one in np.random.SeedSequence(seed).spawn(number)
        ]
        jobs = [
            (fit, {name: values[index] for name, values in data.items()}, num_draws, seeds[index], index)
            for index in range(number)
        ]
        if n_jobs == 1 and backend is None:
            return _stacked([_fitted(*job) for job in jobs])
        joblib = _joblib()
        return _stacked(joblib.Parallel(n_jobs=n_jobs, backend=backend)(joblib.delayed(_fitted)(*job) for job in jobs))

    return sample


def _fitted(fit: Any, data: dict[str, Array], num_draws: int, seeds: list[int], index: int) -> dict[str, Array]:
    """Draws for one data set; what goes to another process and comes back is data only, never a posterior."""
    try:
        draws = fit(data, seeds[0]).sample(num_draws, seed=seeds[1])
    except Exception as error:
        error.add_note(f"in the fit of data set {index} of its batch")
        raise
    if not isinstance(draws, Mapping):
        raise DataError(
            expected="a posterior whose `sample` returns a dict of draws by name",
            got=a_kind(draws),
            fix="fit a joint distribution, or wrap the posterior so that its draws have the latent parts' names",
        )
    return {name: np.asarray(values) for name, values in draws.items()}


def _stacked(fits: list[dict[str, Array]]) -> dict[str, Array]:
    shapes = [{name: values.shape for name, values in draws.items()} for draws in fits]
    for index, other in enumerate(shapes):
        if other != shapes[0]:
            raise DataError(
                expected=f"draws of the same names and shapes from every fit: {listed(_described(shapes[0]))}",
                got=f"{listed(_described(other))} for data set {index} of its batch",
                fix="let `fit` return the same kind of posterior for every data set",
            )
    return {name: np.stack([draws[name] for draws in fits], axis=1) for name in fits[0]}


def _described(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    return [f"{name} {list(shape)}" for name, shape in shapes.items()]


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise MissingDependencyError(
            expected="joblib to run fits in parallel",
            got="no module named joblib",
            fix="pip install neural_vb[parallel], or leave n_jobs=1",
        ) from error
    return joblib
