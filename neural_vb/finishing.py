"""What is put right after training, by the map from u to z: moments and standard deviations; or whether all is lost."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import tensorflow as tf

from neural_vb import contrasts, curving, moments
from neural_vb._types import Array, Parameters
from neural_vb.avb import Parts, contrast_density
from neural_vb.errors import NeuralVBError
from neural_vb.history import History
from neural_vb.mixtures import Stream, fold_in
from neural_vb.moments import NUM_GUARDS, NUM_WEIGHTED, Moments
from neural_vb.probing import Probe
from neural_vb.warm_start import NUM_PARTICLES, WarmStart
from neural_vb.whitening import Whitening
from neural_vb.widening import widen

logger = logging.getLogger(__name__)

SLICE = 8_192  # draws at once
WORSE, NOISE = 0.5, 4.0  # nats, and standard errors, below its start at which a trained sampler is given up


def shortfall(history: History, bound: float | None) -> float:
    """By how many nats training ended below what it began from; 0 where that is no more than ``WORSE``, or not known.

    Args:
        history: of training.
        bound: E_q[log p - log q] of the warm start, nats.
    """
    if bound is None or not len(history.elbo):
        return 0.0
    below, noise = bound - float(history.elbo[-1]), float(history.elbo_standard_error[-1])
    # Of an exploded density the error is as large as the mean.
    if below < WORSE + NOISE * min(noise, WORSE):
        return 0.0
    return below if math.isfinite(below) else math.inf


def finish(
    warm: WarmStart, parts: Parts, parameters: Parameters, evaluate: Probe, seed: int
) -> tuple[WarmStart, tuple[str, ...]]:
    """The start in coordinates in which draws of the sampler have the moments of the target, with notes of it.

    By the contrast's importance weights where these are usable, then by the particles of the warm start. Training is
    not lost to what happens here: after Ctrl-C, or where log p raises an error at a draw of the contrast, the weights
    are done without.

    Args:
        warm: of the fit.
        parts: sampler and contrast.
        parameters: theirs, trained.
        evaluate: log p and its gradient.
        seed: of draws.
    """
    if isinstance(parts.contrast, contrasts.Prior):
        return warm, ()  # its density is tied to the coordinates
    whitening, matched = warm.target.whitening, False
    notes: list[str] = []
    try:
        whitening, matched = _matched(whitening, parts, parameters, evaluate, seed)
    except KeyboardInterrupt:
        notes.append("interrupted while means and covariances were being put right: they are as training left them")
    except (NeuralVBError, tf.errors.OpError) as error:
        logger.info("no weights: %s", error)
    sds = np.sqrt((warm.target.whitening.scale_tril**2).sum(1))  # a factor of the particles' covariance
    if matched:
        notes.append("means and covariances were put right by importance weights of the contrast")
    whitening, lost = widen(whitening, _drawn(parts, parameters, seed, 0), sds, NUM_PARTICLES)
    if lost.any():
        said = f"{np.count_nonzero(lost)} of {len(lost)} sds, up to {100 * np.expm1(lost.max()):.0f} % narrower"
        notes.append(f"{said} after training than in particles, were widened")
    return warm._replace(target=replace(warm.target, whitening=whitening)), tuple(notes)


def _drawn(parts: Parts, parameters: Parameters, seed: int, index: int) -> Array:
    """A slice of draws of the sampler, [S, D]."""
    key = fold_in([seed, 2 * index], Stream.FINISH)
    return parts.sampler(parameters["sampler"], SLICE, None, key).z[:, 0].numpy()


def _matched(
    whitening: Whitening, parts: Parts, parameters: Parameters, evaluate: Probe, seed: int
) -> tuple[Whitening, bool]:
    """The map after which draws of the sampler have the target's moments, where weights tell these."""
    density = contrast_density(parts, parameters, None)
    in_y = curving.inside(whitening.bends, evaluate)

    def of_contrast(index: int) -> Array:
        return density.sample(SLICE, fold_in([seed, 2 * index + 1], Stream.FINISH))[:, 0].numpy()

    def log_p(u: Array, by: Whitening = whitening) -> Array:
        """Without the Jacobian of u, which is the same at all of them."""
        with np.errstate(all="ignore"):  # far out maps overflow
            return in_y(replace(by, bends=()).to_z(u).numpy())[0]

    def log_r(u: Array) -> Array:
        return density.log_prob(tf.constant(u[:, np.newaxis]))[:, 0].numpy()

    weighted = range(NUM_WEIGHTED // SLICE)
    others = range(len(weighted), len(weighted) + moments.num_draws(whitening.event_size) // SLICE)
    drawn = [of_contrast(index) for index in weighted]
    log_weights = np.concatenate([log_p(u) - log_r(u) for u in drawn])
    u = _drawn(parts, parameters, seed, 0)
    before = log_p(u)
    guards = before[:NUM_GUARDS] - log_r(u[:NUM_GUARDS])
    r = Moments.of(of_contrast(index) for index in others)
    target = moments.target_moments(r, np.concatenate(drawn).astype(np.float64), log_weights, guards)
    if target is None:
        return whitening, False
    q = Moments.of(_drawn(parts, parameters, seed, index) for index in others)
    found, changed = moments.matched(whitening, q, target)
    if not changed or moments.loses(before + whitening.log_det, log_p(u, found) + found.log_det):
        return whitening, False
    return found, True
