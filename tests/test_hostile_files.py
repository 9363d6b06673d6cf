"""Thousands of damaged and hostile files: each is refused by name, or is what was saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hostile_files import HONEST, SEALED, mutant

import neural_vb as nvb
from neural_vb._types import Status
from neural_vb.avb import Parts
from neural_vb.history import History
from neural_vb.mixtures import standard_base
from neural_vb.networks import MLP
from neural_vb.targets import as_target
from neural_vb.whitening import WhitenedTarget, Whitening

LIMIT = 10.0  # seconds of the processor, so that other work on the machine does not count


def normal(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, -1)


def small_posterior() -> nvb.Posterior:
    """Of parts that were not trained: a file is a file."""
    network = MLP((4,), output_scale=0.5)
    parts = Parts(
        nvb.samplers.ResidualSampler(network),
        nvb.critics.MLPCritic(network),
        nvb.contrasts.Flow(2, network),
        nvb.ratio_losses.logistic,
    )
    base = standard_base(2)
    named = {name: getattr(parts, name).initial_parameters(base, 0, 0) for name in ("sampler", "critic", "contrast")}
    coordinates = Whitening(np.ones(2), np.array([[1.0, 0.0], [0.5, 2.0]]))
    return nvb.Posterior(
        parts,
        tf.nest.map_structure(tf.constant, named),
        WhitenedTarget(as_target(normal, None, event_shape=[2]), coordinates, 0.5, 9.0),
        History.untrained(0.0, 0.1, {"a": 1.0}),
        Status("plateau", "it rested", ""),
        seed=0,
        versions={"a": "b"},
    )


def numbers(posterior: nvb.Posterior) -> list[Any]:
    return [
        *tf.nest.flatten(posterior.parameters),
        *vars(posterior.history).values(),
        posterior.status,
        posterior.seed,
        posterior.parts,
        posterior.notes,
        posterior.versions,
        posterior.whitened.offset,
        posterior.whitened.max_score,
        posterior.whitened.whitening.shift,
        posterior.whitened.whitening.scale_tril,
    ]


def same(a: nvb.Posterior, b: nvb.Posterior) -> bool:
    return all(
        np.array_equal(x, y) if isinstance(x, np.ndarray | tf.Tensor) else repr(x) == repr(y)
        for x, y in zip(numbers(a), numbers(b), strict=True)
    )


@pytest.fixture
def load(tmp_path: Path) -> Callable[[int], str]:
    """Number of a mutant -> what came of it."""
    posterior = small_posterior()
    posterior.save(tmp_path / "original")
    assert same(nvb.load(tmp_path / "original", normal, event_shape=[2]), posterior)

    def load(number: int) -> str:
        kind = mutant(tmp_path / "original", tmp_path / "mutant", number)
        start = time.process_time()
        try:
            found = nvb.load(tmp_path / "mutant", normal, event_shape=[2])
        except nvb.NeuralVBError as error:
            outcome = type(error).__name__
            assert error.fix and len(str(error)) < 2_000, number
        else:
            outcome = "same" if same(found, posterior) else "other"
            # Whoever seals a file may say other numbers in it, if they are numbers that can be drawn from.
            assert outcome == "same" or kind in SEALED, (number, kind.__name__)
            if outcome == "other":
                draws = found.parts.sampler(found.parameters["sampler"], 3, None, [0, 0]).z
                assert draws.shape == [3, 1, 2] and found.status.message is not None and str(found.seed), number
        assert time.process_time() - start < LIMIT, (number, kind.__name__)
        return outcome

    return load


def test_damaged_and_hostile_files_are_refused_by_name(load: Callable[[int], str]) -> None:
    outcomes = [load(number) for number in range(360)]
    assert outcomes.count("FileFormatError") > 300
    assert set(outcomes) <= {"FileFormatError", "ConfigurationError", "same", "other"}


@pytest.mark.slow
def test_ten_thousand_damaged_and_hostile_files(load: Callable[[int], str]) -> None:
    outcomes = [load(number) for number in range(1_000, 11_080)]
    print({name: outcomes.count(name) for name in sorted(set(outcomes))}, len(HONEST + SEALED), "kinds")
    assert set(outcomes) <= {"FileFormatError", "ConfigurationError", "same", "other"}
