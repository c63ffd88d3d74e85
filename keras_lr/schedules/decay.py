"""Decays: shapes whose rate falls with the time since the start."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from keras_lr._fields.kinds import (
    Bool,
    ListOf,
    Number,
    OptionalRate,
    Positive,
    PositiveRate,
    Rate,
    RateField,
    check,
)
from keras_lr._fields.lengths import Length, LengthField, Timescale
from keras_lr._fields.timeline import Timeline
from keras_lr._hints import warn_user
from keras_lr.schedules.base import Schedule, Steps, schedule
from keras_lr.schedules.formulas import (
    half_cosine,
    lerp,
    log_of_compounding,
    periods,
    place,
    power,
)

if TYPE_CHECKING:
    from keras_lr.schedules.stages import Warmup

SMALL = 1e-9
"""Rate of `TimeDecay` below which a table of its factors would have millions of entries."""


@schedule
class Constant(Schedule):
    """Hold one rate.

    ``value(t) = lr``

    Args:
        lr: The rate; not negative.

    Raises:
        ValueError: If ``lr`` is negative or not finite.

    >>> Constant(0.1).values(epochs=1, steps_per_epoch=3)
    array([0.1, 0.1, 0.1])
    """

    lr: Rate

    @property
    def value_bounds(self) -> tuple[float, float]:
        return self.lr, self.lr

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        return np.full(step.shape, self.lr)


@schedule
class PiecewiseConstant(Schedule):
    """Hold ``values[0]`` until the first boundary, ``values[1]`` until the second, and so on.

    ``value(t) = values[number of boundaries <= t]``

    The values are in the attribute ``rates``, since `Schedule.values` is the curve.

    Args:
        boundaries: Lengths from the start at which the rate changes, ascending: epochs, ``"N
            steps"``, ``"N epochs"`` or ``"P%"``. A boundary at ``b`` takes effect at update ``b``.
        values: The rates, one more than there are boundaries; not negative.

    Raises:
        ValueError: If the number of rates is wrong, one is negative or boundaries do not ascend.

    >>> rate = PiecewiseConstant([1, 2], [0.1, 0.01, 0.001])
    >>> rate.values(epochs=3, steps_per_epoch=2)
    array([0.1  , 0.1  , 0.01 , 0.01 , 0.001, 0.001])
    """

    arguments: ClassVar[dict[str, str]] = {"rates": "values"}

    boundaries: Annotated[tuple[float | int | str, ...], ListOf(LengthField(timescale=True))]
    rates: Annotated[tuple[float, ...], ListOf(RateField(minimum=0.0), at_least=1)]

    def validate(self) -> None:
        if len(self.rates) != len(self.boundaries) + 1:
            wanted = len(self.boundaries) + 1
            raise self.invalid("rates", f"{wanted} rates for {wanted - 1} boundaries")
        if all(not isinstance(boundary, str) for boundary in self.boundaries):
            self.ascending(list(self.boundaries))  # type: ignore[arg-type]

    def ascending(self, boundaries: list[float]) -> list[float]:
        """Return the boundaries; raise an error if they do not ascend."""
        if any(b <= a for a, b in itertools.pairwise(boundaries)):
            raise self.invalid("boundaries", "lengths that ascend")
        return boundaries

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        boundaries = self.ascending([timeline.steps(boundary) for boundary in self.boundaries])
        return np.asarray(self.rates)[place([0.0, *boundaries], step)]


class _Geometric(Schedule):
    """Base class of decays that multiply the rate by a factor again and again."""

    initial_lr: PositiveRate
    factor: Positive
    final_lr: OptionalRate

    def validate(self) -> None:
        if self.final_lr is None:
            if self.factor > 1.0:
                raise self.invalid(
                    "factor", "a number of at most 1, or go with a final_lr at which growth stops"
                )
        elif self.factor > 1.0 and self.final_lr < self.initial_lr:
            raise self.invalid("final_lr", f"at least initial_lr={self.initial_lr}: the rate grows")
        elif self.factor <= 1.0 and self.final_lr > self.initial_lr:
            raise self.invalid("final_lr", f"at most initial_lr={self.initial_lr}: the rate falls")

    def up_to_final(self, rates: Steps) -> Steps:
        """Return rates that go no further than ``final_lr``."""
        if self.final_lr is None:
            return rates
        return (np.minimum if self.factor > 1.0 else np.maximum)(rates, self.final_lr)


@schedule
class StepDecay(_Geometric):
    """Multiply the rate by ``factor`` after every period.

    ``value(t) = initial_lr * factor ** floor(t / every)``, but not beyond ``final_lr``

    Args:
        initial_lr: Rate of the first period; positive.
        factor: Factor of each period; positive. Above 1 the rate grows, and needs a ``final_lr``.
        every: The period: epochs, ``"N steps"``, ``"N epochs"`` or ``"P%"``.
        final_lr: Rate at which the decay or the growth stops; None lets a decay continue.

    Raises:
        ValueError: If a number is out of range, the rate grows without a ``final_lr`` or moves away
            from it, or ``every`` is not a positive length.

    Source: PyTorch's ``StepLR``; He et al. 2016, Deep Residual Learning, sec. 4.2
        (arXiv:1512.03385).

    >>> StepDecay(0.1, factor=0.1, every=2).values(epochs=5, steps_per_epoch=1).round(6)
    array([0.1  , 0.1  , 0.01 , 0.01 , 0.001])
    >>> StepDecay(0.1, factor=2, every=1, final_lr=0.3).values(epochs=4, steps_per_epoch=1)
    array([0.1, 0.2, 0.3, 0.3])
    """

    initial_lr: PositiveRate
    factor: Positive = 0.5
    every: Timescale = 10
    final_lr: OptionalRate = None

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        number = periods(step, timeline.steps(self.every))
        return self.up_to_final(self.initial_lr * self.factor**number)


class _Ramp(Schedule):
    """Base class of decays that go from one rate to another over a length."""

    initial_lr: Rate
    final_lr: Rate
    over: Length
    endpoint: bool

    def validate(self) -> None:
        if self.initial_lr == self.final_lr == 0.0:
            raise self.invalid("initial_lr", "positive where final_lr is 0: the rate is always 0")
        whole = self.final_lr.is_integer()
        if whole and self.final_lr >= max(5.0, 50.0 * self.initial_lr) and self.initial_lr:
            warn_user(
                f"{self!r} rises to a rate of {self.final_lr:g}. If that was to be a length, write "
                f"over={self.final_lr:g} (epochs) or over='{self.final_lr:g} steps'."
            )

    def progress(self, step: Steps, timeline: Timeline) -> Steps:
        """Return how much of the length is done, from 0 to 1."""
        return timeline.progress(step, self.over, self.endpoint)

    def between(self, weight: Steps) -> Steps:
        """Return the rate at a ``weight`` from 0 (initial) to 1 (final)."""
        return lerp(self.initial_lr, self.final_lr, weight)


@schedule
class LinearDecay(_Ramp):
    """Go from ``initial_lr`` to ``final_lr`` in a straight line, then hold.

    ``value(t) = (1 - w) * initial_lr + w * final_lr`` with ``w = min(t / over, 1)``

    Args:
        initial_lr: Rate at ``t = 0``; not negative. Below ``final_lr`` the line rises.
        final_lr: Rate from ``t = over`` on; not negative.
        over: Length: epochs, ``"N steps"``, ``"N epochs"``, ``"P%"`` or ``"rest"``.
        endpoint: Whether the last update of the length uses ``final_lr``, as with
            ``numpy.linspace``. By default the first update after the length does.

    Raises:
        ValueError: If a rate is negative or not finite, both are 0, or ``over`` is not a positive
            length.

    Source: Li et al. 2020, Budgeted Training (arXiv:1905.04753).

    >>> LinearDecay(0.1, over="4 steps").values(epochs=1, steps_per_epoch=6)
    array([0.1  , 0.075, 0.05 , 0.025, 0.   , 0.   ])
    >>> LinearDecay(0.1, endpoint=True).values(epochs=1, steps_per_epoch=5)
    array([0.1  , 0.075, 0.05 , 0.025, 0.   ])
    """

    initial_lr: Rate
    final_lr: Rate = 0.0
    over: Length = "rest"
    endpoint: Annotated[bool, Bool()] = False

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        return self.between(self.progress(step, timeline))


@schedule
class PolynomialDecay(_Ramp):
    """Go from ``initial_lr`` to ``final_lr`` by a power of the time left, then hold.

    ``value(t) = final_lr + (initial_lr - final_lr) * (1 - t / over) ** power``

    Args:
        initial_lr: Rate at ``t = 0``; not negative.
        final_lr: Rate from ``t = over`` on; not negative.
        power: The exponent; positive. 1 is `LinearDecay`.
        over: Length: epochs, ``"N steps"``, ``"N epochs"``, ``"P%"`` or ``"rest"``.
        endpoint: Whether the last update of the length uses ``final_lr``, as with
            ``numpy.linspace``. By default the first update after the length does.

    Raises:
        ValueError: If a number is out of range, or ``over`` is not a positive length.

    Source: Chen et al. 2018, DeepLab, sec. 4.1 (arXiv:1606.00915), with power 0.9.

    >>> PolynomialDecay(1.0, over="4 steps").values(epochs=1, steps_per_epoch=5)
    array([1.    , 0.5625, 0.25  , 0.0625, 0.    ])
    """

    initial_lr: Rate
    final_lr: Rate = 0.0
    power: Positive = 2.0
    over: Length = "rest"
    endpoint: Annotated[bool, Bool()] = False

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        left = 1.0 - self.progress(step, timeline)
        return lerp(self.final_lr, self.initial_lr, left**self.power)


@schedule
class CosineDecay(_Ramp):
    """Fall from ``initial_lr`` to ``final_lr`` along half a cosine, then hold.

    ``value(t) = final_lr + (initial_lr - final_lr) * (1 + cos(pi * t / over)) / 2``

    Args:
        initial_lr: Rate at ``t = 0``; not negative. Below ``final_lr`` the curve rises.
        final_lr: Rate from ``t = over`` on; not negative.
        over: Length: epochs, ``"N steps"``, ``"N epochs"``, ``"P%"`` or ``"rest"``.
        endpoint: Whether the last update of the length uses ``final_lr``, as with
            ``numpy.linspace``. By default the first update after the length does.

    Raises:
        ValueError: If a rate is negative or not finite, both are 0, or ``over`` is not a positive
            length.

    Source: Loshchilov & Hutter 2017, SGDR, eq. 5 (arXiv:1608.03983), without restarts.

    >>> CosineDecay(0.1, over="100 steps").values(epochs=1, steps_per_epoch=101)[[0, 50, 100]]
    array([0.1 , 0.05, 0.  ])
    """

    initial_lr: Rate
    final_lr: Rate = 0.0
    over: Length = "rest"
    endpoint: Annotated[bool, Bool()] = False

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        return self.between(half_cosine(self.progress(step, timeline)))


@schedule
class TimeDecay(Schedule):
    """Divide the rate by a number that grows with time.

    ``value(t) = initial_lr / (1 + rate * t / every)``, or with ``compounding``
    ``initial_lr`` times the product of ``1 / (1 + rate * k)`` over ``k = 0 .. floor(t / every)``.

    The compounding form is that of a callback which divides the present rate again in every epoch.
    It falls much faster.

    Args:
        initial_lr: Rate at ``t = 0``; positive.
        rate: How fast the rate falls per period; positive.
        every: The period: epochs, ``"N steps"``, ``"N epochs"`` or ``"P%"``.
        compounding: Whether to multiply the factors of all periods so far.

    Raises:
        ValueError: If a number is out of range, or ``every`` is not a positive length.

    Source: Robbins & Monro 1951; the ``decay`` argument of Keras 1 and 2 optimizers.

    >>> TimeDecay(1.0, rate=1.0).values(epochs=4, steps_per_epoch=1).round(4)
    array([1.    , 0.5   , 0.3333, 0.25  ])
    >>> TimeDecay(1.0, rate=1.0, compounding=True).values(epochs=4, steps_per_epoch=1).round(4)
    array([1.    , 0.5   , 0.1667, 0.0417])
    """

    initial_lr: PositiveRate
    rate: Positive
    every: Timescale = 1
    compounding: Annotated[bool, Bool()] = False

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        every = timeline.steps(self.every)
        if not self.compounding:
            return self.initial_lr / (1.0 + self.rate * (step / every))
        number = periods(step, every)
        if self.rate < SMALL:
            return self.initial_lr * np.exp(-log_of_compounding(self.rate, number))
        # After some number of factors the product is zero in float64.
        count = 2.0
        while (
            count <= number.max(initial=0.0) and count / 2 * math.log1p(self.rate * count / 2) < 750
        ):
            count *= 2.0
        products = np.cumprod(1.0 / (1.0 + self.rate * np.arange(count + 1.0)))
        return self.initial_lr * products[np.minimum(number, count).astype(int)]


@schedule
class ExponentialDecay(_Geometric):
    """Multiply the rate by ``factor`` in every period, smoothly.

    ``value(t) = initial_lr * factor ** (t / every)``, but not beyond ``final_lr``

    Args:
        initial_lr: Rate at ``t = 0``; positive.
        factor: Factor of each period; positive. Above 1 the rate grows, and needs a ``final_lr``.
        every: The period: epochs, ``"N steps"``, ``"N epochs"`` or ``"P%"``.
        final_lr: Rate at which the decay or the growth stops; None lets a decay continue.

    Raises:
        ValueError: If a number is out of range, the rate grows without a ``final_lr`` or moves away
            from it, or ``every`` is not a positive length.

    Source: PyTorch's ``ExponentialLR``, and ``exponential_decay`` of Keras and optax.

    >>> ExponentialDecay(0.1, factor=0.5).values(epochs=3, steps_per_epoch=1)
    array([0.1  , 0.05 , 0.025])
    >>> ExponentialDecay(0.1, factor=2, final_lr=0.3).values(epochs=4, steps_per_epoch=1)
    array([0.1, 0.2, 0.3, 0.3])
    """

    initial_lr: PositiveRate
    factor: Positive = 0.96
    every: Timescale = 1
    final_lr: OptionalRate = None

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        grown = power(self.factor, step / timeline.steps(self.every))
        return self.up_to_final(self.initial_lr * grown)


@schedule
class InverseSqrtDecay(Schedule):
    """Fall like one over the square root of time, without an end.

    ``value(t) = initial_lr * sqrt(timescale / (timescale + t))``

    Args:
        initial_lr: Rate at ``t = 0``; positive.
        timescale: Time after which the rate has fallen to ``1 / sqrt(2)``: epochs, ``"N steps"``,
            ``"N epochs"`` or ``"P%"``.

    Raises:
        ValueError: If ``initial_lr`` is not positive, or ``timescale`` is not a positive length.

    Source: Vaswani et al. 2017, Attention Is All You Need, sec. 5.3 (arXiv:1706.03762); Zhai et al.
        2022, Scaling Vision Transformers, sec. 3.5 (arXiv:2106.04560).

    >>> InverseSqrtDecay(0.3, timescale="1 steps").values(epochs=1, steps_per_epoch=9)[[0, 3, 8]]
    array([0.3 , 0.15, 0.1 ])
    """

    initial_lr: PositiveRate
    timescale: Timescale

    @classmethod
    def transformer(cls, d_model: int, warmup_steps: int = 4000) -> Warmup:
        """Return the schedule of the Transformer, also known as Noam.

        ``value(t) = d_model ** -0.5 * min(n ** -0.5, n * warmup_steps ** -1.5)``, where ``n = t +
        1`` is the number of the update from 1. The highest rate, ``(d_model * warmup_steps) **
        -0.5``, is that of update ``warmup_steps``.

        Args:
            d_model: Width of the model; at least 1. To scale the rate, multiply the schedule.
            warmup_steps: Updates of the warmup; at least 1.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If a number is not whole, or below 1.

        Source: Vaswani et al. 2017, Attention Is All You Need, eq. 3 (arXiv:1706.03762).

        >>> rate = InverseSqrtDecay.transformer(d_model=4, warmup_steps=4)
        >>> rate.values(epochs=1, steps_per_epoch=16)[[0, 1, 3, 15]]
        array([0.0625, 0.125 , 0.25  , 0.125 ])
        """
        name, whole = f"{cls.__name__}.transformer", Number(minimum=1, whole=True)
        width = check(name, "d_model", whole, d_model)
        steps = check(name, "warmup_steps", whole, warmup_steps)
        peak = (width * steps) ** -0.5
        # The first update is that of n = 1, and the peak is reached n - 1 updates later.
        return cls(peak, f"{steps} steps").warmup(f"{steps - 1} steps", start=peak / steps)

    def value(self, step: Steps, timeline: Timeline) -> Steps:
        scale = timeline.steps(self.timescale)
        return self.initial_lr * np.sqrt(scale / (scale + step))
