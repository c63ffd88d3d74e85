"""What the formulas of schedules share: to interpolate, to take powers, and to go piece by piece.

A formula is asked for many steps at once, most of which lie in the same piece and the same cycle.
What all of them share is worked out once, as an array of one number, and not for each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def lerp(start: Any, end: Any, weight: Any) -> Any:
    """Interpolate so that both ends are exact."""
    return (1.0 - weight) * start + weight * end


def half_cosine(done: Any) -> Any:
    """Return the weight that rises from 0 to 1 along half a cosine: ``(1 - cos(pi * done)) / 2``.

    As ``sin(pi * done / 2) ** 2``, which loses no digits near 0.

    >>> half_cosine(np.array([0.0, 1 / 3, 1.0])).round(12)
    array([0.  , 0.25, 1.  ])
    """
    return np.square(np.sin((math.pi / 2.0) * done))


def power(base: float, exponent: Array) -> Array:
    """Return ``base ** exponent`` for a positive base, in a fraction of the time that takes.

    >>> power(0.5, np.array([0.0, 1.0, 2.0]))
    array([1.  , 0.5 , 0.25])
    """
    return np.exp2(math.log2(base) * exponent)


def common(values: Array) -> Array:
    """Return the one number that all ``values`` are, as an array of one, or all where they differ.

    >>> common(np.array([2.0, 2.0])), common(np.array([2.0, 3.0]))
    (array([2.]), array([2., 3.]))
    """
    alike = values.min(initial=np.inf) == values.max(initial=-np.inf)
    return values[:1] if alike else values


def place(starts: ArrayLike, step: Array) -> NDArray[np.intp]:
    """Return the piece that each step lies in; just one number where all lie in the same.

    >>> place([0, 10], np.array([1.0, 9.0])), place([0, 10], np.array([9.0, 10.0]))
    (array([0]), array([0, 1]))
    """
    ends = step.min(initial=np.inf), step.max(initial=-np.inf)
    first, last = np.searchsorted(starts, ends, side="right") - 1
    return np.searchsorted(starts, step[:1] if first == last else step, side="right") - 1


def pieces(step: Array, starts: ArrayLike, piece: Callable[[int, Array], Any]) -> Any:
    """Return ``piece(i, steps)`` for the steps in each piece; the last one has no end."""
    index = place(starts, step)
    if index.size == 1:
        return piece(int(index[0]), step)
    order = np.argsort(index, kind="stable")
    index, step = index[order], step[order]
    bounds = [*np.flatnonzero(np.diff(index, prepend=-1)).tolist(), step.size]
    values, result = np.empty(step.shape), np.empty(step.shape)
    for first, end in itertools.pairwise(bounds):
        values[first:end] = piece(int(index[first]), step[first:end])
    result[order] = values
    return result
