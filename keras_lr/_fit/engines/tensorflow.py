"""`TensorFlowEngine`: gets values into the training steps on TensorFlow.

``train_step`` is compiled with a gather from a table variable at its start. The compiled function
is kept with the model's train function, so that later fits with other schedules compile nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.engines.base import ADDED, Arguments, Engine, Result, Session
from keras_lr._fit.tracks import BLOCK
from keras_lr._keras.fits.mean_updates import MeanUpdates, find_means
from keras_lr._keras.fits.train_step import (
    CompiledStep,
    hyperparameters_set,
)
from keras_lr._keras.host_values import to_float
from keras_lr._keras.metrics import find_cumulative_metrics
from keras_lr._keras.rates.hyperparameters import Hyperparameter


class TensorFlowEngine(Engine):
    """Reads tables inside the compiled step, which is exact for any number of steps per execution.

    The step also notes what the host could not read in each step without waiting: what it adds to
    the mean of the loss, and the rates that no track moves.
    """

    def __init__(self, session: Session) -> None:
        """Find the variables that the step notes."""
        super().__init__(session)
        self.rows = max(BLOCK, self.size)
        self.rates: list[Any] = []
        """The variables of the rates that no track moves."""
        self.means: list[Any] = []
        """The metrics among which may be the loss in the logs."""
        self.others: list[Any] = find_cumulative_metrics(session.model)
        """The metrics that are not means, whose results may be in the logs under any name."""
        self.counter: Any = None
        """The variable that counts samples, which is noted if nothing is added to the means."""
        if session.model.distribute_strategy.num_replicas_in_sync == 1:
            rates = [reader.variable for reader in session.rate_readers]
            self.rates = [variable for variable in rates if variable is not None]
            self.means = find_means(session.model)
            self.counter = session.sample_counter.variable
        self.takes_notes = bool(self.rates or self.means or self.counter is not None)
        self._last_loss: Any = None
        """The loss of the last batch, if its step returns it."""
        self._in_tables: Any = None
        """The rows of values that the tables hold."""

    def compile_step(self) -> CompiledStep | None:
        model = self.session.model
        if not self.parameters and not self.takes_notes and not self.others:
            return None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            with model.distribute_strategy.scope():
                _make_tables(step, self.rows, len(self.parameters), self.rates)
            return _step_with_values(
                *(step, plain_step, parameters, numbers, rates),
                *(means, others, counter, single, returned),
            )

        parameters, numbers, rates = self.parameters, self.numbers, self.rates
        means, others, counter = self.means, self.others, self.counter
        single = self.size == 1
        returned = single and self.session.reads_losses
        keys = [parameter.compile_key for parameter in parameters]
        key = *keys, *map(id, (*rates, *means, *others, counter)), returned
        return self.compile(key, build)

    def run_step(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        if self.session.table.rows is not self._in_tables:
            self._fill_tables(step, row)
        logs, count = self.call_function(step.function, arguments)
        if step.returns_loss:
            self._last_loss = logs.pop(ADDED)
        return logs, count

    def run_first(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        known = self.counter is not None and self.session.batch
        samples = self.count_of_samples() if known else 0.0
        result = super().run_first(step, arguments, row)
        if self.step is None and self.takes_notes:
            # The step would have noted these.
            self.session.sample_counter.note_count(self.session.batch, lambda: samples)
            for reader in self.session.rate_readers:
                if reader.variable is not None:
                    reader.note_rate()
        return result

    def keep_state_of(self, arguments: Arguments, error: BaseException) -> None:
        # A failed step may have advanced in the tables, and a loop may continue with the same row.
        self._in_tables = None

    def note_inputs(self, arguments: Arguments) -> None:
        if self.step is None or not self.takes_notes:
            super().note_inputs(arguments)
            return
        for reader in self.session.rate_readers:
            if reader.variable is None:
                reader.note_rate()

    def _fill_tables(self, step: CompiledStep, row: int) -> None:
        """Copy the rows of the session's table to the table of the compiled step."""
        values = self.session.table.rows
        if step.table is not None:
            padded = np.zeros((self.rows, values.shape[1]), np.float32)
            padded[: len(values)] = values
            step.table.assign(padded.reshape(step.table.shape))
        step.position.assign(row - 1)
        self._clear_losses(step)
        self._in_tables = values

    def _clear_losses(self, step: CompiledStep) -> None:
        # An execution that runs fewer batches than it could leaves some rows unwritten.
        if self.size > 1:
            step.losses.assign(np.zeros(self.rows, np.float32))
            step.counts.assign(np.zeros(self.rows, np.float32))

    def collect_device_notes(self, first: int, sizes: list[int]) -> None:
        step, session = self.step, self.session
        if step is None or not self.takes_notes:
            return
        start = first - session.table.start
        rows = start + np.cumsum([0, *sizes[:-1]])
        on_device = [one for one in session.rate_readers if one.variable is not None]
        for reader, note in zip(on_device, step.notes, strict=True):
            reader.seen += _read_table(note)[rows].tolist()
        samples = session.sample_counter
        if step.update is not None:
            added = np.add.reduceat(_read_losses(step, slice(start + sum(sizes))), rows)
            for total, count in added.tolist():
                samples.note_loss(step.update, total, count)
            self._clear_losses(step)
        elif self.counter is not None:
            counts = _read_table(step.counts)[rows].astype(np.float64)
            samples.add_device_counts(rows + session.table.start, counts)
        else:
            samples.add_device_counts(rows, np.zeros(len(sizes)))

    def read_last_loss(self, first: int, count: int) -> float | None:
        step = self.step
        if step is None or step.update is None or not step.update.is_logged:
            return None
        if self._last_loss is not None:
            return to_float(self._last_loss)
        row = first - self.session.table.start
        total, samples = _read_losses(step, slice(row, row + count)).sum(0)
        return float(total / samples) if samples else None


def _read_losses(step: CompiledStep, rows: slice) -> NDArray[np.float64]:
    """Return the sums that some batches have added to the mean of the loss, with their counts."""
    losses = _read_table(step.losses)[rows]
    counts = np.ones(len(losses)) if step.notes_loss else _read_table(step.counts)[rows]
    return np.stack([losses, counts], axis=1).astype(np.float64)


def _read_table(table: Any) -> NDArray[Any]:
    """Return the values of a table, several times as fast as ``variable.numpy()``."""
    import tensorflow as tf

    read = tf.raw_ops.ReadVariableOp(resource=table.value.handle, dtype=table.dtype)
    return np.asarray(read)


def _make_tables(step: CompiledStep, rows: int, columns: int, rates: list[Any]) -> None:
    """Give a step the variables from which it reads values and to which it writes notes."""

    def table(dtype: str) -> Any:
        return keras.Variable(np.zeros(rows), dtype=dtype, trainable=False)

    if columns:
        shape = (rows, columns) if columns > 1 else rows
        step.table = keras.Variable(np.zeros(shape), dtype="float32", trainable=False)
    step.notes = [table(variable.dtype) for variable in rates]
    step.losses, step.counts = table("float32"), table("float32")
    step.position = keras.Variable(
        0, trainable=False, dtype="int", aggregation="only_first_replica", name="batch"
    )


def _values_at(table: Any, row: Any) -> list[Any]:
    """Return the values in a row of a table; a table of single values has one dimension."""
    import tensorflow as tf

    if table is None:
        return []
    values = tf.gather(table, row)
    return [values] if len(table.shape) == 1 else tf.unstack(values)


def _step_with_values(
    step: CompiledStep,
    plain_step: Callable,
    parameters: list[Hyperparameter],
    numbers: list[Hyperparameter],
    rates: list[Any],
    means: list[Any],
    others: list[Any],
    counter: Any,
    single: bool,
    returned: bool,
) -> Callable:
    """Return a training step that takes its values from the tables of ``step``.

    Args:
        step: The compiled step, which has the tables.
        plain_step: The model's own step.
        parameters: The hyperparameters, one for each column of the table.
        numbers: Those of them that no variable holds.
        rates: The variables of the rates that no track moves.
        means: The metrics among which may be the loss.
        others: The metrics that are not means.
        counter: The variable that counts samples.
        single: Whether an execution runs a single batch.
        returned: Whether the step also returns the loss with its logs.
    """
    import tensorflow as tf

    # TensorFlow's own variables: Keras's would take several operations in place of one.
    scheduled = None if step.table is None else step.table.value
    notes = list(zip(step.notes, (rate.value for rate in rates), strict=True))
    advance = step.position.value.assign_add

    def note(table: Any, row: Any, value: Any) -> None:
        value = tf.cast(value, table.dtype)
        handle = table.value.handle
        tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=row, updates=value)

    def step_with_values(data: Any) -> Any:
        step.traced = True
        row = tf.convert_to_tensor(advance(1))
        values = _values_at(scheduled, row)
        for table, rate in notes:
            note(table, row, rate)
        counted = None if counter is None else tf.convert_to_tensor(counter.value)
        for parameter, value in zip(parameters, values, strict=True):
            if parameter.variable is not None:
                parameter.variable.assign(value)
        with (
            hyperparameters_set(numbers, values, parameters),
            MeanUpdates(means, others) as updates,
        ):
            logs = plain_step(data)
        step.cumulative = updates.cumulative(logs)
        update = updates.of_loss(logs, row)
        if update is None:
            step.update = None
            if counted is not None:
                note(step.counts, row, counted)
            return logs
        step.update = update.without_values()
        step.notes_loss = single and update.loss is not None
        if step.notes_loss:
            note(step.losses, row, update.loss)
        else:
            note(step.losses, row, update.total)
            note(step.counts, row, update.count)
        step.returns_loss = returned and step.notes_loss
        return logs | {ADDED: update.loss} if step.returns_loss else logs

    return step_with_values
