"""Posteriors that several test modules look at, each fitted once in a session; their targets have closed forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb

tfb, tfd = tfp.bijectors, tfp.distributions

X = np.linspace(-1.0, 1.0, 6).astype(np.float32)
DATA = {"y": X * 1.5 + np.float32([0.3, -0.2, 0.1, 0.4, -0.5, 0.2]), "measured": np.float32(0.8)}


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Figures of one test do not count for the next."""
    yield
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def short() -> nvb.TrainingConfig:
    """Enough training for posteriors that are almost Gaussian; without XLA, which takes longer to compile."""
    return nvb.TrainingConfig(max_steps=400, min_steps=0, decay_steps=300, window=100, jit_compile=False)


def named_log_prob(mu: tf.Tensor, tau: tf.Tensor) -> tf.Tensor:
    """mu ~ N(1, .5^2) and tau ~ Gamma(3, 2), without their normalising constants: log Z = NAMED_LOG_Z."""
    return -0.5 * ((mu - 1.0) / 0.5) ** 2 + 2.0 * tf.math.log(tau) - 2.0 * tau


NAMED_LOG_Z = float(np.log(0.5 * np.sqrt(2.0 * np.pi)) + np.log(2.0 / 2.0**3))


@pytest.fixture(scope="session")
def named_arguments() -> dict[str, Any]:
    """What ``fit`` and ``load`` are told about the named target."""
    return {
        "target": named_log_prob,
        "event_shape": {"mu": [], "tau": []},
        "bijector": {"tau": tfb.Exp()},
        "derived": lambda draws: {"ratio": draws["mu"] / draws["tau"]},
    }


@pytest.fixture(scope="session")
def named_log_z() -> float:
    """log Z of the named target, nats."""
    return NAMED_LOG_Z


@pytest.fixture(scope="session")
def named_posterior(named_arguments: dict[str, Any], short: nvb.TrainingConfig) -> nvb.Posterior:
    """The posterior of the named target."""
    return nvb.fit(**named_arguments, config=short, seed=0, progress=False)


@pytest.fixture(scope="session")
def make_joint() -> Callable[[np.ndarray], Any]:
    """x [n] -> a joint: y [n] ~ N(level + slope x, .5^2), measured ~ N(log height, .5^2), with conjugate priors."""

    def make(x: np.ndarray) -> Any:
        def model() -> Any:
            level = yield tfd.Normal(0.0, 2.0, name="level")
            slope = yield tfd.Normal(0.0, 1.0, name="slope")
            height = yield tfd.LogNormal(0.0, 1.0, name="height")
            yield tfd.Normal(level + slope * x, 0.5, name="y")
            yield tfd.Normal(tf.math.log(height), 0.5, name="measured")

        return tfd.JointDistributionCoroutineAutoBatched(model)

    return make


@pytest.fixture(scope="session")
def joint_data() -> dict[str, np.ndarray]:
    """Data of the joint."""
    return dict(DATA)


@pytest.fixture(scope="session")
def joint_moments() -> tuple[np.ndarray, np.ndarray]:
    """Mean [2] and covariance [2, 2] of (level, slope) given the data; log height is N(.64, .2)."""
    design = np.stack([np.ones_like(X), X], -1).astype(np.float64)
    covariance = np.linalg.inv(design.T @ design / 0.25 + np.diag([0.25, 1.0]))
    return covariance @ design.T @ DATA["y"] / 0.25, covariance


@pytest.fixture(scope="session")
def joint_posterior(make_joint: Callable, joint_data: dict, short: nvb.TrainingConfig) -> nvb.Posterior:
    """The posterior of the joint."""
    return nvb.fit(make_joint(X), joint_data, config=short, seed=1, progress=False)


def banana(z: tf.Tensor) -> tf.Tensor:
    """z_1 ~ N(0, 1), z_2 | z_1 ~ N(z_1^2, .5^2), up to a constant."""
    return -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - z[:, 0] ** 2) / 0.5) ** 2


@pytest.fixture(scope="session")
def banana_posterior(short: nvb.TrainingConfig) -> nvb.Posterior:
    """The posterior of an unnamed target."""
    return nvb.fit(banana, event_shape=[2], config=short, seed=2, progress=False)


@pytest.fixture(scope="session")
def gaussian_chains() -> Any:
    """Chains of a standard normal target in two dimensions, in coordinates of its own."""
    from neural_vb.diagnostics.chains import Chains
    from neural_vb.targets import LogProbTarget
    from neural_vb.whitening import WhitenedTarget, Whitening

    target = LogProbTarget(lambda z: -0.5 * tf.reduce_sum((z - 3.0) ** 2, -1) / 4.0, event_shape=[2])
    return Chains(WhitenedTarget(target, Whitening(np.full(2, 3.0), 2.0 * np.eye(2))), jit_compile=False)
