"""How values get into the training steps on JAX.

Those of a batch travel beside its data into the jitted ``train_step``, which is kept on the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.engines.base import BLOCK, Engine
from keras_lr._keras.host_values import samples_in, to_float
from keras_lr._keras.hyperparameters import Hyperparameter
from keras_lr._keras.train_step import CompiledStep, compiled_step, hyperparameters_set

PARTS = (
    *("trainable_variables", "non_trainable_variables"),
    *("optimizer_variables", "metrics_variables"),
)
"""What Keras calls the parts of the state that it hands to a step of JAX."""

Place = tuple[int, int]
"""Part and index of a variable in that state."""


class JaxEngine(Engine):
    """Sends a table of values into the jitted step, and the place of each batch in it."""

    def __init__(self, session: Any) -> None:
        """Compile the step, or use the one that is kept."""
        super().__init__(session)
        parameters, numbers, model = self.parameters, self.numbers, session.model
        self.found: dict[tuple[int, str], Place | None] = {}
        self.places = places = [self.place(parameter) for parameter in parameters]
        self.rate = (
            None if session.rate_reader is None else self.place(session.rate_reader.parameter)
        )
        self.counter = _index(model.metrics_variables, session.sample_counter.variable)
        self.leaf: Any = None
        self.writes: dict[Place, np.ndarray] = {}
        self.state: Any = None
        self.seen: Any = None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            def driven_step(state: Any, data: Any) -> Any:
                step.traced = True
                (table, place), data = data
                values = table[place]
                with hyperparameters_set(numbers, values, parameters):
                    return plain_step(_replaced(state, zip(places, values, strict=True)), data)

            return driven_step

        for place, parameter in zip(self.places, parameters, strict=True):
            if place is None and parameter.variable is not None:
                raise RuntimeError(
                    f"Keras does not hand the {parameter.name} of the optimizer "
                    f"{parameter.optimizer.name!r} to the training step, so that on JAX it cannot "
                    "move. Let the model's non_trainable_variables include the optimizer's "
                    "variables, and let train_step pass them through stateless_apply."
                )
        self.step = None
        if parameters:
            self.step = compiled_step(session, tuple(p.key for p in parameters), build)
        if self.step is None:
            self.fall_back()
        self.feed = ScheduledBatches(session, self.step is not None, max(BLOCK, self.size))

    def read(self, parameter: Hyperparameter) -> float:
        place = self.place(parameter)
        if place in self.writes:
            return to_float(self.writes[place])
        if self.session.open and self.state is not None and place is not None:
            return to_float(_at(self.state, place))
        self.session.model.jax_state_sync()
        return parameter.read()

    def write(self, parameter: Hyperparameter, value: float) -> None:
        place = self.place(parameter)
        if place is not None:
            self.writes[place] = np.asarray(value)

    def weights(self) -> list[np.ndarray]:
        model = self.session.model
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        places = {id(variable): i for i, variable in enumerate(variables)}
        values = [*self.state[0], *self.state[1]]
        return [np.array(values[places[id(weight)]]) for weight in model.weights]

    def place(self, parameter: Hyperparameter) -> Place | None:
        """Return where in the state a variable stands."""
        if parameter.key not in self.found:
            self.found[parameter.key] = self.find(parameter.variable)
        return self.found[parameter.key]

    def find(self, variable: Any) -> Place | None:
        """Look for a variable in the state."""
        # A model with a training step of its own may keep another optimizer beside its weights.
        for part in (2, 1):
            index = _index(self.variables[part], variable)
            if index is not None:
                return part, index
        return None

    @property
    def variables(self) -> tuple[list[Any], ...]:
        """What the parts of the state hold the values of."""
        model = self.session.model
        parts = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
        return *parts, model.metrics_variables

    def placed(self, state: Any, values: Any) -> Any:
        """Return the state with ``values`` in place of the variables that are moved."""
        return _replaced(state, zip(self.places, values, strict=True))

    def put(self, values: list[tuple[Any, np.ndarray]]) -> None:
        places = {id(v): (3, i) for i, v in enumerate(self.session.model.metrics_variables)}
        self.writes |= {places[id(variable)]: value for variable, value in values}

    def catch_up(self) -> None:
        # From here to the next execution the variables hold the values.
        self.state = None
        writes, self.writes = self.writes, {}
        for place, value in writes.items():
            _at(self.variables, place).assign(value)

    def written(self, state: Any) -> Any:
        """Return the state with what was set since the last execution."""
        writes, self.writes = self.writes, {}
        return _replaced(state, writes.items())

    def run(self, state: Any, iterator: Any) -> Any:  # type: ignore[override]
        session, feed, counter = self.session, self.feed, self.counter
        session.before_execution()
        if self.writes:
            state = self.written(state)
        with session.lock:
            session.sample_counter.note_count(
                session.batch, lambda: to_float(state[3][counter or 0])
            )
            if session.rate_reader is not None:
                self.look(state)
            index = 0 if self.step is None else session.row(self.size)
        if self.step is not None:
            feed.begin(iterator, index)
            logs, state = self.step.function(state, feed)
        else:
            if session.tracks:
                state = self.placed(state, np.asarray(self.hold(self.size), np.float32))
            feed.begin(iterator, 0)
            logs, state = session.plain(state, feed)
        if self.rate is not None:
            self.leaf = _at(state, self.rate)
        self.state = state
        feed.iterator = None  # An exception may end the fit, and would keep its data.
        try:
            session.after_execution(feed.used, logs, None if counter is None else state[3][counter])
        except BaseException:
            # Keras has not yet taken what the step returned, and its own arrays are used up.
            session.model._jax_state = dict(zip(PARTS, state, strict=True))
            raise
        return logs, state

    def look(self, state: Any) -> None:
        """Read the rate, which waits for the device, only if the host has replaced its array."""
        if self.rate is not None and (self.seen is None or _at(state, self.rate) is not self.leaf):
            self.seen = to_float(_at(state, self.rate))
        self.session.rate_reader.look(self.seen)


def _index(variables: list[Any], wanted: Any) -> int | None:
    return next((i for i, variable in enumerate(variables) if variable is wanted), None)


def _at(state: Any, place: Place) -> Any:
    part, index = place
    return state[part][index]


def _replaced(state: Any, values: Iterable[tuple[Place | None, Any]]) -> Any:
    """Return a state of JAX with other values at some places; what has no place is left out."""
    parts = list(state)
    for place, value in values:
        if place is not None:
            part, index = place
            parts[part] = list(parts[part])
            parts[part][index] = value.astype(parts[part][index].dtype)
    return tuple(parts)


class ScheduledBatches:
    """The batches of an execution, counted, and each with where its values stand."""

    indices: ClassVar[list[Any]] = []
    """Numbers that need not travel to the device in each step."""

    def __init__(self, session: Any, with_values: bool, rows: int) -> None:
        self.session = session
        self.with_values = with_values
        self.rows = rows
        self.spread = keras.distribution.distribution() is not None
        self.iterator: Any = None
        self.index = self.used = 0
        self.loaded: Any = None
        self.table: Any = None

    def begin(self, iterator: Any, index: int) -> None:
        """Begin an execution at a row of the drive's block."""
        self.iterator = iterator
        self.index = index
        self.used = 0
        if self.with_values and self.session.block is not self.loaded:
            self.load(self.session.block)

    def load(self, block: NDArray[np.float32]) -> None:
        """Put a block on the device, where a single device computes."""
        self.loaded = block
        self.table = np.zeros((self.rows, block.shape[1]), np.float32)
        self.table[: len(block)] = block
        if not self.spread:
            self.table = keras.ops.convert_to_tensor(self.table)
            for i in range(len(self.indices), len(block)):
                self.indices.append(keras.ops.convert_to_tensor(i, "int32"))

    def __iter__(self) -> ScheduledBatches:
        return self

    def __next__(self) -> Any:
        data = next(self.iterator)
        self.session.sample_counter.count_batch(samples_in(data))
        index = self.index + self.used
        self.used += 1
        if not self.with_values:
            return data
        return (self.table, np.int32(index) if self.spread else self.indices[index]), data
