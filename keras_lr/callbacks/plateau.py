"""`ReduceLROnPlateau`: cut the rate when a metric stops improving."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Annotated, Any

import numpy as np

from keras_lr._fields.configurable import Configurable, configurable
from keras_lr._fields.kinds import (
    Bool,
    Choice,
    Number,
    OptimizerReference,
    Optional,
    Path,
    Rate,
    Text,
    check_optimizer_is_named,
)
from keras_lr._fields.lengths import Patience, StartField, parse_length
from keras_lr._fit.batch_loss import BatchLossTracker
from keras_lr._fit.session import FitSession
from keras_lr._hints import warn_user
from keras_lr._keras.host_values import plain_logs, to_float
from keras_lr._keras.metrics import higher_is_better
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr._keras.rates.optimizers import optimizers_of
from keras_lr._state import StateFile, check_state_path, warn_of_fresh_start
from keras_lr.callback import LearningRateCallback, print_or_log
from keras_lr.callbacks.plateau_checkpoint import PlateauCheckpoint
from keras_lr.callbacks.plateau_in_fit import PlateauRates, PlateauStart
from keras_lr.callbacks.plateau_rule import Action, Rule, State


def _field_of_state(name: str, doc: str) -> Any:
    """Return a property that reads and sets one field of ``self.state``."""

    def get(self: ReduceLROnPlateau) -> Any:
        return getattr(self.state, name)

    def set_to(self: ReduceLROnPlateau, value: Any) -> None:
        self.state = self.state.replace(**{name: value})

    return property(get, set_to, doc=doc)


@configurable
class ReduceLROnPlateau(Configurable, LearningRateCallback):
    """Multiply the rate by ``factor`` when a metric has not improved for ``patience`` epochs.

    With the arguments of ``keras.callbacks.ReduceLROnPlateau`` it behaves the same. If there is a
    schedule in the same fit, it scales the schedule: each reduction multiplies the whole rest of
    the curve::

        rate(t) = max(schedule(t) * scale, min(schedule(t), min_lr))

    so that reductions alone never bring the rate below ``min_lr``. With several optimizers, some
    with a schedule and some without, each rate follows this rule separately: it stops at its own
    bounds, and training ends only when no rate can fall further.

    Args:
        monitor: Name of the metric in the logs.
        factor: Factor of a reduction; above 0, below 1.
        patience: Epochs without improvement before a reduction. ``"N steps"`` counts training steps
            instead and monitors the batch loss, smoothed over about ``1 / (1 - smoothing)`` steps.
        verbose: 1 prints each change.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        min_delta: The smallest change that counts as an improvement. If steps are counted, the loss
            of a batch is exact if the training step can note it, as in `LRHistory`. Otherwise it is
            recovered from Keras's running mean in float32, which is off by about ``2e-7 * loss``
            times the batches of the epoch so far: choose a larger value than that.
        cooldown: Epochs (or steps) after a reduction in which nothing is counted.
        min_lr: The lowest rate that reductions lead to.
        threshold_mode: ``"absolute"``: an improvement passes ``best - min_delta``; ``"relative"``:
            ``best - min_delta * abs(best)``; with ``+`` for ``"max"``.
        on_nan: ``"count"``: a NaN counts as an epoch without improvement; ``"reduce"``: it reduces
            at once. NaN and infinity never become the best value.
        restore_best_weights: Whether a reduction also restores the weights of the best epoch.
        stop_at_min_lr: Whether to end training at a plateau if the rate cannot fall further.
        increase: Factor above 1 by which the rate is raised again; None never raises it.
        increase_when: ``"good"``: after ``increase_after`` improving epochs in a row;
            ``"stuck"``: after ``increase_after`` epochs without improvement, reductions included.
        increase_after: Number of those epochs (or steps).
        max_lr: The highest rate that raising leads to; by default the rate at the start of the fit
            or, with a schedule, the schedule itself.
        smoothing: Weight of earlier losses in the smoothed batch loss; at least 0, below 1. The
            average is ``m_t = smoothing * m_{t-1} + (1 - smoothing) * loss_t``, divided by ``1 -
            smoothing**t``.
        state_path: File for the state, written atomically after every epoch. A fit that begins at
            ``initial_epoch``, or that ``BackupAndRestore`` resumes, reads the state of that epoch
            from it. Without it, a new object that begins at a later epoch starts afresh, and warns.
        start_after: Length at the beginning of the training in which nothing is counted: epochs,
            ``"N steps"``, ``"N epochs"`` or ``"P%"``. ``"warmup"`` lasts until the schedule in the
            same fit first reaches its highest rate. An epoch counts if all of it is after that.
        optimizer: The optimizer whose rate is reduced, or the name of the attribute of the model
            that holds it, which also works in a config; by default ``model.optimizer``, and all
            optimizers that it is made of.

    Raises:
        TypeError: If an argument is unknown or of the wrong type, or the optimizer was built with a
            schedule.
        ValueError: If a number is out of range; in training, if the logs lack the metric (an epoch
            without validation may lack a validation metric), its direction is unknown, the model
            has no such optimizer, or there is no schedule whose warmup to wait for.
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
    optimizer: Annotated[Any, Optional(OptimizerReference())] = None
    start_after: Annotated[float | int | str | None, Optional(StartField())] = None

    def validate(self) -> None:
        self.by_steps = isinstance(self.patience, str)
        if self.by_steps and self.monitor not in ("loss", "val_loss"):
            raise self.invalid("monitor", "'loss' where patience is in steps")
        if self.by_steps and self.restore_best_weights:
            raise self.invalid("restore_best_weights", "False where patience is in steps")
        if self.max_lr is not None and self.max_lr < self.min_lr:
            raise self.invalid("max_lr", f"at least min_lr={self.min_lr}")
        if self.state_path is not None and not isinstance(self.optimizer, str | None):
            raise self.invalid("optimizer", "the name of the model's attribute with state_path")
        file = None if self.state_path is None else StateFile.of(self)
        self._checkpoint = PlateauCheckpoint(file, self.restore_best_weights)
        self._session: FitSession | None = None
        self._reset()

    def _reset(self) -> None:
        self.state = State()
        amount = parse_length(self.patience)[0] if self.by_steps else self.patience
        same = {field.name for field in dataclasses.fields(Rule)} - {"up", "patience"}
        arguments: dict[str, Any] = {name: getattr(self, name) for name in same}
        self._rule = Rule(up=None, patience=int(amount), **arguments)
        self._rates: PlateauRates | None = None
        self._saw_metric = self._warned_of_executions = self._lacks_state = False
        self._checkpoint.start_fit()

    # The fit ----------------------------------------------------------------------------------

    @property
    def session(self) -> FitSession:
        """The session of the running fit."""
        assert self._session is not None
        return self._session

    def join_fit(self, session: FitSession) -> None:
        if session.chief:
            check_state_path(self, session)
            self._checkpoint.check_weights()
        self._reset()
        self._session = session
        self._batch_losses = BatchLossTracker(session.sample_counter)
        self._rates = PlateauRates(session, optimizers_of(session.model, self.optimizer))
        for index, rate in enumerate(self._rates.parameters):
            session.adjust(rate, functools.partial(self._scale_schedule, index))
        self._start = PlateauStart(session, self._rates, self.start_after)
        session.events.on_fit_start += [self._start.check_schedules, self._restore_state]
        if self.by_steps:
            session.reads_losses = True
            # Keras checks right after a step whether to stop.
            listeners = (
                session.events.on_execution_end
                if self.stop_at_min_lr
                else session.events.on_execution_end_deferred
            )
            listeners.append(self._monitor_execution)
        session.events.on_epoch_closing.append(self._save_early)

    @property
    def rates(self) -> PlateauRates:
        """The rates of the running fit."""
        assert self._rates is not None
        return self._rates

    def _restore_state(self, epoch: int) -> None:
        """Restore the state of the first epoch of the fit."""
        rates = self.rates.read_rates()
        tops = rates if self.max_lr is None else (self.max_lr,) * len(rates)
        self.state = State(rates=rates, tops=tops)
        state = self._checkpoint.find_state(epoch)
        self._lacks_state = state is None and epoch > 0
        if state is None:
            return
        if state.rates and len(state.rates) != len(rates):
            raise ValueError(
                f"ReduceLROnPlateau: the state of epoch {epoch} is of {len(state.rates)} "
                f"optimizers, but here are {len(rates)}."
            )
        self.state = state.replace(rates=state.rates or rates, tops=state.tops or tops)
        self.rates.write_state(state)
        weights = self._checkpoint.load_weights(state, self.model)
        if weights is not None and state.reduced_epoch == epoch - 1:
            # The model's checkpoint may be from just before the best weights were restored.
            self.model.set_weights(weights)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._batch_losses.start_epoch()
        if self._lacks_state:
            self._lacks_state = False
            if self._start.is_over_before(epoch, self.by_steps):
                wanted = f" If nothing before counts, pass start_after={epoch}."
                warn_of_fresh_start(self, epoch, wanted)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        logs = {} if logs is None else logs
        self.rates.add_to_logs(logs)
        if not self.by_steps and self._has_metric(logs) and self._start.is_over(epoch):
            decision = self._decide(self.state, float(logs[self.monitor]), 1, epoch)
            self._apply(*decision, f"Epoch {epoch + 1}")
        self.state = self._with_present_rates(self.state)
        self._save(self.state, epoch, improved=False)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        trained = self._session is not None and self._session.ran > 0
        self._session = self._rates = None
        if trained and not self.by_steps and not self._saw_metric:
            warn_user(
                f"ReduceLROnPlateau never saw {self.monitor!r}: the fit ran no validation. The "
                "rate was not reduced. Pass validation_data to fit, or monitor='loss'."
            )

    def _has_metric(self, logs: dict[str, Any]) -> bool:
        """Return whether the logs have the metric; an epoch without validation may lack it."""
        if self.monitor in logs:
            self._saw_metric = True
            return True
        if self.monitor.startswith("val_") and self.monitor.removeprefix("val_") in logs:
            return False
        known = [name for name in logs if name != LEARNING_RATE]
        raise ValueError(
            f"ReduceLROnPlateau: argument `monitor` must name a metric in the logs. Received: "
            f"monitor={self.monitor!r}. Available: {', '.join(known) or 'none'}"
        )

    def _monitor_execution(self, first: int, count: int, logs: dict[str, Any]) -> None:
        """Decide by the smoothed loss after an execution."""
        loss, state, epoch = self._batch_loss(first, count, logs), self._state, self.session.epoch
        if not self._start.is_over(epoch, first):
            return
        if math.isfinite(loss):
            smooth = self.smoothing * state.smooth + (1.0 - self.smoothing) * loss
            state = state.replace(smooth=smooth, smoothed=state.smoothed + 1)
            loss = smooth / (1.0 - self.smoothing**state.smoothed)
        state, action, improved = self._decide(state, loss, count, epoch)
        if action == "none":
            self.state = state
        else:
            self._apply(state, action, improved, f"Epoch {epoch + 1}, step {first + count}")

    def _batch_loss(self, first: int, count: int, logs: dict[str, Any]) -> float:
        """Return the loss of the last execution, noted by its step or recovered from the mean."""
        if "loss" not in logs:
            raise ValueError(
                "ReduceLROnPlateau: with patience in steps the training step must return a loss. "
                f"Available: {', '.join(logs) or 'none'}"
            )
        if count > 1 and not self._warned_of_executions:
            self._warned_of_executions = True
            warn_user(
                f"ReduceLROnPlateau sees the loss once per execution of {count} batches "
                "(steps_per_execution) and holds the rate inside it."
            )
        engine = self.session.patch.engine
        noted = None if engine is None else engine.read_last_loss(first, count)
        if noted is not None:
            return noted
        return self._batch_losses.batch_loss(first + count, to_float(logs["loss"]))

    def _save_early(self, logs: dict[str, Any]) -> None:
        """Save the state after the epoch's end early, before other callbacks' checkpoints."""
        epoch = self.session.epoch
        if self.by_steps:
            self.state = self._with_present_rates(self.state)
            self._save(self.state, epoch, improved=False)
            return
        value = {name: to_float(value) for name, value in plain_logs(logs)}.get(self.monitor)
        if self.state_path is not None and value is not None:
            state, improved = self._with_present_rates(self.state), False
            if self._start.is_over(epoch):
                state, _, improved = self._decide(self.state, value, 1, epoch)
            self._save(state, epoch, improved)

    def _save(self, state: State, epoch: int, improved: bool) -> None:
        self._checkpoint.states[epoch + 1] = state
        if self.session.chief:
            self._checkpoint.write(epoch, self.session.read_weights if improved else None)

    # The decision -----------------------------------------------------------------------------

    def _decide(
        self, state: State, value: float, count: int, epoch: int
    ) -> tuple[State, Action, bool]:
        """Return the next state, the change to make, and whether the value is the best."""
        if self._rule.up is None:
            up = higher_is_better(type(self).__name__, self.session.model, self.monitor, self.mode)
            self._rule = dataclasses.replace(self._rule, up=up)
        state, wish, improved = self._rule.count_value(state, value, count, epoch)
        if wish == "none" and self.by_steps:
            return state, wish, improved  # reading the rate in each step would take too long
        present = self._with_present_rates(state)
        state, action = self._rule.change_rates(present, wish, epoch, self.rates.scheduled())
        return state, action, improved

    def _apply(self, state: State, action: Action, improved: bool, when: str) -> None:
        """Put a decision into effect."""
        self.state = state
        best_weights = self._checkpoint.best_weights
        if improved and self.restore_best_weights:
            best_weights = self._checkpoint.best_weights = {
                state.best_epoch: self.model.get_weights()
            }
        if action == "stop":
            self.session.model.stop_training = True
            self._print(f"{when}: ReduceLROnPlateau ends training: a plateau at the lowest rate.")
        elif action != "none":
            self.rates.write_state(state)
            verb = "reducing" if action == "reduce" else "increasing"
            self._print(
                f"{when}: ReduceLROnPlateau {verb} learning rate to {self.rates.describe(state)}."
            )
        if action == "reduce" and state.best_epoch in best_weights:
            self.model.set_weights(best_weights[state.best_epoch])

    def _print(self, message: str) -> None:
        if self.verbose:
            print_or_log(f"\n{message}")

    def _with_present_rates(self, state: State) -> State:
        """Return a state with the rates of the running fit, if there is one."""
        return state if self._rates is None else self._rates.with_present(state)

    def _scale_schedule(self, index: int, values: np.ndarray) -> np.ndarray:
        return self._rule.scale_values(values, self.state.scale_of(index))

    # The state --------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state of the rule after the last step."""
        if self._session is not None:
            self._session.flush_deferred()
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state: State = state

    best = _field_of_state("best", "The best value so far.")
    wait = _field_of_state("wait", "Epochs (or steps) since the last improvement or reduction.")
    cooldown_counter = _field_of_state("cooldown_counter", "Epochs (or steps) of cooldown left.")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain data.

        Raises:
            ValueError: If ``optimizer`` is an object; pass the name of the model's attribute
                instead.
        """
        check_optimizer_is_named("ReduceLROnPlateau", self.optimizer)
        config = super().get_config()
        for name in ("optimizer", "start_after"):
            if config[name] is None:
                del config[name]  # as in version 0.1.0, which wrote its config into state files
        return config

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for a custom checkpoint.

        >>> state = ReduceLROnPlateau().state_dict()
        >>> state["best"], state["wait"], state["scale"]
        (None, 0, 1.0)
        """
        return self._with_present_rates(self.state).to_dict()

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Make a fit that begins at ``initial_epoch=epoch`` continue from a state.

        Args:
            state: What `state_dict` returned.
            epoch: The epoch that begins with the state.

        Raises:
            ValueError: If ``state`` is not such a state.
        """
        try:
            self._checkpoint.states[epoch] = State.from_dict(state)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"ReduceLROnPlateau: argument `state` must be what state_dict() returned: {error}. "
                f"Received: state={state!r}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        kept = self._checkpoint
        own = {"state": self.state, "_states": kept.states, "_best_weights": kept.best_weights}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        own = [state.pop(name) for name in ("state", "_states", "_best_weights")]
        super().__setstate__(state)
        self.state, self._checkpoint.states, self._checkpoint.best_weights = own
