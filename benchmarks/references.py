"""Stored reference numbers, where each comes from, and the reader of posteriordb's draws."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import definitions
from benchmarks.definitions import Array

POSTERIORDB_VARIABLE = "POSTERIORDB"
DRAWS_VARIABLE = "BENCHMARK_DRAWS"  # a folder of long runs' draws, NAME.npy, which `reference NAME --draws` writes
STORE = Path(__file__).with_name("reference_moments.json")
EIGHT_SCHOOLS_FILE = Path("reference_posteriors/draws/draws/eight_schools-eight_schools_noncentered.json.zip")


class Moments(NamedTuple):
    """Mean and sd of each coordinate, [D] each."""

    mean: Array
    sd: Array


class Stored(NamedTuple):
    """A row of the store.

    Attributes:
        moments: [D] each.
        log_evidence: in nats, or None where the method does not know it.
    """

    moments: Moments
    log_evidence: float | None

    def require_log_evidence(self) -> float:
        """As a number; NaN where it is not known."""
        return float("nan") if self.log_evidence is None else self.log_evidence


def stored(name: str) -> Stored:
    """Moments that ``python -m benchmarks reference NAME`` has put into the store.

    Raises:
        DataError: it has not.
    """
    rows = json.loads(STORE.read_text(encoding="utf-8"))
    if name not in rows:
        from neural_vb.errors import DataError

        raise DataError(
            expected=f"reference moments of {name} in {STORE.name}",
            got=f"those of {', '.join(sorted(rows)) or 'nothing'}",
            fix=f"python -m benchmarks reference {name}, which takes its time, or leave the problem out",
        )
    row = rows[name]
    return Stored(Moments(np.array(row["mean"]), np.array(row["sd"])), row.get("log_evidence"))


# Importance sampling from a matched Student t, 2,000,000 draws, effective share 78 %, standard error .0008 sd:
# `python -m benchmarks reference logistic_25`, seed 20. The same command compares with 4 x 25,000 draws of NumPyro's
# NUTS, which agreed within .0094 sd in every mean and .7 % in every sd (its own Monte Carlo error).
LOGISTIC_MEAN: tuple[float, ...] = (
    0.54835, -0.76879, 0.14805, -0.79082, -0.35874, 0.043682, -0.54918, 0.3435, -0.5806, -1.6666, 0.15096, 0.0079967,
    -0.85773, 0.16176, -0.74029, 1.1681, -1.0636, 0.12589, -0.24857, 1.1926, 0.86916, -0.30021, -0.46522, 0.72443,
    0.029445,
)  # fmt: skip
LOGISTIC_SD: tuple[float, ...] = (
    0.4278, 0.29448, 0.39786, 0.28352, 0.23568, 0.39934, 0.22795, 0.27144, 0.20342, 0.49606, 0.24061, 0.20951, 0.30728,
    0.23455, 0.39788, 0.40632, 0.24118, 0.38979, 0.22832, 0.22189, 0.20913, 0.30538, 0.37603, 0.19329, 0.24367,
)  # fmt: skip
LOGISTIC_LOG_EVIDENCE = -209.4995
LOGISTIC_SEED = 20

# Sliced Wasserstein distance of two exact samples of 20,000 draws: mean and 99 % quantile over 200 pairs, from
# `python -m benchmarks floors`, seed 0. Exact samplers of regressions are slow: 30 pairs for logistic_25 and waveform,
# 20 for the other three. Of Gaussians with D = 100, 300 and 1,000 there are 100, 50 and 30.
FLOORS: dict[str, tuple[float, float]] = {
    "banana": (0.0133, 0.0222),
    "ring": (0.0101, 0.0201),
    "X": (0.0135, 0.0223),
    "two_modes": (0.0124, 0.0217),
    "four_modes": (0.0118, 0.0215),
    "funnel_10": (0.0184, 0.0259),
    "eight_schools": (0.0130, 0.0165),
    "avb_eight_schools": (0.0125, 0.0194),
    "correlated_gaussian_50": (0.0128, 0.0148),
    "logistic_25": (0.0123, 0.0141),
    "twisted_gaussian": (0.0132, 0.0224),
    "forty_gaussians": (0.0119, 0.0232),
    "student_t_2": (0.0146, 0.0251),
    "student_t_10": (0.0149, 0.0213),
    "gumbel_5": (0.0133, 0.0178),
    "correlated_gaussian_10": (0.0127, 0.0183),
    "correlated_gaussian_100": (0.0130, 0.0151),
    "correlated_gaussian_300": (0.0129, 0.0138),
    "correlated_gaussian_1000": (0.0127, 0.0135),
    "waveform": (0.0127, 0.0155),
    "ionosphere": (0.0127, 0.0149),
    "sonar": (0.0129, 0.0141),
    "german_credit": (0.0124, 0.0140),
}


def logistic() -> Moments:
    """Moments of logistic_25, [25] each."""
    return Moments(np.array(LOGISTIC_MEAN), np.array(LOGISTIC_SD))


def eight_schools() -> Moments:
    """posteriordb's moments of theta_trans [8], mu, log tau: [10] each."""
    constants = definitions.eight_schools_constants()
    return Moments(np.array(constants["UNCONSTRAINED_MEAN"]), np.array(constants["UNCONSTRAINED_SD"]))


def eight_schools_named() -> dict[str, Moments]:
    """posteriordb's moments of the constrained quantities theta [8], mu and tau."""
    constants = definitions.eight_schools_constants()
    return {
        name: Moments(np.atleast_1d(constants[f"{name.upper()}_MEAN"]), np.atleast_1d(constants[f"{name.upper()}_SD"]))
        for name in ("theta", "mu", "tau")
    }


def posteriordb_path(given: str | Path | None) -> Path | None:
    """The folder a user named by option or by the environment; None when neither is set."""
    text = given or os.environ.get(POSTERIORDB_VARIABLE)
    return Path(text).expanduser() if text else None


def require_posteriordb(given: str | Path | None) -> Path:
    """As ``posteriordb_path``, where there is no way without it.

    Raises:
        DataError: neither the option nor the environment names it.
    """
    path = posteriordb_path(given)
    if path is None:
        from neural_vb.errors import DataError

        raise DataError(
            expected="a checkout of posteriordb",
            got=f"neither --posteriordb nor the environment's {POSTERIORDB_VARIABLE}",
            fix="git clone https://github.com/stan-dev/posteriordb and name that folder",
        )
    return path


def eight_schools_draws(path: Path) -> Array:
    """posteriordb's reference draws in unconstrained coordinates theta_trans [8], mu, log tau: [10000, 10].

    Args:
        path: a checkout of posteriordb, or its folder ``posterior_database``.

    Raises:
        DataError: the file is not there.
    """
    candidates = [path / "posterior_database" / EIGHT_SCHOOLS_FILE, path / EIGHT_SCHOOLS_FILE]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        from neural_vb.errors import DataError

        raise DataError(
            expected="a checkout of posteriordb with eight schools' reference draws",
            got=f"no file {candidates[0]}",
            fix="git clone https://github.com/stan-dev/posteriordb and name that folder with --posteriordb, or leave "
            f"the option and {POSTERIORDB_VARIABLE} unset: moments are stored and exact draws are made without it",
        )
    with zipfile.ZipFile(file) as archive:
        chains = json.loads(archive.read(archive.namelist()[0]))
    columns = {name: np.concatenate([chain[name] for chain in chains]) for name in chains[0]}
    theta = np.stack([columns[f"theta[{j}]"] for j in range(1, 9)], axis=1)
    mu, tau = columns["mu"][:, None], columns["tau"][:, None]
    return np.concatenate([(theta - mu) / tau, mu, np.log(tau)], axis=1)


def eight_schools_theta(z: Array) -> dict[str, Array]:
    """Constrained quantities of unconstrained vectors [S, 10]: theta [S, 8], mu [S, 1], tau [S, 1]."""
    mu, tau = z[:, 8:9], np.exp(z[:, 9:10])
    return {"theta": mu + tau * z[:, :8], "mu": mu, "tau": tau}
