"""`Curve`: a recorded curve of losses over rates, cleaned and smoothed."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

WIDTH = 0.3
"""Width of the smoothing, in decades of rate."""


class NoSuggestion(Exception):
    """A curve supports no suggestion; the message says why, and what to change.

    >>> from keras_lr.range_test.rules import suggest
    >>> suggest([1e-4, 1e-3], [2.0, 1.0])
    Traceback (most recent call last):
    keras_lr.range_test.curve.NoSuggestion: ...
    """


class Smoother:
    """A running mean of losses as they come, with bias correction, on the axis of the log rate.

    After losses ``l_1 .. l_n`` at rates ``r_1 .. r_n`` the value is ``sum(w_i * l_i) / sum(w_i)``
    with ``w_i = exp(-log10(r_n / r_i) / width)``: the first value is the first loss, and the result
    does not depend on how many steps a decade takes.

    Args:
        width: Decades of rate after which a loss counts ``1 / e``.

    >>> smoother = Smoother(width=1.0)
    >>> smoother.update(0.1, 4.0), round(smoother.update(1.0, 2.0), 3)
    (4.0, 2.538)
    """

    def __init__(self, width: float = WIDTH) -> None:
        """Start with nothing seen."""
        self.width = width
        self._total = self._weight = self._log = 0.0

    def update(self, rate: float, loss: float) -> float:
        """Take one loss in and return the mean so far."""
        log = math.log10(rate)
        keep = math.exp((self._log - log) / self.width) if self._weight else 0.0
        self._log = log
        self._total = keep * self._total + loss
        self._weight = keep * self._weight + 1.0
        return self._total / self._weight


def smooth(rates: ArrayLike, losses: ArrayLike, width: float = WIDTH) -> Array:
    """Average losses over neighbouring rates, earlier and later alike, with bias correction.

    ``s_i = sum_j(w_ij * l_j) / sum_j(w_ij)`` with ``w_ij = exp(-|log10(r_i / r_j)| / width)``.
    Dividing by the weights that are there, not by those of an endless curve, corrects the bias.

    Args:
        rates: Increasing positive rates.
        losses: One finite loss for each rate.
        width: Decades of rate after which a loss counts ``1 / e``.

    >>> smooth([0.01, 0.1, 1.0], [4.0, 2.0, 3.0], width=1.0).round(3)
    array([3.421, 2.636, 2.845])
    """
    keep = np.exp(-np.diff(np.log10(np.asarray(rates, float))) / width)
    values = np.asarray(losses, float)

    def sums(values: Array, keep: Array) -> Array:
        totals = values.copy()
        for i, factor in enumerate(keep, 1):
            totals[i] += factor * totals[i - 1]
        return totals

    def both(values: Array) -> Array:
        return sums(values, keep) + sums(values[::-1], keep[::-1])[::-1] - values

    return both(values) / both(np.ones_like(values))


@dataclasses.dataclass(frozen=True)
class Curve:
    """A recorded curve, cleaned and smoothed.

    Losses that are not finite are left out. A loss that lies above the first ones by more than the
    lowest lies below them counts as just that much above, so that the height of an explosion, which
    means nothing, moves no mean. Everything is the same for ``a * losses + b``, ``a > 0``.
    """

    rates: Array
    losses: Array
    diverged: bool
    smoothed: Array

    @classmethod
    def read(cls, rates: ArrayLike, losses: ArrayLike, width: float = WIDTH) -> Curve:
        """Clean and smooth a pair of arrays.

        Raises:
            ValueError: If they are not of one length, or the rates not positive and increasing.
            NoSuggestion: If fewer than five losses over half a decade of rates are finite.
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
        if len(x) < 5 or x[-1] < math.sqrt(10) * x[0]:
            raise NoSuggestion(_too_short(len(x), diverged))
        y = np.clip(y, -1e100, 1e100)  # so that differences and sums stay finite
        start = float(np.median(y[: max(3, len(y) // 10)]))
        lowest = float(smooth(x, np.minimum(y, start), 0.1).min())
        y = np.minimum(y, start + (start - lowest))
        return cls(x, y, diverged, smooth(x, y, width))

    @functools.cached_property
    def lowest(self) -> int:
        """Where the smoothed loss is lowest."""
        return int(self.smoothed.argmin())

    @functools.cached_property
    def _before(self) -> int:
        """How many losses come before the fall: 1.5 decades below the lowest, or the first."""
        early = int(np.searchsorted(self.rates, self.rates[self.lowest] / 30.0))
        return max(early, 3, len(self.rates) // 10)

    @functools.cached_property
    def start(self) -> float:
        """The loss before it falls."""
        return float(np.median(self.losses[: self._before]))

    @functools.cached_property
    def drop(self) -> float:
        """How far the smoothed loss falls."""
        return self.start - float(self.smoothed[self.lowest])

    @functools.cached_property
    def noise(self) -> float:
        """Standard deviation of one loss, from second differences, which a trend leaves alone."""
        second = np.diff(self.losses, 2)[: max(self.lowest, 8)]
        return float(1.4826 * np.median(np.abs(second)) / math.sqrt(6.0))

    @functools.cached_property
    def slope(self) -> Array:
        """Change of the smoothed loss for each decade of rate."""
        return np.gradient(self.smoothed, np.log10(self.rates))

    @property
    def climbs(self) -> bool:
        """Whether the loss ends above where it began."""
        return self.diverged or bool(self.smoothed[-1] > self.start)

    @functools.cached_property
    def verdict(self) -> str:
        """``"good"``, or why there is no suggestion: it ``"rises"``, ``"falls"`` or is ``"flat"``.

        A fall counts if it exceeds four standard errors, the lowest smoothed loss being a mean of
        ``4 * WIDTH`` decades' worth of losses in effect.
        """
        decades = math.log10(self.rates[-1] / self.rates[0])
        count = max(1.0, 4.0 * WIDTH * len(self.rates) / decades)
        error = self.noise * math.sqrt(1.0 / self._before + 1.0 / count) + 1e-9 * abs(self.start)
        climbs = self.diverged or self.smoothed[-1] - self.start > 4.0 * error
        if climbs and self.lowest < max(3, len(self.rates) // 10):
            return "rises"
        if self.drop <= 4.0 * error:
            return "flat"
        if self.lowest == len(self.rates) - 1 and not self.diverged:
            return "falls"
        return "good"

    def check(self) -> None:
        """Raise `NoSuggestion`, with the reason and what to change, unless the verdict is good."""
        first, last = self.rates[[0, -1]]
        if self.verdict == "rises":
            raise NoSuggestion(
                f"Diverged at once: from {first:.1e} on the loss rises and never falls. Begin "
                f"lower: min_lr={first / 1000:.0e}; if it still only rises, look for a mistake in "
                "the loss, the labels or the scale of the inputs."
            )
        if self.verdict == "flat":
            higher = np.append(
                self.rates[self.lowest :][self.smoothed[self.lowest :] > self.start], last
            )
            change = (
                f"Look closer below the rates where it rises (max_lr={higher[0]:.0e})"
                if self.climbs
                else f"Go higher (max_lr={last * 100:.0e})"
            )
            raise NoSuggestion(
                f"Too flat or too noisy: between {first:.1e} and {last:.1e} no fall of the loss "
                f"stands out of its noise ({self.noise:.2g}). {change}, take more steps or a "
                "larger batch, or average over repeats."
            )
        if self.verdict == "falls":
            raise NoSuggestion(
                f"No minimum inside the range: at {last:.1e}, the highest rate, the loss is still "
                f"falling. Go higher: max_lr={last * 100:.0e}."
            )


def _too_short(count: int, diverged: bool) -> str:
    if diverged:
        return (
            f"Diverged at once: only {count} losses were finite, too few to read. Begin lower, and "
            "look for a mistake in the loss, the labels or the scale of the inputs."
        )
    return (
        f"Too short: {count} finite losses; a suggestion needs at least five, over half a decade "
        "of rates or more. Take more steps (100 are usual) over a wider range."
    )
