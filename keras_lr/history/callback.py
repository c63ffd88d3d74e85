"""`LRHistory`: what each training step used and what came of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._files import PathLike, load_arrays, save_arrays, unusable
from keras_lr._fit.batch_loss import undo_running_mean
from keras_lr._fit.events import Executions
from keras_lr._fit.session import FitSession, attach
from keras_lr._keras.host_values import columns_of
from keras_lr._keras.hyperparameters import LEARNING_RATE
from keras_lr._keras.legacy import LegacyHooks
from keras_lr.history.columns import Column
from keras_lr.history.record import ALWAYS, Record
from keras_lr.history.tensorboard import EventLog


class LRHistory(Record, LegacyHooks, keras.callbacks.Callback):
    """Record, step by step, the learning rate used, the batch's own loss and every metric.

    Every callback of this package owns one, as ``callback.history``; passed to ``fit`` alone it
    records any model. Its arrays hold one value per training step: ``step`` (counted over the whole
    training, from 0), ``epoch``, ``learning_rate`` (the one the update was made with), ``loss``,
    and under ``history[name]`` what else was moved or logged.

    Keras shows a running mean of the loss. The batch's own loss is recovered from it::

        loss_b = (n_b * mean_b - n_{b-1} * mean_{b-1}) / (n_b - n_{b-1})

    with ``n_b`` the samples of the epoch up to batch ``b``. Metrics are recorded as they are
    logged. Under ``steps_per_execution=N`` Keras reports once per N batches: the rows of an
    execution share its mean loss.

    A fit that begins at a step keeps the rows of earlier steps and replaces the others, so that a
    training that goes on at ``initial_epoch`` continues its record. At each epoch's end the rate of
    its last update stands in ``logs["learning_rate"]`` for the callbacks behind this one and for
    Keras's own ``History``.

    Args:
        state_path: File that holds the record after every epoch, written atomically. A fit in a new
            process that begins at ``initial_epoch``, or that ``BackupAndRestore`` resumes,
            continues the record from it.
        log_dir: Folder for TensorBoard, to which the record of every step goes in pieces, at least
            twice a minute and at the end of every epoch. There too a fit that begins at a step
            replaces that step and later ones.

    Raises:
        ImportError: At the start of a fit with ``log_dir``, if tensorboardX is not installed.
        StateError: If such a fit finds no such record.

    >>> history = LRHistory()
    >>> len(history)
    0
    >>> history
    LRHistory(no steps)
    """

    async_safe = True

    _log: EventLog | None = None

    def __init__(self, state_path: PathLike | None = None, log_dir: PathLike | None = None) -> None:
        """Start with an empty record."""
        super().__init__()
        self.state_path = None if state_path is None else os.fspath(state_path)
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self._session: FitSession | None = None
        self._base = 0
        self._epoch_row = 0
        self._counts: Column | None = None
        self._begin_executions()

    # Reading it -------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        """Return True: a recorder is a callback even while it is empty."""
        return True

    def _shown(self, name: str) -> NDArray[Any]:
        if name != "loss" or not self._open:
            return super()._shown(name)
        values = self._columns[name].values.copy()
        values[self._epoch_row :] = self._recovered(None)
        values.flags.writeable = False
        return values

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """Let nothing change while what has run so far is read, also from another thread."""
        session = self._session
        with contextlib.nullcontext() if session is None else session.lock:
            self._settle()
            yield

    def _replace(self, columns: dict[str, Column]) -> None:
        super()._replace(columns)
        self._begin_executions()

    def __getstate__(self) -> dict[str, Any]:
        paths = {"state_path": self.state_path, "log_dir": self.log_dir}
        return {"paths": paths, "columns": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["paths"])  # type: ignore[misc]
        self.load_state_dict(state["columns"])

    # Hooks ------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to record the fit."""
        self.record(attach(self.model, self), self.params)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin to record an epoch."""
        if self._session is not None:
            self._session.start_epoch(epoch)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """End the epoch's record before validation resets the metrics."""
        if self._session is not None:
            self._session.end_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the rate of the last update in the logs."""
        if self._session is not None:
            self._session.end_epoch()
            self.show(logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the model."""
        if self._session is not None:
            self._session.leave(self)
            self._end_log()
            self._session = None

    def record(self, session: FitSession, params: dict[str, Any] | None) -> None:
        """Record what ``session`` reports until the fit ends."""
        if any(one is self for one in session.members):
            return
        self._settle()
        self._end_log()
        if self.log_dir is not None and session.chief:
            self._log = EventLog(self.log_dir, self._end_log)
            session.events.on_execution_end.append(self._log_in_time)
        self._session = session
        session.join(self, (params or {}).get("steps"))
        session.recorders.append(self)

    def show(self, logs: dict[str, Any] | None) -> None:
        """Put the values of the last update into the logs of an epoch."""
        if logs is not None and len(self) and not np.isnan(self.learning_rate[-1]):
            logs[LEARNING_RATE] = float(self.learning_rate[-1])

    # Reports of the drive ---------------------------------------------------------------------

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Drop the rows of this epoch and later ones, which are trained anew."""
        if epoch and self.state_path is not None and not len(self._columns["epoch"]):
            self._load(epoch)
        self._epoch_row = int(np.searchsorted(self._columns["epoch"].values, epoch))
        for column in self._columns.values():
            column.cut(self._epoch_row)
        known = self._columns["step"].values
        self._base = epoch * steps if steps else int(known[-1]) + 1 if len(known) else 0
        self._begin_executions()
        if self._log is not None:
            self._log.start_epoch(self._epoch_row, self._base)

    def extend(self, epoch: int, done: Executions) -> None:
        """Take some executions of an epoch, all or none."""
        rows, executions = len(self._columns["step"]), len(self._edges)
        try:
            self._extend(epoch, done)
        except BaseException:
            for name, column in list(self._columns.items()):
                column.cut(rows)
                if len(column) < rows:
                    del self._columns[name]
            self._edges.cut(executions)
            if self._counts is not None:
                self._counts.cut(executions - 1)
            raise
        # How many batches and samples the last execution has shows in what follows.
        self._log_rows(len(self._columns["step"]) - done.sizes[-1])

    def _extend(self, epoch: int, done: Executions) -> None:
        batches = sum(done.sizes)
        self._columns["step"].add(self._base + done.first + np.arange(batches))
        self._columns["epoch"].add(np.full(batches, epoch))
        values: dict[str, NDArray[np.floating]] = {
            name: np.repeat(column, done.sizes) for name, column in columns_of(done.logs).items()
        }
        values |= done.values
        values.setdefault("loss", np.full(batches, np.nan))
        for name in values:
            if name not in self._columns:
                self._columns[name] = Column(np.float32)
                self._columns[name].add(np.full(len(self._columns["step"]) - batches, np.nan))
        for name, column in self._columns.items():
            if name not in ("step", "epoch"):
                column.add(values.get(name, np.full(batches, np.nan)))
        self._edges.add(self._edges.values[-1] + np.cumsum(done.sizes))
        if done.counts is None or self._counts is None:
            self._counts = None
        else:
            self._counts.add(done.counts)

    def finish_epoch(self, batches: int, total: float | None) -> None:
        """Recover the batch losses of an epoch now that the number of its samples is known."""
        if not self._open:
            return
        losses = self._recovered(total)
        for name, column in self._columns.items():
            if name == "loss":
                column.cut(self._epoch_row)
                column.add(losses)
            column.cut(self._epoch_row + batches)
        self._begin_executions()
        self._log_rows(len(self._columns["step"]))
        if self.state_path is not None and (self._session is None or self._session.chief):
            save_arrays(self.state_path, self.state_dict())

    def _begin_executions(self) -> None:
        """Forget the rows and the samples before each execution of the epoch."""
        self._edges = Column(np.int32)
        self._edges.add([0])
        self._counts = Column(np.float64)

    @property
    def _open(self) -> bool:
        """Whether the losses of the last epoch are running means still."""
        return len(self._edges) > 1

    def _recovered(self, total: float | None, start: int = 0) -> NDArray[np.float64]:
        """Return the loss of each batch of the open epoch, from its row ``start`` on."""
        means = self._columns["loss"].values[self._epoch_row :]
        if self._counts is None or total == 0.0 or not len(means):
            return means[start:].astype(np.float64)
        before = self._counts.values
        if total is None:  # the epoch is not over: the last batch counts like the one before
            total = 2.0 * before[-1] - before[-2] if len(before) > 1 else 1.0
        first = int(np.searchsorted(self._edges.values, start, "right")) - 1
        edges, seen = self._edges.values[first:], np.append(before[first:], total)
        losses = undo_running_mean(means[np.maximum(edges - 1, 0)], seen, begins=not first)
        return np.repeat(losses, np.diff(edges))[start - edges[0] :]

    def _settle(self) -> None:
        if self._session is not None:
            self._session.flush()

    def _log_rows(self, end: int) -> None:
        """Write the rows before ``end`` for TensorBoard, as far as they are not yet."""
        log = self._log
        if log is None or end <= log.row:
            return
        rows = slice(log.row, end)
        columns = {name: column.values[rows] for name, column in self._columns.items()}
        steps = columns.pop("step")
        columns.pop("epoch")
        if self._open:
            columns["loss"] = self._recovered(None, log.row - self._epoch_row)[: len(steps)]
        try:
            log.write(steps, columns)
        except BaseException:
            # A disk that is full must not keep anybody from reading the record.
            self._log = None
            log.close()
            raise

    def _log_in_time(self, *execution: Any) -> None:
        if self._log is not None and self._log.due:
            self._settle()

    def _end_log(self) -> None:
        """Write what is left of a fit, which an exception may have ended, and close the file."""
        if self._log is None:
            return
        try:
            self._settle()
            self._log_rows(len(self._columns["step"]))
        finally:
            self._log.close()
            self._log = None

    __del__ = _end_log

    def _load(self, epoch: int) -> None:
        """Take up the record of the epochs before ``epoch``."""
        assert self.state_path is not None
        arrays = load_arrays(self.state_path)
        missing = [name for name in ALWAYS if name not in arrays]
        if missing:
            raise unusable(self.state_path, f"it is no history: it lacks {', '.join(missing)}")
        if epoch - 1 not in arrays["epoch"]:
            raise unusable(
                self.state_path,
                f"the fit begins at epoch {epoch}, and the file does not hold epoch {epoch - 1}",
            )
        self.load_state_dict(arrays)
