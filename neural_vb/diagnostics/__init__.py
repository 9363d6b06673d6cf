"""Pure functions of targets, draws, critics and contrasts that return numbers about a fit."""

from __future__ import annotations

from neural_vb.diagnostics.calibration import Calibration, sbc
from neural_vb.diagnostics.critic_checks import CriticReport, critic_report
from neural_vb.diagnostics.disagreement import Disagreement, disagreement
from neural_vb.diagnostics.evidence import Evidence, evidence, expectation
from neural_vb.diagnostics.kernels import mean_discrepancy, stein_discrepancy
from neural_vb.diagnostics.mode_probe import mode_probe
from neural_vb.diagnostics.polishing import local_fit
from neural_vb.diagnostics.refinement import RefinedDraws, nested_r_hat
from neural_vb.diagnostics.refitting import refits
from neural_vb.diagnostics.stein import stein_identities
from neural_vb.diagnostics.summaries import Summary, summary

__all__ = [
    "Calibration",
    "CriticReport",
    "Disagreement",
    "Evidence",
    "RefinedDraws",
    "Summary",
    "critic_report",
    "disagreement",
    "evidence",
    "expectation",
    "local_fit",
    "mean_discrepancy",
    "mode_probe",
    "nested_r_hat",
    "refits",
    "sbc",
    "stein_discrepancy",
    "stein_identities",
    "summary",
]
