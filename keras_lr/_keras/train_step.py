"""A training step that takes its hyperparameters from outside, compiled once for a model."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from keras_lr._keras.hyperparameters import Hyperparameter, optimizers_of, traced, updates


@dataclasses.dataclass
class CompiledStep:
    """A train function that takes its hyperparameters from the drive, kept on the model."""

    plain: Any
    """The model's own train function; another one means that the model was recompiled."""
    function: Any = None
    tables: list[Any] = dataclasses.field(default_factory=list)
    """The values of each hyperparameter for some batches to come."""
    notes: list[Any] = dataclasses.field(default_factory=list)
    """What variables held when each of these batches began."""
    position: Any = None
    traced: bool = False
    """Whether Keras has called the step that was compiled in."""


def compiled_step(session: Any, key: tuple[Any, ...], build: Any) -> CompiledStep | None:
    """Return the model's train function with ``build`` compiled in, or None if that fails.

    It is made anew where ``key`` is new, or the model was compiled or its steps per execution set;
    but not for a brief fit of a model that was trained before.
    """
    model = session.model
    key = session.steps_per_execution, *key
    kept = vars(model).get("_keras_lr_steps")
    if kept is None:
        kept = {}
        object.__setattr__(model, "_keras_lr_steps", kept)
    plain = model.train_function
    if key in kept and kept[key].plain is plain:
        return kept[key]
    if session.brief and key[0] == 1 and _was_trained(model):
        return None
    for other in [k for k, old in kept.items() if k[0] == key[0] and old.plain is not plain]:
        del kept[other]  # of an optimizer that the model no longer has
    step = CompiledStep(plain)
    own = vars(model).get("train_step")
    plain_step = model.train_step
    try:
        object.__setattr__(model, "train_step", build(step, plain_step))
        session.make("make_train_function", force=True)
        step.function = model.train_function
    except (AttributeError, TypeError, NotImplementedError):
        step.function = None
    finally:
        vars(model).pop("train_step", None)
        if own is not None:
            object.__setattr__(model, "train_step", own)
        model.train_function = plain
    if step.function is None or step.function is plain:
        return None
    kept[key] = step
    return step


def _was_trained(model: Any) -> bool:
    return all(map(updates, optimizers_of(model)))


@contextlib.contextmanager
def hyperparameters_set(
    some: list[Hyperparameter], values: Any, every: list[Hyperparameter]
) -> Iterator[None]:
    """Let a training step see ``values`` as the attributes ``some`` of all hyperparameters.

    What was there is put back as a plain float, also where another replica's trace runs at the same
    time.
    """
    plain = [float(getattr(parameter.optimizer, parameter.name)) for parameter in some]
    try:
        for number, parameter in zip(plain, some, strict=True):
            value = values[every.index(parameter)]
            shown = value if isinstance(value, float) else traced(number, value)
            setattr(parameter.optimizer, parameter.name, shown)
        yield
    finally:
        for number, parameter in zip(plain, some, strict=True):
            setattr(parameter.optimizer, parameter.name, number)
