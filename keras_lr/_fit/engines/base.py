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
"""What Keras passes to a train function: the data, on some backends after the model's state."""

Result = tuple[Any, int]
"""What a train function returned, and the number of batches that it ran or may have run."""

ADDED = "_keras_lr_added"
"""Name under which a step returns, beside its logs, what it has added to the mean of the loss."""


class Session(Protocol):
    """What an engine asks of the fit that it serves."""

    model: Any
    tracks: list[HyperparameterTrack]
    table: ValueTable
    sample_counter: SampleCounter

    brief: bool
    reads_losses: bool
    open: bool
    batch: int

    @property
    def lock(self) -> contextlib.AbstractContextManager[Any]:
        """Held while what has run is noted or read."""

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
        """Return the row of the present batch in the table, with ``count`` rows from there on."""

    def before_execution(self) -> None:
        """Prepare for the next execution."""

    def after_execution(self, count: int, logs: dict[str, Any], total: Any = None) -> None:
        """Note that an execution has run."""

    def leave_after_exception(self, error: BaseException) -> None:
        """Leave the model as it was found when an exception leaves an execution."""


class Engine:
    """Runs the executions of a fit with its values; this one sets them from the host.

    A variable keeps what it is set to. A plain attribute is set for the time of the execution only.

    A subclass may compile a step that gets the values by itself: `compile_step`. Whether Keras uses
    that step shows in the first execution: `run_first`. Where it does not, the fit goes on from the
    host.
    """

    numbers_are_baked = True
    """Whether a compiled step keeps the numbers with which it was traced."""

    def __init__(self, session: Session) -> None:
        """Serve a session; `start` comes next."""
        self.session = session
        session.sample_counter.forget_notes()
        self.size = session.steps_per_execution
        self.parameters = [track.parameter for track in session.tracks]
        numbers = [one for one in self.parameters if one.variable is None]
        self.numbers = sorted(numbers, key=lambda one: one.enters_last)
        """The hyperparameters that no variable of Keras's holds, in the order in which they enter
        a step."""
        self._plain_numbers = read_numbers(self.numbers)
        self.step: CompiledStep | None = None
        """The step that has the values compiled in; None where they are set from the host."""
        self._setters = [
            (column, fastest_setter(parameter.variable))
            for column, parameter in enumerate(self.parameters)
            if parameter.variable is not None
        ]
        self._last: list[float] = [math.nan] * len(self.parameters)
        self._said_held = False

    def start(self) -> Engine:
        """Choose the way that the values go, and return the engine.

        Raises:
            RuntimeError: If a hyperparameter cannot move on the way that is left.
        """
        if not any(parameter.host_only for parameter in self.parameters):
            self.step = self.compile_step()
        if self.step is None:
            self.check_host_route()
        return self

    def compile_step(self) -> CompiledStep | None:
        """Return a step that has the values compiled in; None if they are to come from the host."""
        return None

    def compile(self, key: tuple[Any, ...], build: Build) -> CompiledStep | None:
        """Return the step that ``build`` builds, compiled or kept from an earlier fit.

        A brief fit compiles nothing for a model that has a step of Keras's already, if that step
        can do what is needed.
        """
        session, model = self.session, self.session.model
        kept_only = session.brief and self.size == 1 and not self.numbers and was_trained(model)
        key = self.size, *key
        return compiled_step(model, key, build, session.make_train_function, kept_only)

    def check_host_route(self) -> None:
        """Make sure that setting values from the host has an effect.

        Raises:
            RuntimeError: If a number is baked into the compiled step and Keras let nothing else in.
        """
        baked = [parameter.name for parameter in self.numbers]
        if baked and self.numbers_are_baked and not self.session.model.run_eagerly:
            known = isinstance(self.session.model, keras.Model)
            raise RuntimeError(
                f"This Keras ({keras.__version__ if known else 'legacy'}) compiles "
                f"{', '.join(baked)} into the training step in a way that keras_lr does not know, "
                "so that it cannot move. "
                "Compile the model with run_eagerly=True, or move the learning rate alone."
            )

    def run(self, *arguments: Any) -> Any:
        """Stand in for ``model.train_function``: one execution."""
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
            # Again: Ctrl-C can strike while `hyperparameters_set` puts them back.
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
        """Run the execution that traces a step, with the values set from the host too.

        If Keras has compiled another step than ours, the model is trained with the right values
        nevertheless, or not at all: then this execution runs anew.
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
        """Put on the model what the engine needs there beside `run`."""

    def restore(self) -> None:
        """Leave the model as it was before `install`."""

    def keep_state_of(self, arguments: Arguments, error: BaseException) -> None:
        """Let the model keep the newest state that an execution which failed has left.

        Args:
            arguments: What went into the execution.
            error: What has left it.
        """

    def can_retry(self) -> bool:
        """Return whether an execution that failed before it reached our step can be repeated."""
        return False

    def arguments_to_retry(self, arguments: Arguments) -> Arguments:
        """Return the arguments of an execution that failed, with the data that it has taken."""
        return arguments

    def call_function(self, function: Any, arguments: Arguments) -> Result:
        """Call a train function."""
        return function(*arguments), self.size

    def report(self, result: Result) -> Any:
        """Tell the session of an execution, and return what Keras is to get."""
        logs, count = result
        eager = self.step is None or self.session.model.run_eagerly
        self.session.after_execution(count, copy_logs(logs) if eager else logs)
        return logs

    def note_inputs(self, arguments: Arguments) -> None:
        """Note what an execution finds: the samples so far, and the rates that nobody moves."""
        counter = self.session.sample_counter
        counter.note_count(self.session.batch, self.count_of_samples)
        counter.count_batch(count_samples(arguments[-1]))
        for reader in self.session.rate_readers:
            reader.note_rate()

    def count_of_samples(self) -> Any:
        """Return the metric's count of samples, on a device where there is one."""
        return read_lazily(self.session.sample_counter.variable)

    def read_last_loss(self, first: int, count: int) -> float | None:
        """Return the loss of the last execution, until its notes are handed on; None without notes.

        Args:
            first: Its first batch.
            count: Batches that it ran.
        """
        return self.session.sample_counter.last_loss()

    def collect_device_notes(self, first: int, sizes: list[int]) -> None:
        """Give out what the compiled step has noted of the executions from batch ``first`` on."""

    def hold_values(self, row: int) -> list[float]:
        """Return the values of a row, and let the whole execution use them."""
        rows, count = self.session.table.rows, self.size
        if count > 1:
            moves = (rows[row : row + count] != rows[row]).any()
            rows[row : row + count] = rows[row]
            if moves and not self._said_held:
                self._said_held = True
                warn_user(
                    "Hyperparameters are set from the host here: with "
                    f"steps_per_execution={count} they are held for {count} batches at a time."
                )
        return rows[row].tolist()

    def with_values(self, arguments: Arguments, values: list[float]) -> Arguments:
        """Set the variables whose values have changed; all when an epoch starts, as others may."""
        self._set_variables(values, all_of_them=self.session.batch == 0)
        return arguments

    def show_values(self, values: list[float]) -> None:
        """Let the variables hold the values of the next batch already, for callbacks that look."""
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
    """Sets the values from the host on PyTorch, which looks at a plain attribute in each step.

    So does ``torch.compile``, which compiles anew for another number.
    """

    numbers_are_baked = False

    def __init__(self, session: Session) -> None:
        """Find the means to watch, except where the step is compiled."""
        super().__init__(session)
        model = session.model
        means = [] if model.jit_compile else find_means(model)
        self.others = find_cumulative_metrics(model)
        """Metrics whose results the logs may have under any name."""
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
