"""Schedules made of schedules. The operators of `Schedule` build them; they nest to any depth."""

from __future__ import annotations

import functools
import math
import operator
import sys
from typing import Annotated, ClassVar

import numpy as np

from keras_lr._fields.kinds import ListOf, Number, Optional, Positive, Rate
from keras_lr._fields.lengths import Length
from keras_lr._fields.timeline import Timeline, UnresolvedLength, snap, snap_all
from keras_lr.schedules.base import Ending, Schedule, ScheduleField, Steps, schedule
from keras_lr.schedules.formulas import lerp, pieces

Inner = Annotated[Schedule, ScheduleField()]
Inners = Annotated[tuple[Schedule, ...], ListOf(ScheduleField(), at_least=1)]


def _missed(stage: Schedule, start: float, timeline: Timeline) -> list[Schedule]:
    """Return what never begins of a stage that begins at ``start``."""
    if timeline.rest is not None and start >= timeline.rest:
        return [stage]
    return stage.unreached_stages(timeline.after(start))


@schedule
class Sequence(Schedule):
    """One schedule after the other: ``a >> b``.

    ``value(t) = stage_i(t - start_i)`` for ``start_i <= t < start_{i+1}``, each stage starting
    where the lengths of the earlier ones end.

    Every stage but the last needs a length of its own: ``over=`` or `Schedule.lasting`. ``"rest"``
    in the last stage is what the earlier ones leave. A sequence longer than the fit is cut off
    where the fit ends. There are no holes: a stage holds its end value until the next begins, and
    the last one to the end.

    Args:
        stages: The schedules, in order.

    Raises:
        ValueError: If there is no stage, or one before the last has no length.

    >>> from keras_lr import CosineDecay, LinearDecay
    >>> rate = LinearDecay(0.0, 0.1, over=2) >> CosineDecay(0.1)
    >>> rate.values(epochs=6, steps_per_epoch=1).round(4)
    array([0.    , 0.05  , 0.1   , 0.0854, 0.05  , 0.0146])
    """

    stages: Inners

    @classmethod
    def joined(cls, *parts: Schedule) -> Sequence:
        """Return the sequence of the stages of all parts, so that ``>>`` is associative."""
        stages: list[Schedule] = []
        for part in parts:
            stages += part.stages if isinstance(part, Sequence) else [part]
        return cls(tuple(stages))

    def validate(self) -> None:
        for i, stage in enumerate(self.stages[:-1]):
            if stage.duration_kind != "own":
                takes = (
                    "takes the rest of its part" if stage.duration_kind == "rest" else "never ends"
                )
                raise ValueError(
                    f"Sequence: stage {i}, {stage!r}, {takes}, so that stage {i + 1} never begins. "
                    "Give it a length: over=..., or .lasting(...)."
                )

    @property
    def duration_kind(self) -> Ending:
        return self.stages[-1].duration_kind

    def starts(self, timeline: Timeline) -> list[float]:
        """Return the step at which each stage begins, and at last where the last one ends."""
        starts = [0.0]
        for stage in self.stages:
            starts.append(snap(starts[-1] + stage.length(timeline.after(starts[-1]))))
        return starts

    def length(self, timeline: Timeline) -> float:
        return self.starts(timeline)[-1]

    def unreached_stages(self, timeline: Timeline) -> list[Schedule]:
        begun = zip(self.stages, self.starts(timeline), strict=False)
        return [one for stage, start in begun for one in _missed(stage, start, timeline)]

    def stage_starts(self, timeline: Timeline) -> list[float]:
        starts = self.starts(timeline)[:-1]
        inner = [
            start + further
            for start, stage in zip(starts, self.stages, strict=True)
            for further in stage.stage_starts(timeline.after(start))
        ]
        return starts + inner

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        starts = self.starts(timeline)[:-1] if len(self.stages) > 1 else [0.0]
        return pieces(
            step,
            starts,
            lambda i, inside: self.stages[i].value(inside - starts[i], timeline.after(starts[i])),
        )


@schedule
class Warmup(Schedule):
    """Rise linearly to a schedule's first value, then follow the schedule: ``a.warmup(5)``.

    ``value(t) = start + (a(0) - start) * t / over`` for ``t < over``, then ``a(t - over)``.

    Args:
        schedule: What follows.
        over: Length of the warmup. It counts inside the whole: ``CosineDecay(0.1).warmup(5)`` over
            90 epochs decays over 85.
        start: Rate of the first update.

    Source: Goyal et al. 2017, Accurate, Large Minibatch SGD, sec. 2.2 (arXiv:1706.02677).

    >>> from keras_lr import Constant
    >>> Constant(1.0).warmup("4 steps").values(epochs=1, steps_per_epoch=6)
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  ])
    """

    schedule: Inner
    over: Length
    start: Rate = 0.0

    def validate(self) -> None:
        if self.over == "rest":
            raise self.invalid("over", "a length of its own, since the schedule follows")

    @property
    def duration_kind(self) -> Ending:
        return self.schedule.duration_kind

    def length(self, timeline: Timeline) -> float:
        over = timeline.steps(self.over)
        return over + self.schedule.length(timeline.after(over))

    def unreached_stages(self, timeline: Timeline) -> list[Schedule]:
        return _missed(self.schedule, timeline.steps(self.over), timeline)

    def stage_starts(self, timeline: Timeline) -> list[float]:
        over = timeline.steps(self.over)
        inner = self.schedule.stage_starts(timeline.after(over))
        return [over, *(over + start for start in inner)]

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        over = timeline.steps(self.over)
        after = timeline.after(over)

        def piece(i: int, inside: Steps) -> Steps | float:
            if i:
                return self.schedule.value(inside - over, after)
            return lerp(self.start, self.schedule.value(np.zeros(1), after), inside / over)

        return pieces(step, [0.0, over], piece)


@schedule
class Lasting(Schedule):
    """A schedule with a length: ``a.lasting(20)``. Shares and ``"rest"`` inside refer to it.

    ``value(t) = a(min(t, over))``

    Args:
        schedule: The schedule.
        over: Its length.

    >>> from keras_lr import Constant, LinearDecay
    >>> rate = LinearDecay(1.0).lasting("4 steps") >> Constant(0.1)
    >>> rate.values(epochs=1, steps_per_epoch=6)
    array([1.  , 0.75, 0.5 , 0.25, 0.1 , 0.1 ])
    """

    schedule: Inner
    over: Length

    def unreached_stages(self, timeline: Timeline) -> list[Schedule]:
        return self.schedule.unreached_stages(timeline.part(timeline.steps(self.over)))

    def value(self, step: Steps, timeline: Timeline) -> Steps | float:
        over = timeline.steps(self.over)
        return self.schedule.value(np.minimum(step, over), timeline.part(over))


class _Around(Schedule):
    """What wraps one schedule and keeps its length has in common."""

    schedule: Inner

    @property
    def duration_kind(self) -> Ending:
        return self.schedule.duration_kind

    def length(self, timeline: Timeline) -> float:
        return self.schedule.length(timeline)

    def unreached_stages(self, timeline: Timeline) -> list[Schedule]:
        return self.schedule.unreached_stages(timeline)

    def stage_starts(self, timeline: Timeline) -> list[float]:
        return self.schedule.stage_starts(timeline)


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

    def value(self, step: Steps, timeline: Timeline) -> Steps | float:
        return self.factor * np.asarray(self.schedule.value(step, timeline))


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

    @property
    def duration_kind(self) -> Ending:
        endings = {factor.duration_kind for factor in self.factors}
        return "rest" if "rest" in endings else "own" if "own" in endings else "never"

    def length(self, timeline: Timeline) -> float:
        lengths = [factor.length(timeline) for factor in self.factors]
        return max((length for length in lengths if math.isfinite(length)), default=math.inf)

    def unreached_stages(self, timeline: Timeline) -> list[Schedule]:
        return [one for factor in self.factors for one in factor.unreached_stages(timeline)]

    def value(self, step: Steps, timeline: Timeline) -> Steps | float:
        return functools.reduce(
            operator.mul, (factor.value(step, timeline) for factor in self.factors)
        )


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
    max: Annotated[float | None, Optional(Number(minimum=0.0))] = None

    def validate(self) -> None:
        if self.max is not None and self.max < self.min:
            raise self.invalid("max", f"at least min={self.min}")

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        return np.clip(self.schedule.value(step, timeline), self.min, self.max)


@schedule
class Repeat(Schedule):
    """A schedule several times over: ``a.repeat(3, stretch=2)``.

    ``value(t) = scale ** k * a((t - start_k) / stretch ** k)`` in cycle ``k``, in the sense that
    lengths inside the cycle are stretched; after the last cycle its end value is held.

    A cycle is as long as the schedule, where that has a length that does not depend on the whole.
    Otherwise the cycles share what is left of the part, and shares and ``"rest"`` inside refer to
    the cycle.

    Args:
        schedule: The schedule.
        times: Number of cycles; at most a million.
        stretch: Length of a cycle over the length of the one before.
        scale: Height of a cycle over the height of the one before.

    Raises:
        ValueError: If a number is out of range, or the last cycle would be infinitely long or high.

    >>> from keras_lr import LinearDecay
    >>> LinearDecay(1.0).repeat(2, scale=0.5).values(epochs=1, steps_per_epoch=4)
    array([1.  , 0.5 , 0.5 , 0.25])
    """

    arguments: ClassVar[dict[str, str]] = {"height": "scale"}

    schedule: Inner
    times: Annotated[int, Number(minimum=1, maximum=1e6, whole=True)]
    stretch: Positive = 1.0
    height: Positive = 1.0

    def validate(self) -> None:
        for name, size in (("stretch", "length"), ("height", "height")):
            largest = math.log(max(getattr(self, name), 1.0)) * (self.times - 1)
            # The sum over all cycles is finite too.
            if largest + math.log(self.times) >= math.log(sys.float_info.max):
                raise self.invalid(
                    name, f"small enough that the last of {self.times} cycles has a finite {size}"
                )

    @property
    def duration_kind(self) -> Ending:
        return "own" if self.schedule.duration_kind == "own" else "rest"

    def starts(self, timeline: Timeline) -> Steps:
        """Return the step at which each cycle begins, and at last where the last one ends."""
        stretches = self.stretch ** np.arange(self.times, dtype=np.float64)
        try:
            first = self.schedule.length(timeline.open())
        except UnresolvedLength:
            first = math.inf
        if math.isinf(first):
            first = timeline.steps("rest") / math.fsum(stretches.tolist())
        return snap_all(np.cumsum(np.append(0.0, first * stretches)))

    def length(self, timeline: Timeline) -> float:
        return float(self.starts(timeline)[-1])

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        starts = self.starts(timeline)
        first = float(starts[1])

        def cycle(k: int, inside: Steps) -> Steps | float:
            local = np.full(1, first)
            if k < self.times:
                local = np.minimum((inside - starts[k]) / self.stretch**k, first)
            k = min(k, self.times - 1)
            part = timeline.part(first, float(starts[k]))
            return self.height**k * np.asarray(self.schedule.value(local, part))

        return pieces(step, starts, cycle)


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

    def value(self, step: Steps, timeline: Timeline) -> Steps | float:
        epoch = timeline.epoch(step)
        changes = np.flatnonzero(np.diff(epoch, prepend=-1.0) != 0.0)
        first = epoch[changes] * timeline.steps(1) - timeline.start
        values = self.schedule.value(np.maximum(first, 0.0), timeline)
        return np.repeat(np.broadcast_to(values, changes.shape), np.diff(changes, append=step.size))
