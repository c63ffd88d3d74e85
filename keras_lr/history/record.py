"""`Record`: one value per training step under each name, to read, write and draw."""

from __future__ import annotations

import codecs
import contextlib
import os
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from keras_lr._files import PathLike, is_regular_file
from keras_lr._hints import count_of
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr._state import StateError, load_arrays, unusable
from keras_lr.history.columns import Column, read_csv, write_csv

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

ALWAYS = {"step": np.int64, "epoch": np.int64, LEARNING_RATE: np.float32, "loss": np.float32}
"""The columns of every record."""


def load_record(path: PathLike) -> dict[str, NDArray[Any]]:
    """Return the columns of a record in a state file.

    Raises:
        StateError: If the file is missing, truncated, damaged or not a record.
    """
    columns = load_arrays(path)
    missing = [name for name in ALWAYS if name not in columns]
    if missing:
        raise unusable(path, f"it is not a history: it lacks {', '.join(missing)}")
    return columns


def _is_csv(path: PathLike) -> bool:
    """Return whether a file begins as `Record.to_csv` writes it, or as a spreadsheet then does."""
    with open(path, "rb") as file:
        return file.read(20).removeprefix(codecs.BOM_UTF8).lstrip(b'"').startswith(b"step")


class Record:
    """Arrays of equal length by name, one value per step."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._columns = {name: Column(dtype) for name, dtype in ALWAYS.items()}

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Bring the record up to date and lock it inside the context, against other threads too."""
        yield

    def _replace_columns(self, columns: dict[str, Column]) -> None:
        self._columns = columns

    @property
    def step(self) -> NDArray[np.int64]:
        """Number of each update, counted from 0."""
        return self["step"]

    @property
    def epoch(self) -> NDArray[np.int64]:
        """Epoch of each update, counted from 0."""
        return self["epoch"]

    @property
    def learning_rate(self) -> NDArray[np.float32]:
        """Learning rate of each update."""
        return self[LEARNING_RATE]

    @property
    def loss(self) -> NDArray[np.float32]:
        """Loss of each single batch; NaN where the logs hold no loss."""
        return self["loss"]

    @property
    def names(self) -> list[str]:
        """Names of everything recorded, in the order of the CSV file."""
        return list(self._columns)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return the values recorded under ``name``, one per step, as a read-only array.

        Raises:
            KeyError: If there is no such name; the message lists those recorded.
            TypeError: If ``name`` is not a string.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"{type(self).__name__}: the key must be the name of a column, whose values are an "
                f"array: history['loss'], history['loss'][:3]. Received: {name!r}. "
                f"Recorded: {', '.join(self._columns)}"
            )
        with self._reading():
            if name not in self._columns:
                raise KeyError(f"{name!r} was not recorded. Recorded: {', '.join(self._columns)}")
            return self._columns[name].read_only()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names recorded."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of steps recorded."""
        with self._reading():
            return len(self._columns["step"])

    def __repr__(self) -> str:
        count = len(self)
        if not count:
            return f"{type(self).__name__}(no steps)"
        epochs, rates = self.epoch, self.learning_rate
        steps = count_of(count, "step", "d")
        return (
            f"{type(self).__name__}({steps} in epochs {epochs[0]} to {epochs[-1]}, "
            f"learning rate {rates[0]:.3g} -> {rates[-1]:.3g} "
            f"(from {rates.min():.3g} to {rates.max():.3g}), last loss {self.loss[-1]:.4g})"
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas ``DataFrame``, one row per step.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__}.to_pandas needs pandas: pip install 'keras-lr[pandas]'"
            ) from error
        return pandas.DataFrame({name: self[name] for name in self._columns})

    def to_csv(self, path: PathLike) -> None:
        """Write one row per step; the file appears whole or not at all.

        Its last line is a comment with the number of rows and a checksum, by which `from_csv`
        recognizes a file that was cut or altered. Other readers can skip it as a comment:
        ``pandas.read_csv(path, comment="#")``.

        Args:
            path: File to write.
        """
        write_csv(path, {name: self[name] for name in self._columns})

    @classmethod
    def from_csv(cls, path: PathLike) -> Self:
        """Return the history that `to_csv` wrote.

        Args:
            path: File to read.

        Raises:
            ValueError: If the file is not such a history, or was cut or altered; the message says
                where.
        """
        history = cls()
        if zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is not a history written by LRHistory.to_csv, but an archive. If it is "
                f"the `state_path` of a fit, read it with {cls.__name__}.from_state."
            )
        history.load_state_dict(read_csv(path, tuple(ALWAYS), integers=("step", "epoch")))
        return history

    @classmethod
    def from_state(cls, path: PathLike) -> Self:
        """Return the history that a fit saved in its ``state_path``, even if the fit was killed.

        Args:
            path: File to read. It holds all epochs that were complete.

        Raises:
            FileNotFoundError: If there is no such file.
            StateError: If the file is truncated, damaged or not a history.
        """
        os.stat(path)
        history = cls()
        try:
            history.load_state_dict(load_record(path))
        except StateError:
            if is_regular_file(path) and _is_csv(path):
                raise StateError(
                    f"The file {path} is a CSV file, not a state file. "
                    f"Read it with {cls.__name__}.from_csv."
                ) from None
            raise
        return history

    def plot(self, ax: Axes | None = None, beside: str = "loss") -> Axes:
        """Draw the rate over the steps, together with the loss or another column.

        Args:
            ax: Axes to draw into; by default those of a new figure.
            beside: Name of the column to draw on the right axis, if any of its values is finite:
                ``"loss"``, or anything else that was recorded, such as ``"momentum"``.

        Returns:
            The axes of the rate.

        Raises:
            KeyError: If there is no column with the name ``beside``.
            ValueError: If the record is empty.
        """
        from keras_lr.history.plot import plot_history

        return plot_history(self, ax=ax, beside=beside)

    def _repr_html_(self) -> str | None:
        """Return small curves of the rate and the loss; None while the record is empty."""
        from keras_lr.history.notebook import describe_record

        with self._reading():
            return describe_record(self, self)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all columns by name, for a custom checkpoint."""
        return {name: self[name].copy() for name in self._columns}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Replace the record by one that `state_dict` returned.

        Raises:
            ValueError: If ``state`` is not such a record.
        """
        lengths = {name: len(values) for name, values in state.items()}
        missing = ", ".join(name for name in ALWAYS if name not in state)
        if missing or len(set(lengths.values())) > 1:
            wrong = f"it lacks {missing}" if missing else "its arrays differ in length"
            raise ValueError(
                f"{type(self).__name__}: argument `state` must be what state_dict() returned: "
                f"{wrong}. Received: state with the lengths {lengths}"
            )
        columns = {name: Column(ALWAYS.get(name, np.float32)) for name in state}
        for name, values in state.items():
            columns[name].append(values)
        with self._reading():
            self._replace_columns(columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self.names == other.names and all(
            np.array_equal(self[name], other[name], equal_nan=True) for name in self.names
        )

    __hash__ = object.__hash__
