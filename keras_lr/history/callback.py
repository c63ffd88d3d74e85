"""`LRHistory`: the callback that records the rate, the loss and the metrics of each step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.kinds import Optional, Path, check
from keras_lr._files import PathLike
from keras_lr._fit.attach import attach
from keras_lr._fit.events import Executions
from keras_lr._fit.session import FitSession
from keras_lr._fit.tracks import metric_column
from keras_lr._hints import with_hints
from keras_lr._keras.fits.progress_bar import show_in_progress_bar
from keras_lr._keras.host_values import columns_of
from keras_lr._keras.legacy import LegacyHooks, PassedAsObject
from keras_lr._keras.metrics import cumulative_metrics
from keras_lr._state import check_holds_arrays, check_state_path, save_arrays, unusable
from keras_lr.history.columns import Column
from keras_lr.history.live import LiveCurves, values_in_use
from keras_lr.history.open_epoch import OpenEpoch
from keras_lr.history.record import ALWAYS, Record, load_record
from keras_lr.history.tensorboard import EventLog

PATH = Optional(Path("the path of a file or a folder"))
"""What the arguments of `LRHistory` take."""

SO_FAR = "{}_so_far"
"""Column of a metric that is not a mean over samples, and is known only for the epoch so far."""


class LRHistory(Record, PassedAsObject, LegacyHooks, keras.callbacks.Callback):
    """Record the learning rate, the batch's own loss and every metric of each training step.

    Every callback of this package has one, ``callback.history``. Passed to ``fit`` alone, it
    records any model. Its arrays hold one value per training step: ``step`` (counted over the whole
    training, from 0), ``epoch``, ``learning_rate`` (the rate of the update), ``loss``, and under
    ``history[name]`` everything else that moved or was logged. A metric with the name of a column
    of the record, such as ``step`` or ``learning_rate``, is under ``history["metric_step"]``.

    Keras logs a running mean of the loss. ``loss`` is what the batch added to that mean, noted in
    the training step, whatever the name of the metric that averages the loss. It is exact to the
    digits of a float32, however long the epoch is. Where the step cannot note it (several replicas,
    ``jit_compile`` on PyTorch, ``steps_per_execution`` above 1 on JAX, legacy Keras), the loss is
    recovered from the mean::

        loss_b = (n_b * mean_b - n_{b-1} * mean_{b-1}) / (n_b - n_{b-1})

    with ``n_b`` the samples of the epoch up to batch ``b``. Since the mean is a float32, that is
    off by about 1e-7 of the mean times the number of executions: 1e-3 after 10,000. With
    ``steps_per_execution=N`` the rows of an execution share its mean loss.

    Metrics are recorded as Keras logs them. A mean over samples, such as ``mae`` or ``accuracy``,
    is that of the epoch so far. A metric that is not such a mean, such as AUC, recall, the root of
    a mean or a weighted metric, has a name that says so: ``history["auc_so_far"]``.

    A fit that begins at a step keeps the rows of earlier steps and replaces the others. So a
    training that is resumed at ``initial_epoch`` continues its record. At the end of each epoch,
    the rate of its last update is in ``logs["learning_rate"]``, and everything else that moved is
    under its name, such as ``logs["momentum"]``, for other callbacks and Keras's own ``History``.

    Args:
        state_path: File for the record, written atomically after every epoch. A fit in a new
            process that begins at ``initial_epoch``, or that ``BackupAndRestore`` resumes,
            continues the record from this file. `from_state` reads it.
        log_dir: Folder for TensorBoard. The record of every step is written to it in pieces, at
            least twice a minute and at the end of every epoch. Here, too, a fit that begins at a
            step replaces that step and later ones.

    Raises:
        ImportError: At the start of a fit with ``log_dir``, if tensorboardX is not installed.
        StateError: At the start of a fit, if ``state_path`` leads to something else than a record,
            or lacks the epoch before the one at which the fit begins.
        OSError: At the start of a fit, if one of the paths cannot be written.

    >>> history = LRHistory()
    >>> len(history)
    0
    >>> history
    LRHistory(no steps)
    """

    async_safe = True

    _log: EventLog | None = None
    _is_live = _is_in_progress_bar = False
    _undo_progress_bar: Callable[[], None] | None = None
    _curves: LiveCurves | None = None

    @with_hints
    def __init__(self, state_path: PathLike | None = None, log_dir: PathLike | None = None) -> None:
        """Start with an empty record."""
        super().__init__()
        self.state_path = check("LRHistory", "state_path", PATH, state_path)
        self.log_dir = check("LRHistory", "log_dir", PATH, log_dir)
        self._session: FitSession | None = None
        self._open_epoch: OpenEpoch | None = None
        self._cumulative: set[str] | None = None

    def __bool__(self) -> bool:
        """Return True: an empty recorder is a callback too."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        paths = {"state_path": self.state_path, "log_dir": self.log_dir}
        shown = {"_is_live": self._is_live, "_is_in_progress_bar": self._is_in_progress_bar}
        return {"paths": paths, "columns": self.state_dict(), "shown": shown}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["paths"])  # type: ignore[misc]
        self.load_state_dict(state["columns"])
        self.__dict__.update(state.get("shown", {}))

    def live(self) -> Self:
        """Draw the rate and the loss in the notebook while a fit runs, and return this callback.

        The drawing is updated about once a second, or less often if that would slow the fit by more
        than 5 %.

        >>> from keras_lr import CosineDecay
        >>> rate = CosineDecay(0.1)
        >>> callbacks = [rate, rate.history.live()]
        """
        self._is_live = True
        return self

    def in_progress_bar(self) -> Self:
        """Show the rate and all else that moves in a fit's progress bar; return this callback.

        The bar shows the values of the batch throughout the epoch, not only on its last line.
        Values that callbacks of this package set are known on the host. Any other rate is read from
        the optimizer when the bar is drawn, perhaps one batch late. The rate of a schedule in the
        optimizer, and a rate that the gradients decide, are only on the last line, because they are
        known only after the steps.

        >>> from keras_lr import CosineDecay
        >>> rate = CosineDecay(0.1)
        >>> callbacks = [rate, rate.history.in_progress_bar()]
        """
        self._is_in_progress_bar = True
        return self

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        session = self._session
        with contextlib.nullcontext() if session is None else session.lock:
            self._flush_session()
            yield

    def _replace_columns(self, columns: dict[str, Column]) -> None:
        super()._replace_columns(columns)
        self._open_epoch = None

    # Hooks of Keras ---------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to record the fit."""
        self.record(attach(self.model, self, self.params), self.params)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin to record an epoch."""
        if self._session is not None:
            self._session.start_epoch(epoch)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """End the epoch's record before validation resets the metrics."""
        if self._session is not None:
            self._session.end_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the values of the last update to the logs."""
        if self._session is not None:
            self._session.end_epoch()
            self._session.add_values_to(logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the fit."""
        if self._session is not None:
            self._session.leave(self)
            self._end_log()
            self._end_display()
            self._session = None

    def record(self, session: FitSession, params: dict[str, Any] | None) -> None:
        """Record what ``session`` reports until the fit ends."""
        if any(one is self for one in session.members):
            return
        self._end_log()
        if session.chief and self.state_path is not None:
            check_state_path(self, session)
            check_holds_arrays(self.state_path, ALWAYS)
        if self.log_dir is not None and session.chief:
            self._log = EventLog(self.log_dir, self._end_log)
            session.events.on_execution_end.append(self._log_if_due)
        self._session, self._cumulative = session, None
        session.join(self, (params or {}).get("steps"))
        session.recorders.append(self)
        self._begin_display(session)

    # Reports of the session -------------------------------------------------------------------

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Drop the rows of this epoch and later ones, which are trained again."""
        if epoch and self.state_path is not None and not len(self._columns["epoch"]):
            self._load(epoch)
        row = int(np.searchsorted(self._columns["epoch"].values, epoch))
        for column in self._columns.values():
            column.cut(row)
        known = self._columns["step"].values
        step = epoch * steps if steps else int(known[-1]) + 1 if len(known) else 0
        self._open_epoch = OpenEpoch(row, step)
        if self._log is not None:
            self._log.start_epoch(row, step)

    def extend(self, epoch: int, done: Executions) -> None:
        """Add the rows of some executions of an epoch: all of them, or none."""
        rows = len(self._columns["step"])
        estimated = 0 if self._open_epoch is None else self._open_epoch.estimated
        estimates = self._columns["loss"].values[rows - estimated :].copy()
        try:
            self._open_epoch = self._add_rows(epoch, done)
        except BaseException:
            self._columns["loss"].put(rows - estimated, estimates)
            for name, column in list(self._columns.items()):
                column.cut(rows)
                if len(column) < rows:
                    del self._columns[name]
            raise
        # The last execution may have run fewer batches.
        self._write_log(len(self._columns["step"]) - done.sizes[-1])

    def _add_rows(self, epoch: int, done: Executions) -> OpenEpoch:
        batches, before = sum(done.sizes), len(self._columns["step"])
        open_epoch = self._open_epoch or OpenEpoch(before)
        noted = () if done.losses is None else ("loss",)
        logged = {
            self._column_of(name, done.values): column
            for name, column in columns_of(done.logs, noted).items()
        }
        means = done.losses
        if means is None:
            means = logged.pop("loss", np.full(len(done.sizes), np.nan))
        after, losses = open_epoch.recover(means, done.counts, done.sizes)
        values: dict[str, NDArray[Any]] = {
            name: np.repeat(column, done.sizes) for name, column in logged.items()
        }
        values |= done.values
        values["step"] = open_epoch.first_step + done.first + np.arange(batches)
        values["epoch"] = np.full(batches, epoch)
        for name in values:
            if name not in self._columns:
                self._columns[name] = Column(np.float32)
                self._columns[name].append(np.full(before, np.nan))
        for name, column in self._columns.items():
            if name == "loss":
                column.put(before - open_epoch.estimated, losses)
            else:
                column.append(values.get(name, np.full(batches, np.nan)))
        return after

    def _column_of(self, name: str, moving: Collection[str]) -> str:
        """Return the column of a logged value, whose name may differ from that in the logs."""
        session = self._session
        if self._cumulative is None:
            # By now the model has created its metrics.
            self._cumulative = set() if session is None else cumulative_metrics(session.model)
        shown = set() if session is None else session.sample_counter.cumulative
        so_far = name in self._cumulative or name in shown
        return metric_column(SO_FAR.format(name) if so_far else name, moving)

    def finish_epoch(self, batches: int, total: float | None) -> None:
        """Recover the last loss of an epoch, now that the number of its samples is known."""
        open_epoch = self._open_epoch
        if open_epoch is None or len(self._columns["step"]) == open_epoch.first_row:
            return
        if total and open_epoch.estimated:
            loss = self._columns["loss"]
            loss.put(len(loss) - open_epoch.estimated, open_epoch.last_losses(total))
        for column in self._columns.values():
            column.cut(open_epoch.first_row + batches)
        self._open_epoch = open_epoch.without_estimate()
        self._write_log(len(self._columns["step"]))
        if self.state_path is not None and (self._session is None or self._session.chief):
            save_arrays(self.state_path, self.state_dict())

    def _flush_session(self) -> None:
        if self._session is not None:
            self._session.flush()

    def _load(self, epoch: int) -> None:
        """Load the record of the epochs before ``epoch``."""
        assert self.state_path is not None
        arrays = load_record(self.state_path)
        if epoch - 1 not in arrays["epoch"]:
            raise unusable(
                self.state_path,
                f"the fit begins at epoch {epoch}, but the file does not hold epoch {epoch - 1}",
            )
        self.load_state_dict(arrays)

    # Display ----------------------------------------------------------------------------------

    def _begin_display(self, session: FitSession) -> None:
        group = session.callbacks.group
        if self._is_in_progress_bar and group is not None:
            self._undo_progress_bar = show_in_progress_bar(group.callbacks, values_in_use(session))
        if self._is_live and session.chief:
            self._curves = LiveCurves(self._repr_html_)
            session.events.on_execution_end.append(self._curves.draw_if_due)

    def _end_display(self) -> None:
        if self._undo_progress_bar is not None:
            self._undo_progress_bar()
        if self._curves is not None:
            self._curves.draw()
        self._undo_progress_bar = self._curves = None

    # TensorBoard ------------------------------------------------------------------------------

    def _write_log(self, end: int) -> None:
        """Write the rows before ``end`` for TensorBoard, if they are not yet written."""
        log = self._log
        if log is None:
            return
        try:
            log.write_rows(self._columns, end)
        except BaseException:
            # A full disk must not prevent the record from being read.
            self._log = None
            with contextlib.suppress(OSError):  # the same again
                log.close()
            raise

    def _log_if_due(self, *execution: Any) -> None:
        if self._log is not None and self._log.due:
            self._flush_session()

    def _end_log(self) -> None:
        """Write the remaining rows of a fit, even after an exception, and close the file."""
        if self._log is None:
            return
        try:
            self._flush_session()
            self._write_log(len(self._columns["step"]))
        finally:
            if self._log is not None:
                self._log.close()
                self._log = None

    __del__ = _end_log
