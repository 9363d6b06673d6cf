"""One sampler for every data set of a joint distribution: its draws, the posteriors it conditions to, and its file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks, archives, checkpoints, polish, psis
from neural_vb._text import counted
from neural_vb._types import Array, Critic, Parameters, RatioLoss, Sampler, Status, Tensor
from neural_vb.avb import Parts
from neural_vb.binding import bind
from neural_vb.compilation import Compiled, quiet_tracing, slices
from neural_vb.conditional_flows import ConditionalFlow
from neural_vb.errors import FileFormatError, ImportanceWarning
from neural_vb.families import JointFamily
from neural_vb.features import Features
from neural_vb.history import History
from neural_vb.mixtures import Stream, fold_in
from neural_vb.posterior import Posterior
from neural_vb.whitening import WhitenedTarget, Whitening

KIND = "amortised posterior"
POOL = 4  # draws of r for each that is kept
MIN_POOL = 1_000
TOLERATED = 0.05  # of the data sets: k-hat has noise of its own
CHAINS_AT_ONCE = 65_536
NUM_TUNING = 128  # draws of each data set that set coordinates and step size of the chains


@dataclass(frozen=True, eq=False)
class AmortizedPosterior:
    """q(z | x) ≈ p(z | x) for every data set x of the shape given: draws for a new one cost one pass of a network.

    Attributes:
        family: the joint distribution, as a target for every data set.
        parts: sampler, critic, contrast and ratio loss; all take x.
        parameters: theirs, averaged over the last training steps.
        whitening: of the unconstrained latent vector, by the prior.
        max_score: bound on the gradient of one draw, for refinement.
        history: metrics of the adversarial steps.
        log_density: mean log r(z | x) of each window of the maximum-likelihood steps before, nats.
        status: how training ended.
        seed: of the fit.
        versions: library versions, device and mode.
        notes: what a reader should know of the fit.
    """

    family: JointFamily
    parts: Parts
    parameters: Parameters = field(repr=False)
    whitening: Whitening = field(repr=False)
    max_score: float
    history: History = field(repr=False)
    log_density: Array = field(repr=False)
    status: Status
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @quiet_tracing()
    def sample(
        self, data: Mapping[str, Any], num_draws: int = 1_000, seed: int = 0, *, num_transitions: int = 0
    ) -> dict[str, Array]:
        """Draws for a batch of data sets: name -> [B, *event] in, name -> [num_draws, B, *event] out.

        With ``num_transitions`` they come from the contrast r(z | x) instead, four times as many, are resampled by
        their importance weights p / r, and begin a Hamiltonian chain each, which leaves the exact posterior as it is.
        What is left of the errors of r fades with the transitions, each of which takes about nine gradients of the
        joint for each draw.

        Args:
            data: name -> [B, *event].
            num_draws: S.
            seed: of the noise.
            num_transitions: of each draw.

        Warns:
            ImportanceWarning: k-hat above .7 for more than a twentieth of the data sets: too few draws of r where p is;
                weights of modes may be off.

        Raises:
            DataError: the data do not have the joint's shapes, or are not finite.
            ConfigurationError: ``num_draws``, ``seed`` or ``num_transitions`` is not a whole number in range.
        """
        num_draws, seed = _checks.whole("num_draws", num_draws), _checks.seed(seed)
        num_transitions = _checks.whole("num_transitions", num_transitions, 0)
        x = self.family.flatten(data)
        u = self._polished(x, num_draws, seed, num_transitions) if num_transitions else self._draw_u(x, num_draws, seed)
        draws = self._constrain(tf.reshape(self.whitening.to_z(u), [-1, self.family.event_size]))
        return {name: np.asarray(v).reshape(num_draws, len(x), *v.shape[1:]) for name, v in draws.items()}

    def _draw_u(self, x: Array, num_draws: int, seed: int) -> Tensor:
        return self._draw(self.parameters["sampler"], tf.constant(x), tf.constant(num_draws), tf.constant([seed, 0]))

    @cached_property
    def _draw(self) -> Compiled:
        def draw(parameters: Parameters, x: Tensor, num_draws: Tensor, seed: Tensor) -> Tensor:
            return self.parts.sampler(parameters, num_draws, self.parts.features(x), seed).z

        return Compiled(draw, jit_compile=False)  # sizes vary from call to call

    def _polished(self, x: Array, num_draws: int, seed: int, num_transitions: int) -> Tensor:
        """Draws [S, B, D] of r, resampled, at the ends of their chains; a slice of data sets at a time."""
        width = min(len(x), max(CHAINS_AT_ONCE // (num_draws + NUM_TUNING), 1))
        found, tails = [], []
        for number, index in enumerate(slices(len(x), width)):
            rows = tf.constant(x[index])
            key = fold_in([seed, number], Stream.POLISH)
            tuning, _ = self._resampled(rows, NUM_TUNING, fold_in([seed, number], Stream.TUNING))
            u, pareto_k = self._resampled(rows, num_draws, fold_in([seed, number], Stream.CONTRAST))
            start = polish.Coordinates(*map(tf.constant, polish.coordinates(tuning)))
            run = self._transitions
            found.append(polish.polish(run, u, tuning, start, rows, seed=key, num_transitions=num_transitions).u)
            tails.append(pareto_k)
        _warn(np.concatenate(tails)[: len(x)])
        return tf.concat(found, 1)[:, : len(x)]

    def _resampled(self, x: Tensor, num_draws: int, key: Tensor) -> tuple[Tensor, Array]:
        """Draws [S, B, D] of r, resampled by their weights, and k-hat of these [B]."""
        pool_size = max(POOL * num_draws, MIN_POOL)  # smoothing needs a tail
        pool, log_ratios = self._weigh(self.parameters["contrast"], x, tf.constant(pool_size), key)
        chosen, pareto_k = psis.resample(
            log_ratios.numpy(), num_draws, np.random.default_rng(key.numpy().view(np.uint32))
        )
        return tf.constant(np.take_along_axis(pool.numpy(), chosen[..., np.newaxis], 0)), pareto_k

    @cached_property
    def _weigh(self) -> Compiled:
        def weigh(contrast: Parameters, x: Tensor, num: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
            density = self.parts.contrast(contrast, self.parts.features(x))
            u = density.sample(num, seed)
            return u, self._whitened.log_prob(u, x) - density.log_prob(u)

        return Compiled(weigh, jit_compile=False)

    @property
    def _whitened(self) -> WhitenedTarget:
        return WhitenedTarget(self.family, self.whitening)

    @cached_property
    def _transitions(self) -> polish.Transitions:
        jit_compile = self.versions.get("jit_compile", "True") == "True"
        return polish.Transitions(self._whitened.value_and_gradient, jit_compile=jit_compile)

    @cached_property
    def _constrain(self) -> Compiled:
        return Compiled(lambda z: self.family.constrain(tf.cast(z, self.family.dtype)), jit_compile=False)

    @quiet_tracing()
    def condition(self, data: Mapping[str, Any]) -> Any:
        """The :class:`Posterior` of one data set, name -> [*event]; a tuple of them for a batch, name -> [B, *event].

        ``fit(joint, data, start=posterior.sample(1_000))`` refines it: a sampler for this data set alone, that starts
        near the amortised draws.
        """
        shapes = self.family.data_shapes
        single = all(np.ndim(data[name]) == len(shape) for name, shape in shapes.items() if name in data)
        batch = {name: np.asarray(value)[np.newaxis] for name, value in data.items()} if single else data
        x = self.family.flatten(batch)
        found = tuple(
            self._posterior({name: np.asarray(value)[i] for name, value in batch.items()}, x[i : i + 1])
            for i in range(len(x))
        )
        return found[0] if single else found

    def _posterior(self, data: Mapping[str, Array], x: Array) -> Posterior:
        target = self.family.at(data)
        return Posterior(
            bind(self.parts, x),
            self.parameters,
            WhitenedTarget(target, self.whitening, 0.0, self.max_score),
            self.history,
            self.status,
            self.seed,
            notes=("amortised: trained on many data sets, not on this one", *self.notes),
            versions=self.versions,
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write it to a folder ``path``, whole or not at all; :func:`load_amortized` reads it.

        Raises:
            ConfigurationError: something exists there already, and ``overwrite`` is not asked for.
            StorageError: the disk is full or failed; what was there before is as it was.
        """
        content = {
            "observed": self.family.observed,
            "event_size": self.family.event_size,
            "shapes": self.family.data_shapes,
            **{name: getattr(self.parts, name) for name in (*checkpoints.ROLES, "features")},
            "parameters": self.parameters,
            **checkpoints.whitening_content(self.whitening),
            "max_score": self.max_score,
            "history": vars(self.history),
            "log_density": self.log_density,
            "status": self.status._asdict(),
            "seed": self.seed,
            "versions": self.versions,
            "notes": self.notes,
        }
        archives.write(path, KIND, content, checkpoints.PARTS, overwrite=overwrite)

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.family.data_shapes.items())
        lines = [
            f"Amortised posterior of {counted(self.family.event_size, 'unconstrained dimension')}, given {shapes}",
            f"Training: {self.status.message} (step {self.history.step[-1] if len(self.history.step) else 0})",
            *self.notes,
            "Accuracy: not assessed; nvb.diagnostics.sbc ranks simulated truths among the draws",
        ]
        return "\n".join(lines)


def _warn(pareto_k: Array) -> None:
    unreliable = int((pareto_k > psis.USABLE).sum())
    if unreliable > TOLERATED * len(pareto_k):
        warnings.warn(
            f"importance weights have heavy tails (k-hat above {psis.USABLE}) for {unreliable} of {len(pareto_k)} data "
            "sets: weights of modes may be off. Fix: more likelihood_steps, a larger flow as contrast, or nvb.fit for "
            "the data sets that matter",
            ImportanceWarning,
            stacklevel=5,
        )


def load_amortized(
    path: str | Path,
    joint: Any,
    *,
    sampler: Sampler | None = None,
    critic: Critic | None = None,
    contrast: ConditionalFlow | None = None,
    ratio_loss: RatioLoss | None = None,
    features: Features | None = None,
) -> AmortizedPosterior:
    """Read what ``AmortizedPosterior.save`` wrote; the joint is passed again, for it is code.

    Raises:
        FileFormatError: the folder is missing, damaged, or does not fit the joint.
        ConfigurationError: a part of the user's own has to be passed again.
    """

    def build(content: Mapping[str, Any]) -> AmortizedPosterior:
        family = JointFamily(joint, content["observed"])
        if family.event_size != content["event_size"] or family.data_shapes != content["shapes"]:
            raise FileFormatError(
                expected=f"an amortised posterior of {counted(family.event_size, 'unconstrained dimension')}, data "
                f"{family.data_shapes}",
                got=f"one of {content['event_size']}, data {content['shapes']}, in {path}",
                fix="pass the joint that was fitted",
            )
        about = checkpoints.about(content)
        found = AmortizedPosterior(
            family,
            Parts(*(content[name] for name in (*checkpoints.ROLES, "features"))),
            tf.nest.map_structure(tf.constant, checkpoints.checked_parameters(content["parameters"])),
            checkpoints.checked_whitening(content, family.event_size),
            content["max_score"],
            about["history"],
            content["log_density"],
            about["status"],
            about["seed"],
            about["versions"],
            about["notes"],
        )
        checkpoints.rehearse(found.parts, found.parameters, family.event_size, family.x_size)
        return found

    own = dict(sampler=sampler, critic=critic, contrast=contrast, ratio_loss=ratio_loss, features=features)
    return archives.read(path, KIND, checkpoints.PARTS, build, supplied=own)
