"""Linear regressions of posteriordb: response, design, and the prior of sigma; coefficients have a flat prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.definitions import Array

Data = Mapping[str, Array]
KIDIQ_SIGMA_SCALE = 2.5


class Regression(NamedTuple):
    """y ~ N(X beta, sigma) with beta flat.

    Attributes:
        response: y [N].
        design: X [N, p].
        sigma_scale: of sigma's half-Cauchy prior; None for a flat one.
    """

    response: Array
    design: Array
    sigma_scale: float | None = None


def _design(*columns: Any) -> Array:
    return np.stack([np.ones(len(columns[0])), *columns], -1)


def _with_product(first: Array, second: Array) -> Array:
    return _design(first, second, first * second)


def _centred(x: Array) -> Array:
    return x - x.mean()


def _standardised(x: Array, sds: float = 1.0) -> Array:
    return _centred(x) / (sds * x.std(ddof=1))


def _earnings(
    transform: Callable[[Array], Array], *predictors: Callable[[Data], Array]
) -> Callable[[Data], Regression]:
    return lambda data: Regression(transform(data["earn"]), _design(*(predictor(data) for predictor in predictors)))


def _height(data: Data) -> Array:
    return data["height"]


def _male(data: Data) -> Array:
    return data["male"]


def _earnings_interaction(data: Data) -> Regression:
    return Regression(np.log(data["earn"]), _with_product(_standardised(data["height"]), data["male"]))


def _kidiq(design: Callable[[Data], Array], sigma_scale: float | None) -> Callable[[Data], Regression]:
    return lambda data: Regression(data["kid_score"], design(data), sigma_scale)


def _levels(x: Array, last: int) -> list[Array]:
    """Indicators of the levels 2 ... last."""
    return [(x == level).astype(float) for level in range(2, last + 1)]


def _mesquite(names: str, *, log: bool) -> Callable[[Data], Regression]:
    def build(data: Data) -> Regression:
        logs = {name: np.log(data[name]) for name in data if name not in ("group", "N")}
        first, second, height = (logs[name] for name in ("diam1", "diam2", "canopy_height"))
        shown = logs if log else dict(data)
        known = {
            **shown,
            "group": data["group"],
            "volume": first + second + height,
            "area": first + second,
            "shape": first - second,
        }
        return Regression(shown["weight"], _design(*(known[name] for name in names.split())))

    return build


def _nes(data: Data) -> Regression:
    ages = _levels(data["age_discrete"], 4)
    columns = [data["real_ideo"], data["race_adj"], *ages, data["educ1"], data["gender"], data["income"]]
    return Regression(data["partyid7"], _design(*columns))


_BUSH = "diam1 diam2 canopy_height total_height density group"
REGRESSIONS: dict[str, Callable[[Data], Regression]] = {
    "earnings-earn_height": _earnings(np.array, _height),
    "earnings-log10earn_height": _earnings(np.log10, _height),
    "earnings-logearn_height": _earnings(np.log, _height),
    "earnings-logearn_height_male": _earnings(np.log, _height, _male),
    "earnings-logearn_logheight_male": _earnings(np.log, lambda data: np.log(data["height"]), _male),
    "earnings-logearn_interaction_z": _earnings_interaction,
    "kidiq-kidscore_momhs": _kidiq(lambda data: _design(data["mom_hs"]), KIDIQ_SIGMA_SCALE),
    "kidiq-kidscore_momiq": _kidiq(lambda data: _design(data["mom_iq"]), KIDIQ_SIGMA_SCALE),
    "kidiq-kidscore_momhsiq": _kidiq(lambda data: _design(data["mom_hs"], data["mom_iq"]), KIDIQ_SIGMA_SCALE),
    "kidiq-kidscore_interaction": _kidiq(lambda data: _with_product(data["mom_hs"], data["mom_iq"]), KIDIQ_SIGMA_SCALE),
    "kidiq_with_mom_work-kidscore_interaction_c": _kidiq(
        lambda data: _with_product(_centred(data["mom_hs"]), _centred(data["mom_iq"])), None
    ),
    "kidiq_with_mom_work-kidscore_interaction_z": _kidiq(
        lambda data: _with_product(_standardised(data["mom_hs"], 2.0), _standardised(data["mom_iq"], 2.0)), None
    ),
    "kidiq_with_mom_work-kidscore_mom_work": _kidiq(lambda data: _design(*_levels(data["mom_work"], 4)), None),
    "mesquite-mesquite": _mesquite(_BUSH, log=False),
    "mesquite-logmesquite": _mesquite(_BUSH, log=True),
    "mesquite-logmesquite_logvolume": _mesquite("volume", log=True),
    "mesquite-logmesquite_logva": _mesquite("volume area group", log=True),
    "mesquite-logmesquite_logvas": _mesquite("volume area shape total_height density group", log=True),
    **{f"nes{year}-nes": _nes for year in (1972, 1976, 1980, 1984, 1988, 1992, 2000)},
}
