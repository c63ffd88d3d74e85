"""`HyperparameterTrack` and `ValueTable`: the values of hyperparameters for the next batches."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, Hyperparameter

BLOCK = 1024
"""Rows of the table that are filled at once; a longer epoch refills it."""

Source = Callable[[int, int], NDArray[np.floating]]
"""Function of ``first`` and ``count`` that returns the values of one hyperparameter for ``count``
batches of the present epoch, from batch ``first`` on."""

Adjustment = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Function that takes the values of a source and returns those to use, reduced by a plateau say."""

METRIC_PREFIX = "metric_"


@dataclasses.dataclass
class HyperparameterTrack:
    """A hyperparameter that a fit moves, and the source of its values."""

    parameter: Hyperparameter
    owner: Any
    source: Source
    name: str
    """Name under which the values are recorded."""
    peak: Callable[[], float] | None = None
    """Function that returns the highest value of the source from the present epoch on."""
    adjust: Sequence[Adjustment] = ()
    peak_step: Callable[[], float] | None = None
    """Function that returns the first step (or epoch, if steps are not known) with that value."""

    def values(self, first: int, count: int) -> NDArray[np.float32]:
        """Return the values to use for some batches.

        Raises:
            ValueError: If one is outside the range of the hyperparameter.
        """
        values = np.asarray(self.source(first, count), dtype=np.float64)
        for adjustment in self.adjust:
            values = adjustment(values)
        values = np.broadcast_to(values, count)
        where = self.parameter.permitted.find_outside(values)
        if where is not None:
            raise ValueError(
                f"{self.owner!r} gives {self.parameter.name}={values[where]} for batch "
                f"{first + where} of the epoch; it must be {self.parameter.permitted.expected}."
            )
        return values.astype(np.float32)


def new_track(
    tracks: list[HyperparameterTrack],
    owner: Any,
    parameter: Hyperparameter,
    source: Source,
    peak: Callable[[], float] | None,
    adjust: Sequence[Adjustment],
    peak_step: Callable[[], float] | None = None,
) -> HyperparameterTrack:
    """Return a track with a name that no other track has.

    Raises:
        ValueError: If another callback moves the same hyperparameter.
    """
    for track in tracks:
        if track.parameter.key == parameter.key:
            raise ValueError(
                f"Two callbacks drive {parameter.name} of the same optimizer: "
                f"{track.owner!r} and {owner!r}. Pass one: combine schedules with `*` or "
                "`>>`, or give each its own optimizer with ParamScheduler(optimizer=...)."
            )
    taken = {track.name for track in tracks}
    name = parameter.column if parameter.column not in taken else free_name(parameter, taken)
    return HyperparameterTrack(parameter, owner, source, name, peak, adjust, peak_step)


def free_name(parameter: Hyperparameter, taken: Collection[str]) -> str:
    """Return a free name for the values of a hyperparameter, made with the optimizer's name."""
    base = f"{parameter.column}_{parameter.optimizer.name}"
    names = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def metric_column(name: str, moving: Collection[str]) -> str:
    """Return the column of a metric: its name, or ``metric_<name>`` if the record uses the name.

    Metrics of different names always have different columns.

    Args:
        name: The metric.
        moving: Names of the hyperparameters that are recorded.
    """
    bare = name
    while bare.startswith(METRIC_PREFIX):
        bare = bare.removeprefix(METRIC_PREFIX)
    taken = bare in moving or bare in ("step", "epoch", LEARNING_RATE)
    return METRIC_PREFIX + name if taken else name


class ValueTable:
    """Table of the tracks' values: a row for each batch, a column for each track.

    The table covers some consecutive batches of one epoch. Each refill makes a new array, so that
    an engine can tell by identity whether the device has the present one.
    """

    def __init__(self, tracks: list[HyperparameterTrack]) -> None:
        """Start without rows; ``tracks`` may still grow."""
        self.tracks = tracks
        self.rows = np.zeros((0, 0), np.float32)
        self.start = 0
        """Batch of the first row."""
        self._before = np.zeros(0, np.float32)
        """Values of the last batch before the first row."""

    def covers(self, batch: int, count: int) -> bool:
        """Return whether there are rows for ``count`` batches from ``batch`` on."""
        return batch + count - self.start <= len(self.rows)

    def fill(self, batch: int, count: int) -> None:
        """Fill the table with the tracks' values for ``count`` batches from ``batch`` on."""
        rows = np.empty((count, len(self.tracks)), np.float32)
        for column, track in enumerate(self.tracks):
            rows[:, column] = track.values(batch, count)
        self.rows, self.start = rows, batch

    def clear(self, batch: int, ran: int) -> None:
        """Drop the rows from ``batch`` on, of an epoch in which ``ran`` batches have run."""
        index = ran - 1 - self.start
        if index >= 0:
            self._before = self.rows[index]
        self.rows, self.start = np.zeros((0, len(self.tracks)), np.float32), batch

    def columns(self, first: int, count: int) -> dict[str, NDArray[np.float32]]:
        """Return the values of some batches, by the name of their track."""
        rows = self.rows[first - self.start :][:count]
        return {
            track.name: rows[:, column]
            for column, track in enumerate(self.tracks)
            if track.parameter.is_recorded
        }

    def last(self, track: HyperparameterTrack, ran: int) -> float:
        """Return the value that the last of the ``ran`` batches of the epoch used."""
        index = ran - 1 - self.start
        row = self.rows[index] if index >= 0 else self._before
        return float(row[self.tracks.index(track)])
