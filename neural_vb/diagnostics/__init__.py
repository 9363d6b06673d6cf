"""Pure functions of targets, draws, critics and contrasts that return numbers about a fit."""

from __future__ import annotations

from neural_vb.diagnostics.calibration import Calibration, sbc
from neural_vb.diagnostics.disagreement import Disagreement, disagreement
from neural_vb.diagnostics.refitting import refits
from neural_vb.diagnostics.summaries import Summary, summary

__all__ = ["Calibration", "Disagreement", "Summary", "disagreement", "refits", "sbc", "summary"]
