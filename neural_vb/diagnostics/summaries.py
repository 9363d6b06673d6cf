"""A table of means, standard deviations and quantiles of draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neural_vb._text import shown, suggestion
from neural_vb.draws import columns
from neural_vb.errors import ConfigurationError

MAX_PRINTED_ROWS = 40


@dataclass(frozen=True, eq=False)
class Summary:
    """Moments and quantiles of every element of the draws, in the units of the draws.

    There is no R-hat and no effective sample size: the draws are independent by construction, so both would look
    perfect whether or not the fit is good.

    Attributes:
        names: the N elements, such as ``mu`` and ``theta[0]``.
        mean: [N].
        sd: [N], with S - 1 in the denominator; NaN for a single draw.
        quantiles: [N, Q].
        probabilities: the Q probabilities of the quantiles.
        num_draws: S.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    quantiles: np.ndarray
    probabilities: tuple[float, ...]
    num_draws: int

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return the row of one element as a dict; raises ConfigurationError for an unknown name."""
        if name not in self.names:
            raise ConfigurationError(expected="the name of a row", got=repr(name), fix=suggestion(name, self.names))
        index = self.names.index(name)
        row: dict[str, Any] = {"name": name, "mean": float(self.mean[index]), "sd": float(self.sd[index])}
        headings = (_percent(probability) for probability in self.probabilities)
        return row | dict(zip(headings, map(float, self.quantiles[index]), strict=True))

    def keys(self) -> tuple[str, ...]:
        """The names of the rows; ``dict(summary)`` has them all."""
        return self.names

    def __len__(self) -> int:
        return len(self.names)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dicts with keys name, mean, sd and ``3%``, …: ``pandas.DataFrame(summary.rows())``."""
        return [self[name] for name in self.names]

    def __str__(self) -> str:
        headings = ["", "mean", "sd", *map(_percent, self.probabilities)]
        shown = range(min(len(self), MAX_PRINTED_ROWS))
        table = [headings, *([self.names[i], *_cells(self.mean[i], self.sd[i], self.quantiles[i])] for i in shown)]
        widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
        lines = [_line(row, widths) for row in table]
        if len(self) > MAX_PRINTED_ROWS:
            lines.append(f"… and {len(self) - MAX_PRINTED_ROWS:,} more rows")
        plural = "" if self.num_draws == 1 else "s"
        return "\n".join([*lines, f"({self.num_draws:,} independent draw{plural})"])


def summary(draws: Any, *, quantiles: Sequence[float] = (0.03, 0.25, 0.5, 0.75, 0.97)) -> Summary:
    """Summarise draws by mean, standard deviation and quantiles, element by element.

    Args:
        draws: structure of arrays, each [S, *event]; or one array [S, D], whose elements are ``z[0]``, …, ``z[D - 1]``.
        quantiles: probabilities in [0, 1]; the quantiles interpolate linearly between order statistics.

    Returns:
        A `Summary`, in the units of the draws. An element with draws that are not finite gets NaN or infinite entries.

    Raises:
        DataError: when there is nothing to summarise, or the variables disagree on S.
        ConfigurationError: when `quantiles` is no sequence of numbers in [0, 1].

    Example:
        >>> import numpy as np
        >>> summary({"mu": np.array([0.0, 1.0, 2.0])}, quantiles=(0.5,))["mu"]
        {'name': 'mu', 'mean': 1.0, 'sd': 1.0, '50%': 1.0}
    """
    try:
        probabilities = tuple(float(probability) for probability in quantiles)
    except (TypeError, ValueError):
        probabilities = (math.nan,)
    if not all(0.0 <= probability <= 1.0 for probability in probabilities):
        raise ConfigurationError(
            expected="quantile probabilities between 0 and 1, in a sequence",
            got=shown(quantiles),
            fix="pass fractions, such as quantiles=(0.05, 0.5, 0.95)",
        )
    parts = columns(draws)
    num_draws = next(iter(parts.values())).size
    table = np.array([_moments(np.asarray(column, np.float64), probabilities) for column in parts.values()])
    return Summary(tuple(parts), table[:, 0], table[:, 1], table[:, 2:], probabilities, num_draws)


def _moments(column: np.ndarray, probabilities: tuple[float, ...]) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        sd = column.std(ddof=1) if column.size > 1 else np.nan
        return np.array([column.mean(), sd, *np.quantile(column, probabilities)])


def _percent(probability: float) -> str:
    return f"{100 * probability:.6g}%"


def _line(row: list[str], widths: list[int]) -> str:
    cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join([row[0].ljust(widths[0]), *cells])


def _cells(mean: float, sd: float, quantiles: np.ndarray) -> list[str]:
    """Three significant digits of the sd, and as many decimals for what is measured in its units."""
    values = [mean, sd, *quantiles]
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    scale = sd if math.isfinite(sd) and sd > 0 else largest
    if scale == 0 or largest >= 1e7 or scale < 1e-4:
        return [f"{value:.4g}" for value in values]
    decimals = max(0, 2 - math.floor(math.log10(scale)))
    return [f"{value:.{decimals}f}" for value in values]
