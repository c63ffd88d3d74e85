"""`Ramp`: a short training run at given rates, one per batch, that ends with the last of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.batch_loss import BatchLossTracker
from keras_lr._fit.session import FitSession
from keras_lr._keras.fits.fit_frame import release_data
from keras_lr._keras.host_values import copy_logs, is_on_host, to_floats
from keras_lr._keras.metrics import has_own_train_step
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr._keras.rates.joint_rates import find_shares
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr.callback import LearningRateCallback
from keras_lr.range_test.curve import Smoother
from keras_lr.schedules.control import control_together

COMPLETE, DIVERGED, NOT_FINITE, NO_DATA = "complete", "diverged", "not finite", "no more data"
"""How a ramp ended."""

MAX_UNREAD = 8
"""Number of values that are read together from an accelerator. Waiting for it after each step takes
longer than the steps that a ramp may then train after its end; these are left out."""

MIN_EARLY = 5
"""Number of first values that never end a ramp: fewer would say little about the noise."""


def is_early(points: int, steps_done: int, steps: int) -> bool:
    """Return whether a ramp is still in its first tenth, or in its first five points.

    Args:
        points: Values so far.
        steps_done: Steps so far: more than the values, if these come from validations.
        steps: Steps of the whole ramp.
    """
    return points <= MIN_EARLY or steps_done <= steps // 10


class Divergence:
    """Detects that the values of a ramp have become much worse.

    They have when the smoothed value is worse than the best smoothed value by more than
    ``(stop_factor - 1) * max(abs(best), fall, noise)``. The fall is from the first smoothed value
    to the best. The noise is the spread of the early values, which never end a ramp.
    """

    def __init__(self, stop_factor: float, up: bool = False) -> None:
        """See the class.

        Args:
            stop_factor: Multiple of the best value that counts as diverged.
            up: Whether more is better.
        """
        self.stop_factor = stop_factor
        self.up = up
        self.smoothed = math.nan
        self._smoother = Smoother()
        self._first = self._best = math.nan
        self._lowest, self._highest = math.inf, -math.inf

    def update(self, rate: float, value: float, early: bool) -> bool:
        """Add a value and return whether it is time to stop."""
        self.smoothed = self._smoother.update(rate, value)
        worse = -self.smoothed if self.up else self.smoothed
        if math.isnan(self._first):
            self._first = self._best = worse
        self._best = min(self._best, worse)
        if early:
            self._lowest, self._highest = min(self._lowest, value), max(self._highest, value)
            return False
        noise = self._highest - self._lowest
        scale = max(abs(self._best), self._first - self._best, noise)
        return worse - self._best > (self.stop_factor - 1.0) * scale


class Ramp(LearningRateCallback):
    """Callback that trains one batch at each of ``rates`` and then ends the fit.

    It ends the fit earlier if a value is not finite or `Divergence` detects a divergence. A ramp
    may be spread over several fits.
    """

    def __init__(
        self,
        rates: NDArray[np.float64],
        monitor: str = "loss",
        higher_is_better: Callable[[], bool] = lambda: False,
        stop_factor: float = math.inf,
        report: Callable[[float, float], None] | None = None,
        offset: NDArray[np.float64] | None = None,
        read_again: Callable[[], None] = lambda: None,
        optimizer: Any = None,
    ) -> None:
        """See the class.

        Args:
            rates: The rates, in order.
            monitor: Name in the logs of the value to record.
            higher_is_better: Function that returns whether more of the value is better; called
                after the first step.
            stop_factor: Multiple of the best value that ends the ramp.
            report: Called after each point with its rate and the smoothed value.
            offset: Numbers to add to the values of the batches.
            read_again: Called if an epoch ends before the last rate; may raise.
            optimizer: The optimizer whose rate it is, or the name of the model's attribute that
                holds it; the model's own by default.
        """
        super().__init__()
        self.rates = rates
        self.monitor = monitor
        self.higher_is_better = higher_is_better
        self.stop_factor = stop_factor
        self.report = report
        self.offset = np.zeros(len(rates)) if offset is None else offset[: len(rates)]
        self.read_again = read_again
        self.optimizer = optimizer
        self.reason = NO_DATA
        """How the ramp ended, or would end now."""
        self.in_fit = False
        """Whether the present fit has called its callbacks."""
        self.points: list[tuple[float, float]] = []
        self._steps_done = 0
        self._unread: list[tuple[int, int, Any]] = []
        """Steps of the ramp, batches of the epoch and value, of each step that was not read yet."""
        self._divergence: Divergence | None = None

    @property
    def validates(self) -> bool:
        """Whether the recorded value comes from validation, at the end of an epoch."""
        return self.monitor.startswith("val_")

    def join_fit(self, session: FitSession) -> None:
        self.in_fit = True
        self._session = session
        self._mean = BatchLossTracker(session.sample_counter)
        # The loss of a batch can be recovered only from Keras's own mean of the losses.
        self._recovers = (
            self.monitor == "loss"
            and session.sample_counter.variable is not None
            and not has_own_train_step(session.model)
        )
        session.patch.resets_metrics = not (self._recovers or self.validates)
        self._steps_before = self._steps_done
        session.brief = True
        shares = find_shares(optimizer_of(session.model, self.optimizer), LEARNING_RATE)
        control_together(session, self, shares, self._next_rates)
        session.events.on_execution_end.append(self._on_execution_end)

    def _next_rates(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the rates of ``count`` batches of the epoch; after the last rate, that rate."""
        epoch_start = self._steps_before + self._session.ran - self._session.batch
        steps = epoch_start + first + np.arange(count)
        return self.rates[np.minimum(steps, len(self.rates) - 1)]

    def _on_execution_end(self, first: int, count: int, logs: dict[str, Any]) -> None:
        self._steps_done = min(self._steps_before + self._session.ran, len(self.rates))
        if not self.validates and self.monitor not in logs:
            raise self._unknown_monitor(logs, "")
        if self._divergence is None:
            self._divergence = Divergence(self.stop_factor, self.higher_is_better())
        done = self._steps_done == len(self.rates)
        if not self.validates:
            value = logs[self.monitor]
            self._unread.append((self._steps_done, first + count, copy_logs(value)))
            if done or len(self._unread) == MAX_UNREAD or is_on_host(value):
                self._read_points()
        if done:
            self._end_fit(COMPLETE)

    def _read_points(self) -> None:
        """Read the values of the last steps, and record them up to the end of the ramp."""
        unread, self._unread = self._unread, []
        values = to_floats([value for _, _, value in unread]).tolist()
        for (steps_done, batches, _), value in zip(unread, values, strict=True):
            if self.reason == NO_DATA:
                own = self._mean.batch_loss(batches, value) if self._recovers else value
                self._add_point(steps_done, own)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._mean.start_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._read_points()
        if self.validates and self.reason in (NO_DATA, COMPLETE):
            if self.monitor not in (logs or {}):
                missing = ", which have no validation metrics without `validation_data`"
                raise self._unknown_monitor(logs or {}, missing)
            self._add_point(self._steps_done, float((logs or {})[self.monitor]))
        if self.reason == NO_DATA:
            self.read_again()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        release_data(self.model)

    def _add_point(self, steps_done: int, value: float) -> None:
        """Record the value after some steps of the ramp, and end the fit if it is too bad."""
        rate = float(self.rates[steps_done - 1])
        value += float(self.offset[steps_done - 1])
        self.points.append((rate, value))
        if not math.isfinite(value):
            self._end_fit(NOT_FINITE)
            return
        assert self._divergence is not None
        early = is_early(len(self.points), steps_done, len(self.rates))
        diverged = self._divergence.update(rate, value, early)
        if self.report is not None:
            self.report(rate, self._divergence.smoothed)
        if diverged:
            self._end_fit(DIVERGED)

    def _end_fit(self, reason: str) -> None:
        if self.reason == NO_DATA:
            self.reason = reason
        self._session.model.stop_training = True

    def _unknown_monitor(self, logs: dict[str, Any], more: str) -> ValueError:
        return ValueError(
            f"LRRangeTest: argument `monitor` must name a value in the logs{more}. Received: "
            f"monitor={self.monitor!r}. Available: {', '.join(logs) or 'none'}"
        )

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the rates and the values, each exactly that of its batch."""
        rates, values = (np.array(column, np.float64) for column in zip(*self.points, strict=True))
        if self._recovers and len(self.history) >= len(values):
            losses = self.history.loss[: len(values)].astype(np.float64)
            values = losses + self.offset[: len(values)]
        return rates, values


def median_curve(ramps: list[Ramp]) -> tuple[NDArray[np.float64], ...]:
    """Return rates, median and quartiles of some ramps, up to the end of the shortest one."""
    curves = [ramp.curve() for ramp in ramps]
    count = min(len(rates) for rates, _ in curves)
    rates, values = curves[0][0][:count], np.array([values[:count] for _, values in curves])
    if len(curves) == 1:
        return rates, values[0], values[0], values[0]
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    return rates, middle, lower, upper


def combine_endings(ramps: list[Ramp]) -> str:
    """Return how some ramps ended: the first reason to end early, if there is one."""
    return next((ramp.reason for ramp in ramps if ramp.reason != COMPLETE), COMPLETE)
