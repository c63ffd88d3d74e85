"""Columns of numbers: growing in memory, and as lines of a CSV file."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from keras_lr._files import PathLike, atomic_write


class Column:
    """Growing array that wastes at most an eighth of its memory."""

    def __init__(self, dtype: DTypeLike) -> None:
        """Start empty."""
        self._room = np.empty(0, dtype)
        self._used = self._shown = 0

    def __len__(self) -> int:
        return self._used

    @property
    def values(self) -> NDArray[Any]:
        """The values, not a copy: `cut` and `put` may change them."""
        return self._room[: self._used]

    def read_only(self) -> NDArray[Any]:
        """Return the values as a read-only array that never changes, without a copy."""
        self._shown = self._used
        values = self.values
        values.flags.writeable = False
        return values

    def add(self, values: Any) -> None:
        """Append an array."""
        self.put(self._used, values)

    def put(self, start: int, values: Any) -> None:
        """Replace everything from ``start`` on by an array."""
        end = start + len(values)
        if start < self._shown:
            self._copy_room(start)
        if end > len(self._room):
            room = np.empty(max(end, len(self._room) + len(self._room) // 8), self._room.dtype)
            room[:start] = self._room[:start]
            self._room = room
        self._room[start:end] = values
        self._used = end

    def cut(self, length: int) -> None:
        """Drop the values from ``length`` on."""
        if length < self._shown:
            self._copy_room(length)
        self._used = min(self._used, length)

    def _copy_room(self, length: int) -> None:
        """Leave the memory to the arrays that were read from it."""
        self._room, self._shown = self._room[:length].copy(), 0


def whole_lines(file: Iterable[str]) -> Iterator[str]:
    """Iterate over lines; a line without an end is an error, since its number may be cut off."""
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
    """Return the shortest text of each number that reads back as the same number."""
    if values.dtype.kind == "i":
        return values.astype(str).tolist()
    return [str(value) for value in values]


def write_csv(path: PathLike, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of one length; the file appears whole or not at all."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for start in range(0, max(map(len, columns.values()), default=0), 65536):
            block = [values[start : start + 65536] for values in columns.values()]
            writer.writerows(zip(*(texts(values) for values in block), strict=True))


def read_csv(
    path: PathLike, needed: Sequence[str], integers: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return the columns of a file that `write_csv` wrote.

    Args:
        path: The file.
        needed: Names of columns that it must have.
        integers: Names of those that hold whole numbers.

    Raises:
        ValueError: If the file is no such file; the message says where.
    """
    # Spreadsheets put a mark of the encoding first.
    with open(path, newline="", encoding="utf-8-sig") as file:
        names = next(csv.reader(file), [])
        missing = [name for name in needed if name not in names]
        if missing or len(set(names)) != len(names):
            raise ValueError(
                f"{path} is no history written by LRHistory.to_csv: its first line lacks "
                f"{', '.join(missing) or 'distinct names'}. Received: {','.join(names)[:200]!r}"
            )
        try:
            columns = dict(zip(names, read_rows(file, len(names)).T, strict=True))
            if any((columns[name] != np.floor(columns[name])).any() for name in integers):
                raise ValueError(f"{' or '.join(integers)} is no whole number")
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error} (rows are counted from 1)") from error
    return columns
