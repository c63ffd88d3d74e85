"""Schedules made of the values of other schedules, and all that the operators build."""

from __future__ import annotations

import functools
import math
import sys
from typing import Annotated, Self

import numpy as np

from keras_lr._fields.kinds import Optional, Positive, Rate, RateField
from keras_lr._fields.nesting import Nested, call, nested
from keras_lr._fields.timeline import Timeline
from keras_lr.schedules.base import DurationKind, Inner, Inners, Schedule, Steps, schedule
from keras_lr.schedules.stages import Lasting, Repeat, Sequence, Warmup

__all__ = ["Clip", "Lasting", "PerEpoch", "Product", "Repeat", "Scaled", "Sequence", "Warmup"]

SMALLEST = sys.float_info.min
"""The smallest number that has all its digits."""


class _Around(Schedule):
    """What wraps one schedule and keeps its length has in common."""

    schedule: Inner

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        return self.schedule.duration_kind

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        return (yield call(self.schedule.length, timeline))

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[Schedule]]:
        return (yield call(self.schedule.unreached_stages, timeline))

    @nested
    def stage_starts(self, timeline: Timeline) -> Nested[list[float]]:
        return (yield call(self.schedule.stage_starts, timeline))


@schedule
class Scaled(_Around):
    """A multiple of a schedule: ``k * a``.

    ``value(t) = factor * a(t)``

    Args:
        schedule: The schedule.
        factor: What to multiply with; positive.

    >>> from keras_lr import LinearDecay
    >>> (10 * LinearDecay(0.1)).values(epochs=1, steps_per_epoch=4)
    array([1.  , 0.75, 0.5 , 0.25])
    """

    schedule: Inner
    factor: Positive

    def scale(self, factor: float) -> Scaled:
        twice = Scaled(self, factor)
        both = twice.factor * self.factor
        return Scaled(self.schedule, both) if SMALLEST <= both < math.inf else twice

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        return self.factor * np.asarray((yield call(self.schedule.value, step, timeline)))


@schedule
class Product(Schedule):
    """The product of schedules: ``a * b``. It is as long as the longest factor that ends.

    ``value(t) = a(t) * b(t)``

    Args:
        factors: The schedules.

    >>> from keras_lr import Constant, StepDecay
    >>> (StepDecay(0.1, every=1) * Constant(2.0)).values(epochs=3, steps_per_epoch=1)
    array([0.2 , 0.1 , 0.05])
    """

    factors: Inners

    @classmethod
    def of(cls, *schedules: Schedule) -> Self:
        """Return the product of some schedules and of the factors of those that are products."""
        factors: list[Schedule] = []
        for one in schedules:
            factors += one.factors if isinstance(one, Product) else [one]
        return cls(tuple(factors))

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        kinds = {factor.duration_kind for factor in self.factors}
        return "rest" if "rest" in kinds else "own" if "own" in kinds else "never"

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        longest = -math.inf
        for factor in self.factors:
            length = yield call(factor.length, timeline)
            longest = max(longest, length) if math.isfinite(length) else longest
        return abs(longest)

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[Schedule]]:
        unreached = []
        for factor in self.factors:
            unreached += yield call(factor.unreached_stages, timeline)
        return unreached

    @nested
    def stage_starts(self, timeline: Timeline) -> Nested[list[float]]:
        starts = []
        for factor in self.factors:
            starts += yield call(factor.stage_starts, timeline)
        return starts

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        product: Steps | float = 1.0
        for factor in self.factors:
            product = product * np.asarray((yield call(factor.value, step, timeline)))
        return np.asarray(product)


@schedule
class Clip(_Around):
    """A schedule held within bounds: ``a.clip(min=1e-5)``.

    ``value(t) = min(max(a(t), lower), upper)``

    Args:
        schedule: The schedule.
        min: Lower bound.
        max: Upper bound; None for none.

    Raises:
        ValueError: If ``max`` is below ``min``.

    >>> from keras_lr import LinearDecay
    >>> LinearDecay(1.0).clip(min=0.3).values(epochs=1, steps_per_epoch=4)
    array([1.  , 0.75, 0.5 , 0.3 ])
    """

    schedule: Inner
    min: Rate = 0.0
    max: Annotated[float | None, Optional(RateField(minimum=0.0))] = None

    def validate(self) -> None:
        if self.max is not None and self.max < self.min:
            raise self.invalid("max", f"at least min={self.min}")

    def clip(self, min: float = 0.0, max: float | None = None) -> Clip:
        within = Clip(self, min, max)
        low, high = (
            self.max if bound is None else float(np.clip(bound, within.min, within.max))
            for bound in (self.min, within.max if self.max is None else self.max)
        )
        return Clip(self.schedule, low, high)

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        values = yield call(self.schedule.value, step, timeline)
        return np.clip(values, self.min, self.max)


@schedule
class PerEpoch(_Around):
    """A schedule held within each epoch at the epoch's first value: ``a.per_epoch()``.

    ``value(t) = a(steps_per_epoch * floor(t / steps_per_epoch))``

    Args:
        schedule: The schedule.

    >>> from keras_lr import LinearDecay
    >>> LinearDecay(1.0).per_epoch().values(epochs=2, steps_per_epoch=3)
    array([1. , 1. , 1. , 0.5, 0.5, 0.5])
    """

    schedule: Inner

    def per_epoch(self) -> PerEpoch:
        return PerEpoch(self.schedule)

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        epoch = timeline.epoch(step)
        changes = np.flatnonzero(np.diff(epoch, prepend=-1.0) != 0.0)
        first = epoch[changes] * timeline.steps(1) - timeline.start
        values = yield call(self.schedule.value, np.maximum(first, 0.0), timeline)
        return np.repeat(np.broadcast_to(values, changes.shape), np.diff(changes, append=step.size))
