"""Applications of the engine: each hands it a target and parts of its own."""

from __future__ import annotations
