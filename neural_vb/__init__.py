"""Bayesian inference on unnormalised densities with neural samplers.

``fit`` takes a log density or a TFP joint distribution with data and returns a ``Posterior``: a network that turns
noise into independent posterior draws, trained by adversarial variational Bayes.

What needs TensorFlow is imported when first used (PEP 562), so that ``neural-vb --help`` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neural_vb import errors
from neural_vb._version import __version__
from neural_vb.errors import (
    BijectorError,
    CheckpointError,
    CompilationWarning,
    ConfigurationError,
    DataError,
    DtypeError,
    EventShapeError,
    FileFormatError,
    GradientError,
    ImportanceWarning,
    ImproperDensityError,
    LatentError,
    MissingDependencyError,
    NeuralVBError,
    NeuralVBWarning,
    PrecisionWarning,
    PriorWarning,
    StartError,
    StorageError,
    StorageWarning,
    SupportError,
    TargetShapeError,
    TargetValueError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from neural_vb import (
        calibration_plots,
        conditional_flows,
        contrasts,
        critics,
        diagnostics,
        networks,
        plots,
        ratio_losses,
        samplers,
        targets,
    )
    from neural_vb._types import Proposal
    from neural_vb.amortized import fit_amortized
    from neural_vb.amortized_posterior import AmortizedPosterior, load_amortized
    from neural_vb.configuration import TrainingConfig
    from neural_vb.fitting import fit, load
    from neural_vb.numpy_densities import numpy_log_prob
    from neural_vb.posterior import Posterior

_HOMES = {
    "AmortizedPosterior": "amortized_posterior",
    "Posterior": "posterior",
    "Proposal": "_types",
    "TrainingConfig": "configuration",
    "fit": "fitting",
    "fit_amortized": "amortized",
    "load": "fitting",
    "load_amortized": "amortized_posterior",
    "numpy_log_prob": "numpy_densities",
}

__all__ = [
    "AmortizedPosterior",
    "BijectorError",
    "CheckpointError",
    "CompilationWarning",
    "ConfigurationError",
    "DataError",
    "DtypeError",
    "EventShapeError",
    "FileFormatError",
    "GradientError",
    "ImportanceWarning",
    "ImproperDensityError",
    "LatentError",
    "MissingDependencyError",
    "NeuralVBError",
    "NeuralVBWarning",
    "Posterior",
    "PrecisionWarning",
    "PriorWarning",
    "Proposal",
    "StartError",
    "StorageError",
    "StorageWarning",
    "SupportError",
    "TargetShapeError",
    "TargetValueError",
    "TrainingConfig",
    "UnsupportedError",
    "__version__",
    "calibration_plots",
    "conditional_flows",
    "contrasts",
    "critics",
    "diagnostics",
    "errors",
    "fit",
    "fit_amortized",
    "load",
    "load_amortized",
    "networks",
    "numpy_log_prob",
    "plots",
    "ratio_losses",
    "samplers",
    "targets",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"neural_vb.{_HOMES[name]}"), name)
    elif name in __all__:
        return importlib.import_module(f"neural_vb.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
