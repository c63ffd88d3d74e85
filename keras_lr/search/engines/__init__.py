"""Where the trials of a sweep are trained."""

from __future__ import annotations

from keras_lr.search.engines.base import Engine
from keras_lr.search.engines.local import LocalEngine

ENGINES = {"local": LocalEngine}
"""The engines by name."""


def make_engine(engine: str | Engine) -> Engine:
    """Return an engine, from its name or as it is."""
    return ENGINES[engine]() if isinstance(engine, str) else engine
