"""`Curve`: the losses of a ramp over its rates, cleaned and smoothed."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

WIDTH = 0.3
"""Width of the smoothing, in decades of rate."""

MIN_POINTS = 5
"""Finite losses that a curve needs: with fewer, a trend cannot be distinguished from noise."""

MIN_RANGE = math.sqrt(10.0)
"""Factor that the rates of a curve must span: half a decade is less than two smoothing widths."""

NARROW_WIDTH = 0.1
"""Width of the smoothing that finds the depth of the fall, before explosions are cut off."""

FALL_SPAN = 30.0
"""Factor below the rate of the lowest loss at which the fall has not yet begun: 1.5 decades."""

SIGNIFICANT = 4.0
"""Standard errors by which a fall or a rise must stand out.

With 60 points there are many chances for a large deviation, so the usual two are too few."""

ROUNDING = 1e-9
"""Change, relative to the loss, that is rounding rather than noise."""

LARGEST = 1e100
"""Losses are cut off here so that their sums and second differences stay finite."""

PLATEAU = 10.0
"""Factor of rates over which a loss must stay low to count as a plateau."""

PLATEAU_BEGINS = 0.75
"""Share of the whole fall at which a plateau begins. Noise moves its lowest point."""

CHECK_THE_TASK = "look for a mistake in the loss, the labels or the scale of the inputs"


def num_first(points: int) -> int:
    """Return how many points count as the beginning of a ramp: a tenth, but at least three."""
    return max(3, points // 10)


class NoSuggestion(Exception):
    """Raised if a range test supports no suggestion; the message says why, and what to change.

    >>> from keras_lr.range_test.rules import suggest
    >>> suggest([1e-4, 1e-3], [2.0, 1.0])
    Traceback (most recent call last):
    keras_lr.range_test.curve.NoSuggestion: ...
    """


class Smoother:
    """Running mean of losses over the log of the rate, with bias correction.

    After losses ``l_1 .. l_n`` at rising rates ``r_1 .. r_n`` the value is
    ``sum(w_i * l_i) / sum(w_i)`` with ``w_i = exp(-log10(r_n / r_i) / width)``. The first value is
    the first loss. The result does not depend on the number of steps per decade. Where rates fall,
    the decades back count like those forth. A rate of 0 is infinitely far from any other.

    Args:
        width: Decades of rate after which a loss counts ``1 / e``.

    >>> smoother = Smoother(width=1.0)
    >>> smoother.update(0.1, 4.0), round(smoother.update(1.0, 2.0), 3)
    (4.0, 2.538)
    """

    def __init__(self, width: float = WIDTH) -> None:
        """Start with no losses."""
        self.width = width
        self._total = self._weight = self._log = 0.0

    def update(self, rate: float, loss: float) -> float:
        """Add one loss and return the mean so far."""
        log = math.log10(rate) if rate > 0.0 else -math.inf
        decades = 0.0 if log == self._log else abs(log - self._log)
        keep = math.exp(-decades / self.width)
        self._log = log
        self._total = keep * self._total + loss
        self._weight = keep * self._weight + 1.0
        return self._total / self._weight


def smooth(rates: ArrayLike, losses: ArrayLike, width: float = WIDTH) -> Array:
    """Return losses averaged over neighbouring rates on both sides, with bias correction.

    ``s_i = sum_j(w_ij * l_j) / sum_j(w_ij)`` with ``w_ij = exp(-|log10(r_i / r_j)| / width)``.
    Dividing by the sum of the weights that are present corrects the bias at both ends.

    Args:
        rates: Increasing positive rates.
        losses: One finite loss for each rate.
        width: Decades of rate after which a loss counts ``1 / e``.

    >>> smooth([0.01, 0.1, 1.0], [4.0, 2.0, 3.0], width=1.0).round(3)
    array([3.421, 2.636, 2.845])
    """
    keep = np.exp(-np.diff(np.log10(np.asarray(rates, float))) / width)
    values = np.asarray(losses, float)

    def sum_earlier(values: Array, keep: Array) -> Array:
        totals = values.copy()
        for i, factor in enumerate(keep, 1):
            totals[i] += factor * totals[i - 1]
        return totals

    def sum_both_sides(values: Array) -> Array:
        later = sum_earlier(values[::-1], keep[::-1])[::-1]
        return sum_earlier(values, keep) + later - values

    return sum_both_sides(values) / sum_both_sides(np.ones_like(values))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Losses of a ramp over its rates, cleaned and smoothed.

    Losses that are not finite are left out. The height of an explosion means nothing and must not
    move a mean: a loss counts as at most as far above the first losses as the lowest is below
    them. Every result is the same for ``a * losses + b`` with ``a > 0``.
    """

    rates: Array
    losses: Array
    diverged: bool
    smoothed: Array

    @classmethod
    def from_arrays(cls, rates: ArrayLike, losses: ArrayLike, width: float = WIDTH) -> Curve:
        """Return the curve of a pair of arrays.

        Raises:
            ValueError: If the arrays differ in length, or the rates are not positive and
                increasing.
            NoSuggestion: If fewer than five losses are finite, or their rates span less than half
                a decade.
        """
        x, y = np.asarray(rates, float), np.asarray(losses, float)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(
                "Arguments `rates` and `losses` must be flat and of one length. "
                f"Received: shapes {x.shape} and {y.shape}"
            )
        if not (np.isfinite(x).all() and (x > 0).all() and (np.diff(x) > 0).all()):
            raise ValueError(
                "Argument `rates` must be finite, positive and increasing. "
                f"Received: rates={np.array2string(x, threshold=8)}"
            )
        finite = np.isfinite(y)
        diverged = bool(len(finite)) and not finite[-1]
        x, y = x[finite], y[finite]
        if len(x) < MIN_POINTS or x[-1] < MIN_RANGE * x[0]:
            raise NoSuggestion(_explain_too_short(len(x), diverged))
        y = np.clip(y, -LARGEST, LARGEST)
        start = float(np.median(y[: num_first(len(y))]))
        lowest = float(smooth(x, np.minimum(y, start), NARROW_WIDTH).min())
        y = np.minimum(y, start + (start - lowest))
        return cls(x, y, diverged, smooth(x, y, width))

    @functools.cached_property
    def lowest(self) -> int:
        """Index of the lowest smoothed loss."""
        return int(self.smoothed.argmin())

    @functools.cached_property
    def _num_before_fall(self) -> int:
        """Number of losses before the fall of 1.5 decades; at least that of the first points."""
        early = int(np.searchsorted(self.rates, self.rates[self.lowest] / FALL_SPAN))
        return max(early, num_first(len(self.rates)))

    @functools.cached_property
    def start(self) -> float:
        """Median loss before the fall."""
        return float(np.median(self.losses[: self._num_before_fall]))

    @functools.cached_property
    def drop(self) -> float:
        """Distance by which the smoothed loss falls."""
        return self.start - float(self.smoothed[self.lowest])

    @functools.cached_property
    def noise(self) -> float:
        """Standard deviation of one loss, from second differences, which ignore a trend.

        Their median absolute value times 1.4826 is their standard deviation, which is the square
        root of ``1 + 4 + 1`` times that of a loss.
        """
        second = np.diff(self.losses, 2)[: max(self.lowest, 8)]
        return float(1.4826 * np.median(np.abs(second)) / math.sqrt(6.0))

    @functools.cached_property
    def slope(self) -> Array:
        """Change of the smoothed loss per decade of rate."""
        return np.gradient(self.smoothed, np.log10(self.rates))

    @property
    def climbs(self) -> bool:
        """Whether the loss ends above its start."""
        return self.diverged or bool(self.smoothed[-1] > self.start)

    @functools.cached_property
    def verdict(self) -> str:
        """``"good"``, or why there is no suggestion: ``"rises"``, ``"falls"`` or ``"flat"``.

        A fall counts if it exceeds four standard errors. The lowest smoothed loss is in effect a
        mean over ``4 * WIDTH`` decades of losses.
        """
        decades = math.log10(self.rates[-1] / self.rates[0])
        num_averaged = max(1.0, 4.0 * WIDTH * len(self.rates) / decades)
        error = self.noise * math.sqrt(1.0 / self._num_before_fall + 1.0 / num_averaged)
        threshold = SIGNIFICANT * (error + ROUNDING * abs(self.start))
        climbs = self.diverged or self.smoothed[-1] - self.start > threshold
        if climbs and self.lowest < num_first(len(self.rates)):
            return "rises"
        if self.drop <= threshold:
            return "flat"
        if self.lowest == len(self.rates) - 1 and not self.diverged:
            return "falls"
        return "good"

    @functools.cached_property
    def plateau(self) -> float | None:
        """Rate at which a loss that falls up to the end has almost stopped falling, or None.

        Three quarters of the fall are reached there, at least a decade below the highest rate. An
        unbounded loss would diverge within that decade, or fall further.
        """
        if self.verdict != "falls":
            return None
        fallen = (self.start - self.smoothed) / self.drop
        reached = float(self.rates[int(np.argmax(fallen >= PLATEAU_BEGINS))])
        return reached if reached * PLATEAU <= self.rates[-1] else None

    def check(self) -> None:
        """Raise `NoSuggestion`, with the reason and what to change, unless the verdict is good."""
        if self.verdict != "good":
            explain = {
                "rises": self._explain_rise,
                "flat": self._explain_flatness,
                "falls": self._explain_fall,
            }[self.verdict]
            raise NoSuggestion(explain())

    def _explain_rise(self) -> str:
        first = self.rates[0]
        return (
            f"Diverged at once: from {first:.1e} on the loss rises and never falls. Begin lower: "
            f"min_lr={first / 1000:.0e}. If the loss still only rises, {CHECK_THE_TASK}."
        )

    def _explain_flatness(self) -> str:
        first, last = self.rates[[0, -1]]
        if self.climbs:
            above = self.rates[self.lowest :][self.smoothed[self.lowest :] > self.start]
            rise = np.append(above, last)[0]
            advice = f"Look closer below the rates where the loss rises (max_lr={rise:.0e})"
        else:
            advice = f"Go higher (max_lr={last * 100:.0e})"
        return (
            f"Too flat or too noisy: between {first:.1e} and {last:.1e} no fall of the loss "
            f"stands out from its noise ({self.noise:.2g}). {advice}, take more steps or a larger "
            "batch, or average over repeats."
        )

    def _explain_fall(self) -> str:
        last = self.rates[-1]
        return (
            f"No minimum inside the range: at {last:.1e}, the highest rate, the loss is still "
            f"falling. Go higher: max_lr={last * 100:.0e}."
        )


def _explain_too_short(count: int, diverged: bool) -> str:
    if diverged:
        return (
            f"Diverged at once: only {count} losses were finite, too few for a suggestion. Begin "
            f"lower, and {CHECK_THE_TASK}."
        )
    return (
        f"Too short: {count} finite losses. A suggestion needs at least {MIN_POINTS}, over half a "
        "decade of rates or more. Take more steps (100 are usual) over a wider range."
    )


def smooth_as_rules_do(rates: Array, values: Array, up: bool) -> Array:
    """Return the curve as the rules see it, with explosions cut off."""
    try:
        curve = Curve.from_arrays(rates, -values if up else values)
    except NoSuggestion:
        return smooth(rates, values)
    return -curve.smoothed if up else curve.smoothed


def visible_limits(values: Array, smoothed: Array, up: bool) -> tuple[float, float]:
    """Return limits that cut off a divergence, but at most a quarter of the curve.

    Up to its best value, the smoothed curve is always inside.
    """
    raw, falling = (-values, -smoothed) if up else (values, smoothed)
    low = min(float(raw.min()), float(falling.min()))
    usual = float(np.quantile(falling, 0.75))
    before = float(falling[: int(np.argmin(falling)) + 1].max())
    high = min(float(falling.max()), max(before, usual + 0.25 * (usual - low)))
    # Single batches are included as far as the whiskers of a box plot would reach.
    lower, upper = np.quantile(raw[falling <= high], [0.25, 0.75])
    high = max(high, float(raw[raw <= upper + 1.5 * (upper - lower)].max()))
    room = 0.08 * (high - low) or 0.08 * abs(high) or 0.08
    low, high = low - room, high + room
    return (-high, -low) if up else (low, high)
