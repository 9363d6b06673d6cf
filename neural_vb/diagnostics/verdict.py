"""All checks of one fit, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from neural_vb import _checks, psis
from neural_vb._types import Array, Parameters, Status, Tensor
from neural_vb.avb import contrast_density
from neural_vb.compilation import Compiled
from neural_vb.diagnostics import critic_checks, kernels
from neural_vb.diagnostics.calibration import Calibration
from neural_vb.diagnostics.chains import Chains, kernel
from neural_vb.diagnostics.evidence import NUM_DRAWS as NUM_WEIGHTS
from neural_vb.diagnostics.evidence import Evidence, evidence
from neural_vb.diagnostics.mode_probe import mode_probe
from neural_vb.diagnostics.polishing import BUDGET, NUM_CHAINS, Polishing, local_fit
from neural_vb.diagnostics.refinement import Refined, refine
from neural_vb.diagnostics.stein import stein_identities
from neural_vb.evaluation import Estimate, Evaluation
from neural_vb.mixtures import Stream, fold_in
from neural_vb.optima import NUM_PRIOR, dispersed_points
from neural_vb.verdicts import DEFAULT, FAIL, INCONCLUSIVE, NO_PROBLEM, NOT_ASSESSED, Finding, Tolerances, Verdict

NUM_DRAWS = 65_536
FARTHEST = 1e15  # whitened; curved coordinates beyond are rounding
NUM_JUDGED = 16_384  # draws of q, and of r, on which the critic is judged
SLICE = 8_192
KERNEL_SIZE = 10  # dimensions up to which kernel tests have power
SURE = 3.0  # standard errors
RANDOM = 0.01  # p-value below which ranks of simulated truths are not uniform


@dataclass(frozen=True, eq=False)
class Judged:
    """Draws of the contrast r, and what is known of it and of the critic.

    Attributes:
        judge: from u [S, D] to log r and T, [S] each.
        draws: of r, [S, D].
        log_r: at the draws, [S].
        logits: T at the draws, [S].
        offset: the target's, to be added to differences of log densities, nats.
    """

    judge: Callable[[Array], tuple[Array, Array]]
    draws: Array
    log_r: Array
    logits: Array
    offset: float

    @classmethod
    def of(cls, judge: Callable[[Array], tuple[Array, Array]], draws: Array, offset: float) -> Judged:
        """With log r and T at the draws."""
        return cls(judge, draws, *judge(draws), offset)

    def gaps(self, chains: Chains) -> Array:
        """log p - log r at the draws, [S], the target's offset taken off."""
        return chains.look(self.draws)[0] - self.log_r


@dataclass(frozen=True, eq=False)
class Subject:
    """A fit under examination. Only chains and draws are needed.

    Attributes:
        chains: of the target, compiled once for all subjects that share it.
        u: whitened draws [S, D] that nothing was fitted to, ``NUM_DRAWS`` of a fit.
        contrast: draws of r, ``NUM_JUDGED`` of a fit, and the critic; or None.
        elbo: the ELBO estimate, or None.
        status: how training ended, or None.
        points: [M, D], whitened points of a prior to begin chains at; may be empty.
    """

    chains: Chains
    u: Array
    contrast: Judged | None = None
    elbo: Estimate | None = None
    status: Status | None = None
    points: Array | None = None


def assess(
    subject: Subject,
    *,
    seed: int = 0,
    budget: int = BUDGET,
    tolerances: Tolerances = DEFAULT,
    calibration: Calibration | None = None,
) -> Verdict:
    """All checks; the same seed gives the same verdict.

    Args:
        subject: the fit.
        seed: of draws, transitions and resampling.
        budget: most Hamiltonian transitions of a chain.
        tolerances: errors that do not matter.
        calibration: of simulated truths, where it was measured.
    """
    u = subject.u
    polished = local_fit(subject.chains, u, tolerances=tolerances, budget=budget, seed=seed)
    points = np.zeros((0, u.shape[1])) if subject.points is None else subject.points
    rest = u[NUM_CHAINS:]
    log_p, _ = subject.chains.look(rest[:NUM_JUDGED])
    coverage = mode_probe(subject.chains, rest[:NUM_JUDGED], kernel(rest), points, log_p=log_p, seed=seed)
    local = _in_view_of(coverage, _with_kernels(polished, u, seed))
    return Verdict(
        _optimisation(subject, polished, tolerances, seed),
        local,
        coverage,
        coverage
        if coverage.state == NOT_ASSESSED
        else _elbo_trust(subject, polished, rest[:NUM_JUDGED], log_p, tolerances),
        _calibration(calibration),
        seed,
    )


def _in_view_of(coverage: Finding, local: Finding) -> Finding:
    """Draws that agree with the target around them are no good draws when there is more of it elsewhere."""
    if coverage.state == FAIL and local.state == NO_PROBLEM:
        text = "the draws agree with the target around them, but there is more of it elsewhere"
        return replace(local, state=INCONCLUSIVE, message=text)
    return local


def _with_kernels(polished: Polishing, u: Array, seed: int) -> Finding:
    """The p-values of kernel tests beside the evidence: they tell of any error, so that they decide nothing here."""
    if u.shape[1] > KERNEL_SIZE:
        return polished.finding
    num = kernels.LARGEST
    mean, scale = u.mean(0), np.linalg.cholesky(np.atleast_2d(np.cov(u.T)) + 1e-9 * np.eye(u.shape[1]))
    standard = lambda u: np.linalg.solve(scale, (u - mean).T).T  # noqa: E731
    stein = kernels.stein_discrepancy(standard(u[:num]), polished.scores[:num] @ scale, seed=seed)
    moved = kernels.mean_discrepancy(standard(polished.after), standard(u[NUM_CHAINS:]), seed=seed)
    told = {"kernel Stein p": stein.pvalue, "mean discrepancy p": moved.pvalue}
    return replace(polished.finding, evidence={**polished.finding.evidence, **told})


def _optimisation(subject: Subject, polished: Polishing, tolerances: Tolerances, seed: int) -> Finding:
    effects = stein_identities(polished.before, polished.scores, tolerances=tolerances, seed=seed)
    evidence: dict[str, Any] = {f"largest {kind} identity": value for kind, value in effects.largest().items()}
    seen = effects.smallest_effect()
    status = subject.status
    if status is not None:
        evidence["training"] = status.reason
    if status is not None and status.reason == "non_finite":
        return Finding(FAIL, status.message, evidence, seen, status.advice)
    if effects.state == FAIL:
        text = f"the mean score does not vanish where it should: {effects.names[effects.worst]}"
        return Finding(FAIL, text, evidence, seen, "more steps, or another start")
    if status is not None and status.reason not in ("met", "plateau"):
        return Finding(INCONCLUSIVE, status.message, evidence, seen, status.advice)
    if effects.state == NO_PROBLEM:
        return Finding(NO_PROBLEM, "Stein's identities hold, as at any stationary point, good or bad", evidence, seen)
    return Finding(INCONCLUSIVE, "scores scatter too much for Stein's identities to tell", evidence, seen)


def _elbo_trust(subject: Subject, polished: Polishing, own: Array, log_p: Array, tolerances: Tolerances) -> Finding:
    if subject.contrast is None or subject.elbo is None:
        return Finding(NOT_ASSESSED, "no contrast and critic")
    judged = subject.contrast
    gaps = judged.gaps(subject.chains)
    upper = polished.log_prob.astype(np.float64) - judged.judge(polished.after)[0] + judged.offset
    found = evidence(gaps + judged.offset, upper)
    log_r, logits = judged.judge(own)
    report = critic_checks.critic_report(own, judged.draws, logits, judged.logits, gaps=(log_p - log_r, gaps))
    excess = subject.elbo.value - found.value
    told = {
        "elbo": subject.elbo.value,
        "log evidence": found.value,
        "standard error": found.standard_error,
        "by weights alone": found.importance,
        "k-hat": found.pareto_k,
        "lower bound": found.lower_bound,
        "upper bound, with refined draws": float(upper[np.isfinite(upper)].mean())
        if np.isfinite(upper).any()
        else np.inf,
        "critic accuracy": report.accuracy,
        "critic slope": report.slope,
        "critic calibration error": report.calibration_error,
        "refit gains": report.gain,
        "refit changes the ELBO by": report.elbo_change,
    }
    error = report.elbo_change_error
    seen = {"ELBO, nats": tolerances.elbo + SURE * error}
    if abs(report.elbo_change) - SURE * error > tolerances.elbo:
        text = f"a refitted critic moves the ELBO by {report.elbo_change:+.2g} nats"
        return Finding(FAIL, text, told, seen, "do not use the ELBO; posterior.log_evidence() has a k-hat")
    spread = float(np.hypot(found.standard_error, subject.elbo.standard_error))
    if found.usable and excess - SURE * spread > tolerances.elbo:
        text = f"the ELBO estimate is {excess:.2g} nats above the evidence, which it may not be"
        return Finding(FAIL, text, told, seen, "do not use the ELBO; use posterior.log_evidence()")
    if not found.usable:
        text = "the contrast's weights have a heavy tail, or miss what refined draws see"
        at_rest = subject.status is not None and subject.status.is_of_start
        advice = "config=TrainingConfig() trains from here" if at_rest else "a larger contrast"
        advice = f"posterior.log_evidence() draws four times as many; {advice}; posterior.refine() needs no contrast"
        return Finding(INCONCLUSIVE, text, told, seen, advice)
    if abs(report.elbo_change) + SURE * error < tolerances.elbo and excess + SURE * spread < tolerances.elbo:
        return Finding(NO_PROBLEM, "a refitted critic says the same, and the evidence is not exceeded", told, seen)
    return Finding(INCONCLUSIVE, "errors of the estimate may be larger than the tolerance", told, seen)


def _calibration(calibration: Calibration | None) -> Finding:
    if calibration is None:
        advice = "nvb.diagnostics.sbc ranks simulated truths, for joint distributions; pass what it returns"
        return Finding(NOT_ASSESSED, "one data set says nothing of calibration", advice=advice)
    told = {"p-value": calibration.pvalue, "simulations": calibration.num_simulations}
    if calibration.pvalue < RANDOM:
        return Finding(FAIL, "ranks of simulated truths are not uniform", told)
    return Finding(NO_PROBLEM, "ranks of simulated truths look uniform", told)


@dataclass(frozen=True, eq=False)
class Examiner:
    """The checks of a trained sampler; what they compile is kept.

    Attributes:
        evaluation: the sampler and its target.
        status: how its training ended.
        jit_compile: use XLA.
    """

    evaluation: Evaluation
    status: Status
    jit_compile: bool = True

    @cached_property
    def chains(self) -> Chains:
        """Transitions under the target."""
        return Chains(self.evaluation.target, self.jit_compile)

    def draw(self, num_draws: int, seed: int) -> Array:
        """Whitened draws u [S, D] that nothing was fitted to; of a seed, the same for all checks."""
        z = np.concatenate([piece.numpy() for piece in self.evaluation.draws(num_draws, seed, Stream.CHECK)])
        return self.evaluation.target.whitening.to_u(z)

    def contrast(self, num_draws: int, seed: int) -> Judged:
        """Draws of r, judged."""
        seeds = (fold_in([seed, index], Stream.WEIGHTS) for index in range(-(-num_draws // SLICE)))
        u = np.concatenate([self._contrast(self.evaluation.parameters, key).numpy() for key in seeds])[:num_draws]
        return Judged.of(self.evaluation.judge, u, self.evaluation.target.offset)

    @cached_property
    def _contrast(self) -> Compiled:
        def sample(parameters: Parameters, seed: Tensor) -> Tensor:
            return contrast_density(self.evaluation.parts, parameters, None).sample(SLICE, seed)[:, 0]

        return Compiled(sample, jit_compile=False)

    def points(self, num: int, seed: int) -> Array:
        """Draws of the prior where there is one, and points at many scales, whitened: [num, D].

        Those that curved coordinates do not reach are left out for others.
        """
        target = self.evaluation.target
        z = dispersed_points(target.event_size, num, seed=seed)
        prior = getattr(target.target, "starting_points", None)
        if prior is not None:
            wanted = len(z[::2])
            seeds = np.random.SeedSequence(seed).generate_state(-(-wanted // NUM_PRIOR)) >> 1
            z[::2] = np.concatenate([prior(NUM_PRIOR, int(key)) for key in seeds])[:wanted]
        u = target.whitening.to_u(z)
        reached = u[(np.abs(u) < FARTHEST).all(1)]
        return np.resize(reached, u.shape) if len(reached) else np.zeros_like(u)

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Let the transitions be traced and compiled meanwhile: XLA, most of it, needs no Python."""
        if self.chains.is_compiled:
            yield
            return
        with ThreadPoolExecutor(1) as beside:
            first = beside.submit(self.chains.look, np.zeros([1, self.chains.target.event_size]))
            yield
        first.result()

    def check(self, elbo: Callable[[], Estimate], seed: int, budget: int, calibration: Any = None) -> Verdict:
        """The verdict."""
        _checks.instance("calibration", calibration, Calibration, "nvb.diagnostics.sbc(...)")
        with self._compiling():
            u, judged, bound = self.draw(NUM_DRAWS, seed), self.contrast(NUM_JUDGED, seed), elbo()
            points = self.points(512, seed)
            psis.load()
        subject = Subject(self.chains, u, judged, bound, self.status, points)
        return assess(subject, seed=seed, budget=budget, calibration=calibration)

    def log_evidence(self, seed: int) -> Evidence:
        """log Z by the contrast's weights and refined draws."""
        with self._compiling():
            u, judged = self.draw(2 * NUM_CHAINS, seed), self.contrast(NUM_WEIGHTS, seed)
            psis.load()
        ends = refine(self.chains, u[:NUM_CHAINS], u[NUM_CHAINS:], seed=seed).u
        refined = self.chains.look(ends)[0] - judged.judge(ends)[0]
        return evidence(judged.gaps(self.chains) + judged.offset, refined + judged.offset)

    def refine(self, num_draws: int, num_transitions: int | None, seed: int) -> tuple[Array, Refined]:
        """Corrected draws z [S, D], and how they came about."""
        with self._compiling():
            u = self.draw(num_draws + NUM_CHAINS, seed)
        found = refine(self.chains, u[:num_draws], u[num_draws:], num_transitions=num_transitions, seed=seed)
        return self.evaluation.target.whitening.to_z(found.u).numpy(), found
