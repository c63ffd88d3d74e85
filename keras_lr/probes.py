"""What a running fit tells: the learning rate that a step uses, and the samples behind its loss."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr.hyperparameters import (
    LEARNING_RATE,
    Hyperparameter,
    schedule_values,
    updates,
)
from keras_lr.readings import glance, number, scalars


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
        self.variable = self.parameter.variable
        self.seen: list[Any] = []
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Learn where a schedule in the optimizer stands."""
        self.position = 0 if self.schedule is None else updates(self.optimizer)

    def look(self, value: Any = None) -> None:
        """Note the value in force now: the one given, or the optimizer's."""
        if self.schedule is not None:
            return
        if value is None and self.variable is not None:
            value = glance(self.variable)
        elif value is None:
            value = np.nan if self.optimizer is None else self.parameter.read()
        self.seen.append(value)

    def take(self, sizes: list[int]) -> NDArray[np.float32]:
        """Return what was seen, one value per batch, and forget it."""
        if self.schedule is not None:
            steps = self.position + np.arange(sum(sizes))
            self.position += sum(sizes)
            return schedule_values(self.schedule, steps).astype(np.float32)
        values, self.seen = self.seen[: len(sizes)], self.seen[len(sizes) :]
        return np.repeat(scalars(values).astype(np.float32), sizes)


class LossCount:
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
            count = 0.0 if self.variable is None else number(fetch())
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
        return None if variable is None else number(variable)

    def take(self, executions: int) -> list[float] | None:
        """Return the counts before so many executions; None where the logs hold no mean."""
        taken, self.counts = self.counts[:executions], self.counts[executions:]
        if not self.averages:
            return None
        if self.kind != "read":
            return taken
        # An epoch begins with a plain 0, and `scalars` takes values of one kind.
        return [*map(number, taken[:1]), *scalars(taken[1:]).tolist()]


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


def alone(
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


def goes_up(owner: str, model: Any, monitor: str, mode: str) -> bool:
    """Return whether more of a monitored value is better, by ``mode`` or by the metric itself.

    Keras makes the metrics that a model is compiled with in its first step; ask after that.

    Raises:
        ValueError: If the mode is ``"auto"`` and the metric does not say.
    """
    name = monitor.removeprefix("val_")
    if mode != "auto" or name == "loss":
        return mode == "max"
    known = _directions(model)
    said = {up for called, up in known.items() if _may_be(name, called)}
    up = said.pop() if len(said) == 1 else None
    if up is None and "acc" in name and not isinstance(model, keras.Model):
        up = True  # the rule of legacy Keras
    if up is None:
        raise ValueError(
            f"{owner}: argument `mode` must be 'min' or 'max' for a metric whose direction is "
            f"unknown. Received: mode='auto', monitor={monitor!r}. Known are: "
            f"{', '.join(name for name, up in known.items() if up is not None)}"
        )
    return up


def _directions(model: Any) -> dict[str, bool | None]:
    """Return whether more is better for each metric of the model; None where nobody knows."""
    losses = getattr(getattr(model, "_compile_loss", None), "metrics", [])
    found: dict[str, bool | None] = dict.fromkeys(("loss", *(one.name for one in losses)), False)
    for name, metric in _named(model.metrics):
        known = metric if isinstance(metric, keras.metrics.Metric) else _counterpart(metric)
        said = getattr(known, "_direction", None)
        found.setdefault(name, None if said is None else said == "up")
    return found


def _counterpart(metric: Any) -> Any:
    """Return the metric of Keras that is called like one of legacy Keras, which has no direction.

    None where there is none.
    """
    function = getattr(metric, "_fn", type(metric))
    try:
        return keras.metrics.get(function.__name__)
    except (TypeError, ValueError):
        return None


def _may_be(name: str, called: str) -> bool:
    """Whether the logs may call a metric by a name: of several alike Keras changes the names."""
    pattern = re.escape(called) + r"(_\d+)?"
    return any(re.fullmatch(pattern, n) for n in (name, name.replace("weighted_", "", 1)))


def _named(metrics: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the single metrics, each with its name in the logs, which begins with its output's."""
    found = []
    for metric in metrics:
        # A metric of legacy Keras has such a list too, which is empty.
        inner = getattr(metric, "metrics", None)
        if getattr(metric, "_flat_metrics", None):
            lists = metric._flat_metrics + metric._flat_weighted_metrics
            for one in filter(None, lists):
                found += _named(one.metrics, f"{one.output_name}_" if one.output_name else "")
        elif inner:
            found += _named(inner, prefix)
        else:
            found.append((prefix + metric.name, metric))
    return found
