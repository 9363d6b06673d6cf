"""``fit_vae``: the variational autoencoder, with its inference chosen by passing parts.

The decoder is the engine's target, trained in the same step: theta ascends E_q[log p_theta(x, z)] (Mescheder, Nowozin &
Geiger, arXiv 1701.04722, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import mixtures
from neural_vb._types import Array, Parameters, Status
from neural_vb.applications.ais import AISConfig, AISResult, Annealer
from neural_vb.applications.decoders import Bernoulli, Decoder, Likelihood
from neural_vb.applications.inference import Inference, avb_flow
from neural_vb.applications.vae_data import rows, source
from neural_vb.applications.vae_evaluation import Evaluation, log_mean_exp
from neural_vb.compilation import quiet_tracing
from neural_vb.errors import ConfigurationError, StartError
from neural_vb.networks import MLP, Network
from neural_vb.progress import Progress
from neural_vb.provenance import versions
from neural_vb.training import Callback, History, TrainingConfig, train

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


@dataclass(frozen=True, eq=False)
class Encoded:
    """q(z | x) for N data points.

    Attributes:
        vae: the model.
        x: [N, X].
    """

    vae: VAE
    x: Array = field(repr=False)

    def sample(self, num_draws: int = 1, *, seed: int = 0) -> Array:
        """z [num_draws, N, D]."""
        return self.vae.evaluation.draws(self.vae.parameters, self.x, _count("num_draws", num_draws), seed)

    def moments(self, num_draws: int = 500, *, seed: int = 0) -> tuple[Array, Array]:
        """Mean [N, D] and Cholesky factor of the covariance [N, D, D], from draws."""
        return self.vae.evaluation.moments(self.vae.parameters, self.x, _count("num_draws", num_draws), seed)


@dataclass(frozen=True, eq=False)
class VAE:
    """A trained model p_theta(x | z) N(z; 0, I) with its q(z | x). All numbers are plain arrays in ``parameters``.

    Attributes:
        decoder: the model.
        inference: sampler, critic and contrast.
        parameters: {"sampler", "critic", "contrast", "target"}, averaged over the last steps.
        data_shape: of one data point.
        history: metrics of training.
        validation_elbo: [T], held-out ELBO of each window, nats; empty without validation data.
        status: how training ended.
        steps: taken in all, earlier runs included.
        seed: of the fit.
        versions: library versions, device and mode.
    """

    decoder: Decoder
    inference: Inference
    parameters: Parameters = field(repr=False)
    data_shape: tuple[int, ...]
    history: History = field(repr=False)
    validation_elbo: Array = field(repr=False)
    status: Status
    steps: int
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The compiled functions behind the methods."""
        return Evaluation(self.inference.parts, self.decoder)

    def encode(self, x: Any) -> Encoded:
        """q(z | x) of data [N, *data_shape].

        Raises:
            DataError: data of another shape or outside the likelihood's range; so do all methods that take data.
        """
        return Encoded(self, self._rows(x))

    def decode(self, z: Array) -> Array:
        """E[x | z], [..., D] -> [..., *data_shape]."""
        return self._shaped(self.decoder.mean(self.parameters["target"], tf.constant(z, tf.float32)).numpy())

    def reconstruct(self, x: Any, *, seed: int = 0) -> Array:
        """E[x' | z] at one z ~ q(z | x) for each x, [N, *data_shape]."""
        return self.decode(self.encode(x).sample(1, seed=seed)[0])

    def reconstruction_error(self, x: Any, *, num_draws: int = 16, seed: int = 0) -> Array:
        """-E_q[log p(x | z)], [N] in nats."""
        flat = self._rows(x)
        z = self.encode(x).sample(num_draws, seed=seed)
        log_likelihood = self.decoder.log_likelihood(tf.constant(z), tf.constant(flat), self.parameters["target"])
        return -np.asarray(log_likelihood.numpy().mean(0, dtype=np.float64))

    def generate(self, num_samples: int = 1, *, noise: bool = False, seed: int = 0) -> Array:
        """E[x | z] at z ~ N(0, I), or with ``noise`` a draw of x | z; [num_samples, *data_shape]."""
        z = mixtures.normal(tf.constant([_count("num_samples", num_samples)]), self.decoder.latent_size, [seed, 0])
        if not noise:
            return self.decode(z)
        return self._shaped(self.decoder.sample(self.parameters["target"], z, [seed, 1]).numpy())

    def interpolate(self, a: Any, b: Any, num_points: int = 8, *, seed: int = 0) -> Array:
        """E[x | z] on the straight line from a draw of q(z | a) to one of q(z | b), [num_points, N, *data_shape]."""
        first, last = (self.encode(x).sample(1, seed=seed)[0] for x in (a, b))
        share = np.linspace(0.0, 1.0, _count("num_points", num_points)).reshape(-1, 1, 1)
        return self.decode((1.0 - share) * first + share * last)

    def elbo(self, x: Any, *, num_draws: int = 16, seed: int = 0) -> Array:
        """E_q[log p(x, z) - log q(z | x)], [N] in nats.

        Where log q is not known (adversarial inference) log r + T stands for it: an estimate, and no bound unless the
        critic is optimal. ``iwae_bound`` and ``ais_log_likelihood`` do not depend on the critic.
        """
        return self.evaluation.elbo(self.parameters, self._rows(x), _count("num_draws", num_draws), seed)

    def iwae_bound(self, x: Any, num_draws: int = 500, *, seed: int = 0) -> Array:
        """log (1/k) sum_i p(x, z_i) / s(z_i | x), a lower bound of log p(x) in expectation, [N] in nats.

        The proposal s is q itself where its density is known; else the contrast where that is a flow; else a Gaussian
        with the mean and covariance of 500 draws from q. Burda, Grosse & Salakhutdinov (arXiv 1509.00519).
        """
        num = _count("num_draws", num_draws)
        return log_mean_exp(self.evaluation.importance(self.parameters, self._rows(x), num, seed))

    def ais_log_likelihood(
        self, x: Any, *, config: AISConfig | None = None, batch_size: int = 128, num_draws: int = 500, seed: int = 0
    ) -> AISResult:
        """log p(x) by annealed importance sampling from a Gaussian fitted to draws from q; see :mod:`.ais`.

        Args:
            x: [N, *data_shape].
            config: temperatures, chains, leapfrog steps.
            batch_size: data points at a time.
            num_draws: behind each Gaussian.
            seed: of all random numbers.
        """
        flat = self._rows(x)
        mean, scale_tril = self.evaluation.moments(self.parameters, flat, num_draws, seed)
        target = self.parameters["target"]
        anneal = Annealer(lambda z, x: self.decoder.log_prob(z, x, target), config or AISConfig())
        size = min(_count("batch_size", batch_size), len(flat))
        found = []
        for begin in range(0, len(flat), size):
            # The last slice is filled up: one shape, one compilation.
            index = np.arange(begin, begin + size) % len(flat)
            result = anneal(flat[index], mean[index], scale_tril[index], seed=seed + begin)
            found.append(AISResult(*(part[..., : len(flat) - begin] for part in result)))
        return AISResult(*(np.concatenate(parts, -1) for parts in zip(*found, strict=True)))

    def _rows(self, x: Any) -> Array:
        return rows(x, self.decoder.likelihood, shape=self.data_shape).astype(np.float32)

    def _shaped(self, flat: Array) -> Array:
        return flat.reshape(*flat.shape[:-1], *self.data_shape)

    def __str__(self) -> str:
        parts = (self.inference.sampler, self.inference.critic, self.inference.contrast)
        last = self.history.elbo[-1] if len(self.history.elbo) else float("nan")
        lines = [
            f"Variational autoencoder: {self.decoder.latent_size} latent dimensions, data {list(self.data_shape)}, "
            f"{type(self.decoder.likelihood).__name__} likelihood",
            f"Inference: {', '.join(type(part).__name__ for part in parts)}",
            f"Training: {self.status.message} (step {self.steps})",
            f"ELBO of the last window: {last:.3f} nats",
        ]
        if len(self.validation_elbo):
            lines.append(f"Held-out ELBO: {self.validation_elbo[-1]:.3f} nats")
        return "\n".join(lines)


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
        start: an earlier fit with the same parts, whose parameters are trained on; moments of Adam start anew.
        seed: of all random numbers.
        progress: show a bar.
        callbacks: called with (step, metrics) after each window; a true value stops.

    Raises:
        DataError: data that are empty, misshapen, not finite, or outside the likelihood's range.
        ConfigurationError: an option outside its range.
        TargetShapeError: the decoder's output does not fit the likelihood.
        StartError: ``start`` has other parts, or other data shapes.
    """
    config, inference = config or VAE_CONFIG, inference or avb_flow()
    likelihood = likelihood or Bernoulli()
    _count("latent_size", latent_size)
    if not 1 <= draws_per_point <= config.batch_size:
        raise ConfigurationError(
            expected=f"draws_per_point from 1 to batch_size = {config.batch_size}",
            got=repr(draws_per_point),
            fix="lower it, or raise TrainingConfig.batch_size",
        )
    before = 0 if start is None else start.steps
    seeds = [int(s) for s in np.random.SeedSequence([_seed(seed), before]).generate_state(5) >> 1]
    data = source(x, likelihood, batch_size=config.batch_size // draws_per_point, seed=seeds[0])
    model = Decoder(latent_size, int(np.prod(data.shape)), decoder or MLP((64, 64, 64)), likelihood)
    held_out = None if validation is None else rows(validation, likelihood, shape=data.shape, name="validation")
    parts = inference.parts
    if start is None:
        first = tf.constant(data.stream(0, 1)[0])
        parameters = _initial_parameters(inference, model, int(inference.features(first).shape[-1]), seeds[1:4])
    else:
        _check_start(start, inference, model, data.shape)
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
        )
    taken = int(trained.history.step[-1]) if len(trained.history.step) else 0
    return VAE(
        model,
        inference,
        tf.nest.map_structure(np.asarray, trained.parameters),
        data.shape,
        trained.history,
        np.array(elbos),
        trained.status,
        before + taken,
        int(seed),
        versions(trained.jit_compile, tf.float32),
    )


def _initial_parameters(inference: Inference, model: Decoder, x_size: int, seeds: Sequence[int]) -> Parameters:
    base = mixtures.standard_base(model.latent_size)
    return {
        "sampler": inference.sampler.initial_parameters(base, x_size, seeds[0]),
        "critic": inference.critic.initial_parameters(base, x_size, seeds[1]),
        "contrast": inference.contrast.initial_parameters(base, x_size, seeds[0]),
        "target": model.initial_parameters(seeds[2]),
    }


def _held_out(
    evaluation: Evaluation, x: Array, elbos: list[float], seed: int
) -> Callable[[Parameters], Mapping[str, float]]:
    """The ELBO of held-out data at given parameters, with the same noise each time; also appended to ``elbos``."""

    def evaluate(parameters: Parameters) -> Mapping[str, float]:
        elbos.append(float(evaluation.elbo(parameters, x.astype(np.float32), 1, seed).mean()))
        return {"validation_elbo": elbos[-1]}

    return evaluate


def _check_start(start: VAE, inference: Inference, model: Decoder, shape: tuple[int, ...]) -> None:
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


def _seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise ConfigurationError(
            expected="seed as a whole number from 0 to 2**31 - 1", got=repr(seed), fix="pass, for example, seed=0"
        )
    return int(seed)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ConfigurationError(
            expected=f"{name} as a whole number, at least 1", got=repr(value), fix=f"pass {name}=1"
        )
    return int(value)
