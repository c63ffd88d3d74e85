"""The batch's own loss, recovered from the running mean of the epoch that Keras shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.fits.mean_updates import is_mean
from keras_lr._keras.host_values import to_float, to_floats

CountedUnit = Literal["nothing", "samples", "batches", "unknown"]
"""What the count of a metric goes by: see `SampleCounter.unit`."""


class SampleCounter:
    """Counts the samples behind Keras's running mean of the loss, before each execution.

    Keras shows the mean over the samples of the epoch so far. The batch's own loss follows from it
    and from the number of those samples, which the loss metric counts. Reading that count can mean
    waiting for the device. So the counter compares it once with what the host saw pass by, and
    counts on the host from then on if the two agree.
    """

    def __init__(self, model: Any) -> None:
        """Count for ``model``, whose metrics are looked up at the first question."""
        self.model = model
        self.unit: CountedUnit | None = None
        """What the metric counts; None until its first count is known.

        ``"samples"`` and ``"batches"`` are counted on the host. ``"unknown"`` is a weighted count,
        which is fetched from the metric. ``"nothing"`` means that the step does not update the
        metric: its logs hold the loss of each batch, no running mean.
        """
        self.samples_per_batch: float | None = None
        """Samples in a batch, if all batches are alike."""
        self.counts: list[Any] = []
        self.samples: int | None = 0
        """Samples of the epoch that passed by on the host; None if the data do not tell."""
        self.losses: list[tuple[Any, Any]] = []
        """Sum and count that each execution added to the mean, where the step notes them."""
        self._variable: Any = None
        self._searched = False

    @property
    def is_running_mean(self) -> bool:
        """Whether the loss in the logs is a mean over the epoch so far."""
        return self.variable is not None and self.unit != "nothing"

    @property
    def variable(self) -> Any:
        """The variable that counts the samples; None if the loss in the logs is no such mean."""
        if not self._searched:
            self._searched = True
            metric = next((m for m in self.model.metrics if m.name == "loss"), None)
            if is_mean(metric) or not isinstance(metric, keras.metrics.Metric):
                self._variable = getattr(metric, "count", None)
        return self._variable

    def note_loss(self, mean: Any, total: Any, count: Any) -> None:
        """Note what an execution has added to the mean that it logs as its loss."""
        self.follow(mean)
        self.losses.append((total, count))

    def follow(self, mean: Any) -> None:
        """Count by the mean that a step was seen to log as its loss, whatever its name."""
        self._searched, self._variable = True, mean.count
        self.unit = "unknown"

    def pop_losses(self, sizes: list[int]) -> NDArray[np.float64] | None:
        """Return the loss of each of the next executions; None if the step does not note them.

        Args:
            sizes: Batches in each execution.
        """
        executions = len(sizes)
        if len(self.losses) < executions:
            self.losses.clear()
            return None
        popped, self.losses = self.losses[:executions], self.losses[executions:]
        del self.counts[:executions]
        totals, counts = (to_floats([one[i] for one in popped]) for i in (0, 1))
        if self.samples_per_batch is None:
            self.samples_per_batch = float(counts[0]) / sizes[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            return totals / counts

    def count_batch(self, samples: int | None) -> None:
        """Count a batch that passes by on the host; None if its data do not tell its size."""
        before = self.samples
        self.samples = None if before is None or samples is None else before + samples

    def note_count(self, batch: int, fetch: Callable[[], Any]) -> None:
        """Note the count before an execution.

        Args:
            batch: Batches of the epoch so far.
            fetch: Returns the metric's present count.
        """
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
        """Return the metric's present count; None if no metric counts."""
        variable = self.variable
        return None if variable is None else to_float(variable)

    def pop_counts(self, executions: int) -> list[float] | None:
        """Return the counts before the next executions; None if the logs hold no running mean."""
        popped, self.counts = self.counts[:executions], self.counts[executions:]
        if not self.is_running_mean:
            return None
        if self.unit != "unknown":
            return popped
        # An epoch begins with a plain 0, and `to_floats` takes values of one kind.
        return [*map(to_float, popped[:1]), *to_floats(popped[1:]).tolist()]

    def clear_counts(self) -> None:
        """Drop the counts of executions that found no data."""
        self.counts.clear()
        self.losses.clear()


class BatchLossTracker:
    """Recovers the loss of each execution, one after the other, from Keras's running mean."""

    def __init__(self, counter: SampleCounter) -> None:
        """Let ``counter`` say whether the logs hold a running mean at all."""
        self.counter = counter
        self.start_epoch()

    def start_epoch(self) -> None:
        """Start a new mean."""
        self.batches, self.mean = 0, 0.0

    def batch_loss(self, batches: int, mean: float) -> float:
        """Return the loss of the batches since the last call, all batches taken as equally large.

        Args:
            batches: Batches of the epoch so far.
            mean: The loss in the logs after them.
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
        seen: Number of those samples. The mean of no samples does not count.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.where(seen == 0.0, 0.0, seen * means)
        return np.diff(sums) / np.diff(seen)
