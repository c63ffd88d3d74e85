"""`JaxEngine`: gets values into the training steps on JAX.

The values of a batch are passed together with its data to the jitted ``train_step``, which is kept
with the model's train function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lr._fit.engines.base import ADDED, Arguments, Result, Session
from keras_lr._fit.engines.stateless import CountedBatches, StatelessEngine
from keras_lr._fit.tracks import BLOCK
from keras_lr._keras.fits.held_signals import HeldSignals
from keras_lr._keras.fits.jax_state import Place, state_with
from keras_lr._keras.fits.mean_updates import MeanUpdates, find_means
from keras_lr._keras.fits.train_step import (
    CompiledStep,
    hyperparameters_set,
)
from keras_lr._keras.metrics import find_cumulative_metrics
from keras_lr._keras.rates.hyperparameters import Hyperparameter

COUNT = "_keras_lr_count"
"""Name in the logs under which a step returns the count that goes with the sum that it added."""


class JaxEngine(StatelessEngine):
    """Passes the table of values to the jitted step, and with each batch its row in the table."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.batches: ScheduledBatches = ScheduledBatches(
            session, self.signals, max(BLOCK, self.size)
        )

    def compile_step(self) -> CompiledStep | None:
        # Keras returns only the logs of the last batch of an execution.
        means = find_means(self.session.model) if self.size == 1 else []
        others = find_cumulative_metrics(self.session.model)
        if not self.parameters and not means and not others:
            return None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            return _step_with_values(step, plain_step, parameters, places, numbers, means, others)

        parameters, places, numbers = self.parameters, self.places, self.numbers
        key = *(parameter.compile_key for parameter in parameters), *map(id, (*means, *others))
        if not self.extra:
            return self.compile(key, build)
        # With several devices, Keras reads the optimizer's variables here.
        with hyperparameters_set(numbers, [0.0] * len(parameters), parameters):
            return self.compile(key, build)

    def run_step(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        self.batches.use_table(self.session.table.rows, step.indices)
        (logs, state), count = self.call_function(step.function, arguments, row)
        if step.update is not None:
            samples = 1.0 if step.update.is_logged else logs.pop(COUNT)
            self.session.sample_counter.note_loss(step.update, logs.pop(ADDED), samples)
        return (logs, state), count


def _step_with_values(
    step: CompiledStep,
    plain_step: Callable,
    parameters: list[Hyperparameter],
    places: list[Place | None],
    numbers: list[Hyperparameter],
    means: list[Any],
    others: list[Any],
) -> Callable:
    """Return a training step that takes the values of a batch together with its data."""

    def step_with_values(state: Any, scheduled: Any) -> Any:
        step.traced = True
        table, row, batch = scheduled.args
        values = table[row]
        state = state_with(state, zip(places, values, strict=True))
        with (
            hyperparameters_set(numbers, values, parameters),
            MeanUpdates(means, others) as updates,
        ):
            logs, state = plain_step(state, batch)
        step.cumulative = updates.cumulative(logs)
        step.update, update = None, updates.of_loss(logs, row)
        if update is not None:
            step.update = update.without_values()
            # Each additional value that a step returns costs time.
            if update.is_logged:
                loss = update.total / update.count if update.loss is None else update.loss
                logs = logs | {ADDED: loss}
            else:
                logs = logs | {ADDED: update.total, COUNT: update.count}
        return logs, state

    return step_with_values


def _row_and_batch(*arguments: Any) -> None:
    """Do nothing; marks the partial functions that `ScheduledBatches` hands out."""


class ScheduledBatches(CountedBatches):
    """Iterator that pairs each batch with its row in the table of values, and counts samples.

    A pair is a JAX ``Partial``: it can be passed to a jitted step like a tuple, but a user's
    training step cannot mistake it for data.
    """

    def __init__(self, session: Session, signals: HeldSignals, rows: int) -> None:
        """Use tables of ``rows`` rows, however many are used, so that no step is traced again."""
        import jax

        super().__init__(session, signals)
        self._pair = jax.tree_util.Partial
        self._spread = keras.distribution.distribution() is not None
        """Whether several devices compute."""
        self._rows = rows
        self._source: Any = None
        self._table: Any = None
        self._indices: list[Any] = []

    def use_table(self, rows: np.ndarray, indices: list[Any]) -> None:
        """Put the values on the device, if there is a single one and it does not have them yet.

        Args:
            rows: The rows of the session's table.
            indices: Row numbers that are on the device already; missing ones are added.
        """
        if rows is self._source:
            return
        self._source, self._indices = rows, indices
        self._table = np.zeros((self._rows, rows.shape[1]), np.float32)
        self._table[: len(rows)] = rows
        if not self._spread:
            self._table = keras.ops.convert_to_tensor(self._table)
            for index in range(len(indices), len(rows)):
                indices.append(keras.ops.convert_to_tensor(index, "int32"))

    def __next__(self) -> Any:
        batch = super().__next__()
        if self.row is None:
            return batch
        row = self.row + self.used - 1
        index = np.int32(row) if self._spread else self._indices[row]
        return self._pair(_row_and_batch, self._table, index, batch)
