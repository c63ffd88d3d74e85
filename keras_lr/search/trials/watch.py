"""`TrialWatch`: the callback that times a stretch and ends it."""

from __future__ import annotations

import math
import time
from typing import Any

import keras

from keras_lr._keras.fits.model_functions import stop_evaluation
from keras_lr._keras.host_values import plain_logs, to_float
from keras_lr.search.trials.description import Status
from keras_lr.search.trials.target import Target

CHECK_EVERY = 64
"""Executions between two checks of the loss, each of which waits for the device. The first
executions, in which most divergences occur, are checked more often."""


class TrialWatch(keras.callbacks.Callback):
    """Callback that notes what each epoch logged and how long it took, and ends the stretch.

    The stretch ends at its last epoch, at the end of the epoch that meets the target, or as soon as
    the loss is found to be infinite or NaN. Keras's running mean then stays so for the epoch.
    """

    def __init__(self, stop: int, target: Target | None) -> None:
        """Watch up to an epoch.

        Args:
            stop: Number of the epoch after the last one.
            target: The target that ends the stretch early, if there is one.
        """
        super().__init__()
        self.stop = stop
        self.target = target
        self.status: Status = "stopped"
        self.reason = "a callback stopped the training"
        self.epochs = 0
        self.steps = 0
        self.seconds = 0.0
        self.logs: dict[str, list[float]] = {}
        self.marks: list[tuple[int, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()
        self._paused = 0.0
        self._epoch = epoch
        self._batches = self._executions = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches = batch + 1
        self._executions += 1
        count = self._executions
        often = count <= CHECK_EVERY and not count & (count - 1)
        if (often or not count % CHECK_EVERY) and logs and "loss" in logs:
            self._check_loss(to_float(logs["loss"]), f"batch {batch + 1} of ")

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._test_began = time.perf_counter()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.status == "diverged":
            stop_evaluation(self.model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._paused += time.perf_counter() - self._test_began

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seconds += time.perf_counter() - self._started - self._paused
        # The last execution may have run fewer batches than Keras reports.
        self.steps += min(self._batches, self.params.get("steps") or self._batches)
        if self.status == "diverged":
            return
        found = {name: to_float(value) for name, value in plain_logs(logs or {})}
        self.epochs += 1
        for name, value in found.items():
            self.logs.setdefault(name, []).append(value)
        self.marks.append((self.steps, self.seconds))
        if not self._check_loss(found.get("loss", 0.0), ""):
            return
        if self.target is not None and self.target.is_met(found):
            self._end("reached", "")
        elif epoch + 1 >= self.stop and not self._is_stopped_early(epoch):
            self._end("trained", "")

    def _is_stopped_early(self, epoch: int) -> bool:
        """Return whether another callback ends the training with an epoch that is not the last."""
        return self.model.stop_training and epoch + 1 < self.params["epochs"]

    def _check_loss(self, loss: float, place: str) -> bool:
        """Return whether a loss is finite, and end the stretch if it is not."""
        if not math.isfinite(loss):
            self._end("diverged", f"the loss was {loss} in {place}epoch {self._epoch + 1}")
        return math.isfinite(loss)

    def _end(self, status: Status, reason: str) -> None:
        self.status, self.reason = status, reason
        self.model.stop_training = True
