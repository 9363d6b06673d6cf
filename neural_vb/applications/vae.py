"""``fit_vae``: the variational autoencoder, with its inference chosen by passing parts.

The decoder is the engine's target, trained in the same step: theta ascends E_q[log p_theta(x, z)] (Mescheder, Nowozin &
Geiger, arXiv 1701.04722, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks
from neural_vb._types import Array, Parameters
from neural_vb.applications.autoencoder import VAE, load_vae
from neural_vb.applications.decoders import Bernoulli, Decoder, Likelihood
from neural_vb.applications.inference import Inference, avb_flow
from neural_vb.applications.vae_data import rows, source
from neural_vb.applications.vae_evaluation import Evaluation, log_mean_exp
from neural_vb.compilation import quiet_tracing
from neural_vb.configuration import TrainingConfig
from neural_vb.errors import ConfigurationError, StartError
from neural_vb.networks import MLP, Network
from neural_vb.optimiser import TrainingState
from neural_vb.progress import Progress
from neural_vb.provenance import versions
from neural_vb.training import Callback, train

__all__ = ["VAE", "VAE_CONFIG", "fit_vae", "load_vae"]

VAE_CONFIG = TrainingConfig(
    max_steps=6_000,
    min_steps=3_000,
    decay_steps=3_000,
    sampler_rate=5e-4,
    critic_rate=2e-3,
    contrast_rate=2e-3,
    target_rate=5e-4,
    easy_divergence=0.0,
)


NUM_WEIGHTS = 16  # behind the held-out bound


@quiet_tracing()
def fit_vae(
    x: Any,
    *,
    latent_size: int,
    decoder: Network | None = None,
    likelihood: Likelihood | None = None,
    inference: Inference | None = None,
    config: TrainingConfig | None = None,
    draws_per_point: int = 1,
    validation: Any = None,
    patience: int | None = None,
    start: VAE | None = None,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> VAE:
    """Fit p_theta(x | z) N(z; 0, I) to data, and q(z | x) with it, by ascending the ELBO in both.

    Args:
        x: [N, ...], or a ``tf.data.Dataset`` of single data points; minibatches are streamed.
        latent_size: D.
        decoder: network from z to the likelihood's numbers; default three layers of 64.
        likelihood: of the data; default ``Bernoulli()``.
        inference: default ``avb_flow()``; see :mod:`.inference` for the others.
        config: training constants; ``batch_size`` counts pairs of data point and draw.
        draws_per_point: draws of z for each data point of a minibatch.
        validation: [M, ...], held out: after every window ``metrics`` have its ELBO, "validation_elbo", and a bound on
            its log-likelihood that does not trust the critic, "validation_bound" (``iwae_bound`` with 16 draws). The
            parameters of the window with the best bound are returned.
        patience: windows without a better bound after which the rates begin to fall, and the fit to end; default: the
            plateau test on the ELBO of the training data.
        start: an earlier fit with the same parts, to go on from exactly where it stopped: its steps count among those
            of ``config``, and a run without ``patience`` that was interrupted before its rates fell ends as if it had
            not been. Or, for a ``ResidualSampler``, one with its Gaussian encoder: decoder and encoder are taken from
            there.
        seed: of all random numbers.
        progress: show a bar.
        callbacks: called with (step, metrics) after each window; a true value stops.

    Raises:
        DataError: data that are empty, misshapen, not finite, or outside the likelihood's range.
        ConfigurationError: an option outside its range.
        TargetShapeError: the decoder's output does not fit the likelihood.
        StartError: ``start`` has other parts, or other data shapes.
    """
    _checks.instance("config", config, TrainingConfig)
    config, inference = config or VAE_CONFIG, inference or avb_flow()
    likelihood = likelihood or Bernoulli()
    _checks.whole("latent_size", latent_size)
    if not 1 <= draws_per_point <= config.batch_size:
        raise ConfigurationError(
            expected=f"draws_per_point from 1 to batch_size = {config.batch_size}",
            got=repr(draws_per_point),
            fix="lower it, or raise TrainingConfig.batch_size",
        )
    seeds = [int(s) for s in np.random.SeedSequence(_checks.seed(seed)).generate_state(5) >> 1]
    data = source(x, likelihood, batch_size=config.batch_size // draws_per_point, seed=seeds[0])
    model = Decoder(latent_size, int(np.prod(data.shape)), decoder or MLP((64, 64, 64)), likelihood)
    held_out = None if validation is None else rows(validation, likelihood, shape=data.shape, name="validation")
    if patience is not None:
        _checks.whole("patience", patience)
        if held_out is None:
            raise ConfigurationError(
                expected="validation data beside patience",
                got="none",
                fix="pass validation=, rows that are held out of x, or leave patience out",
            )
    parts = inference.parts
    if start is not None:
        _check_start(start, inference, model, data.shape, config)
    if start is not None and start.inference == inference:
        parameters, state = start.parameters, TrainingState(*map(tf.constant, start.state))
    else:
        first, state = tf.constant(data.stream(0, 1)[0]), None
        parameters = inference.initial_parameters(latent_size, first, seeds[1:3])
        parameters["target"] = model.initial_parameters(seeds[3])
        if start is not None:
            parameters["sampler"]["gaussian"] = start.parameters["sampler"]
            parameters["target"] = start.parameters["target"]
    watch = None if held_out is None else _HeldOut(Evaluation(parts, model), held_out, seeds[0])
    if watch is not None and start is not None:
        watch.keep(tf.nest.map_structure(tf.constant, parameters))
    with Progress(enabled=progress) as bar:
        bar.stage("compile")
        trained = train(
            parts,
            model.log_prob,
            parameters,
            config=config,
            seed=seeds[4],
            stream=data.stream,
            callbacks=(bar.window, *callbacks),
            evaluate=watch,
            rests=None if watch is None or patience is None else lambda: watch.waited >= patience,
            state=state,
        )
    best = trained.parameters if watch is None or watch.best is None else watch.best
    return VAE(
        model,
        inference,
        tf.nest.map_structure(np.asarray, best),
        data.shape,
        trained.history,
        np.array([] if watch is None else watch.elbos),
        np.array([] if watch is None else watch.bounds),
        trained.status,
        TrainingState(*map(np.asarray, trained.state)),
        int(seed),
        versions(trained.jit_compile, tf.float32),
    )


class _HeldOut:
    """What held-out data say after each window, with the same noise each time; keeps the best parameters.

    Encoders overfit long before decoders do: what fits the training data best is not what is wanted.
    """

    def __init__(self, evaluation: Evaluation, x: Array, seed: int) -> None:
        self.evaluation, self.x, self.seed = evaluation, x.astype(np.float32), seed
        self.elbos: list[float] = []
        self.bounds: list[float] = []
        self.best: Parameters | None = None
        self.best_bound, self.waited = -np.inf, 0

    def __call__(self, parameters: Parameters) -> Mapping[str, float]:
        self.elbos.append(float(self.evaluation.elbo(parameters, self.x, 1, self.seed).mean()))
        self.bounds.append(self.keep(parameters))
        return {"validation_elbo": self.elbos[-1], "validation_bound": self.bounds[-1]}

    def keep(self, parameters: Parameters) -> float:
        """The bound at these parameters, which are kept if it is the best so far."""
        weights = self.evaluation.importance(parameters, self.x, NUM_WEIGHTS, self.seed)
        bound = float(log_mean_exp(weights).mean())
        if bound > self.best_bound:
            self.best, self.best_bound, self.waited = parameters, bound, 0
        else:
            self.waited += 1
        return bound


def _check_start(
    start: VAE, inference: Inference, model: Decoder, shape: tuple[int, ...], config: TrainingConfig
) -> None:
    warm = getattr(inference.sampler, "gaussian", None) == start.inference.sampler
    warm &= inference.features == start.inference.features
    for name, ours, theirs in (
        ("data shape", shape, start.data_shape),
        ("decoder", model, start.decoder),
        ("inference", inference, start.inference),
    ):
        if ours != theirs and not (warm and name == "inference"):
            raise StartError(
                expected=f"start with the {name} of this fit, {ours}",
                got=str(theirs),
                fix="pass the same parts as before",
            )
    if not warm and start.steps >= config.max_steps + config.decay_steps:
        raise ConfigurationError(
            expected=f"max_steps that leave something to do after the {start.steps} steps of start",
            got=f"{config.max_steps}, and {config.decay_steps} of decay",
            fix="raise TrainingConfig.max_steps",
        )
