"""The state of Keras's own callbacks, and which of them must not take part in a trial.

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
    names = (*_WRITERS, *_DRIVERS)
    kinds = tuple(kind for name in names if (kind := getattr(keras.callbacks, name, None)))
    return [one for one in callbacks if isinstance(one, kinds)]


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
