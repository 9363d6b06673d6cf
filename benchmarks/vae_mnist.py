"""Static binarised MNIST: ``python -m benchmarks.vae_mnist --data PATH`` fits, measures and draws, or resumes.

Ways of inference for one small decoder, each with at most the same wall time on the same cores and with its encoder
of the decoder's size. A residual sampler starts from a Gaussian fit that took two thirds of its time. Every fit leaves
a JSON file, its parameters and pictures; files that are there are not made again, so that a run that was cut short goes
on. ``--report`` prints the table of all that is there.

Mescheder, Nowozin & Geiger (arXiv 1701.04722), table 2, report after up to 2.5 million steps on a GPU, in 32
dimensions (bound / AIS): AVB with adaptive contrast -79.5 / -80.2, variational autoencoder -87.2 / -81.9.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.definitions import Array
from benchmarks.image_data import StaticMnist, static_mnist

HIDDEN = (200, 200)
BATCH = 128
VALIDATION = 1_000
PATIENCE = 20  # windows, 10,000 steps: where the held-out bound rises no more the rates fall, and the fit ends
COURSE = ("elbo", "validation_elbo", "validation_bound", "critic_accuracy")
TRIAL_WINDOWS = 4  # the first of them compiles; the others tell the time of a step
RATE = 2e-3
DECAY_SHARE = 0.4  # of the steps, over which the rates fall to zero
DECAY_STEPS = 50_000  # at most


def models() -> dict[str, Callable[[], Any]]:
    """Name -> inference."""
    from neural_vb.applications import encoders, inference
    from neural_vb.critics import MLPCritic
    from neural_vb.networks import MLP

    network, quiet, half = MLP(HIDDEN), MLP(HIDDEN, output_scale=0.1), HIDDEN[-1] // 2
    noise_basis = encoders.NoiseBasisSampler(quiet)
    residual = encoders.ResidualSampler(encoders.GaussianEncoder(quiet), MLP((half, half), output_scale=0.01))
    # of half the width, and the one that reads pixels with one layer less: more costs more than the encoder
    of_pixels = inference.ProductCritic(MLP((half,)), MLP((half, half), output_scale=0.01), half)
    critic = MLPCritic(MLP((half, half), output_scale=0.01))
    return {
        "gaussian": lambda: inference.gaussian(encoders.GaussianEncoder(quiet)),
        "iaf": lambda: inference.iaf(
            encoders.InverseAutoregressiveEncoder(quiet, hidden=HIDDEN[-1], context_size=HIDDEN[-1] // 4)
        ),
        "aae": lambda: inference.adversarial_autoencoder(encoders.ConcatSampler(network)),
        "avb": lambda: inference.avb_prior(encoders.ConcatSampler(network), of_pixels),
        "avb_adaptive": lambda: inference.avb_adaptive(noise_basis, critic),
        "avb_flow": lambda: inference.avb_flow(noise_basis, critic),
        "avb_adaptive_residual": lambda: inference.avb_adaptive(residual, critic),
        "avb_flow_residual": lambda: inference.avb_flow(residual, critic),
    }


LABELS = {
    "gaussian": "Gaussian VAE",
    "iaf": "inverse autoregressive flow",
    "aae": "adversarial autoencoder",
    "avb": "AVB, prior",
    "avb_adaptive": "AVB, adaptive contrast, noise basis",
    "avb_flow": "AVB, flow contrast, noise basis",
    "avb_adaptive_residual": "AVB, adaptive contrast, residual",
    "avb_flow_residual": "AVB, flow contrast, residual",
}
RESIDUAL = "_residual"
GAUSSIAN_SHARE = 2 / 3  # of the time of a residual sampler, for the Gaussian fit that it starts from
SLOW = {"sampler_rate": RATE / 40, "critic_rate": RATE / 2, "contrast_rate": RATE / 2, "target_rate": RATE / 7}


def config(max_steps: int, window: int = 500, **rates: float) -> Any:
    """Training constants for as many steps, the last of them with falling rates."""
    from neural_vb.configuration import TrainingConfig

    decay = max(round(min(DECAY_SHARE * max_steps, DECAY_STEPS) / window) * window, window)
    before = max(max_steps - decay, window)
    standard = {"sampler_rate": RATE / 2, "critic_rate": RATE, "contrast_rate": RATE, "target_rate": RATE / 2}
    return TrainingConfig(
        **(standard | rates),
        max_steps=before,
        min_steps=before,
        decay_steps=decay,
        batch_size=BATCH,
        window=window,
        average_decay=0.999,
        easy_divergence=0.0,
    )


def fit(
    name: str, latent_size: int, data: StaticMnist, seconds: float, seed: int, start: Any = None
) -> tuple[Any, dict[str, Any]]:
    """A fit of that wall time, compilation included, and its course.

    The time of a step is measured first, on a few windows that are thrown away; their time does not count.
    """
    from neural_vb.applications.vae import fit_vae
    from neural_vb.networks import MLP

    def run(steps: int, callback: Callable[[int, Mapping[str, float]], bool]) -> Any:
        return fit_vae(
            data.train,
            latent_size=latent_size,
            decoder=MLP(HIDDEN),
            inference=models()[name](),
            config=config(steps, **(SLOW if name.endswith(RESIDUAL) else {})),
            start=start,
            validation=mixed(data.valid)[:VALIDATION],
            patience=PATIENCE,
            seed=seed,
            progress=False,
            callbacks=[callback],
        )

    begin, times = time.perf_counter(), []

    def trial(step: int, metrics: Mapping[str, float]) -> bool:
        times.append((step, time.perf_counter() - begin))
        return len(times) == TRIAL_WINDOWS

    run(10**6, trial)
    (first, early), (last, late) = times[0], times[-1]
    per_step = (late - early) / (last - first)
    compilation = early - first * per_step
    begin, curve = time.perf_counter(), []

    def watch(step: int, metrics: Mapping[str, float]) -> bool:
        elapsed = time.perf_counter() - begin
        curve.append({"step": step, "seconds": elapsed} | {name: metrics[name] for name in COURSE})
        return elapsed > 1.1 * seconds

    vae = run(int((seconds - compilation) / per_step), watch)
    return vae, {"milliseconds_per_step": 1e3 * per_step, "seconds": time.perf_counter() - begin, "curve": curve}


def mixed(images: Array) -> Array:
    """In an order of their own: the file is sorted by digit."""
    return images[np.random.default_rng(0).permutation(len(images))]


def measure(vae: Any, data: StaticMnist, num_images: int, num_temperatures: int, seed: int) -> dict[str, Any]:
    """Bounds and estimates of log p(x) on test images, nats, means with standard errors over images."""
    from neural_vb.applications.ais import AISConfig

    x = mixed(data.test)[:num_images]
    begin = time.perf_counter()
    found = vae.ais_log_likelihood(x, config=AISConfig(num_temperatures=num_temperatures, num_chains=8), seed=seed)
    seconds = time.perf_counter() - begin
    return {
        "elbo": _mean(vae.elbo(x, num_draws=8, seed=seed)),
        "iwae": _mean(vae.iwae_bound(x, 500, seed=seed)),
        "ais": _mean(found.log_likelihood),
        "ais_chain_error": float(np.sqrt((found.standard_error**2).mean())),
        "ais_acceptance": float(found.acceptance.mean()),
        "ais_seconds": seconds,
        "reconstruction": _mean(vae.reconstruction_error(x, num_draws=8, seed=seed)),
    }


def _mean(values: Array) -> list[float]:
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]


def picture(vae: Any, data: StaticMnist) -> Any:
    """Draws from the prior, reconstructions and interpolations."""
    from neural_vb.applications import vae_plots

    x = mixed(data.test)
    return {
        "samples": vae_plots.plot_samples(vae, 5, 10, seed=3),
        "interpolations": vae_plots.plot_interpolations(vae, x[:5], x[5:10], seed=3),
    }


def path(out: Path, name: str, latent_size: int, minutes: float, seed: int) -> Path:
    """Of a result."""
    return out / f"{name}.latent{latent_size}.minutes{minutes:g}.seed{seed}.json"


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, a line for each fit, best AIS first within latent size and budget."""
    lines = [
        "| latent | minutes | inference | steps | ELBO | IWAE, 500 | AIS | reconstruction | critic accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in sorted(found, key=lambda run: (run["latent_size"], run["minutes"], -run["ais"][0])):
        numbers = " | ".join(f"{run[name][0]:.2f}" for name in ("elbo", "iwae", "ais", "reconstruction"))
        last, label = run["curve"][-1], LABELS[run["model"]]
        lines.append(
            f"| {run['latent_size']} | {run['minutes']:g} | {label} | {last['step']:,} | {numbers} "
            f"| {last['critic_accuracy']:.2f} |"
        )
    return "\n".join(lines)


def curves(found: Sequence[Mapping[str, Any]]) -> Any:
    """Held-out bound (16 draws) along each fit, and AIS at its end, against wall time; a panel for each latent size."""
    import matplotlib.pyplot as plt

    from neural_vb.applications.vae_plots import COLOURS

    sizes = sorted({run["latent_size"] for run in found})
    figure, axes = plt.subplots(1, len(sizes), figsize=(4.6 * len(sizes), 3.6), layout="constrained", squeeze=False)
    for axis, size in zip(axes[0], sizes, strict=True):
        low, high = np.inf, -np.inf
        for colour, (name, label) in zip(COLOURS, LABELS.items(), strict=False):
            runs = [run for run in found if run["model"] == name and run["latent_size"] == size]
            for run in runs:
                minutes, bound = (np.array([row[k] for row in run["curve"]]) for k in ("seconds", "validation_bound"))
                axis.plot(minutes / 60.0, bound, color=colour, lw=1.0)
                # a run that has lost its way may fall without end
                low, high = min(low, bound.max(), run["ais"][0]), max(high, bound.max(), run["ais"][0])
            ends = sorted((run["seconds"] / 60.0, run["ais"][0]) for run in runs)
            if ends:
                axis.plot(*zip(*ends, strict=True), "o", color=colour, ms=5, label=label)
        axis.set(xscale="log", xlabel="minutes", ylabel="nats", title=f"{size} latent dimensions")
        axis.set_ylim(low - 0.1 * (high - low), high + 0.05 * (high - low))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, -1].legend(title="line: bound, held out\npoint: AIS, test", fontsize=7, title_fontsize=7)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, measure, save, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vae_mnist", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the files binarized_mnist_*.amat")
    parser.add_argument("--out", type=Path, default=Path("results/vae_mnist"))
    parser.add_argument("--models", nargs="+", choices=list(LABELS), default=list(LABELS), metavar="NAME")
    parser.add_argument("--latent", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--minutes", nargs="+", type=float, default=[20.0], help="wall time of each fit")
    parser.add_argument("--images", type=int, default=1_000, help="test images for AIS")
    parser.add_argument("--temperatures", type=int, default=200, help="of AIS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="only print what is there, and draw the curves")
    options = parser.parse_args(arguments)
    if not options.report:
        if options.data is None:
            parser.error("--data is needed: the folder of the files binarized_mnist_*.amat")
        _run(options, static_mnist(options.data))
    found = [run for run in map(results.read_result, sorted(options.out.glob("*.latent*.json"))) if run is not None]
    if not found:
        print(f"no results in {options.out}")
        return 1
    print(table(found))
    curves(found).savefig(options.out / "curves.png", dpi=150)
    return 0


def _fit(
    name: str, size: int, data: StaticMnist, minutes: float, options: argparse.Namespace
) -> tuple[Any, dict[str, Any]]:
    """Of a residual sampler the course goes on where that of its Gaussian fit, made or read, has ended."""
    from neural_vb.applications.vae import load_vae

    if not name.endswith(RESIDUAL):
        return fit(name, size, data, 60.0 * minutes, options.seed)
    first = argparse.Namespace(**vars(options) | {"minutes": [GAUSSIAN_SHARE * minutes], "latent": [size]})
    _run(argparse.Namespace(**vars(first) | {"models": ["gaussian"]}), data)
    file = path(options.out, "gaussian", size, first.minutes[0], options.seed)
    before = results.read_result(file)
    vae, course = fit(
        name, size, data, 60.0 * minutes - before["seconds"], options.seed, load_vae(file.with_suffix(".nvb"))
    )
    last = before["curve"][-1]
    later = [row | {k: row[k] + last[k] for k in ("step", "seconds")} for row in course["curve"]]
    return vae, course | {"seconds": before["seconds"] + course["seconds"], "curve": before["curve"] + later}


def _run(options: argparse.Namespace, data: StaticMnist) -> None:
    for minutes in options.minutes:
        for size in options.latent:
            for name in options.models:
                file = path(options.out, name, size, minutes, options.seed)
                if results.is_finished(file):
                    continue
                vae, course = _fit(name, size, data, minutes, options)
                numbers = measure(vae, data, options.images, options.temperatures, options.seed + 1)
                about = {"schema": results.SCHEMA, "model": name, "latent_size": size, "minutes": minutes}
                about |= {"seed": options.seed, "machine": results.machine(), "images": options.images}
                shutil.rmtree(file.with_suffix(".nvb"), ignore_errors=True)  # of a run that was cut short
                vae.save(file.with_suffix(".nvb"))
                results.write_json(file, about | course | numbers)
                for kind, figure in picture(vae, data).items():
                    figure.savefig(file.with_suffix(f".{kind}.png"), dpi=110)
                print(f"{file.stem}: ELBO {numbers['elbo'][0]:.2f}, AIS {numbers['ais'][0]:.2f}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
