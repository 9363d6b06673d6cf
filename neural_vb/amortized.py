"""``fit_amortized``: one sampler for every data set of a joint distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks, arguments, critics, density_training, mixtures, ratio_losses
from neural_vb._types import Array, Critic, Parameters, RatioLoss, Sampler, Tensor
from neural_vb.amortized_posterior import AmortizedPosterior
from neural_vb.avb import Parts
from neural_vb.compilation import graph, quiet_tracing
from neural_vb.conditional_flows import ConditionalFlow, FlowSampler, MixtureNetwork
from neural_vb.configuration import TrainingConfig
from neural_vb.families import JointFamily
from neural_vb.features import Features
from neural_vb.networks import MLP, AffineAndMLP, Network
from neural_vb.progress import Progress
from neural_vb.provenance import versions
from neural_vb.training import Callback, train
from neural_vb.whitening import WhitenedTarget, Whitening


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
    _checks.instance("contrast", contrast, ConditionalFlow)
    _checks.whole("summary_size", summary_size)
    _checks.whole("likelihood_steps", likelihood_steps)
    arguments.check_options(
        vectorized=True,
        progress=progress,
        callbacks=callbacks,
        derived=None,
        ratio_loss=ratio_loss,
        summary=summary,
        sampler=sampler,
        critic=critic,
    )
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

    @graph
    def score(contrast: Parameters) -> Tensor:
        return tf.reduce_mean(parts.contrast(contrast, parts.features(x)).log_prob(u[tf.newaxis]))

    fitted, trained = (float(score(parameters["contrast"])) for parameters in (before, after))
    if trained >= fitted - TOLERATED_LOSS:
        return after, ()
    said = f"the adversarial steps were undone: they took mean log r(z | x) from {fitted:.2f} to {trained:.2f} nats"
    return tf.nest.map_structure(tf.constant, before), (said,)


def _max_score(target: WhitenedTarget, u: Tensor, x: Tensor) -> float:
    """The longest score at pairs from the joint, which are exact draws."""

    @graph
    def scores(u: Tensor, x: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(u)
            total = tf.reduce_sum(target.log_prob(u, x))
        return tf.norm(tape.gradient(total, u), axis=-1)

    found = scores(u, x[0]).numpy()
    return float(found[np.isfinite(found)].max())
