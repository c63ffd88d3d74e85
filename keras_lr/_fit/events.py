"""What happens in a fit, what is called when it does, and what is reported of it."""

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
    """What happens in a fit, in this order, and the handlers that are called when it does."""

    def __init__(self) -> None:
        """Begin without handlers."""
        self.on_fit_start: list[EpochHandler] = []
        """Once, with the first epoch, when everything that restores a state has done so."""
        self.on_epoch_start: list[EpochHandler] = []
        """With each epoch, before its first values are asked for; may train another model."""
        self.on_execution_end: list[ExecutionHandler] = []
        """Right after each execution."""
        self.on_execution_end_deferred: list[ExecutionHandler] = []
        """When the next execution begins or the epoch ends, so that the device may compute
        meanwhile: for what reads the logs, which waits for the device."""
        self.on_epoch_closing: list[LogsHandler] = []
        """With the logs of an epoch's last step, where that is known to be the last, and with those
        of its end, before other callbacks are called."""

    def start_epoch(self, epoch: int) -> None:
        """Call what waits for an epoch, or for the first one."""
        once, self.on_fit_start = self.on_fit_start, []
        for handler in (*once, *self.on_epoch_start):
            handler(epoch)

    def close_epoch(self, logs: dict[str, Any]) -> None:
        """Call what waits for an epoch's logs."""
        for handler in self.on_epoch_closing:
            handler(logs)


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
    losses: NDArray[np.float64] | None = None
    """Loss of each execution alone, where the step notes it; else the logs hold a running mean."""


class Recorder(Protocol):
    """What a session reports to."""

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Begin an epoch of so many batches; None where that is not known."""

    def extend(self, epoch: int, done: Executions) -> None:
        """Add some executions of an epoch."""

    def finish_epoch(self, batches: int, total: float | None) -> None:
        """Add the number of batches and of samples that the epoch had."""
