"""Hyperparameters of an optimizer: found by name, read and set.

Relies on public names: ``optimizer.learning_rate`` is the variable of an optimizer built with a
number, ``optimizer.get_config()`` names the other numbers, ``Variable.value`` is the backend's own
tensor or variable. If the rate is neither a variable nor a schedule, it is probed before it is
moved (see `keras_lr._keras.rates.computed_rate`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._hints import nearest_name_hint
from keras_lr._keras.gradients.rate_notes import RateNotes
from keras_lr._keras.host_values import read_lazily, to_float
from keras_lr._keras.rates.computed_rate import RateProperty
from keras_lr._keras.rates.optimizers import held_optimizers, is_variable, schedule_of
from keras_lr._keras.rates.traced_number import check_numbers_can_be_traced, trace_number

LEARNING_RATE = "learning_rate"
_FIXED = {
    *("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor", "ema_momentum"),
    "initial_accumulator_value",  # matters only when the optimizer is built
}


class Range(NamedTuple):
    """The values that a hyperparameter may have; all are finite in float32, in which steps compute.

    >>> Range(minimum=0.0, below=1.0).find_outside(np.array([0.9, 1.0, 1.5]))
    1
    """

    minimum: float = -math.inf
    below: float = math.inf

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.below < math.inf:
            return f"at least {self.minimum:g} and below {self.below:g}"
        return "finite" if self.minimum == -math.inf else "finite and not negative"

    def find_outside(self, values: NDArray[np.floating[Any]]) -> int | None:
        """Return the index of the first value that is outside; None if there is none."""
        with np.errstate(over="ignore"):  # such a value becomes infinite
            used = values.astype(np.float32)
        inside = np.isfinite(used) & (used >= self.minimum) & (used < self.below)
        return None if inside.all() else int(np.argmin(inside))


NOT_NEGATIVE = Range(minimum=0.0)
BELOW_ONE = Range(minimum=0.0, below=1.0)
"""The range of the weight of the past in a moving average."""

_RANGES = {
    **dict.fromkeys(("momentum", "beta_1", "beta_2", "adam_beta_1", "adam_beta_2"), BELOW_ONE),
    **dict.fromkeys((LEARNING_RATE, "weight_decay", "adam_weight_decay"), NOT_NEGATIVE),
    "rho": BELOW_ONE,
}


def range_of(name: str) -> Range:
    """Return the range of a hyperparameter, by its name in Keras."""
    return _RANGES.get(name, Range())


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One number of one optimizer: its learning rate, or a plain attribute such as ``momentum``.

    Keras keeps the learning rate in a variable and everything else as Python floats, which are
    baked into a compiled training step.
    """

    optimizer: Any
    name: str

    host_only: ClassVar[bool] = False
    """Whether the number can be set only between two steps, and not inside a compiled one."""
    is_recorded: ClassVar[bool] = True
    """Whether the values belong in the record."""
    enters_last: ClassVar[bool] = False
    """Whether it enters a step after all others, and leaves it first."""

    @functools.cached_property
    def variable(self) -> Any:
        """The variable that holds the number; None if it is a plain attribute or is computed.

        The rate of an optimizer that wraps another one may be a variable of the inner one.
        """
        if self.name != LEARNING_RATE or schedule_of(self.optimizer) is not None:
            return None
        rate = getattr(self.optimizer, LEARNING_RATE, None)
        return rate if is_variable(rate) else None

    @property
    def permitted(self) -> Range:
        """The values that it may have."""
        return range_of(self.name)

    @property
    def column(self) -> str:
        """Name under which the values are recorded, unless another hyperparameter has it."""
        return self.name

    @property
    def multiplies(self) -> Hyperparameter | None:
        """The hyperparameter that this one multiplies; their product is recorded."""
        return None

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Identity of the hyperparameter, whichever of several optimizers it is reached through."""
        return id(self.optimizer if self.variable is None else self.variable), self.name

    @property
    def compile_key(self) -> tuple[Any, ...]:
        """What a compiled step depends on, apart from the values."""
        return self.key

    @property
    def state(self) -> Sequence[Any]:
        """Variables that the step changes, beyond those of the model and the optimizer."""
        return ()

    @property
    def notes(self) -> RateNotes | None:
        """The rates that the steps used, if the steps compute them; else None."""
        return None

    def read(self) -> float:
        """Return the present value."""
        variable = self.variable
        return to_float(
            getattr(self.optimizer, self.name) if variable is None else read_lazily(variable)
        )

    def plain_value(self) -> Any:
        """Return what a plain attribute holds outside of a step, as a float."""
        return float(getattr(self.optimizer, self.name))

    def enter_step(self, value: Any, plain: Any) -> None:
        """Give a step that runs or is traced a value in place of the plain one.

        Args:
            value: A float, or a tensor of the step.
            plain: What `plain_value` returned.
        """
        stand_in = value if isinstance(value, float) else trace_number(plain, value)
        setattr(self.optimizer, self.name, stand_in)

    def leave_step(self, plain: Any) -> None:
        """Put the plain value back; may be called several times."""
        setattr(self.optimizer, self.name, plain)


class ComputedRate(Hyperparameter):
    """A learning rate that the optimizer computes, set through its property from the host."""

    host_only: ClassVar[bool] = True

    @functools.cached_property
    def variable(self) -> Any:
        """The property, which can be read and assigned like a variable."""
        return RateProperty(self.optimizer)

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Identity of the rate."""
        return id(self.optimizer), self.name

    def read(self) -> float:
        """Return the present value."""
        return self.variable.value


def find_hyperparameter(optimizer: Any, name: str) -> Hyperparameter:
    """Return a hyperparameter that can be moved during training.

    It may belong to an optimizer inside ``optimizer``.

    Raises:
        TypeError: If the optimizer was built with a learning rate schedule, which cannot be set, or
            if the backend cannot pass numbers into its compiled step.
        ValueError: If the optimizer has no such number or does not use it.
    """
    if name == LEARNING_RATE:
        return _find_learning_rate(optimizer)
    kind, holders = type(optimizer).__name__, _holders(optimizer)
    if name not in holders:
        known = [LEARNING_RATE, *holders]
        hint = nearest_name_hint(name, known, quote="'")
        unused = f" ({name}=None: it is not used)" if getattr(optimizer, name, 0) is None else ""
        raise ValueError(
            f"The optimizer {kind} has no hyperparameter {name!r} to move{unused}.{hint} "
            f"It has: {', '.join(known)}."
        )
    if len(holders[name]) > 1:
        kinds = ", ".join(type(holder).__name__ for holder in holders[name])
        raise ValueError(
            f"The optimizer {kind} holds several with the hyperparameter {name!r}: {kinds}. Drive "
            f"each by its own ParamScheduler(optimizer=..., {name}=...)."
        )
    (holder,) = holders[name]
    if name == "momentum" and not holder.momentum:
        kind = type(holder).__name__
        raise ValueError(
            f"The optimizer {kind} was built with momentum=0 and keeps no velocity, so its "
            "momentum cannot move. Build it with the momentum to begin with, such as "
            f"{kind}(momentum=0.9)."
        )
    check_numbers_can_be_traced()
    return Hyperparameter(holder, name)


def _find_learning_rate(optimizer: Any) -> Hyperparameter:
    kind = type(optimizer).__name__
    if hasattr(optimizer, "optimizers"):
        raise ValueError(
            f"The optimizer {kind} holds several optimizers. Drive each by its own "
            "ParamScheduler(optimizer=..., learning_rate=...)."
        )
    schedule = schedule_of(optimizer)
    if schedule is not None:
        raise TypeError(
            "This optimizer was created with a `LearningRateSchedule` or a function, "
            f"{kind}(learning_rate={_short_name(schedule)}), which decides the rate itself and "
            "cannot be set from a callback. Build the optimizer with a number, such as "
            f"{kind}(learning_rate=0.001), and pass the schedule as a callback: "
            "keras_lr.Function(schedule) takes a Keras schedule or a function. To only record its "
            "rate, pass keras_lr.LRHistory() alone."
        )
    parameter = Hyperparameter(optimizer, LEARNING_RATE)
    if parameter.variable is None:
        parameter = ComputedRate(optimizer, LEARNING_RATE)
    _check_step_gets_rate(parameter)
    return parameter


def _check_step_gets_rate(parameter: Hyperparameter) -> None:
    """Refuse a rate that does not reach JAX's training step.

    Keras passes the step the values of ``optimizer.variables``. Anything else that the step reads
    is compiled into it as a constant.
    """
    optimizer, variable = parameter.optimizer, parameter.variable
    if keras.backend.backend() != "jax" or any(one is variable for one in optimizer.variables):
        return
    kind, inner = type(optimizer).__name__, [*held_optimizers(optimizer)]
    raise ValueError(
        f"On JAX a training step sees only the variables that the optimizer lists, and the "
        f"learning rate of {kind} is not in {kind}.variables, so it cannot move. Let the "
        f"property `variables` return those of the optimizer inside too: "
        f"[*super().variables, *self.{inner[0] if inner else 'inner'}.variables]."
    )


def can_move(optimizer: Any, name: str) -> bool:
    """Return whether a number besides the rate can be moved, and is in use: not 0."""
    return any(getattr(holder, name) for holder in _holders(optimizer).get(name, ()))


def _holders(optimizer: Any) -> dict[str, list[Any]]:
    """Return the optimizers that have each number besides the rate.

    If ``optimizer`` has a number itself, those inside it are left out: an inner optimizer to which
    it delegates its updates need not be used with its own number.
    """
    found: dict[str, list[Any]] = {name: [optimizer] for name in _own_numbers(optimizer)}
    for inner in held_optimizers(optimizer).values():
        for name in _own_numbers(inner):
            found.setdefault(name, []).append(inner)
    return {
        name: [optimizer] if optimizer in holders else holders for name, holders in found.items()
    }


def _own_numbers(optimizer: Any) -> list[str]:
    config = optimizer.get_config() if hasattr(optimizer, "get_config") else vars(optimizer)
    return [
        name
        for name, value in config.items()
        if isinstance(value, numbers.Real)
        and not isinstance(value, bool | int)
        and name not in _FIXED
        and name != LEARNING_RATE
        and isinstance(getattr(optimizer, name, None), float)
    ]


def fastest_setter(variable: Any) -> Callable[[float], Any]:
    """Return the function that sets a scalar variable fastest between two steps."""
    if type(variable) is keras.Variable:
        tensor: Any = variable.value
        if hasattr(tensor, "fill_") and not tensor.requires_grad:
            return lambda number: variable.value.fill_(number)  # a PyTorch tensor
    return variable.assign


def _short_name(value: Any) -> str:
    return f"{type(value).__name__}(...)" if not hasattr(value, "__name__") else value.__name__
