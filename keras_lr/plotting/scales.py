"""Scales of the vertical axis: the values that it spans, and whether it is logarithmic."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

DECADES = 2.0
"""Distance below the highest value from which a logarithmic axis shows a curve better."""

TIME_BELOW = 0.1
"""Share of its steps that the curve must spend below that."""

WIDE = 10.0
"""Ratio of the highest to the lowest loss from which their axis is logarithmic."""


def are_wide(losses: Array) -> bool:
    """Return whether finite losses are positive and so far apart that they need a log axis."""
    return bool(losses.min() > 0.0 and losses.max() > WIDE * losses.min())


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """The range of the finite values of one or several curves; 0 to 1 if there are none."""

    low: float = 0.0
    high: float = 1.0
    log_floor: float | None = None
    """The lower end of a logarithmic axis; `None` if a linear axis shows the curves better."""

    @classmethod
    def of(cls, curves: Iterable[ArrayLike]) -> ValueRange:
        """Return the range of all curves together."""
        known = [values[np.isfinite(values)] for values in (np.asarray(c, float) for c in curves)]
        known = [values for values in known if values.size]
        if not known:
            return cls()
        low = min(float(values.min()) for values in known)
        high = max(float(values.max()) for values in known)
        positive = [values[values > 0] for values in known if values.max() > 0]
        if not any(np.mean(values < high / 10**DECADES) >= TIME_BELOW for values in positive):
            return cls(low, high)
        # A decay to zero passes through every decade in its last steps, which matter little.
        floor = min(max(values.min(), np.quantile(values, 0.05) / 10) for values in positive)
        return cls(low, high, float(floor))


@dataclasses.dataclass(frozen=True)
class Scale:
    """A map from values to places on an axis, from 0 at its lower end to 1 at its upper end."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, curves: Iterable[ArrayLike]) -> Scale:
        """Return a scale on which all curves fit."""
        span = ValueRange.of(curves)
        low, high = span.low, span.high
        if span.log_floor is not None:
            return cls(span.log_floor, high, log=True)
        if high - low <= 1e-9 * abs(high):
            # Put a constant curve between the edges.
            return cls(0.0, 2.0 * high) if high > 0 else cls(high - 1.0, high + 1.0)
        return cls(0.0 if 0 <= low < high / 2 else low, high)

    def place(self, values: Array) -> Array:
        """Return the places of an array of values; values beyond the axis are at its ends."""
        if self.log:
            places = np.log(np.maximum(values, self.low) / self.low) / math.log(
                self.high / self.low
            )
        else:
            places = (values - self.low) / (self.high - self.low)
        return np.clip(places, 0.0, 1.0)

    def at(self, place: float) -> float:
        """Return the value at a place."""
        if self.log:
            return float(self.low * (self.high / self.low) ** place)
        return (1.0 - place) * self.low + place * self.high
