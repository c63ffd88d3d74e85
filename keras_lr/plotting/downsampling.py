"""Reduction of long records for drawing: extremes, jumps and a moving mean."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BUCKETS = 1000
ROUNDING = 1e-12
"""Share of the largest value that a change must exceed to count as more than rounding."""


def downsample_extrema(values: ArrayLike, buckets: int = BUCKETS) -> NDArray[np.intp]:
    """Find the places of the lowest and the highest value in each of `buckets` stretches.

    Returns:
        Ascending indices, including the first and the last; all indices if there are few.
    """
    values = np.asarray(values)
    size = -(-len(values) // buckets)
    if size <= 2:
        return np.arange(len(values))
    whole = len(values) // size * size
    blocks = values[:whole].reshape(-1, size)
    known = np.isfinite(blocks)
    starts = np.arange(0, whole, size)
    lowest = starts + np.where(known, blocks, np.inf).argmin(axis=1)
    highest = starts + np.where(known, blocks, -np.inf).argmax(axis=1)
    tail = np.arange(whole, len(values))[:: max(1, (len(values) - whole) // 2)]
    return np.unique(np.concatenate([[0], lowest, highest, tail, [len(values) - 1]]))


def as_stairs(step: NDArray[Any], values: Array) -> tuple[NDArray[Any], Array]:
    """Return the points of a staircase: each value is held until the next step."""
    shown = downsample_extrema(values)
    return np.append(step[shown], step[-1] + 1), np.append(values[shown], values[-1])


def find_jumps(values: Array, least: float = 0.099) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find where a curve rises or falls suddenly: far more than just before and just after.

    Args:
        values: One value a step.
        least: The smallest change that counts, as a share of the larger of the two values.

    Returns:
        The indices of the first value after a rise, and after a fall.
    """
    change = np.diff(values)
    size = np.abs(change)
    size[size <= ROUNDING * np.max(np.abs(values), initial=0.0)] = 0.0
    at = np.flatnonzero(size > least * np.maximum(np.abs(values[1:]), np.abs(values[:-1])))
    around = np.pad(size, 1)
    at = at[size[at] > 5 * np.maximum(around[at], around[at + 2])]
    return at[change[at] > 0] + 1, at[change[at] < 0] + 1


def moving_mean(loss: Array) -> tuple[NDArray[np.intp], Array, int]:
    """Return the centred mean over a fortieth of the steps, its places and width; ignore NaN."""
    size = max(1, len(loss) // BUCKETS)
    starts = np.arange(0, len(loss), size)
    known = np.isfinite(loss)
    total = np.add.reduceat(np.where(known, loss, 0.0), starts)
    count = np.add.reduceat(known, starts, dtype=float)
    # Odd, so that the mean is centred.
    width = max(1, len(starts) // 40) | 1
    box = np.ones(width)
    total, count = np.convolve(total, box, "same"), np.convolve(count, box, "same")
    smooth = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    return np.minimum(starts + size // 2, len(loss) - 1), smooth, width * size
