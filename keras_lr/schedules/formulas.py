"""Functions for the formulas of schedules: interpolation, powers, cycles and pieces.

A formula gets many steps at once, most of which are in the same piece and the same cycle. Numbers
that are equal for all of them are computed once, as an array of one element.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.kinds import LARGEST_RATE, Choice
from keras_lr._fields.timeline import snap_each_to_whole

Array = NDArray[np.float64]

ROUNDING = 1e-12
"""Largest rounding error of the quotient of a step and a period, if it is a whole number."""


def find_no_rate(values: Array) -> int | None:
    """Return the index of the first value that cannot be a rate; None if there is none.

    >>> find_no_rate(np.array([0.0, 1.0])), find_no_rate(np.array([0.1, math.nan, -1.0]))
    (None, 1)
    """
    if values.min(initial=0.0) >= 0.0 and values.max(initial=0.0) <= LARGEST_RATE:
        return None  # with NaN, both min and max would be NaN
    return int(np.argmin((values >= 0.0) & (values <= LARGEST_RATE)))


def describe_bound(rate: float) -> str:
    """Return a sentence on how to bound a value that cannot be a rate; empty if no bound helps."""
    if rate < 0.0:
        return " To keep it at 0 or above, append .clip(min=0.0)."
    return " To bound it, append .clip(max=...)." if rate > LARGEST_RATE else ""


def lerp(start: Any, end: Any, weight: Any) -> Any:
    """Interpolate so that both ends are exact.

    >>> lerp(0.1, 0.3, np.array([0.0, 0.5, 1.0]))
    array([0.1, 0.2, 0.3])
    """
    # Most ramps and decays go from or to zero, which takes half as much work.
    if isinstance(start, float) and start == 0.0:
        return weight * end
    value = 1.0 - weight
    value *= start
    if isinstance(end, float) and end == 0.0:
        return value
    value += weight * end
    return value


def span(low: float, high: float) -> float:
    """Return a number that added to ``low`` gives ``high``, or just exceeds it.

    The difference may fall short of ``high`` by rounding, and sometimes no number is exact.

    >>> 0.059 + (0.559 - 0.059), 0.059 + span(0.059, 0.559)
    (0.5589999999999999, 0.5590000000000002)
    """
    difference = high - low
    return difference if low + difference >= high else math.nextafter(difference, math.inf)


def half_cosine(done: Any) -> Any:
    """Return the weight that rises from 0 to 1 along half a cosine: ``(1 - cos(pi * done)) / 2``.

    It is computed as ``sin(pi * done / 2) ** 2``, which loses no digits near 0.

    >>> half_cosine(np.array([0.0, 1 / 3, 1.0])).round(12)
    array([0.  , 0.25, 1.  ])
    """
    return np.square(np.sin((math.pi / 2.0) * done))


RAMPS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda done: done,
    "cosine": half_cosine,
    "sqrt": np.sqrt,
    "square": np.square,
}
"""Functions from the share of a length that is done to a weight from 0 to 1, by shape."""

RampShape = Annotated[str, Choice(tuple(RAMPS))]
"""The name of such a shape."""


def power(base: float, exponent: Array) -> Array:
    """Return ``base ** exponent`` for a positive base, in a fraction of the time that ``**`` takes.

    >>> power(0.5, np.array([0.0, 1.0, 2.0]))
    array([1.  , 0.5 , 0.25])
    """
    return np.exp2(math.log2(base) * exponent)


def ends(step: Array) -> tuple[float, float]:
    """Return the first and the last step; infinities if there are no steps."""
    return step.min(initial=math.inf), step.max(initial=-math.inf)


def periods(step: Array, period: float) -> Array:
    """Return how many periods are over at each step; a single number if it is the same for all.

    >>> periods(np.array([4.0, 5.0]), 2.0), periods(np.array([3.0, 4.0]), 2.0)
    (array([2.]), array([1., 2.]))
    """
    # A boundary within rounding of a whole step counts as at that step, as in `snap_to_whole`.
    first, last = np.floor(np.divide(ends(step), period) * (1.0 + ROUNDING))
    return np.floor((step[:1] if first == last else step) / period * (1.0 + ROUNDING))


def inside(step: Array, number: Array, period: float) -> Array:
    """Return the steps since the start of period ``number``, as `periods` returned it.

    >>> inside(np.array([4.0, 5.0]), np.array([2.0]), 2.0)
    array([0., 1.])
    """
    # Rounding may put a start just after the step that it is at.
    first = step.min(initial=math.inf) if number.size == 1 else step
    return step - np.minimum(number * period, first)


def growing_periods(step: Array, first: float, growth: float) -> tuple[Array, Array, Array]:
    """Return the number, start and length of the period in which each step is.

    Each period is ``growth`` times as long as the one before it; ``growth`` is above 1. A logarithm
    may be rounded across a boundary, so it is only a guess, which the starts of periods correct.

    >>> number, start, length = growing_periods(np.array([0.0, 2.0, 6.0]), 2.0, 2.0)
    >>> number, start, length
    (array([0., 1., 2.]), array([0., 2., 6.]), array([2., 4., 8.]))
    """
    excess = growth - 1.0
    exponent = math.log1p(excess)

    def starts(number: Array) -> Array:
        whole = growth.is_integer()
        grown = growth**number - 1.0 if whole else np.expm1(exponent * number)
        return snap_each_to_whole(first * (grown / excess))

    def numbers(step: Array) -> Array:
        periods = np.minimum(step / first * excess, 1e300)
        number = np.floor(np.log1p(periods) / exponent)
        number -= step < starts(number)
        return number + (step >= starts(number + 1.0))

    with np.errstate(over="ignore", invalid="ignore"):
        if not step.size:
            return step, step, step
        low, high = numbers(np.array(ends(step)))
        if high - low >= step.size:
            number = numbers(step)
            return number, starts(number), first * growth**number
        occurring = np.arange(low, high + 1.0)
        begun = starts(occurring)
        index = place(begun, step)
        return occurring[index], begun[index], (first * growth**occurring)[index]


def log_of_compounding(rate: float, count: Array) -> Array:
    """Return the sum of ``log(1 + rate * k)`` over ``k = 1 .. count``, for a small rate.

    It uses the midpoint rule with its first correction; the error is of the order of ``rate ** 3``.

    >>> log_of_compounding(1e-10, np.array([0.0, 1.0, 1e6])).round(8)
    array([ 0.        ,  0.        , 49.99838341])
    """

    def integral(end: Array) -> Array:
        """Return the integral of ``log(1 + rate * y)`` from 0 to ``end``."""
        x = rate * end
        series = x**2 * (1 / 2 - x * (1 / 6 - x * (1 / 12 - x * (1 / 20 - x / 30))))
        return np.where(x < 1e-3, series, (1.0 + x) * np.log1p(x) - x) / rate

    last, first = count + 0.5, np.full(1, 0.5)
    slope = rate / (1.0 + rate * first) - rate / (1.0 + rate * last)
    return integral(last) - integral(first) + slope / 24.0


def place(starts: Sequence[float] | Array, step: Array) -> NDArray[np.intp]:
    """Return the piece in which each step is; a single number if it is the same for all.

    >>> place([0, 10], np.array([1.0, 9.0])), place([0, 10], np.array([9.0, 10.0]))
    (array([0]), array([0, 1]))
    """
    first, last = (bisect.bisect_right(starts, end) for end in ends(step))
    if first == last:
        return np.full(1, first - 1)
    return np.searchsorted(starts, step, side="right") - 1


def pieces(
    step: Array, starts: Sequence[float] | Array
) -> Iterator[tuple[int, slice | NDArray[np.intp]]]:
    """Iterate over the pieces that contain steps: the number of each, and the places of its steps.

    >>> [(number, where) for number, where in pieces(np.array([9.0, 10.0]), [0, 10])]
    [(0, slice(0, 1, None)), (1, slice(1, 2, None))]
    """
    index = place(starts, step)
    if index.size == 1:
        yield int(index[0]), slice(None)
        return
    change = np.diff(index)
    order = None
    if change.min(initial=0) < 0:
        order = np.argsort(index, kind="stable")
        index = index[order]
        change = np.diff(index)
    bounds = [0, *(np.flatnonzero(change) + 1).tolist(), index.size]
    for first, end in itertools.pairwise(bounds):
        if end > first:
            yield int(index[first]), slice(first, end) if order is None else order[first:end]
