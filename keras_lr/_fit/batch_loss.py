"""What a running fit tells: the learning rate that a step uses, and the samples behind its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.host_values import to_float, to_floats


class SampleCounter:
    """The number of samples behind Keras's running mean of the loss.

    Keras shows the mean over the samples of the epoch so far. To get a batch's own loss back one
    needs the number of samples after every batch. The metric counts them, but reading it can mean
    waiting for the device. So where the batches pass by on the host their sizes are taken instead,
    once it is known that they are what the metric counts; elsewhere the count is fetched, and
    looked at later.
    """

    def __init__(self, model: Any) -> None:
        """Look at the metrics of ``model`` when first asked."""
        self.model = model
        self.kind: Literal["raw", "samples", "batches", "read"] | None = None
        """What the metric counts, or how to know; ``"raw"``: the logs hold no mean."""
        self.size: float | None = None
        """Samples in a batch, as far as they are all alike."""
        self.counts: list[Any] = []
        self.samples: int | None = 0
        """Those of the epoch that the host has seen pass by; None where it cannot see them."""
        self._variable: Any = None
        self._looked = False

    @property
    def averages(self) -> bool:
        """Whether the loss in the logs is a mean over the epoch so far."""
        return self.variable is not None and self.kind != "raw"

    @property
    def variable(self) -> Any:
        """The variable that counts the samples; None where the loss in the logs is no such mean."""
        if not self._looked:
            self._looked = True
            metric = next((m for m in self.model.metrics if m.name == "loss"), None)
            self._variable = getattr(metric, "count", None)
        return self._variable

    def passed(self, samples: int | None) -> None:
        """Count a batch that passes by on the host; None where its samples do not show."""
        before = self.samples
        self.samples = None if before is None or samples is None else before + samples

    def note(self, batch: int, fetch: Callable[[], Any]) -> None:
        """Note the count before an execution.

        Args:
            batch: Batches of the epoch so far.
            fetch: Returns the metric's count as it is now.
        """
        if batch == 0:
            self.counts.append(0.0)
            self.samples = 0
            return
        if self.kind is None:
            count = 0.0 if self.variable is None else to_float(fetch())
            self._learn(batch, self.samples, count)
        if self.kind == "samples":
            self.counts.append(self.samples)
        elif self.kind == "read":
            self.counts.append(fetch())
        else:
            self.counts.append(batch if self.kind == "batches" else 0.0)

    def noted(self, batches: NDArray[np.integer], counts: NDArray[np.floating]) -> None:
        """Take the metric's counts before some executions, each after so many batches."""
        begun = np.flatnonzero(batches)
        if self.kind is None and len(begun):
            self._learn(int(batches[begun[0]]), None, float(counts[begun[0]]))
        self.counts += counts.tolist()

    def _learn(self, batch: int, samples: int | None, count: float) -> None:
        self.size = count / batch
        if count == 0.0:
            self.kind = "raw"
        elif count == samples:
            self.kind = "samples"
        else:
            self.kind = "batches" if samples is not None and count == batch else "read"

    def read(self) -> float | None:
        """Return the number of samples so far; None where nothing counts them."""
        variable = self.variable
        return None if variable is None else to_float(variable)

    def take(self, executions: int) -> list[float] | None:
        """Return the counts before so many executions; None where the logs hold no mean."""
        taken, self.counts = self.counts[:executions], self.counts[executions:]
        if not self.averages:
            return None
        if self.kind != "read":
            return taken
        # An epoch begins with a plain 0, and `scalars` takes values of one kind.
        return [*map(to_float, taken[:1]), *to_floats(taken[1:]).tolist()]


class BatchLossTracker:
    """Gives back the value of an execution alone from Keras's mean over the epoch so far."""

    def __init__(self, loss: SampleCounter) -> None:
        """Take over whether the logs hold such means at all."""
        self.loss = loss
        self.start_epoch()

    def start_epoch(self) -> None:
        """Start a new mean."""
        self.batches, self.mean = 0, 0.0

    def last(self, batches: int, mean: float) -> float:
        """Return the value of the batches since the last call, taking all as equally large.

        Args:
            batches: Batches of the epoch so far.
            mean: What the logs say after them.
        """
        before, earlier = self.batches, self.mean
        self.batches, self.mean = batches, mean
        if not self.loss.averages:
            return mean
        return (batches * mean - before * earlier) / (batches - before)


def undo_running_mean(
    means: NDArray[np.floating], seen: NDArray[np.floating], begins: bool
) -> NDArray[np.float64]:
    """Return the value of each execution alone, from running means at its ends.

    Args:
        means: The mean of all samples so far, before the first execution and after each.
        seen: How many samples these are.
        begins: Whether the first mean is of nothing yet.
    """
    sums = seen * means
    if begins:
        sums[0] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.diff(sums) / np.diff(seen)
