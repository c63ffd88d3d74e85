"""`Reports`: collects what executions used and returned, and passes it to the recorders."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.batch_loss import SampleCounter
from keras_lr._fit.events import Executions, Recorder
from keras_lr._fit.rate_reader import LearningRateReader
from keras_lr._fit.tracks import ValueTable, metric_column


class Reports:
    """Collects executions, so that recorders get many at once and nothing waits for the device."""

    def __init__(self) -> None:
        """Start without recorders."""
        self.recorders: list[Recorder] = []
        self.rate_readers: list[LearningRateReader] = []
        self.pending = Executions(0, [], {}, [], None)
        """The executions that the recorders do not have yet."""
        self._latest = self.pending
        """The last executions that the recorders got."""
        self._last_values: dict[str, float] = {}
        """What the last update of the epoch used."""

    @property
    def recorded_optimizers(self) -> dict[str, Any]:
        """The optimizers whose rates no track moves, by the names of their columns."""
        return {reader.name: reader.optimizer for reader in self.rate_readers}

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Begin an epoch of ``steps`` batches; None where their number is not known."""
        self._latest, self._last_values = self.pending, {}
        for reader in self.rate_readers:
            reader.start_epoch()
        for recorder in self.recorders:
            recorder.start_epoch(epoch, steps)

    def add_execution(self, first: int, count: int, logs: dict[str, Any]) -> int:
        """Add an execution of ``count`` batches, and return how many executions wait."""
        pending = self.pending
        if not pending.sizes:
            pending.first = first
        pending.sizes.append(count)
        pending.logs.append(logs)
        return len(pending.sizes)

    def forget_inputs(self, samples: SampleCounter) -> None:
        """Forget what was noted before an execution that failed; keep the executions before it."""
        waiting = len(self.pending.sizes)
        samples.forget_inputs(waiting)
        for reader in self.rate_readers:
            del reader.seen[waiting:]

    def hand_over(self, epoch: int, batch: int, table: ValueTable, samples: SampleCounter) -> None:
        """Pass the executions to the recorders.

        Args:
            epoch: The epoch that they belong to.
            batch: Batches of the epoch so far.
            table: Table of the values that they used.
            samples: Counter of the samples before each of them.
        """
        # Clear first: if one recorder raises, the others must not get these steps twice.
        done, self.pending = self.pending, Executions(batch, [], {}, [], None)
        if not done.sizes:
            return
        done.values = table.columns(done.first, sum(done.sizes))
        for reader in self.rate_readers:
            done.values[reader.name] = reader.values(done.sizes)
        self._multiply_factors(done.values, table)
        self._latest = done
        done.losses = samples.pop_losses(done.sizes, done.logs)
        if done.losses is None:
            done.counts = samples.pop_counts(len(done.sizes))
        for recorder in self.recorders:
            recorder.extend(epoch, done)

    def _multiply_factors(self, values: dict[str, NDArray[np.float32]], table: ValueTable) -> None:
        """Replace the column of each factor by its product with the rate that it multiplies."""
        names = {track.parameter.key: track.name for track in table.tracks}
        names |= {reader.parameter.key: reader.name for reader in self.rate_readers}
        for track in table.tracks:
            base = track.parameter.multiplies
            if base is not None:
                values[track.name] = values[track.name] * values[names[base.key]]

    def finish_epoch(self, ran: int, total: float | None) -> None:
        """Report the end of an epoch to the recorders.

        Args:
            ran: Batches that the epoch had.
            total: Samples that it had; None where they are not counted.
        """
        for recorder in self.recorders:
            recorder.finish_epoch(ran, total)
        last = ran - 1 - self._latest.first
        values = self._latest.values.items()
        self._last_values = {
            name: float(column[last]) for name, column in values if 0 <= last < len(column)
        }

    def add_last_values(self, logs: dict[str, Any], metrics: Container[str]) -> None:
        """Add the values that an epoch's last batch used to its logs.

        Args:
            logs: The logs.
            metrics: The names that the training step returned. A metric with the name of a value is
                kept under another name.
        """
        for name, value in self._last_values.items():
            if math.isnan(value):
                continue
            if name in metrics and name in logs:
                logs.setdefault(metric_column(name, self._last_values), logs[name])
            logs[name] = value
