"""Engines, which train the trials of a search."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from keras_lr._hints import nearest_name_hint
from keras_lr._keras.state.random_state import capture_random_states
from keras_lr.search.engines.base import Engine
from keras_lr.search.engines.local import LocalEngine
from keras_lr.search.engines.ray import RayEngine
from keras_lr.search.trials.problem import SWEEP, Search

ENGINES: dict[str, Callable[[], Engine]] = {"local": LocalEngine, "ray": RayEngine}
"""The engines by name."""


def make_engine(engine: str | Engine, search: Search = SWEEP) -> Engine:
    """Return an engine, given as an object or by name.

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


@contextlib.contextmanager
def engine_of(engine: str | Engine, search: Search = SWEEP) -> Iterator[Engine]:
    """Yield an engine for one run, then close it and restore the random states.

    Raises:
        ValueError: If there is none of that name.
    """
    chosen = make_engine(engine, search)
    restore_random_states = capture_random_states()
    try:
        yield chosen
    finally:
        chosen.close()
        restore_random_states()
