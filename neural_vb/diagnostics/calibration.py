"""Simulation-based calibration: does a method return the posterior, on average over data from the joint itself?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from neural_vb import _checks, joints, uniformity
from neural_vb._text import a_kind, listed, suggestion
from neural_vb._types import Array, Seed
from neural_vb.compilation import Compiled, quiet_tracing
from neural_vb.draws import columns
from neural_vb.errors import DataError, LatentError, TargetValueError

Sample: TypeAlias = Callable[[dict[str, Array], int, int], Mapping[str, Any]]

LOG_LIKELIHOOD = "log likelihood"
MIN_DRAWS = 15  # sixteen ranks are the coarsest picture in which a shape can be told
MIN_SIMULATIONS = 10
MAX_PRINTED_ROWS = 40
_NUMBERS = 2_000_000  # in one call of the likelihood, to bound its memory


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the true values among posterior draws; uniform on 0, …, S if the posteriors are exact.

    Attributes:
        ranks: label -> [N] whole numbers, the draws that are smaller than the true value: one label for each scalar
            latent, such as ``mu`` and ``theta[0]``, and ``log likelihood``.
        num_draws: S.

    Raises:
        DataError: when there are no ranks, the labels disagree on N, or a rank is not a whole number in 0, …, S.
    """

    ranks: dict[str, Array]
    num_draws: int

    def __post_init__(self) -> None:
        ranks = {label: np.asarray(values) for label, values in self.ranks.items()}
        if not ranks or len({values.shape for values in ranks.values()}) > 1 or next(iter(ranks.values())).ndim != 1:
            shapes = ", ".join(f"{label} {values.shape}" for label, values in ranks.items())
            raise DataError(
                expected="ranks of at least one label, as many for each, [N]",
                got=shapes or "none",
                fix="pass ranks as {'mu': [N], ...}",
            )
        for label, values in ranks.items():
            if values.dtype.kind not in "iu" or not values.size or values.min() < 0 or values.max() > self.num_draws:
                span = f" from {values.min():g} to {values.max():g}" if values.size else ""
                raise DataError(
                    expected=f"ranks of {label!r} as whole numbers from 0 to {self.num_draws}, the number of draws",
                    got=f"{values.size} of dtype {values.dtype}{span}",
                    fix="count the draws that are smaller than the true value",
                )
        object.__setattr__(self, "ranks", ranks)

    @property
    def num_simulations(self) -> int:
        """N."""
        return len(next(iter(self.ranks.values())))

    def pvalues(self) -> dict[str, float]:
        """Label -> p value of uniform ranks, from the simultaneous test of their empirical distribution function.

        The statistic is the most extreme of the binomial tails P(Bin(N, c / (S + 1)) ≤ or ≥ ranks below c) over all
        cuts c; its distribution is computed exactly, not simulated. Each is for one label alone.

        Source:
            Säilynoja, Bürkner & Vehtari (2022), https://arxiv.org/abs/2103.10522, section 2.
        """
        return {label: uniformity.pvalue(ranks, self.num_draws + 1) for label, ranks in self.ranks.items()}

    @property
    def pvalue(self) -> float:
        """One p value for all labels: the smallest, times their number (Bonferroni: the first step of Holm's test)."""
        values = self.pvalues().values()
        return min(1.0, len(values) * min(values))

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each label, with keys name, pvalue, mean and spread: ``pandas.DataFrame(calibration.rows())``.

        ``mean`` is the mean of rank / S, one half if uniform: more where draws are too small, less where too large.
        ``spread`` is the sd of the ranks over that of uniform ones: above one where posteriors are too narrow, below
        one where they are too wide.
        """
        uniform = np.sqrt(((self.num_draws + 1) ** 2 - 1) / 12.0)
        pvalues = self.pvalues()
        return [
            {
                "name": label,
                "pvalue": pvalues[label],
                "mean": float(ranks.mean() / self.num_draws),
                "spread": float(ranks.std() / uniform),
            }
            for label, ranks in self.ranks.items()
        ]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(row["name"]) for row in rows)
        lines = [f"{'':{width}}  {'p value':>7}  {'mean':>5}  {'spread':>6}"]
        for row in rows[:MAX_PRINTED_ROWS]:
            shown = _pvalue(row["pvalue"])
            lines.append(f"{row['name']:{width}}  {shown:>7}  {row['mean']:5.3f}  {row['spread']:6.3f}")
        if len(rows) > MAX_PRINTED_ROWS:
            lines.append(f"… and {len(rows) - MAX_PRINTED_ROWS:,} more rows")
        band = uniformity.band(self.num_simulations, self.num_draws + 1)
        seen = (band.upper - band.lower).max() / (2.0 * self.num_simulations)
        overall = _pvalue(min(1.0, len(rows) * min(row["pvalue"] for row in rows)))
        equals = "p" if overall.startswith("<") else "p ="
        return "\n".join(
            [
                *lines,
                f"({self.num_simulations:,} simulations, {self.num_draws:,} draws each; uniform: mean .5, spread 1)",
                f"all labels: {equals} {overall} (Bonferroni); 95 % band of one label: up to ± {seen:.3f}",
            ]
        )


def sbc(
    joint: Any,
    sample: Sample,
    *,
    observed: Sequence[str] | str,
    num_simulations: int = 500,
    num_draws: int = 255,
    seed: Seed = 0,
    batch_size: int = 100,
    progress: bool = True,
) -> Calibration:
    """Rank true values, drawn from the joint with their data, among a method's posterior draws for these data.

    For (latents*, data) ~ p and draws_1, …, draws_S ~ p(latents | data), the rank

        sum_s 1[f(draws_s, data) < f(latents*, data)]

    is uniform on 0, …, S for every function f. Here f is each scalar latent, and log p(data | latents) (nats), which
    depends on the data: draws from the prior pass with the former alone. Ties are broken at random.

    Args:
        joint: any TFP joint distribution of latents and data.
        sample: ``(data, num_draws, seed) -> draws``, with data as name -> [B, *event] for B data sets, and draws as
            name -> [S, B, *event] for every latent part; other names are left out. ``refits`` makes one of a fit of a
            single data set. `seed` is an int from 0 to 2^31 - 1, another for each call.
        observed: names of the parts that are data.
        num_simulations: N, data sets drawn from the joint.
        num_draws: S. One less than a power of two, so that the S + 1 ranks divide into equal bins.
        seed: int, or a stateless seed of shape [2]. The data sets depend on it alone, the draws also on `batch_size`.
        batch_size: the most data sets in one call of `sample`.
        progress: show a bar.

    Returns:
        A `Calibration`.

    Raises:
        ConfigurationError: `num_simulations` is below 10, `num_draws` below 15 or `batch_size` below 1.
        DataError: `observed` is empty or has an unknown name; draws lack a part, have another shape or are NaN.
        LatentError: `observed` names all parts, or a latent part is unnamed, discrete, deterministic or nested.
        TargetShapeError: component batch dimensions of the joint would mix with the axis of draws.
        TargetValueError: the joint simulates NaN, or its log likelihood of true values or draws is NaN.

    Source:
        Talts, Betancourt, Simpson, Vehtari & Gelman (2018), https://arxiv.org/abs/1804.06788, algorithm 1; for the log
        likelihood Modrák et al. (2023), https://arxiv.org/abs/2211.02383, section 3.

    Example:
        >>> import numpy as np, tensorflow_probability as tfp
        >>> tfd = tfp.distributions
        >>> model = {"mu": tfd.Normal(0., 1.), "y": lambda mu: tfd.Normal(mu, 1.)}
        >>> joint = tfd.JointDistributionNamedAutoBatched(model)
        >>> def exact(data, num_draws, seed):
        ...     noise = np.random.default_rng(seed).normal(size=(num_draws, len(data["y"])))
        ...     return {"mu": data["y"] / 2 + noise / np.sqrt(2)}
        >>> list(sbc(joint, exact, observed=["y"], num_simulations=50, progress=False).ranks)
        ['mu', 'log likelihood']
    """
    for name, value, least in (
        ("num_simulations", num_simulations, MIN_SIMULATIONS),
        ("num_draws", num_draws, MIN_DRAWS),
        ("batch_size", batch_size, 1),
    ):
        _checks.whole(name, value, least)
    seeds = _seeds(seed, 2 + -(-num_simulations // batch_size))
    joints.part_names(joint)
    names = joints.chosen_names(observed)
    with quiet_tracing():
        parts = joints.sample_parts(joint, num_simulations, seeds[0], known={})
        for name, values in parts.items():
            _no_nan(values.numpy(), f"simulations of {name!r}", "check the joint's parameters", TargetValueError)
        latent_names = _latent_names(joint, parts, names)
    truth = {name: parts[name].numpy() for name in latent_names}
    data = {name: parts[name].numpy() for name in parts if name in names}
    log_likelihood = _log_likelihood(joint, tuple(data))
    below: dict[str, list[Array]] = {}
    tied: dict[str, list[Array]] = {}
    with tqdm(total=num_simulations, disable=not progress, unit="data set", dynamic_ncols=True) as bar:
        for start, call_seed in zip(range(0, num_simulations, batch_size), seeds[2:], strict=True):
            rows = slice(start, start + batch_size)
            here = {name: values[rows] for name, values in data.items()}
            drawn = _drawn(sample(dict(here), num_draws, call_seed), truth, rows, num_draws)
            both = {name: np.concatenate([truth[name][None, rows], drawn[name]]) for name in truth}
            values = _quantities(both, log_likelihood(both, here))
            for label, column in values.items():
                below.setdefault(label, []).append(np.sum(column[1:] < column[0], axis=0))
                tied.setdefault(label, []).append(np.sum(column[1:] == column[0], axis=0))
            bar.update(len(drawn[latent_names[0]][0]))
    rng = np.random.default_rng(seeds[1])
    broken = {label: rng.integers(0, np.concatenate(ties) + 1) for label, ties in tied.items()}
    return Calibration({label: np.concatenate(below[label]) + broken[label] for label in below}, num_draws)


def _quantities(both: dict[str, Array], log_likelihood: Array) -> dict[str, Array]:
    """Label -> [1 + S, B] of every scalar latent and of the log likelihood."""
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in both.items()}
    shape = log_likelihood.shape
    return {**{label: c.reshape(shape) for label, c in columns(flat).items()}, LOG_LIKELIHOOD: log_likelihood}


def _log_likelihood(joint: Any, observed: tuple[str, ...]) -> Callable[[dict[str, Array], dict[str, Array]], Array]:
    """Latents name -> [R, B, *event], data name -> [B, *event] -> log p(data | latents) [R, B], float64, nats."""
    order = tuple(joints.unpack(joint, joint.dtype))

    @tf.autograph.experimental.do_not_convert
    def one(parts: Mapping[str, tf.Tensor]) -> tf.Tensor:
        # One draw at a time: without an axis of draws plain and AutoBatched joints are the same.
        values = joints.pack(joint.dtype, {name: parts[name] for name in order})
        distributions = joints.unpack(joint, joint.sample_distributions(value=values, seed=(0, 0))[0])
        return tf.add_n([tf.reduce_sum(distributions[name].log_prob(parts[name])) for name in observed])

    many = Compiled(lambda parts: tf.vectorized_map(one, parts), jit_compile=False)

    @quiet_tracing()
    def evaluate(latents: dict[str, Array], data: dict[str, Array]) -> Array:
        repeats, sets = next(iter(latents.values())).shape[:2]
        known = {name: np.broadcast_to(values, (repeats, *values.shape)) for name, values in data.items()}
        parts = {**latents, **known}
        step = max(1, _NUMBERS * sets // sum(values.size for values in parts.values()))
        found = []
        for start in range(0, sets, step):
            some = {name: values[:, start : start + step] for name, values in parts.items()}
            rows = {name: tf.constant(values.reshape(-1, *values.shape[2:])) for name, values in some.items()}
            found.append(many(rows).numpy().astype(np.float64).reshape(repeats, -1))
        values = np.concatenate(found, axis=1)
        _no_nan(values[:1], "log likelihoods of the true values", "check the joint's parameters", TargetValueError)
        _no_nan(values[1:], "log likelihoods of the draws", "check that draws lie in the support", TargetValueError)
        return values

    return evaluate


def _latent_names(joint: Any, parts: Mapping[str, tf.Tensor], observed: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the latent parts, after the checks that a fit would make."""
    if not observed:
        raise DataError(
            expected=f"names of the joint's data in `observed`, of {list(parts)}",
            got="none",
            fix="without data there is no posterior to calibrate: name at least one part",
        )
    for name in observed:
        if name not in parts:
            raise DataError(
                expected=f"`observed` to name parts of the joint, {list(parts)}",
                got=repr(name),
                fix=suggestion(name, parts),
            )
    if set(observed) == set(parts):
        raise LatentError(
            expected="at least one part to infer",
            got=f"all of {list(parts)} in `observed`",
            fix="leave the parts to infer out of `observed`",
        )
    first = {name: parts[name].numpy() for name in parts if name in observed}
    return joints.pin(joint, {name: value[0] if value.ndim else value for name, value in first.items()}).latent_names


def _drawn(draws: Any, truth: dict[str, Array], rows: slice, num_draws: int) -> dict[str, Array]:
    """Draws of the latent parts, checked, in the joint's dtypes."""
    if not isinstance(draws, Mapping):
        raise DataError(
            expected=f"`sample` to return a dict from the latent names, {list(truth)}, to draws",
            got=a_kind(draws),
            fix="return {name: array [num_draws, B, *event]}",
        )
    found = {}
    for name, true in truth.items():
        if name not in draws:
            raise DataError(
                expected=f"draws of every latent part, {list(truth)}",
                got=f"only {listed(map(str, draws))}" if draws else "none",
                fix=f"let `sample` return {name!r} too",
            )
        values = np.asarray(draws[name])
        shape = (num_draws, *true[rows].shape)
        if values.shape != shape:
            raise DataError(
                expected=f"draws of {name!r} of shape {list(shape)}: draws, data sets, event",
                got=f"shape {list(values.shape)}",
                fix="let `sample` return the draws as first axis and the data sets as second",
            )
        _no_nan(values, f"draws of {name!r}", "look at the data sets at which `sample` fails", DataError)
        found[name] = values.astype(true.dtype)
    return found


def _no_nan(values: Array, what: str, fix: str, kind: type[DataError] | type[TargetValueError]) -> None:
    missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    if missing:
        raise kind(expected=f"{what} without NaN", got=f"{missing:,} NaN of {values.size:,} values", fix=fix)


def _seeds(seed: Seed, number: int) -> list[int]:
    """Independent seeds from 0 to 2^31 - 1, which NumPy, TensorFlow and other samplers all take."""
    entropy = [int(part) % 2**32 for part in np.ravel(np.asarray(seed))]
    return [int(word) >> 1 for word in np.random.SeedSequence(entropy).generate_state(number)]


def _pvalue(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< .001"
