"""Versions of the packages that compute in this process."""

from __future__ import annotations

import platform

import keras

from keras_lr._version import __version__


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute in this process, and the backend."""
    return {
        "keras_lr": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
    }
