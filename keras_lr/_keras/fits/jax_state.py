"""The state that a training step of JAX takes and returns, and where Keras keeps it meanwhile.

Relies on (Keras 3.0 and later):

- A backend without variables that a compiled step can set, such as JAX, has a ``train_step`` that
  takes the state beside the data. Its train function takes and returns a tuple of four lists of
  arrays: trainable, non-trainable, optimizer and metrics variables, in the order of the model's.
- Between two steps the variables are empty and the state is in ``model._jax_state``;
  ``model.jax_state_sync()``, which is public, brings it back.
- While the variables are empty, ``model._jax_state_synced`` is False. Where it does not say so, a
  hook that begins a batch sees the rate of the batch before.
- A step takes the values of ``optimizer.variables`` in their order, and returns them so. What that
  list has more while the step is traced, it takes and returns behind them.
- Keras puts the state that a train function returns into an attribute of the model in every step.
  A model wraps what it is given in lists, dicts, tuples and sets, one element after the other. What
  a queue holds it leaves alone. Where that is not so, a step takes longer.
- Without ``_jax_state`` an exception in a callback loses the step before it, as far as Keras itself
  has not kept its state; nothing else depends on it.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import keras

PARTS = (
    *("trainable_variables", "non_trainable_variables"),
    *("optimizer_variables", "metrics_variables"),
)
"""What Keras calls the parts of the state."""

Place = tuple[int, int]
"""Part and index of a variable in the state."""

TRAINABLE, NON_TRAINABLE, OPTIMIZER, METRICS = range(4)


class Arrays(collections.deque[Any]):
    """Arrays of a part of the state, which a model does not wrap one by one.

    That takes a microsecond and a half for each, which is a quarter of a small step.
    """


@functools.cache
def register_arrays() -> None:
    """Let functions that JAX compiles take `Arrays` as well: others may get them during a fit."""
    import jax

    jax.tree_util.register_pytree_node(Arrays, lambda arrays: (arrays, None), _arrays_of)


def _arrays_of(_: None, arrays: Iterable[Any]) -> Arrays:
    return Arrays(arrays)


def for_keras(state: Any) -> Any:
    """Return a state in the form in which Keras gets it quickly from one step to the next."""
    return tuple(map(Arrays, state))


def for_step(state: Any) -> Any:
    """Return a state in the form that Keras's steps take."""
    return tuple(map(list, state))


def steps_take_state() -> bool:
    """Return whether a training step of this backend takes the state of the model."""
    return "state" in inspect.signature(keras.Model.train_step).parameters


def sync_state(model: Any) -> None:
    """Let a model's variables hold its state, also in the middle of an epoch."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def keep_state(model: Any, state: Any) -> None:
    """Let a model keep a state that Keras does not have, unless a step has used up its arrays."""
    arrays = (array for part in state for array in part)
    if not any(array.is_deleted() for array in arrays if hasattr(array, "is_deleted")):
        store_state(model, state)


def store_state(model: Any, state: Any) -> None:
    """Let a model keep a state that a step has returned, as Keras does a moment later."""
    # Not by Keras's own way of setting attributes, which takes several times as long.
    vars(model)["_jax_state"] = dict(zip(PARTS, state, strict=True))


def show_values(model: Any, values: Iterable[tuple[Place, Any, float]]) -> None:
    """Let callbacks that look at a model see values that are not in its state yet.

    Args:
        model: The model.
        values: Place, variable and value of each.
    """
    state = getattr(model, "_jax_state", None)
    if not state or model._jax_state_synced:
        for _, variable, value in values:
            variable.assign(value)
        return
    for (part, index), variable, value in values:
        arrays = list(state[PARTS[part]])
        arrays[index] = keras.ops.convert_to_tensor(value, variable.dtype)
        state[PARTS[part]] = arrays


def optimizer_reads(model: Any, state: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the optimizer's variables have the values of a state."""
    values = zip(model.optimizer.variables, state[OPTIMIZER], strict=True)
    return keras.StatelessScope(state_mapping=list(values))


def variables_of_state(model: Any) -> tuple[list[Any], ...]:
    """Return the variables whose values the parts of the state hold."""
    optimizer = getattr(model.optimizer, "variables", [])
    return (
        *(model.trainable_variables, model.non_trainable_variables),
        *(optimizer, model.metrics_variables),
    )


def place_of(variables: tuple[list[Any], ...], wanted: Any, parts: Iterable[int]) -> Place | None:
    """Return where in the state a variable stands; None if it is not among those of ``parts``."""
    for part in parts:
        for index, variable in enumerate(variables[part]):
            if variable is wanted:
                return part, index
    return None


def value_at(state: Any, place: Place) -> Any:
    """Return what a state has at a place."""
    part, index = place
    return state[part][index]


def state_with(state: Any, values: Iterable[tuple[Place | None, Any]]) -> Any:
    """Return a state with other values at some places; what has no place is left out."""
    parts = list(state)
    for place, value in values:
        if place is not None:
            part, index = place
            parts[part] = list(parts[part])
            parts[part][index] = value.astype(parts[part][index].dtype)
    return tuple(parts)


def state_with_own(state: Any, own: Sequence[Any]) -> Any:
    """Return a state with the values of variables of ours behind those of the optimizer."""
    if not own:
        return state
    parts = list(state)
    parts[OPTIMIZER] = [*parts[OPTIMIZER], *(variable.value for variable in own)]
    return tuple(parts)


def store_own(state: Any, own: Sequence[Any]) -> Any:
    """Let variables of ours hold what a step has returned, and return the state without it."""
    if not own:
        return state
    parts = list(state)
    values, parts[OPTIMIZER] = parts[OPTIMIZER][-len(own) :], parts[OPTIMIZER][: -len(own)]
    for variable, value in zip(own, values, strict=True):
        # Not by `assign`, which takes several times as long.
        variable._value = value
    return tuple(parts)
