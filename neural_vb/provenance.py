"""What a fit was made with."""

from __future__ import annotations

import platform

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb._version import __version__


def versions(jit_compile: bool, target_dtype: tf.DType) -> dict[str, str]:
    """Library versions, device, compilation mode and the precision of the target."""
    device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return {
        "neural_vb": __version__,
        "tensorflow": tf.__version__,
        "tensorflow_probability": tfp.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": device,
        "jit_compile": str(jit_compile),
        "target_dtype": target_dtype.name,
    }
