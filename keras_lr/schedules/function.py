"""`Function`: Python functions and Keras schedules as schedules that compose with the rest."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from typing import Annotated, Any

import keras
import numpy as np

from keras_lr._fields.kinds import FieldType, Number, Optional
from keras_lr._fields.timeline import Timeline
from keras_lr._keras.hyperparameters import Hyperparameter, schedule_values, updates
from keras_lr.schedules.base import Schedule, Steps, schedule
from keras_lr.schedules.control import FollowsHyperparameter

KerasSchedule = keras.optimizers.schedules.LearningRateSchedule


class FunctionField(FieldType):
    """A function of the epoch, a function of epoch and rate, or a Keras schedule."""

    expected = "fn(epoch), fn(epoch, lr) or a keras.optimizers.schedules.LearningRateSchedule"

    def convert(self, value: Any) -> Any:
        if isinstance(value, KerasSchedule):
            return value
        if isinstance(value, Schedule):
            raise TypeError(f"{self.expected}; a schedule of keras_lr needs no Function around it")
        if not callable(value):
            raise TypeError(self.expected)
        arity(value)
        return value

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/function"}


def arity(fn: Callable) -> int:
    """Return with how many arguments to call ``fn``: the epoch, or the epoch and the rate.

    Raises:
        TypeError: If it takes neither one nor two.
    """
    try:
        signature = inspect.signature(fn)
    except ValueError:  # some functions written in C do not tell
        return 1
    for arguments in ((0, 0.0), (0,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        required = [
            p
            for p in signature.parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        # fn(epoch, drop=0.5) is a function of the epoch; fn(epoch, lr=0.1) asks for the rate.
        named = list(signature.parameters)[1:2] in (["lr"], ["learning_rate"])
        return 2 if len(arguments) == 2 and (len(required) == 2 or named) else 1
    raise TypeError(f"{FunctionField.expected}; {signature} takes neither one nor two arguments")


@schedule
class Function(Schedule, FollowsHyperparameter):
    """A function of the epoch, or a Keras ``LearningRateSchedule``, as a schedule.

    ``value(t) = fn(epoch)``, ``fn(epoch, value in the epoch before)``, or ``fn(t)`` for a Keras
    schedule

    A function is called once per epoch, in order, with the epoch's number from 0, as
    ``keras.callbacks.LearningRateScheduler`` calls it; in a later stage of a sequence the number
    counts from the stage's start. ``fn(epoch, lr)`` starts from ``initial_lr``, or in a fit without
    it from the rate of the optimizer; where ``BackupAndRestore`` has put back an earlier state,
    from the rate that the optimizer was compiled with. Where it is a part of a composition,
    or a plateau scales it, a fit that begins at a later ``initial_epoch`` therefore needs
    ``initial_lr``. An exception in the function comes out unchanged.

    Args:
        fn: The function or the Keras schedule. To save it by ``get_config`` or with a model, give
            it a name: ``keras.saving.register_keras_serializable``.
        initial_lr: The rate that ``fn(epoch, lr)`` gets in its first epoch.

    Raises:
        TypeError: If ``fn`` is none of these.
        ValueError: If ``fn`` returns no finite rate of at least 0, or needs a rate and there is
            none.

    >>> Function(lambda epoch: 0.1 / (epoch + 1)).values(epochs=2, steps_per_epoch=2)
    array([0.1 , 0.1 , 0.05, 0.05])
    >>> Function(lambda epoch, lr: lr * 0.5, initial_lr=0.8).values(epochs=3, steps_per_epoch=1)
    array([0.4, 0.2, 0.1])
    """

    fn: Annotated[Any, FunctionField()]
    initial_lr: Annotated[float | None, Optional(Number(minimum=0.0))] = None

    def validate(self) -> None:
        self._chain: dict[int, float] = {}
        self._met: tuple[float, int] | None = None
        self._seed: float | None = None
        self._lag: int | None = None
        """How many epochs the seed is behind the first one asked for; None: it is the very first.
        """

    def before_restore(self, parameter: Hyperparameter) -> None:
        self._met = None
        if not isinstance(self.fn, KerasSchedule) and arity(self.fn) == 2:
            self._met = parameter.read(), updates(parameter.optimizer)

    def on_fit_start(
        self, parameter: Hyperparameter, epoch: int, timeline: Timeline, alone: bool
    ) -> None:
        done, steps = updates(parameter.optimizer), timeline.steps_per_epoch
        if self._met is not None and self._met[1] != done:
            self._chain, self._seed, self._lag = {}, self._met[0], None
            return
        if epoch and not alone:
            # The rate is not this function's own; an earlier fit of this object may know it.
            self._seed = None
            return
        self._chain = {}
        inside = bool(epoch and steps) and 0 < done - epoch * (steps or 0) <= (steps or 0)
        # A checkpoint from inside the epoch has the rate of that epoch already.
        self._seed, self._lag = parameter.read(), 0 if inside else 1

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        if isinstance(self.fn, KerasSchedule):
            # Raises where a tick is no step.
            timeline.steps("1 steps")
            return self.checked(schedule_values(self.fn, step.astype(np.int64)), step)
        epochs = np.floor(step / timeline.steps(1)).astype(int)
        wanted, places = np.unique(epochs, return_inverse=True)
        call = self.follow if arity(self.fn) == 2 else self.fn
        rates = [call(epoch) for epoch in wanted.tolist()]
        return self.checked(rates, wanted)[places]

    def follow(self, epoch: int) -> float:
        """Return ``fn(epoch, rate of the epoch before)``."""
        chain = self._chain
        last = next((known for known in range(epoch, -2, -1) if known in chain), None)
        if last is not None:
            rate = chain[last]
        else:
            seed = self._seed if self.initial_lr is None else self.initial_lr
            if seed is None:
                raise ValueError(
                    f"{self!r} cannot tell the rate that it goes on from: there is no fit, or the "
                    "optimizer's rate is not its own, because other schedules or callbacks have a "
                    "part in it. Pass initial_lr=..."
                )
            first = self.initial_lr is not None or self._lag is None
            last, rate = (-1 if first else epoch - (self._lag or 0)), seed
            chain[last] = rate
        for number in range(last + 1, epoch + 1):
            rate = chain[number] = float(self.checked([self.fn(number, rate)], [number])[0])
        return rate

    def checked(self, rates: Any, at: Any) -> Steps:
        """Return the rates as an array, or raise if one is none."""
        for rate, place in zip(rates, at, strict=True):
            if not isinstance(rate, numbers.Real) or not 0.0 <= float(rate) < math.inf:
                raise ValueError(
                    f"{self!r} must return a finite rate of at least 0. Received: {rate!r} at "
                    f"{'step' if isinstance(self.fn, KerasSchedule) else 'epoch'} {int(place)}"
                )
        return np.asarray(rates, np.float64)
