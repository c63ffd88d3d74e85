"""Moving hyperparameters during one fit, inside the compiled step where Keras compiles one.

Keras reads ``model.train_function`` at every execution of a fit. A `Drive` puts its own function
there, so that what it sets is in force exactly when a step runs, whatever the order of callbacks,
and it sees which values each execution used. How a value gets into the step is the engine's part.
"""

from __future__ import annotations

import collections
import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr.channel import Adjustment, Channel, Executions, Listener, Recorder, Source
from keras_lr.engines import BLOCK, Engine, engine_for
from keras_lr.hooks import step_ahead
from keras_lr.hyperparameters import LEARNING_RATE, Hyperparameter, effective, host_value
from keras_lr.probes import LossCount, RateProbe


class Drive:
    """Moves hyperparameters through one fit of a model and reports what each batch used."""

    def __init__(self, model: Any) -> None:
        """Begin with nothing to move; `attach` is the way to get the drive of a fit."""
        self.model = model
        self.channels: list[Channel] = []
        self.adjustments: dict[Any, list[Adjustment]] = collections.defaultdict(list)
        self.recorders: list[Recorder] = []
        self.starters: list[Callable[[int], None]] = []
        """Called once with the first epoch, when everything that restores a state has done so."""
        self.openers: list[Callable[[int], None]] = []
        """Called with each epoch before its first values are asked for; may train `aside`."""
        self.listeners: list[Listener] = []
        """Called right after each execution."""
        self.late_listeners: list[Listener] = []
        """Called when the next execution begins or the epoch ends, so that the device may compute
        meanwhile: they read what it computes, which waits for it."""
        self.unheard: tuple[int, int, dict[str, Any]] | None = None
        """The execution that they have yet to hear of."""
        self.hearing = threading.RLock()
        """Held while they hear of it: Keras calls asynchronous hooks, which may ask, in threads."""
        self.closers: list[Callable[[dict[str, Any]], None]] = []
        """Called with the logs of an epoch's last step, where that is known to be the last, and of
        its end, before other callbacks hear of it."""
        self.brief = False
        """Whether the fit is too short to compile a step for it where the model has one already."""
        self.members: list[Any] = []
        self.plain = self.installed = model.train_function
        self.own_make = vars(model).get("make_train_function")
        self.engine: Engine | None = None
        self.epoch = -1
        self.batch = 0
        self.ran = 0
        self.steps: int | None = None
        self.block = np.zeros((0, 0), np.float32)
        self.block_start = 0
        self.pending = Executions(0, [], {}, [], None)
        self.probe: RateProbe | None = None
        self.loss = LossCount(model)
        self.open = False
        self.logs: dict[str, Any] | None = None
        self.step_back = step_ahead(self.finish)

    def join(self, member: Any, steps: int | None) -> None:
        """Keep the drive attached until ``member`` leaves."""
        self.members.append(member)
        self.steps = steps

    def leave(self, member: Any) -> None:
        """End a membership; the last one to leave takes the drive off the model."""
        self.members = [other for other in self.members if other is not member]
        if not self.members:
            self.end()

    def lead(
        self,
        owner: Any,
        parameter: Hyperparameter,
        source: Source,
        peak: Callable[[], float] | None = None,
    ) -> Channel:
        """Let ``source`` decide the values of a hyperparameter.

        Raises:
            ValueError: If another callback decides them already.
        """
        for channel in self.channels:
            if channel.parameter.key == parameter.key:
                raise ValueError(
                    f"Two callbacks drive {parameter.name} of the same optimizer: "
                    f"{channel.owner!r} and {owner!r}. Pass one: combine schedules with `*` or "
                    "`>>`, or give each its own optimizer with ParamScheduler(optimizer=...)."
                )
        name = parameter.name
        if any(channel.name == name for channel in self.channels):
            name = f"{name}_{parameter.optimizer.name}"
        adjust = self.adjustments[parameter.key]
        channel = Channel(parameter, owner, source, name, peak, adjust)
        self.channels.append(channel)
        return channel

    def adjust(self, parameter: Hyperparameter, adjustment: Adjustment) -> None:
        """Change the values of a hyperparameter that a channel moves, if one does."""
        self.adjustments[parameter.key].append(adjustment)

    def begin_epoch(self, epoch: int) -> None:
        """Start counting the batches of an epoch."""
        if epoch == self.epoch:
            return
        self.end_epoch()
        self.epoch, self.batch, self.open, self.logs = epoch, 0, True, None
        starters, self.starters = self.starters, []
        for begin in (*starters, *self.openers):
            begin(epoch)
        self.forget()
        self.install()
        if self.probe is not None:
            self.probe.begin_epoch()
        for recorder in self.recorders:
            recorder.begin_epoch(epoch, self.steps)
        if self.channels:
            # Here an error of a schedule harms nothing; in the first step JAX would lose the model.
            self.row(self.steps_per_execution)

    def forget(self) -> None:
        """Ask the sources anew for every batch still to come."""
        self.flush()
        self.block, self.block_start = np.zeros((0, len(self.channels)), np.float32), self.batch

    def end_epoch(self, total: Any = None) -> None:
        """Report what is still to report of the epoch; call it before the metrics are reset."""
        if not self.open:
            return
        self.hear()
        self.open = False
        total = self.loss.read() if total is None else float(host_value(total))
        self.flush()
        # In an epoch of unknown length, the execution that finds no more data was noted already.
        self.loss.counts.clear()
        if self.probe is not None:
            self.probe.seen.clear()
        ran = self._ran(total)
        self.ran -= self.batch - ran
        for recorder in self.recorders:
            recorder.close_epoch(ran, total)

    def _ran(self, total: float | None) -> int:
        """Return how many batches of the epoch ran; its last execution may have run fewer."""
        if self.steps is not None:
            return min(self.batch, self.steps)
        if self.steps_per_execution == 1 or not total or not self.loss.size:
            return self.batch
        return min(self.batch, math.ceil(total / self.loss.size - 1e-6))

    def row(self, count: int) -> int:
        """Return the index into `block` of the present batch, with ``count`` rows behind it."""
        index = self.batch - self.block_start
        if index + count > len(self.block):
            self.forget()
            wanted = max(
                count, BLOCK if self.steps is None else min(BLOCK, self.steps - self.batch)
            )
            self.block = np.empty((wanted, len(self.channels)), np.float32)
            for i, channel in enumerate(self.channels):
                self.block[:, i] = channel.values(self.batch, wanted)
            index = 0
        return index

    def done(self, count: int, logs: dict[str, Any], total: Any = None) -> None:
        """Note that an execution of ``count`` batches has run.

        Args:
            count: Batches that it ran, or may have run where the epoch ended inside it.
            logs: What it returned.
            total: Samples so far in the epoch, where the backend cannot read them from the metric.
        """
        pending, first = self.pending, self.batch
        if not pending.sizes:
            pending.first = first
        pending.sizes.append(count)
        pending.logs.append(logs)
        self.batch = first + count
        self.ran += count
        self.logs = logs
        for listen in self.listeners:
            listen(first, count, logs)
        if self.late_listeners:
            self.unheard = first, count, logs
        if self.steps is not None and self.batch >= self.steps:
            self.close(total)
        elif len(pending.sizes) >= 256:
            self.flush()

    def hear(self) -> None:
        """Tell the late listeners of the last execution, if they have not heard of it."""
        with self.hearing:
            unheard, self.unheard = self.unheard, None
            if unheard is not None:
                for listen in self.late_listeners:
                    listen(*unheard)

    def close(self, total: Any = None) -> None:
        """Take it that the epoch's last batch has run."""
        self.hear()
        if self.logs is not None:
            for close in self.closers:
                close(self.logs)
        self.end_epoch(total)

    def finish(self, logs: dict[str, Any]) -> None:
        """Take an epoch's end, ahead of the callbacks that write checkpoints at it."""
        if self.engine is None:
            return
        self.end_epoch()
        self.engine.catch_up()
        for close in self.closers:
            close(logs)

    def flush(self) -> None:
        """Hand the executions that have piled up to the recorders."""
        done = self.pending
        if done.sizes:
            start = done.first - self.block_start
            if self.engine is not None:
                self.engine.settle(start, done.sizes)
            rows = self.block[start : start + sum(done.sizes)]
            done.values = {c.name: rows[:, i] for i, c in enumerate(self.channels)}
            if self.probe is not None:
                done.values[LEARNING_RATE] = self.probe.take(done.sizes)
            done.counts = self.loss.take(len(done.sizes))
            for recorder in self.recorders:
                recorder.extend(self.epoch, done)
        self.pending = Executions(self.batch, [], {}, [], None)

    def used(self, channel: Channel) -> float:
        """Return the value that the last batch of the present epoch used."""
        batch = self.batch if self.steps is None else min(self.batch, self.steps)
        return float(self.block[batch - 1 - self.block_start, self.channels.index(channel)])

    @property
    def chief(self) -> bool:
        """Whether this process is the one of several workers that writes files."""
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy is None or bool(strategy.extended.should_checkpoint)

    @property
    def steps_per_execution(self) -> int:
        """Batches in an execution; legacy Keras has a variable for it."""
        steps = self.model.steps_per_execution
        return steps if isinstance(steps, int) else int(host_value(steps))

    def read(self, parameter: Hyperparameter) -> float:
        """Return a learning rate that no channel moves, as it stands now."""
        return parameter.read() if self.engine is None else self.engine.read(parameter)

    def write(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate that no channel moves, between executions or between epochs."""
        if self.engine is None or not self.open:
            parameter.variable.assign(value)
        else:
            self.engine.write(parameter, value)

    def weights(self) -> list[NDArray]:
        """Return the model's weights, also right after an execution."""
        if self.engine is None or not self.open:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            return self.model.get_weights()
        return self.engine.weights()

    def make_train_function(self) -> None:
        """Let Keras make the model's train function anew, as it would without a drive."""
        if self.own_make is not None:
            self.own_make(force=True)
        else:
            type(self.model).make_train_function(self.model, force=True)

    def install(self) -> None:
        """Put the function that drives the steps into the model, once the members are known."""
        if self.engine is not None:
            return
        model = self.model
        self.plain = model.train_function
        if not any(c.parameter.name == LEARNING_RATE for c in self.channels):
            self.probe = RateProbe(effective(model.optimizer))
        self.engine = engine_for(self)
        self.installed = self.engine.run
        model.train_function = self.installed

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the model to other fits while an epoch opens; an exception leaves it for good."""
        self.detach()
        yield
        self.take()

    def take(self) -> None:
        """Become the drive of the model."""
        model = self.model
        object.__setattr__(model, "_keras_lr_drive", self)

        def make_train_function(force: bool = False) -> Any:
            # Whatever calls this begins something new: the fit that the drive belonged to is over,
            # and ended by an exception if the drive is still here.
            self.end()
            return model.make_train_function(force)

        object.__setattr__(model, "make_train_function", make_train_function)

    def end(self) -> None:
        """Leave the fit: the model and the list of callbacks as they were found."""
        self.detach()
        self.step_back()

    def detach(self) -> None:
        """Leave the model as it was found."""
        model, engine = self.model, self.engine
        if vars(model).get("_keras_lr_drive") is self:
            object.__delattr__(model, "_keras_lr_drive")
            vars(model).pop("make_train_function")
            if self.own_make is not None:
                object.__setattr__(model, "make_train_function", self.own_make)
        if engine is None:
            return
        if self.pending.sizes:
            engine.settle(self.pending.first - self.block_start, self.pending.sizes)
        if model.train_function == self.installed:
            model.train_function = self.plain
        self.engine = None


def attach(model: Any, member: Any) -> Drive:
    """Return the drive of the model's present fit, made by the first callback that asks."""
    drive = vars(model).get("_keras_lr_drive")
    if drive is not None and any(one is member for one in drive.members):
        # The member is here from a fit that never came to its end.
        drive.end()
        drive = None
    if drive is None:
        drive = Drive(model)
        drive.take()
    return drive
