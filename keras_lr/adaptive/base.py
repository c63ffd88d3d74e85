"""`GradientRate`: base class of the callbacks that compute the rate from the gradients."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np

from keras_lr._fields.configurable import Configurable
from keras_lr._fit.checks import Moved
from keras_lr._fit.session import FitSession
from keras_lr._fit.tracks import BLOCK
from keras_lr._hints import warn_user
from keras_lr._keras.fits.callback_list import conflicting_callbacks
from keras_lr._keras.fits.fit_data import build_model_in_fit
from keras_lr._keras.gradients.rule import Rule
from keras_lr._keras.gradients.rule_updates import (
    RuleRate,
    RuleUpdates,
    check_can_follow_rule,
    rule_updates,
)
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, find_hyperparameter
from keras_lr._keras.rates.optimizers import optimizer_of, unwrap_loss_scaling
from keras_lr._state import StateFile, check_state_path, warn_of_fresh_start
from keras_lr.adaptive.checkpoint import Arrays, RuleCheckpoint
from keras_lr.callback import LearningRateCallback
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.callbacks.plateau import ReduceLROnPlateau
from keras_lr.schedules.base import Schedule

LEAST_FACTOR = 0.1
"""If the highest factor of a schedule is this or below, a rate may have been meant."""


class GradientRate(Configurable, LearningRateCallback):
    """A callback with a rule that computes the rate of each update from its gradients.

    The rule runs inside the compiled training step. Its state is kept apart from the optimizer, so
    the saved form of the optimizer does not change. A fit that begins at ``initial_epoch``
    continues with the state of the callback's last fit, or with the one in the file at
    ``state_path``.
    """

    takes_factor: ClassVar[bool] = True
    """Whether a schedule or a plateau in the same fit multiplies the rate."""

    state_path: str | None
    _session: FitSession | None
    _updates: RuleUpdates | None

    def validate(self) -> None:
        file = None if self.state_path is None else StateFile.of(self)
        self._checkpoint = RuleCheckpoint(file)
        self._session, self._updates = None, None

    def make_rule(self) -> Rule:
        """Return the rule that the callback's arguments define."""
        raise NotImplementedError

    def check_optimizer(self, optimizer: Any) -> None:
        """Refuse an optimizer for which the rule is not made, or warn about it."""

    def check_others(self, session: FitSession) -> None:
        """Refuse other callbacks that decide the rate, once all have joined the fit."""
        factors = (Schedule, ParamScheduler, ReduceLROnPlateau) if self.takes_factor else ()
        others = [one.owner for one in session.moved if one.parameter.name == LEARNING_RATE]
        if not self.takes_factor:
            others += conflicting_callbacks(session.callbacks.group)
        wrong = [one for one in others if not isinstance(one, factors)]
        if wrong:
            instead = (
                "A schedule or a ReduceLROnPlateau in the same fit multiplies the rate. "
                if self.takes_factor
                else "Prodigy and DistanceOverGradients take a schedule as a factor of their rate. "
            )
            raise ValueError(
                f"{self!r} computes the rate from the gradients, and {wrong[0]!r} sets it too, so "
                f"that two callbacks decide one rate. Pass one of them. {instead}"
                "To start from what a range test suggests, call LRRangeTest(...).run(...) first."
            )

    def join_fit(self, session: FitSession) -> None:
        if session.chief:
            check_state_path(self, session)
            self._checkpoint.check_arrays()
        optimizer = optimizer_of(session.model)
        if find_hyperparameter(optimizer, LEARNING_RATE).host_only:
            raise ValueError(
                f"The optimizer {type(optimizer).__name__} computes its learning rate, but "
                f"{type(self).__name__} sets it inside the training step. Let `learning_rate` be "
                "the variable that Keras keeps for it."
            )
        check_can_follow_rule(session.model.optimizer)
        self.check_optimizer(optimizer)
        self._session = session
        self._checkpoint.start_fit()
        # Before all other handlers, which look at what moves the rate.
        session.events.on_fit_start.insert(0, functools.partial(self._control, session))
        session.events.on_epoch_closing.append(self._save)

    def _control(self, session: FitSession, epoch: int) -> None:
        """Make the rule decide the rate in the fit that begins."""
        model = build_model_in_fit(session.model)
        rate = find_hyperparameter(unwrap_loss_scaling(model.optimizer), LEARNING_RATE)
        self.check_others(session)
        track = next((one for one in session.tracks if one.parameter.key == rate.key), None)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        rows = max(BLOCK, session.steps_per_execution)
        updates = self._updates = rule_updates(model, self.make_rule(), rows)
        if track is None:
            session.control(self, RuleRate(updates), _ones)
        elif track.peak is not None and (peak := track.peak()) <= LEAST_FACTOR:
            warn_user(
                f"{track.owner!r} multiplies the rate of {self!r} by at most {peak:g}. If that was "
                "meant as a rate, make 1.0 its highest value: the rate comes from the gradients."
            )
        if track is not None:
            track.parameter = RuleRate(updates)
            session.moved.append(Moved(track.parameter, self))
        state = self._checkpoint.find_state(epoch, updates)
        if state is not None:
            updates.start_fit(state)
        elif epoch and self._checkpoint.is_left_at(epoch, updates):
            updates.keep_fit()
        else:
            updates.start_fit(None)
            if epoch:
                warn_of_fresh_start(self, epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._updates is not None:
            self._checkpoint.leave_at(epoch + 1, self._updates)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        self._session = None
        if failed := self.failed_updates:
            warn_user(
                f"{type(self).__name__}: the gradients of {failed} updates were not finite. These "
                "updates left the rate as it was. `failed_updates` has their number."
            )

    @property
    def failed_updates(self) -> int:
        """Number of updates so far whose gradients were not finite; they kept the old rate."""
        return 0 if self._updates is None else self._updates.failed_updates()

    # The state --------------------------------------------------------------------------------

    def _save(self, logs: dict[str, Any]) -> None:
        """Save the state before other callbacks write their checkpoints."""
        session = self._session
        assert session is not None
        assert self._updates is not None
        if session.chief:
            self._checkpoint.write(session.epoch + 1, self._updates)

    def state_dict(self) -> Arrays:
        """Return the state as arrays by name, for a custom checkpoint; empty before a fit."""
        return {} if self._updates is None else self._updates.read_state()

    def load_state_dict(self, state: Arrays, epoch: int) -> None:
        """Make a fit that begins at ``initial_epoch=epoch`` continue from a state.

        Args:
            state: What `state_dict` returned.
            epoch: The epoch that begins with the state.
        """
        self._checkpoint.loaded = {epoch: dict(state)}

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_loaded": self._checkpoint.read_left()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        loaded = state.pop("_loaded", {})
        super().__setstate__(state)
        self._checkpoint.loaded = loaded


def _ones(first: int, count: int) -> np.ndarray:
    """Return the multipliers of a fit without a schedule."""
    return np.ones(count)
