"""`ScheduleEvaluator`: evaluates a schedule over one fit, an epoch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr._fit.session import FitSession
from keras_lr._hints import warn_user

EVALUATED_AT_ONCE = 1 << 20
"""Largest number of values that are evaluated at once."""

ROUNDING = 1e-9
"""Relative difference from the highest value within which a value counts as equally high."""


class ScheduleEvaluator:
    """Evaluates a schedule once per epoch, at the epoch's first batch."""

    def __init__(self, schedule: Any, timeline: Timeline, session: FitSession) -> None:
        """Evaluate ``schedule`` for the fit of ``session``."""
        self.schedule = schedule
        self.timeline = timeline
        self.session = session
        self._epoch: int | None = None
        self._first = 0
        self._known: NDArray[np.float64] = np.zeros(0)
        self._first_epoch_steps: int | None = None
        """Batches of the first epoch, known once it is over, if they were not known before."""
        self.unresolved: UnresolvedLength | None = None
        """The reason why steps are counted: the schedule has lengths that need them."""

    def values(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the values of ``count`` batches of the present epoch, from batch ``first`` on."""
        epoch, steps = self.session.epoch, self.timeline.steps_per_epoch
        if steps is None:
            return self.values_by_epoch(epoch, first, count)
        start = first - self._first
        if epoch != self._epoch or start < 0 or start + count > len(self._known):
            ahead = max(count, min(int(steps) - first, EVALUATED_AT_ONCE))
            self._known = self.schedule(
                int(epoch * steps) + first + np.arange(ahead), self.timeline
            )
            self._epoch, self._first, start = epoch, first, 0
        return self._known[start : start + count]

    def peak(self) -> float:
        """Return the highest value from the beginning of the present epoch to the end of the fit.

        Raises:
            UnresolvedLength: If a length needs a size of the fit that is not known.
        """
        values = self._values_from(self.session.epoch)
        return max((float(block.max()) for _, block in values), default=0.0)

    def peak_step(self) -> float:
        """Return the step (or epoch, where steps are not known) that first has the highest value.

        Raises:
            UnresolvedLength: If a length needs a size of the fit that is not known.
        """
        highest, step = 0.0, 0
        for first, block in self._values_from(0):
            # A value within rounding of the highest one counts as equally high.
            if block.max() * (1.0 - ROUNDING) > highest:
                highest = float(block.max())
                step = first + int(np.argmax(block >= highest * (1.0 - ROUNDING)))
        return step

    def _values_from(self, epoch: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Iterate over blocks of values up to the end of the fit, each with its first step.

        If the number of steps is not known, a step is an epoch.

        Args:
            epoch: The epoch at which to begin.
        """
        epochs, steps = self.timeline.epochs, self.timeline.steps_per_epoch
        timeline = Timeline.by_epoch(epochs) if steps is None else self.timeline
        per_epoch = steps or 1
        end = int((epochs or epoch + 1) * per_epoch)
        for block in blocks_of_steps(int(epoch * per_epoch), end, EVALUATED_AT_ONCE):
            yield int(block[0]), self.schedule(block, timeline)

    def values_by_epoch(self, epoch: int, first: int, count: int) -> NDArray[np.float64]:
        """Return the values in a fit whose number of steps per epoch is not known.

        Lengths in epochs and shares are counted in epochs. If there are lengths in steps, the
        batches are counted instead, in a fit that starts at the beginning. From the second epoch
        on, an epoch is assumed to be as long as the first one.
        """
        before = self.session.ran - self.session.batch
        if self._first_epoch_steps is None and self._epoch not in (None, epoch):
            self._first_epoch_steps = before
        if epoch != self._epoch and self.unresolved is None:
            ticks = Timeline.by_epoch(self.timeline.epochs)
            try:
                self._known = self.schedule(np.array([epoch]), ticks)
            except UnresolvedLength as error:
                if epoch > 0 and self._first_epoch_steps is None:
                    raise UnresolvedLength(
                        f"{self.schedule!r} has lengths in steps, and the fit begins at epoch "
                        f"{epoch + 1}: how many steps went before is not known. Pass "
                        "`steps_per_epoch` to `fit`."
                    ) from error
                self.unresolved = error
            if self._epoch is None and self.unresolved is None and not self._known[0]:
                warn_user(
                    f"{self.schedule!r} gives a rate of 0 for the whole of epoch {epoch + 1}: its "
                    "number of batches is not known, so lengths in epochs move at its end. Give "
                    "lengths in steps, or pass `steps_per_epoch` to fit."
                )
        self._epoch = epoch
        if self.unresolved is None:
            return np.repeat(self._known, count)
        timeline = self.timeline
        if self._first_epoch_steps:
            timeline = Timeline(self._first_epoch_steps, timeline.epochs)
        try:
            return self.schedule(before + first + np.arange(count), timeline)
        except UnresolvedLength:
            raise self.unresolved from None


class ZeroCounter:
    """Counts the batches in which a schedule was 0.

    In a resumed fit, the batches before its first epoch count too.
    """

    def __init__(self, evaluator: ScheduleEvaluator) -> None:
        """Count the zeros of an evaluator's schedule."""
        self.evaluator = evaluator
        self._epoch: int | None = None
        self._before = 0
        """Zeros before the present epoch."""
        self._zeros: NDArray[np.bool_] = np.zeros(0, bool)
        """Whether each batch of the present epoch has a zero, as far as that is known."""

    def values(self, first: int, count: int) -> NDArray[np.float64]:
        """Return how many zeros came before each of ``count`` batches of the present epoch."""
        session = self.evaluator.session
        if session.epoch != self._epoch:
            if self._epoch is None:
                self._before = self._zeros_before(session.epoch)
            else:
                self._before += int(self._zeros[: self._ran_in_last_epoch()].sum())
            self._epoch, self._zeros = session.epoch, np.zeros(0, bool)
            self._ran_at_start = session.ran - session.batch
        zeros = self.evaluator.values(first, count).astype(np.float32) == 0.0
        self._zeros = np.concatenate([self._zeros[:first], zeros])
        counted = np.concatenate([[0], np.cumsum(self._zeros)])[first : first + count]
        return (self._before + counted).astype(np.float64)

    def _ran_in_last_epoch(self) -> int:
        session = self.evaluator.session
        return session.ran - session.batch - self._ran_at_start

    def _zeros_before(self, epoch: int) -> int:
        """Return how many batches before an epoch had a zero.

        Raises:
            UnresolvedLength: If the steps of an epoch are not known.
        """
        evaluator, timeline = self.evaluator, self.evaluator.timeline
        if epoch == 0:
            return 0
        if timeline.steps_per_epoch is None:
            raise UnresolvedLength(
                f"{evaluator.schedule!r} freezes variables, and the fit begins at epoch "
                f"{epoch + 1}: how many updates they have missed is not known. Pass "
                "`steps_per_epoch` to `fit`."
            )
        end = int(epoch * timeline.steps_per_epoch)
        blocks = blocks_of_steps(0, end, EVALUATED_AT_ONCE)
        return sum(_count_zeros(evaluator.schedule(block, timeline)) for block in blocks)


def _count_zeros(values: NDArray[np.float64]) -> int:
    """Return how many values are 0 in a step, which computes in float32."""
    return int((values.astype(np.float32) == 0.0).sum())


def blocks_of_steps(first: int, end: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Iterate over the steps from ``first`` up to ``end``, in arrays of at most ``size``."""
    for start in range(first, end, size):
        yield np.arange(start, min(start + size, end))
