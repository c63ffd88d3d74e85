"""The versions of what computes in this process."""

from __future__ import annotations

import importlib.metadata
import platform

import keras


def versions() -> dict[str, str]:
    """Return the versions of what computes in this process."""
    return {
        "keras_lr": importlib.metadata.version("keras-lr"),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
    }
