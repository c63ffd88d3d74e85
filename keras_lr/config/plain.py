"""Plain data: the dicts, lists and values of a config, whatever containers it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_lr._fields.nesting import Nested, call, nested
from keras_lr.config.problems import Place, refuse


class Limits(NamedTuple):
    """How large a config may be."""

    levels: int
    """Levels of lists and mappings."""
    values: int
    """Values in total, counting repeated ones each time."""


IN_MEMORY = Limits(levels=100_000, values=250_000)
"""Enough for thousands of schedules, one inside another."""

IN_A_FILE = Limits(levels=150, values=50_000)
"""Limits that the readers and writers of all formats can handle easily."""


def plain_data(data: Any, limits: Limits = IN_MEMORY) -> Any:
    """Return mappings and sequences of any type as dicts and lists.

    Raises:
        ConfigError: If there are too many levels or values, or a value cannot be read.
    """
    return _Copier(limits).copy(data, Place(), 0)


class _Copier:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.count = 0

    @nested
    def copy(self, value: Any, place: Place, level: int) -> Nested[Any]:
        self.count += 1
        if level > self.limits.levels:
            outside = Place().at(*place.path()[:6])
            refuse(outside, f"must be nested at most {self.limits.levels} levels deep")
        if self.count > self.limits.values:
            most = self.limits.values
            refuse(Place(), f"must hold at most {most} values in all, counting repeated ones")
        if isinstance(value, Mapping):
            copied = {}
            for key in value:
                inside = place.at(key)
                copied[key] = yield call(self.copy, _item(value, key, inside), inside, level + 1)
            return copied
        if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
            items = []
            for i in range(len(value)):
                inside = place.at(i)
                items.append((yield call(self.copy, _item(value, i, inside), inside, level + 1)))
            return items
        return value


def _item(container: Any, key: Any, place: Place) -> Any:
    try:
        return container[key]
    except Exception as error:  # OmegaConf's missing values and interpolations, among others
        refuse(place, str(error).strip().partition("\n")[0])
