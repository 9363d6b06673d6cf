"""The table of means, standard deviations and quantiles."""

from __future__ import annotations

import numpy as np
import pytest

from neural_vb.diagnostics import summary
from neural_vb.errors import ConfigurationError, DataError


def test_numbers_are_those_of_numpy() -> None:
    draws = np.random.default_rng(0).normal(size=(101, 2, 3)).astype(np.float32)
    table = summary({"theta": draws}, quantiles=(0.1, 0.5))
    flat = draws.reshape(101, 6).astype(np.float64)
    np.testing.assert_allclose(table.mean, flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(table.sd, flat.std(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(table.quantiles, np.quantile(flat, [0.1, 0.5], axis=0).T, rtol=1e-12)
    assert table.names[4] == "theta[1, 1]"
    assert table.num_draws == 101 and len(table) == 6


def test_large_offsets_keep_the_sd_of_float32_draws() -> None:
    draws = (1990 + 12 * np.random.default_rng(0).normal(size=10_000)).astype(np.float32)
    table = summary(draws)
    np.testing.assert_allclose(table.sd[0], draws.astype(np.float64).std(ddof=1), rtol=1e-12)


def test_rows_carry_percentages() -> None:
    table = summary({"mu": np.arange(101.0)}, quantiles=(0.025, 0.5))
    assert table.rows() == [table["mu"]]
    sd = pytest.approx((101 * 102 / 12) ** 0.5)  # of the integers from 0 to 100
    assert table["mu"] == {"name": "mu", "mean": 50.0, "sd": sd, "2.5%": 2.5, "50%": 50.0}
    with pytest.raises(ConfigurationError, match=r"got 'mu_'\. Fix: did you mean 'mu'"):
        table["mu_"]


def test_all_rows_come_as_a_dict() -> None:
    table = summary({"mu": np.arange(5.0), "theta": np.ones((5, 2))})
    assert dict(table) == {name: table[name] for name in ("mu", "theta[0]", "theta[1]")}


def test_print_aligns_and_shows_three_digits_of_the_sd() -> None:
    text = str(summary({"mu": 100 + np.arange(-5, 6) / 1000, "tau": 10.0 * np.arange(11)}, quantiles=(0.5,)))
    assert text.splitlines() == [
        "          mean       sd        50%",
        "mu   100.00000  0.00332  100.00000",
        "tau       50.0     33.2       50.0",
        "(11 independent draws)",
    ]
    assert "hat" not in text and "ess" not in text.lower()


def test_print_of_extremes_stays_short() -> None:
    text = str(summary({"big": 1e12 * np.arange(9.0), "tiny": 1e-9 * np.arange(9.0), "same": np.ones(9)}))
    assert max(map(len, text.splitlines())) < 90
    assert "4e+12" in text and "4e-09" in text


def test_long_tables_are_cut_in_print_only() -> None:
    table = summary(np.zeros([3, 100]))
    assert "… and 60 more rows" in str(table)
    assert len(table.rows()) == 100


def test_one_draw_and_values_that_are_not_finite() -> None:
    table = summary({"a": np.array([2.0])})
    assert np.isnan(table.sd[0]) and "(1 independent draw)" in str(table)
    table = summary({"a": np.array([1.0, np.inf, -np.inf]), "b": np.array([1.0, np.nan, 2.0])})
    assert np.isnan(table.mean).all() and "nan" in str(table)


def test_bad_arguments() -> None:
    with pytest.raises(ConfigurationError, match=r"between 0 and 1, in a sequence; got \(3, 0.5\)"):
        summary(np.zeros(3), quantiles=(3, 0.5))
    for wrong in (0.5, "half", ["half"], None):
        with pytest.raises(ConfigurationError, match=r"got .*Fix: pass fractions, such as quantiles=\(0.05, 0.5"):
            summary(np.zeros(3), quantiles=wrong)
    with pytest.raises(DataError, match="at least one draw"):
        summary({})
