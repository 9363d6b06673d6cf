"""Standard deviations that training has lost, given back.

Maximising E_q[log p - log q] narrows q where it cannot follow p: a scale of a hierarchy comes out too certain.
The particles of the warm start know the scales, with the noise of a few thousand; a sampler that is narrower than they
are by more than that noise is stretched about its own mean. Sampler, critic and contrast live in whitened coordinates,
and stay as they are: only the map to z changes, so that log q = log r + T holds as before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neural_vb._types import Array
from neural_vb.whitening import Whitening

SMALLEST, LARGEST = 0.07, 0.5  # of log sd; what is farther off is another error, and is not hidden
NOISE = 6.0  # standard errors of the log sd of as many independent draws; particles share ancestors


def widen(whitening: Whitening, u: Array, sds: Array, num_particles: int) -> tuple[Whitening, Array]:
    """The map z = shift + scale_tril u, stretched where draws u are narrower than the particles.

    With z as it is before bends, s_i the particles' sd of coordinate i, and m_i, q_i mean and sd of the draws, z_i
    becomes m_i + (s_i / q_i) (z_i - m_i) where

        max(.07, 6 se) < log(s_i / q_i) < .5,    se = ((kurtosis_i - 1) / (4 N))^(1/2).

    Args:
        whitening: of u.
        u: [S, D] draws of the sampler.
        sds: [D], of the particles, s.
        num_particles: N.

    Returns:
        The map, and log(s / q) [D] where it was applied, else zero.
    """
    z = whitening.shift + np.asarray(u, np.float64) @ whitening.scale_tril.T
    mean = z.mean(0)
    centred = z - mean
    variance = (centred**2).mean(0) + 1e-300
    kurtosis = (centred**4).mean(0) / variance**2
    lost = np.log(sds) - 0.5 * np.log(variance)
    noise = np.sqrt(np.maximum(kurtosis - 1.0, 0.0) / (4.0 * num_particles))
    applied = np.where((lost > np.maximum(SMALLEST, NOISE * noise)) & (lost < LARGEST), lost, 0.0)
    if not applied.any():
        return whitening, applied
    factor = np.exp(applied)
    shift, scale_tril = mean + factor * (whitening.shift - mean), factor[:, np.newaxis] * whitening.scale_tril
    return replace(whitening, shift=shift, scale_tril=scale_tril), applied
