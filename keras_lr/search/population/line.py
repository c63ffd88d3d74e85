"""`Line`: the whole history of a member's weights, as a trial that reproduces them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr.callbacks import ParamScheduler
from keras_lr.schedules import PiecewiseConstant
from keras_lr.search.trials.description import Group, Trial

Values = tuple[float, ...]
"""The hyperparameters of a member in one round, in the order of their names."""


@dataclasses.dataclass(frozen=True, order=True)
class Line(Trial):
    """A training run in rounds, with its own hyperparameters in each.

    A member that copies another one takes over its line, and continues it with other values. So a
    line alone determines the weights, whichever members had them.
    """

    values: tuple[Values, ...]
    """The hyperparameters of each round, the learning rate first."""

    @classmethod
    def of_one_round(cls, group: Group, values: Values, seed: int) -> Self:
        """Return a line of one round."""
        return cls(*group, values[0], seed, (values,))

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Return a line from its attributes as stored in JSON."""
        return cls(**plain | {"values": tuple(map(tuple, plain["values"]))})

    @property
    def position(self) -> Any:
        """The argument with which the population's driver is called."""
        return self.values

    def extend(self, values: Values) -> Self:
        """Return the line with one more round."""
        return dataclasses.replace(self, values=(*self.values, values))


@dataclasses.dataclass(frozen=True)
class LineDriver:
    """Makes the callback that gives each round of a line its hyperparameters."""

    names: tuple[str, ...]
    """The hyperparameters, the learning rate first."""
    every: int
    """Epochs of a round."""

    def __call__(self, values: Sequence[Values] | float) -> keras.callbacks.Callback:
        """Return a callback.

        Args:
            values: The hyperparameters of each round. A bare number is used for all of them in one
                round, which is enough to see what the callback moves.
        """
        rounds = [(values,) * len(self.names)] if isinstance(values, float) else values
        schedules = piecewise_schedules(self.names, self.every, rounds)
        if self.names == (LEARNING_RATE,):
            return schedules[LEARNING_RATE]
        return ParamScheduler(**schedules)


def piecewise_schedules(
    names: Sequence[str], every: int, rounds: Sequence[Values]
) -> dict[str, PiecewiseConstant]:
    """Return the values of each hyperparameter in all rounds as a schedule.

    >>> piecewise_schedules(["learning_rate"], 2, [(0.1,), (0.1,), (0.12,)])
    {'learning_rate': PiecewiseConstant(boundaries=(4,), values=(0.1, 0.12))}
    """
    found = {}
    for place, name in enumerate(names):
        values = [each[place] for each in rounds]
        changes = [n for n in range(1, len(values)) if values[n] != values[n - 1]]
        found[name] = PiecewiseConstant(
            [every * n for n in changes], [values[0], *(values[n] for n in changes)]
        )
    return found
