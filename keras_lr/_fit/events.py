"""`Events`: the handlers called during a fit. `Executions`: what is reported to a `Recorder`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

EpochHandler = Callable[[int], None]
"""Called with the number of an epoch."""

ExecutionHandler = Callable[[int, int, dict[str, Any]], None]
"""Called with the first batch of an execution, its number of batches and its logs."""

LogsHandler = Callable[[dict[str, Any]], None]
"""Called with the logs of an epoch."""


class Events:
    """Handlers that a fit calls, listed in the order of its events."""

    def __init__(self) -> None:
        """Begin without handlers."""
        self.on_fit_start: list[EpochHandler] = []
        """Called once, with the first epoch, after every callback has restored its state."""
        self.on_epoch_start: list[EpochHandler] = []
        """Called with each epoch, before its first values are computed; may train other models."""
        self.on_execution_end: list[ExecutionHandler] = []
        """Called right after each execution."""
        self.on_execution_end_deferred: list[ExecutionHandler] = []
        """Called when the next execution begins or the epoch ends: for handlers that read the logs.
        Reading waits for the device, which has had time to compute by then."""
        self.on_epoch_closing: list[LogsHandler] = []
        """Called with the logs of an epoch's last step, if it is known to be the last, and again
        with the logs of the epoch's end, before other callbacks."""

    def start_epoch(self, epoch: int) -> None:
        """Call the handlers for the start of the fit and of an epoch."""
        once, self.on_fit_start = self.on_fit_start, []
        for handler in (*once, *self.on_epoch_start):
            handler(epoch)

    def close_epoch(self, logs: dict[str, Any]) -> None:
        """Call the handlers for the logs of an epoch."""
        for handler in self.on_epoch_closing:
            handler(logs)


@dataclasses.dataclass
class Executions:
    """The values that consecutive executions of an epoch used, and what they returned."""

    first: int
    """Batch of the epoch at which the first of them began."""
    sizes: list[int]
    """Batches in each execution."""
    values: dict[str, NDArray[np.float32]]
    """Value of each hyperparameter at each batch."""
    logs: list[dict[str, Any]]
    """The logs that the steps returned, one mapping for each execution."""
    counts: list[float] | None
    """Samples seen in the epoch before each execution; None where they are not counted."""
    losses: NDArray[np.float64] | None = None
    """Loss of each single execution, if the step notes it; else the logs hold a running mean."""


class Recorder(Protocol):
    """Receiver of a session's reports."""

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Begin an epoch of ``steps`` batches; None where their number is not known."""

    def extend(self, epoch: int, done: Executions) -> None:
        """Add some executions of an epoch."""

    def finish_epoch(self, batches: int, total: float | None) -> None:
        """End an epoch that had ``batches`` batches and ``total`` samples."""
