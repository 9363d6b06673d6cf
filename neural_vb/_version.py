"""The version, alone in its file so that building the package does not import TensorFlow."""

from __future__ import annotations

__version__ = "0.1.0"
