"""How values get into the training steps of a fit, by backend.

- TensorFlow: ``train_step`` is compiled with a gather from a table variable at its head. The
  compiled function is kept on the model, so that later fits with other schedules compile nothing.
- JAX: the values of a batch travel beside its data into the jitted ``train_step``, kept likewise.
- Elsewhere, on models of legacy Keras, and where Keras is not as expected: values are assigned
  before each execution.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_lr.compiled import CompiledStep, compiled_step, moved
from keras_lr.feed import Feed, samples_in
from keras_lr.hyperparameters import Hyperparameter, setter
from keras_lr.readings import glance, number

BLOCK = 1024
"""Rows of values handed to the step at once; a longer epoch refills the table."""

PARTS = (
    *("trainable_variables", "non_trainable_variables"),
    *("optimizer_variables", "metrics_variables"),
)
"""What Keras calls the parts of the state that it hands to a step of JAX."""

Place = tuple[int, int]
"""Part and index of a variable in that state."""


class Engine:
    """Runs the executions of a fit with its values; this one sets them from the host.

    A variable keeps what it is set to. A plain attribute is set for the time of the execution only.
    """

    def __init__(self, drive: Any) -> None:
        """Serve a `keras_lr.drive.Drive`."""
        self.drive = drive
        self.size = drive.steps_per_execution
        self.parameters = [channel.parameter for channel in drive.channels]
        self.numbers = [p for p in self.parameters if p.variable is None]
        self.setters = [
            (i, setter(parameter.variable))
            for i, parameter in enumerate(self.parameters)
            if parameter.variable is not None
        ]
        self.last: list[float] = [math.nan] * len(self.parameters)
        self.said = False

    def run(self, data: Any) -> Any:
        """Stand in for ``model.train_function``: one execution."""
        drive = self.drive
        drive.go_on()
        with drive.lock:
            self.note(data)
            row = self.hold(self.size) if self.parameters else []
        self.assign(row)
        if self.numbers:
            with moved(self.numbers, row, self.parameters):
                logs = drive.plain(data)
        else:
            logs = drive.plain(data)
        drive.done(self.size, logs)
        return logs

    def note(self, data: Any) -> None:
        """Note what an execution finds: the samples so far, and the rate that nobody here moves."""
        drive = self.drive
        drive.loss.note(drive.batch, self.fetch)
        drive.loss.passed(samples_in(data))
        if drive.probe is not None:
            drive.probe.look()

    def fetch(self) -> Any:
        """Return the metric's count of samples, on a device where there is one."""
        return glance(self.drive.loss.variable)

    def settle(self, start: int, sizes: list[int]) -> None:
        """Give out what the compiled step has noted of executions from row ``start`` on."""

    def assign(self, row: list[float]) -> None:
        """Set the variables whose values have changed; all at an epoch's start, for others may."""
        begins = self.drive.batch == 0
        for i, set_to in self.setters:
            if begins or row[i] != self.last[i]:
                set_to(row[i])
        self.last = row

    def read(self, parameter: Hyperparameter) -> float:
        """Return a learning rate between two executions."""
        return parameter.read()

    def write(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate between two executions."""
        parameter.variable.assign(value)

    def put(self, values: list[tuple[Any, np.ndarray]]) -> None:
        """Set variables of metrics when an execution begins."""
        for variable, value in values:
            variable.assign(value)

    def catch_up(self) -> None:
        """Set at an epoch's end what was written after its last execution."""

    def weights(self) -> list[np.ndarray]:
        """Return the model's weights between two executions."""
        return self.drive.model.get_weights()

    def hold(self, count: int) -> list[float]:
        """Return the values of the present batch, which the whole execution will use."""
        drive = self.drive
        index = drive.row(count)
        if count > 1:
            drive.block[index : index + count] = drive.block[index]
            if not self.said:
                self.said = True
                warnings.warn(
                    "Hyperparameters are set from the host here: with "
                    f"steps_per_execution={count} they are held for {count} batches at a time.",
                    stacklevel=2,
                )
        return drive.block[index].tolist()

    def fall_back(self) -> None:
        """Make sure that setting values from the host has an effect.

        Raises:
            RuntimeError: If a number is baked into the compiled step and Keras let nothing else in.
        """
        baked = [parameter.name for parameter in self.numbers]
        if baked and not self.drive.model.run_eagerly:
            known = isinstance(self.drive.model, keras.Model)
            raise RuntimeError(
                f"This Keras ({keras.__version__ if known else 'legacy'}) compiles "
                f"{', '.join(baked)} into the training step in a way that keras_lr does not know, "
                "so that it cannot move. "
                "Compile the model with run_eagerly=True, or move the learning rate alone."
            )


class TensorFlowEngine(Engine):
    """Reads tables inside the compiled step: exact whatever the number of steps per execution.

    The step also notes what nobody could read in each step without waiting: the samples so far, and
    the rate that nobody here moves.
    """

    def __init__(self, drive: Any) -> None:
        """Compile the step, or use the one that is kept."""
        super().__init__(drive)
        parameters, numbers, model, probe = self.parameters, self.numbers, drive.model, drive.probe
        self.rows = max(BLOCK, self.size)
        self.rate = None if probe is None or probe.schedule is not None else probe.variable
        noted = [variable for variable in (drive.loss.variable, self.rate) if variable is not None]
        if model.distribute_strategy.num_replicas_in_sync > 1:
            noted = []
        self.noting = bool(noted)
        self.asking = self.noting and probe is not None and self.rate is None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            import tensorflow as tf

            def column(dtype: str) -> Any:
                return keras.Variable(np.zeros(self.rows), dtype=dtype, trainable=False)

            with model.distribute_strategy.scope():
                step.tables = [column("float32") for _ in parameters]
                step.notes = [column(variable.dtype) for variable in noted]
                step.position = keras.Variable(
                    0, trainable=False, dtype="int", aggregation="only_first_replica", name="batch"
                )

            # Keras's own operations on variables would be several where one does.
            tables = [table._value for table in step.tables]
            notes = [(a.handle, b._value) for a, b in zip(step.notes, noted, strict=True)]
            advance = step.position._value.assign_add

            def driven_step(data: Any) -> Any:
                step.traced = True
                place = advance(1)
                values = [tf.gather(table, place) for table in tables]
                for note, variable in notes:
                    tf.raw_ops.ResourceScatterUpdate(resource=note, indices=place, updates=variable)
                for parameter, value in zip(parameters, values, strict=True):
                    if parameter.variable is not None:
                        parameter.variable.assign(value)
                with moved(numbers, values, parameters):
                    return plain_step(data)

            return driven_step

        self.step = None
        if parameters or noted:
            key = *(parameter.key for parameter in parameters), *map(id, noted)
            self.step = compiled_step(drive, key, build)
        self.loaded: Any = None
        if self.step is None:
            self.fall_back()

    def run(self, data: Any) -> Any:
        step, drive = self.step, self.drive
        if step is None:
            return super().run(data)
        drive.go_on()
        with drive.lock:
            if not self.noting:
                self.note(data)
            index = drive.row(self.size)
        if drive.block is not self.loaded:
            self.load(index)
        if not step.traced:
            return self.first(step, data)
        if self.asking:
            drive.probe.look()
        logs = step.function(data)
        drive.done(self.size, logs)
        return logs

    def load(self, index: int) -> None:
        """Hand the block to the compiled step."""
        step, block = self.step, self.drive.block
        assert step is not None
        for i, table in enumerate(step.tables):
            rows = np.zeros(self.rows, np.float32)
            rows[: len(block)] = block[:, i]
            table.assign(rows)
        step.position.assign(index - 1)
        self.loaded = block

    def first(self, step: CompiledStep, data: Any) -> Any:
        """Run the execution that traces; go on from the host if Keras left our step out of it."""
        drive = self.drive
        if self.parameters:
            self.assign(drive.block[drive.row(self.size)].tolist())
        logs = step.function(data)
        if not step.traced:
            vars(drive.model)["_keras_lr_steps"].clear()
            self.step = None
            self.fall_back()
            if self.noting:
                self.note(data)
        elif self.asking:
            drive.probe.look()
        drive.done(self.size, logs)
        return logs

    def settle(self, start: int, sizes: list[int]) -> None:
        if self.step is None or not self.noting:
            return
        drive = self.drive
        before = np.cumsum(sizes) - sizes
        notes = [np.asarray(note.value)[start + before] for note in self.step.notes]
        if self.rate is not None:
            drive.probe.seen += notes.pop().tolist()
        counts = notes.pop() if notes else np.zeros(len(sizes))
        drive.loss.noted(drive.block_start + start + before, counts)


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


def engine_for(drive: Any) -> Engine:
    """Choose how values get into the steps of this fit."""
    if not isinstance(drive.model, keras.Model):
        engine = Engine(drive)
        engine.fall_back()
        return engine
    engines = {"tensorflow": TensorFlowEngine, "jax": JaxEngine}
    return engines.get(keras.backend.backend(), Engine)(drive)
