"""Columns of numbers: growing in memory, and as the lines of a CSV file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Column:
    """A growing array that wastes at most an eighth of its room."""

    def __init__(self, dtype: DTypeLike) -> None:
        """Begin with no values."""
        self._room = np.empty(0, dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def values(self) -> NDArray[Any]:
        """What the column holds, not a copy."""
        return self._room[: self._used]

    def add(self, values: Any) -> None:
        """Append an array."""
        end = self._used + len(values)
        if end > len(self._room):
            room = np.empty(max(end, len(self._room) + len(self._room) // 8), self._room.dtype)
            room[: self._used] = self.values
            self._room = room
        self._room[self._used : end] = values
        self._used = end

    def cut(self, length: int) -> None:
        """Drop what stands behind ``length``."""
        self._used = min(self._used, length)


def whole_lines(file: Iterable[str]) -> Iterator[str]:
    """Iterate over lines; one that is cut off is an error, since its number may be cut off too."""
    for line in file:
        if not line.endswith("\n"):
            raise ValueError("the last line is cut off")
        yield line


def read_rows(file: Iterable[str], width: int) -> NDArray[np.float64]:
    """Return the numbers of the lines of a CSV file, ``width`` in each.

    Raises:
        ValueError: If a line is damaged.
    """
    lines = whole_lines(file)
    first = next(lines, None)
    if first is None:
        return np.zeros((0, width))
    rows = np.loadtxt(itertools.chain([first], lines), delimiter=",", ndmin=2)
    return rows.reshape(-1, width)


def texts(values: NDArray[Any]) -> list[str]:
    """Return each number in the fewest digits that read back as the same number."""
    if values.dtype.kind == "i":
        return values.astype(str).tolist()
    return [str(value) for value in values]
