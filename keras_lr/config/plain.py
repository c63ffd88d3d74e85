"""Plain data: what a config consists of, whatever types of containers it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_lr._fields.nesting import Nested, call, nested
from keras_lr.config.problems import Place, refuse

MOST_LEVELS = 20_000
"""Levels of lists and mappings in a config; five for each of thousands of nested schedules."""

MOST_FILE_LEVELS = 150
"""Levels in a file, which the readers and writers of the formats carry with room to spare."""

MOST_VALUES = 50_000


def plain_data(data: Any, most_levels: int = MOST_LEVELS) -> Any:
    """Return mappings and sequences of any type as dicts and lists.

    Raises:
        ConfigError: If there are too many levels or values, or a value cannot be read.
    """
    return _Copier(most_levels).copy(data, Place(), 0)


class _Copier:
    def __init__(self, most_levels: int) -> None:
        self.most_levels = most_levels
        self.count = 0

    @nested
    def copy(self, value: Any, place: Place, level: int) -> Nested[Any]:
        self.count += 1
        if level > self.most_levels:
            outside = Place().at(*place.path()[:6])
            refuse(outside, f"must be nested at most {self.most_levels} levels deep")
        if self.count > MOST_VALUES:
            refuse(
                Place(), f"must hold at most {MOST_VALUES} values in all, counting repeated ones"
            )
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
