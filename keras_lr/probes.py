"""What a running fit tells: the learning rate that a step uses, and the samples behind its loss."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr.hyperparameters import LEARNING_RATE, Hyperparameter, host_value, schedule_values


class RateProbe:
    """Learns the learning rate that nobody here drives.

    A rate in a variable is read when an execution begins. A `LearningRateSchedule` in the optimizer
    is evaluated afterwards, for all steps at once.
    """

    def __init__(self, optimizer: Any) -> None:
        """Watch ``optimizer``; one that is made of several has no rate of its own."""
        self.optimizer = None if hasattr(optimizer, "optimizers") else optimizer
        self.parameter = Hyperparameter(self.optimizer, LEARNING_RATE)
        rate = getattr(optimizer, "_learning_rate", None)
        scheduled = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        self.schedule = rate if scheduled else None
        self.seen: list[Any] = []
        self.position = 0

    def begin_epoch(self) -> None:
        """Learn where a schedule in the optimizer stands."""
        if self.schedule is not None:
            iterations: Any = getattr(self.optimizer, "_iterations", 0)
            self.position = int(host_value(iterations))

    def look(self, value: Any = None) -> None:
        """Note the value in force now: the one given, or the optimizer's."""
        if self.schedule is None:
            if value is None:
                value = np.nan if self.optimizer is None else self.parameter.read()
            self.seen.append(value)

    def take(self, sizes: list[int]) -> NDArray[np.float32]:
        """Return what was seen, one value per batch, and forget it."""
        if self.schedule is not None:
            steps = self.position + np.arange(sum(sizes))
            self.position += sum(sizes)
            return schedule_values(self.schedule, steps).astype(np.float32)
        values, self.seen = self.seen[: len(sizes)], self.seen[len(sizes) :]
        return np.repeat(np.asarray(values, np.float32), sizes)


class LossCount:
    """The number of samples behind Keras's running mean of the loss.

    Keras shows the mean over the samples of the epoch so far. To get a batch's own loss back one
    needs the number of samples; reading it costs a wait for the device, so it is read after the
    first batch and at the end of the epoch, and after each batch only where sizes are known to
    vary.
    """

    def __init__(self, model: Any) -> None:
        """Look at the metrics of ``model`` when first asked."""
        self.model = model
        self.size: float | None = None
        self.every = False
        self.counts: list[float] = []
        self._variable: Any = None
        self._looked = False

    @property
    def averages(self) -> bool:
        """Whether the loss in the logs is a mean over the epoch so far."""
        return self.variable is not None and self.size != 0.0

    @property
    def variable(self) -> Any:
        """The variable that counts the samples; None where the loss in the logs is no such mean."""
        if not self._looked:
            self._looked = True
            metric = next((m for m in self.model.metrics if m.name == "loss"), None)
            self._variable = getattr(metric, "count", None)
        return self._variable

    def note(self, batch: int, value: Any = None) -> None:
        """Read the count before the execution that begins at ``batch``, where it is wanted."""
        if not self.every and (batch == 0 or self.size is not None):
            return
        if self.variable is None:
            self.size = 0.0
            return
        count = 0.0 if batch == 0 else float(host_value(self.variable if value is None else value))
        if self.size is None and batch > 0:
            self.size = count / batch
        if self.every:
            self.counts.append(count)

    def read(self) -> float | None:
        """Return the number of samples so far; None where nothing counts them."""
        variable = self.variable
        return None if variable is None else float(host_value(variable))

    def take(self) -> list[float] | None:
        """Return the counts noted since the last time; None where they are not read."""
        taken, self.counts = self.counts, []
        return taken if self.every else None

    def varies(self, steps: int, total: float | None) -> bool:
        """Find out at the end of an epoch whether batches other than the last differ in size."""
        if self.every or not self.size or not total or steps < 2:
            return False
        last = total - (steps - 1) * self.size
        self.every = not -1e-6 < last <= self.size * (1 + 1e-6)
        return self.every


class RunningMean:
    """Gives back the value of an execution alone from Keras's mean over the epoch so far."""

    def __init__(self, loss: LossCount) -> None:
        """Take over whether the logs hold such means at all."""
        self.loss = loss
        self.begin_epoch()

    def begin_epoch(self) -> None:
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


def direction(model: Any, name: str) -> bool | None:
    """Return whether more is better for a metric of the model; None where nobody knows."""
    for metric in _flat(model.metrics):
        if metric.name == name and hasattr(metric, "_direction"):
            return metric._direction == "up"
    return None


def _flat(metrics: Any) -> list[Any]:
    found = []
    for metric in metrics:
        found += _flat(metric.metrics) if hasattr(metric, "metrics") else [metric]
    return found
