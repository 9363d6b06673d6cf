"""The toy zoo: densities with exact samplers, and Gaussians of many sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from benchmarks import definitions, exact, shared_densities
from benchmarks.definitions import Array
from benchmarks.problem import Modes, Problem, constant_moments, zero
from benchmarks.references import Moments

GAUSSIAN_SIZES = (10, 50, 100, 300, 1_000)
STUDENT_SIZES = (2, 10)


def _ring_log_evidence() -> float:
    """log(pi * integral_0^inf exp(-4 (t - 2)^2) dt), with t = |z|^2."""
    return math.log(math.pi * math.sqrt(math.pi / 4.0) * 0.5 * math.erfc(-4.0))


def _mixture_moments(centres: Array, weights: Array) -> Callable[[], Moments]:
    mean = weights @ centres
    return constant_moments(mean, np.sqrt(1.0 + weights @ (centres - mean) ** 2))


def _nearest(centres: Array) -> Callable[[Array], Array]:
    return lambda z: ((z[:, None, :] - centres) ** 2).sum(axis=2).argmin(axis=1)


def _four_region_weights() -> Array:
    """Probabilities of the regions nearest to each of the four centres, where tails of one mode reach the next.

    In coordinates turned by 45 degrees the regions are quadrants and the centres lie at (+-3, +-3) / sqrt(2), so each
    axis keeps its sign with probability Phi(3 / sqrt(2)).
    """
    turned = np.sign(definitions.FOUR_CENTRES @ np.array([[1.0, 1.0], [1.0, -1.0]]))
    keep = 0.5 * math.erfc(-1.5)
    same = turned[:, None, :] == turned[None, :, :]
    return definitions.FOUR_WEIGHTS @ np.where(same, keep, 1.0 - keep).prod(axis=2)


def _forty_region_weights(num_points: int = 49, reach: float = 6.0) -> Array:
    """Probabilities of the regions nearest to each of the forty centres, some of which lie close to another.

    The midpoint rule on a square grid around each centre, which a unit normal density leaves with probability 1e-8.
    """
    side = np.linspace(-reach, reach, num_points)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    mass = np.exp(-0.5 * (grid**2).sum(axis=1))
    centres = definitions.FORTY_CENTRES
    weights = np.zeros(len(centres))
    for centre, weight in zip(centres, definitions.FORTY_WEIGHTS, strict=True):
        near = np.flatnonzero(((centres - centre) ** 2).sum(axis=1) < (2.0 * reach) ** 2 * 2.0)
        region = near[_nearest(centres[near])(centre + grid)]
        weights += weight * np.bincount(region, mass / mass.sum(), len(centres))
    return weights


def _gaussian(size: int) -> Problem:
    def moments() -> Moments:
        return Moments(np.zeros(size), np.sqrt(np.diag(definitions.correlated_covariance(size))))

    return Problem(
        f"correlated_gaussian_{size}",
        size,
        functools.partial(shared_densities.correlated_gaussian, size),
        moments,
        "closed form",
        exact=functools.partial(exact.correlated_gaussian, size=size),
        log_evidence=zero,
        panel="high-dimensional Gaussians",
    )


def _student_t(size: int) -> Problem:
    sd = math.sqrt(definitions.STUDENT_DOF / (definitions.STUDENT_DOF - 2.0))
    return Problem(
        f"student_t_{size}",
        size,
        functools.partial(shared_densities.student_t, size),
        constant_moments(np.zeros(size), np.full(size, sd)),
        "closed form",
        exact=functools.partial(exact.student_t, size=size),
        log_evidence=zero,
    )


TOY_ZOO: tuple[Problem, ...] = (
    Problem(
        "banana",
        2,
        "banana",
        constant_moments([0.0, 1.0], [1.0, math.sqrt(2.0 + definitions.BANANA_SD**2)]),
        "closed form",
        exact=exact.banana,
        log_evidence=zero,
    ),
    Problem(
        "ring",
        2,
        "ring",
        constant_moments([0.0, 0.0], [1.0, 1.0]),  # E|z|^2 = 2 up to the truncation at zero, which is below 1e-6
        "closed form",
        exact=exact.ring,
        log_evidence=_ring_log_evidence,
    ),
    Problem(
        "X",
        2,
        "cross",
        constant_moments([0.0, 0.0], [math.sqrt(2.0)] * 2),
        "closed form",
        exact=exact.cross,
        log_evidence=zero,
        modes=Modes(lambda z: (z[:, 0] * z[:, 1] > 0).astype(int), np.array([0.5, 0.5])),
        panel="multimodal",
    ),
    Problem(
        "two_modes",
        2,
        "two_modes",
        _mixture_moments(definitions.TWO_CENTRES, definitions.TWO_WEIGHTS),
        "closed form",
        exact=exact.two_modes,
        log_evidence=zero,
        modes=Modes(_nearest(definitions.TWO_CENTRES), definitions.TWO_WEIGHTS),
        panel="multimodal",
    ),
    Problem(
        "four_modes",
        2,
        "four_modes",
        _mixture_moments(definitions.FOUR_CENTRES, definitions.FOUR_WEIGHTS),
        "closed form",
        exact=exact.four_modes,
        log_evidence=zero,
        modes=Modes(_nearest(definitions.FOUR_CENTRES), _four_region_weights()),
        panel="multimodal",
    ),
    Problem(
        "funnel_10",
        10,
        "funnel",
        constant_moments([0.0] * 10, [definitions.FUNNEL_SD] + [math.exp(definitions.FUNNEL_SD**2 / 4.0)] * 9),
        "closed form",
        exact=exact.funnel,
        log_evidence=zero,
    ),
    Problem(
        "twisted_gaussian",
        2,
        shared_densities.twisted_gaussian,
        constant_moments(
            [0.0, 0.0],
            [definitions.TWIST_SD, math.sqrt(1.0 + 2.0 * definitions.TWIST**2 * definitions.TWIST_SD**4)],
        ),
        "closed form",
        exact=exact.twisted_gaussian,
        log_evidence=zero,
    ),
    Problem(
        "forty_gaussians",
        2,
        shared_densities.forty_gaussians,
        _mixture_moments(definitions.FORTY_CENTRES, definitions.FORTY_WEIGHTS),
        "closed form; weights of the modes' regions by a product rule",
        exact=exact.forty_gaussians,
        log_evidence=zero,
        modes=Modes(_nearest(definitions.FORTY_CENTRES), _forty_region_weights()),
        panel="multimodal",
    ),
    *(_student_t(size) for size in STUDENT_SIZES),
    Problem(
        "gumbel_5",
        5,
        shared_densities.gumbel,
        constant_moments(
            np.euler_gamma * definitions.GUMBEL_SCALES, math.pi / math.sqrt(6.0) * definitions.GUMBEL_SCALES
        ),
        "closed form",
        exact=exact.gumbel,
        log_evidence=zero,
    ),
    *(_gaussian(size) for size in GAUSSIAN_SIZES),
)
