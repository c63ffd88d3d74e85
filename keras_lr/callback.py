"""`LearningRateCallback`: what every callback of this package shares."""

from __future__ import annotations

import logging
from typing import Any

import keras

from keras_lr.drive import Drive, attach
from keras_lr.history import LRHistory
from keras_lr.hooks import LegacyHooks


class LearningRateCallback(LegacyHooks, keras.callbacks.Callback):
    """A callback that moves hyperparameters during a fit and records what it did.

    Subclasses say in `begin` what they move; the drive of the fit does it, and `history` records
    it.
    """

    async_safe = True

    _history: LRHistory | None = None

    @property
    def history(self) -> LRHistory:
        """What the last fit used, step by step."""
        if self._history is None:
            self._history = LRHistory()
        return self._history

    def begin(self, drive: Drive) -> None:
        """Tell the drive of a fit that begins what to move."""
        raise NotImplementedError

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take part in the fit."""
        drive = attach(self.model, self.history)
        if all(one is not self for one in drive.begun):
            drive.begun.append(self)
            self.begin(drive)
        self.history.record(drive, self.params)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin an epoch."""
        self.history.on_epoch_begin(epoch, logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """End the epoch's record before validation resets the metrics."""
        self.history.on_test_begin(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the rate of the epoch's last update into the logs."""
        self.history.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the model."""
        self.history.on_train_end(logs)

    def __getstate__(self) -> dict[str, Any]:
        return {"_history": self._history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keras.callbacks.Callback.__init__(self)
        self.__dict__.update(state)


def say(message: str) -> None:
    """Print a message, or log it where Keras is told to log."""
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger(__name__).info(message)
