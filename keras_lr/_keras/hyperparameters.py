"""Finding, reading and setting the hyperparameters of an optimizer."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lr._hints import nearest_name_hint
from keras_lr._keras.host_values import read_lazily, to_float, to_numpy

LEARNING_RATE = "learning_rate"


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One number of one optimizer: its learning rate, or a plain attribute such as ``momentum``.

    Keras keeps the learning rate in a variable and everything else as Python floats, which are
    baked into a compiled training step.
    """

    optimizer: Any
    name: str

    @property
    def variable(self) -> Any:
        """The variable that holds the number; None for a plain attribute."""
        if self.name != LEARNING_RATE:
            return None
        rate = getattr(self.optimizer, "_learning_rate", None)
        return rate if hasattr(rate, "assign") else None

    @property
    def key(self) -> tuple[int, str]:
        """What identifies the hyperparameter."""
        return id(self.optimizer), self.name

    def read(self) -> float:
        """Return the present value."""
        variable = self.variable
        return to_float(
            getattr(self.optimizer, self.name) if variable is None else read_lazily(variable)
        )


def effective(optimizer: Any) -> Any:
    """Return the optimizer whose hyperparameters count, inside loss-scale wrappers."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def optimizer_of(model: Any, optimizer: Any = None) -> Any:
    """Return the optimizer to drive: the one given, by reference or attribute name, or the model's.

    Raises:
        ValueError: If the model is not compiled, or has no optimizer of that name.
    """
    if isinstance(optimizer, str):
        found = getattr(model, optimizer, None)
        if found is None:
            names = [n for n, v in vars(model).items() if isinstance(v, keras.optimizers.Optimizer)]
            hint = nearest_name_hint(optimizer, names, quote="'")
            raise ValueError(
                f"The model has no optimizer named {optimizer!r}.{hint} "
                f"Its optimizers: {', '.join(names) or 'none'}."
            )
        return effective(found)
    if optimizer is not None:
        return effective(optimizer)
    found = getattr(model, "optimizer", None)
    if found is None:
        raise ValueError(
            f"The model {getattr(model, 'name', model)!r} has no optimizer: it is not compiled. "
            "Call model.compile(optimizer=..., loss=...) before training, or name the optimizer: "
            "ParamScheduler(optimizer=...)."
        )
    return effective(found)


def optimizers_of(model: Any, optimizer: Any = None) -> list[Any]:
    """Return the optimizers to drive, as `optimizer_of` finds them; the parts of one that has many.

    Raises:
        ValueError: If the model is not compiled, or has no optimizer of that name.
    """
    found = optimizer_of(model, optimizer)
    return [effective(one) for one in getattr(found, "optimizers", [found])]


def updates(optimizer: Any) -> int:
    """Return how many batches an optimizer has taken, those that it accumulates among them."""
    return int(to_numpy(getattr(optimizer, "_iterations", 0)))


def find_hyperparameter(optimizer: Any, name: str) -> Hyperparameter:
    """Return a hyperparameter that can be moved during training.

    Raises:
        TypeError: If the optimizer was built with a learning rate schedule, which cannot be set.
        ValueError: If the optimizer has no such number or does not use it.
    """
    kind = type(optimizer).__name__
    if name == LEARNING_RATE:
        if hasattr(optimizer, "optimizers"):
            raise ValueError(
                f"The optimizer {kind} holds several optimizers. Drive each by its own "
                "ParamScheduler(optimizer=..., learning_rate=...)."
            )
        rate = getattr(optimizer, "_learning_rate", None)
        if callable(rate) and not isinstance(rate, keras.Variable):
            raise TypeError(
                f"This optimizer was created with a `LearningRateSchedule` or a function, "
                f"{kind}(learning_rate={_short(rate)}), which decides the rate itself and cannot "
                "be set from a callback. Build the optimizer with a number, such as "
                f"{kind}(learning_rate=0.001), and pass the schedule as a callback: "
                "keras_lr.Function(schedule) takes a Keras schedule or a function. To only record "
                "its rate, pass keras_lr.LRHistory() alone."
            )
        return Hyperparameter(optimizer, name)
    known = movable(optimizer)
    if name not in known:
        hint = nearest_name_hint(name, known, quote="'")
        unused = f" ({name}=None: it is not used)" if getattr(optimizer, name, 0) is None else ""
        raise ValueError(
            f"The optimizer {kind} has no hyperparameter {name!r} to move{unused}.{hint} "
            f"It has: {', '.join(known)}."
        )
    if name == "momentum" and not getattr(optimizer, name):
        raise ValueError(
            f"The optimizer {kind} was built with momentum=0 and keeps no velocity, so its "
            "momentum cannot move. Build it with the momentum to begin with, such as "
            f"{kind}(momentum=0.9)."
        )
    return Hyperparameter(optimizer, name)


def movable(optimizer: Any) -> list[str]:
    """Return the names of the numbers that an optimizer can be moved in."""
    config = optimizer.get_config() if hasattr(optimizer, "get_config") else vars(optimizer)
    fixed = {"clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor", "ema_momentum"}
    fixed |= {"initial_accumulator_value"}  # matters only where the optimizer is built
    names = [
        name
        for name, value in config.items()
        if isinstance(value, numbers.Real)
        and not isinstance(value, bool | int)
        and name not in fixed
        and isinstance(getattr(optimizer, name, None), float)
    ]
    return [LEARNING_RATE, *[name for name in names if name != LEARNING_RATE]]


class Traced:
    """A number that is a tensor wherever a training step is being traced.

    Optimizers ask Python questions of their numbers (``momentum != 0``) and also compute with them.
    This answers the questions as the number it replaces, and enters every computation as the
    tensor.
    """

    number: float
    tensor: Any

    @property
    def dtype(self) -> Any:
        """What keras.ops asks for to find the type of a result."""
        return self.tensor.dtype

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self.tensor if dtype is None else keras.ops.cast(self.tensor, dtype.name)

    def __jax_array__(self) -> Any:
        return self.tensor

    def __add__(self, other: Any) -> Any:
        return self.tensor + other

    def __radd__(self, other: Any) -> Any:
        return other + self.tensor

    def __sub__(self, other: Any) -> Any:
        return self.tensor - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.tensor

    def __mul__(self, other: Any) -> Any:
        return self.tensor * other

    def __rmul__(self, other: Any) -> Any:
        return other * self.tensor

    def __truediv__(self, other: Any) -> Any:
        return self.tensor / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.tensor

    def __pow__(self, other: Any, modulo: None = None) -> Any:
        return keras.ops.power(self.tensor, other)

    def __rpow__(self, other: Any, modulo: None = None) -> Any:
        return keras.ops.power(other, self.tensor)

    def __neg__(self) -> Any:
        return -self.tensor


class TracedFloat(Traced, float):
    """A traced number that is a Python float, as TensorFlow's operations accept one."""


@functools.total_ordering
class TracedNumber(Traced):
    """A traced number that is no Python float, which would be computed with as it is.

    JAX does that always, TensorFlow where nothing is being traced.
    """

    def __eq__(self, other: object) -> bool:
        return self.number == other

    def __lt__(self, other: float) -> bool:
        return self.number < other

    def __bool__(self) -> bool:
        return bool(self.number)

    def __float__(self) -> float:
        return self.number

    __hash__ = None  # type: ignore[assignment]


def traced(number: float, tensor: Any) -> Traced:
    """Return what stands for ``tensor`` in the place of a plain number."""
    jax = keras.backend.backend() == "jax"
    if jax:
        _register()
    stand_in: Traced = TracedNumber() if jax or hasattr(tensor, "numpy") else TracedFloat(number)
    stand_in.number, stand_in.tensor = number, tensor
    return stand_in


@functools.cache
def _register() -> None:
    """Let JAX's functions that are compiled in themselves, such as `clip`, take a traced number."""
    import jax

    def unflatten(number: float, children: Any) -> TracedNumber:
        stand_in = TracedNumber()
        stand_in.number, (stand_in.tensor,) = number, children
        return stand_in

    jax.tree_util.register_pytree_node(
        TracedNumber, lambda traced: ((traced.tensor,), traced.number), unflatten
    )


def setter(variable: Any) -> Callable[[float], Any]:
    """Return the fastest way to set a scalar variable between two steps."""
    value: Any = getattr(variable, "_value", None)
    if type(variable) is keras.Variable and hasattr(value, "fill_") and not value.requires_grad:
        return lambda number: variable._value.fill_(number)  # a tensor of PyTorch
    return variable.assign


def _short(value: Any) -> str:
    return f"{type(value).__name__}(...)" if not hasattr(value, "__name__") else value.__name__


def schedule_values(schedule: Any, steps: np.ndarray) -> np.ndarray:
    """Return the rates of a Keras ``LearningRateSchedule`` at ``steps`` as float64.

    All steps go through the schedule at once where it is made of operations that allow it, which
    is checked at both ends; else one by one. An exception of the schedule comes out unchanged.
    """
    if hasattr(schedule, "rates"):
        return np.asarray(schedule.rates(steps), np.float64)
    if len(steps) > 2:
        try:
            at_once = to_numpy(
                keras.ops.vectorized_map(schedule, keras.ops.convert_to_tensor(steps))
            )
            ends = [float(to_numpy(schedule(step))) for step in (steps[0], steps[-1])]
            if at_once.shape == steps.shape and np.allclose(
                at_once[[0, -1]], ends, rtol=1e-5, atol=0
            ):
                return at_once.astype(np.float64)
        except Exception:
            return _one_by_one(schedule, steps)
    return _one_by_one(schedule, steps)


def _one_by_one(schedule: Any, steps: np.ndarray) -> np.ndarray:
    return np.array([float(to_numpy(schedule(step))) for step in steps], np.float64)
