"""A trained variational autoencoder: what it draws, what it is asked for in numbers, and its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import _checks, archives, checkpoints, mixtures
from neural_vb._types import Array, Parameters, Status
from neural_vb.applications import contrasts, decoders, encoders
from neural_vb.applications import inference as inference_parts
from neural_vb.applications.ais import AISConfig, AISResult, Annealer
from neural_vb.applications.decoders import Decoder
from neural_vb.applications.inference import Inference
from neural_vb.applications.vae_data import rows
from neural_vb.applications.vae_evaluation import Evaluation, log_mean_exp
from neural_vb.compilation import slices
from neural_vb.history import History
from neural_vb.optimiser import TrainingState

KIND = "variational autoencoder"
ROLES = ("sampler", "critic", "contrast", "ratio_loss", "features")
PARTS: dict[str, type] = checkpoints.PARTS | {
    part.__name__: part
    for part in (
        decoders.Bernoulli,
        decoders.Normal,
        decoders.Decoder,
        contrasts.EncoderMoments,
        contrasts.MomentsAndFlow,
        contrasts.StandardNormal,
        encoders.ConcatSampler,
        encoders.GaussianEncoder,
        encoders.InverseAutoregressiveEncoder,
        encoders.NoiseBasisSampler,
        encoders.ResidualSampler,
        inference_parts.LatentCritic,
        inference_parts.NoCritic,
        inference_parts.ProductCritic,
    )
}


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
        return self.vae.evaluation.draws(self.vae.parameters, self.x, _checks.whole("num_draws", num_draws), seed)

    def moments(self, num_draws: int = 500, *, seed: int = 0) -> tuple[Array, Array]:
        """Mean [N, D] and Cholesky factor of the covariance [N, D, D], from draws."""
        return self.vae.evaluation.moments(self.vae.parameters, self.x, _checks.whole("num_draws", num_draws), seed)


@dataclass(frozen=True, eq=False)
class VAE:
    """A trained model p_theta(x | z) N(z; 0, I) with its q(z | x). All numbers are plain arrays in ``parameters``.

    Attributes:
        decoder: the model.
        inference: sampler, critic and contrast.
        parameters: {"sampler", "critic", "contrast", "target"}, averaged over the last steps; with validation data
            those of the window that fitted them best.
        data_shape: of one data point.
        history: metrics of training.
        validation_elbo: [T], held-out ELBO of each window, nats; empty without validation data.
        validation_bound: [T], the bound on their log-likelihood by which the window was chosen, nats.
        status: how training ended.
        state: where training stopped, for ``fit_vae(start=)``.
        seed: of the fit.
        versions: library versions, device and mode.
    """

    decoder: Decoder
    inference: Inference
    parameters: Parameters = field(repr=False)
    data_shape: tuple[int, ...]
    history: History = field(repr=False)
    validation_elbo: Array = field(repr=False)
    validation_bound: Array = field(repr=False)
    status: Status
    state: TrainingState = field(repr=False)
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """Taken in all, earlier runs included."""
        return int(self.state.step)

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
        count = tf.constant([_checks.whole("num_samples", num_samples)])
        z = mixtures.normal(count, self.decoder.latent_size, [seed, 0])
        if not noise:
            return self.decode(z)
        return self._shaped(self.decoder.sample(self.parameters["target"], z, [seed, 1]).numpy())

    def interpolate(self, a: Any, b: Any, num_points: int = 8, *, seed: int = 0) -> Array:
        """E[x | z] on the straight line from a draw of q(z | a) to one of q(z | b), [num_points, N, *data_shape]."""
        first, last = (self.encode(x).sample(1, seed=seed)[0] for x in (a, b))
        share = np.linspace(0.0, 1.0, _checks.whole("num_points", num_points)).reshape(-1, 1, 1)
        return self.decode((1.0 - share) * first + share * last)

    def elbo(self, x: Any, *, num_draws: int = 16, seed: int = 0) -> Array:
        """E_q[log p(x, z) - log q(z | x)], [N] in nats.

        Where log q is not known (adversarial inference) log r + T stands for it: an estimate, and no bound unless the
        critic is optimal. ``iwae_bound`` and ``ais_log_likelihood`` do not depend on the critic.
        """
        return self.evaluation.elbo(self.parameters, self._rows(x), _checks.whole("num_draws", num_draws), seed)

    def iwae_bound(self, x: Any, num_draws: int = 500, *, seed: int = 0) -> Array:
        """log (1/k) sum_i p(x, z_i) / s(z_i | x), a lower bound of log p(x) in expectation, [N] in nats.

        The proposal s is q itself where its density is known; else the contrast where that is a flow; else a Gaussian
        with the mean and covariance of 500 draws from q. Burda, Grosse & Salakhutdinov (arXiv 1509.00519).
        """
        num = _checks.whole("num_draws", num_draws)
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
        size = min(_checks.whole("batch_size", batch_size), len(flat))
        found = []
        for index in slices(len(flat), size):
            found.append(anneal(flat[index], mean[index], scale_tril[index], seed=seed + int(index[0])))
        return AISResult(*(np.concatenate(parts, -1)[..., : len(flat)] for parts in zip(*found, strict=True)))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write it to a folder ``path``, whole or not at all; :func:`load_vae` reads it, and :func:`fit_vae` goes on.

        Raises:
            ConfigurationError: something exists there already, and ``overwrite`` is not asked for.
            StorageError: the disk is full or failed; what was there before is as it was.
        """
        content = {
            "decoder": self.decoder,
            **{name: getattr(self.inference, name) for name in ROLES},
            "parameters": self.parameters,
            "data_shape": self.data_shape,
            "history": vars(self.history),
            "validation_elbo": self.validation_elbo,
            "validation_bound": self.validation_bound,
            "status": self.status._asdict(),
            "state": tuple(self.state),
            "seed": self.seed,
            "versions": self.versions,
        }
        archives.write(path, KIND, content, PARTS, overwrite=overwrite)

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
        bound = self.validation_bound
        if len(bound):  # a file from before there was one has none
            lines.append(f"Held-out bound: {bound.max():.3f} nats at best, {bound[-1]:.3f} in the last window")
        if len(self.validation_elbo):
            lines.append(f"Held-out ELBO of the last window: {self.validation_elbo[-1]:.3f} nats")
        return "\n".join(lines)


def load_vae(
    path: str | Path,
    *,
    decoder: Decoder | None = None,
    sampler: Any = None,
    critic: Any = None,
    contrast: Any = None,
    ratio_loss: Any = None,
    features: Any = None,
) -> VAE:
    """Read what ``VAE.save`` wrote.

    Raises:
        FileFormatError: the folder is missing or damaged.
        ConfigurationError: a part of the user's own has to be passed again.
    """

    def build(content: Mapping[str, Any]) -> VAE:
        about, state = checkpoints.about(content), TrainingState(*content["state"])
        found = VAE(
            content["decoder"],
            Inference(*(content[name] for name in ROLES)),
            checkpoints.checked_parameters(content["parameters"]),
            content["data_shape"],
            about["history"],
            content["validation_elbo"],
            content["validation_bound"],
            about["status"],
            state,
            about["seed"],
            about["versions"],
        )
        size = sum(leaf.size for leaf in tf.nest.flatten(found.parameters))
        fitting = all(np.shape(vector) == (size,) for vector in state[:4])
        if math.prod(found.data_shape) != found.decoder.data_size or not fitting:
            raise ValueError("data or a state that do not fit the decoder and the parameters")
        sizes = found.decoder.latent_size, found.decoder.data_size
        checkpoints.rehearse(found.inference.parts, found.parameters, *sizes, log_prob=found.decoder.log_prob)
        return found

    own = {"sampler": sampler, "critic": critic, "contrast": contrast, "ratio_loss": ratio_loss, "features": features}
    return archives.read(path, KIND, PARTS, build, supplied={"decoder": decoder, **own})
