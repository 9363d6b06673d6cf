"""Bad input through ``fit``: one error each, of the right kind, with its fix, before any training."""

from __future__ import annotations

import time
import warnings
from typing import Any

import bad_arguments
import bad_densities
import bad_joints
import bad_parts
import pytest
from bad_input import Row

from neural_vb import errors
from neural_vb.errors import NeuralVBError

TABLES = (bad_densities.KINDS, bad_arguments.KINDS, bad_parts.KINDS, bad_joints.KINDS)
ROWS = {f"{kind} - {name}": row for table in TABLES for kind, rows in table.items() for name, row in rows.items()}


def must_not_train(step: int, metrics: Any) -> bool:
    pytest.fail("training started")


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_bad_input_gets_a_named_error_with_its_fix_before_training(row: Row) -> None:
    start = time.process_time()
    with pytest.raises(NeuralVBError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.NeuralVBWarning)
        row.call(must_not_train)
    error = caught.value
    assert type(error) is row.error, error
    assert row.found and row.found in f"Expected {error.expected}; got {error.got}", error
    assert row.fix and row.fix in error.fix, error
    assert time.process_time() - start < 10.0


def test_there_are_many_kinds_of_bad_input_and_no_row_comes_twice() -> None:
    kinds = [kind for table in TABLES for kind in table]
    assert len(kinds) == len(set(kinds)) >= 30
    assert len(ROWS) == len({repr(row.key) for row in ROWS.values()}) >= 150


def test_every_kind_of_error_has_a_row() -> None:
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NeuralVBError)}
    files = {errors.FileFormatError, errors.CheckpointError, errors.StorageError}
    elsewhere = {NeuralVBError, errors.MissingDependencyError, *files}
    assert kinds - elsewhere == {row.error for row in ROWS.values()}
