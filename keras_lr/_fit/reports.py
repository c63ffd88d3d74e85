"""`Reports`: what executions used and returned, until the recorders get it."""

from __future__ import annotations

from typing import Any

from keras_lr._fit.batch_loss import SampleCounter
from keras_lr._fit.events import Executions, Recorder
from keras_lr._fit.rate_reader import LearningRateReader
from keras_lr._fit.tracks import ValueTable


class Reports:
    """Collects executions, so that recorders get many at once and nothing waits for the device."""

    def __init__(self) -> None:
        """Start with nobody to report to."""
        self.recorders: list[Recorder] = []
        self.rate_readers: list[LearningRateReader] = []
        self.pending = Executions(0, [], {}, [], None)
        """The executions that the recorders do not have yet."""
        self._latest = self.pending
        """The last executions that the recorders got."""

    def start_epoch(self, epoch: int, steps: int | None) -> None:
        """Begin an epoch of so many batches; None where that is not known."""
        self._latest = self.pending
        for reader in self.rate_readers:
            reader.start_epoch()
        for recorder in self.recorders:
            recorder.start_epoch(epoch, steps)

    def add(self, first: int, count: int, logs: dict[str, Any]) -> int:
        """Add an execution of ``count`` batches, and return how many executions wait."""
        pending = self.pending
        if not pending.sizes:
            pending.first = first
        pending.sizes.append(count)
        pending.logs.append(logs)
        return len(pending.sizes)

    def hand_over(self, epoch: int, batch: int, table: ValueTable, samples: SampleCounter) -> None:
        """Hand the executions to the recorders.

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
        self._latest = done
        done.counts = samples.pop_counts(len(done.sizes))
        for recorder in self.recorders:
            recorder.extend(epoch, done)

    def finish_epoch(self, ran: int, total: float | None) -> dict[str, float]:
        """Tell the recorders of an epoch's end, and return the values that its last batch used.

        Args:
            ran: Batches that the epoch had.
            total: Samples that it had; None where they are not counted.
        """
        for recorder in self.recorders:
            recorder.finish_epoch(ran, total)
        last = ran - 1 - self._latest.first
        values = self._latest.values.items()
        return {name: float(column[last]) for name, column in values if 0 <= last < len(column)}
