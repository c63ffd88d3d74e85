"""Moving hyperparameters during one fit, inside the compiled step where Keras compiles one.

Keras reads ``model.train_function`` at every execution of a fit. A `FitSession` puts its own
function there, so that what it sets is in force exactly when a step runs, whatever the order of
callbacks, and it sees which values each execution used. How a value gets into the step is the
engine's part.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.batch_loss import SampleCounter
from keras_lr._fit.engines import engine_for
from keras_lr._fit.engines.base import BLOCK
from keras_lr._fit.events import (
    Adjustment,
    Events,
    Executions,
    HyperparameterTrack,
    Recorder,
    Source,
)
from keras_lr._fit.rate_reader import LearningRateReader
from keras_lr._fit.train_function import TrainFunctionPatch
from keras_lr._keras.callback_list import (
    callback_list,
    conflicting_callbacks,
    is_on_call_stack,
    skip_unused_batch_hooks,
)
from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.hyperparameters import LEARNING_RATE, Hyperparameter, effective
from keras_lr._keras.snapshot import reset_metrics


class FitSession(TrainFunctionPatch):
    """Moves hyperparameters through one fit of a model and reports what each batch used."""

    def __init__(self, model: Any) -> None:
        """Begin with nothing to move; `attach` is the way to get the drive of a fit."""
        super().__init__(model)
        self.tracks: list[HyperparameterTrack] = []
        self.adjustments: dict[Any, list[Adjustment]] = collections.defaultdict(list)
        self.recorders: list[Recorder] = []
        self.events = Events()
        self.unheard: tuple[int, int, dict[str, Any]] | None = None
        """The execution that they have yet to hear of."""
        self.lock = threading.RLock()
        """Held while what has run is noted or read: Keras calls asynchronous hooks, which may ask,
        in threads."""
        self.warned = False
        self.brief = False
        """Whether the fit is too short to compile a step for it where the model has one already."""
        self.members: list[Any] = []
        self.controllers: list[Any] = []
        """The callbacks that have said what they move."""
        self.epoch = -1
        self.batch = 0
        self.ran = 0
        self.steps: int | None = None
        self.block = np.zeros((0, 0), np.float32)
        self.block_start = 0
        self.last_row = np.zeros(0, np.float32)
        """The values of the last batch before the block."""
        self.pending = Executions(0, [], {}, [], None)
        self.rate_reader: LearningRateReader | None = None
        self.sample_counter = SampleCounter(model)
        self.logs: dict[str, Any] | None = None

    def join(self, member: Any, steps: int | None) -> None:
        """Keep the drive attached until ``member`` leaves."""
        self.members.append(member)
        self.steps = steps

    def leave(self, member: Any) -> None:
        """End a membership; the last one to leave takes the drive off the model."""
        self.members = [other for other in self.members if other is not member]
        if not self.members:
            self.end()

    def control(
        self,
        owner: Any,
        parameter: Hyperparameter,
        source: Source,
        peak: Callable[[], float] | None = None,
    ) -> HyperparameterTrack:
        """Let ``source`` decide the values of a hyperparameter.

        Raises:
            ValueError: If another callback decides them already.
        """
        for track in self.tracks:
            if track.parameter.key == parameter.key:
                raise ValueError(
                    f"Two callbacks drive {parameter.name} of the same optimizer: "
                    f"{track.owner!r} and {owner!r}. Pass one: combine schedules with `*` or "
                    "`>>`, or give each its own optimizer with ParamScheduler(optimizer=...)."
                )
        name = parameter.name
        taken = {track.name for track in self.tracks}
        if name in taken:
            name = base = f"{name}_{parameter.optimizer.name}"
            numbered = (f"{base}_{number}" for number in itertools.count(2))
            while name in taken:
                name = next(numbered)
        adjust = self.adjustments[parameter.key]
        track = HyperparameterTrack(parameter, owner, source, name, peak, adjust)
        self.tracks.append(track)
        return track

    def adjust(self, parameter: Hyperparameter, adjustment: Adjustment) -> None:
        """Change the values of a hyperparameter that a channel moves, if one does."""
        self.adjustments[parameter.key].append(adjustment)

    def start_epoch(self, epoch: int) -> None:
        """Start counting the batches of an epoch."""
        if epoch == self.epoch:
            return
        self.end_epoch()
        self.take()
        self.check()
        self.epoch, self.batch, self.open, self.logs = epoch, 0, True, None
        starters, self.events.on_fit_start = self.events.on_fit_start, []
        for begin in (*starters, *self.events.on_epoch_start):
            begin(epoch)
        self.invalidate_values()
        self.install()
        if self.rate_reader is not None:
            self.rate_reader.start_epoch()
        for recorder in self.recorders:
            recorder.start_epoch(epoch, self.steps)
        if self.tracks:
            # Here an error of a schedule harms nothing; in the first step JAX would lose the model.
            self.row(self.steps_per_execution)

    def invalidate_values(self) -> None:
        """Ask the sources anew for every batch still to come."""
        with self.lock:
            self.flush()
            place = self._ended() - 1 - self.block_start
            if place >= 0:
                self.last_row = self.block[place]
            self.block, self.block_start = np.zeros((0, len(self.tracks)), np.float32), self.batch

    def end_epoch(self, total: Any = None) -> None:
        """Report what is still to report of the epoch; call it before the metrics are reset."""
        if not self.open:
            return
        self.flush_deferred()
        for variable, value in self.metrics or ():
            variable.assign(value)
        self.metrics = None
        with self.lock:
            self.open = False
            total = self.sample_counter.read_total() if total is None else float(to_numpy(total))
            self.flush()
            # In an epoch of unknown length, the execution that finds no more data was noted.
            self.sample_counter.clear_counts()
            if self.rate_reader is not None:
                self.rate_reader.seen.clear()
            ran = self._ran(total)
            self.ran -= self.batch - ran
            for recorder in self.recorders:
                recorder.finish_epoch(ran, total)

    def _ran(self, total: float | None) -> int:
        """Return how many batches of the epoch ran; its last execution may have run fewer."""
        if self.steps is not None:
            return min(self.batch, self.steps)
        if self.steps_per_execution == 1 or not total or not self.sample_counter.samples_per_batch:
            return self.batch
        return min(self.batch, math.ceil(total / self.sample_counter.samples_per_batch - 1e-6))

    def row(self, count: int) -> int:
        """Return the index into `block` of the present batch, with ``count`` rows behind it."""
        index = self.batch - self.block_start
        if index + count > len(self.block):
            self.invalidate_values()
            wanted = max(
                count, BLOCK if self.steps is None else min(BLOCK, self.steps - self.batch)
            )
            self.block = np.empty((wanted, len(self.tracks)), np.float32)
            for i, track in enumerate(self.tracks):
                self.block[:, i] = track.values(self.batch, wanted)
            index = 0
        return index

    def after_execution(self, count: int, logs: dict[str, Any], total: Any = None) -> None:
        """Note that an execution of ``count`` batches has run.

        Args:
            count: Batches that it ran, or may have run where the epoch ended inside it.
            logs: What it returned.
            total: Samples so far in the epoch, where the backend cannot read them from the metric.
        """
        with self.lock:
            pending, first = self.pending, self.batch
            if not pending.sizes:
                pending.first = first
            pending.sizes.append(count)
            pending.logs.append(logs)
            self.batch = first + count
            self.ran += count
            self.logs = logs
        for listen in self.events.on_execution_end:
            listen(first, count, logs)
        if self.events.on_execution_end_deferred:
            self.unheard = first, count, logs
        if self.steps is not None and self.batch >= self.steps:
            self.close(total)
        elif len(pending.sizes) >= 256:
            self.flush()

    def before_execution(self) -> None:
        """Prepare for the next execution, whatever has happened since the last."""
        self.flush_deferred()
        if self.metrics is not None and self.engine is not None:
            kept, self.metrics = self.metrics, None
            self.engine.put(kept)
            # Keras makes those that a model is compiled with in its first step, of whatever kind.
            reset_metrics(self.model, {id(variable) for variable, _ in kept})

    def flush_deferred(self) -> None:
        """Tell the late listeners of the last execution, if they have not heard of it."""
        with self.lock:
            unheard, self.unheard = self.unheard, None
            if unheard is not None:
                for listen in self.events.on_execution_end_deferred:
                    listen(*unheard)

    def close(self, total: Any = None) -> None:
        """Take it that the epoch's last batch has run."""
        self.flush_deferred()
        if self.logs is not None:
            for close in self.events.on_epoch_closing:
                close(self.logs)
        self.end_epoch(total)

    def on_epoch_end_first(self, logs: dict[str, Any]) -> None:
        """Take an epoch's end, ahead of the callbacks that write checkpoints at it."""
        if self.engine is None:
            return
        self.end_epoch()
        self.engine.catch_up()
        for close in self.events.on_epoch_closing:
            close(logs)

    def flush(self) -> None:
        """Hand the executions that have piled up to the recorders."""
        with self.lock:
            if self.pending.sizes:
                self.collect_device_notes()
            # What interrupts a recorder must not let the others hear of the same steps again.
            done, self.pending = self.pending, Executions(self.batch, [], {}, [], None)
            if done.sizes:
                start = done.first - self.block_start
                rows = self.block[start : start + sum(done.sizes)]
                done.values = {c.name: rows[:, i] for i, c in enumerate(self.tracks)}
                if self.rate_reader is not None:
                    done.values[LEARNING_RATE] = self.rate_reader.take(done.sizes)
                done.counts = self.sample_counter.pop_counts(len(done.sizes))
                for recorder in self.recorders:
                    recorder.extend(self.epoch, done)

    def collect_device_notes(self) -> None:
        done = self.pending
        if done.sizes and self.engine is not None:
            self.engine.collect_device_notes(done.first - self.block_start, done.sizes)

    def last_value(self, track: HyperparameterTrack) -> float:
        """Return the value that the last batch of the present epoch used."""
        place = self._ended() - 1 - self.block_start
        row = self.block[place] if place >= 0 else self.last_row
        return float(row[self.tracks.index(track)])

    def _ended(self) -> int:
        """Return the batches of the epoch so far, of which its last execution may lack some."""
        return self.batch if self.steps is None else min(self.batch, self.steps)

    @property
    def chief(self) -> bool:
        """Whether this process is the one of several workers that writes files."""
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy is None or bool(strategy.extended.should_checkpoint)

    @property
    def steps_per_execution(self) -> int:
        """Batches in an execution; legacy Keras has a variable for it."""
        steps = self.model.steps_per_execution
        return steps if isinstance(steps, int) else int(to_numpy(steps))

    def read_rate(self, parameter: Hyperparameter) -> float:
        """Return a learning rate that no channel moves, as it stands now."""
        return parameter.read() if self.engine is None else self.engine.read(parameter)

    def write_rate(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate that no channel moves, between executions or between epochs."""
        if self.engine is None or not self.open:
            parameter.variable.assign(value)
        else:
            self.engine.write(parameter, value)

    def read_weights(self) -> list[NDArray]:
        """Return the model's weights, also right after an execution."""
        if self.engine is None or not self.open:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            return self.model.get_weights()
        return self.engine.weights()

    def check(self) -> None:
        """Refuse to go on with a model that was compiled since the fit began.

        Raises:
            RuntimeError: If something moves hyperparameters of the optimizer that it had.
        """
        model = self.model
        if getattr(model, "optimizer", None) is self.optimizer:
            return
        if self.controllers:
            raise RuntimeError(
                f"The model {model.name!r} was compiled during the fit, so that it has another "
                f"optimizer than the one that {self.controllers[0]!r} moves. Compile it between "
                "two fits: the second one goes on with `initial_epoch`."
            )
        self.optimizer, self.sample_counter = model.optimizer, SampleCounter(model)
        self.detach()
        self.take()

    def install(self) -> None:
        """Put the function that drives the steps into the model, once the members are known."""
        if self.engine is not None:
            return
        model = self.model
        if model.train_function is None:
            self.make("make_train_function", force=True)
        self.plain = model.train_function
        if not any(c.parameter.name == LEARNING_RATE for c in self.tracks):
            self.rate_reader = LearningRateReader(effective(model.optimizer))
        skip_unused_batch_hooks(self.group)
        self.engine = engine_for(self)
        self.installed = self.engine.run
        model.train_function = self.installed
        self._warn()

    def _warn(self) -> None:
        """Warn of other callbacks that set a rate which is decided here."""
        led = [c for c in self.tracks if c.parameter.name == LEARNING_RATE]
        for other in conflicting_callbacks(self.group) if led and not self.warned else []:
            self.warned = True
            kind = type(other).__name__
            instead = {"ReduceLROnPlateau": "keras_lr.ReduceLROnPlateau, which scales it"}.get(
                kind, "a composition of schedules, in which keras_lr.Function takes a function"
            )
            warnings.warn(
                f"Keras's {kind} has no effect here: {led[0].owner!r} decides the learning rate "
                f"of each step. Use {instead}.",
                stacklevel=2,
            )

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the model to other fits while an epoch opens; an exception leaves it for good."""
        self.detach()
        yield
        self.take()


def attach(model: Any, member: Any) -> FitSession:
    """Return the drive of the model's present fit, made by the first callback that asks.

    Raises:
        ValueError: If ``member`` takes part in a fit of another model that this one runs inside.
    """
    other = vars(member).get("_session")
    # A list that an exception has left may serve the next fit.
    nested = (
        other is not None and other.group is not callback_list() and is_on_call_stack(other.group)
    )
    if nested and other.model is not model:
        raise ValueError(
            f"A callback of a fit of the model {other.model.name!r}, which still runs, is in a fit "
            f"of {model.name!r} too. Give each fit callbacks of its own: copy.deepcopy(callback)."
        )
    session = vars(model).get("_keras_lr_session")
    if session is not None and any(one is member for one in session.members):
        begins = session.epoch < 0 and is_on_call_stack(session.group)
        if not begins:
            # The member is here from a fit that never came to its end.
            session.end()
            session = None
    if session is None:
        session = FitSession(model)
        session.take()
    return session
