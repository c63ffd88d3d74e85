"""`Engine`: runs the executions of a fit with its values, set from the host before each of them."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Protocol

import keras
import numpy as np

from keras_lr._fit.batch_loss import SampleCounter
from keras_lr._fit.rate_reader import LearningRateReader
from keras_lr._fit.tracks import HyperparameterTrack, ValueTable
from keras_lr._hints import warn_user
from keras_lr._keras.fits.mean_updates import MeanUpdates, find_means
from keras_lr._keras.fits.train_step import (
    Build,
    CompiledStep,
    compiled_step,
    forget_step,
    hyperparameters_set,
    read_numbers,
    was_trained,
    write_numbers,
)
from keras_lr._keras.host_values import copy_logs, count_samples, read_lazily
from keras_lr._keras.metrics import find_cumulative_metrics
from keras_lr._keras.rates.hyperparameters import Hyperparameter, fastest_setter

Arguments = tuple[Any, ...]
"""Arguments of a train function: the data, on some backends after the model's state."""

Result = tuple[Any, int]
"""Result of a train function, and the number of batches that it ran (at most)."""

ADDED = "_keras_lr_added"
"""Name in the logs under which a step returns what it has added to the mean of the loss."""


class Session(Protocol):
    """What an engine needs from the fit that it serves."""

    model: Any
    tracks: list[HyperparameterTrack]
    table: ValueTable
    sample_counter: SampleCounter

    brief: bool
    reads_losses: bool
    others_may_set: bool
    open: bool
    batch: int

    @property
    def lock(self) -> contextlib.AbstractContextManager[Any]:
        """Held while executions are noted or read."""

    @property
    def rate_readers(self) -> list[LearningRateReader]:
        """The readers of the rates that no track moves."""

    @property
    def plain(self) -> Any:
        """The model's own train function."""

    @property
    def steps_per_execution(self) -> int:
        """Batches in an execution."""

    def make_train_function(self, force: bool = False) -> Any:
        """Make the model's train function as Keras does."""

    def prepare_values(self, count: int) -> int:
        """Fill the table for the next ``count`` batches, and return the row of the present one."""

    def before_execution(self) -> None:
        """Prepare for the next execution."""

    def after_execution(self, count: int, logs: dict[str, Any], total: Any = None) -> None:
        """Note that an execution has run."""

    def leave_after_exception(self, error: BaseException) -> None:
        """Leave the model as it was found when an exception leaves an execution."""


class Engine:
    """Runs the executions of a fit with its values; this class sets them from the host.

    A variable keeps the value that it is set to. A plain attribute is set only for the duration of
    an execution.

    A subclass may compile a step that reads the values itself: `compile_step`. The first execution
    shows whether Keras uses that step: `run_first`. If not, the values are set from the host.
    """

    numbers_are_baked = True
    """Whether a compiled step keeps the numbers with which it was traced."""

    def __init__(self, session: Session) -> None:
        """Collect the parameters of a session; call `start` next."""
        self.session = session
        session.sample_counter.forget_notes()
        self.size = session.steps_per_execution
        self.parameters = [track.parameter for track in session.tracks]
        numbers = [one for one in self.parameters if one.variable is None]
        self.numbers = sorted(numbers, key=lambda one: one.enters_last)
        """The hyperparameters that no variable of Keras holds, in the order in which they enter a
        step."""
        self._plain_numbers = read_numbers(self.numbers)
        self.step: CompiledStep | None = None
        """The step that has the values compiled in; None where they are set from the host."""
        self._setters = [
            (column, fastest_setter(parameter.variable))
            for column, parameter in enumerate(self.parameters)
            if parameter.variable is not None
        ]
        self._last: list[float] = [math.nan] * len(self.parameters)
        self._warned_of_hold = False

    def start(self) -> Engine:
        """Compile a step or else choose the host route, and return the engine.

        Raises:
            RuntimeError: If a hyperparameter cannot move on the host route.
        """
        if not any(parameter.host_only for parameter in self.parameters):
            self.step = self.compile_step()
        if self.step is None:
            self.check_host_route()
        return self

    def compile_step(self) -> CompiledStep | None:
        """Return a step that has the values compiled in; None to set them from the host."""
        return None

    def compile(self, key: tuple[Any, ...], build: Build) -> CompiledStep | None:
        """Return the step that ``build`` builds, compiled or kept from an earlier fit.

        A brief fit compiles nothing if the model already has a step of Keras that is sufficient.
        """
        session, model = self.session, self.session.model
        kept_only = session.brief and self.size == 1 and not self.numbers and was_trained(model)
        key = self.size, *key
        return compiled_step(model, key, build, session.make_train_function, kept_only)

    def check_host_route(self) -> None:
        """Check that setting values from the host has an effect.

        Raises:
            RuntimeError: If a number is baked into the compiled step.
        """
        baked = [parameter.name for parameter in self.numbers]
        if baked and self.numbers_are_baked and not self.session.model.run_eagerly:
            known = isinstance(self.session.model, keras.Model)
            raise RuntimeError(
                f"This Keras ({keras.__version__ if known else 'legacy'}) compiles "
                f"{', '.join(baked)} into the training step in a way that keras_lr does not know, "
                "so it cannot move. "
                "Compile the model with run_eagerly=True, or move the learning rate alone."
            )

    def run(self, *arguments: Any) -> Any:
        """Run one execution, in place of ``model.train_function``."""
        session, step = self.session, self.step
        result: Result | None = None
        try:
            session.before_execution()
            arguments = self.with_writes(arguments)
            with session.lock:
                self.note_inputs(arguments)
                row = session.prepare_values(self.size) if step or self.parameters else 0
            if step is None:
                result = self.run_from_host(arguments, row)
            elif step.traced:
                result = self.run_step(step, arguments, row)
            else:
                result = self.run_first(step, arguments, row)
            if step is not None and step.cumulative:
                session.sample_counter.cumulative |= step.cumulative
            return self.report(result)
        except BaseException as error:
            if result is None:
                self.keep_state_of(arguments, error)
            # A second time, in case Ctrl-C interrupted `hyperparameters_set` as it put them back.
            write_numbers(self.numbers, self._plain_numbers)
            session.leave_after_exception(error)
            raise

    def run_from_host(self, arguments: Arguments, row: int) -> Result:
        """Run the model's own train function with the values of a row."""
        if not self.parameters:
            return self.call_function(self.session.plain, arguments)
        values = self.hold_values(row)
        arguments = self.with_values(arguments, values)
        if not self.numbers:
            return self.call_function(self.session.plain, arguments)
        with hyperparameters_set(self.numbers, values, self.parameters):
            return self.call_function(self.session.plain, arguments)

    def run_first(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        """Run the execution that traces a step, with the values also set from the host.

        If Keras has compiled another step, the model is still trained with the right values, or the
        execution fails before it trains, and is run again.
        """
        arguments = self.with_values(arguments, self.session.table.rows[row].tolist())
        result: Result | None = None
        try:
            result = self.run_step(step, arguments, row)
        except Exception:
            if step.traced or not self.can_retry():
                raise
        if not step.traced:
            forget_step(self.session.plain, step)
            self.step = None
            self.check_host_route()
            if result is None:
                result = self.run_from_host(self.arguments_to_retry(arguments), row)
            else:
                self.hold_values(row)
        assert result is not None
        return result

    def run_step(self, step: CompiledStep, arguments: Arguments, row: int) -> Result:
        """Run a compiled step with the values from a row on."""
        raise NotImplementedError

    def install(self) -> None:
        """Change what the engine needs to change on the model, apart from `run`."""

    def restore(self) -> None:
        """Put the model back as it was before `install`."""

    def keep_state_of(self, arguments: Arguments, error: BaseException) -> None:
        """Store in the model the newest state that a failed execution has left.

        Args:
            arguments: The arguments of the execution.
            error: The exception that it raised.
        """

    def can_retry(self) -> bool:
        """Return whether an execution that failed before it reached the step can be repeated."""
        return False

    def arguments_to_retry(self, arguments: Arguments) -> Arguments:
        """Return the arguments of an execution that failed, with the data that it has taken."""
        return arguments

    def call_function(self, function: Any, arguments: Arguments) -> Result:
        """Call a train function."""
        return function(*arguments), self.size

    def report(self, result: Result) -> Any:
        """Report an execution to the session, and return the result for Keras."""
        logs, count = result
        eager = self.step is None or self.session.model.run_eagerly
        self.session.after_execution(count, copy_logs(logs) if eager else logs)
        return logs

    def note_inputs(self, arguments: Arguments) -> None:
        """Note, before an execution, the samples so far and the rates that no track moves."""
        counter = self.session.sample_counter
        counter.note_count(self.session.batch, self.count_of_samples)
        counter.count_batch(count_samples(arguments[-1]))
        for reader in self.session.rate_readers:
            reader.note_rate()

    def count_of_samples(self) -> Any:
        """Return the metric's count of samples, left on the device if it is on one."""
        return read_lazily(self.session.sample_counter.variable)

    def read_last_loss(self, first: int, count: int) -> float | None:
        """Return the loss of the last execution; None if it has no notes, or they were collected.

        Args:
            first: Its first batch.
            count: Batches that it ran.
        """
        return self.session.sample_counter.last_loss()

    def collect_device_notes(self, first: int, sizes: list[int]) -> None:
        """Pass on what the compiled step has noted for the executions from batch ``first`` on."""

    def hold_values(self, row: int) -> list[float]:
        """Return the values of a row, and use them for the whole execution."""
        rows, count = self.session.table.rows, self.size
        if count > 1:
            moves = (rows[row : row + count] != rows[row]).any()
            rows[row : row + count] = rows[row]
            if moves and not self._warned_of_hold:
                self._warned_of_hold = True
                warn_user(
                    "Hyperparameters are set from the host here: with "
                    f"steps_per_execution={count} they are held for {count} batches at a time."
                )
        return rows[row].tolist()

    def with_values(self, arguments: Arguments, values: list[float]) -> Arguments:
        """Set the variables whose values have changed; all where others may have set them."""
        session = self.session
        self._set_variables(values, all_of_them=session.others_may_set or session.batch == 0)
        return arguments

    def show_values(self, values: list[float]) -> None:
        """Set the variables to the values of the next batch early, for callbacks that read them."""
        self._set_variables(values, all_of_them=True)

    def _set_variables(self, values: list[float], all_of_them: bool) -> None:
        for column, assign in self._setters:
            if all_of_them or values[column] != self._last[column]:
                assign(values[column])
        self._last = values

    def read_rate(self, parameter: Hyperparameter) -> float:
        """Return a learning rate between two executions."""
        return parameter.read()

    def write_rate(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate between two executions."""
        parameter.variable.assign(value)

    def write_metrics(self, values: list[tuple[Any, np.ndarray]]) -> None:
        """Set variables of metrics when an execution begins."""
        for variable, value in values:
            variable.assign(value)

    def with_writes(self, arguments: Arguments) -> Arguments:
        """Return the arguments with what was written since the last execution."""
        return arguments

    def write_to_variables(self) -> None:
        """Set at an epoch's end what was written after its last execution."""

    def read_weights(self) -> list[np.ndarray]:
        """Return the model's weights between two executions."""
        return self.session.model.get_weights()


class EagerEngine(Engine):
    """Sets the values from the host on PyTorch, which reads a plain attribute in each step.

    So does ``torch.compile``, which compiles again when the number changes.
    """

    numbers_are_baked = False

    def __init__(self, session: Session) -> None:
        """Find the means to watch, except where the step is compiled."""
        super().__init__(session)
        model = session.model
        means = [] if model.jit_compile else find_means(model)
        self.others = find_cumulative_metrics(model)
        """Metrics whose results may be in the logs under any name."""
        self.updates = MeanUpdates(means, self.others)

    def call_function(self, function: Any, arguments: Arguments) -> Result:
        with self.updates:
            logs = function(*arguments)
        if self.others:
            self.session.sample_counter.cumulative |= self.updates.cumulative(logs)
        update = self.updates.of_loss(logs)
        if update is not None:
            added = (update.total, update.count) if update.loss is None else (update.loss, 1.0)
            self.session.sample_counter.note_loss(update, *map(read_lazily, added))
        return logs, self.size
