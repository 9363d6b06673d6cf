"""Tasks for amortised posteriors: joints to simulate from, with exact posterior draws for every data set.

Two have Gaussian posteriors in closed form, three are from the benchmark of simulation-based inference (Lueckmann,
Boelts, Greenberg, Goncalves and Macke 2021, arXiv 2101.04653), whose likelihoods are closed forms too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks import simulation_references as references
from benchmarks.definitions import Array
from benchmarks.moon import Moon
from benchmarks.references import Moments
from neural_vb import joints

tfd = tfp.distributions

Data = Mapping[str, Array]
ReferenceSampler = Callable[[Data, int, np.random.Generator], dict[str, Array]]


@dataclass(frozen=True, eq=False)
class Task:
    """A joint p(latents, data) and its exact posterior.

    Attributes:
        name: key of the registry.
        joint: builds the TFP joint, AutoBatched, in float32.
        latents: names of the parts to infer.
        shapes: event shapes of the parts that are data, by name.
        sampler: (data, S, rng) -> exact posterior draws by name, [S, *event].
        moments: data -> exact mean and sd of the latents, [D] each, or None where there is no closed form.
    """

    name: str
    joint: Callable[[], Any]
    latents: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    sampler: ReferenceSampler
    moments: Callable[[Data], Moments] | None = None

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the parts that are data."""
        return tuple(self.shapes)

    def simulate(self, n: int, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Latents and data from the joint: two dicts of name -> [n, *event]."""
        parts = joints.sample_parts(self.joint(), n, seed, known={})
        arrays = {name: part.numpy() for name, part in parts.items()}
        return {name: arrays[name] for name in self.latents}, {name: arrays[name] for name in self.observed}

    def reference(self, data: Data, num_draws: int, seed: int) -> dict[str, Array]:
        """Independent draws from the exact posterior of one data set.

        Args:
            data: observed name -> [*event].
            num_draws: S.
            seed: of the draws.

        Returns:
            Latent name -> [S, *event].

        Raises:
            DataError: a part is missing or misshapen, or the data are next to impossible under the joint.
        """
        return self.sampler(self._checked(data), num_draws, np.random.default_rng(seed))

    def _checked(self, data: Data) -> dict[str, Array]:
        came = {name: np.shape(data[name]) for name in self.observed if name in data}
        if came != dict(self.shapes):
            from neural_vb.errors import DataError

            raise DataError(
                expected=f"one data set of the task {self.name!r}, shapes {dict(self.shapes)}",
                got=f"shapes {came}",
                fix="pick one row of what `simulate` returns",
            )
        return {name: np.asarray(data[name]) for name in self.observed}


def conjugate_normal(num_rows: int = 10) -> Task:
    """mu ~ N(0, 2^2), y_i ~ N(mu, 1), i = 1 ... n."""

    def joint() -> Any:
        @tfd.JointDistributionCoroutineAutoBatched
        def model():
            mu = yield tfd.Normal(0.0, references.NORMAL_PRIOR_SD, name="mu")
            yield tfd.Sample(tfd.Normal(mu, references.NORMAL_NOISE_SD), num_rows, name="y")

        return model

    def sampler(data: Data, num_draws: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"mu": references.conjugate_normal(data).sample(num_draws, rng)[:, 0]}

    def moments(data: Data) -> Moments:
        return references.conjugate_normal(data).moments()

    return Task("conjugate_normal", joint, ("mu",), {"y": (num_rows,)}, sampler, moments)


def linear_regression(num_rows: int = 20) -> Task:
    """b ~ N(0, I), y ~ N(X b, .5^2 I) with three coefficients and a fixed, correlated design X [n, 3]."""
    design = references.regression_design(num_rows).astype(np.float32)

    def joint() -> Any:
        @tfd.JointDistributionCoroutineAutoBatched
        def model():
            b = yield tfd.Sample(tfd.Normal(0.0, 1.0), references.REGRESSION_SIZE, name="coefficients")
            yield tfd.Normal(tf.linalg.matvec(design, b), references.REGRESSION_NOISE_SD, name="y")

        return model

    def sampler(data: Data, num_draws: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"coefficients": references.linear_regression(data).sample(num_draws, rng)}

    def moments(data: Data) -> Moments:
        return references.linear_regression(data).moments()

    return Task("linear_regression", joint, ("coefficients",), {"y": (num_rows,)}, sampler, moments)


def gaussian_mixture() -> Task:
    """z ~ U(-10, 10)^2, x ~ .5 N(z, I) + .5 N(z, .01 I): a wide and a narrow Gaussian around one mean."""

    def joint() -> Any:
        sds = tf.constant(references.MIXTURE_SDS)[:, tf.newaxis] * tf.ones(2)

        @tfd.JointDistributionCoroutineAutoBatched
        def model():
            z = yield _box(references.MIXTURE_BOUND, 2)
            components = tfd.MultivariateNormalDiag(z + tf.zeros([2, 2]), sds)
            yield tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), components, name="x")

        return model

    return Task("gaussian_mixture", joint, ("z",), {"x": (2,)}, references.gaussian_mixture)


def two_moons(edge: float = references.MOONS_EDGE) -> Task:
    """z ~ U(-1, 1)^2, x ~ Moon around (.25, 0) + (-|z1 + z2|, z2 - z1) / sqrt(2): a posterior of two crescents.

    The ends of the moon are slopes and not cliffs, see ``Moon``; ``edge=0`` is the original task (Greenberg,
    Nonnenmacher and Macke 2019, arXiv 1905.07488), to draw exact posteriors of, but not to follow a gradient on.
    """

    def joint() -> Any:
        @tfd.JointDistributionCoroutineAutoBatched
        def model():
            z = yield _box(references.MOONS_BOUND, 2)
            shift = tf.stack([-tf.abs(z[0] + z[1]), z[1] - z[0]]) / math.sqrt(2.0)
            yield Moon(tf.constant([references.MOONS_OFFSET, 0.0]) + shift, edge=edge, name="x")

        return model

    return Task("two_moons", joint, ("z",), {"x": (2,)}, functools.partial(references.two_moons, edge=edge))


def slcp(floor: float = references.SLCP_FLOOR) -> Task:
    """z ~ U(-3, 3)^5, four x ~ N((z1, z2), S): "simple likelihood, complex posterior" with four symmetric modes.

    S has the variances z3^4 and z4^4, to which the floor is added, and the correlation tanh(z5). Without the floor the
    log density falls to -inf as z3 or z4 goes to 0, in the middle of the prior, where every start is. The default, an
    sd of 1e-4, changes a posterior only where |z3| or |z4| was below .03 or so, and the exact draws know of it.
    (Papamakarios, Sterratt and Murray 2019, arXiv 1805.07226. Implementations differ in the floor.)
    """

    def joint() -> Any:
        @tfd.JointDistributionCoroutineAutoBatched
        def model():
            z = yield _box(references.SLCP_BOUND, 5)
            first, second, rho = z[2] ** 2, z[3] ** 2, tf.tanh(z[4])
            variance = first**2 + floor
            slope = rho * first * second / variance
            # What is left of the second variance given the first, written without a difference of large terms.
            rest = floor + second**2 * ((1.0 - rho**2) + rho**2 * floor / variance)
            diagonal = tf.sqrt(variance)
            rows = [tf.stack([diagonal, 0.0]), tf.stack([slope * diagonal, tf.sqrt(rest)])]
            points = tfd.MultivariateNormalTriL(z[:2], tf.stack(rows))
            yield tfd.Sample(points, references.SLCP_ROWS, name="x")

        return model

    return Task(
        "slcp", joint, ("z",), {"x": (references.SLCP_ROWS, 2)}, functools.partial(references.slcp, floor=floor)
    )


def _box(bound: float, size: int) -> Any:
    return tfd.Sample(tfd.Uniform(-bound, bound), size, name="z")


TASKS: dict[str, Task] = {
    task.name: task for task in (conjugate_normal(), linear_regression(), gaussian_mixture(), two_moons(), slcp())
}
