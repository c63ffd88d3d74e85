"""Layout of the legend: among the curves, or below the axes in columns."""

from collections.abc import Collection

WIDTH = 8.0
"""Width of a plot in inches."""

MAX_INSIDE, LONGEST_INSIDE = 2, 40


def columns(names: Collection[str]) -> int:
    """Return the number of columns for names below the axes; 0 if they fit among the curves.

    >>> columns(["sgd", "adam"]), columns([f"run {number}" for number in range(12)])
    (0, 6)
    """
    longest = max(map(len, names))
    if len(names) <= MAX_INSIDE and longest <= LONGEST_INSIDE:
        return 0
    # In small letters of about 0.07 inches each, after a sample of the line.
    fitting = max(1, int(WIDTH / (0.7 + 0.07 * longest)))
    rows = -(-len(names) // fitting)
    return -(-len(names) // rows)


def height(names: Collection[str]) -> float:
    """Return the height of the names below the axes in inches."""
    count = columns(names)
    return 0.1 + 0.195 * -(-len(names) // count) if count else 0.0
