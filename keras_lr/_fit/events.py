"""What moves during a fit and what is reported of it: channels, executions, recorders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.hyperparameters import LEARNING_RATE, Hyperparameter

Listener = Callable[[int, int, dict[str, Any]], None]
"""Told of an execution: its first batch, its size and its logs."""

Source = Callable[[int, int], NDArray[np.floating]]
"""Values of one hyperparameter for ``count`` batches of the present epoch, from batch ``first``
on."""

Adjustment = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclasses.dataclass
class HyperparameterTrack:
    """A hyperparameter and where its values come from."""

    parameter: Hyperparameter
    owner: Any
    source: Source
    name: str
    """Name under which the values are recorded."""
    peak: Callable[[], float] | None = None
    """Returns the highest value that the source has from the present epoch on."""
    adjust: Sequence[Adjustment] = ()
    """What else has a say, such as a plateau reduction: each takes values and returns others."""

    def values(self, first: int, count: int) -> NDArray[np.float32]:
        """Return the values to use, checked."""
        values = np.asarray(self.source(first, count), dtype=np.float64)
        for adjustment in self.adjust:
            values = adjustment(values)
        used = np.broadcast_to(values, count).astype(np.float32)
        wrong, expected = ~np.isfinite(used), "finite"
        if self.parameter.name == LEARNING_RATE:
            wrong, expected = wrong | (used < 0), "finite and not negative"
        if wrong.any():
            where = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"{self.owner!r} gives {self.parameter.name}={used[where]} for batch "
                f"{first + where} of the epoch; it must be {expected}."
            )
        return used


@dataclasses.dataclass
class Executions:
    """What some consecutive executions of an epoch used and returned."""

    first: int
    """Batch of the epoch at which the first of them began."""
    sizes: list[int]
    """Batches in each execution."""
    values: dict[str, NDArray[np.float32]]
    """Value of each hyperparameter at each batch."""
    logs: list[dict[str, Any]]
    """What the step returned, one mapping per execution."""
    counts: list[float] | None
    """Samples seen in the epoch before each execution; None where they are not read."""


class Recorder(Protocol):
    """What a drive reports to."""

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Begin an epoch of so many batches; None where that is not known."""

    def extend(self, epoch: int, done: Executions) -> None:
        """Take some executions of an epoch."""

    def finish_epoch(self, batches: int, total: float | None) -> None:
        """Take the number of batches and of samples that the epoch had."""


@dataclasses.dataclass
class Events:
    """What happens in a fit, in order, and what is called when it does."""

    on_fit_start: list[Callable[[int], None]] = dataclasses.field(default_factory=list)
    """Once, with the first epoch, when everything that restores a state has done so."""
    on_epoch_start: list[Callable[[int], None]] = dataclasses.field(default_factory=list)
    """With each epoch, before its first values are asked for; may train another model."""
    on_execution_end: list[Listener] = dataclasses.field(default_factory=list)
    """Right after each execution."""
    on_execution_end_deferred: list[Listener] = dataclasses.field(default_factory=list)
    """When the next execution begins or the epoch ends, so that the device may compute meanwhile:
    for what reads the logs, which waits for the device."""
    on_epoch_closing: list[Callable[[dict[str, Any]], None]] = dataclasses.field(
        default_factory=list
    )
    """With the logs of an epoch's last step, where that is known to be the last, and with those of
    its end, before other callbacks are called."""
