"""`LearningRateCallback`: base class of every callback of this package."""

from __future__ import annotations

import logging
from typing import Any

import keras

from keras_lr._fit.attach import attach
from keras_lr._fit.session import FitSession
from keras_lr._keras.legacy import LegacyHooks, PassedAsObject
from keras_lr.history.callback import LRHistory


class LearningRateCallback(PassedAsObject, LegacyHooks, keras.callbacks.Callback):
    """A callback that moves hyperparameters during a fit and records what it did.

    A subclass declares in `join_fit` what it moves. The session of the fit moves it, and `history`
    records it.
    """

    async_safe = True

    _history: LRHistory | None = None

    @property
    def history(self) -> LRHistory:
        """The record of the values that the last fit used, step by step."""
        if self._history is None:
            self._history = LRHistory()
        return self._history

    def _repr_html_(self) -> str | None:
        """Return a small curve of the last fit's record; None before there is one."""
        from keras_lr.history.notebook import describe_record

        return describe_record(self.history, self)

    def join_fit(self, session: FitSession) -> None:
        """Declare to the session of a fit what to move."""
        raise NotImplementedError

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Join the fit."""
        session = attach(self.model, self.history, self.params)
        if all(one is not self for one in session.controllers):
            session.controllers.append(self)
            self.join_fit(session)
        self.history.record(session, self.params)

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
        """Leave the fit."""
        self.history.on_train_end(logs)

    def __getstate__(self) -> dict[str, Any]:
        return {"_history": self._history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keras.callbacks.Callback.__init__(self)
        self.__dict__.update(state)


def print_or_log(message: str) -> None:
    """Print a message, or log it if Keras's interactive logging is off."""
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger(__name__).info(message)
