"""What cannot be right in a fit, and what is said of it."""

from __future__ import annotations

from typing import Any

from keras_lr._fit.tracks import HyperparameterTrack
from keras_lr._keras.callback_list import CallbackListPatch, conflicting_callbacks
from keras_lr._keras.fit_frame import warn_user
from keras_lr._keras.hyperparameters import LEARNING_RATE


def compiled_during_fit(model: Any, controller: Any) -> RuntimeError:
    """Return the error for a model whose optimizer is another one since the fit began."""
    return RuntimeError(
        f"The model {model.name!r} was compiled during the fit, so that it has another optimizer "
        f"than the one that {controller!r} moves. Compile it between two fits: the second one goes "
        "on with `initial_epoch`."
    )


def warn_of_conflicts(tracks: list[HyperparameterTrack], callbacks: CallbackListPatch) -> bool:
    """Warn of other callbacks that set a rate which a track decides; return whether any do."""
    rates = [track for track in tracks if track.parameter.name == LEARNING_RATE]
    others = conflicting_callbacks(callbacks.group) if rates else []
    for other in others:
        kind = type(other).__name__
        instead = {"ReduceLROnPlateau": "keras_lr.ReduceLROnPlateau, which scales it"}.get(
            kind, "a composition of schedules, in which keras_lr.Function takes a function"
        )
        warn_user(
            f"Keras's {kind} has no effect here: {rates[0].owner!r} decides the learning rate "
            f"of each step. Use {instead}."
        )
    return bool(others)
