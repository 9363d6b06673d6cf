"""``fit_vae``: the variational autoencoder, with its inference chosen by passing parts.

The decoder is the engine's target, trained in the same step: theta ascends E_q[log p_theta(x, z)] (Mescheder, Nowozin &
Geiger, arXiv 1701.04722, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks
from neural_vb._types import Array, Parameters
from neural_vb.applications.autoencoder import VAE, load_vae
from neural_vb.applications.decoders import Bernoulli, Decoder, Likelihood
from neural_vb.applications.inference import Inference, avb_flow
from neural_vb.applications.vae_data import rows, source
from neural_vb.applications.vae_evaluation import Evaluation
from neural_vb.compilation import quiet_tracing
from neural_vb.errors import ConfigurationError, StartError
from neural_vb.networks import MLP, Network
from neural_vb.optimiser import TrainingState
from neural_vb.progress import Progress
from neural_vb.provenance import versions
from neural_vb.training import Callback, TrainingConfig, train

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
        validation: [M, ...], held out; its ELBO is taken after every window, as ``metrics["validation_elbo"]``.
        start: an earlier fit with the same parts, to go on from exactly where it stopped: its steps count among those
            of ``config``, and a run that was interrupted before its rates fell ends as if it had not been.
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
    parts = inference.parts
    if start is None:
        first = tf.constant(data.stream(0, 1)[0])
        parameters = inference.initial_parameters(latent_size, first, seeds[1:3])
        parameters["target"] = model.initial_parameters(seeds[3])
    else:
        _check_start(start, inference, model, data.shape, config)
        parameters = start.parameters
    elbos: list[float] = []
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
            evaluate=None if held_out is None else _held_out(Evaluation(parts, model), held_out, elbos, seeds[0]),
            state=None if start is None else TrainingState(*map(tf.constant, start.state)),
        )
    return VAE(
        model,
        inference,
        tf.nest.map_structure(np.asarray, trained.parameters),
        data.shape,
        trained.history,
        np.array(elbos),
        trained.status,
        TrainingState(*map(np.asarray, trained.state)),
        int(seed),
        versions(trained.jit_compile, tf.float32),
    )


def _held_out(
    evaluation: Evaluation, x: Array, elbos: list[float], seed: int
) -> Callable[[Parameters], Mapping[str, float]]:
    """The ELBO of held-out data at given parameters, with the same noise each time; also appended to ``elbos``."""

    def evaluate(parameters: Parameters) -> Mapping[str, float]:
        elbos.append(float(evaluation.elbo(parameters, x.astype(np.float32), 1, seed).mean()))
        return {"validation_elbo": elbos[-1]}

    return evaluate


def _check_start(
    start: VAE, inference: Inference, model: Decoder, shape: tuple[int, ...], config: TrainingConfig
) -> None:
    for name, ours, theirs in (
        ("data shape", shape, start.data_shape),
        ("decoder", model, start.decoder),
        ("inference", inference, start.inference),
    ):
        if ours != theirs:
            raise StartError(
                expected=f"start with the {name} of this fit, {ours}",
                got=str(theirs),
                fix="pass the same parts as before",
            )
    if start.steps >= config.max_steps + config.decay_steps:
        raise ConfigurationError(
            expected=f"max_steps that leave something to do after the {start.steps} steps of start",
            got=f"{config.max_steps}, and {config.decay_steps} of decay",
            fix="raise TrainingConfig.max_steps",
        )
