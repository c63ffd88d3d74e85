"""`Ramp`: a short training at given rates, one per batch, that ends when they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.batch_loss import BatchLossTracker
from keras_lr._fit.session import FitSession
from keras_lr._keras.fit_frame import let_data_go
from keras_lr._keras.host_values import to_float
from keras_lr._keras.hyperparameters import LEARNING_RATE, find_hyperparameter, optimizer_of
from keras_lr.callback import LearningRateCallback
from keras_lr.range_test.curve import Smoother

COMPLETE, DIVERGED, NOT_FINITE, NO_DATA = "complete", "diverged", "not finite", "no more data"


class Divergence:
    """Smooths the values of a ramp as they come, and says when they have become much worse.

    That is when the smoothed value is worse than the best smoothed value by
    ``(stop_factor - 1) * max(abs(best), fall, noise)``, with the fall from the first to the best
    smoothed value, and as noise the spread of the early values, which never end a ramp.
    """

    def __init__(self, stop_factor: float, up: bool = False) -> None:
        """See the class.

        Args:
            stop_factor: How much worse than the best is too much.
            up: Whether more is better.
        """
        self.stop_factor = stop_factor
        self.up = up
        self.smoothed = math.nan
        self._smoother = Smoother()
        self._first = self._best = math.nan
        self._spread = (math.inf, -math.inf)

    def see(self, rate: float, value: float, early: bool) -> bool:
        """Take in a value; return whether it is time to stop."""
        self.smoothed = self._smoother.update(rate, value)
        worse = -self.smoothed if self.up else self.smoothed
        if math.isnan(self._first):
            self._first = self._best = worse
        self._best = min(self._best, worse)
        if early:
            self._spread = (min(self._spread[0], value), max(self._spread[1], value))
            return False
        noise = self._spread[1] - self._spread[0]
        scale = max(abs(self._best), self._first - self._best, noise)
        return worse - self._best > (self.stop_factor - 1.0) * scale


class Ramp(LearningRateCallback):
    """Train one batch at each of ``rates`` and end the fit; end it earlier where the loss says so.

    The ramp ends early when a value is not finite, or when `Divergence` says so; the first tenth of
    the ramp, and at least the first five points, count as early. A ramp may be spread over several
    fits.
    """

    def __init__(
        self,
        rates: NDArray[np.float64],
        monitor: str = "loss",
        goes_up: Callable[[], bool] = lambda: False,
        stop_factor: float = math.inf,
        report: Callable[[float, float], None] | None = None,
        offset: NDArray[np.float64] | None = None,
        read_again: Callable[[], None] = lambda: None,
    ) -> None:
        """See the class.

        Args:
            rates: The rates, in order.
            monitor: What to watch and record: a name in the logs.
            goes_up: Returns whether more of it is better; called after the first step.
            stop_factor: How much worse than the best ends the ramp.
            report: Called after each point with its rate and the smoothed value.
            offset: What to add to the value of each batch.
            read_again: Called where an epoch ends before the rates do; may raise.
        """
        super().__init__()
        self.rates = rates
        self.monitor = monitor
        self.goes_up = goes_up
        self.stop_factor = stop_factor
        self.report = report
        self.offset = np.zeros(len(rates)) if offset is None else offset[: len(rates)]
        self.read_again = read_again
        self.reason = NO_DATA
        self.begun = False
        """Whether the present fit came as far as its callbacks."""
        self.points: list[tuple[float, float]] = []
        self._done = 0
        self._divergence: Divergence | None = None

    def join_fit(self, session: FitSession) -> None:
        self.begun = True
        self._session = session
        self._mean = BatchLossTracker(session.sample_counter)
        self._before = self._done
        session.brief = True
        session.control(
            self, find_hyperparameter(optimizer_of(session.model), LEARNING_RATE), self._source
        )
        session.events.on_execution_end.append(self._listen)

    def _source(self, first: int, count: int) -> NDArray[np.float64]:
        before = self._before + self._session.ran - self._session.batch
        places = before + first + np.arange(count)
        return self.rates[np.minimum(places, len(self.rates) - 1)]

    def _listen(self, first: int, count: int, logs: dict[str, Any]) -> None:
        self._done = min(self._before + self._session.ran, len(self.rates))
        if not self.monitor.startswith("val_") and self.monitor not in logs:
            raise ValueError(
                f"LRRangeTest: argument `monitor` must name a value in the logs. Received: "
                f"monitor={self.monitor!r}. Available: {', '.join(logs) or 'none'}"
            )
        if self._divergence is None:
            self._divergence = Divergence(self.stop_factor, self.goes_up())
        if not self.monitor.startswith("val_"):
            mean = to_float(logs[self.monitor])
            self._see(self._mean.batch_loss(first + count, mean))
        if self._done == len(self.rates):
            self._end(COMPLETE)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._mean.start_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.monitor.startswith("val_") and self.reason in (NO_DATA, COMPLETE):
            if self.monitor not in (logs or {}):
                raise ValueError(
                    "LRRangeTest: argument `monitor` must name a value in the logs, which have "
                    "none of validation without `validation_data`. Received: "
                    f"monitor={self.monitor!r}. Available: {', '.join(logs or {}) or 'none'}"
                )
            self._see(float((logs or {})[self.monitor]))
        if self.reason == NO_DATA:
            self.read_again()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        let_data_go(self.model)

    def _see(self, value: float) -> None:
        """Take a value of the monitored metric at the present rate."""
        rate = float(self.rates[self._done - 1])
        value += float(self.offset[self._done - 1])
        self.points.append((rate, value))
        if not math.isfinite(value):
            self._end(NOT_FINITE)
            return
        assert self._divergence is not None
        early = len(self.points) <= 5 or self._done <= len(self.rates) // 10
        diverged = self._divergence.see(rate, value, early)
        if self.report is not None:
            self.report(rate, self._divergence.smoothed)
        if diverged:
            self._end(DIVERGED)

    def _end(self, reason: str) -> None:
        if self.reason == NO_DATA:
            self.reason = reason
        self._session.model.stop_training = True

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rates and values, the values of a loss exact for every batch."""
        rates, values = (np.array(column, np.float64) for column in zip(*self.points, strict=True))
        if self.monitor == "loss" and len(self.history) == len(values):
            values = self.history.loss.astype(np.float64) + self.offset[: len(values)]
        return rates, values
