"""The loss of each batch, recovered from Keras's running mean over the epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.fits.mean_updates import LossUpdate, is_mean
from keras_lr._keras.host_values import to_float, to_floats

MIN_TELLING_MOVES = 2
"""Fewest steps in which a loss and its running mean move apart that show which one is logged."""

CLEAR_SHARE = 0.8
"""By how much the moves that agree have to outweigh the others, as a share of all, or the others
them: a late move of a mean may be lost in rounding."""

CountedUnit = Literal["nothing", "samples", "batches", "unknown"]
"""What a metric counts: see `SampleCounter.unit`."""


class SampleCounter:
    """Counts the samples behind Keras's running mean of the loss, before each execution.

    Keras logs the mean over the samples of the epoch so far. The loss of a batch follows from it
    and from the number of those samples, which the loss metric counts. Reading that count can mean
    waiting for the device. So the counter compares it once with the samples counted on the host,
    and from then on relies on the host if the two agree.
    """

    def __init__(self, model: Any) -> None:
        """Count for ``model``, whose metrics are looked up when they are first needed."""
        self.model = model
        self.unit: CountedUnit | None = None
        """What the metric counts; None until its first count is known.

        ``"samples"`` and ``"batches"`` are counted on the host. ``"unknown"`` is a weighted count,
        which is fetched from the metric. ``"nothing"`` means that the step does not update the
        metric: its logs hold the loss of each batch, not a running mean.
        """
        self.samples_per_batch: float | None = None
        """Samples in a batch, if all batches have the same size."""
        self.counts: list[Any] = []
        self.samples: int | None = 0
        """Samples of the epoch counted on the host; None if the data do not give their size."""
        self.cumulative: set[str] = set()
        """Log names of metrics that are not means, as far as a step has found them."""
        self.losses: list[tuple[Any, Any]] = []
        """Sum and count that each execution added to a mean, if the step notes them."""
        self.notes_losses: bool | None
        """Whether the noted mean is the loss in the logs; None until that is known."""
        self.forget_notes()
        self._variable: Any = None
        self._searched = False

    @property
    def is_running_mean(self) -> bool:
        """Whether the loss in the logs is a mean over the epoch so far."""
        return self.variable is not None and self.unit != "nothing"

    @property
    def variable(self) -> Any:
        """The variable that counts the samples; None if the logged loss is not a running mean."""
        if not self._searched:
            self._searched = True
            metric = next((m for m in self.model.metrics if m.name == "loss"), None)
            if is_mean(metric) or not isinstance(metric, keras.metrics.Metric):
                self._variable = getattr(metric, "count", None)
        return self._variable

    def forget_notes(self) -> None:
        """Drop the noted losses, and count samples until a step notes its loss."""
        self.losses.clear()
        self.notes_losses = None
        self._sums = np.zeros(2)

    def note_loss(self, update: LossUpdate, total: Any, count: Any) -> None:
        """Note what an execution has added to the mean of ``update``."""
        self._update = update
        if update.is_logged and not self.notes_losses:
            self._switch_to_notes()
        self.losses.append((total, count))

    def _switch_to_notes(self) -> None:
        """Stop counting samples, and use the mean that the steps log."""
        self.notes_losses, self.unit = True, "unknown"
        self._searched, self._variable = True, getattr(self._update.mean, "count", None)

    def last_loss(self) -> float | None:
        """Return the loss that was noted last; None if the notes may belong to another mean."""
        if not self.notes_losses or not self.losses:
            return None
        total, count = map(to_float, self.losses[-1])
        return total / count if count else None

    def pop_losses(
        self, sizes: list[int], logs: list[dict[str, Any]]
    ) -> NDArray[np.float64] | None:
        """Return the loss of each of the next executions; None if the steps do not note them.

        Args:
            sizes: Batches in each execution.
            logs: What each execution logged.
        """
        executions = len(sizes)
        popped, self.losses = self.losses[:executions], self.losses[executions:]
        if len(popped) < executions or self.notes_losses is False:
            return None
        added = np.stack([to_floats([one[i] for one in popped]) for i in (0, 1)])
        if self.samples_per_batch is None:
            self.samples_per_batch = float(added[1, 0]) / sizes[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            losses = added[0] / added[1]
            if self.notes_losses is None and not self._may_be_logged(losses, added, logs):
                self.notes_losses, self.unit = False, "nothing"
                return None
        del self.counts[:executions]
        return losses

    def _may_be_logged(
        self, losses: NDArray[np.float64], added: NDArray[np.float64], logs: list[dict[str, Any]]
    ) -> bool:
        """Return whether the logged losses agree with the running mean of the noted losses."""
        sums = self._sums[:, None] + np.cumsum(added, axis=1)
        self._sums = sums[:, -1]
        means = sums[0] / sums[1]
        telling = np.abs(means - losses) > 1e-3 * np.abs(losses)
        logged = np.array([to_float(log.get("loss")) for log in logs])
        if not np.allclose(logged[telling], means[telling], rtol=1e-4):
            if self._update.may_be_derived or _follows_mean(logged, means, losses):
                self.cumulative.add("loss")
            return False
        if telling.any():
            self._switch_to_notes()
        return True

    def count_batch(self, samples: int | None) -> None:
        """Count the samples of a batch on the host; None if their number is unknown."""
        before = self.samples
        self.samples = None if before is None or samples is None else before + samples

    def note_count(self, batch: int, fetch: Callable[[], Any]) -> None:
        """Note the count before an execution.

        Args:
            batch: Batches of the epoch so far.
            fetch: Function that returns the metric's present count.
        """
        if self.notes_losses:
            return
        if batch == 0:
            self.counts.append(0.0)
            self.samples = 0
            return
        if self.unit is None:
            count = 0.0 if self.variable is None else to_float(fetch())
            self._learn_unit(batch, self.samples, count)
        if self.unit == "samples":
            self.counts.append(self.samples)
        elif self.unit == "unknown":
            self.counts.append(fetch())
        else:
            self.counts.append(batch if self.unit == "batches" else 0.0)

    def forget_inputs(self, executions: int) -> None:
        """Forget the count of a failed execution, which came after ``executions`` others."""
        if len(self.counts) > executions:
            del self.counts[executions:]
            # The host has counted its batch, but the metric has not.
            self.unit, self.samples = None, None

    def add_device_counts(self, batches: NDArray[np.integer], counts: NDArray[np.floating]) -> None:
        """Add the counts that a compiled step noted before some executions.

        Args:
            batches: Batches of the epoch before each execution.
            counts: The metric's count before each execution.
        """
        later = np.flatnonzero(batches)
        if self.unit is None and len(later):
            self._learn_unit(int(batches[later[0]]), None, float(counts[later[0]]))
        self.counts += counts.tolist()

    def _learn_unit(self, batch: int, samples: int | None, count: float) -> None:
        self.samples_per_batch = count / batch
        if count == 0.0:
            self.unit = "nothing"
        elif count == samples:
            self.unit = "samples"
        else:
            self.unit = "batches" if samples is not None and count == batch else "unknown"

    def read_total(self) -> float | None:
        """Return the metric's present count; None if no metric counts samples."""
        variable = self.variable
        return None if variable is None else to_float(variable)

    def pop_counts(self, executions: int) -> list[float] | None:
        """Return the counts before the next executions; None if the logs hold no running mean."""
        popped, self.counts = self.counts[:executions], self.counts[executions:]
        if not self.is_running_mean:
            return None
        if self.unit != "unknown":
            return popped
        # An epoch begins with a plain 0, but `to_floats` needs values of one kind.
        return [*map(to_float, popped[:1]), *to_floats(popped[1:]).tolist()]

    def clear_counts(self) -> None:
        """Drop the counts of executions that found no data."""
        self.counts.clear()
        self.losses.clear()
        self._sums = np.zeros(2)


def _follows_mean(
    logged: NDArray[np.floating], means: NDArray[np.floating], losses: NDArray[np.floating]
) -> bool:
    """Return whether logged losses rise and fall with a running mean, or against it.

    A value computed from a running mean does, by any formula that is monotonic.

    Args:
        logged: What each execution logged.
        means: The mean of all samples of the epoch after each execution.
        losses: The loss of each execution alone.
    """
    with np.errstate(invalid="ignore"):
        moves = np.sign(np.diff([logged, means, losses]))
    logged_moves, mean_moves, loss_moves = moves[:, np.isfinite(moves).all(axis=0)]
    if np.sum(mean_moves != loss_moves) < MIN_TELLING_MOVES:
        return False
    with_mean, with_loss = (
        abs(2.0 * np.mean((logged_moves == moves)[moves != 0]) - 1.0)
        for moves in (mean_moves, loss_moves)
    )
    return bool(with_mean > max(CLEAR_SHARE, with_loss))


class BatchLossTracker:
    """Recovers the loss of each execution, one after the other, from Keras's running mean."""

    def __init__(self, counter: SampleCounter) -> None:
        """Use ``counter`` to learn whether the logs hold a running mean at all."""
        self.counter = counter
        self.start_epoch()

    def start_epoch(self) -> None:
        """Start a new mean."""
        self.batches, self.mean = 0, 0.0

    def batch_loss(self, batches: int, mean: float) -> float:
        """Return the loss of the batches since the last call, assuming batches of equal size.

        Args:
            batches: Batches of the epoch so far.
            mean: The logged loss after these batches.
        """
        before, earlier = self.batches, self.mean
        self.batches, self.mean = batches, mean
        if not self.counter.is_running_mean:
            return mean
        return (batches * mean - before * earlier) / (batches - before)


def undo_running_mean(
    means: NDArray[np.floating], seen: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of each execution alone.

    Args:
        means: Mean of all samples of the epoch before the first execution, and after each.
        seen: Number of those samples. Where it is 0, the mean is ignored.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.where(seen == 0.0, 0.0, seen * means)
        return np.diff(sums) / np.diff(seen)
