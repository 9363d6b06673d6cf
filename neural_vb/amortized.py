"""``fit_amortized``: one sampler for every data set of a joint distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks, archives, checkpoints, critics, density_training, mixtures, ratio_losses
from neural_vb._types import Array, Critic, Parameters, RatioLoss, Sampler, Status, Tensor
from neural_vb.avb import Parts
from neural_vb.binding import bind
from neural_vb.compilation import Compiled, quiet_tracing
from neural_vb.conditional_flows import ConditionalFlow, FlowSampler, MixtureNetwork
from neural_vb.errors import FileFormatError
from neural_vb.families import JointFamily
from neural_vb.features import Features
from neural_vb.networks import MLP, AffineAndMLP, Network
from neural_vb.posterior import Posterior
from neural_vb.progress import Progress
from neural_vb.provenance import versions
from neural_vb.training import Callback, History, TrainingConfig, train
from neural_vb.whitening import WhitenedTarget, Whitening

KIND = "amortised posterior"


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
    def sample(self, data: Mapping[str, Any], num_draws: int = 1_000, seed: int = 0) -> dict[str, Array]:
        """Draws for a batch of data sets: name -> [B, *event] in, name -> [num_draws, B, *event] out.

        Raises:
            DataError: the data do not have the joint's shapes, or are not finite.
        """
        x = self.family.flatten(data)
        z = self._draw(self.parameters["sampler"], tf.constant(x), tf.constant(num_draws), tf.constant([seed, 0]))
        draws = self._constrain(tf.reshape(z, [-1, self.family.event_size]))
        return {name: np.asarray(v).reshape(num_draws, len(x), *v.shape[1:]) for name, v in draws.items()}

    @cached_property
    def _draw(self) -> Compiled:
        def draw(parameters: Parameters, x: Tensor, num_draws: Tensor, seed: Tensor) -> Tensor:
            return self.whitening.to_z(self.parts.sampler(parameters, num_draws, self.parts.features(x), seed).z)

        return Compiled(draw, jit_compile=False)  # sizes vary from call to call

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

    def save(self, path: str | Path) -> None:
        """Write it to a new folder ``path``; :func:`load_amortized` reads it.

        Raises:
            ConfigurationError: something exists there already, or it cannot be written.
        """
        content = {
            "observed": self.family.observed,
            "event_size": self.family.event_size,
            "shapes": self.family.data_shapes,
            **{name: getattr(self.parts, name) for name in (*checkpoints.ROLES, "features")},
            "parameters": self.parameters,
            "shift": self.whitening.shift,
            "scale_tril": self.whitening.scale_tril,
            "max_score": self.max_score,
            "history": vars(self.history),
            "log_density": self.log_density,
            "status": self.status._asdict(),
            "seed": self.seed,
            "versions": self.versions,
            "notes": self.notes,
        }
        archives.write(path, KIND, content, checkpoints.PARTS)

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.family.data_shapes.items())
        lines = [
            f"Amortised posterior of {self.family.event_size} unconstrained dimensions, given {shapes}",
            f"Training: {self.status.message} (step {self.history.step[-1] if len(self.history.step) else 0})",
            *self.notes,
            "Accuracy: not assessed; nvb.diagnostics.sbc ranks simulated truths among the draws",
        ]
        return "\n".join(lines)


@quiet_tracing()
def fit_amortized(
    joint: Any,
    *,
    observed: Sequence[str] | str,
    data: Mapping[str, Any] | None = None,
    summary: Network | None = None,
    summary_size: int = 16,
    sampler: Sampler | None = None,
    critic: Critic | None = None,
    contrast: ConditionalFlow | None = None,
    ratio_loss: RatioLoss = ratio_losses.logistic,
    config: TrainingConfig | None = None,
    likelihood_steps: int = 12_000,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> AmortizedPosterior:
    """Fit q(z | x) for every data set x that a joint distribution can make.

    First a conditional flow r(z | x), and the summary network with it, is fitted to pairs from the joint by maximum
    likelihood; it covers every mode. Sampler and contrast start from it, and ascend
    E_x E_q[log p(x, z) - log r(z | x) - T(z, x)] adversarially (Mescheder, Nowozin & Geiger 2017, arXiv 1701.04722).
    If these steps lower the mean log r(z | x) of fresh pairs by more than .05 nats they are undone, with a note.

    Args:
        joint: any TFP joint distribution.
        observed: names of the parts that are data; the others are inferred.
        data: name -> [N, *event], the data sets to train the adversarial steps on; default: fresh simulations.
        summary: network from a data set to ``summary_size`` features; ``MeanPooled`` for exchangeable rows. Trained
            with the flow, then fixed. Default: the standardised data themselves.
        summary_size: number of features.
        sampler: default ``FlowSampler()``, which starts as the flow.
        critic: default ``MLPCritic()``.
        contrast: default ``amortized.FLOW``; it is also where a ``FlowSampler`` starts.
        ratio_loss: what the critic minimises.
        config: training constants of the adversarial steps; ``batch_size`` counts data sets, with one draw each.
        likelihood_steps: of maximum likelihood.
        seed: of all random numbers.
        progress: show a bar.
        callbacks: called with (step, metrics) after each window of adversarial steps; a true value stops them.

    Raises:
        NeuralVBError: one of its kinds, before training starts.
    """
    _checks.instance("config", config, TrainingConfig)
    seed, config = _checks.seed(seed), config or AMORTIZED
    family = JointFamily(joint, observed)  # type: ignore[arg-type]
    rows = None if data is None else family.flatten(data)
    flow = contrast or FLOW
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(6) >> 1]
    with Progress(enabled=progress) as bar:
        bar.stage("simulate")
        z, x = (part.numpy() for part in family.simulate(10_000, seeds[0]))
        centre = np.median(z, 0)
        whitening = Whitening(
            centre, np.linalg.cholesky(np.atleast_2d(np.cov(z.T)) + 1e-12 * np.eye(family.event_size))
        )
        features = Features.of(x, summary, summary_size)
        base = mixtures.standard_base(family.event_size)
        parameters: Any = {
            "flow": flow.initial_parameters(base, features.size, seeds[1]),
            "features": features.initial_parameters(seeds[2]),
        }

        def pairs(step: int, num: int) -> tuple[Tensor, Tensor]:
            z, x = family.simulate(num * config.batch_size, tf.constant([seeds[3], step]))
            u = tf.constant(whitening.to_u(z.numpy()), tf.float32)
            return tf.reshape(u, [num, config.batch_size, -1]), tf.reshape(x, [num, config.batch_size, -1])

        def log_density(parameters: Parameters, u: Tensor, x: Tensor) -> Tensor:
            density = flow(parameters["flow"], features.with_parameters(parameters["features"])(x))
            return density.log_prob(u[tf.newaxis])[0]

        bar.stage("likelihood")
        fitted, log_densities = density_training.fit_density(
            log_density,
            parameters,
            pairs,
            num_steps=likelihood_steps,
            window=config.window,
            jit_compile=config.jit_compile,
            callbacks=(bar.density,),
        )
        fixed = tf.nest.map_structure(lambda leaf: leaf.numpy(), fitted)
        parts = Parts(
            sampler or FlowSampler(flow),
            critic or critics.MLPCritic(),
            flow,
            ratio_loss,
            features.with_parameters(fixed["features"]),
        )
        start = {
            "sampler": parts.sampler.initial_parameters(base, features.size, seeds[1]),
            "critic": parts.critic.initial_parameters(base, features.size, seeds[4]),
            "contrast": fixed["flow"],
        }
        if isinstance(parts.sampler, FlowSampler):
            start["sampler"]["flow"] = fixed["flow"]
        bar.stage("compile")
        target = WhitenedTarget(family, whitening)
        max_score = _max_score(target, *pairs(-1, 1))
        target = WhitenedTarget(family, whitening, 0.0, max_score)
        trained = train(
            parts,
            target.log_prob,
            start,
            config=config,
            seed=seeds[5],
            stream=_stream(family, rows, config, seeds[3]),
            callbacks=(bar.window, *callbacks),
            warm_start={"log_density": float(log_densities[-1])},
        )
        chosen: Parameters = trained.parameters
        notes: tuple[str, ...] = ()
        if rows is None:  # else the steps were on data of the user's, and the joint's do not judge them
            chosen, notes = _better(parts, start, chosen, *pairs(-2, NUM_SCORED // config.batch_size + 1))
    return AmortizedPosterior(
        family,
        parts,
        chosen,
        whitening,
        max_score,
        trained.history,
        log_densities,
        trained.status,
        seed,
        versions(trained.jit_compile, family.dtype),
        notes,
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
                expected=f"an amortised posterior of {family.event_size} unconstrained dimensions, data "
                f"{family.data_shapes}",
                got=f"one of {content['event_size']}, data {content['shapes']}, in {path}",
                fix="pass the joint that was fitted",
            )
        return AmortizedPosterior(
            family,
            Parts(*(content[name] for name in (*checkpoints.ROLES, "features"))),
            tf.nest.map_structure(tf.constant, content["parameters"]),
            Whitening(content["shift"], content["scale_tril"]),
            content["max_score"],
            History(**content["history"]),
            content["log_density"],
            Status(**content["status"]),
            content["seed"],
            content["versions"],
            tuple(content.get("notes", ())),
        )

    own = dict(sampler=sampler, critic=critic, contrast=contrast, ratio_loss=ratio_loss, features=features)
    return archives.read(path, KIND, checkpoints.PARTS, build, supplied=own)


FLOW = ConditionalFlow(
    num_couplings=6,
    network=MLP((64, 64), output_scale=0.01),
    base=MixtureNetwork(8, AffineAndMLP(MLP((128, 128), output_scale=0.1))),
)
NUM_SCORED = 10_000  # fresh pairs that judge the adversarial steps
TOLERATED_LOSS = 0.05  # nats

AMORTIZED = TrainingConfig(
    batch_size=512,
    sampler_rate=2e-4,
    critic_rate=1e-3,
    contrast_rate=1e-3,
    max_steps=4_000,
    min_steps=2_500,
    decay_steps=2_500,
    ramp_steps=500,
    easy_divergence=0.0,
)


def _stream(family: JointFamily, rows: Array | None, config: TrainingConfig, seed: int) -> Callable[[int, int], Tensor]:
    """Batches of data sets for each step: simulated anew, or drawn from the rows given."""

    def simulated(step: int, num: int) -> Tensor:
        _, x = family.simulate(num * config.batch_size, tf.constant([seed, step + 1_000_000]))
        return tf.reshape(x, [num, config.batch_size, -1])

    def chosen(step: int, num: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        return tf.constant(rows[rng.integers(len(rows), size=(num, config.batch_size))])  # type: ignore[index,arg-type]

    return simulated if rows is None else chosen


def _better(
    parts: Parts, before: Parameters, after: Parameters, u: Tensor, x: Tensor
) -> tuple[Parameters, tuple[str, ...]]:
    """The parameters after the adversarial steps, or those before them where the steps lost what r(z | x) knew.

    E[log r(z | x)] over fresh pairs of the joint is a proper score. It falls when a mode is dropped or tails are cut,
    which an ELBO does not show: the steps descend KL(q || p), which seeks modes.
    """
    u, x = tf.reshape(u, [-1, u.shape[-1]]), tf.reshape(x, [-1, x.shape[-1]])

    @tf.function(autograph=False)
    def score(contrast: Parameters) -> Tensor:
        return tf.reduce_mean(parts.contrast(contrast, parts.features(x)).log_prob(u[tf.newaxis]))

    fitted, trained = (float(score(parameters["contrast"])) for parameters in (before, after))
    if trained >= fitted - TOLERATED_LOSS:
        return after, ()
    said = f"the adversarial steps were undone: they took mean log r(z | x) from {fitted:.2f} to {trained:.2f} nats"
    return tf.nest.map_structure(tf.constant, before), (said,)


def _max_score(target: WhitenedTarget, u: Tensor, x: Tensor) -> float:
    """The longest score at pairs from the joint, which are exact draws."""

    @tf.function(autograph=False)
    def scores(u: Tensor, x: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(u)
            total = tf.reduce_sum(target.log_prob(u, x))
        return tf.norm(tape.gradient(total, u), axis=-1)

    found = scores(u, x[0]).numpy()
    return float(found[np.isfinite(found)].max())
