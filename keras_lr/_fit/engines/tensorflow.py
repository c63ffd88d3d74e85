"""How values get into the training steps on TensorFlow.

``train_step`` is compiled with a gather from a table variable at its head. The compiled function is
kept with the model's train function, so that later fits with other schedules compile nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lr._fit.engines.base import Arguments, Engine, Result, Session
from keras_lr._fit.tracks import BLOCK
from keras_lr._keras.fits.mean_updates import LossUpdate, MeanUpdates, find_means
from keras_lr._keras.fits.train_step import (
    CompiledStep,
    hyperparameters_set,
)
from keras_lr._keras.rates.hyperparameters import Hyperparameter


class TensorFlowEngine(Engine):
    """Reads tables inside the compiled step: exact whatever the number of steps per execution.

    The step also notes what nobody could read in each step without waiting: the samples so far, and
    the rates that nobody here moves.
    """

    def __init__(self, session: Session) -> None:
        """Find the variables that the step notes."""
        super().__init__(session)
        self.rows = max(BLOCK, self.size)
        self.noted = self._variables_to_note()
        replicas = session.model.distribute_strategy.num_replicas_in_sync
        self.means = find_means(session.model) if replicas == 1 else []
        self._in_tables: Any = None
        """The rows of values that the tables hold."""

    def _variables_to_note(self) -> list[Any]:
        """Return the count of samples, where there is one, and the rates that nobody moves."""
        session = self.session
        if session.model.distribute_strategy.num_replicas_in_sync > 1:
            return []
        rates = [reader.variable for reader in session.rate_readers]
        variables = [session.sample_counter.variable, *rates]
        self.counts = variables[0] is not None
        return [variable for variable in variables if variable is not None]

    def compile_step(self) -> CompiledStep | None:
        model = self.session.model
        if not self.parameters and not self.noted and not self.means:
            return None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            with model.distribute_strategy.scope():
                _make_tables(step, rows, len(parameters), noted)
            return _step_with_values(step, plain_step, parameters, noted, numbers, means)

        parameters, noted, numbers, rows = self.parameters, self.noted, self.numbers, self.rows
        means = self.means
        key = *(parameter.key for parameter in parameters), *map(id, (*noted, *means))
        return self.compile(key, build)

    def run_step(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        if self.session.table.rows is not self._in_tables:
            self._fill_tables(step, row)
        return self.call_function(step.function, arguments)

    def run_first(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        samples = self.count_of_samples() if self.noted and self.session.batch else 0.0
        result = super().run_first(step, arguments, row)
        if self.step is None and self.noted:
            # The step would have noted these.
            self.session.sample_counter.note_count(self.session.batch, lambda: samples)
            for reader in self.session.rate_readers:
                if reader.variable is not None:
                    reader.note_rate()
        return result

    def note_inputs(self, arguments: Arguments) -> None:
        if self.step is None or not self.noted:
            super().note_inputs(arguments)
            return
        for reader in self.session.rate_readers:
            if reader.variable is None:
                reader.note_rate()

    def _fill_tables(self, step: CompiledStep, row: int) -> None:
        """Hand the rows of the session's table to the compiled step."""
        values = self.session.table.rows
        for column, table in enumerate(step.tables):
            padded = np.zeros(self.rows, np.float32)
            padded[: len(values)] = values[:, column]
            table.assign(padded)
        step.position.assign(row - 1)
        if step.losses is not None:
            step.losses.assign(np.zeros((self.rows, 2), np.float32))
        self._in_tables = values

    def collect_device_notes(self, first: int, sizes: list[int]) -> None:
        if self.step is None or not (self.noted or self.means):
            return
        session = self.session
        if self.step.update is not None:
            row = first - session.table.start
            self._collect_losses(self.step, self.step.update, row, sizes)
        batches = first + np.cumsum(sizes, dtype=np.int64) - np.array(sizes)
        notes = [np.asarray(note.value)[batches - session.table.start] for note in self.step.notes]
        if self.counts:
            counts, *rates = notes
        else:
            counts, rates = np.zeros(len(sizes)), notes
        session.sample_counter.add_device_counts(batches, counts)
        on_device = [one for one in session.rate_readers if one.variable is not None]
        for reader, rate in zip(on_device, rates, strict=True):
            reader.seen += rate.tolist()

    def _collect_losses(
        self, step: CompiledStep, update: LossUpdate, row: int, sizes: list[int]
    ) -> None:
        """Read what the executions from a row on have added to the mean of the loss."""
        notes = np.asarray(step.losses.value).astype(np.float64)
        # An execution that has run fewer batches than it may leaves zeros.
        step.losses.assign(np.zeros(notes.shape, np.float32))
        starts = row + np.cumsum([0, *sizes[:-1]])
        added = np.add.reduceat(notes[: row + sum(sizes)], starts)
        for total, count in added.tolist():
            self.session.sample_counter.note_loss(update, total, count)


def _make_tables(step: CompiledStep, rows: int, columns: int, noted: list[Any]) -> None:
    """Give a step the variables that it reads its values from and notes others in."""

    def table(dtype: str) -> Any:
        return keras.Variable(np.zeros(rows), dtype=dtype, trainable=False)

    step.tables = [table("float32") for _ in range(columns)]
    step.notes = [table(variable.dtype) for variable in noted]
    step.losses = keras.Variable(np.zeros((rows, 2)), dtype="float32", trainable=False)
    step.position = keras.Variable(
        0, trainable=False, dtype="int", aggregation="only_first_replica", name="batch"
    )


def _step_with_values(
    step: CompiledStep,
    plain_step: Callable,
    parameters: list[Hyperparameter],
    noted: list[Any],
    numbers: list[Hyperparameter],
    means: list[Any],
) -> Callable:
    """Return a training step that takes its values from the tables of ``step``."""
    import tensorflow as tf

    # Keras's own operations on variables would be several where one does.
    tables = [table.value for table in step.tables]
    notes = [(a.value.handle, b.value) for a, b in zip(step.notes, noted, strict=True)]
    advance = step.position.value.assign_add

    def step_with_values(data: Any) -> Any:
        step.traced = True
        row = tf.convert_to_tensor(advance(1))
        values = [tf.gather(table, row) for table in tables]
        for note, variable in notes:
            tf.raw_ops.ResourceScatterUpdate(resource=note, indices=row, updates=variable)
        for parameter, value in zip(parameters, values, strict=True):
            if parameter.variable is not None:
                parameter.variable.assign(value)
        with hyperparameters_set(numbers, values, parameters), MeanUpdates(means) as updates:
            logs = plain_step(data)
        step.update, update = None, updates.of_loss(logs, row)
        if update is not None:
            step.update = LossUpdate(update.mean, update.is_logged)
            parts = [tf.cast(part, "float32") for part in (update.total, update.count)]
            handle = step.losses.value.handle
            tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=row, updates=tf.stack(parts))
        return logs

    return step_with_values
