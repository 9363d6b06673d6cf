"""Samplers whose errors are known, without training: exact and broken ones of targets in 2, 10 and 50 dimensions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.definitions import Array

Rng = np.random.Generator
Sampler = Callable[[int, Rng], Array]
SIZES = (2, 10, 50)
DOF = 5.0  # of the Student t's
SHAPE = 2.0  # of the gamma variables whose logs are skew
FUNNEL_SD = 1.5
RHO = 0.5
STRONG = 0.8


@dataclass(frozen=True, eq=False)
class Member:
    """A target, exact draws from it, and a sampler that claims to be that.

    Attributes:
        name: of the defect, or ``exact``.
        target: name in ``DENSITIES``.
        size: D.
        exact: (n, rng) -> [n, D].
        sampler: the same, for the claim.
        modal: whether the defect is one of modes.
    """

    name: str
    target: str
    size: int
    exact: Sampler
    sampler: Sampler
    modal: bool = False


def equicorrelated(size: int, rho: float) -> Array:
    """Unit variances and one correlation, [D, D]."""
    return rho * np.ones((size, size)) + (1.0 - rho) * np.eye(size)


def normal(size: int, rho: float, *, mean: float = 0.0, sd: float = 1.0) -> Sampler:
    """Equicorrelated Gaussian; ``mean`` is the first coordinate's, ``sd`` is all coordinates'."""
    factor = np.linalg.cholesky(equicorrelated(size, rho))
    shift = np.zeros(size)
    shift[0] = mean
    return lambda n, rng: shift + sd * rng.standard_normal((n, size)) @ factor.T


def student(size: int) -> Sampler:
    """Independent t variables of ``DOF`` degrees of freedom."""
    return lambda n, rng: rng.standard_t(DOF, (n, size))


def skew(size: int) -> Sampler:
    """Independent logs of gamma variables."""
    return lambda n, rng: np.log(rng.gamma(SHAPE, size=(n, size)))


def matched(exact: Sampler, size: int) -> Sampler:
    """The Gaussian with its mean and covariance."""
    draws = exact(200_000, np.random.default_rng(99))
    mean, factor = draws.mean(0), np.linalg.cholesky(np.cov(draws.T))
    return lambda n, rng: mean + rng.standard_normal((n, size)) @ factor.T


def modes(size: int, distance: float, weight: float) -> Sampler:
    """Two unit Gaussians at +- distance / 2 in the first coordinate; ``weight`` is that of the first."""

    def sample(n: int, rng: Rng) -> Array:
        draws = rng.standard_normal((n, size))
        draws[:, 0] += 0.5 * distance * np.where(rng.random(n) < weight, -1.0, 1.0)
        return draws

    return sample


def funnel(size: int, *, mean: float = 0.0, sd: float = FUNNEL_SD) -> Sampler:
    """v ~ N(mean, sd^2), the others given v ~ N(0, e^v)."""

    def sample(n: int, rng: Rng) -> Array:
        draws = rng.standard_normal((n, size))
        draws[:, 0] = mean + sd * draws[:, 0]
        draws[:, 1:] *= np.exp(0.5 * draws[:, :1])
        return draws

    return sample


@functools.cache
def broken(size: int) -> list[Member]:
    """One of each defect."""
    plain = normal(size, RHO)
    strong = normal(size, STRONG)
    marginal = 1.0 / np.sqrt(np.diag(np.linalg.inv(equicorrelated(size, STRONG))))
    narrow = np.ones(size)
    narrow[-1] = 0.5
    return [
        Member("mean shifted .2 sd", "normal", size, plain, normal(size, RHO, mean=0.2)),
        Member("sd × .9", "normal", size, plain, normal(size, RHO, sd=0.9)),
        Member("sd × 1.15", "normal", size, plain, normal(size, RHO, sd=1.15)),
        Member("sd × .82", "normal", size, plain, normal(size, RHO, sd=np.exp(-0.2))),
        Member("correlations off by .2", "normal", size, plain, normal(size, RHO - 0.2)),
        Member("mean-field on ρ = .8", "strong", size, strong, lambda n, g: marginal * g.standard_normal((n, size))),
        Member("Gaussian for heavy tails", "student", size, student(size), matched(student(size), size)),
        Member("Gaussian for skewness", "skew", size, skew(size), matched(skew(size), size)),
        Member("stopped early", "normal", size, plain, normal(size, 0.5 * RHO, mean=0.3, sd=1.2)),
        Member("collapsed in one coordinate", "normal", size, plain, lambda n, g: narrow * plain(n, g)),
        Member("weights 90/10, 4 sd", "modes 4", size, modes(size, 4, 0.5), modes(size, 4, 0.9), True),
        Member("weights 90/10, 8 sd", "modes 8", size, modes(size, 8, 0.5), modes(size, 8, 0.9), True),
        Member("funnel, neck missing", "funnel", size, funnel(size), funnel(size, mean=0.3, sd=0.75 * FUNNEL_SD)),
        Member("mode missing, 4 sd", "modes 4", size, modes(size, 4, 0.5), modes(size, 4, 1.0), True),
        Member("mode missing, 8 sd", "modes 8", size, modes(size, 8, 0.5), modes(size, 8, 1.0), True),
    ]


def exact(size: int) -> list[Member]:
    """Samplers without an error."""
    samplers = {"normal": normal(size, RHO), "student": student(size), "skew": skew(size)}
    samplers |= {"modes 4": modes(size, 4, 0.5)}
    return [Member("exact", name, size, sampler, sampler) for name, sampler in samplers.items()]


def graded(size: int, kind: str, effect: float) -> Member:
    """An error of one kind and of a size given, in the tolerances' units: a mean, all sds or all correlations."""
    plain = normal(size, RHO)
    claims = {
        "mean": lambda: normal(size, RHO, mean=effect),
        "log_sd": lambda: normal(size, RHO, sd=float(np.exp(effect))),
        "correlation": lambda: normal(size, RHO - effect),
    }
    return Member(f"{kind} off by {effect:g}", "normal", size, plain, claims[kind]())


CRITICS: dict[str, Callable[[Array], Array]] = {
    "critic at its optimum": lambda t: t,
    "saturated critic": lambda t: 0.3 * np.tanh(t / 0.3),
    "overconfident critic": lambda t: 4.0 * t,
    "critic of signs only": lambda t: 6.0 * np.sign(t),
}  # what is left of T* = log q - log r


@dataclass(frozen=True, eq=False)
class Shifted:
    """A contrast that is the exact Gaussian moved by one unit of Mahalanobis distance: KL(q || r) is half a nat.

    Attributes:
        size: D.
    """

    size: int

    @property
    def _factor(self) -> Array:
        return np.linalg.cholesky(equicorrelated(self.size, RHO))

    def sample(self, n: int, rng: Rng) -> Array:
        """[n, D]."""
        return self._factor[:, 0] + normal(self.size, RHO)(n, rng)

    def log_prob(self, u: Array) -> Array:
        """log r [n] at u [n, D]."""
        noise = np.linalg.solve(self._factor, (u - self._factor[:, 0]).T)
        scale = np.log(np.diag(self._factor)).sum() + 0.5 * self.size * np.log(2.0 * np.pi)
        return -0.5 * (noise**2).sum(0) - scale

    def optimum(self, u: Array) -> Array:
        """T* [n], where q is exact."""
        return 0.5 - u[:, 0]


def density(name: str, size: int) -> Callable:
    """TensorFlow log density [n, D] -> [n] of a target by name."""
    import tensorflow as tf

    if name in ("normal", "strong"):
        precision = np.linalg.inv(equicorrelated(size, RHO if name == "normal" else STRONG)).astype(np.float32)
        return lambda z: -0.5 * tf.reduce_sum(z * tf.matmul(z, precision), -1)
    if name == "standard":
        return lambda z: -0.5 * tf.reduce_sum(z**2, -1)
    if name == "student":
        return lambda z: -0.5 * (DOF + 1.0) * tf.reduce_sum(tf.math.log1p(z**2 / DOF), -1)
    if name == "skew":
        return lambda z: tf.reduce_sum(SHAPE * z - tf.exp(z), -1)
    if name == "funnel":
        return lambda z: (
            -0.5 * (z[:, 0] / FUNNEL_SD) ** 2
            - 0.5 * (size - 1) * z[:, 0]
            - 0.5 * tf.exp(-z[:, 0]) * tf.reduce_sum(z[:, 1:] ** 2, -1)
        )
    half = 0.5 * float(name.split()[1])
    return lambda z: (
        -0.5 * tf.reduce_sum(z[:, 1:] ** 2, -1)
        + tf.reduce_logsumexp(tf.stack([-0.5 * (z[:, 0] - half) ** 2, -0.5 * (z[:, 0] + half) ** 2]), 0)
    )
