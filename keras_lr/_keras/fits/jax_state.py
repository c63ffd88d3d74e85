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
- Keras takes the state out of the variables by ``model._get_jax_state``, with the parts by name,
  and empties them where it says ``purge_model_variables``. It makes the functions that evaluate and
  predict by ``make_test_function`` and ``make_predict_function``; they take and return fewer parts.
  Over several batches an execution has its state in a variable ``state`` of ``iterator_step``.
  Where one of these is missing, Ctrl-C at the wrong moment loses the model, as with Keras alone.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras

from keras_lr._keras.fits.held_signals import HeldSignals

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


def is_used_up(state: Any) -> bool:
    """Return whether a step has used up arrays of a state."""
    arrays = (array for part in state for array in part)
    return any(array.is_deleted() for array in arrays if hasattr(array, "is_deleted"))


def keep_state(model: Any, state: Any) -> None:
    """Let a model keep a state that Keras does not have, unless a step has used up its arrays."""
    if not is_used_up(state):
        store_state(model, state)


def store_state(model: Any, state: Any, parts: Iterable[str] = PARTS) -> None:
    """Let a model keep a state that a step has returned, as Keras does a moment later."""
    # Not by Keras's own way of setting attributes, which takes several times as long.
    vars(model)["_jax_state"] = dict(zip(parts, state, strict=True))


def return_state(model: Any) -> None:
    """Let the variables of a model hold the state that it keeps, after an exception."""
    state = getattr(model, "_jax_state", None)
    if state and not is_used_up(state.values()):
        sync_state(model)


def state_between_batches(error: BaseException) -> Any:
    """Return the state that an execution of several batches had when an exception left it.

    None if it was raised elsewhere.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "iterator_step":
            return frame.f_locals.get("state")
    return None


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


class StateKeeper:
    """Keeps the newest state of a model where Keras finds it, during a fit on JAX.

    A step uses up the arrays that go into it. Keras stores what it returns a moment later, and what
    it takes out of the variables only after the first step. An exception between the two would lose
    the model. The keeper stores both at once, with signals held meanwhile. No array is held longer
    than Keras holds it.
    """

    _makers = ("make_test_function", "test_function"), ("make_predict_function", "predict_function")

    def __init__(self, model: Any) -> None:
        """Keep the state of a model; `install` changes it."""
        self.model = model
        self.signals = HeldSignals()
        self._found: dict[str, Any] = {}
        """What was on the model itself under each name that the keeper uses."""

    def install(self) -> None:
        """Take part in whatever takes the state out of the model's variables."""
        self.signals.install()
        self._replace("_get_jax_state", self._taking)
        for maker, function in self._makers:
            self._replace(maker, functools.partial(self._making, function))

    def restore(self) -> None:
        """Leave the model as it was found."""
        while self._found:
            name, own = self._found.popitem()
            vars(self.model).pop(name, None)
            if own is not None:
                object.__setattr__(self.model, name, own)
        for _, name in self._makers:
            function = getattr(self.model, name, None)
            if isinstance(function, _KeptFunction):
                setattr(self.model, name, function.function)
        self.signals.restore()

    def _replace(self, name: str, replacement_for: Callable[[Any], Any]) -> None:
        present = getattr(self.model, name, None)
        if present is not None and name not in self._found:
            self._found[name] = vars(self.model).get(name)
            object.__setattr__(self.model, name, replacement_for(present))

    def _taking(self, take: Callable[..., Any]) -> Callable[..., Any]:
        """Return what takes the state out of the variables and stores it."""

        def take_and_store(**options: Any) -> Any:
            self.signals.held = True
            try:
                state = take(**options)
                if options.get("purge_model_variables"):
                    store_state(self.model, state, [part for part in PARTS if options.get(part)])
                    vars(self.model)["_jax_state_synced"] = False
                return state
            finally:
                self.signals.release()

        return take_and_store

    def _making(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return what makes a function that stores the state that it returns."""

        def make_kept(*arguments: Any, **options: Any) -> Any:
            result = make(*arguments, **options)
            function = getattr(self.model, name, None)
            if function is not None and not isinstance(function, _KeptFunction):
                setattr(self.model, name, _KeptFunction(self, function))
            return result

        return make_kept


class _KeptFunction:
    """Function that evaluates or predicts, and stores the state that it returns."""

    def __init__(self, keeper: StateKeeper, function: Callable[..., Any]) -> None:
        self.keeper, self.function = keeper, function

    def __call__(self, state: Any, iterator: Iterator[Any]) -> Any:
        model, signals = self.keeper.model, self.keeper.signals
        parts = list(getattr(model, "_jax_state", None) or ())
        signals.held = True
        try:
            outputs, state = self.function(state, _Interruptible(iterator, signals))
            if len(parts) == len(state):
                store_state(model, state, parts)
            return outputs, state
        except BaseException as error:
            between = state_between_batches(error)
            if between is not None and len(parts) == len(between) and not is_used_up(between):
                store_state(model, between, parts)
            raise
        finally:
            signals.release()


class _Interruptible:
    """Iterator over batches that lets signals through while it waits for data."""

    def __init__(self, iterator: Iterator[Any], signals: HeldSignals) -> None:
        self._iterator, self._signals = iterator, signals

    def __iter__(self) -> _Interruptible:
        return self

    def __next__(self) -> Any:
        self._signals.release()
        try:
            return next(self._iterator)
        finally:
            self._signals.held = True
