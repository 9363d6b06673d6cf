"""The same call gives the same bits, alone or in threads; memory and traces stay flat; results say what made them."""

from __future__ import annotations

import gc
import hashlib
import resource
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import fitting, warm_start
from neural_vb.avb import Parts
from neural_vb.configuration import TrainingConfig
from neural_vb.contrasts import MomentMatched
from neural_vb.critics import MLPCritic
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP
from neural_vb.samplers import ResidualSampler
from neural_vb.training import train

tfd = tfp.distributions
SMALL = MLP((8,), output_scale=0.01)
PLAIN = TrainingConfig(max_steps=20, min_steps=0, decay_steps=10, window=10, batch_size=16, jit_compile=False)
XLA = TrainingConfig(max_steps=20, min_steps=0, decay_steps=10, window=10, batch_size=16)


def banana(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - z[:, 0] ** 2) / 0.5) ** 2


def fit(seed: int, config: TrainingConfig = PLAIN, target: Any = banana, **options: Any) -> nvb.Posterior:
    options |= {"sampler": ResidualSampler(SMALL), "critic": MLPCritic(SMALL), "contrast": MomentMatched()}
    start = np.zeros(2)
    return nvb.fit(target, event_shape=[2], start=start, config=config, seed=seed, progress=False, **options)


def bits(posterior: nvb.Posterior) -> str:
    """A sum over draws, history and parameters."""
    arrays = [posterior.sample(500, seed=1), posterior.history.elbo, *tf.nest.flatten(posterior.parameters)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


@pytest.fixture
def few_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_start, "NUM_PARTICLES", 256)


def test_the_same_call_gives_the_same_bits_alone_and_among_threads(few_particles: None) -> None:
    alone = [bits(fit(seed)) for seed in (0, 1)]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda seed: bits(fit(seed)), (0, 1, 0))) == [*alone, alone[0]]


@pytest.mark.slow
def test_twenty_of_twenty_are_the_same_bits() -> None:
    assert len({bits(fit(7, XLA)) for _ in range(20)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, XLA], ids=["plain", "XLA"])
def test_eight_threads_give_the_bits_of_serial_fits(config: TrainingConfig) -> None:
    alone = [bits(fit(seed, config)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: bits(fit(seed, config)), range(8))) == alone


# Memory and traces.


def live() -> Counter[str]:
    """Objects of TensorFlow and of the package that are alive, by type."""
    gc.collect()
    names = (f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
    return Counter(name for name in names if name.startswith(("tensorflow.", "neural_vb.")))


def flat(work: Callable[[int], Any], first: int, then: int) -> None:
    """After the first rounds, nothing that is alive grows with the number of rounds."""
    for number in range(first):
        work(number)
    before = live()
    for number in range(then):
        work(first + number)
    grown = {name: count - before[name] for name, count in live().items() if count - before[name] >= then}
    assert grown == {}


def fit_and_draw(seed: int) -> None:
    """With TFP's bijectors in the contrast."""
    fit(seed).sample(10)


def fit_joint(seed: int) -> None:
    """With TFP's bijectors and custom gradients in the target."""
    model = {"scale": tfd.HalfNormal(1.0), "y": lambda scale: tfd.Normal(tf.zeros(3), scale)}
    joint = tfd.JointDistributionNamedAutoBatched(model)
    nvb.fit(joint, {"y": [0.1, 0.4, -0.2]}, critic=MLPCritic(SMALL), config=PLAIN, seed=seed, progress=False).sample(10)


@pytest.mark.parametrize("work", [pytest.param(fit_and_draw, marks=pytest.mark.slow), fit_joint])
def test_nothing_is_left_of_a_fit(few_particles: None, work: Callable[[int], None]) -> None:
    flat(work, 1, 2)


def resident() -> float:
    """Most memory that this process has held so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.slow
def test_two_hundred_fits_take_the_memory_of_fifty(few_particles: None) -> None:
    """Without XLA, whose executables TensorFlow keeps (https://github.com/tensorflow/tensorflow/issues/64170)."""
    held = []
    for seed in range(200):
        fit_and_draw(seed % 5)
        gc.collect()
        held.append(resident())
    print(f"MB after 1, 50, 100, 150, 200 fits: {[round(held[i]) for i in (0, 49, 99, 149, 199)]}")
    assert (held[199] - held[49]) / 150 < 0.2


@pytest.mark.slow
def test_a_million_steps_take_the_memory_of_a_hundred_thousand() -> None:
    held: dict[int, float] = {}
    config = TrainingConfig(
        max_steps=10**6, min_steps=10**6, decay_steps=1, window=10_000, batch_size=2, easy_divergence=0.0
    )
    parts = Parts(ResidualSampler(SMALL), MLPCritic(SMALL), MomentMatched(), nvb.ratio_losses.logistic)
    base = standard_base(2)
    start = {name: getattr(parts, name).initial_parameters(base, 0, 1) for name in ("sampler", "critic", "contrast")}
    trained = train(
        parts,
        lambda z, x: -0.5 * tf.reduce_sum(z**2, -1),
        start,
        config=config,
        seed=0,
        callbacks=[lambda step, metrics: bool(held.update({step: resident()}))],
    )
    print(f"MB after 1e5 and 1e6 steps: {held[10**5]:.0f}, {held[10**6]:.0f}")
    assert int(trained.state.step) > 10**6 - 1 and held[10**6] - held[10**5] < 0.02 * held[10**5]


def normal(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


def ring(z: tf.Tensor) -> tf.Tensor:
    return -4.0 * (tf.reduce_sum(z**2, -1) - 2.0) ** 2


def funnel(z: tf.Tensor) -> tf.Tensor:
    """With waves along v, which no warp meets to the last digit: it is trained."""
    v = z[:, :1]
    return -0.5 * tf.reduce_sum(v**2 / 9.0 + tf.cos(2.0 * v) + v + z[:, 1:] ** 2 * tf.exp(-v), -1)


@pytest.mark.parametrize(
    "log_prob", [normal, pytest.param(ring, marks=pytest.mark.slow), pytest.param(funnel, marks=pytest.mark.slow)]
)
def test_the_log_density_is_traced_five_times_at_most(
    few_particles: None, monkeypatch: pytest.MonkeyPatch, log_prob: Callable[[tf.Tensor], tf.Tensor]
) -> None:
    """In single precision; in double at many points and at one; for the warm start; and in the training step."""
    calls: list[list[int | None]] = []

    def counted(z: tf.Tensor) -> tf.Tensor:
        calls.append([*z.shape, z.dtype.size])
        return log_prob(z)

    monkeypatch.setattr(fitting, "TrainingConfig", lambda: PLAIN)
    monkeypatch.setattr(fitting, "EASY", 1e-6)  # no more is met than the normal one: moves and bends are tried, too
    nvb.fit(counted, event_shape=[2], progress=False)
    assert len(calls) == (4 if log_prob is normal else 5) and len({tuple(call) for call in calls}) == len(calls), calls


def test_a_fit_with_own_constants_traces_the_log_density_five_times(few_particles: None) -> None:
    calls: list[int] = []
    fit(0, target=lambda z: (calls.append(1), banana(z))[1])
    assert len(calls) == 5


# What made it.


def test_a_posterior_and_its_export_say_what_made_them(named_posterior: nvb.Posterior, tmp_path: Path) -> None:
    said = {"neural_vb", "tensorflow", "tensorflow_probability", "numpy", "python", "device", "jit_compile"}
    assert set(named_posterior.versions) == said | {"target_dtype"} and named_posterior.seed == 0
    attributes = named_posterior.to_arviz(10).posterior.attrs
    assert attributes["seed"] == 0 and attributes["training_status"] == named_posterior.status.reason
    for name, value in named_posterior.versions.items():
        assert value in (attributes.get(name), attributes.get(f"{name}_version")), name
