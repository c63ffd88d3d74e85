"""Modules of Keras and TensorFlow that nobody promises."""

from __future__ import annotations

import importlib
from typing import Any


def find_module(name: str, *needed: str) -> Any:
    """Return a module that nobody promises; None if it or something in it is missing."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return module if all(hasattr(module, one) for one in needed) else None
