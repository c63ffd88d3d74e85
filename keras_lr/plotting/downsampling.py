"""What of a long record is worth drawing: extremes, jumps and a moving mean."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BUCKETS = 1000


def downsample_extrema(values: ArrayLike, buckets: int = BUCKETS) -> NDArray[np.intp]:
    """Find the places of the lowest and the highest value in each of `buckets` stretches.

    Returns:
        Rising indices, among them the first and the last; all of them when there are few.
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
    """Return what to draw of values that each hold until the next step, the last one too."""
    shown = downsample_extrema(values)
    return np.append(step[shown], step[-1] + 1), np.append(values[shown], values[-1])


def jumps(rate: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find where a rate rises or falls suddenly: by a tenth, and far more than before and after.

    Returns:
        The indices of the first value after a rise, and after a fall.
    """
    change = np.diff(rate)
    size = np.abs(change)
    at = np.flatnonzero(size > 0.099 * np.maximum(np.abs(rate[1:]), np.abs(rate[:-1])))
    around = np.pad(size, 1)
    at = at[size[at] > 5 * np.maximum(around[at], around[at + 2])]
    return at[change[at] > 0] + 1, at[change[at] < 0] + 1


def moving_mean(loss: Array) -> tuple[NDArray[np.intp], Array, int]:
    """Average over a fortieth of the steps, centred; missing values count for nothing."""
    size = max(1, len(loss) // BUCKETS)
    starts = np.arange(0, len(loss), size)
    known = np.isfinite(loss)
    total = np.add.reduceat(np.where(known, loss, 0.0), starts)
    count = np.add.reduceat(known, starts, dtype=float)
    # Odd, so that the mean does not lean to one side.
    width = max(1, len(starts) // 40) | 1
    box = np.ones(width)
    total, count = np.convolve(total, box, "same"), np.convolve(count, box, "same")
    smooth = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    return np.minimum(starts + size // 2, len(loss) - 1), smooth, width * size
