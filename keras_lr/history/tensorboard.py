"""`EventLog`: the rows of a record, step by step, in files that TensorBoard shows."""

from __future__ import annotations

import atexit
import os
import pathlib
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

EVERY = 30.0
"""Seconds after which what a running epoch has done so far is written."""


class EventLog:
    """Writes the rows of one fit as scalars by step, into an event file of its own."""

    def __init__(self, folder: str, end: Callable[[], None]) -> None:
        """Name the folder.

        Args:
            folder: Where the file goes.
            end: A method that writes what is still to write and closes this; it is called when
                the process ends, unless that is done already.

        Raises:
            ImportError: If tensorboardX is not installed.
        """
        try:
            import tensorboardX.event_file_writer as events
        except ImportError as error:
            raise ImportError(
                "LRHistory(log_dir=...) needs tensorboardX: pip install 'keras-lr[tensorboard]'"
            ) from error
        self.folder = pathlib.Path(folder)
        self.row = 0
        """The row of the record that comes next."""
        # The module's file, unlike SummaryWriter, starts no thread and takes a step in one event.
        self._events: Any = events
        self._file: Any = None
        self._names: list[str] = []
        self._written = time.time()
        self._end = weakref.WeakMethod(end)

    def start_epoch(self, row: int, step: int) -> None:
        """Go on at a row of the record; the first such step opens the file.

        Earlier files may hold that step and later ones, of a run that was killed or is repeated.
        TensorBoard drops them.
        """
        self.row = row
        if self._file is not None:
            return
        atexit.register(self._at_exit)
        self.folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files by name, and a name begins with the time in whole seconds.
        suffix = f".{time.time_ns()}.{os.getpid()}"
        self._file = self._events.EventsWriter(str(self.folder / "events"), suffix)
        kinds = self._events.event_pb2
        start = kinds.SessionLog(status=kinds.SessionLog.START)
        self._file.write_event(kinds.Event(step=step, wall_time=time.time(), session_log=start))
        self._written = time.time()

    @property
    def due(self) -> bool:
        """Whether it is long ago that rows were written."""
        return time.time() - self._written >= EVERY

    def write(self, steps: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> None:
        """Write the next rows; a column joins with its first number."""
        self._names += [
            name
            for name, values in columns.items()
            if name not in self._names and not np.isnan(values).all()
        ]
        shown = [(name, columns[name].tolist()) for name in self._names]
        # The time of each step is not known, only that of the last.
        now = time.time()
        times = np.linspace(self._written, now, len(steps) + 1)[1:].tolist()
        for i, (step, moment) in enumerate(zip(steps.tolist(), times, strict=True)):
            event = self._events.event_pb2.Event(step=step, wall_time=moment)
            for name, values in shown:
                event.summary.value.add(tag=name, simple_value=values[i])
            self._file.write_event(event)
        self._file.flush()
        self._written = now
        self.row += len(steps)

    def close(self) -> None:
        """Close the file."""
        atexit.unregister(self._at_exit)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _at_exit(self) -> None:
        end = self._end()
        if end is not None:
            end()
