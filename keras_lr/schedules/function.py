"""`Function`: Python functions and Keras schedules as schedules that compose with the rest."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any

import keras
import numpy as np

from keras_lr._fields.kinds import FieldType, OptionalRate
from keras_lr._fields.timeline import Timeline
from keras_lr._keras.host_values import to_float
from keras_lr._keras.rates.hyperparameters import Hyperparameter
from keras_lr._keras.rates.keras_schedules import schedule_values
from keras_lr._keras.rates.optimizers import count_batches
from keras_lr.schedules.base import Schedule, Steps, schedule
from keras_lr.schedules.control import FollowsHyperparameter

LATEST_STEP = 2**63 - 1024
"""The latest step that is a float and an integer of 64 bits."""

MAX_CALLS = 10**7
"""The most epochs that ``fn(epoch, lr)`` is taken through at once, each of which is remembered."""

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


class ScaleField(FieldType):
    """A schedule, or a function of one number."""

    expected = "a schedule, or a function of one number, such as lambda cycle: 0.9**cycle"

    def convert(self, value: Any) -> Any:
        if isinstance(value, Schedule):
            return value
        if isinstance(value, type) or not callable(value):
            raise TypeError(self.expected)
        try:
            takes = arity(value)
        except TypeError:
            takes = 0
        if takes != 1:
            raise TypeError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"$ref": "#/$defs/schedule"}, {"$ref": "#/$defs/function_name"}]}


def arity(fn: Callable) -> int:
    """Return the number of arguments to call ``fn`` with: the epoch, or the epoch and the rate.

    Raises:
        TypeError: If it takes neither one nor two.
    """
    try:
        signature = inspect.signature(fn)
    except ValueError:  # some functions written in C have no signature
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


def call_each(fn: Callable[[float], Any], arguments: Steps) -> Steps:
    """Return the results of a function of one number for each number of an array.

    Raises:
        ValueError: If a result is not a finite number.
    """
    wanted, places = np.unique(arguments, return_inverse=True)
    found = np.empty(wanted.shape)
    for i, argument in enumerate(wanted.tolist()):
        # Whole numbers are passed as int, so that the function can use them as an index.
        answer = fn(int(argument) if argument.is_integer() else argument)
        number = _as_number(answer)
        if number is None:
            raise ValueError(
                f"{fn!r} must return a finite number. Received: {answer!r} for {argument:g}"
            )
        found[i] = number
    return found[places]


def _as_number(answer: Any) -> float | None:
    """Return a function's result as a float, whatever its type; None if it is not finite."""
    if isinstance(answer, str | bytes | list | tuple | None):
        return None
    try:
        number = to_float(answer)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@schedule
class Function(Schedule, FollowsHyperparameter):
    """A function of the epoch, or a Keras ``LearningRateSchedule``, as a schedule.

    ``value(t) = fn(epoch)``, ``fn(epoch, value in the epoch before)``, or ``fn(t)`` for a Keras
    schedule.

    A function is called once per epoch, in order, with the epoch's number from 0, as
    ``keras.callbacks.LearningRateScheduler`` calls it; in a later stage of a sequence the number
    counts from the stage's start. ``fn(epoch, lr)`` starts from ``initial_lr``, or without it from
    the optimizer's rate. If ``BackupAndRestore`` has restored an earlier state, it starts from the
    rate with which the optimizer was compiled. In a composition, or scaled by a plateau, it
    therefore needs ``initial_lr`` in a fit that begins at a later ``initial_epoch``. An exception
    of the function is passed on unchanged.

    Args:
        fn: The function or the Keras schedule. To save it by ``get_config`` or with a model, give
            it a name: ``keras.saving.register_keras_serializable``.
        initial_lr: The rate that ``fn(epoch, lr)`` gets in its first epoch.

    Raises:
        TypeError: If ``fn`` is none of these.
        ValueError: If ``fn`` does not return a finite rate of at least 0, or needs a rate and there
            is none.

    >>> Function(lambda epoch: 0.1 / (epoch + 1)).values(epochs=2, steps_per_epoch=2)
    array([0.1 , 0.1 , 0.05, 0.05])
    >>> Function(lambda epoch, lr: lr * 0.5, initial_lr=0.8).values(epochs=3, steps_per_epoch=1)
    array([0.4, 0.2, 0.1])
    """

    fn: Annotated[Any, FunctionField()]
    initial_lr: OptionalRate = None

    def validate(self) -> None:
        self._takes_rate = not isinstance(self.fn, KerasSchedule) and arity(self.fn) == 2
        self._rates = self._initial_rates()
        """The rate of each epoch so far; the rate before the first one has the key -1."""
        self._before_restore: tuple[float, int] | None = None
        """Rate and number of updates of the optimizer before a state was restored."""

    def _initial_rates(self) -> dict[int, float]:
        return {} if self.initial_lr is None else {-1: self.initial_lr}

    def before_restore(self, parameter: Hyperparameter) -> None:
        seen = (parameter.read(), count_batches(parameter.optimizer)) if self._takes_rate else None
        self._before_restore = seen

    def on_fit_start(
        self, parameter: Hyperparameter, epoch: int, timeline: Timeline, alone: bool
    ) -> None:
        """Find the rate from which ``fn(epoch, lr)`` continues, in one of three situations.

        - A callback has restored an earlier state: the rates of all epochs are computed again, from
          the rate with which the optimizer was compiled.
        - The fit begins at a later epoch, and the optimizer's rate also depends on something else:
          the rates that an earlier fit of this object found are kept, if there was one.
        - Otherwise the optimizer's rate is that of the epoch before. If the state is from inside an
          epoch, it is that epoch's rate.
        """
        done, steps = count_batches(parameter.optimizer), timeline.steps_per_epoch
        if self._before_restore is not None and self._before_restore[1] != done:
            known = {-1: self._before_restore[0]}
        elif epoch and not alone:
            return
        else:
            inside = bool(epoch and steps) and 0 < done - epoch * (steps or 0) <= (steps or 0)
            known = {epoch if inside else epoch - 1: parameter.read()}
        self._rates = self._initial_rates() or known

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        if isinstance(self.fn, KerasSchedule):
            # Raises an error if a tick is not a step.
            timeline.steps("1 steps")
            rates = schedule_values(self.fn, np.minimum(step, LATEST_STEP).astype(np.int64))
            wrong = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0.0)))
            if wrong.size:
                raise self._no_rate(float(rates[wrong[0]]), f"step {int(step[wrong[0]])}")
            return rates
        wanted, places = np.unique(np.floor(step / timeline.steps(1)), return_inverse=True)
        rate_of = self._rate_after_rate if self._takes_rate else self._call
        return np.array([rate_of(int(epoch)) for epoch in wanted.tolist()], np.float64)[places]

    def _rate_after_rate(self, epoch: int) -> float:
        """Return ``fn(epoch, rate of the epoch before)``, calling ``fn`` once for each epoch."""
        rates = self._rates
        last = next((known for known in (epoch, epoch - 1) if known in rates), None)
        if last is None:
            last = max((known for known in rates if known < epoch), default=None)
        if last is None:
            raise ValueError(
                f"{self!r} does not know the rate to start from: there is no fit, or other "
                "schedules or callbacks also influence the optimizer's rate. Pass initial_lr=..."
            )
        if epoch - last > MAX_CALLS:
            raise ValueError(
                f"{self!r} needs the rate of each epoch for the next, and epoch {epoch} is more "
                f"than {MAX_CALLS:,} epochs after the last known one. Give it a function of the "
                "epoch alone."
            )
        for number in range(last + 1, epoch + 1):
            rates[number] = self._call(number, rates[number - 1])
        return rates[epoch]

    def _call(self, epoch: int, *rate: float) -> float:
        """Call the function and return its rate as a float, whatever the type of the number."""
        answer = self.fn(epoch, *rate)
        number = _as_number(answer)
        if number is None or number < 0.0:
            raise self._no_rate(answer, f"epoch {epoch}")
        return number

    def _no_rate(self, answer: Any, place: str) -> ValueError:
        """Return the error for an answer that cannot be a rate."""
        return ValueError(
            f"{self!r} must return a finite rate of at least 0. Received: {answer!r} at {place}"
        )
