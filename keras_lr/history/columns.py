"""Columns of numbers, which grow in memory and are stored as CSV files."""

from __future__ import annotations

import csv
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from keras_lr._files import PathLike, atomic_write, path_text
from keras_lr._hints import count_of

BLOCK = 65536
"""Rows that are turned into text at once."""

LAST_LINE = "# rows="

EXACT = 2.0**53
"""The number from which on a float cannot hold every whole number."""

_SPECIAL = re.compile(r'[,"#\s]|^$')
"""Characters for which a name is quoted: other readers take ``#`` for a comment."""


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

    def append(self, values: Any) -> None:
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
        """Move to new memory, and leave the old to the arrays that were read from it."""
        self._room, self._shown = self._room[:length].copy(), 0


def write_csv(path: PathLike, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of equal length; the file appears whole or not at all.

    The last line is a comment with the number of rows and the checksum of all other lines. The last
    field of the first row is in quotes, which distinguishes a file that has lost its last line from
    a file of version 0.1.0, which never had one.
    """
    checksum = _Checksum(list(columns))
    length = max(map(len, columns.values()), default=0)
    with atomic_write(path) as file:
        file.write(",".join(map(_quoted, columns)) + "\n")
        for start in range(0, length, BLOCK):
            block = [texts(values[start : start + BLOCK]) for values in columns.values()]
            rows = [",".join(row) for row in zip(*block, strict=True)]
            checksum.add_rows(rows)
            if start == 0:
                before, comma, last = rows[0].rpartition(",")
                rows[0] = f'{before}{comma}"{last}"'
            file.write("\n".join(rows) + "\n")
        file.write(f"{LAST_LINE}{length} sha256={checksum.hexdigest()}\n")


def read_csv(
    path: PathLike,
    needed: Sequence[str],
    integers: Sequence[str] = (),
    kind: str = "history written by LRHistory.to_csv",
) -> dict[str, NDArray[Any]]:
    """Return the columns of a file that `write_csv` or version 0.1.0 wrote.

    Args:
        path: The file.
        needed: Names of columns that it must have.
        integers: Names of columns that hold whole numbers.
        kind: What the file must be, for the errors.

    Raises:
        ValueError: If the file is not of this kind, or was cut or altered; the message says where.
    """
    path = path_text(path)
    # Spreadsheets begin a file with a byte order mark.
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            names = next(csv.reader(file), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a {kind}: {error}") from error
        missing = [name for name in needed if name not in names]
        if missing or len(set(names)) != len(names):
            raise ValueError(
                f"{path} is not a {kind}: its first line lacks "
                f"{', '.join(missing) or 'distinct names'}. Received: {','.join(names)[:200]!r}"
            )
        rows = _Rows(file, names)
        try:
            columns: dict[str, NDArray[Any]] = dict(zip(names, rows.read_numbers().T, strict=True))
            for name in integers:
                columns[name] = _whole_numbers(columns[name], path, names.index(name), name)
            if rows.problem:
                raise ValueError(rows.problem)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error} (rows are counted from 1)") from error
    return columns


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"' if _SPECIAL.search(name) else name


def _whole_numbers(
    values: NDArray[np.float64], path: PathLike, column: int, name: str
) -> NDArray[Any]:
    """Return a column of whole numbers, read again if floats have rounded the largest of them."""
    if not ((values == np.floor(values)) & (values >= 0.0)).all():
        raise ValueError(f"{name} is not a whole number of at least 0")
    if not (values >= EXACT).any():
        return values
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = (row for row in csv.reader(file) if row and not row[0].startswith(LAST_LINE))
        next(rows)
        try:
            return np.array([int(row[column]) for row in rows], np.int64)
        except (OverflowError, ValueError) as error:
            raise ValueError(f"{name} is not a whole number of 64 bits") from error


def texts(values: NDArray[Any]) -> list[str]:
    """Return the shortest text of each number that reads back as the same number."""
    if values.dtype.kind == "i":
        return values.astype(str).tolist()
    return [str(value) for value in values]


class _Checksum:
    """Checksum of the names and rows of a CSV file, whatever its quotes and line endings."""

    def __init__(self, names: list[str]) -> None:
        self._digest = hashlib.sha256(repr(names).encode())
        self.hexdigest = self._digest.hexdigest
        self.rows = 0

    def add_rows(self, rows: list[str]) -> None:
        self._digest.update("".join(f"{row}\n" for row in rows).encode())
        self.rows += len(rows)


class _Rows:
    """Rows of a CSV file without their quotes, checked against the last line of the file."""

    def __init__(self, file: Iterable[str], names: list[str]) -> None:
        self._file = iter(file)
        self._names = names
        self._checksum = _Checksum(names)
        self.problem = ""
        """What is wrong according to the last line, once the rows are read."""

    def read_numbers(self) -> NDArray[np.float64]:
        """Return the numbers.

        Raises:
            ValueError: If a row is damaged.
        """
        rows = iter(self)
        first = next(rows, None)
        if first is None:
            return np.zeros((0, len(self._names)))
        numbers = np.loadtxt(itertools.chain([first], rows), delimiter=",", ndmin=2, comments=None)
        return numbers.reshape(-1, len(self._names))

    def __iter__(self) -> Iterator[str]:
        has_last_line = False
        for line in self._file:
            if not line.endswith("\n"):
                raise ValueError("the last line is cut off")  # and its last number may be, too
            if line.startswith(LAST_LINE):
                self.problem = self._compare(line)
                return
            row = line.rstrip("\r\n")
            has_last_line = has_last_line or '"' in row
            row = row.replace('"', "")
            self._checksum.add_rows([row])
            yield row
        count = self._checksum.rows
        if has_last_line or not count:
            self.problem = (
                f"it is cut: its last line, after {count_of(count, 'row', 'd')}, is missing"
            )

    def _compare(self, line: str) -> str:
        # Spreadsheets fill a line with commas.
        said = re.fullmatch(rf"{LAST_LINE}(\d+) sha256=([0-9a-f]{{64}}),*\s*", line)
        count = self._checksum.rows
        if said is None:
            return f"its last line is {line.strip()!r}"
        if next(self._file, None) is not None:
            return "it has more lines after the one with the checksum"
        if int(said[1]) != count:
            return f"it is cut: it has {count} of {said[1]} rows"
        if said[2] != self._checksum.hexdigest():
            return "it was altered: the checksum in its last line does not fit"
        return ""
