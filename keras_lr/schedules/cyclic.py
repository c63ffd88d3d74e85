"""Cyclical shapes, in which the rate rises as well as falls."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np

from keras_lr._fields.kinds import (
    Bool,
    Choice,
    DecayFactor,
    ListOf,
    Number,
    Optional,
    OptionalRate,
    Positive,
    PositiveRate,
    Rate,
)
from keras_lr._fields.lengths import (
    Length,
    LengthField,
    Timescale,
    TimescaleOrZero,
)
from keras_lr._fields.nesting import Nested, call, nested
from keras_lr._fields.timeline import SHORTEST, Timeline, share_done
from keras_lr._hints import count_of
from keras_lr._keras.rates.hyperparameters import BELOW_ONE, LEARNING_RATE, can_move
from keras_lr.schedules.base import DurationKind, Schedule, Steps, schedule
from keras_lr.schedules.decay import Constant
from keras_lr.schedules.formulas import (
    RAMPS,
    RampShape,
    growing_periods,
    half_cosine,
    inside,
    lerp,
    periods,
    pieces,
    power,
    span,
)
from keras_lr.schedules.function import ScaleField, call_each

_MOMENTUM = Number(minimum=BELOW_ONE.minimum, below=BELOW_ONE.below)
MomentumRange = Annotated[tuple[float, ...] | None, Optional(ListOf(_MOMENTUM, exactly=2))]
"""Momentum at the peak of a cycle and at both ends; None leaves it unchanged."""


@schedule
class TriangularCLR(Schedule):
    """Go up and down between two rates in straight lines, again and again.

    ``value(t) = base_lr + (max_lr - base_lr) * up(t) * amplitude(t) * scale`` where ``up`` rises
    from 0 to 1 in ``step_size``, falls to 0 in ``step_size_down``, and the amplitude by ``mode`` is

    - ``"triangular"``: 1;
    - ``"triangular2"``: ``0.5 ** k`` in cycle ``k = 0, 1, ...``;
    - ``"exp_range"``: ``gamma ** t``, with ``t`` the training step.

    Args:
        base_lr: Rate at the ends of a cycle; not negative.
        max_lr: Rate at its peak; at least ``base_lr``.
        step_size: Length of the rise, half a cycle: epochs, ``"N steps"``, ``"N epochs"`` or
            ``"P%"``. Smith recommends 2 to 10 epochs.
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"``.
        gamma: Base of ``"exp_range"``; above 0, at most 1.
        step_size_down: Length of the fall; by default that of the rise.
        scale: Factor of the height: a schedule, or a function of the number of the cycle, from 1,
            or of the training step, from 0. None for 1.
        scale_by: ``"cycle"``: the height is that of the start of the cycle; ``"step"``: it moves
            with every step.
        momentum: Momentum at the peak, where it is lower, and at both ends. It moves in the
            opposite direction to the rate, as with `OneCycle`. None leaves it unchanged.

    Raises:
        TypeError: If ``scale`` is neither a schedule nor a function of one argument.
        ValueError: If a number is out of range, ``max_lr < base_lr``, the mode is unknown or the
            momentum at the peak is the higher one; before the first update, if the scale leads to
            a rate that is negative or not finite.

    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks (arXiv:1506.01186). The
        scale is ``scale_fn`` of CLR, PyTorch and TensorFlow Addons.

    >>> rate = TriangularCLR(0.0, 1.0, step_size="2 steps", mode="triangular2")
    >>> rate.values(epochs=1, steps_per_epoch=8)
    array([0.  , 0.5 , 1.  , 0.5 , 0.  , 0.25, 0.5 , 0.25])
    >>> rate = TriangularCLR(0.0, 1.0, step_size="2 steps", scale=lambda cycle: 1 / cycle)
    >>> rate.values(epochs=1, steps_per_epoch=8)
    array([0.  , 0.5 , 1.  , 0.5 , 0.  , 0.25, 0.5 , 0.25])
    """

    arguments: ClassVar[dict[str, str]] = {"amplitude": "scale"}

    base_lr: Rate
    max_lr: PositiveRate
    step_size: Timescale = 4
    mode: Annotated[str, Choice(("triangular", "triangular2", "exp_range"))] = "triangular"
    gamma: DecayFactor = 1.0
    step_size_down: Annotated[float | int | str | None, Optional(LengthField(timescale=True))] = (
        None
    )
    amplitude: Annotated[Any, Optional(ScaleField())] = None
    scale_by: Annotated[str, Choice(("cycle", "step"))] = "cycle"
    momentum: MomentumRange = None

    def validate(self) -> None:
        if self.max_lr < self.base_lr:
            raise self.invalid("max_lr", f"at least base_lr={self.base_lr}")
        _check_momentum(self)
        self._span = span(self.base_lr, self.max_lr)
        self.may_exceed = self.amplitude is not None

    @nested
    def value(self, step: Steps, timeline: Timeline) -> Nested[Steps]:
        rise = timeline.steps(self.step_size)
        fall = rise if self.step_size_down is None else timeline.steps(self.step_size_down)
        cycle = periods(step, rise + fall)
        up = inside(step, cycle, rise + fall)
        down = (rise + fall) - up
        if rise == fall:
            weight = np.minimum(up, down, out=down)
            weight /= rise
        else:
            weight = np.minimum(up / rise, down / fall)
        if self.mode == "triangular2":
            weight *= 0.5**cycle
        elif self.mode == "exp_range":
            weight *= power(self.gamma, step / timeline.steps("1 steps"))
        if self.amplitude is not None:
            by_cycle = self.scale_by == "cycle"
            if isinstance(self.amplitude, Schedule):
                at = cycle * (rise + fall) if by_cycle else step
                weight *= yield call(self.amplitude.value, at, timeline)
            else:
                number = cycle + 1.0 if by_cycle else step / timeline.steps("1 steps")
                weight *= call_each(self.amplitude, number)
        rate = weight
        rate *= self._span
        rate += self.base_lr
        beyond = self.amplitude is None and self.base_lr + self._span > self.max_lr
        return np.minimum(rate, self.max_lr, out=rate) if beyond else rate

    def unreached_stages(self, timeline: Timeline) -> list[str]:
        return _unreached_peak(self, timeline.steps(self.step_size), timeline)

    def hyperparameter_schedules(self, optimizer: Any) -> dict[str, Schedule]:
        if self.momentum is None:
            return {LEARNING_RATE: self}
        cycle = dataclasses.replace(self, base_lr=0.0, max_lr=1.0, momentum=None)
        return {LEARNING_RATE: self} | _momentum_against(cycle, self.momentum, optimizer)


@schedule
class CosineRestarts(Schedule):
    """Fall along half a cosine, jump back up, and fall again more slowly.

    ``value(t) = final_lr + (peak - final_lr) * (1 + cos(pi * (t - start_k) / length_k)) / 2`` in
    cycle ``k``, with ``length_k = first_cycle * cycle_mult ** k`` and ``peak = initial_lr * lr_mult
    ** k``, at most ``highest_lr``

    Args:
        initial_lr: Rate at ``t = 0``; positive.
        final_lr: Rate that each cycle approaches; not negative.
        first_cycle: Length of the first cycle: epochs, ``"N steps"``, ``"N epochs"`` or ``"P%"``.
        cycle_mult: Ratio of a cycle's length to that of the one before; at least 1.
        lr_mult: Ratio of a cycle's peak to that of the one before; positive. Above 1 the peaks
            grow, and need a ``highest_lr``.
        highest_lr: The highest peak; None for peaks that do not grow.

    Raises:
        ValueError: If a number is out of range, the peaks grow without a ``highest_lr`` or begin
            above it, or ``first_cycle`` is not a positive length.

    Source: Loshchilov & Hutter 2017, SGDR, eq. 5 (arXiv:1608.03983).

    >>> rate = CosineRestarts(1.0, first_cycle="2 steps")
    >>> rate.values(epochs=1, steps_per_epoch=7).round(4)
    array([1.    , 0.5   , 1.    , 0.8536, 0.5   , 0.1464, 1.    ])
    """

    initial_lr: PositiveRate
    final_lr: Rate = 0.0
    first_cycle: Timescale = 10
    cycle_mult: Annotated[float, Number(minimum=1.0)] = 2.0
    lr_mult: Positive = 1.0
    highest_lr: OptionalRate = None

    def validate(self) -> None:
        if self.highest_lr is None:
            if self.lr_mult > 1.0:
                raise self.invalid(
                    "lr_mult",
                    "a number of at most 1, or go with a highest_lr at which growth stops",
                )
        elif self.highest_lr < self.initial_lr:
            raise self.invalid("highest_lr", f"at least initial_lr={self.initial_lr}")

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        first = timeline.steps(self.first_cycle)
        if self.cycle_mult == 1.0:
            cycle: Any = periods(step, first)
            done = inside(step, cycle, first) / first
        else:
            cycle, start, length = growing_periods(step, first, self.cycle_mult)
            done = (step - start) / length
        weight = half_cosine(done)
        peak = self.initial_lr * self.lr_mult**cycle
        if self.highest_lr is not None:
            peak = np.minimum(peak, self.highest_lr)
        return lerp(peak, self.final_lr, weight)


@schedule
class OneCycle(Schedule):
    """Rise to the highest rate that trains, then fall far below the first: one cycle.

    From ``max_lr / div`` to ``max_lr`` over ``warmup``, then to ``max_lr / (div * final_div)`` over
    the rest of ``over``, each along ``shape``.

    The momentum moves the other way, between the two values of ``momentum``. It is the ``momentum``
    of ``SGD`` or ``RMSprop``, or the ``beta_1`` of ``Adam`` and its relatives. An optimizer that
    was built with neither is left unchanged. Inside a composition only the rate moves; use
    `ParamScheduler` for the momentum there.

    Args:
        max_lr: The peak; positive.
        over: Length of the cycle: epochs, ``"N steps"``, ``"N epochs"``, ``"P%"`` or ``"rest"``.
        warmup: Length of the rise, 0 for none; ``"P%"`` is a share of ``over``.
        div: Ratio of the peak to the first rate; at least 1.
        final_div: Ratio of the first rate to the last; at least 1.
        momentum: Momentum at the peak, where it is lower, and at both ends; None leaves it
            unchanged.
        shape: ``"cosine"`` or ``"linear"``.
        endpoint: Whether the last update of the rise uses ``max_lr`` and the last one of ``over``
            the last rate, as PyTorch counts. By default the first update after each does.

    Raises:
        ValueError: If a number is out of range, the momentum at the peak is the higher one, or at
            the start of training the rise leaves nothing of the cycle.

    Source: Smith & Topin 2018, Super-Convergence (arXiv:1708.07120); the cosine is fastai's.

    >>> rate = OneCycle(1.0, warmup="2 steps", div=10, final_div=10, shape="linear")
    >>> rate.values(epochs=1, steps_per_epoch=5).round(4)
    array([0.1 , 0.55, 1.  , 0.67, 0.34])
    >>> rate = OneCycle(1.0, warmup="3 steps", div=10, final_div=10, shape="linear", endpoint=True)
    >>> rate.values(epochs=1, steps_per_epoch=6).round(4)
    array([0.1 , 0.55, 1.  , 0.67, 0.34, 0.01])
    """

    arguments: ClassVar[dict[str, str]] = {"rise": "warmup"}

    max_lr: PositiveRate
    over: Length = "rest"
    rise: TimescaleOrZero = "30%"
    div: Annotated[float, Number(minimum=1.0)] = 25.0
    final_div: Annotated[float, Number(minimum=1.0)] = 1e4
    momentum: MomentumRange = (0.85, 0.95)
    shape: Annotated[str, Choice(("cosine", "linear"))] = "cosine"
    endpoint: Annotated[bool, Bool()] = False

    def validate(self) -> None:
        _check_momentum(self)

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        whole = timeline.steps(self.over)
        part = timeline.part(whole)
        rise, end = part.steps(self.rise), whole
        if rise >= whole > 0:
            size = count_of(whole, "step", "g")
            raise ValueError(
                f"{self!r}: the warmup leaves nothing of the cycle's {size}. Shorten it."
            )
        peak_at = rise
        if self.endpoint:
            peak_at, end = max(rise - 1.0, 0.0), part.last_update(whole)
        first = self.max_lr / self.div
        step, ramp = np.minimum(step, whole), RAMPS[self.shape]
        values = np.empty(step.shape)
        # A rise of a single update uses the first rate.
        for falls, where in pieces(step, [0.0, max(peak_at, min(rise, SHORTEST))]):
            if falls:
                done = share_done(step[where] - peak_at, end - peak_at)
                values[where] = lerp(self.max_lr, first / self.final_div, ramp(done))
            else:
                done = share_done(step[where], peak_at)
                values[where] = lerp(first, self.max_lr, ramp(done))
        return values

    def unreached_stages(self, timeline: Timeline) -> list[str]:
        rise = timeline.part(timeline.steps(self.over)).steps(self.rise)
        return _unreached_peak(self, rise, timeline)

    def hyperparameter_schedules(self, optimizer: Any) -> dict[str, Schedule]:
        if self.momentum is None:
            return {LEARNING_RATE: self}
        cycle = dataclasses.replace(self, max_lr=1.0, div=2.0, final_div=1.0, momentum=None)
        return {LEARNING_RATE: self} | _momentum_against(
            cycle * 2.0 - Constant(1.0), self.momentum, optimizer
        )


def _unreached_peak(cycle: TriangularCLR | OneCycle, rise: float, timeline: Timeline) -> list[str]:
    """Return in words that a part ends before the peak of a cycle; empty if it does not."""
    missed = timeline.rest is not None and rise > timeline.rest
    return [f"{cycle!r} reaches its highest rate"] if missed else []


def _check_momentum(cycle: TriangularCLR | OneCycle) -> None:
    if cycle.momentum is not None and cycle.momentum[0] > cycle.momentum[1]:
        raise cycle.invalid("momentum", "(at the peak, at both ends), the first not the higher one")


def _momentum_against(
    cycle: Schedule, momentum: tuple[float, ...], optimizer: Any
) -> dict[str, Schedule]:
    """Return the schedules that move an optimizer's momentum against a cycle.

    Args:
        cycle: Schedule of how far the rate is up, from 0 to 1.
        momentum: Momentum where the cycle is at 1, and where it is at 0.
        optimizer: The optimizer.
    """
    low, high = momentum
    moved = [name for name in ("momentum", "beta_1") if can_move(optimizer, name)]
    course: Schedule = Constant(high)
    if low < high:
        course = (Constant(high) - cycle * (high - low)).clip(low, high)
    return dict.fromkeys(moved, course)


@schedule
class WarmupStableDecay(Schedule):
    """Rise in a straight line, hold, and fall to zero at the end.

    From 0 to ``max_lr`` over ``warmup``, constant, then from ``max_lr`` to 0 over the last
    ``decay``, by

    - ``"linear"``: ``1 - w``;
    - ``"cosine"``: ``(1 + cos(pi * w)) / 2``;
    - ``"sqrt"``: ``1 - sqrt(w)``;
    - ``"square"``: ``1 - w ** 2``,

    where ``w`` goes from 0 to 1. It takes up what earlier stages leave of the fit or part.

    Args:
        max_lr: The rate that is held; positive.
        warmup: Length of the rise: epochs, ``"N steps"``, ``"N epochs"`` or ``"P%"`` of the whole;
            0 for none.
        decay: Length of the fall, in the same forms.
        shape: ``"linear"``, ``"cosine"``, ``"sqrt"`` or ``"square"``.

    Raises:
        ValueError: If a number is out of range, or rise and fall together are longer than the
            whole.

    Source: Zhai et al. 2022, Scaling Vision Transformers (arXiv:2106.04560); Hu et al. 2024,
        MiniCPM (arXiv:2404.06395); Haegele et al. 2024 (arXiv:2405.18392), who found ``"sqrt"`` and
        20 % best.

    >>> rate = WarmupStableDecay(1.0, warmup="2 steps", decay="4 steps")
    >>> rate.values(epochs=1, steps_per_epoch=8)
    array([0.  , 0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25])
    """

    arguments: ClassVar[dict[str, str]] = {"rise": "warmup"}

    max_lr: PositiveRate
    rise: TimescaleOrZero = "5%"
    decay: TimescaleOrZero = "20%"
    shape: RampShape = "linear"

    @property
    def duration_kind(self) -> DurationKind:
        return "rest"

    def length(self, timeline: Timeline) -> float:
        return timeline.steps("rest")

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        whole = timeline.steps("rest")
        rise, fall = timeline.steps(self.rise), timeline.steps(self.decay)
        # Shares that add up to 100% may exceed the whole by a rounding.
        if rise + fall > whole * (1 + 1e-9) > 0:
            up, down, most = (count_of(size, "step", "g") for size in (rise, fall, whole))
            raise ValueError(
                f"{self!r}: warmup ({up}) and decay ({down}) are longer than the whole ({most}). "
                "Shorten one of them."
            )

        last = max(whole - fall, 0.0)
        values = np.full(step.shape, self.max_lr)
        starts = [0.0, min(rise, last), last] if fall else [0.0, min(rise, last)]
        for part, where in pieces(step, starts):
            if part == 0:
                values[where] *= step[where] / rise
            elif part == 2:
                done = np.minimum((step[where] - (whole - fall)) / fall, 1.0)
                values[where] *= 1.0 - RAMPS[self.shape](done)
        return values
