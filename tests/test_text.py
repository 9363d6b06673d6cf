"""Fragments of error messages."""

from __future__ import annotations

from neural_vb._text import closest, first_line, listed, shown, suggestion


def test_a_misspelt_name_finds_the_closest_known_one() -> None:
    assert closest("TAU", ["mu", "tau"]) == "tau"
    assert closest("q", ["mu", "tau"]) is None
    assert suggestion("tua", ["mu", "tau"]) == "did you mean 'tau'?"


def test_an_unknown_name_gets_the_known_ones() -> None:
    assert suggestion("q", ["mu", "tau", "mu"]) == "choose from mu, tau"
    assert suggestion("q", [f"v{index}" for index in range(20)]).endswith("v11 and 8 more")
    assert listed(["a", "b", "c"], limit=2) == "a, b and 1 more"


def test_first_line_quotes_the_kind_and_no_more_than_a_line() -> None:
    assert first_line(ValueError("one\ntwo")) == "ValueError: one"
    assert first_line(KeyError()) == "KeyError: no message"


def test_what_is_shown_is_short_whatever_it_is() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown("a") == "'a'" and shown(Silent()) == "a Silent"
    assert len(shown("a" * 999)) == 200 and shown("a" * 999).endswith("a...")
