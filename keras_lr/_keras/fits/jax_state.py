"""The state that a JAX training step takes and returns, and where Keras keeps it between steps.

Relies on (Keras 3.0 and later):

- A backend without variables that a compiled step can set, such as JAX, has a ``train_step`` that
  takes the state as well as the data. Its train function takes and returns a tuple of four lists of
  arrays: trainable, non-trainable, optimizer and metrics variables, in the order of the model's.
- Between two steps the variables are empty and the state is in ``model._jax_state``;
  ``model.jax_state_sync()``, which is public, brings it back.
- While the variables are empty, ``model._jax_state_synced`` is False. Without this attribute, the
  rate of the next batch is written to the variables as well as to the state.
- A step takes and returns the values of ``optimizer.variables`` in their order. Variables that are
  added to that list while the step is traced are taken and returned after the others.
- A variable holds its array in ``_value``. Where it does not, what a step returns for the variables
  of a rule is assigned, which takes longer.
- Keras stores the state that a train function returns in an attribute of the model in every step.
  What is stored in a model goes through ``model._tracker.track``, which wraps a dict and what it
  holds, array by array. Where it goes another way, a step takes longer.
- Without ``_jax_state``, an exception in a callback loses the step before it, unless Keras itself
  has kept its state, and a hook at the start of a batch sees the rate of the batch before. Nothing
  else depends on the attribute.
- Keras takes the state out of the variables by ``model._get_jax_state``, which names the parts, and
  empties them if ``purge_model_variables`` is set. It makes the functions that evaluate and predict
  by ``make_test_function`` and ``make_predict_function``; they take and return fewer parts. An
  execution of several batches has its state in the variable ``state`` of ``iterator_step``. Where
  one of these is missing, Ctrl-C at the wrong moment loses the model, as with Keras alone.
"""

from __future__ import annotations

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
"""Keras's names for the parts of the state."""

_PARTS = frozenset(PARTS)

Place = tuple[int, int]
"""Part and index of a variable in the state."""

TRAINABLE, NON_TRAINABLE, OPTIMIZER, METRICS = range(4)


def steps_take_state() -> bool:
    """Return whether a training step of this backend takes the state of the model."""
    return "state" in inspect.signature(keras.Model.train_step).parameters


def sync_state(model: Any) -> None:
    """Write a model's state to its variables, even in the middle of an epoch."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def is_used_up(state: Any) -> bool:
    """Return whether a step has used up arrays of a state."""
    arrays = (array for part in state for array in part)
    return any(array.is_deleted() for array in arrays if hasattr(array, "is_deleted"))


def keep_state(model: Any, state: Any) -> None:
    """Store a state in a model where Keras has not, unless a step has used up its arrays."""
    if not is_used_up(state):
        store_state(model, state)


def store_state(model: Any, state: Any, parts: Iterable[str] = PARTS) -> None:
    """Store a state that a step has returned in a model, as Keras does a moment later."""
    # Keras's own way of setting attributes takes several times as long.
    vars(model)["_jax_state"] = dict(zip(parts, state, strict=True))


def return_state(model: Any) -> None:
    """Write the state that a model keeps to its variables, after an exception."""
    state = getattr(model, "_jax_state", None)
    if state and not is_used_up(state.values()):
        sync_state(model)


def state_between_batches(error: BaseException) -> Any:
    """Return the state that an execution of several batches had when it raised an exception.

    Return None if the exception was raised elsewhere.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "iterator_step":
            return frame.f_locals.get("state")
    return None


def show_values(model: Any, values: Iterable[tuple[Place, Any, float]]) -> None:
    """Show callbacks that look at a model values that are not in its state yet.

    Args:
        model: The model.
        values: Place, variable and value of each.
    """
    state = getattr(model, "_jax_state", None)
    synced = getattr(model, "_jax_state_synced", None)
    for (part, index), variable, value in values:
        if synced is not False or not state:
            variable.assign(value)
        if state and not synced:
            arrays = list(state[PARTS[part]])
            arrays[index] = keras.ops.convert_to_tensor(value, variable.dtype)
            state[PARTS[part]] = arrays


def optimizer_scope(model: Any, state: Any) -> contextlib.AbstractContextManager[Any]:
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
    """Return the place of a variable in the state; None if it is not among those of ``parts``."""
    for part in parts:
        for index, variable in enumerate(variables[part]):
            if variable is wanted:
                return part, index
    return None


def value_at(state: Any, place: Place) -> Any:
    """Return the value of a state at a place."""
    part, index = place
    return state[part][index]


def state_with(state: Any, values: Iterable[tuple[Place | None, Any]]) -> Any:
    """Return a state with other values at some places; values without a place are ignored."""
    parts = list(state)
    for place, value in values:
        if place is not None:
            part, index = place
            parts[part] = list(parts[part])
            parts[part][index] = value.astype(parts[part][index].dtype)
    return tuple(parts)


def append_extra_state(state: Any, own: Sequence[Any]) -> Any:
    """Return a state with the values of extra variables after those of the optimizer."""
    if not own:
        return state
    parts = list(state)
    parts[OPTIMIZER] = [*parts[OPTIMIZER], *(variable.value for variable in own)]
    return tuple(parts)


def store_extra_state(state: Any, own: Sequence[Any]) -> Any:
    """Store the extra values that a step has returned, and return the state without them."""
    if not own:
        return state
    parts = list(state)
    values, parts[OPTIMIZER] = parts[OPTIMIZER][-len(own) :], parts[OPTIMIZER][: -len(own)]
    for variable, value in zip(own, values, strict=True):
        if hasattr(variable, "_value"):
            variable._value = value  # `assign` takes several times as long
        else:
            variable.assign(value)
    return tuple(parts)


class StateKeeper:
    """Keeps the newest state of a model where Keras finds it, during a fit on JAX.

    A step uses up the arrays that go into it. Keras stores what a step returns a moment later, and
    what it takes out of the variables only after the first step. An exception in between would lose
    the model. The keeper stores both at once, while signals wait. It holds no array longer than
    Keras does.
    """

    _makers = ("make_test_function", "test_function"), ("make_predict_function", "predict_function")

    def __init__(self, model: Any) -> None:
        """Change nothing yet; `install` changes the model."""
        self.model = model
        self.signals = HeldSignals()
        self._originals: dict[tuple[int, str], tuple[Any, Any]] = {}
        """The objects whose methods the keeper replaces, and the instance attributes that they had
        under those names."""

    def install(self) -> None:
        """Wrap the methods that take the state out of the model's variables, and that store it."""
        self.signals.install()
        self._replace(self.model, "_get_jax_state", self._wrap_take)
        for maker, function in self._makers:
            self._replace(self.model, maker, functools.partial(self._wrap_maker, function))
        self._replace(getattr(self.model, "_tracker", None), "track", _track_all_but_state)

    def restore(self) -> None:
        """Put everything back on the model as it was."""
        while self._originals:
            (_, name), (owner, own) = self._originals.popitem()
            vars(owner).pop(name, None)
            if own is not None:
                object.__setattr__(owner, name, own)
        for _, name in self._makers:
            function = getattr(self.model, name, None)
            if isinstance(function, _KeptFunction):
                setattr(self.model, name, function.function)
        self.signals.restore()

    def _replace(self, owner: Any, name: str, replacement_for: Callable[[Any], Any]) -> None:
        present, key = getattr(owner, name, None), (id(owner), name)
        if present is not None and key not in self._originals:
            self._originals[key] = owner, vars(owner).get(name)
            object.__setattr__(owner, name, replacement_for(present))

    def _wrap_take(self, take: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that takes the state out of the variables and stores it."""

        def take_and_store(**options: Any) -> Any:
            self.signals.held = True
            try:
                state = take(**options)
                if options.get("purge_model_variables"):
                    store_state(self.model, state, [part for part in PARTS if options.get(part)])
                    if hasattr(self.model, "_jax_state_synced"):
                        vars(self.model)["_jax_state_synced"] = False
                return state
            finally:
                self.signals.release()

        return take_and_store

    def _wrap_maker(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes functions which store the state that they return."""

        def make_kept(*arguments: Any, **options: Any) -> Any:
            result = make(*arguments, **options)
            function = getattr(self.model, name, None)
            if function is not None and not isinstance(function, _KeptFunction):
                setattr(self.model, name, _KeptFunction(self, function))
            return result

        return make_kept


def _track_all_but_state(track: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that wraps what a model stores, but leaves a state as it is.

    Wrapping it takes a tenth of a small step.
    """

    def track_other(value: Any) -> Any:
        is_state = type(value) is dict and PARTS[0] in value and value.keys() <= _PARTS
        return value if is_state else track(value)

    return track_other


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
