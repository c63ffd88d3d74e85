"""The learning rate that each step of a fit uses where no callback of this package moves it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.host_values import read_lazily, to_floats
from keras_lr._keras.hyperparameters import LEARNING_RATE, Hyperparameter, schedule_values, updates


class LearningRateReader:
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
        self.start_epoch()

    def start_epoch(self) -> None:
        """Learn where a schedule in the optimizer stands."""
        self.position = 0 if self.schedule is None else updates(self.optimizer)

    def look(self, value: Any = None) -> None:
        """Note the value in force now: the one given, or the optimizer's."""
        if self.schedule is not None:
            return
        if value is None and self.variable is not None:
            value = read_lazily(self.variable)
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
        return np.repeat(to_floats(values).astype(np.float32), sizes)
