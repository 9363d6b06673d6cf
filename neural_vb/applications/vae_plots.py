"""Figures of a variational autoencoder. Matplotlib is imported when a figure is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from neural_vb import drawing
from neural_vb._types import Array
from neural_vb.applications.vae import VAE
from neural_vb.errors import DataError, UnsupportedError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B", "#999933", "#882255")


def plot_samples(vae: VAE, num_rows: int = 6, num_columns: int = 10, *, image_shape: Any = None, seed: int = 0) -> Any:
    """Means E[x | z] at draws of the prior, as a grid of images.

    Args:
        vae: the model.
        num_rows: of the grid.
        num_columns: of the grid.
        image_shape: (height, width) or (height, width, colours); default: the data's, or a square where X is one.
        seed: of the draws.

    Returns:
        A matplotlib figure.

    Raises:
        DataError: the data are no images, and ``image_shape`` does not say how to see them so.
        MissingDependencyError: matplotlib is not installed.
    """
    images = vae.generate(num_rows * num_columns, seed=seed)
    images = images.reshape(num_rows, num_columns, *vae.data_shape)
    return _grid(_images(images, image_shape), "draws from the prior")


def plot_reconstructions(vae: VAE, x: Any, *, num_draws: int = 3, image_shape: Any = None, seed: int = 0) -> Any:
    """Data in the first row, and below each its means E[x' | z] at ``num_draws`` draws z ~ q(z | x).

    Args:
        vae: the model.
        x: [N, *data_shape], a dozen or so.
        num_draws: rows of reconstructions.
        image_shape: see :func:`plot_samples`; the same errors.
        seed: of the draws.
    """
    found = vae.decode(vae.encode(x).sample(num_draws, seed=seed))
    images = np.concatenate([np.asarray(x, np.float32)[np.newaxis], found])
    return _grid(_images(images, image_shape), "data, and reconstructions below")


def plot_interpolations(
    vae: VAE, a: Any, b: Any, *, num_points: int = 10, image_shape: Any = None, seed: int = 0
) -> Any:
    """Rows of means E[x | z] with z from a draw of q(z | a) to one of q(z | b).

    Args:
        vae: the model.
        a: [N, *data_shape], where the rows start.
        b: [N, *data_shape], where they end.
        num_points: columns.
        image_shape: see :func:`plot_samples`; the same errors.
        seed: of the draws.
    """
    found = np.swapaxes(vae.interpolate(a, b, num_points, seed=seed), 0, 1)
    return _grid(_images(found, image_shape), "interpolations")


def plot_latent_space(
    vae: VAE, x: Any, labels: Any = None, *, num_draws: int = 1, limit: float = 3.5, seed: int = 0
) -> Any:
    """Draws of q(z | x) in two latent dimensions, coloured by label; the circles hold 50 % and 90 % of the prior.

    Args:
        vae: the model, with two latent dimensions.
        x: [N, *data_shape].
        labels: [N]; default: one for each row, where there are at most ten.
        num_draws: for each row.
        limit: of the axes.
        seed: of the draws.

    Raises:
        UnsupportedError: another number of latent dimensions.
        DataError: not one label for each row.
        MissingDependencyError: matplotlib is not installed.
    """
    if vae.decoder.latent_size != 2:
        raise UnsupportedError(
            expected="two latent dimensions",
            got=f"{vae.decoder.latent_size}",
            fix="fit with latent_size=2, or plot two coordinates of vae.encode(x).sample()",
        )
    z = vae.encode(x).sample(num_draws, seed=seed)
    count = z.shape[1]
    if labels is None:
        labels = np.arange(count) if count <= len(COLOURS) else np.zeros(count, int)
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise DataError(
            expected=f"labels of shape [{count}]", got=f"shape {list(labels.shape)}", fix="pass one label for each row"
        )
    size = float(np.clip(400.0 / np.sqrt(z[..., 0].size), 1.0, 12.0))
    with drawing.style() as plt:
        figure, axis = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
        kinds = np.unique(labels)
        for index, kind in enumerate(kinds):
            points = z[:, labels == kind].reshape(-1, 2)
            colour = COLOURS[index % len(COLOURS)]
            axis.scatter(*points.T, s=size, color=colour, alpha=0.5, linewidths=0, label=str(kind), rasterized=True)
        for share in (0.5, 0.9):
            radius = np.sqrt(-2.0 * np.log(1.0 - share))
            axis.add_patch(plt.Circle((0, 0), radius, fill=False, color=drawing.INK, lw=0.8, ls="--"))
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
        if len(kinds) > 1:
            legend = axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, markerscale=2)
            for handle in legend.legend_handles:
                handle.set_alpha(1.0)
                handle.set_sizes([24.0])
        drawing.finish(axis)
    return figure


def _images(x: Array, image_shape: Any) -> Array:
    """[rows, columns, *data_shape] -> [rows, columns, height, width(, colours)]."""
    data_shape = x.shape[2:]
    if image_shape is None:
        size = int(np.prod(data_shape))
        side = round(np.sqrt(size))
        if len(data_shape) == 2 or (len(data_shape) == 3 and data_shape[-1] in (1, 3, 4)):
            image_shape = data_shape
        elif len(data_shape) == 1 and side**2 == size:
            image_shape = (side, side)
        else:
            image_shape = ()
    image_shape = tuple(image_shape)
    if not image_shape or np.prod(image_shape) != np.prod(data_shape):
        raise DataError(
            expected=f"an image_shape for data of shape {list(data_shape)}",
            got=str(list(image_shape) or "none"),
            fix="pass image_shape=(height, width) or (height, width, colours)",
        )
    if len(image_shape) == 3 and image_shape[-1] == 1:
        image_shape = image_shape[:2]
    return x.reshape(*x.shape[:2], *image_shape)


def _grid(images: Array, title: str) -> Any:
    """A figure of [rows, columns, height, width(, colours)]: one mosaic with thin lines between the images."""
    rows, columns, height, width = images.shape[:4]
    low, high = float(images.min()), float(images.max())
    low, high = min(low, 0.0), max(high, 1.0)
    gap = max(height // 14, 1)
    mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[4:]), np.nan)
    for i in range(rows):
        for j in range(columns):
            top, left = i * (height + gap), j * (width + gap)
            mosaic[top : top + height, left : left + width] = (images[i, j] - low) / (high - low)
    scale = min(8.0 / mosaic.shape[1], 8.0 / mosaic.shape[0])
    with drawing.style() as plt:
        size = (max(mosaic.shape[1] * scale, 1.5), max(mosaic.shape[0] * scale, 1.0) + 0.3)
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        colours = plt.get_cmap("gray").with_extremes(bad="#C8D4E0")
        shown = np.nan_to_num(mosaic, nan=0.8) if mosaic.ndim == 3 else mosaic
        axis.imshow(shown, cmap=colours, vmin=0.0, vmax=1.0, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    return figure
