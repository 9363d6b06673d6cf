"""Named errors keep what they say on their way between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from neural_vb import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.NeuralVBError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[errors.NeuralVBError]) -> None:
    error = kind(expected="a whole number", got="'three'", fix="pass 3")
    error.add_note("data set 7")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) == "Expected a whole number; got 'three'. Fix: pass 3"
    assert (again.expected, again.got, again.fix) == (error.expected, error.got, error.fix)
    assert again.__notes__ == ["data set 7"]
