"""Amortised posteriors on simulated tasks: ``python -m benchmarks.amortized [--tasks ...] [--out FILE]``.

For tasks with a Gaussian posterior: errors of means and sds against the closed form over many data sets. For others:
the classifier two-sample test against exact draws, .5 is best. For all: simulation-based calibration. The last two for
draws of the sampler alone, and for draws after 50 and 200 Hamiltonian transitions each.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import neural_vb as nvb
from benchmarks.classifier import c2st
from benchmarks.definitions import Array
from benchmarks.simulation_tasks import TASKS, Task

NUM_GAUSSIAN = 200
NUM_CLASSIFIER = 10
NUM_DRAWS = 4_000
TRANSITIONS = (0, 50, 200)  # of the draws that are calibrated and classified
NUM_PIECES = 5  # so many times as many draws for moments: the error of a mean of 20,000 is .007 sd
CLASSIFIER_DRAWS = 2_000
SHORT = nvb.TrainingConfig(max_steps=400, min_steps=400, decay_steps=400)
REFINEMENTS = {"c2st_refined_800_steps": SHORT, "c2st_refined": nvb.TrainingConfig()}


def as_matrix(task: Task, draws: Mapping[str, Any], lead: int) -> Array:
    """Draws by name, each with ``lead`` leading axes -> [..., D]."""
    arrays = [np.asarray(draws[name]) for name in task.latents]
    return np.concatenate([array.reshape(*array.shape[:lead], -1) for array in arrays], -1)


def gaussian_errors(task: Task, fitted: nvb.AmortizedPosterior, seed: int) -> dict[str, float]:
    """Largest error over coordinates of mean (in posterior sds) and sd (relative), averaged over data sets."""
    _, data = task.simulate(NUM_GAUSSIAN, seed)
    pieces = [as_matrix(task, fitted.sample(data, NUM_DRAWS, seed=seed + i), 2) for i in range(NUM_PIECES)]
    draws = np.concatenate(pieces)
    means, sds = [], []
    for index in range(NUM_GAUSSIAN):
        mean, sd = task.moments({name: value[index] for name, value in data.items()})[:2]  # type: ignore[misc]
        means.append(np.abs((draws[:, index].mean(0) - mean) / sd).max())
        sds.append(np.abs(draws[:, index].std(0) / sd - 1.0).max())
    return {"mean_error": float(np.mean(means)), "sd_error": float(np.mean(sds))}


def classifier_scores(task: Task, fitted: nvb.AmortizedPosterior, seed: int, refine: bool) -> dict[str, float]:
    """Mean accuracy of a classifier between exact draws and ours over data sets; after refinement too, if asked."""
    _, data = task.simulate(NUM_CLASSIFIER, seed)
    scores: dict[str, list[float]] = collections.defaultdict(list)
    for index in range(NUM_CLASSIFIER):
        one = {name: value[index] for name, value in data.items()}
        exact = as_matrix(task, task.reference(one, CLASSIFIER_DRAWS, seed + 1), 1)
        batch = {name: value[np.newaxis] for name, value in one.items()}
        candidates = {
            f"c2st_{num}": as_matrix(task, fitted.sample(batch, CLASSIFIER_DRAWS, seed + 2, num_transitions=num), 2)[
                :, 0
            ]
            for num in TRANSITIONS
        }
        if refine:
            start = fitted.condition(one).sample(1_000, seed=seed)
            for name, config in REFINEMENTS.items():
                refined = nvb.fit(task.joint(), one, start=start, config=config, seed=seed, progress=False)
                candidates[name] = as_matrix(task, refined.sample(CLASSIFIER_DRAWS, seed=seed + 2), 1)
        for name, ours in candidates.items():
            scores[name].append(c2st(exact, ours, seed=seed))
            print(f"{task.name}: data set {index + 1}, {name} {scores[name][-1]:.3f}", flush=True)
    return {name: float(np.mean(values)) for name, values in scores.items()}


def run(name: str, seed: int, refine: bool) -> dict[str, Any]:
    """Fit one task and measure it."""
    task = TASKS[name]
    started = time.perf_counter()
    summary = nvb.networks.MeanPooled() if name == "conjugate_normal" else None
    fitted = nvb.fit_amortized(task.joint(), observed=task.observed, summary=summary, seed=seed, progress=False)
    row: dict[str, Any] = {"task": name, "seed": seed, "fit_seconds": time.perf_counter() - started}
    print(f"{name}: fitted in {row['fit_seconds']:.0f} s", flush=True)
    if task.moments is not None:
        row |= gaussian_errors(task, fitted, seed + 1)
    else:
        row |= classifier_scores(task, fitted, seed + 1, refine)
    for num_transitions in TRANSITIONS:
        calibration = nvb.diagnostics.sbc(
            task.joint(),
            functools.partial(fitted.sample, num_transitions=num_transitions),
            observed=task.observed,
            num_simulations=500,
            seed=seed + 3,
            progress=False,
        )
        row[f"sbc_pvalue_{num_transitions}"] = calibration.pvalue
        row[f"sbc_pvalues_{num_transitions}"] = calibration.pvalues()
    return row


def main() -> None:
    """Run the tasks and print one line of results for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.amortized", description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--refine", action="store_true", help="also refine on each data set of the classifier test")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    rows = [run(name, seed, arguments.refine) for name in arguments.tasks for seed in arguments.seeds]
    for row in rows:
        numbers = {key: round(value, 4) for key, value in row.items() if isinstance(value, float)}
        print(f"{row['task']}, seed {row['seed']}: {numbers}")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1, default=float))


if __name__ == "__main__":
    main()
