"""`EventLog`: writes the rows of a record, step by step, to files that TensorBoard shows."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._files import make_folder, naming
from keras_lr.history.columns import Column

EVERY = 30.0
"""Seconds after which the steps of a running epoch are written."""


class EventLog:
    """Writes the rows of one fit as scalars by step to a new event file."""

    def __init__(self, folder: str, end: Callable[[], None]) -> None:
        """Choose the folder; the file is opened by the first epoch.

        Args:
            folder: Folder of the file.
            end: Method that writes the remaining rows and closes the log. It is called at the end
                of the process if the log is still open.

        Raises:
            ImportError: If tensorboardX is not installed.
        """
        try:
            import tensorboardX.event_file_writer as events
        except ImportError as error:
            raise ImportError(
                "LRHistory(log_dir=...) needs tensorboardX: pip install 'keras-lr[tensorboard]'"
            ) from error
        # tensorboardX takes what is before a colon for a protocol, unless the path is absolute.
        self.folder = os.path.abspath(folder)
        self.row = 0
        """The next row of the record to write."""
        # Unlike SummaryWriter, the writer of this module starts no thread and puts all values of a
        # step into one event.
        self._events: Any = events
        self._file: Any = None
        self._names: list[str] = []
        self._written = time.time()
        self._end = weakref.WeakMethod(end)

    def start_epoch(self, row: int, step: int) -> None:
        """Continue at a row of the record; the first epoch opens the file.

        Earlier files may hold that step and later ones, from a run that was killed or is repeated.
        TensorBoard drops them.

        Raises:
            OSError: If the file cannot be written. The error names the folder.
        """
        self.row = row
        if self._file is not None:
            return
        atexit.register(self._at_exit)
        make_folder(self.folder)
        # TensorBoard reads files by name, and a name begins with the time in whole seconds.
        suffix = f".{time.time_ns()}.{os.getpid()}"
        kinds = self._events.event_pb2
        start = kinds.SessionLog(status=kinds.SessionLog.START)
        with naming(self.folder):
            file = self._events.EventsWriter(os.path.join(self.folder, "events"), suffix)
            file.write_event(kinds.Event(step=step, wall_time=time.time(), session_log=start))
            file.flush()  # a full disk is an error before the first update
        self._file, self._written = file, time.time()

    @property
    def due(self) -> bool:
        """Whether the last rows were written more than `EVERY` seconds ago."""
        return time.time() - self._written >= EVERY

    def write_rows(self, columns: Mapping[str, Column], end: int) -> None:
        """Write the rows of a record before ``end`` that are not yet written."""
        if end <= self.row:
            return
        rows = slice(self.row, end)
        values = {name: column.values[rows] for name, column in columns.items() if name != "epoch"}
        self.write(values.pop("step"), values)
        self.row = end

    def write(self, steps: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> None:
        """Write the values of some steps; a column is included from its first number on.

        Raises:
            OSError: If they cannot be written. The error names the folder.
        """
        self._names += [
            name
            for name, values in columns.items()
            if name not in self._names and not np.isnan(values).all()
        ]
        shown = [(name, columns[name].tolist()) for name in self._names]
        # Only the time of the last step is known.
        now = time.time()
        times = np.linspace(self._written, now, len(steps) + 1)[1:].tolist()
        with naming(self.folder):
            for i, (step, moment) in enumerate(zip(steps.tolist(), times, strict=True)):
                event = self._events.event_pb2.Event(step=step, wall_time=moment)
                for name, values in shown:
                    event.summary.value.add(tag=name, simple_value=values[i])
                self._file.write_event(event)
            self._file.flush()
        self._written = now

    def close(self) -> None:
        """Close the file."""
        atexit.unregister(self._at_exit)
        file, self._file = self._file, None
        if file is not None:
            with naming(self.folder):
                file.close()

    def _at_exit(self) -> None:
        end = self._end()
        if end is not None:
            end()
