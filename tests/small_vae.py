"""A variational autoencoder of small parts and few steps, for several test modules."""

from __future__ import annotations

import numpy as np

from neural_vb.applications.inference import avb_adaptive
from neural_vb.applications.vae import VAE, fit_vae
from neural_vb.configuration import TrainingConfig
from neural_vb.networks import MLP

BRIEF = TrainingConfig(
    max_steps=40, min_steps=0, decay_steps=20, window=20, batch_size=32, ramp_steps=0, plateau_windows=50,
    jit_compile=False, easy_divergence=0.0,
)  # fmt: skip
SMALL = {"decoder": MLP((8,)), "config": BRIEF, "progress": False}
IMAGES = (np.random.RandomState(0).rand(50, 3, 2) < 0.3).astype(np.uint8)
PIXELS = np.eye(4, dtype=np.float32)


def small_vae() -> VAE:
    return fit_vae(IMAGES, latent_size=2, inference=avb_adaptive(), validation=IMAGES[:9], seed=3, **SMALL)
