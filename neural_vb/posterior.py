"""The fitted posterior: a face over sampling, evaluation, export, pictures and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks, arguments, checkpoints, drawing, exporting, inference_data, plots
from neural_vb._text import counted
from neural_vb._types import Array, Derived, Draws, Parameters, Status, Target, Tensor
from neural_vb.avb import Parts
from neural_vb.compilation import quiet_tracing
from neural_vb.diagnostics import refinement, summaries
from neural_vb.diagnostics.disagreement import Disagreement, disagreement
from neural_vb.diagnostics.evidence import Evidence
from neural_vb.diagnostics.polishing import BUDGET
from neural_vb.diagnostics.verdict import Examiner
from neural_vb.draws import UNNAMED
from neural_vb.errors import DataError, UnsupportedError
from neural_vb.evaluation import Estimate, Evaluation
from neural_vb.history import History
from neural_vb.verdicts import Verdict
from neural_vb.whitening import WhitenedTarget

SUMMARY_DRAWS = 32_768
PLOT_DRAWS = 40_000  # of fewer, contours are ragged


@dataclass(frozen=True, eq=False)
class Posterior:
    """An implicit posterior q(z) ≈ p(z | data): a network that turns noise into independent draws.

    Independence says nothing about accuracy: the draws are independent whatever q is, which is why no R-hat and no
    effective sample size are shown.

    Attributes:
        parts: sampler, critic, contrast and ratio loss.
        parameters: theirs, averaged over the last training steps.
        whitened: the target in whitened coordinates.
        history: metrics of the training run, one row per window.
        status: how training ended, with advice.
        seed: of the fit.
        derived: draws -> named derived quantities, or None.
        notes: what the checks before training had to say.
        versions: library versions, device and compilation mode of the fit.
        restarts: all samplers of a fit with ``num_restarts``, this one among them; else empty.
        verdict: the last one that :meth:`check` came to, or None; it is not saved.
    """

    parts: Parts
    parameters: Parameters = field(repr=False)
    whitened: WhitenedTarget = field(repr=False)
    history: History = field(repr=False)
    status: Status
    seed: int
    derived: Derived | None = None
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    restarts: tuple[Posterior, ...] = field(default=(), repr=False)
    verdict: Verdict | None = field(default=None, repr=False)

    @property
    def target(self) -> Target:
        """The target log density in unconstrained space."""
        return self.whitened.target

    @cached_property
    def _evaluation(self) -> Evaluation:
        return Evaluation(self.parts, self.parameters, self.whitened)

    @quiet_tracing()
    def sample(self, num_draws: int = 1_000, *, seed: int = 0) -> Draws:
        """Independent draws from q, in the user's names and on their constrained supports.

        Args:
            num_draws: S.
            seed: of the noise. The first S of more draws with the same seed are the same draws.

        Returns:
            An array [S, *event_shape], or a dict of arrays [S, *shape] by name; derived quantities included. Derived
            quantities of an unnamed event come beside it, which is then named ``z``.

        Raises:
            ConfigurationError: when `num_draws` or `seed` is not a whole number in range.
        """
        chunks = [self._constrain(z) for z in self._chunks(num_draws, seed)]
        return tf.nest.map_structure(lambda *pieces: np.concatenate(pieces), *chunks)

    def sample_unconstrained(self, num_draws: int = 1_000, *, seed: int = 0) -> Array:
        """The same draws in unconstrained space: z [S, D], float64."""
        return np.concatenate([z.numpy() for z in self._chunks(num_draws, seed)])

    def _chunks(self, num_draws: int, seed: int) -> list[Tensor] | Any:
        _checks.whole("num_draws", num_draws)
        _checks.seed(seed)
        return self._evaluation.draws(int(num_draws), int(seed))

    def _constrain(self, z: Tensor) -> Draws:
        draws = tf.nest.map_structure(lambda part: np.asarray(part), self._evaluation.constrain(z))
        if self.derived is None:
            return draws
        extra = self.derived(draws)
        named = dict(draws) if isinstance(draws, Mapping) else {UNNAMED: draws}
        arguments.check_derived(extra, named, z.shape[0])
        return named | {name: np.asarray(value) for name, value in extra.items()}

    @quiet_tracing()
    def log_prob(self, draws: Draws) -> Array:
        """The target's unnormalised log density of draws, in unconstrained space, Jacobian included: [S], nats.

        It is -inf where the bijector's inverse is not finite, as it is off most supports.
        """
        return self._evaluation.log_p(self._unconstrain(draws))

    @quiet_tracing()
    def log_prob_estimate(self, draws: Draws) -> Array:
        """Estimate of log q of draws, in unconstrained space, Jacobian included: log r + T, [S], nats.

        It is normalised as far as the critic is at its optimum log q - log r.
        """
        return self._evaluation.log_q(self._unconstrain(draws))

    def _unconstrain(self, draws: Draws) -> Array:
        unconstrain = getattr(self.target, "unconstrain", None)
        if unconstrain is None:
            raise UnsupportedError(
                expected="a target that can turn draws back into unconstrained vectors",
                got=f"{type(self.target).__name__} without `unconstrain`",
                fix="add a method unconstrain(draws) -> z [..., D] to it",
            )
        if isinstance(draws, Mapping) and self.derived is not None:
            known = getattr(self.target, "event_shape", draws)
            named = isinstance(known, Mapping)
            draws = {name: draws[name] for name in known if name in draws} if named else draws.get(UNNAMED, draws)
        return unconstrain(draws).numpy()

    @cached_property
    def elbo(self) -> Estimate:
        """E_q[log p - log r - T] on fresh draws, nats. An estimate, no bound: it may exceed log Z."""
        with quiet_tracing():
            return self._evaluation.elbo(SUMMARY_DRAWS, self.seed)

    @quiet_tracing()
    def disagreement(self, num_draws: int = SUMMARY_DRAWS, *, seed: int = 0) -> Disagreement:
        """How far the restarts of a fit are apart, in unconstrained space.

        Args:
            num_draws: S, of each.
            seed: of the draws.

        Raises:
            DataError: the fit had no restarts.
        """
        if not self.restarts:
            raise DataError(
                expected="restarts to compare", got="a posterior of one fit", fix="fit with num_restarts=2 or more"
            )
        seeds = [_checks.later(_checks.seed(seed), i) for i in range(len(self.restarts))]
        draws = [one.sample_unconstrained(num_draws, seed=s) for one, s in zip(self.restarts, seeds, strict=True)]
        return disagreement(draws, [one.elbo.value for one in self.restarts])

    @cached_property
    def _examiner(self) -> Examiner:
        return Examiner(self._evaluation, self.status, self.versions.get("jit_compile", "True") == "True")

    @quiet_tracing()
    def check(self, seed: int = 0, *, budget: int = BUDGET, calibration: Any = None) -> Verdict:
        """Look for what may be wrong with the draws; tables, exports and figures show what came of it from then on.

        Args:
            seed: of the checks. The same seed gives the same verdict.
            budget: most Hamiltonian transitions of a chain; 8,192 chains begin with 4 where it is no less.
            calibration: what ``diagnostics.sbc`` returned, if it was run.

        Raises:
            ConfigurationError: ``seed`` or ``budget`` is not a whole number in range.
        """
        budget = _checks.whole("budget", budget)
        verdict = self._examiner.check(lambda: self.elbo, _checks.seed(seed), budget, calibration)
        object.__setattr__(self, "verdict", verdict)
        return verdict

    @quiet_tracing()
    def log_evidence(self, seed: int = 0) -> Evidence:
        """log Z, nats, by bridge sampling between the contrast and refined draws, with standard error and k-hat.

        Where it is not ``usable`` it is not to be relied upon; modes that the sampler misses are missing here too.
        """
        return self._examiner.log_evidence(_checks.seed(seed))

    @quiet_tracing()
    def refine(
        self, num_transitions: int | None = None, *, seed: int = 0, num_draws: int = 8_192
    ) -> refinement.RefinedDraws:
        """Draws that each begin a Hamiltonian chain, which leaves the exact posterior as it is.

        What is left of the sampler's errors fades with the transitions, but for the weights of modes that chains do
        not cross between.

        Args:
            num_transitions: of each chain, 2 to 16 gradients each; when None, four times as many as let chains
                forget where they began, at most 64.
            seed: of draws and transitions.
            num_draws: S.

        Raises:
            ConfigurationError: one of them is not a whole number in range.
        """
        if num_transitions is not None:
            num_transitions = _checks.whole("num_transitions", num_transitions)
        seed = _checks.seed(seed)
        z, found = self._examiner.refine(_checks.whole("num_draws", num_draws), num_transitions, seed)
        return refinement.RefinedDraws(
            self._constrain(tf.constant(z)),
            z,
            found.num_transitions,
            found.acceptance,
            float(np.abs(found.drift).max()),
            float(found.nested_r_hat.max()),
            seed,
            self._refined_to_arviz,
        )

    def summary(
        self, num_draws: int = SUMMARY_DRAWS, *, seed: int = 0, quantiles: Sequence[float] | None = None
    ) -> Any:
        """Table of means, standard deviations and quantiles of every scalar, derived quantities included."""
        draws = self.sample(num_draws, seed=seed)
        return summaries.summary(draws) if quantiles is None else summaries.summary(draws, quantiles=quantiles)

    def __repr__(self) -> str:
        size, steps = self.target.event_size, self.history.step[-1] if len(self.history.step) else 0
        return f"<Posterior of {counted(size, 'dimension')}: seed {self.seed}, {self.status.reason} at step {steps}>"

    def __str__(self) -> str:
        known = "a bound, up to its noise" if self.status.is_of_start else "estimate, not a bound; ± of draws alone"
        lines = [
            f"Implicit posterior of {counted(self.target.event_size, 'unconstrained dimension')}",
            f"Training: {self.status.message} (step {self.history.step[-1] if len(self.history.step) else 0})",
            f"ELBO: {self.elbo} nats ({known})",
            *(f"Note: {note}" for note in self.notes),
            *([f"Advice: {self.status.advice}"] if self.status.advice else []),
            *([f"Best of {len(self.restarts)} by ELBO; {self.disagreement()}"] if self.restarts else []),
            "Accuracy: not assessed; run posterior.check()" if self.verdict is None else str(self.verdict),
            "",
            str(self.summary()),
        ]
        return "\n".join(lines)

    @quiet_tracing()
    def predict(self, num_draws: int = 1_000, *, seed: int = 0, joint: Any = None) -> dict[str, Array]:
        """Posterior predictive draws of the observed parts; with ``joint``, of a changed model, for new inputs.

        Args:
            num_draws: S.
            seed: of draws and data.
            joint: a TFP joint with the same latent parts, for example with other regressors.

        Returns:
            Dict of name -> [S, *event].

        Raises:
            UnsupportedError: the posterior is not that of a joint distribution.
        """
        target = exporting.joint_of(self.target, "posterior predictive draws")
        latents = exporting.latents(target, self.sample(num_draws, seed=seed))
        found = target.posterior_predictive(latents, _checks.later(seed, 1), joint=joint)
        return {name: np.asarray(value) for name, value in found.items()}

    @quiet_tracing()
    def to_arviz(
        self,
        num_draws: int = 4_000,
        *,
        seed: int = 0,
        coords: Mapping[str, Any] | None = None,
        dims: Mapping[str, Sequence[str] | str] | None = None,
        log_likelihood: bool = False,
        posterior_predictive: bool = False,
        prior: bool = False,
        constant_data: Mapping[str, Any] | None = None,
    ) -> Any:
        """Draws as ArviZ data: ``InferenceData`` with ArviZ 0.x, an xarray ``DataTree`` with ArviZ 1.x.

        Groups: ``posterior``; ``unconstrained_posterior``; ``sample_stats`` with ``lp`` (log p), ``log_q`` (estimated)
        and ``log_weight`` (lp - log_q), all in unconstrained space; ``observed_data``; and those asked for.

        Args:
            num_draws: S, exported as one chain of independent draws; of restarts, a chain each.
            seed: of the draws.
            coords: dimension -> labels.
            dims: variable -> names of its dimensions.
            log_likelihood: add the pointwise log likelihood (joint distributions only).
            posterior_predictive: add replicated data (joint distributions only).
            prior: add ``prior`` and ``prior_predictive`` (joint distributions only).
            constant_data: name -> array, such as regressors, to keep beside the draws.

        Raises:
            UnsupportedError: a group is asked for that the target cannot give.
            DataError, ConfigurationError: `coords`, `dims` or data do not fit.
        """
        wanted = {"log_likelihood": log_likelihood, "posterior_predictive": posterior_predictive}
        exporting.check(prior=prior, constant_data=constant_data, **wanted)
        chains = self.restarts or (self,)
        seeds = [_checks.later(_checks.seed(seed), i) for i in range(max(len(chains), 3))]
        each = [one._sampled(num_draws, s, **wanted) for one, s in zip(chains, seeds, strict=False)]
        model = exporting.of_model(
            self.target, prior_draws=num_draws if prior else 0, seed=seeds[2], constant_data=constant_data
        )
        return _exported(each, model, coords=coords, dims=dims, attributes=self._attributes())

    def _sampled(self, num_draws: int, seed: int, **wanted: bool) -> dict[str, Any]:
        """Groups of what goes with draws, [S, ...]."""
        z = self.sample_unconstrained(num_draws, seed=seed)
        log_p, log_q = self._evaluation.log_p(z), self._evaluation.log_q(z)
        stats = {"lp": log_p, "log_q": log_q, "log_weight": log_p - log_q}
        draws = self._constrain(tf.constant(z))
        return {"sample_stats": stats, **exporting.with_draws(self.target, draws, z, seed=seed, **wanted)}

    @quiet_tracing()
    def _refined_to_arviz(
        self,
        refined: refinement.RefinedDraws,
        attributes: Mapping[str, Any],
        prior: bool,
        constant_data: Mapping[str, Any] | None,
        coords: Any,
        dims: Any,
        **wanted: bool,
    ) -> Any:
        exporting.check(prior=prior, constant_data=constant_data, **wanted)
        z, seed = refined.unconstrained, refined.seed
        groups = exporting.with_draws(self.target, refined.draws, z, seed=seed, **wanted)
        groups["sample_stats"] = {"lp": self._evaluation.log_p(z)}
        model = exporting.of_model(
            self.target, prior_draws=len(z) if prior else 0, seed=_checks.later(seed, 2), constant_data=constant_data
        )
        # A verdict is about the sampler's own draws.
        own = {name: value for name, value in self._attributes().items() if not name.startswith("verdict")}
        return _exported([groups], model, coords=coords, dims=dims, attributes={**own, **attributes})

    def _attributes(self) -> dict[str, Any]:
        return {
            "sampling_method": "implicit posterior by adversarial variational Bayes; draws are independent",
            "elbo": self.elbo.value,
            "elbo_standard_error": self.elbo.standard_error,
            "training_status": self.status.reason,
            "training_steps": int(self.history.step[-1]) if len(self.history.step) else 0,
            "seed": self.seed,
            "restarts": len(self.restarts),
            **(self.verdict.attributes() if self.verdict else {}),
            **self.versions,
        }

    def plot_training(self) -> Any:
        """ELBO, critic accuracy and gradient norms over training; a matplotlib Figure."""
        return drawing.add_note(plots.plot_training(self.history), self._said())

    def plot_pair(self, num_draws: int = PLOT_DRAWS, *, seed: int = 0, **options: Any) -> Any:
        """Pairs of variables; options of :func:`neural_vb.plots.plot_pair`. A matplotlib Figure."""
        return drawing.add_note(plots.plot_pair(self.sample(num_draws, seed=seed), **options), self._said())

    def plot_marginals(self, num_draws: int = PLOT_DRAWS, *, seed: int = 0, **options: Any) -> Any:
        """Marginal densities; options of :func:`neural_vb.plots.plot_marginals`. A matplotlib Figure."""
        return drawing.add_note(plots.plot_marginals(self.sample(num_draws, seed=seed), **options), self._said())

    def _said(self) -> str:
        return "" if self.verdict is None else f"checks: {self.verdict.line}"

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the posterior to a folder, whole or not at all. The target itself is not written.

        Args:
            path: of the folder: manifest.json, and a safetensors file. Of several restarts only this one is written;
                save each of ``restarts`` to keep them.
            overwrite: replace what was saved there before; at every moment the folder holds one or the other.

        Raises:
            ConfigurationError: something exists there already.
            StorageError: the disk is full or failed; what was there before is as it was.
        """
        record = checkpoints.Record(
            self.parts, self.parameters, self.whitened, self.history, self.status, self.seed, self.notes, self.versions
        )
        checkpoints.save(record, path, derived=self.derived, overwrite=overwrite)


def _exported(each: Sequence[Mapping[str, Any]], model: Mapping[str, Any], **options: Any) -> Any:
    """Groups of draws, of one chain each, and those of their model as ArviZ data."""
    draws: dict[str, Any] = tf.nest.map_structure(lambda *parts: np.stack(parts), *each)
    return inference_data.to_arviz({**draws, **model}, chains=True, **options)
