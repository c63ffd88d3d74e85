"""How values get into the training steps on JAX.

Those of a batch travel beside its data into the jitted ``train_step``, which is kept on the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_lr.compiled import CompiledStep, compiled_step, moved
from keras_lr.engine import BLOCK, Engine
from keras_lr.feed import Feed
from keras_lr.hyperparameters import Hyperparameter
from keras_lr.readings import number

PARTS = (
    *("trainable_variables", "non_trainable_variables"),
    *("optimizer_variables", "metrics_variables"),
)
"""What Keras calls the parts of the state that it hands to a step of JAX."""

Place = tuple[int, int]
"""Part and index of a variable in that state."""


class JaxEngine(Engine):
    """Sends a table of values into the jitted step, and the place of each batch in it."""

    def __init__(self, drive: Any) -> None:
        """Compile the step, or use the one that is kept."""
        super().__init__(drive)
        parameters, numbers, model = self.parameters, self.numbers, drive.model
        self.found: dict[tuple[int, str], Place | None] = {}
        self.places = places = [self.place(parameter) for parameter in parameters]
        self.rate = None if drive.probe is None else self.place(drive.probe.parameter)
        self.counter = _index(model.metrics_variables, drive.loss.variable)
        self.leaf: Any = None
        self.writes: dict[Place, np.ndarray] = {}
        self.state: Any = None
        self.seen: Any = None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            def driven_step(state: Any, data: Any) -> Any:
                step.traced = True
                (table, place), data = data
                values = table[place]
                with moved(numbers, values, parameters):
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
            self.step = compiled_step(drive, tuple(p.key for p in parameters), build)
        if self.step is None:
            self.fall_back()
        self.feed = Feed(drive, self.step is not None, max(BLOCK, self.size))

    def read(self, parameter: Hyperparameter) -> float:
        place = self.place(parameter)
        if place in self.writes:
            return number(self.writes[place])
        if self.drive.open and self.state is not None and place is not None:
            return number(_at(self.state, place))
        self.drive.model.jax_state_sync()
        return parameter.read()

    def write(self, parameter: Hyperparameter, value: float) -> None:
        place = self.place(parameter)
        if place is not None:
            self.writes[place] = np.asarray(value)

    def weights(self) -> list[np.ndarray]:
        model = self.drive.model
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
        model = self.drive.model
        parts = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
        return *parts, model.metrics_variables

    def placed(self, state: Any, values: Any) -> Any:
        """Return the state with ``values`` in place of the variables that are moved."""
        return _replaced(state, zip(self.places, values, strict=True))

    def put(self, values: list[tuple[Any, np.ndarray]]) -> None:
        places = {id(v): (3, i) for i, v in enumerate(self.drive.model.metrics_variables)}
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
        drive, feed, counter = self.drive, self.feed, self.counter
        drive.go_on()
        if self.writes:
            state = self.written(state)
        with drive.lock:
            drive.loss.note(drive.batch, lambda: number(state[3][counter or 0]))
            if drive.probe is not None:
                self.look(state)
            index = 0 if self.step is None else drive.row(self.size)
        if self.step is not None:
            feed.begin(iterator, index)
            logs, state = self.step.function(state, feed)
        else:
            if drive.channels:
                state = self.placed(state, np.asarray(self.hold(self.size), np.float32))
            feed.begin(iterator, 0)
            logs, state = drive.plain(state, feed)
        if self.rate is not None:
            self.leaf = _at(state, self.rate)
        self.state = state
        feed.iterator = None  # An exception may end the fit, and would keep its data.
        try:
            drive.done(feed.used, logs, None if counter is None else state[3][counter])
        except BaseException:
            # Keras has not yet taken what the step returned, and its own arrays are used up.
            drive.model._jax_state = dict(zip(PARTS, state, strict=True))
            raise
        return logs, state

    def look(self, state: Any) -> None:
        """Read the rate, which waits for the device, only if the host has replaced its array."""
        if self.rate is not None and (self.seen is None or _at(state, self.rate) is not self.leaf):
            self.seen = number(_at(state, self.rate))
        self.drive.probe.look(self.seen)


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
