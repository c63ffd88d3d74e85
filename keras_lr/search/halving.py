"""Choice of the rates to try and to continue: the grid, the rungs, the finer grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

REDUCTION_FACTOR = 2
"""After a rung, one rate in this many is continued, for this many times as many epochs."""

DIGITS = 6
"""Significant digits of a rate, few enough to be the same on every machine."""


def rate_grid(low: float, high: float, per_decade: int) -> list[float]:
    """Return rates from ``low`` to ``high``, both included, evenly spaced on a log axis.

    >>> rate_grid(1e-3, 1.0, per_decade=1)
    [0.001, 0.01, 0.1, 1.0]
    """
    count = max(2, round(math.log10(high / low) * per_decade) + 1)
    return list(dict.fromkeys(map(round_rate, np.geomspace(low, high, count))))


def rung_stops(epochs: int, first: float | None) -> tuple[int, ...]:
    """Return the epochs after which trials are compared, the last one being the end.

    Args:
        epochs: Epochs of a trial that is trained to its end.
        first: Share of the epochs before the first comparison; None for no comparison.

    >>> rung_stops(20, 0.1)
    (2, 4, 8, 16, 20)
    >>> rung_stops(20, None)
    (20,)
    """
    stops: list[int] = []
    stop = epochs if first is None else max(1, math.ceil(first * epochs))
    while stop < epochs:
        stops.append(stop)
        stop *= REDUCTION_FACTOR
    return (*stops, epochs)


def better_half(ranks: Mapping[float, tuple[float, ...]]) -> list[float]:
    """Return the better half of some rates, at least one, in their order.

    Args:
        ranks: The rank of each rate; less is better.
    """
    count = math.ceil(len(ranks) / REDUCTION_FACTOR)
    kept = sorted(ranks, key=lambda rate: ranks[rate])[:count]
    return [rate for rate in ranks if rate in kept]


def finer_rates(rates: Sequence[float], best: float, count: int) -> list[float]:
    """Return new rates in the gaps next to the best one, evenly spaced on a log axis.

    Args:
        rates: The rates that were tried, ascending.
        best: The best of them.
        count: Rates for each gap.

    >>> finer_rates([0.001, 0.01, 0.1], 0.1, 1)
    [0.0316228]
    """
    gaps = [(a, b) for a, b in itertools.pairwise(rates) if best in (a, b)]
    found = [rate for low, high in gaps for rate in np.geomspace(low, high, count + 2)[1:-1]]
    return [rate for rate in dict.fromkeys(map(round_rate, found)) if rate not in rates]


def round_rate(rate: float) -> float:
    """Return a rate rounded to a few significant digits."""
    return float(f"{rate:.{DIGITS}g}")
