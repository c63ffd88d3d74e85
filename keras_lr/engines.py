"""How values get into the training steps of a fit, by backend.

- TensorFlow: ``train_step`` is compiled with a gather from a table variable at its head. The
  compiled function is kept on the model, so that later fits with other schedules compile nothing.
- JAX: the values of a batch travel beside its data into the jitted ``train_step``, kept likewise.
- Elsewhere, on models of legacy Keras, and where Keras is not as expected: values are assigned
  before each execution.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_lr.hyperparameters import Hyperparameter, host_value, traced

BLOCK = 1024
"""Rows of values handed to the step at once; a longer epoch refills the table."""

Place = tuple[int, int]
"""Part and index of a variable in the state that Keras hands to a step of JAX."""


class Engine:
    """Runs the executions of a fit with its values; this one sets them from the host.

    A variable keeps what it is set to. A plain attribute is set for the time of the execution only.
    """

    def __init__(self, drive: Any) -> None:
        """Serve a `keras_lr.drive.Drive`."""
        self.drive = drive
        self.last: list[float | None] = [None] * len(drive.channels)
        self.said = False
        self.samples: int | None = 0

    def run(self, data: Any) -> Any:
        """Stand in for ``model.train_function``: one execution."""
        drive = self.drive
        count = drive.steps_per_execution
        self.note(data)
        if drive.channels:
            parameters = [channel.parameter for channel in drive.channels]
            row = self.hold(count)
            self.assign(row)
            with moved([p for p in parameters if p.variable is None], row, parameters):
                logs = drive.plain(data)
        else:
            logs = drive.plain(data)
        drive.done(count, logs)
        return logs

    def note(self, data: Any) -> None:
        """Note what an execution finds: the samples so far, and the rate that nobody here moves."""
        drive = self.drive
        if drive.batch == 0:
            self.samples = 0
        drive.loss.note(drive.batch, self.samples, self.fetch)
        size = samples_in(data)
        self.samples = None if self.samples is None or size is None else self.samples + size
        if drive.probe is not None:
            drive.probe.look()

    def fetch(self) -> Any:
        """Return the metric's count of samples, on a device where there is one."""
        value = self.drive.loss.variable.value
        if hasattr(value, "value"):
            value = value.value
        return value() if callable(value) else float(host_value(value))

    def assign(self, row: list[float]) -> None:
        """Set the variables whose values have changed."""
        for i, channel in enumerate(self.drive.channels):
            if row[i] != self.last[i] and channel.parameter.variable is not None:
                channel.parameter.variable.assign(row[i])
            self.last[i] = row[i]

    def read(self, parameter: Hyperparameter) -> float:
        """Return a learning rate between two executions."""
        return parameter.read()

    def write(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate between two executions."""
        parameter.variable.assign(value)

    def ends_epoch(self, error: Exception) -> bool:
        """Return whether an execution failed because there are no more data."""
        return isinstance(error, StopIteration) or type(error).__name__ == "OutOfRangeError"

    def total(self) -> Any:
        """Return the epoch's samples so far where the metric cannot be read; else None."""
        return None

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
        baked = [c.parameter.name for c in self.drive.channels if c.parameter.variable is None]
        if baked and not self.drive.model.run_eagerly:
            known = isinstance(self.drive.model, keras.Model)
            raise RuntimeError(
                f"This Keras ({keras.__version__ if known else 'legacy'}) compiles "
                f"{', '.join(baked)} into the training step in a way that keras_lr does not know, "
                "so that it cannot move. "
                "Compile the model with run_eagerly=True, or move the learning rate alone."
            )


@dataclasses.dataclass
class CompiledStep:
    """A train function that takes its hyperparameters from the drive, kept on the model."""

    plain: Any
    """The model's own train function; another one means that the model was recompiled."""
    function: Any = None
    table: Any = None
    position: Any = None
    traced: bool = False
    """Whether Keras has called the step that was compiled in."""


def compiled_step(drive: Any, parameters: list[Hyperparameter], build: Any) -> CompiledStep | None:
    """Return the model's train function with ``build`` compiled in, or None if that fails."""
    model = drive.model
    kept = vars(model).get("_keras_lr_steps")
    if kept is None:
        kept = {}
        object.__setattr__(model, "_keras_lr_steps", kept)
    key = drive.steps_per_execution, *(parameter.key for parameter in parameters)
    plain = model.train_function
    if key in kept and kept[key].plain is plain:
        return kept[key]
    step = CompiledStep(plain)
    own = vars(model).get("train_step")
    driven = build(step, model.train_step)
    object.__setattr__(model, "train_step", driven)
    try:
        drive.make_train_function()
        step.function = model.train_function
    except (AttributeError, TypeError, NotImplementedError):
        step.function = None
    finally:
        if own is None:
            object.__delattr__(model, "train_step")
        else:
            object.__setattr__(model, "train_step", own)
        model.train_function = plain
    if step.function is None or step.function is plain:
        return None
    kept[key] = step
    return step


@contextlib.contextmanager
def moved(some: list[Hyperparameter], values: Any, every: list[Hyperparameter]) -> Iterator[None]:
    """Let a training step see ``values`` as the attributes ``some`` of all hyperparameters.

    What was there is put back as a plain float, also where another replica's trace runs at the same
    time.
    """
    plain = [float(getattr(parameter.optimizer, parameter.name)) for parameter in some]
    for number, parameter in zip(plain, some, strict=True):
        value = values[every.index(parameter)]
        shown = value if isinstance(value, float) else traced(number, value)
        setattr(parameter.optimizer, parameter.name, shown)
    try:
        yield
    finally:
        for number, parameter in zip(plain, some, strict=True):
            setattr(parameter.optimizer, parameter.name, number)


class TensorFlowEngine(Engine):
    """Reads a table inside the compiled step: exact whatever the number of steps per execution."""

    def __init__(self, drive: Any) -> None:
        """Compile the step, or use the one that is kept."""
        super().__init__(drive)
        parameters = [channel.parameter for channel in drive.channels]
        variables = [i for i, parameter in enumerate(parameters) if parameter.variable is not None]
        numbers = [parameter for parameter in parameters if parameter.variable is None]
        model = drive.model

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            with model.distribute_strategy.scope():
                step.table = keras.Variable(
                    np.zeros((max(BLOCK, model.steps_per_execution), len(parameters)), np.float32),
                    trainable=False,
                    name="values",
                )
                step.position = keras.Variable(
                    0, trainable=False, dtype="int", aggregation="only_first_replica", name="batch"
                )

            def driven_step(data: Any) -> Any:
                step.traced = True
                values = keras.ops.take(step.table, step.position, axis=0)
                step.position.assign_add(1)
                for place in variables:
                    parameters[place].variable.assign(values[place])
                with moved(numbers, values, parameters):
                    return plain_step(data)

            return driven_step

        self.step = compiled_step(drive, parameters, build) if parameters else None
        self.loaded: Any = None
        if self.step is None:
            self.fall_back()

    def run(self, data: Any) -> Any:
        step, drive = self.step, self.drive
        if step is None:
            return super().run(data)
        count = drive.steps_per_execution
        self.note(data)
        index = drive.row(count)
        if drive.block is not self.loaded:
            self.load(index)
        if not step.traced:
            return self.first(step, data, count)
        logs = step.function(data)
        drive.done(count, logs)
        return logs

    def load(self, index: int) -> None:
        """Hand the block to the compiled step."""
        step, block = self.step, self.drive.block
        assert step is not None
        rows = np.zeros(step.table.shape, np.float32)
        rows[: len(block)] = block
        step.table.assign(rows)
        step.position.assign(index)
        self.loaded = block

    def first(self, step: CompiledStep, data: Any, count: int) -> Any:
        """Run the execution that traces; go on from the host if Keras left our step out of it."""
        drive = self.drive
        self.assign(drive.block[drive.row(count)].tolist())
        logs = step.function(data)
        if not step.traced:
            vars(drive.model)["_keras_lr_steps"].clear()
            self.step = None
            self.fall_back()
        drive.done(count, logs)
        return logs


class JaxEngine(Engine):
    """Sends the values of a batch into the jitted step beside the data of the batch."""

    def __init__(self, drive: Any) -> None:
        """Compile the step, or use the one that is kept."""
        super().__init__(drive)
        model = drive.model
        parameters = [channel.parameter for channel in drive.channels]
        numbers = [parameter for parameter in parameters if parameter.variable is None]
        self.places = [self.place(parameter) for parameter in parameters]
        self.rate = None if drive.probe is None else self.place(drive.probe.parameter)
        counted = drive.loss.variable
        self.count = _index(model.metrics_variables, counted)
        self.leaf: Any = None
        self.writes: dict[Place, np.ndarray] = {}
        self.state: Any = None
        self.seen: Any = None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            def driven_step(state: Any, data: Any) -> Any:
                step.traced = True
                values, data = data
                with moved(numbers, values, parameters):
                    return plain_step(self.placed(state, values), data)

            return driven_step

        for place, parameter in zip(self.places, parameters, strict=True):
            if place is None and parameter.variable is not None:
                raise RuntimeError(
                    f"Keras does not hand the {parameter.name} of the optimizer "
                    f"{parameter.optimizer.name!r} to the training step, so that on JAX it cannot "
                    "move. Let the model's non_trainable_variables include the optimizer's "
                    "variables, and let train_step pass them through stateless_apply."
                )
        self.step = compiled_step(drive, parameters, build) if parameters else None
        if self.step is None:
            self.fall_back()

    def read(self, parameter: Hyperparameter) -> float:
        place = self.place(parameter)
        if self.state is None or place is None:
            return parameter.read()
        return float(self.writes.get(place, _at(self.state, place)))

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
        model = self.drive.model
        # A model with a training step of its own may keep another optimizer beside its weights.
        for part, variables in ((2, model.optimizer.variables), (1, model.non_trainable_variables)):
            index = _index(variables, parameter.variable)
            if index is not None:
                return part, index
        return None

    def placed(self, state: Any, values: Any) -> Any:
        """Return the state with ``values`` in place of the variables that are moved."""
        return _replaced(state, zip(self.places, values, strict=True))

    def written(self, state: Any) -> Any:
        """Return the state with what was set since the last execution."""
        writes, self.writes = self.writes, {}
        return _replaced(state, writes.items())

    def run(self, state: Any, iterator: Any) -> Any:  # type: ignore[override]
        drive, step = self.drive, self.step
        count = drive.steps_per_execution
        if self.writes:
            state = self.written(state)
        if drive.batch == 0:
            self.samples = 0
        drive.loss.note(drive.batch, self.samples, lambda: float(state[3][self.count or 0]))
        if drive.probe is not None:
            self.look(state)
        if step is not None:
            drive.row(count)
        feed = _Feed(drive, iterator, step is not None)
        if step is not None:
            logs, state = step.function(state, feed)
        elif drive.channels:
            held = np.asarray(self.hold(count), np.float32)
            logs, state = drive.plain(self.placed(state, held), feed)
        else:
            logs, state = drive.plain(state, feed)
        count, self.samples = feed.used, (self.samples or 0) + feed.samples
        if self.rate is not None:
            self.leaf = _at(state, self.rate)
        self.state = state
        drive.done(count, logs, self.total())
        return logs, state

    def total(self) -> Any:
        return None if self.count is None or self.state is None else self.state[3][self.count]

    def look(self, state: Any) -> None:
        """Read the rate, which waits for the device, only if the host has replaced its array."""
        if self.rate is not None and (self.seen is None or _at(state, self.rate) is not self.leaf):
            self.seen = float(_at(state, self.rate))
        self.drive.probe.look(self.seen)


class _Feed:
    """The batches of an execution, counted, and each with the values it is trained with."""

    def __init__(self, drive: Any, iterator: Any, with_values: bool) -> None:
        self.drive = drive
        self.iterator = iterator
        self.with_values = with_values
        self.used = 0
        self.samples = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Any:
        data = next(self.iterator)
        self.samples += samples_in(data) or 0
        if not self.with_values:
            self.used += 1
            return data
        drive = self.drive
        row = drive.block[drive.batch - drive.block_start + self.used]
        self.used += 1
        return row, data


def samples_in(data: Any) -> int | None:
    """Return the number of samples in a batch of data; None where it does not show."""
    while isinstance(data, list | tuple | dict):
        parts = data.values() if isinstance(data, dict) else data
        data = next((part for part in parts if part is not None), None)
    shape = getattr(data, "shape", None)
    return int(shape[0]) if shape else None


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
