"""The MNIST benchmark without its data: budgets, tables, and what it says when nothing is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import results, vae_mnist
from benchmarks.image_data import StaticMnist


@pytest.mark.parametrize("steps", [1_000, 10_000, 12_345, 98_765])
def test_all_steps_of_a_budget_are_used(steps: int) -> None:
    config = vae_mnist.config(steps)
    assert abs(config.max_steps + config.decay_steps - steps) <= config.window
    assert config.min_steps == config.max_steps  # no plateau ends it before


def course(step: int, seconds: float, accuracy: float) -> dict[str, float]:
    return {
        "step": step, "seconds": seconds, **dict.fromkeys(vae_mnist.COURSE, -1e5 / step), "critic_accuracy": accuracy
    }  # fmt: skip


def result(model: str, ais: float, latent_size: int = 8) -> dict[str, Any]:
    numbers = {name: [value, 0.1] for name, value in {"elbo": -90.0, "iwae": -88.0, "ais": ais}.items()}
    return {
        "schema": results.SCHEMA, "model": model, "latent_size": latent_size, "minutes": 20.0, "seconds": 1_200.0,
        "curve": [course(500, 10.0, 0.6), course(1_000, 1_200.0, 0.7)],
        "reconstruction": [70.0, 0.1], **numbers,
    }  # fmt: skip


def test_the_table_has_the_best_first() -> None:
    runs = [result("gaussian", -87.0), result("avb_flow", -85.5), result("iaf", -80.0, 32)]
    lines = vae_mnist.table(runs).splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == [
        "AVB, flow contrast, noise basis", "Gaussian VAE", "inverse autoregressive flow",
    ]  # fmt: skip
    assert lines[0] == "| 8 | 20 | AVB, flow contrast, noise basis | 1,000 | -90.00 | -88.00 | -85.50 | 70.00 | 0.70 |"
    assert len(vae_mnist.curves(runs).axes) == 2


def test_a_report_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert vae_mnist.main(["--report", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"no results in {tmp_path}\n"
    with pytest.raises(SystemExit):
        vae_mnist.main(["--out", str(tmp_path)])
    assert "--data is needed: the folder of the files binarized_mnist_*.amat" in capsys.readouterr().err


def test_every_model_has_a_label() -> None:
    assert set(vae_mnist.models()) == set(vae_mnist.LABELS)


@pytest.mark.slow
def test_a_fit_of_a_small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_mnist, "HIDDEN", (8, 8))
    rng = np.random.default_rng(0)
    data = StaticMnist(*[(rng.random((n, 784)) < 0.2).astype(np.uint8) for n in (300, 50, 20)])
    vae, course = vae_mnist.fit("gaussian", 2, data, seconds=2.0, seed=0)
    assert (
        vae.steps == course["curve"][-1]["step"] >= 500
    )  # a slow machine stops after the first window beyond the budget
    assert course["milliseconds_per_step"] > 0.0 and course["seconds"] >= course["curve"][-1]["seconds"]
    found = vae_mnist.measure(vae, data, num_images=6, num_temperatures=5, seed=1)
    assert found["elbo"][0] < found["iwae"][0] + 1.0 and np.isfinite(found["ais"][0])
    assert set(vae_mnist.picture(vae, data)) == {"samples", "interpolations"}
