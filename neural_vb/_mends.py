"""Mends of dependencies, each named with what is wrong upstream; a test fails when one is no longer needed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np


def mend_pad() -> None:
    """Let TFP 0.25 build ``SoftmaxCentered`` (the simplex) on NumPy 2.4, which dropped ``np.reshape(newshape=...)``.

    Only the name ``np`` inside ``tfp.bijectors.pad`` is replaced; NumPy is untouched. Upstream: tensorflow/probability,
    ``bijectors/pad.py``, ``np.reshape(axis_, newshape=[-1])``. Done on import, for a user builds the bijector first:
    in ``neural_vb.fit(..., bijector=tfb.SoftmaxCentered())`` Python looks up ``fit``, and so comes here, before that.
    """
    from tensorflow_probability.python.bijectors import pad

    if "newshape" not in inspect.signature(np.reshape).parameters:
        pad.np = _NumPyWithNewshape()


class _NumPyWithNewshape:
    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def reshape(array: Any, newshape: Any) -> Any:
        return np.reshape(array, newshape)
