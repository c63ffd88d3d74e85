"""Stages: schedules one after another, and schedules with a length."""

from __future__ import annotations

import functools
import math
import sys
from typing import Annotated, ClassVar, Self

import numpy as np

from keras_lr._fields.kinds import Bool, Number, Positive, Rate
from keras_lr._fields.lengths import LengthOrZero, TimescaleOrZero, parse_length
from keras_lr._fields.nesting import Nested, call, nested
from keras_lr._fields.timeline import Timeline, UnresolvedLength, snap_each_to_whole, snap_to_whole
from keras_lr.schedules.base import DurationKind, Inner, Inners, Schedule, Steps, schedule
from keras_lr.schedules.formulas import RAMPS, RampShape, lerp, pieces


@nested
def _unreached(stage: Schedule, start: float, timeline: Timeline) -> Nested[list[str]]:
    """Return what the part ends before, of a stage that begins at ``start``."""
    if timeline.rest is not None and start >= timeline.rest:
        return [f"{stage!r} begins"]
    return (yield call(stage.unreached_stages, timeline.after(start)))


@nested
def _stage_starts(stage: Schedule, start: float, timeline: Timeline) -> Nested[list[float]]:
    """Return the steps at which a stage that begins at ``start``, and its own stages, begin."""
    inner = yield call(stage.stage_starts, timeline.after(start))
    return [start, *(start + further for further in inner)]


@schedule
class Sequence(Schedule):
    """One schedule after the other: ``a >> b``.

    ``value(t) = stage_i(t - start_i)`` for ``start_i <= t < start_{i+1}``, each stage starting
    where the lengths of the earlier ones end.

    Every stage except the last needs its own length: ``over=`` or `Schedule.lasting`. ``"rest"`` in
    the last stage is what the earlier ones leave. A sequence longer than the fit is cut off where
    the fit ends. There are no gaps: a stage holds its end value until the next begins, and the last
    one to the end.

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
    def of(cls, *schedules: Schedule) -> Self:
        """Return the sequence of schedules, with nested sequences flattened."""
        stages: list[Schedule] = []
        for one in schedules:
            stages += one.stages if isinstance(one, Sequence) else [one]
        return cls(tuple(stages))

    def validate(self) -> None:
        self._present = tuple(one for one in self.stages if not one.is_empty) or self.stages[:1]
        self._latest_starts: tuple[Timeline | None, list[float]] = None, []
        for i, stage in enumerate(self.stages[:-1]):
            if stage.duration_kind != "own":
                takes = (
                    "takes the rest of its part" if stage.duration_kind == "rest" else "never ends"
                )
                raise ValueError(
                    f"Sequence: stage {i}, {stage!r}, {takes}, so that stage {i + 1} never begins. "
                    "Give it a length: over=..., or .lasting(...)."
                )

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        return self.stages[-1].duration_kind

    @functools.cached_property
    def is_empty(self) -> bool:
        return self._present[0].is_empty

    @nested
    def starts(self, timeline: Timeline) -> Nested[list[float]]:
        """Return the step at which each stage that is not empty begins."""
        known, starts = self._latest_starts
        if known != timeline:
            starts = [0.0]
            for stage in self._present[:-1]:
                length = yield call(stage.length, timeline.after(starts[-1]))
                starts.append(snap_to_whole(starts[-1] + length))
            self._latest_starts = timeline, starts
        return starts

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        start = (yield call(self.starts, timeline))[-1]
        length = yield call(self._present[-1].length, timeline.after(start))
        return snap_to_whole(start + length)

    def _shares(self) -> list[str]:
        """Return the lengths of the stages that are shares of the same part."""
        lengths = [getattr(stage, "over", None) for stage in self._present]
        return [one for one in lengths if isinstance(one, str) and one.endswith("%")]

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[str]]:
        starts = yield call(self.starts, timeline)
        unreached = []
        shares = sum(parse_length(over)[0] for over in self._shares())
        if shares > 100.0 + 1e-6:
            unreached.append(f"{self!r} ends: its shares add up to {shares:g} %")
        for stage, start in zip(self._present, starts, strict=True):
            unreached += yield call(_unreached, stage, start, timeline)
        return unreached

    @nested
    def stage_starts(self, timeline: Timeline) -> Nested[list[float]]:
        starts = yield call(self.starts, timeline)
        found = []
        for stage, start in zip(self._present, starts, strict=True):
            found += yield call(_stage_starts, stage, start, timeline)
        return found

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        starts = yield call(self.starts, timeline)
        values = np.empty(step.shape)
        for number, where in pieces(step, starts):
            start = starts[number]
            after = timeline.after(start)
            values[where] = yield call(self._present[number].value, step[where] - start, after)
        return values


@schedule
class Warmup(Schedule):
    """Rise to a schedule's first value, then follow the schedule: ``a.warmup(5)``.

    ``value(t) = start + (a(0) - start) * ramp(t / over)`` for ``t < over``, then ``a(t - over)``,
    or with ``shift=False`` ``a(t)``. The ramp is by ``shape``

    - ``"linear"``: ``w``;
    - ``"cosine"``: ``(1 - cos(pi * w)) / 2``, which begins and ends flat;
    - ``"sqrt"``: ``sqrt(w)``, which begins steep;
    - ``"square"``: ``w ** 2``, which begins flat.

    Args:
        schedule: The schedule that follows.
        over: Length of the warmup; 0 for none. It counts inside the whole:
            ``CosineDecay(0.1).warmup(5)`` over 90 epochs decays over 85.
        start: Rate of the first update.
        shape: ``"linear"``, ``"cosine"``, ``"sqrt"`` or ``"square"``.
        shift: Whether the schedule begins after the warmup. If not, it begins with the warmup,
            which hides its first part: the rate then jumps from ``a(0)`` to ``a(over)``.

    Source: Goyal et al. 2017, Accurate, Large Minibatch SGD, sec. 2.2 (arXiv:1706.02677). Without
        ``shift`` the optimizer of BERT (Devlin et al. 2018), and timm's default.

    >>> from keras_lr import Constant, LinearDecay
    >>> Constant(1.0).warmup("4 steps").values(epochs=1, steps_per_epoch=6)
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  ])
    >>> masked = LinearDecay(1.0).warmup("2 steps", shift=False)
    >>> masked.values(epochs=1, steps_per_epoch=8)
    array([0.   , 0.5  , 0.75 , 0.625, 0.5  , 0.375, 0.25 , 0.125])
    """

    schedule: Inner
    over: TimescaleOrZero
    start: Rate = 0.0
    shape: RampShape = "linear"
    shift: Annotated[bool, Bool()] = True

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        return self.schedule.duration_kind

    @functools.cached_property
    def is_empty(self) -> bool:
        return self.schedule.is_empty and parse_length(self.over)[0] == 0.0

    def _begin(self, timeline: Timeline) -> float:
        """Return the step at which the schedule's own clock begins."""
        return timeline.steps(self.over) if self.shift else 0.0

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        begin = self._begin(timeline)
        length = yield call(self.schedule.length, timeline.after(begin))
        return max(begin + length, timeline.steps(self.over))

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[str]]:
        over = timeline.steps(self.over)
        if self.shift or (timeline.rest is not None and over >= timeline.rest):
            return (yield call(_unreached, self.schedule, over, timeline))
        return (yield call(self.schedule.unreached_stages, timeline))

    @nested
    def stage_starts(self, timeline: Timeline) -> Nested[list[float]]:
        over, begin = timeline.steps(self.over), self._begin(timeline)
        starts = yield call(_stage_starts, self.schedule, begin, timeline)
        return [over, *(start for start in starts if start > over)]

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        over, begin = timeline.steps(self.over), self._begin(timeline)
        after = timeline.after(begin)
        values = np.full(step.shape, self.start)
        for number, where in pieces(step, [0.0, over]):
            inside = step[where]
            if number:
                values[where] = yield call(self.schedule.value, inside - begin, after)
            elif inside.any():
                first = yield call(self.schedule.value, np.zeros(1), after)
                values[where] = lerp(self.start, first, RAMPS[self.shape](inside / over))
        return values


@schedule
class Lasting(Schedule):
    """A schedule with a length: ``a.lasting(20)``. Shares and ``"rest"`` inside refer to it.

    ``value(t) = a(min(t, over))``

    Args:
        schedule: The schedule.
        over: Its length. A stage of length 0 is left out of its sequence.

    >>> from keras_lr import Constant, LinearDecay
    >>> rate = LinearDecay(1.0).lasting("4 steps") >> Constant(0.1)
    >>> rate.values(epochs=1, steps_per_epoch=6)
    array([1.  , 0.75, 0.5 , 0.25, 0.1 , 0.1 ])
    """

    schedule: Inner
    over: LengthOrZero

    @property
    def is_empty(self) -> bool:
        return parse_length(self.over)[0] == 0.0

    @nested
    def unreached_stages(self, timeline: Timeline) -> Nested[list[str]]:
        part = timeline.part(timeline.steps(self.over))
        return (yield call(self.schedule.unreached_stages, part))

    @nested
    def stage_starts(self, timeline: Timeline) -> Nested[list[float]]:
        over = timeline.steps(self.over)
        starts = yield call(self.schedule.stage_starts, timeline.part(over))
        return [start for start in starts if start < over]

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        over = timeline.steps(self.over)
        return (yield call(self.schedule.value, np.minimum(step, over), timeline.part(over)))


@schedule
class Repeat(Schedule):
    """A schedule several times over: ``a.repeat(3, stretch=2)``.

    ``value(t) = scale ** k * a((t - start_k) / stretch ** k)`` in cycle ``k``: lengths inside the
    cycle are stretched. After the last cycle its end value is held.

    If the schedule has a length that does not depend on the whole, the first cycle has that length.
    Otherwise the cycles share what is left of the fit or part, and shares and ``"rest"`` inside
    refer to the cycle.

    Args:
        schedule: The schedule.
        times: Number of cycles; at most a million.
        stretch: Ratio of a cycle's length to that of the one before.
        scale: Ratio of a cycle's height to that of the one before.

    Raises:
        ValueError: If a number is out of range, or the last cycle would be infinitely long or high.

    >>> from keras_lr import LinearDecay
    >>> LinearDecay(1.0).repeat(2, scale=0.5).values(epochs=1, steps_per_epoch=4)
    array([1.  , 0.5 , 0.5 , 0.25])
    """

    arguments: ClassVar[dict[str, str]] = {"height": "scale"}
    may_exceed = True

    schedule: Inner
    times: Annotated[int, Number(minimum=1, maximum=1e6, whole=True)]
    stretch: Positive = 1.0
    height: Positive = 1.0

    def validate(self) -> None:
        for name, size in (("stretch", "length"), ("height", "height")):
            largest = math.log(max(getattr(self, name), 1.0)) * (self.times - 1)
            # So the sum over all cycles is finite too.
            if largest + math.log(self.times) >= math.log(sys.float_info.max):
                raise self.invalid(
                    name, f"small enough that the last of {self.times} cycles has a finite {size}"
                )
        self._latest_length: tuple[Timeline | None, float] = None, math.nan
        self._latest_starts = math.nan, np.zeros(0)
        """The latest length of the first cycle, and the starts of all cycles for it."""

    @functools.cached_property
    def duration_kind(self) -> DurationKind:
        return "own" if self.schedule.duration_kind == "own" else "rest"

    @functools.cached_property
    def is_empty(self) -> bool:
        return self.schedule.is_empty

    def _stretches(self) -> Steps:
        """Return the ratio of each cycle's length to that of the first."""
        return self.stretch ** np.arange(self.times, dtype=np.float64)

    @functools.cached_property
    def _sum_of_stretches(self) -> float:
        return math.fsum(self._stretches().tolist())

    @nested
    def starts(self, timeline: Timeline) -> Nested[Steps]:
        """Return the steps at which the cycles begin, followed by the end of the last one."""
        first = yield call(self.cycle_length, timeline.without_length())
        if math.isinf(first):
            first = timeline.steps("rest") / self._sum_of_stretches
        known, starts = self._latest_starts
        if known != first:
            with np.errstate(over="ignore"):
                ends = np.cumsum(first * self._stretches())
            starts = snap_each_to_whole(np.append(0.0, ends))
            if not math.isfinite(starts[-1]):
                raise ValueError(
                    f"{self!r}: {self.times} cycles, the first of {first:g} steps, take more steps "
                    "than any float holds. Repeat fewer times, or stretch less."
                )
            self._latest_starts = first, starts
        return starts

    @nested
    def cycle_length(self, timeline: Timeline) -> Nested[float]:
        """Return the length of the first cycle; infinity if it depends on the whole."""
        known, length = self._latest_length
        if known != timeline:
            try:
                length = yield call(self.schedule.length, timeline)
            except UnresolvedLength:
                length = math.inf
            self._latest_length = timeline, length
        return length

    @nested
    def length(self, timeline: Timeline) -> Nested[float]:
        return float((yield call(self.starts, timeline))[-1])

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        starts = yield call(self.starts, timeline)
        first = float(starts[1])
        values = np.empty(step.shape)
        for number, where in pieces(step, starts):
            # After the last cycle its end value is held.
            local, cycle = np.full(1, first), min(number, self.times - 1)
            if number < self.times:
                local = np.minimum((step[where] - starts[number]) / self.stretch**number, first)
            part = timeline.part(first, float(starts[cycle]))
            cycle_values = yield call(self.schedule.value, local, part)
            values[where] = self.height**cycle * np.asarray(cycle_values)
        return values
