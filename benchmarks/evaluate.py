"""Metrics of a run: draws against a problem's reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import metrics, sample_metrics
from benchmarks.definitions import Array
from benchmarks.problem import Problem
from benchmarks.references import Moments

EXACT_SEED = 10_000


def evaluate(
    problem: Problem, draw_sets: Sequence[Array], *, elbo: float | None = None, reference_draws: Array | None = None
) -> dict[str, float]:
    """Mean over draw sets of every metric the problem allows.

    Args:
        problem: with its reference.
        draw_sets: unconstrained draws, [S, D] each.
        elbo: of the fit in nats; compared with the log evidence where that is known.
        reference_draws: [S', D] of an outside source; adds ``sw1_reference``, its floor, and the errors
            of second moments and correlations.

    Returns:
        Metrics by name; errors in reference sds, ``elbo_error`` in nats. A quantity with draws that are not finite has
        the value NaN. What is told beside its noise floor has that under its name with ``_floor``.
    """
    rows = [_one_set(problem, z, EXACT_SEED + i, reference_draws) for i, z in enumerate(draw_sets)]
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    found.update({f"{name}_worst_set": float(np.max([row[name] for row in rows])) for name in rows[0]})
    if reference_draws is not None:
        mean, quantile = metrics.halves_floor(reference_draws, len(draw_sets[0]), problem.moments().sd)
        found |= {"sw1_reference_floor": mean, "sw1_reference_floor_99": quantile}
    if elbo is not None and problem.log_evidence is not None:
        found["elbo_error"] = abs(elbo - problem.log_evidence())
    return found


def mode_shares(problem: Problem, draw_sets: Sequence[Array]) -> list[float] | None:
    """Share of all draws in each mode, or None for a problem without modes."""
    if problem.modes is None:
        return None
    return metrics.mode_weights(problem.modes.assign(np.concatenate(draw_sets)), len(problem.modes.weights)).tolist()


def _one_set(problem: Problem, z: Array, seed: int, reference_draws: Array | None) -> dict[str, float]:
    moments = problem.moments()
    found = _moment_errors(z, moments, "")
    found["log_sd_ratio"] = metrics.max_log_sd_ratio(z, moments.sd)
    if problem.exact_moments is not None:
        found |= _moment_errors(z, problem.exact_moments(), "_exact")
    if problem.named is not None and problem.named_moments is not None:
        named, references = problem.named(z), problem.named_moments()
        draws = np.concatenate([named[name] for name in references], axis=1)
        joined = Moments(*(np.concatenate([reference[i] for reference in references.values()]) for i in (0, 1)))
        found |= _moment_errors(draws, joined, "_named")
    exact = problem.exact(len(z), np.random.default_rng(seed)) if problem.exact is not None else None
    if exact is not None:
        found["sw1"] = metrics.sliced_wasserstein(z, exact, moments.sd)
        found |= sample_metrics.with_floors(z, exact, moments.sd)
    if reference_draws is not None:
        if problem.exact is None:  # another part of the reference for each set of draws
            order = np.random.default_rng(seed).permutation(len(reference_draws))[: 2 * sample_metrics.SUBSAMPLE]
            found |= sample_metrics.with_floors(z, reference_draws[order], moments.sd)
        found["sw1_reference"] = metrics.sliced_wasserstein(z, reference_draws, moments.sd)
        found["second_moment_error"] = metrics.max_second_moment_error(z, reference_draws)
        found["correlation_error"] = metrics.max_correlation_error(z, reference_draws)
    if problem.modes is not None:
        assignment = problem.modes.assign(z)
        found["mode_error"] = metrics.max_mode_weight_error(assignment, problem.modes.weights)
        found["mode_tv"] = metrics.mode_total_variation(assignment, problem.modes.weights)
        if exact is not None:
            found["mode_tv_floor"] = metrics.mode_total_variation(problem.modes.assign(exact), problem.modes.weights)
    return found


def _moment_errors(draws: Array, moments: Moments, suffix: str) -> dict[str, float]:
    return {
        f"mean_error{suffix}": metrics.max_mean_error(draws, moments.mean, moments.sd),
        f"rms_mean_error{suffix}": metrics.rms_mean_error(draws, moments.mean, moments.sd),
        f"sd_error{suffix}": metrics.max_sd_error(draws, moments.sd),
    }
