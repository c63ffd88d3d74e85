"""`FitSession`: one fit of a model, whose hyperparameters move inside the compiled step.

Keras reads ``model.train_function`` at every execution of a fit. A session puts its own function
there. So the values that it sets are in effect exactly when a step runs, whatever the order of the
callbacks, and it sees which values each execution used. ``README.md`` in this folder has the
details.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from keras_lr._fields.timeline import Timeline
from keras_lr._fit.batch_loss import SampleCounter
from keras_lr._fit.checks import (
    AssignmentWatch,
    Moved,
    OptimizerUse,
    check_compiled_once,
    check_train_function,
    warn_of_conflicts,
)
from keras_lr._fit.engines import engine_for
from keras_lr._fit.engines.base import Engine
from keras_lr._fit.events import Events, Recorder
from keras_lr._fit.rate_reader import LearningRateReader, readers_of
from keras_lr._fit.reports import Reports
from keras_lr._fit.running import RUNNING
from keras_lr._fit.tracks import (
    BLOCK,
    Adjustment,
    HyperparameterTrack,
    Source,
    ValueTable,
    new_track,
)
from keras_lr._fit.train_function import TrainFunctionPatch
from keras_lr._keras.fits.callback_list import CallbackListPatch
from keras_lr._keras.fits.fit_frame import fit_validates, frame_of_fit, is_end_of_data
from keras_lr._keras.fits.jax_state import steps_take_state, sync_state
from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.rates.hyperparameters import Hyperparameter

FLUSH_EVERY = 256
"""Number of executions that are collected before the recorders get them."""


class FitSession:
    """One fit of a model: its members, its epochs, its batches, and the parts that do the work."""

    def __init__(self, model: Any, params: dict[str, Any] | None) -> None:
        """Begin with nothing to move. Use `attach` to get the session of a fit."""
        self.model = model
        self.thread = threading.get_ident()
        """The thread that the fit runs in."""
        self.optimizer = getattr(model, "optimizer", None)
        self._params = params or {}
        self.steps: int | None = self._params.get("steps")
        """Batches in an epoch; None where that is not known."""
        self.tracks: list[HyperparameterTrack] = []
        self.moved: list[Moved] = []
        """Every hyperparameter that tracks or adjustments move, with the callback that does."""
        self.adjustments: dict[Any, list[Adjustment]] = collections.defaultdict(list)
        self.members: list[Any] = []
        self.controllers: list[Any] = []
        """The callbacks that have declared what they move."""
        self.events = Events()
        self.table = ValueTable(self.tracks)
        self.reports = Reports()
        self.recorders: list[Recorder] = self.reports.recorders
        self.callbacks = CallbackListPatch()
        self.patch = TrainFunctionPatch(self)
        self.in_fit = frame_of_fit(model) is not None
        """Whether Keras's own ``fit`` runs, and not a user's loop over batches."""
        self.validates = fit_validates(model)
        self.sample_counter = SampleCounter(model)
        self.lock = threading.RLock()
        """Held while executions are noted or read: Keras calls asynchronous hooks, which may read
        them, in other threads."""
        self.reads_losses = False
        """Whether a member reads the loss of each execution as soon as it has run."""
        self.brief = False
        """Whether the fit is too short to compile a step for it where the model has one already."""
        self.others_may_set = True
        """Whether something else may set hyperparameters between two executions of an epoch."""
        self.open = False
        """Whether an epoch has begun and not ended."""
        self.epoch = -1
        self.batch = 0
        """Batches of the epoch so far."""
        self.ran = 0
        """Batches of the fit so far."""
        self._deferred: tuple[int, int, dict[str, Any]] | None = None
        """The last execution, until the deferred handlers are called with it."""
        self._logs: dict[str, Any] | None = None
        self._use: OptimizerUse | None = None
        self._watch = AssignmentWatch([], warned=False)
        self.callbacks.move_to_front(self.start_epoch, self.on_epoch_end_first)
        self.callbacks.guard_hooks(self.leave_after_exception, self.after_hook)
        self._cancel_on_abandoned = self.callbacks.on_abandoned(self.end)

    @functools.cached_property
    def timeline(self) -> Timeline:
        """The size of the fit, as Keras tells its callbacks."""
        epochs = self._params.get("epochs")
        # A fit of no epochs trains nothing, and Keras takes it.
        return Timeline(self._params.get("steps"), None if epochs is None else max(epochs, 1))

    def join(self, member: Any, steps: int | None) -> None:
        """Keep the session until ``member`` leaves."""
        self.members.append(member)
        self.steps = steps

    def leave(self, member: Any) -> None:
        """End a membership; the last one to leave ends the session."""
        self.members = [other for other in self.members if other is not member]
        if not self.members:
            self.end()

    def end(self) -> None:
        """Leave the fit, with the model and the list of callbacks as they were found."""
        self.detach()
        self.callbacks.restore()
        # Last: if Ctrl-C interrupts `end`, it is called again when the list is freed.
        self._cancel_on_abandoned()

    def control(
        self,
        owner: Any,
        parameter: Hyperparameter,
        source: Source,
        peak: Callable[[], float] | None = None,
        peak_step: Callable[[], float] | None = None,
    ) -> HyperparameterTrack:
        """Return a new track, on which ``source`` decides the values of a hyperparameter.

        Raises:
            ValueError: If another callback decides them already.
        """
        adjust = self.adjustments[parameter.key]
        track = new_track(self.tracks, owner, parameter, source, peak, adjust, peak_step)
        self.tracks.append(track)
        self.moved.append(Moved(parameter, owner))
        return track

    def adjust(self, parameter: Hyperparameter, adjustment: Adjustment) -> None:
        """Adjust the values that a track, if any, gives for a hyperparameter."""
        self.adjustments[parameter.key].append(adjustment)
        self.moved.append(Moved.by_adjustment(parameter, adjustment))

    def start_epoch(self, epoch: int) -> None:
        """Start counting the batches of an epoch."""
        if epoch == self.epoch:
            return
        self.end_epoch()
        self.attach()
        self.check_optimizer()
        # Where the data end early, the step that found none has set a rate too.
        if self.batch and self.batch == self.steps:
            self._watch.compare(self.last_value)
        self.epoch, self.batch, self.open, self._logs = epoch, 0, True, None
        self.events.start_epoch(epoch)
        self.invalidate_values()
        self.install()
        self.reports.start_epoch(epoch, self.steps)
        # An error of a schedule does no harm here; in the first step, JAX would lose the model.
        self.show_next_values()

    def end_epoch(self, total: Any = None) -> None:
        """Report the rest of the epoch; call this before the metrics are reset.

        Args:
            total: Samples in the epoch, where the backend cannot read them from the metric.
        """
        if not self.open:
            return
        self.flush_deferred()
        self.patch.restore_metrics_at_epoch_end()
        with self.lock:
            self.open = False
            total = self.sample_counter.read_total() if total is None else float(to_numpy(total))
            self.flush()
            # In an epoch of unknown length, the execution that found no more data was noted too.
            self.sample_counter.clear_counts()
            ran = self._batches_of_epoch(total)
            self.ran -= self.batch - ran
            self.reports.finish_epoch(ran, total)

    def close_epoch(self, total: Any = None) -> None:
        """End an epoch whose last batch is known to have run."""
        self.flush_deferred()
        if self._logs is not None:
            self.events.close_epoch(self._logs)
        self.end_epoch(total)

    def on_epoch_end_first(self, logs: dict[str, Any]) -> None:
        """End an epoch, before the callbacks that write checkpoints at its end."""
        if self.epoch < 0:
            return
        self.end_epoch()
        if self.patch.engine is not None:
            self.patch.engine.write_to_variables()
            if self.in_fit and not self.batch:
                check_train_function(self.model, self.patch.installed, logs)
            if self._use is not None:
                self._use.check_first_epoch(self.batch)
        self.add_values_to(logs)
        self.callbacks.move_backups_behind_metrics(logs, self.validates)
        self.events.close_epoch(logs)

    def add_values_to(self, logs: dict[str, Any] | None) -> None:
        """Add the values of an epoch's last update to its logs."""
        if logs is not None:
            self.reports.add_last_values(logs, self._logs or {})

    def _batches_of_epoch(self, total: float | None) -> int:
        """Return how many batches of the epoch ran; its last execution may have run fewer."""
        if self.steps is not None:
            return min(self.batch, self.steps)
        if self.steps_per_execution == 1 or not total or not self.sample_counter.samples_per_batch:
            return self.batch
        return min(self.batch, math.ceil(total / self.sample_counter.samples_per_batch - 1e-6))

    def before_execution(self) -> None:
        """Prepare for the next execution: call deferred handlers and put metrics back."""
        if self._deferred is not None:
            self.flush_deferred()
        if self.patch.metrics is not None:
            self.patch.restore_metrics()
        if self.patch.resets_metrics:
            self.patch.reset_metrics()

    def after_execution(self, count: int, logs: dict[str, Any], total: Any = None) -> None:
        """Note that an execution of ``count`` batches has run.

        Args:
            count: Batches that it ran, or at most ran if the epoch ended inside it.
            logs: The logs that it returned.
            total: Samples so far in the epoch, where the backend cannot read them from the metric.
        """
        with self.lock:
            first = self.batch
            waiting = self.reports.add_execution(first, count, logs)
            self.batch = first + count
            self.ran += count
            self._logs = logs
        if self.ran == count:
            self._check_first_execution(count)
        for handler in self.events.on_execution_end:
            handler(first, count, logs)
        if self.events.on_execution_end_deferred:
            self._deferred = first, count, logs
        if self.steps is not None and self.batch >= self.steps:
            self.close_epoch(total)
        elif waiting >= FLUSH_EVERY:
            self.flush_deferred()
            self.flush()

    def _check_first_execution(self, count: int) -> None:
        """Refuse what turns out to be wrong after the first ``count`` batches."""
        for reader in self.rate_readers:
            reader.check_first_execution(count)
        if self._use is not None and not steps_take_state():
            self._use.check_first_execution()

    def flush_deferred(self) -> None:
        """Call the deferred handlers with the last execution, unless that has been done."""
        with self.lock:
            execution, self._deferred = self._deferred, None
            if execution is not None:
                for handler in self.events.on_execution_end_deferred:
                    handler(*execution)

    def flush(self) -> None:
        """Pass the collected executions to the recorders."""
        with self.lock:
            self.collect_device_notes()
            self.reports.hand_over(self.epoch, self.batch, self.table, self.sample_counter)

    def collect_device_notes(self) -> None:
        """Read what the device has noted for the collected executions."""
        pending, engine = self.reports.pending, self.patch.engine
        if pending.sizes and engine is not None:
            engine.collect_device_notes(pending.first, pending.sizes)

    def prepare_values(self, count: int) -> int:
        """Fill the table for the next ``count`` batches, and return the row of the present one."""
        table = self.table
        if not table.covers(self.batch, count):
            self.invalidate_values()
            left = BLOCK if self.steps is None else min(BLOCK, self.steps - self.batch)
            table.fill(self.batch, max(count, left))
        return self.batch - table.start

    def invalidate_values(self) -> None:
        """Drop the values of all batches still to come, so that the sources compute them again."""
        with self.lock:
            self.flush()
            self.table.clear(self.batch, self._ended())

    def show_next_values(self) -> None:
        """Show callbacks that look at the optimizer the values of the next batch."""
        if self.tracks and self.patch.engine is not None:
            row = self.prepare_values(self.steps_per_execution)
            self.patch.engine.show_values(self.table.rows[row].tolist())

    def last_value(self, track: HyperparameterTrack) -> float:
        """Return the value that the last batch of the present epoch used."""
        return self.table.last(track, self._ended())

    def _ended(self) -> int:
        """Return the batches of the epoch so far; its last execution may have run fewer."""
        return self.batch if self.steps is None else min(self.batch, self.steps)

    @property
    def chief(self) -> bool:
        """Whether this process writes files: only one of several workers does."""
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy is None or bool(strategy.extended.should_checkpoint)

    @property
    def steps_per_execution(self) -> int:
        """Batches in an execution; legacy Keras has a variable for it."""
        steps = self.model.steps_per_execution
        return steps if isinstance(steps, int) else int(to_numpy(steps))

    def read_rate(self, parameter: Hyperparameter) -> float:
        """Return the present value of a learning rate that no track moves."""
        engine = self.patch.engine
        return parameter.read() if engine is None else engine.read_rate(parameter)

    def write_rate(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate that no track moves, between executions or between epochs."""
        engine = self.patch.engine
        if engine is None or not self.open:
            parameter.variable.assign(value)
        else:
            engine.write_rate(parameter, value)

    def read_weights(self) -> list[NDArray]:
        """Return the model's weights, even right after an execution."""
        engine = self.patch.engine
        if engine is None or not self.open:
            sync_state(self.model)
            return self.model.get_weights()
        return engine.read_weights()

    def check_optimizer(self) -> None:
        """Refuse to continue with a model that was compiled after the fit began.

        Raises:
            RuntimeError: If a callback moves hyperparameters of its old optimizer.
        """
        if getattr(self.model, "optimizer", None) is self.optimizer:
            return
        check_compiled_once(self.model, self.controllers)
        self.optimizer, self.sample_counter = self.model.optimizer, SampleCounter(self.model)
        self.detach()
        self.attach()

    def after_hook(self) -> None:
        """Check what callbacks have done in a hook after which the epoch continues."""
        self.check_optimizer()
        if self.open and not self.batch:
            rows = self.table.rows
            self._watch.compare(lambda track: float(rows[0, self.tracks.index(track)]))

    def leave_after_exception(self, error: BaseException) -> None:
        """Leave the model as it was found when an exception leaves a hook or an execution.

        The exception ends Keras's own fit, unless it means that there are no more data. A user's
        loop may continue with the next batch.
        """
        if is_end_of_data(error):
            return
        try:
            if self.in_fit:
                self.end()
            else:
                self.reports.forget_inputs(self.sample_counter)
                self.patch.pause()
        except Exception as another:
            error.add_note(f"keras_lr could not leave the model as it was: {another!r}")

    def is_alive(self) -> bool:
        """Return whether the fit still runs: inside one of its hooks, or in a user's loop."""
        return self.callbacks.is_calling() or not self.in_fit

    def attach(self) -> None:
        """Register as the session of the model's fit, and patch the model."""
        RUNNING.register(self)
        self.patch.take_over()

    def detach(self) -> None:
        """Leave the model as it was found."""
        RUNNING.remove(self)
        self.patch.detach()

    def install(self) -> None:
        """Put the function that runs the steps into the model, once the members are known."""
        if self.patch.engine is None:
            self.patch.install()
            if self._use is None:
                warned = warn_of_conflicts(self.tracks, self.moved, self.callbacks)
                self._watch = AssignmentWatch(self.tracks, warned)
                recorded = {} if self.brief else self.reports.recorded_optimizers
                self._use = OptimizerUse(self.model, [] if self.brief else self.moved, recorded)

    @property
    def rate_readers(self) -> list[LearningRateReader]:
        """The readers of the rates that no track moves."""
        return self.reports.rate_readers

    @property
    def plain(self) -> Any:
        """The model's own train function."""
        return self.patch.plain

    def make_train_function(self, force: bool = False) -> Any:
        """Make the model's train function as Keras does."""
        return self.patch.make_train_function(force)

    def make_engine(self) -> Engine:
        """Return the engine that runs the executions with the values of the tracks."""
        self.reports.rate_readers = readers_of(self.model, self.tracks, self.moved)
        self.callbacks.skip_unused_batch_hooks()
        looks = self.callbacks.has_hook("on_train_batch_begin")
        self.callbacks.before_batch = self.show_next_values if looks else None
        hooks = looks or self.callbacks.has_hook("on_train_batch_end")
        self.others_may_set = hooks or not self.in_fit
        return engine_for(self)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the model to other fits inside the context; after an exception, for good."""
        self.detach()
        yield
        self.attach()
