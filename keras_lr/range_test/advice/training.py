"""`Training`: length and schedule of a training run, as far as the best rate depends on them."""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from keras_lr import schedules
from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr._hints import count_of, nearest_name_hint
from keras_lr.schedules.base import Schedule

SAMPLED = 4096
"""Number of steps at which a schedule is evaluated: enough for its mean, however long it is."""

PEAKS = {"lr": 1.0, "initial_lr": 1.0, "max_lr": 1.0, "base_lr": 0.1}
"""Rates of a schedule that is given as a class: only their ratio counts."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A planned training run, as far as the best rate depends on it.

    Attributes:
        steps: Its length in steps.
        schedule: Name of the schedule, such as ``"CosineDecay"``.
        mean: Ratio of the mean rate to the highest.
        rise: Share of the training before the highest value.
        shape: Ratio of the rate to the highest, at equal distances from the first step to the last;
            a single number for a constant rate. Plain data do not hold it.

    >>> Training.plan(100, "CosineDecay")
    Training(steps=100, schedule='CosineDecay', mean=0.505, rise=0.0)
    """

    steps: int
    schedule: str = "Constant"
    mean: float = 1.0
    rise: float = 0.0
    shape: tuple[float, ...] = dataclasses.field(default=(1.0,), repr=False, compare=False)

    @classmethod
    def plan(cls, steps: int, schedule: Any = None, steps_per_epoch: float | None = None) -> Self:
        """Return the training of a length under a schedule.

        Args:
            steps: The length in steps.
            schedule: A schedule, its class, or the name of its class; a constant rate by default.
            steps_per_epoch: Batches in an epoch; None where it is not known.

        Raises:
            TypeError: If ``schedule`` is none of these.
            ValueError: If no schedule has that name, or the schedule needs to know more.
        """
        planned = to_schedule("Constant" if schedule is None else schedule)
        epochs = None if steps_per_epoch is None else steps / steps_per_epoch
        timeline = Timeline(steps_per_epoch, epochs, total=float(steps))
        try:
            return cls.along(planned, timeline, 0, steps)
        except UnresolvedLength as error:
            raise ValueError(
                "Argument `schedule` has a length in epochs, and the data of the test did not say "
                f"how many batches an epoch has. Give its lengths in steps. Received: "
                f"schedule={planned!r}"
            ) from error

    @classmethod
    def along(cls, schedule: Schedule, timeline: Timeline, first: int, steps: int) -> Self:
        """Return the training that follows a schedule from a step on.

        Args:
            schedule: The schedule.
            timeline: The size of the fit, for the lengths in the schedule.
            first: The step at which the training begins.
            steps: Its length in steps.

        Raises:
            ValueError: If the rate is always zero, or a length cannot be resolved.
        """
        at = np.unique(np.linspace(0, steps - 1, min(steps, SAMPLED)).astype(int))
        rates: NDArray[np.float64] = np.broadcast_to(
            np.asarray(schedule(first + at, timeline), np.float64), at.shape
        )
        peak = float(rates.max())
        if not 0.0 < peak < math.inf:
            raise ValueError(
                "Argument `schedule` must have a rate above zero in the training. "
                f"Received: schedule={schedule!r}"
            )
        rise = float(at[int(rates.argmax())]) / steps
        shape = tuple((rates / peak).tolist())
        mean = round(float(rates.mean()) / peak, 6)
        return cls(steps, type(schedule).__name__, mean, rise, shape)

    def of_length(self, steps: int) -> Self:
        """Return a run of another length under the same schedule, stretched or compressed."""
        return dataclasses.replace(self, steps=steps)

    def rates(self, peak: float) -> NDArray[np.float64]:
        """Return the rate at each step of the training.

        Args:
            peak: The highest rate of the schedule.
        """
        there, here = (np.linspace(0.0, 1.0, count) for count in (self.steps, len(self.shape)))
        return peak * np.interp(there, here, self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Return the training without its shape, as plain data."""
        return {name: value for name, value in vars(self).items() if name != "shape"}

    def __str__(self) -> str:
        if self.schedule == "Constant":
            return f"{count_of(self.steps, 'step')} at one rate"
        return f"{count_of(self.steps, 'step')} of {self.schedule}"


def to_schedule(schedule: Any) -> Schedule:
    """Return the schedule given as an instance, a class or a name.

    Raises:
        TypeError: If it is none of these.
        ValueError: If no schedule has that name, or the class needs more than its rates.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        schedule = _find_class(schedule)
    if not (isinstance(schedule, type) and issubclass(schedule, Schedule)):
        raise TypeError(
            "Argument `schedule` must be a schedule, its class or its name, such as CosineDecay or "
            f"'CosineDecay'. Received: schedule={reprlib.repr(schedule)}"
        )
    fields = {field.name: field for field in dataclasses.fields(schedule)}
    rates = {name: rate for name, rate in PEAKS.items() if name in fields}
    needed = [
        name
        for name, field in fields.items()
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in needed if name not in rates]:
        raise ValueError(
            f"Argument `schedule` must be an object where the class needs more than its rates: "
            f"{schedule.__name__} needs `{'`, `'.join(missing)}`. "
            f"Received: schedule={schedule.__name__}"
        )
    return schedule(**{name: rate for name, rate in rates.items() if name in needed})


def _find_class(name: str) -> type[Schedule]:
    known = _schedule_classes()
    found = known.get(name.strip().lower())
    if found is None:
        names = [one.__name__ for one in known.values()]
        hint = nearest_name_hint(name, names, quote="'") or _names_that_contain(name, names)
        raise ValueError(
            f"Argument `schedule` must be the name of a schedule, such as 'CosineDecay' or "
            f"'constant'. Received: schedule={name!r}.{hint}"
        )
    return found


@functools.cache
def _schedule_classes() -> dict[str, type[Schedule]]:
    """Return the public schedules by their names in lower case."""
    every = (getattr(schedules, name) for name in schedules.__all__)
    return {
        one.__name__.lower(): one
        for one in every
        if isinstance(one, type) and issubclass(one, Schedule) and one is not Schedule
    }


def _names_that_contain(part: str, names: list[str]) -> str:
    """Return a sentence with the names that contain a part, ignoring case and hyphens."""
    letters = "".join(filter(str.isalnum, part.lower()))
    found = [name for name in names if letters and letters in name.lower()]
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""
