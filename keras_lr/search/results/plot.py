"""Pictures of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_lr.plotting.curves import COLORS, FAINT, INK, STYLES, new_axes
from keras_lr.search.results.rows import TO_TARGET, Criterion
from keras_lr.search.results.valleys import Valley

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

MARKERS = "osv^Dp*"
"""Markers of the optimizers: they tell them apart without colours."""


class PlottedSweep(Protocol):
    """What the pictures show of a sweep; see `SweepResult`."""

    @property
    def valleys(self) -> Sequence[Valley]: ...
    @property
    def criterion(self) -> Criterion: ...


def plot_valleys(result: PlottedSweep, y: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a measure over a log axis of rates: a line for each optimizer, a bar for each spread.

    A hollow marker is a rate that was left after a rung. A cross at the upper edge is one that
    diverged or failed. The line below the axis is the band of the best rates.

    Returns:
        The axes.

    Raises:
        ValueError: If the trials have no measure of that name.
    """
    measure = y or result.criterion.measure
    _check_measure(result, measure)
    ax = new_axes(height=4.8) if ax is None else ax
    ax.set_xscale("log")
    looks = zip(result.valleys, cycle(COLORS), cycle(STYLES), cycle(MARKERS), strict=False)
    shown = []
    for valley, color, style, marker in looks:
        shown.append(_draw_valley(ax, valley, measure, color, style, marker))
    _scale(ax, [values for values in shown if values.size], measure, result)
    for valley, color in zip(result.valleys, cycle(COLORS), strict=False):
        _draw_gaps(ax, valley, color)
    _draw_bands(ax, result.valleys)
    ax.set_xlabel("learning rate")
    ax.set_title(_title(result, measure))
    ax.grid(color=FAINT, linewidth=0.6)
    ax.legend(fontsize=8, framealpha=0.9)
    return ax


def _check_measure(result: PlottedSweep, measure: str) -> None:
    rows = [row for valley in result.valleys for rates in valley.rows for row in rates]
    known = dict.fromkeys(name for row in rows for name in row.logs)
    allowed = [*(TO_TARGET if result.criterion.until else ()), *known]
    if measure not in allowed:
        why = "" if result.criterion.until else " (there is no target: until=None)"
        raise ValueError(
            f"SweepResult.plot: argument `y` must be one of {', '.join(allowed)}{why}. "
            f"Received: y={measure!r}"
        )


def _draw_valley(
    ax: Axes, valley: Valley, measure: str, color: str, style: Any, marker: str
) -> Array:
    """Draw the line of a group, and return what it shows."""
    mean, low, high = valley.curve(measure)
    known = np.isfinite(mean)
    through = known & valley.is_complete
    look: dict[str, Any] = {"color": color, "linestyle": style, "linewidth": 1.6}
    ax.plot(valley.rates, mean, label=str(valley.group), marker="", **look)
    for kept, face in ((through, color), (known & ~through, "none")):
        ax.plot(
            valley.rates[kept], mean[kept], marker, color=color, markerfacecolor=face, markersize=5
        )
    several = known & (high > low)
    ax.vlines(valley.rates[several], low[several], high[several], color=color, linewidth=1.0)
    return mean[known]


def _scale(ax: Axes, shown: list[Array], measure: str, result: PlottedSweep) -> None:
    """Choose a linear or a log axis and its limits, so that the bottoms of the valleys show."""
    goal = f" to {result.criterion.until}" if measure in TO_TARGET else ""
    ax.set_ylabel(f"{measure}{goal}")
    if not shown:
        return
    values = np.concatenate(shown)
    if measure in TO_TARGET or (values.min() > 0 and values.max() > 20 * values.min()):
        ax.set_yscale("log")
        ceiling = values.min() * 1e4
        ax.set_ylim(values.min() / 1.4, min(values.max() * 1.4, ceiling))


def _draw_gaps(ax: Axes, valley: Valley, color: str) -> None:
    """Mark the rates without a value at the upper edge."""
    gaps = sorted({row.trial.learning_rate for row in valley.gaps()})
    ax.plot(
        gaps,
        [0.985] * len(gaps),
        "x",
        color=color,
        transform=ax.get_xaxis_transform(),
        markersize=6,
    )


def _draw_bands(ax: Axes, valleys: Sequence[Valley]) -> None:
    """Draw the band of the best rates of each optimizer as a line at the lower edge."""
    for number, (valley, color) in enumerate(zip(valleys, cycle(COLORS), strict=False)):
        if valley.best is None:
            continue
        height = 0.02 + 0.02 * number
        look: dict[str, Any] = {"color": color, "transform": ax.get_xaxis_transform()}
        ax.plot(valley.best.band, [height] * 2, "-|", linewidth=2.5, markersize=7, **look)
        ax.plot([valley.best.learning_rate], [height], "D", markeredgecolor=INK, **look)


def _title(result: PlottedSweep, measure: str) -> str:
    what = f"{measure} to {result.criterion.until}" if measure in TO_TARGET else measure
    return f"Sweep over rates: {what}"
