"""Do restarts agree? Samplers trained from other seeds, compared by their draws.

Independent draws have an R-hat near one whatever they are draws of. Restarts as chains do not: theirs tells whether
separately trained samplers found the same posterior. Agreement is no proof, for all can be wrong alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neural_vb._types import Array
from neural_vb.errors import DataError


class Disagreement(NamedTuple):
    """How far restarts are apart, coordinate by coordinate.

    Attributes:
        mean: [D], the largest difference between two restarts' means, in pooled standard deviations.
        log_sd: [D], the largest difference between the logs of two restarts' standard deviations.
        elbo: the largest difference between two restarts' ELBO estimates, nats.
        noise: standard error of a difference between two means of this many draws, in standard deviations.
    """

    mean: Array
    log_sd: Array
    elbo: float
    noise: float

    def __str__(self) -> str:
        return (
            f"restarts differ by at most {self.mean.max():.2g} sd in a mean, {100 * np.expm1(self.log_sd.max()):.2g} % "
            f"in an sd and {self.elbo:.2g} nats in the ELBO "
            f"(where they agree, means of so many draws still differ by some {self.noise:.1g} sd)"
        )


def disagreement(draws: Sequence[Array], elbos: Sequence[float]) -> Disagreement:
    """The largest differences between restarts.

    Args:
        draws: of each restart, [S, D], two restarts at least.
        elbos: of each restart, nats.

    Raises:
        DataError: fewer than two restarts, or other shapes.
    """
    shapes = {np.shape(one) for one in draws}
    if len(draws) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 2 or len(elbos) != len(draws):
        raise DataError(
            expected="draws [S, D] of two restarts or more, of one shape, and an ELBO of each",
            got=f"{len(draws)} sets of draws of shapes {sorted(shapes)}, and {len(elbos)} ELBOs",
            fix="fit with num_restarts=2 or more, and take as many draws of each",
        )
    stacked = np.asarray(draws, np.float64)
    means, sds = stacked.mean(1), stacked.std(1) + 1e-300
    pooled = np.sqrt((sds**2).mean(0))
    return Disagreement(
        np.ptp(means, axis=0) / pooled,
        np.ptp(np.log(sds), axis=0),
        float(np.ptp(np.asarray(elbos, np.float64))),
        float(np.sqrt(2.0 / stacked.shape[1])),
    )
