"""`ReduceLROnPlateau`: cut the rate when a metric stops improving."""

from __future__ import annotations

import dataclasses
import glob
import math
import pathlib
import warnings
from typing import Annotated, Any

import numpy as np

from keras_lr._fields.configurable import Configurable, configured
from keras_lr._fields.kinds import Bool, Choice, Number, Optional, Path, Rate, Text
from keras_lr._fields.lengths import Patience, parse_length
from keras_lr._files import StateFile, load_arrays, save_arrays, unusable
from keras_lr._fit.batch_loss import BatchLossTracker
from keras_lr._fit.events import HyperparameterTrack
from keras_lr._fit.session import FitSession
from keras_lr._keras.host_values import plain_logs, to_float
from keras_lr._keras.hyperparameters import (
    LEARNING_RATE,
    Hyperparameter,
    find_hyperparameter,
    optimizers_of,
)
from keras_lr._keras.metrics import goes_up
from keras_lr.callback import LearningRateCallback, say
from keras_lr.callbacks.plateau_rule import Action, Rule, State


@configured
class ReduceLROnPlateau(Configurable, LearningRateCallback):
    """Multiply the rate by ``factor`` when a metric has not improved for ``patience`` epochs.

    With the arguments of ``keras.callbacks.ReduceLROnPlateau`` it does what that does. Together
    with a schedule in the same fit it scales the schedule instead of fighting over the rate: each
    reduction multiplies the whole rest of the curve::

        rate(t) = max(schedule(t) * scale, min(schedule(t), min_lr))

    so that cuts alone never bring the rate below ``min_lr``.

    Args:
        monitor: Name of the metric in the logs.
        factor: What a reduction multiplies with; above 0, below 1.
        patience: Epochs without improvement before a reduction. ``"N steps"`` counts training steps
            instead and monitors the batch loss, smoothed over about ``1 / (1 - smoothing)`` steps.
        verbose: 1 says each change.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        min_delta: The least change that counts as an improvement. Where steps are counted, give one
            above ``2e-7 * loss`` times the batches in an epoch: to that much the batch loss is
            exact, which Keras knows as a running mean in float32.
        cooldown: Epochs (or steps) after a reduction in which nothing is counted.
        min_lr: The least rate that reductions lead to.
        threshold_mode: ``"absolute"``: an improvement passes ``best - min_delta``; ``"relative"``:
            ``best - min_delta * abs(best)``; the other way round for ``"max"``.
        on_nan: ``"count"``: a NaN is a bad epoch; ``"reduce"``: it reduces at once. NaN and
            infinity never become the best value.
        restore_best_weights: Whether a reduction also puts back the weights of the best epoch.
        stop_at_min_lr: Whether to end training at a plateau where the rate cannot fall further.
        increase: Factor above 1 that raises the rate again; None never raises it.
        increase_when: ``"good"``: after ``increase_after`` improving epochs in a row;
            ``"stuck"``: after ``increase_after`` epochs without improvement, reductions included.
        increase_after: Number of those epochs (or steps).
        max_lr: The highest rate that raising leads to; by default the rate at the start of the fit
            or, with a schedule, the schedule itself.
        smoothing: Weight of the past in the smoothed batch loss; at least 0, below 1. The average
            is ``m_t = smoothing * m_{t-1} + (1 - smoothing) * loss_t``, divided by ``1 -
            smoothing**t``.
        state_path: File that holds the state after every epoch, written atomically. A fit that
            begins at ``initial_epoch``, or that ``BackupAndRestore`` resumes, takes the state of
            that epoch from it.

    Raises:
        TypeError: If an argument is unknown or of the wrong type, or the optimizer was built with a
            schedule.
        ValueError: If a number is out of range; in training, if the logs have no such metric (a
            missing validation metric in an epoch without validation is none) or its direction is
            unknown.
        StateError: If the state file cannot be used.

    Source: Keras; ``threshold_mode`` is PyTorch's.

    >>> ReduceLROnPlateau(monitor="loss", patience=3)
    ReduceLROnPlateau(monitor='loss', patience=3)
    """

    monitor: Annotated[str, Text()] = "val_loss"
    factor: Annotated[float, Number(above=0.0, below=1.0)] = 0.1
    patience: Annotated[int | str, Patience()] = 10
    verbose: Annotated[int, Number(minimum=0, whole=True)] = 0
    mode: Annotated[str, Choice(("auto", "min", "max"))] = "auto"
    min_delta: Annotated[float, Number()] = 1e-4
    cooldown: Annotated[int, Number(minimum=0, whole=True)] = 0
    min_lr: Rate = 0.0
    _: dataclasses.KW_ONLY
    threshold_mode: Annotated[str, Choice(("absolute", "relative"))] = "absolute"
    on_nan: Annotated[str, Choice(("count", "reduce"))] = "count"
    restore_best_weights: Annotated[bool, Bool()] = False
    stop_at_min_lr: Annotated[bool, Bool()] = False
    increase: Annotated[float | None, Optional(Number(above=1.0))] = None
    increase_when: Annotated[str, Choice(("good", "stuck"))] = "good"
    increase_after: Annotated[int, Number(minimum=1, whole=True)] = 5
    max_lr: Annotated[float | None, Optional(Number(above=0.0))] = None
    smoothing: Annotated[float, Number(minimum=0.0, below=1.0)] = 0.98
    state_path: Annotated[str | None, Optional(Path())] = None

    def validate(self) -> None:
        self.by_steps = isinstance(self.patience, str)
        if self.by_steps and self.monitor not in ("loss", "val_loss"):
            raise self.invalid("monitor", "'loss' where patience is in steps")
        if self.by_steps and self.restore_best_weights:
            raise self.invalid("restore_best_weights", "False where patience is in steps")
        if self.max_lr is not None and self.max_lr < self.min_lr:
            raise self.invalid("max_lr", f"at least min_lr={self.min_lr}")
        self._states: dict[int, State] = {}
        self._best_weights: dict[int | None, list[np.ndarray]] = {}
        """Those of one epoch, by its number: the state says whether it is the best still."""
        self._session: FitSession | None = None
        self._reset()

    def _reset(self) -> None:
        self.state = State()
        amount = parse_length(self.patience)[0] if self.by_steps else self.patience
        same = {field.name for field in dataclasses.fields(Rule)} - {"up", "patience"}
        arguments: dict[str, Any] = {name: getattr(self, name) for name in same}
        self._rule = Rule(up=None, patience=int(amount), **arguments)
        self._rates: list[Hyperparameter] = []
        self._saved: dict[int, State] | None = None
        self._stored = (-1, b"")
        self._said: set[str] = set()

    # The fit ----------------------------------------------------------------------------------

    def join_fit(self, session: FitSession) -> None:
        self._reset()
        self._session = session
        self._mean = BatchLossTracker(session.sample_counter)
        self._rates = [
            find_hyperparameter(optimizer, LEARNING_RATE)
            for optimizer in optimizers_of(session.model)
        ]
        for rate in self._rates:
            session.adjust(rate, self._adjusted)
        session.events.on_fit_start.append(self._start)
        if self.by_steps:
            # Keras asks right after a step whether to stop.
            listeners = (
                session.events.on_execution_end
                if self.stop_at_min_lr
                else session.events.on_execution_end_deferred
            )
            listeners.append(self._listen)
        session.events.on_epoch_closing.append(self._close)

    def _start(self, epoch: int) -> None:
        """Take up the state that belongs to the first epoch of the fit."""
        rates = tuple(rate.read() for rate in self._rates)
        tops = rates if self.max_lr is None else (self.max_lr,) * len(rates)
        self.state = State(rates=rates, tops=tops)
        if epoch == 0:
            self._states, self._best_weights = {}, {}
        if self.state_path is not None and epoch not in self._states:
            known = StateFile.of(self).load()
            if epoch and epoch not in known:
                raise unusable(
                    self.state_path,
                    f"the fit begins at epoch {epoch}, and the file has states for the epochs "
                    f"{', '.join(map(str, known)) or 'none'}",
                )
            self._states = {e: State.from_dict(known[e]) for e in known if 0 < e <= epoch}
        if epoch in self._states:
            self._resume(self._states[epoch], epoch)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._mean.start_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        logs = {} if logs is None else logs
        if len(self._rates) > 1:
            for rate, value in zip(self._rates, self._read(), strict=True):
                logs[f"{LEARNING_RATE}_{rate.optimizer.name}"] = value
        if not self.by_steps and self._has_metric(logs):
            value = float(logs[self.monitor])
            self._take(*self._next(self.state, value, 1, epoch), f"Epoch {epoch + 1}")
        self._save({}, epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        self._session = None
        if not self.by_steps and "seen" not in self._said:
            warnings.warn(
                f"ReduceLROnPlateau never saw {self.monitor!r}: the fit ran no validation. The "
                "rate was not reduced.",
                stacklevel=2,
            )

    def _has_metric(self, logs: dict[str, Any]) -> bool:
        """Return whether the epoch has a value; without validation there may be none."""
        if self.monitor in logs:
            self._said.add("seen")
            return True
        if self.monitor.startswith("val_") and self.monitor.removeprefix("val_") in logs:
            return False
        known = [name for name in logs if name != LEARNING_RATE]
        raise ValueError(
            f"ReduceLROnPlateau: argument `monitor` must name a metric in the logs. Received: "
            f"monitor={self.monitor!r}. Available: {', '.join(known) or 'none'}"
        )

    def _listen(self, first: int, count: int, logs: dict[str, Any]) -> None:
        """See the loss of an execution, and smooth it."""
        loss, state, epoch = self._batch_loss(first + count, logs), self.state, self.session.epoch
        if math.isfinite(loss):
            smooth = self.smoothing * state.smooth + (1.0 - self.smoothing) * loss
            state = state.but(smooth=smooth, smoothed=state.smoothed + 1)
            loss = smooth / (1.0 - self.smoothing**state.smoothed)
        state, action, improved = self._next(state, loss, count, epoch)
        if action == "none":
            self.state = state
        else:
            self._take(state, action, improved, f"Epoch {epoch + 1}, step {first + count}")

    def _close(self, logs: dict[str, Any]) -> None:
        """Save what the epoch's end will decide: another callback's checkpoint may come first."""
        if self.by_steps:
            self._save({}, self.session.epoch)
        else:
            self._save({name: to_float(value) for name, value in plain_logs(logs)})

    def _batch_loss(self, done: int, logs: dict[str, Any]) -> float:
        """Return the loss of the last execution alone, from the mean over ``done`` batches."""
        if "loss" not in logs:
            raise ValueError(
                "ReduceLROnPlateau: with patience in steps the training step must return a loss. "
                f"Available: {', '.join(logs) or 'none'}"
            )
        mean, before = to_float(logs["loss"]), self._mean.batches
        if done - before > 1 and "held" not in self._said:
            self._said.add("held")
            warnings.warn(
                f"ReduceLROnPlateau sees the loss once per execution of {done - before} batches "
                "(steps_per_execution) and holds the rate inside it.",
                stacklevel=2,
            )
        return self._mean.batch_loss(done, mean)

    # Decisions --------------------------------------------------------------------------------

    @property
    def session(self) -> FitSession:
        """The drive of the fit that runs."""
        assert self._session is not None
        return self._session

    def _next(
        self, state: State, value: float, count: int, epoch: int
    ) -> tuple[State, Action, bool]:
        if self._rule.up is None:
            up = goes_up(type(self).__name__, self.session.model, self.monitor, self.mode)
            self._rule = dataclasses.replace(self._rule, up=up)
        state, wish, improved = self._rule.count(state, value, count, epoch)
        if wish == "none" and self.by_steps:
            return state, wish, improved  # reading the rate in each step would take too long
        channels = self._tracks()
        scheduled = self.session.last_value(channels[0]) if channels else None
        state, action = self._rule.fulfilled(self._present(state), wish, epoch, scheduled)
        return state, action, improved

    def _take(self, state: State, action: Action, improved: bool, when: str) -> None:
        """Let what was decided take effect."""
        before, self.state = self.state, state
        if improved and self.restore_best_weights:
            self._best_weights = {state.best_epoch: self.model.get_weights()}
        if action == "stop":
            self.session.model.stop_training = True
            self._say(f"{when}: ReduceLROnPlateau ends training: a plateau at the least rate.")
        elif action != "none":
            self._set(state)
            verb = "reducing" if action == "reduce" else "increasing"
            rates = ", ".join(map(str, state.rates))
            if state.scale != before.scale:
                rates = f"{state.scale:g} times the schedule"
            self._say(f"{when}: ReduceLROnPlateau {verb} learning rate to {rates}.")
        if action == "reduce" and state.best_epoch in self._best_weights:
            self.model.set_weights(self._best_weights[state.best_epoch])

    def _set(self, state: State) -> None:
        if self._tracks():
            self.session.invalidate_values()
        else:
            for rate, value in zip(self._rates, state.rates, strict=True):
                self.session.write_rate(rate, value)

    def _say(self, message: str) -> None:
        if self.verbose:
            say(f"\n{message}")

    def _tracks(self) -> list[HyperparameterTrack]:
        """Return what schedules of this fit drive the rates that are cut here."""
        keys = [rate.key for rate in self._rates]
        return [track for track in self.session.tracks if track.parameter.key in keys]

    def _present(self, state: State) -> State:
        """Return a state with the rates as they are now: another callback may have set them."""
        if self._session is None or self._tracks():
            return state
        return state.but(rates=self._read())

    def _read(self) -> tuple[float, ...]:
        return tuple(self.session.read_rate(rate) for rate in self._rates)

    def _adjusted(self, values: np.ndarray) -> np.ndarray:
        return self._rule.scaled(values, self.state.scale)

    # The state --------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What has been counted, the last step included."""
        if self._session is not None:
            self._session.flush_deferred()
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    @property
    def best(self) -> float | None:
        """The best value so far."""
        return self.state.best

    @best.setter
    def best(self, value: float | None) -> None:
        self.state = self.state.but(best=value)

    @property
    def wait(self) -> int:
        """Epochs (or steps) since the last improvement or reduction."""
        return self.state.wait

    @wait.setter
    def wait(self, value: int) -> None:
        self.state = self.state.but(wait=value)

    @property
    def cooldown_counter(self) -> int:
        """Epochs (or steps) of cooldown left."""
        return self.state.cooldown_counter

    @cooldown_counter.setter
    def cooldown_counter(self, value: int) -> None:
        self.state = self.state.but(cooldown_counter=value)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for a checkpoint of one's own.

        >>> state = ReduceLROnPlateau().state_dict()
        >>> state["best"], state["wait"], state["scale"]
        (None, 0, 1.0)
        """
        return self._present(self.state).to_dict()

    def __getstate__(self) -> dict[str, Any]:
        own = {"state": self.state, "_states": self._states, "_best_weights": self._best_weights}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.state, self._states = state["state"], dict(state["_states"])
        self._best_weights = state["_best_weights"]

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Let a fit that begins at ``initial_epoch=epoch`` go on from a state.

        Args:
            state: What `state_dict` returned.
            epoch: The epoch that the state precedes.

        Raises:
            ValueError: If ``state`` is no such state.
        """
        try:
            self._states[epoch] = State.from_dict(state)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"ReduceLROnPlateau: argument `state` must be what state_dict() returned: {error}. "
                f"Received: state={state!r}"
            ) from error

    def _save(self, logs: dict[str, Any], epoch: int | None = None) -> None:
        """Save the state for the next epoch: as it is, or as the epoch's logs will make it."""
        improved = False
        if epoch is not None:
            state = self.state = self._present(self.state)
        else:
            if self.state_path is None or self.monitor not in logs:
                return
            epoch = self.session.epoch
            state, _, improved = self._next(self.state, float(logs[self.monitor]), 1, epoch)
        self._states[epoch + 1] = state
        if self.state_path is None or not self.session.chief:
            return
        if self.restore_best_weights and state.best_epoch == epoch:
            weights = self.session.read_weights() if improved else self._best_weights.get(epoch, [])
            arrays = {str(i): weight for i, weight in enumerate(weights)}
            before = self._stored[1] if self._stored[0] == epoch else b""
            self._stored = epoch, save_arrays(self._weights_path(epoch), arrays, before)
        if self._states != self._saved:
            StateFile.of(self).save({e: known.to_dict() for e, known in self._states.items()})
            self._saved = dict(self._states)
        needed = {self._states[e].best_epoch for e in (epoch, epoch + 1) if e in self._states}
        path = pathlib.Path(self.state_path)
        for old in path.parent.glob(f"{glob.escape(path.name)}.best-*.npz"):
            if old not in {self._weights_path(e) for e in needed if e is not None}:
                old.unlink()

    def _resume(self, state: State, epoch: int) -> None:
        self.state = state.but(tops=state.tops or self.state.tops)
        if not self._tracks() and state.rates:
            self._set(state)
        if self.restore_best_weights and state.best_epoch is not None and self.state_path:
            stored = load_arrays(self._weights_path(state.best_epoch))
            self._best_weights = {state.best_epoch: list(stored.values())}
            if state.reduced_epoch == epoch - 1:
                # The checkpoint may be from just before they were put back.
                self.model.set_weights(self._best_weights[state.best_epoch])

    def _weights_path(self, epoch: int) -> pathlib.Path:
        return pathlib.Path(f"{self.state_path}.best-{epoch}.npz")
