"""Checks of a fit, with the errors and warnings about what cannot be right in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from keras_lr._fit.tracks import Adjustment, HyperparameterTrack
from keras_lr._hints import warn_user
from keras_lr._keras.fits.callback_list import CallbackListPatch, conflicting_callbacks
from keras_lr._keras.fits.jax_state import steps_take_state
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, Hyperparameter
from keras_lr._keras.rates.optimizers import (
    count_batches,
    held_optimizers,
    is_built,
    trained_variables,
    unwrap_loss_scaling,
)

ASSIGNED = 1e-2
"""Relative difference up to which a rate counts as the one that was used."""


class Moved(NamedTuple):
    """A hyperparameter that moves during a fit, and the callback that moves it."""

    parameter: Hyperparameter
    owner: Any

    @classmethod
    def by_adjustment(cls, parameter: Hyperparameter, adjustment: Adjustment) -> Self:
        """Return the entry for an adjustment: a method of its owner, or a partial of one."""
        method = getattr(adjustment, "func", adjustment)
        return cls(parameter, getattr(method, "__self__", method))


def check_compiled_once(model: Any, controllers: list[Any]) -> None:
    """Refuse a model whose optimizer has been replaced since the fit began.

    Raises:
        RuntimeError: If one of ``controllers`` moves hyperparameters of the old optimizer, or if
            the fit cannot continue because the state that it passes to a step is of the old one.
    """
    if controllers or steps_take_state():
        moves = f" than the one that {controllers[0]!r} moves" if controllers else ""
        raise RuntimeError(
            f"The model {model.name!r} was compiled during the fit, so it has another "
            f"optimizer{moves}. Compile it between two fits: "
            "the second one continues with `initial_epoch`."
        )


def check_train_function(model: Any, installed: Any, logs: dict[str, Any]) -> None:
    """Refuse an epoch that was trained by another function than the one that sets the values.

    Raises:
        RuntimeError: If a callback has put another function into the model.
    """
    if logs and model.train_function != installed:
        raise RuntimeError(
            f"A callback has put another function into `train_function` of the model "
            f"{model.name!r} during the fit, so that nothing moves or is recorded. Put it there "
            "before the fit: keras_lr then calls it with the values of each step."
        )


def warn_of_conflicts(
    tracks: list[HyperparameterTrack], moved: list[Moved], callbacks: CallbackListPatch
) -> bool:
    """Warn of Keras callbacks that set a learning rate which this package decides.

    Returns:
        Whether there is one.
    """
    driven = [track.owner for track in tracks if track.parameter.name == LEARNING_RATE]
    adjusted = [one.owner for one in moved if one.parameter.name == LEARNING_RATE]
    others = conflicting_callbacks(callbacks.group)
    for other in others:
        kind = type(other).__name__
        if driven:
            instead = {"ReduceLROnPlateau": "keras_lr.ReduceLROnPlateau, which scales it"}.get(
                kind, "a composition of schedules, in which keras_lr.Function takes a function"
            )
            warn_user(
                f"Keras's {kind} has no effect here: {driven[0]!r} decides the learning rate "
                f"of each step. Use {instead}."
            )
        elif adjusted and "LearningRateScheduler" in kind:
            warn_user(
                f"Keras's {kind} sets the learning rate when an epoch begins. What "
                f"{adjusted[0]!r} does to the rate does not outlast that, unless the function "
                "starts from the rate that it is given. Use keras_lr.Function(...) instead, which "
                f"{type(adjusted[0]).__name__} scales."
            )
    return bool(others)


class AssignmentWatch:
    """Detects that something else sets a learning rate which a track decides, and warns once.

    It reads the variables twice in an epoch: when the epoch begins, which shows what was set at the
    end of the previous one, and when its first batch begins.
    """

    def __init__(self, tracks: list[HyperparameterTrack], warned: bool) -> None:
        """Watch the rates of some tracks, unless a warning has already named what sets them."""
        rates = [one for one in tracks if one.parameter.name == LEARNING_RATE and not warned]
        self._watched = [
            one
            for one in rates
            if one.parameter.variable is not None and not one.parameter.host_only
        ]

    def compare(self, value_of: Callable[[HyperparameterTrack], float]) -> None:
        """Compare the rates with those that they should have."""
        for track in self._watched:
            found, used = track.parameter.read(), value_of(track)
            if not math.isclose(found, used, rel_tol=ASSIGNED):
                self._watched = []
                warn_user(
                    f"The learning rate of the optimizer {track.parameter.optimizer.name!r} was "
                    f"set to {found:.6g} during the fit, which has no effect: {track.owner!r} "
                    "decides the learning rate of each step. Leave the setting to a composition of "
                    "schedules, in which keras_lr.Function takes a function."
                )
                return


class OptimizerUse:
    """Detects optimizers whose hyperparameters move or are recorded, but which make no update.

    Such an optimizer is left over from before a ``compile``, belongs to another model, or is not
    used by the model's own training step. The optimizers' counters show which have made updates.
    """

    def __init__(self, model: Any, moved: list[Moved], recorded: dict[str, Any]) -> None:
        """Read the counters of a model's optimizers, before the first execution.

        Args:
            model: The model.
            moved: The hyperparameters that move.
            recorded: The optimizers whose rates are only recorded, by the names of the columns.
        """
        self.model = model
        self._recorded = recorded
        self._compiled = unwrap_loss_scaling(getattr(model, "optimizer", None))
        self._held = held_optimizers(model)
        # While it searches for a scale, a wrapper skips updates, which the inner one never sees.
        scaled = {
            id(unwrap_loss_scaling(one))
            for one in self._held.values()
            if one is not unwrap_loss_scaling(one)
        }
        self._suspects = {
            id(one.parameter.optimizer): one
            for one in moved
            if id(one.parameter.optimizer) not in scaled
        }
        others = {id(one): one for one in self._held.values()}
        everyone = others | {key: one.parameter.optimizer for key, one in self._suspects.items()}
        self._counts = {key: (one, _count(one)) for key, one in everyone.items()}

    def check_first_execution(self) -> None:
        """Refuse an optimizer that certainly trains nothing.

        That is certain if another optimizer has made an update, and the idle one is not built, or
        is built for the same variables, or for none of the model's. An optimizer that the model
        holds besides the compiled one, or that is a part of the compiled one, may train later.

        Raises:
            ValueError: If there is such an optimizer.
        """
        trained = {id(v) for one in self._active() for v in trained_variables(one)}
        every = {id(v) for v in self.model.variables}
        for one in self._idle() if self._active() else []:
            optimizer = one.parameter.optimizer
            own = {id(v) for v in trained_variables(optimizer)}
            elsewhere = not own & trained and own & every
            unknown = is_built(optimizer) and not own
            if self._may_have_its_turn(optimizer) or elsewhere or unknown:
                continue
            raise self._error(one)

    def check_first_epoch(self, batches: int) -> None:
        """Refuse an optimizer that has trained nothing in an epoch, or warn about it.

        Raises:
            ValueError: If another one has trained, and the model does not hold the idle one besides
                the compiled one.
        """
        idle = self._idle() if batches else []
        if batches:
            self._check_record()
        self._suspects = {}
        for one in idle:
            if self._active() and not self._may_have_its_turn(one.parameter.optimizer):
                raise self._error(one)
            warn_user(
                f"{one.owner!r} moves {one.parameter.name} of the optimizer "
                f"{one.parameter.optimizer.name!r}, which made no update in the first epoch: its "
                "`iterations` have not risen."
            )

    def _check_record(self) -> None:
        """Warn if the rate in the record is of an optimizer that has trained nothing, once."""
        recorded, self._recorded = self._recorded, {}
        optimizer = recorded.get(LEARNING_RATE)
        if optimizer is None:
            return
        # One that holds another may leave the counting to it.
        inner = {id(one) for one in held_optimizers(optimizer).values()}
        active = {id(unwrap_loss_scaling(one)) for one in self._active()} - inner
        if not active or id(optimizer) in active:
            return
        names = [repr(name) for name, one in recorded.items() if id(one) in active]
        warn_user(
            f"The rate that is recorded as {LEARNING_RATE!r} is that of the optimizer "
            f"{optimizer.name!r}, which made no update in the first epoch: its `iterations` have "
            f"not risen. Those that train are recorded as: {', '.join(names) or 'none'}."
        )

    def _may_have_its_turn(self, optimizer: Any) -> bool:
        held = any(optimizer is unwrap_loss_scaling(one) for one in self._held.values())
        return held and optimizer is not self._compiled

    def _idle(self) -> list[Moved]:
        return [one for key, one in self._suspects.items() if not self._rose(key)]

    def _active(self) -> list[Any]:
        return [one for key, (one, _) in self._counts.items() if self._rose(key)]

    def _rose(self, key: int) -> bool:
        optimizer, before = self._counts[key]
        return before is None or _count(optimizer) != before

    def _error(self, one: Moved) -> ValueError:
        active = {id(optimizer) for optimizer in self._active()}
        names = [name for name, other in self._held.items() if id(other) in active]
        use = ", ".join(f"ParamScheduler(optimizer={name!r}, ...)" for name in names) or "none"
        return ValueError(
            f"{one.owner!r} moves {one.parameter.name} of the optimizer "
            f"{one.parameter.optimizer.name!r}, which does not train the model "
            f"{self.model.name!r}: its `iterations` have not risen. Name the one that does. "
            f"Received: optimizer={one.parameter.optimizer!r}. Those that train: {use}"
        )


def _count(optimizer: Any) -> int | None:
    """Return the updates of an optimizer; None where it does not count them."""
    try:
        return count_batches(optimizer)
    except (AttributeError, TypeError):
        return None
