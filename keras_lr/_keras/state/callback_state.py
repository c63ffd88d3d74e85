"""The state of Keras's own callbacks, and which of them must not take part in a trial or its parts.

Relies on the names of the classes in ``keras.callbacks`` (Keras 3.0 and later, and legacy Keras 2).
A class that is missing there is not looked for.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lr._keras.state.random_state import is_of_keras

_WRITERS = "BackupAndRestore", "ModelCheckpoint"
"""Callbacks whose files a trial would replace, or delete at its end."""

_DRIVERS = "LearningRateScheduler", "ReduceLROnPlateau"
"""Callbacks that set the learning rate."""


def unfit_for_trials(callbacks: list[Any]) -> list[Any]:
    """Return the callbacks of Keras, or derived from them, that set a rate or write checkpoints."""
    return [one for one in callbacks if isinstance(one, _kinds(*_WRITERS, *_DRIVERS))]


def remembers_epochs(callback: Any) -> bool:
    """Return whether a callback of Keras, or derived from one, depends on earlier epochs of a fit.

    A new one in the rest of the training would do something else.
    """
    if isinstance(callback, _kinds("EarlyStopping", "ReduceLROnPlateau")):
        return True
    if isinstance(callback, _kinds("ModelCheckpoint", "OrbaxCheckpoint")):
        return bool(callback.save_best_only or callback.save_freq != "epoch")
    return isinstance(callback, _kinds("SwapEMAWeights")) and bool(callback.swap_on_epoch)


def _kinds(*names: str) -> tuple[type[Any], ...]:
    """Return the classes of callbacks with some names, as far as this Keras has them."""
    return tuple(kind for name in names if (kind := getattr(keras.callbacks, name, None)))


class CallbackState:
    """The attributes of Keras's own callbacks at one moment, with what lists and arrays hold.

    A ``History`` and the callbacks of users are left out, because they are there to keep what they
    see.
    """

    def __init__(self, callbacks: list[Any]) -> None:
        """Copy the attributes of ``callbacks``."""
        self._attributes = [
            (one, {name: _copied(value) for name, value in vars(one).items()})
            for one in callbacks
            if is_of_keras(one) and not isinstance(one, keras.callbacks.History)
        ]

    def put_back(self) -> None:
        """Give each callback back the attributes that it had."""
        for callback, attributes in self._attributes:
            vars(callback).clear()
            vars(callback).update(attributes)


def _copied(value: Any) -> Any:
    """Return a copy of a container or an array; anything else as it is."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(member) for key, member in value.items()}
    return [_copied(member) for member in value] if isinstance(value, list) else value
