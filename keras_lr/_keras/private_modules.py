"""Access to private modules of Keras and TensorFlow."""

from __future__ import annotations

import importlib
from typing import Any


def find_module(name: str, *needed: str) -> Any:
    """Return a private module; None if it, or a name that is needed from it, is missing."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return module if all(hasattr(module, one) for one in needed) else None
