"""Combinators: schedules made from other schedules, which the operators build."""

from __future__ import annotations

import functools
import math
import sys
from typing import Annotated, Self

import numpy as np

from keras_lr._fields.kinds import ListOf, OptionalRate, Positive, Rate
from keras_lr._fields.nesting import Nested, call, nested
from keras_lr._fields.timeline import Timeline
from keras_lr.schedules.base import (
    DurationKind,
    Inner,
    Inners,
    Schedule,
    ScheduleField,
    Steps,
    schedule,
)
from keras_lr.schedules.formulas import ROUNDING
from keras_lr.schedules.stages import Lasting, Repeat, Sequence, Warmup

__all__ = [
    "Clip",
    "Lasting",
    "PerEpoch",
    "Product",
    "Repeat",
    "Scaled",
    "Sequence",
    "Sum",
    "Warmup",
]

SMALLEST = sys.float_info.min
"""The smallest number that has all its digits."""


class _Around(Schedule):
    """Base class of schedules that wrap another one and keep its length."""

    schedule: Inner

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        return self.schedule.duration_kind

    @functools.cached_property
    def is_empty(self) -> bool:
        return self.schedule.is_empty

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        return (yield call(self.schedule.length, timeline))

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[str]]:
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
        factor: The multiplier; positive.

    >>> from keras_lr import LinearDecay
    >>> (10 * LinearDecay(0.1)).values(epochs=1, steps_per_epoch=4)
    array([1.  , 0.75, 0.5 , 0.25])
    """

    may_exceed = True

    schedule: Inner
    factor: Positive

    def scale(self, factor: float) -> Scaled:
        twice = Scaled(self, factor)
        both = twice.factor * self.factor
        return Scaled(self.schedule, both) if SMALLEST <= both < math.inf else twice

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        return self.factor * np.asarray((yield call(self.schedule.value, step, timeline)))


class _SideBySide(Schedule):
    """Base class of schedules that combine the values of parts which begin together."""

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        kinds = {part.duration_kind for part in self.direct_parts()}
        return "rest" if "rest" in kinds else "own" if "own" in kinds else "never"

    @functools.cached_property
    def is_empty(self) -> bool:
        ending = [part for part in self.direct_parts() if part.duration_kind != "never"]
        return bool(ending) and all(part.is_empty for part in ending)

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        lengths = []
        for part in self.direct_parts():
            lengths.append((yield call(part.length, timeline)))
        return max((length for length in lengths if math.isfinite(length)), default=math.inf)

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[str]]:
        unreached = []
        for part in self.direct_parts():
            unreached += yield call(part.unreached_stages, timeline)
        return unreached

    @nested
    def stage_starts(self, timeline: Timeline) -> Nested[list[float]]:
        starts = []
        for part in self.direct_parts():
            starts += yield call(part.stage_starts, timeline)
        return starts


@schedule
class Product(_SideBySide):
    """The product of schedules: ``a * b``. It is as long as the longest factor that ends.

    ``value(t) = a(t) * b(t)``

    Args:
        factors: The schedules.

    >>> from keras_lr import Constant, StepDecay
    >>> (StepDecay(0.1, every=1) * Constant(2.0)).values(epochs=3, steps_per_epoch=1)
    array([0.2 , 0.1 , 0.05])
    """

    may_exceed = True

    factors: Inners

    @classmethod
    def of(cls, *schedules: Schedule) -> Self:
        """Return the product of schedules, with nested products flattened."""
        factors: list[Schedule] = []
        for one in schedules:
            factors += one.factors if isinstance(one, Product) else [one]
        return cls(tuple(factors))

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        product: Steps | float = 1.0
        for factor in self.factors:
            product = product * np.asarray((yield call(factor.value, step, timeline)))
        return np.asarray(product)


@schedule
class Sum(_SideBySide):
    """The sum of schedules and numbers: ``a + b``, ``a + 0.001``, ``a - b``, ``a - 0.001``.

    ``value(t) = a(t) + b(t) - c(t)``

    It is as long as the longest term that ends. A difference within rounding of zero is zero.

    Args:
        terms: The schedules to add.
        minus: The schedules to subtract.

    Raises:
        ValueError: Before the first update of a fit in which the sum falls below zero.

    >>> from keras_lr import ExponentialDecay
    >>> (ExponentialDecay(0.1, factor=0.5) + 0.01).values(epochs=3, steps_per_epoch=1)
    array([0.11 , 0.06 , 0.035])
    """

    may_exceed = True

    terms: Inners
    minus: Annotated[tuple[Schedule, ...], ListOf(ScheduleField())] = ()

    @classmethod
    def of(cls, *schedules: Schedule, minus: tuple[Schedule, ...] = ()) -> Self:
        """Return the sum of schedules, with nested sums flattened."""
        plus_terms: list[Schedule] = []
        minus_terms: list[Schedule] = []
        for one in schedules:
            plus_terms += one.terms if isinstance(one, Sum) else [one]
            minus_terms += one.minus if isinstance(one, Sum) else []
        for one in minus:
            minus_terms += one.terms if isinstance(one, Sum) else [one]
            plus_terms += one.minus if isinstance(one, Sum) else []
        return cls(tuple(plus_terms), tuple(minus_terms))

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        total: Steps | float = 0.0
        for term in self.terms:
            total = total + np.asarray((yield call(term.value, step, timeline)))
        if not self.minus:
            return np.asarray(total)
        left = total
        for term in self.minus:
            left = left - np.asarray((yield call(term.value, step, timeline)))
        return np.where(np.abs(left) <= ROUNDING * np.abs(total), 0.0, left)


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
    max: OptionalRate = None

    def validate(self) -> None:
        if self.max is not None and self.max < self.min:
            raise self.invalid("max", f"at least min={self.min}")

    @property
    def value_bounds(self) -> tuple[float, float] | None:
        return None if self.max is None else (self.min, self.max)

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
