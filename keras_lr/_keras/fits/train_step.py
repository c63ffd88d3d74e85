"""A training step that gets its hyperparameters from outside, compiled once for a model.

Relies on (Keras 3.0 and later):

- ``make_train_function(force=True)`` compiles what ``model.train_step`` is at that moment, even an
  instance attribute. Where it raises, or returns the function that was there before, there is no
  such step. Where it compiles another step, as under ``KERAS_NNX_ENABLED``, this one is never
  traced. An engine notices both and sets the values from the host instead.
- Two functions of the same maker have the same code. A train function with other code comes from
  the user or another library. It is called as it is, with values set from the host.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from keras_lr._keras.fits.mean_updates import LossUpdate
from keras_lr._keras.rates.hyperparameters import Hyperparameter
from keras_lr._keras.rates.optimizers import count_batches, optimizers_of

_KEPT = "_keras_lr_compiled_steps"
"""Attribute of a model's train function that holds the steps compiled to replace it.

They live as long as that function: a model that is compiled again, or whose function is made again,
has another one. Nothing that copies or saves a model sees them.
"""


@dataclasses.dataclass
class CompiledStep:
    """A train function that gets its hyperparameters from a table, or together with the data."""

    function: Any = None
    traced: bool = False
    """Whether Keras has called the step that was compiled in."""
    table: Any = None
    """Variable with the values of the hyperparameters for the batches to come, if the step reads
    one: a value for each batch, or a column for each of several hyperparameters."""
    notes: list[Any] = dataclasses.field(default_factory=list)
    """Values of some variables when each of these batches began, if the step notes them."""
    losses: Any = None
    """Amounts that these batches added to the mean of the loss: sums, or the losses themselves."""
    notes_loss: bool = False
    """Whether `losses` holds the loss itself."""
    returns_loss: bool = False
    """Whether the loss is also returned with the logs, to be read after each step."""
    counts: Any = None
    """The count that goes with the sum; or the count before the batch, if no sum is noted."""
    update: LossUpdate | None = None
    """The mean that is updated, if the step notes what it adds."""
    cumulative: frozenset[str] = frozenset()
    """Log names of values that are not means, and are known only for the epoch so far."""
    position: Any = None
    """Variable with the row of the last batch."""
    indices: list[Any] = dataclasses.field(default_factory=list)
    """Row numbers that are already on the device, so that no step has to send one."""


Build = Callable[[CompiledStep, Callable], Callable]
"""Takes a step and the model's own ``train_step``; returns the one to compile in."""


def compiled_step(
    model: Any,
    key: Hashable,
    build: Build,
    make_train_function: Callable[..., Any],
    kept_only: bool = False,
) -> CompiledStep | None:
    """Return the model's train function with another step compiled in, or None if that fails.

    Args:
        model: A model that has a train function.
        key: What the step depends on; a step compiled for an equal key is reused.
        build: Builds the step.
        make_train_function: Makes the train function of the model as Keras does.
        kept_only: Whether to compile nothing, and only use a step compiled for an earlier fit.
    """
    plain = model.train_function
    kept = getattr(plain, _KEPT, None)
    if kept is not None and key in kept:
        return kept[key]
    if kept_only:
        return None
    step = CompiledStep()
    own = vars(model).get("train_step")
    plain_step = model.train_step
    try:
        object.__setattr__(model, "train_step", build(step, plain_step))
        make_train_function(force=True)
        step.function = model.train_function
    except (AttributeError, TypeError, NotImplementedError):
        step.function = None
    finally:
        vars(model).pop("train_step", None)
        if own is not None:
            object.__setattr__(model, "train_step", own)
        model.train_function = plain
    if step.function is None or step.function is plain or not _same_code(step.function, plain):
        return None
    if kept is None:
        kept = {}
        try:
            setattr(plain, _KEPT, kept)
        except AttributeError:
            return step
    kept[key] = step
    return step


def forget_step(plain: Any, step: CompiledStep) -> None:
    """Remove a compiled step from a model's train function: Keras never traced it."""
    kept = getattr(plain, _KEPT, {})
    for key in [key for key, one in kept.items() if one is step]:
        del kept[key]


def was_trained(model: Any) -> bool:
    """Return whether all optimizers of a model have made updates."""
    return all(map(count_batches, optimizers_of(model)))


def _same_code(function: Any, other: Any) -> bool:
    return _code(function) == _code(other)


def _code(function: Any) -> Any:
    """Return the code of a function, compiled by TensorFlow or not; for another object its class.

    The class of a callable object stays the same each time that its maker is called.
    """
    function = getattr(function, "python_function", function)
    return getattr(function, "__code__", type(function))


@contextlib.contextmanager
def hyperparameters_set(
    some: list[Hyperparameter], values: Any, every: list[Hyperparameter]
) -> Iterator[None]:
    """Give a training step ``values`` of the hyperparameters that no variable holds.

    The plain values are put back afterwards, even if another replica is traced at the same time.

    Args:
        some: The hyperparameters that no variable holds, in the order in which they are set.
        values: The values of all hyperparameters.
        every: All hyperparameters.
    """
    plain = read_numbers(some)
    try:
        for number, parameter in zip(plain, some, strict=True):
            parameter.enter_step(values[every.index(parameter)], number)
        yield
    finally:
        write_numbers(some, plain)


def read_numbers(some: list[Hyperparameter]) -> list[Any]:
    """Return the plain values that some hyperparameters have outside of a step."""
    return [parameter.plain_value() for parameter in some]


def write_numbers(some: list[Hyperparameter], numbers: list[Any]) -> None:
    """Put back what `read_numbers` returned, in the opposite order."""
    for number, parameter in reversed([*zip(numbers, some, strict=True)]):
        parameter.leave_step(number)
