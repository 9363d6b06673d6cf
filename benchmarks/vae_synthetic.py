"""The four pixels: ``python -m benchmarks.vae_synthetic`` prints the table and saves the picture.

One of four pixels is on, the latent space has two dimensions, the decoder three hidden layers of 64. log p(x) is
quadrature over z; the entropies are nearest-neighbour estimates from q's draws. No number of the table but the critic's
trusts a critic. Mescheder, Nowozin & Geiger
(arXiv 1701.04722), section 6.1, report for the Gaussian VAE / AVB: log-likelihood -1.568 / -1.403, reconstruction error
88.5e-3 / 5.77e-3, ELBO -1.697 / -1.421, KL(q(z) || p(z)) .165 / .026. The ceiling is -log 4 = -1.3863.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from scipy.spatial import cKDTree

from benchmarks.definitions import Array

LIMIT, CELLS = 6.0, 400
CHUNK = 20_000
PIXELS = np.eye(4, dtype=np.float32)


class Row(NamedTuple):
    """One fit, in nats, means over the four images.

    Attributes:
        log_likelihood: log p(x), by quadrature.
        elbo: E_q[log p(x, z)] + H[q], the entropy from draws.
        divergence: KL(q(z) || p(z)) of the aggregate, likewise.
        reconstruction: -E_q[log p(x | z)].
        estimate: the ELBO as the critic sees it.
        seconds: of the fit, compilation included.
    """

    log_likelihood: float
    elbo: float
    divergence: float
    reconstruction: float
    estimate: float
    seconds: float


def models() -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Name -> inference and training constants."""
    from dataclasses import replace

    from neural_vb.applications import inference
    from neural_vb.applications.vae import VAE_CONFIG

    longer = replace(
        VAE_CONFIG,
        max_steps=6_000,
        min_steps=6_000,
        decay_steps=18_000,
        batch_size=512,
        sampler_rate=7e-4,
        critic_rate=5e-3,
        contrast_rate=5e-3,
        target_rate=4e-3,
    )
    return {
        "Gaussian VAE": lambda: (inference.gaussian(), VAE_CONFIG),
        "inverse autoregressive flow": lambda: (inference.iaf(), VAE_CONFIG),
        "AVB, prior": lambda: (inference.avb_prior(), longer),
        "AVB, adaptive contrast": lambda: (inference.avb_adaptive(), longer),
        "AVB, flow contrast": lambda: (inference.avb_flow(), longer),
    }


def grid() -> tuple[Array, float]:
    """Midpoints [CELLS^2, 1, 2] of square cells that cover the prior, and the area of a cell."""
    edges = np.linspace(-LIMIT, LIMIT, CELLS + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    points = np.stack(np.meshgrid(middle, middle, indexing="ij"), -1).reshape(-1, 1, 2)
    return points.astype(np.float32), float((edges[1] - edges[0]) ** 2)


def entropy(z: Array, neighbours: int = 4) -> float:
    """Of the density behind draws [n, 2], nats: log(n) + log(pi d_k^2) - psi(k), d_k to the k-th neighbour, averaged.

    Kozachenko & Leonenko (1987). A histogram with cells of .03 overrates the entropy of a quadrant of the prior by up
    to .012 nats, and that of a thinner q without limit; this one is off by .002 there (200,000 draws, about its Monte
    Carlo error), and by -.02 on a Gaussian with sds 1 and .001.
    """
    distance = cKDTree(z).query(z, neighbours + 1)[0][:, -1]
    logarithm = 2.0 * np.log(np.maximum(distance, 1e-12)).mean()
    return float(scipy.special.digamma(len(z)) - scipy.special.digamma(neighbours) + np.log(np.pi) + logarithm)


def measure(vae: Any, seconds: float, num_draws: int = 100_000, seed: int = 1) -> Row:
    """The row of a fit."""
    import tensorflow as tf

    points, area = grid()
    target = vae.parameters["target"]
    pieces = [points[i : i + CHUNK] for i in range(0, len(points), CHUNK)]
    log_joint = np.concatenate([vae.decoder.log_prob(tf.constant(p), tf.constant(PIXELS), target) for p in pieces])
    log_likelihood = np.log(np.exp(log_joint.astype(np.float64)).sum(0) * area)

    z = vae.encode(PIXELS).sample(num_draws, seed=seed)
    log_p = np.mean(vae.decoder.log_prob(tf.constant(z), tf.constant(PIXELS), target), dtype=np.float64)
    z = z.astype(np.float64)
    elbo = log_p + np.mean([entropy(z[:, b]) for b in range(len(PIXELS))])
    aggregate = z[: num_draws // 2].reshape(-1, 2)
    log_prior = -0.5 * (aggregate**2).sum(-1).mean() - np.log(2.0 * np.pi)
    divergence = -entropy(aggregate) - log_prior
    return Row(
        float(log_likelihood.mean()),
        float(elbo),
        float(divergence),
        float(vae.reconstruction_error(PIXELS, num_draws=5_000).mean()),
        float(vae.elbo(PIXELS, num_draws=5_000).mean()),
        seconds,
    )


def table(found: dict[str, list[Row]]) -> str:
    """Markdown, one line for each fit."""
    lines = [
        "| inference | seed | log-likelihood | ELBO | KL(q(z) ‖ p(z)) | reconstruction | critic's ELBO | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, fits in found.items():
        for seed, row in enumerate(fits):
            numbers = f"{row.log_likelihood:.4f} | {row.elbo:.4f} | {row.divergence:.4f} | {row.reconstruction:.4f}"
            lines.append(f"| {name} | {seed} | {numbers} | {row.estimate:.4f} | {row.seconds:.0f} |")
    return "\n".join(lines)


def picture(fits: dict[str, Any]) -> Any:
    """Draws of the four posteriors for each inference, side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(fits), figsize=(3.0 * len(fits), 3.2), layout="constrained", squeeze=False)
    for axis, (name, vae) in zip(axes[0], fits.items(), strict=True):
        z = vae.encode(PIXELS).sample(2_000, seed=2)
        for b, colour in enumerate(("#0072B2", "#D55E00", "#009E73", "#CC79A7")):
            axis.scatter(*z[:, b].T, s=2, color=colour, alpha=0.4, linewidths=0, rasterized=True)
        axis.set(title=name, xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal", xticks=[], yticks=[])
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, measure, print, save."""
    from neural_vb.applications.vae import fit_vae

    parser = argparse.ArgumentParser(prog="python -m benchmarks.vae_synthetic", description="The four-pixel data set.")
    parser.add_argument("--models", nargs="+", choices=list(models()), default=list(models()), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--picture", type=Path, default=Path("four_pixels.png"))
    options = parser.parse_args(arguments)
    found: dict[str, list[Row]] = {}
    last: dict[str, Any] = {}
    for name in options.models:
        for seed in options.seeds:
            inference, config = models()[name]()
            begin = time.perf_counter()
            last[name] = fit_vae(PIXELS, latent_size=2, inference=inference, config=config, seed=seed, progress=False)
            found.setdefault(name, []).append(measure(last[name], time.perf_counter() - begin))
            print(table({name: found[name][-1:]}).splitlines()[-1].replace("| 0 |", f"| {seed} |", 1), flush=True)
    print(table(found))
    picture(last).savefig(options.picture, dpi=150)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
