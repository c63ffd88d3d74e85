"""Where the trials of a sweep are trained."""

from __future__ import annotations

from collections.abc import Callable

from keras_lr._hints import nearest_name_hint
from keras_lr.search.engines.base import Engine
from keras_lr.search.engines.local import LocalEngine
from keras_lr.search.engines.ray import RayEngine
from keras_lr.search.trials.problem import SWEEP, Search

ENGINES: dict[str, Callable[[], Engine]] = {"local": LocalEngine, "ray": RayEngine}
"""The engines by name."""


def make_engine(engine: str | Engine, search: Search = SWEEP) -> Engine:
    """Return an engine, from its name or as it is.

    Raises:
        ValueError: If there is none of that name.
    """
    if not isinstance(engine, str):
        return engine
    if engine not in ENGINES:
        known = ", ".join(map(repr, ENGINES))
        hint = nearest_name_hint(engine, ENGINES, quote="'")
        raise ValueError(
            f"{search.name}.run: argument `engine` must be one of {known}, or an engine.{hint} "
            f"Received: engine={engine!r}"
        )
    return ENGINES[engine]()
