"""`StatelessEngine`: runs a fit whose train function takes and returns the state, as on JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_lr._fit.engines.base import Arguments, Engine, Result, Session
from keras_lr._keras.fits.held_signals import HeldSignals
from keras_lr._keras.fits.jax_state import (
    METRICS,
    NON_TRAINABLE,
    OPTIMIZER,
    Place,
    StateKeeper,
    append_extra_state,
    keep_state,
    optimizer_scope,
    place_of,
    return_state,
    show_values,
    state_between_batches,
    state_with,
    store_extra_state,
    store_state,
    sync_state,
    value_at,
    variables_of_state,
)
from keras_lr._keras.host_values import count_samples, to_float
from keras_lr._keras.rates.hyperparameters import Hyperparameter


class StatelessEngine(Engine):
    """Sets the values in the state that goes into a step.

    The model's variables are empty from the first execution of an epoch to its end. Their values
    are in ``state``, as the last execution returned it. Changes for the next execution wait in
    ``writes``.
    """

    def __init__(self, session: Session) -> None:
        """Find the variables in the state.

        Raises:
            RuntimeError: If the state does not hold a hyperparameter's variable.
        """
        super().__init__(session)
        self.keeper = StateKeeper(session.model)
        self.signals = self.keeper.signals
        self._found: dict[tuple[int, str], Place | None] = {}
        self.places = [self.find_place(parameter) for parameter in self.parameters]
        for place, parameter in zip(self.places, self.parameters, strict=True):
            if place is None and parameter.variable is not None:
                raise RuntimeError(
                    f"Keras does not hand the {parameter.name} of the optimizer "
                    f"{parameter.optimizer.name!r} to the training step, so that on JAX it cannot "
                    "move. If the model does not train with it, as with one left from before a "
                    "`compile`, name the one that it does. Otherwise let its "
                    "non_trainable_variables include the optimizer's variables, and let train_step "
                    "pass them through stateless_apply."
                )
        self.rates = [
            _CachedRate(self.find_place(reader.parameter)) for reader in session.rate_readers
        ]
        self._counted: tuple[Any, Place | None] = None, None
        """The variable that counts the samples, and its place in the state."""
        self.state: Any = None
        self.writes: dict[Place, np.ndarray] = {}
        self.batches = CountedBatches(session, self.signals)
        self.extra = [variable for parameter in self.parameters for variable in parameter.state]
        """Variables of this package, whose values go into the state after the optimizer's."""

    @property
    def variables(self) -> tuple[list[Any], ...]:
        """The variables whose values the parts of the state hold."""
        return variables_of_state(self.session.model)

    def find_place(self, parameter: Hyperparameter) -> Place | None:
        """Return the place of a hyperparameter's variable in the state."""
        if parameter.key not in self._found:
            # A model with its own training step may keep another optimizer among its weights.
            self._found[parameter.key] = place_of(
                self.variables, parameter.variable, (OPTIMIZER, NON_TRAINABLE)
            )
        return self._found[parameter.key]

    def _count_in(self, state: Any) -> Any:
        """Return the number of samples in a state; None if no variable counts them.

        Which variable counts them may become known only in the first step.
        """
        variable = self.session.sample_counter.variable
        if variable is None:
            return None
        if variable is not self._counted[0]:
            parts = METRICS, NON_TRAINABLE
            self._counted = variable, place_of(self.variables, variable, parts)
        place = self._counted[1]
        # The variables are empty here: one that is not in the state has counted nothing.
        return 0.0 if place is None else value_at(state, place)

    def install(self) -> None:
        self.keeper.install()

    def restore(self) -> None:
        self.keeper.restore()

    def keep_state_of(self, arguments: Arguments, error: BaseException) -> None:
        model, between = self.session.model, state_between_batches(error)
        self.signals.held = True
        try:
            # Keras has emptied the variables, and may know of no state yet.
            keep_state(
                model,
                arguments[0] if between is None else store_extra_state(between, self.extra),
            )
            return_state(model)
        finally:
            self.signals.release()

    def note_inputs(self, arguments: Arguments) -> None:
        state, session = arguments[0], self.session
        session.sample_counter.note_count(session.batch, lambda: to_float(self._count_in(state)))
        for reader, rate in zip(session.rate_readers, self.rates, strict=True):
            if reader.variable is not None and rate.place is not None:
                reader.note(rate.read_from(state))
            elif reader.is_deferred or reader.optimizer is None:
                reader.note_rate()
            else:  # the optimizer computes its rate
                with optimizer_scope(session.model, state):
                    reader.note_rate()

    def with_values(self, arguments: Arguments, values: list[float]) -> Arguments:
        state, iterator = arguments
        moved = zip(self.places, np.asarray(values, np.float32), strict=True)
        return state_with(state, moved), iterator

    def show_values(self, values: list[float]) -> None:
        moved = zip(self.places, self.parameters, values, strict=True)
        show_values(
            self.session.model,
            [(place, one.variable, value) for place, one, value in moved if place is not None],
        )

    def call_function(self, function: Any, arguments: Arguments, row: int | None = None) -> Result:
        state, iterator = arguments
        self.batches.start(iterator, row, keep=self.step is not None and not self.step.traced)
        if not self.signals.installed:
            self.signals.install()
        self.signals.held = True
        try:
            logs, state = function(append_extra_state(state, self.extra), self.batches)
            state = store_extra_state(state, self.extra)
            # Keras would store the state only later, although the arrays that it holds are used up.
            # Once it is stored, no exception loses it.
            store_state(self.session.model, state)
            return (logs, state), self.batches.used
        finally:
            self.batches.release()
            self.signals.release()

    def can_retry(self) -> bool:
        return self.batches.used > 0

    def arguments_to_retry(self, arguments: Arguments) -> Arguments:
        state, iterator = arguments
        return state, itertools.chain(self.batches.take_back(), iterator)

    def report(self, result: Result) -> Any:
        (logs, state), count = result
        self.state = state
        for rate in self.rates:
            rate.remember(state)
        self.session.after_execution(count, logs, self._count_in(state))
        return logs, state

    def read_rate(self, parameter: Hyperparameter) -> float:
        place = self.find_place(parameter)
        if place in self.writes:
            return to_float(self.writes[place])
        if self.session.open and self.state is not None and place is not None:
            return to_float(value_at(self.state, place))
        sync_state(self.session.model)
        return parameter.read()

    def write_rate(self, parameter: Hyperparameter, value: float) -> None:
        place = self.find_place(parameter)
        if place is not None:
            self.writes[place] = np.asarray(value)

    def write_metrics(self, values: list[tuple[Any, np.ndarray]]) -> None:
        variables = self.session.model.metrics_variables
        places = {id(variable): (METRICS, index) for index, variable in enumerate(variables)}
        # The state has no variable of a metric that the model does not list.
        found = [(places.get(id(variable)), value) for variable, value in values]
        self.writes |= {place: value for place, value in found if place is not None}

    def with_writes(self, arguments: Arguments) -> Arguments:
        if not self.writes:
            return arguments
        writes, self.writes = self.writes, {}
        state, iterator = arguments
        return state_with(state, writes.items()), iterator

    def write_to_variables(self) -> None:
        # From here to the next execution the variables hold the values.
        self.state = None
        writes, self.writes = self.writes, {}
        for place, value in writes.items():
            value_at(self.variables, place).assign(value)

    def read_weights(self) -> list[np.ndarray]:
        places: dict[int, Place] = {
            id(variable): (part, index)
            for part, variables in enumerate(self.variables)
            for index, variable in enumerate(variables)
        }
        weights = self.session.model.weights
        return [np.array(value_at(self.state, places[id(weight)])) for weight in weights]


class _CachedRate:
    """A rate in the state, read only if the host has replaced its array.

    Reading it waits for the device.
    """

    def __init__(self, place: Place | None) -> None:
        self.place = place
        self.array: Any = None
        self.value = np.nan

    def read_from(self, state: Any) -> float:
        """Return the rate in a state that goes into a step."""
        array = value_at(state, self.place)  # type: ignore[arg-type]
        if self.array is None or array is not self.array:
            self.value = to_float(array)
        return self.value

    def remember(self, state: Any) -> None:
        """Remember the array of a state that a step has returned."""
        if self.place is not None:
            self.array = value_at(state, self.place)


class CountedBatches:
    """Iterator over the batches of an execution that counts them and their samples."""

    def __init__(self, session: Session, signals: HeldSignals) -> None:
        """Count the samples for a session; signals are let through while waiting for data."""
        self.session, self.signals = session, signals
        self.used = 0
        """Batches handed out in this execution."""
        self.row: int | None = None
        """Row of the first batch in the table of values, if the step reads the table."""
        self._iterator: Any = None
        self._samples: int | None = 0

    def start(self, iterator: Iterator[Any], row: int | None, keep: bool) -> None:
        """Begin an execution that takes its batches from ``iterator``.

        Args:
            iterator: Iterator over the batches.
            row: Row of the first batch in the table of values, if it is to be handed out too.
            keep: Whether to keep the batches, so that they can be taken back.
        """
        self._iterator, self.used, self.row = iterator, 0, row
        self._taken: list[Any] | None = [] if keep else None
        self._samples = self.session.sample_counter.samples

    def release(self) -> None:
        """Release the iterator, so that an exception that ends the fit does not keep its data."""
        self._iterator = None

    def take_back(self) -> list[Any]:
        """Return the batches handed out, and undo their counting."""
        self.session.sample_counter.samples = self._samples
        return self._taken or []

    def __iter__(self) -> CountedBatches:
        return self

    def __next__(self) -> Any:
        self.signals.release()
        try:
            batch = next(self._iterator)
        finally:
            self.signals.held = True
        self.session.sample_counter.count_batch(count_samples(batch))
        self.used += 1
        if self._taken is not None:
            self._taken.append(batch)
        return batch
