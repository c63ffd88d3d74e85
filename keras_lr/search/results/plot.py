"""Plots of a sweep, which are also legible in black and white."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_lr.plotting.curves import (
    COLORS,
    FAINT,
    INK,
    STYLES,
    count_along,
    label_plainly,
    new_axes,
)
from keras_lr.search.results.rows import TO_TARGET, Criterion, TrialRow
from keras_lr.search.results.valleys import Valley

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

MARKERS = "osv^Dp*"

RATE, SIZE = "learning_rate", "size"

HIGHEST = 1e4
"""Upper end of a log axis, as a multiple of the lowest value: higher values have exploded."""

STRIP, ALL_STRIPS = 0.035, 0.25
"""Share of the axes for the band of one optimizer, and the largest share for all together."""

ABOVE = 0.12
"""Share of the axes left free at the top, for the marks of gaps."""


class PlottedSweep(Protocol):
    """The part of a sweep's result that the plots show; see `SweepResult`."""

    @property
    def valleys(self) -> Sequence[Valley]: ...
    @property
    def criterion(self) -> Criterion: ...


class Look(NamedTuple):
    """Color, line style and marker that distinguish an optimizer."""

    color: str
    style: Any
    marker: str


def plot_sweep(
    result: PlottedSweep, y: str | None = None, x: str = RATE, ax: Axes | None = None
) -> Axes:
    """Draw a measure over rates, over the time of a training run, or over sizes.

    Returns:
        The axes.

    Raises:
        ValueError: If ``x`` or ``y`` cannot be drawn.
    """
    if x not in (RATE, *TO_TARGET, SIZE):
        raise ValueError(
            f"SweepResult.plot: argument `x` must be one of {', '.join((RATE, *TO_TARGET, SIZE))}. "
            f"Received: x={x!r}"
        )
    if x in TO_TARGET:
        target = result.criterion.target
        measure = y or (target.name if target else result.criterion.monitor)
    else:
        measure = y or result.criterion.measure
    _check_measure(result, measure, x)
    ax = new_axes(height=4.8) if ax is None else ax
    if x == RATE:
        _plot_valleys(ax, result, measure)
    elif x == SIZE:
        _plot_sizes(ax, result, measure)
    else:
        _plot_training(ax, result, measure, x)
    ax.grid(color=FAINT, linewidth=0.6)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, framealpha=0.9, handlelength=3.5)
    return ax


def measures(result: PlottedSweep, x: str = RATE) -> list[str]:
    """Return the names of the measures that can be drawn over rates, training time or sizes.

    Before anything is logged, the value by which trials are compared is one of them.
    """
    rows = [row for valley in result.valleys for rates in valley.rows for row in rates]
    names = [name for row in rows for name in row.logs] or [result.criterion.monitor]
    if x not in TO_TARGET:
        names = [*(TO_TARGET if result.criterion.until else ()), *names]
    if x == SIZE:
        names = [RATE, *names]
    return list(dict.fromkeys(names))


def _check_measure(result: PlottedSweep, measure: str, x: str) -> None:
    allowed = measures(result, x)
    if measure not in allowed:
        none = x not in TO_TARGET and not result.criterion.until
        why = " (there is no target: until=None)" if none and measure in TO_TARGET else ""
        raise ValueError(
            f"SweepResult.plot: argument `y` must be one of {', '.join(allowed)}{why}. "
            f"Received: y={measure!r}"
        )


def _looks(valleys: Sequence[Valley], by: str = "group") -> Iterator[tuple[Valley, Look]]:
    """Iterate over valleys, each with its look; ``by="optimizer"`` gives one look each."""
    looks: dict[Any, Look] = {}
    fresh = map(Look, cycle(COLORS), cycle(STYLES), cycle(MARKERS))
    for valley in valleys:
        key = valley.group if by == "group" else valley.group.optimizer
        if key not in looks:
            looks[key] = next(fresh)
        yield valley, looks[key]


# Over rates ---------------------------------------------------------------------------------------


def _plot_valleys(ax: Axes, result: PlottedSweep, measure: str) -> None:
    """Draw a line for each group, a bar for each spread, and the bands in a strip below.

    A hollow marker is a rate that was dropped after a rung. A cross at the upper edge is a rate
    that diverged or failed with some seed.
    """
    ax.set_xscale("log")
    rates = np.concatenate([valley.rates for valley in result.valleys] or [np.array([])])
    if rates.size:
        ax.set_xlim(rates.min() / 1.5, rates.max() * 1.5)
    shown = [_draw_valley(ax, valley, measure, look) for valley, look in _looks(result.valleys)]
    each = min(STRIP, ALL_STRIPS / max(1, len(result.valleys)))
    strip = each * (len(result.valleys) + 0.5)
    _scale(ax, shown, measure, result.criterion, below=strip + STRIP)
    place: dict[str, Any] = {"transform": ax.transAxes, "linewidth": 0.0}
    ax.fill_between([0.0, 1.0], 0.0, strip, color=FAINT, alpha=0.5, **place)
    for number, (valley, look) in enumerate(_looks(result.valleys)):
        _draw_gaps_and_band(ax, valley, look, each * (number + 0.75), 0.985 - 0.025 * number)
    ax.set_xlabel("learning rate (in the strip: the best of each, and those that do as well)")
    ax.set_title(f"Sweep over rates: {_describe(measure, result.criterion)}")


def _draw_gaps_and_band(ax: Axes, valley: Valley, look: Look, low: float, high: float) -> None:
    """Mark the rates without a value, and the band of the best ones, at heights of the axes."""
    edge: dict[str, Any] = {"color": look.color, "transform": ax.get_xaxis_transform()}
    gaps = sorted({row.trial.learning_rate for row in valley.gaps()})
    ax.plot(gaps, [high] * len(gaps), "x", **edge)
    if valley.best is not None:
        ax.plot(valley.best.band, [low] * 2, "|-", linewidth=2.0, **edge)
        best = [valley.best.learning_rate]
        ax.plot(best, [low], look.marker, markersize=5, markeredgecolor=INK, **edge)


def _draw_valley(ax: Axes, valley: Valley, measure: str, look: Look) -> Array:
    """Draw the line of a group with its spread, and return the values of both."""
    mean, low, high = valley.curve(measure)
    known = np.isfinite(mean)
    through = known & valley.is_complete
    ax.plot(
        valley.rates,
        mean,
        color=look.color,
        linestyle=look.style,
        linewidth=1.6,
        label=str(valley.group),
        marker=look.marker,
        markevery=np.flatnonzero(through).tolist(),
        markersize=5,
    )
    hollow = known & ~through
    ax.plot(
        valley.rates[hollow],
        mean[hollow],
        look.marker,
        color=look.color,
        markerfacecolor="white",
        markersize=5,
    )
    ax.vlines(valley.rates[known], low[known], high[known], color=look.color, linewidth=1.0)
    return np.concatenate([mean[known], low[known], high[known]])


def _scale(
    ax: Axes, shown: list[Array], measure: str, criterion: Criterion, below: float = 0.08
) -> None:
    """Choose a linear or a log axis and its limits, so that the bottoms of the valleys show.

    Args:
        ax: The axes.
        shown: The values drawn, including the ends of the spreads.
        measure: The measure.
        criterion: How trials are compared.
        below: Share of the axes to leave free below.
    """
    ax.set_ylabel(_describe(measure, criterion))
    values = np.concatenate([*shown, np.array([])])
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    is_log = low > 0 and (measure in (*TO_TARGET, RATE) or high > 20 * low)
    if is_log:
        ax.set_yscale("log")
        label_plainly(ax.yaxis)
        low, high = math.log(low), math.log(min(high, HIGHEST * low))
    height = (high - low or 0.2 * abs(high) or 0.2) / (1.0 - below - ABOVE)
    low, high = low - below * height, high + ABOVE * height
    ax.set_ylim(*((math.exp(low), math.exp(high)) if is_log else (low, high)))


def _describe(measure: str, criterion: Criterion) -> str:
    if measure in TO_TARGET:
        return f"{measure} to {criterion.until}"
    return "best learning rate" if measure == RATE else measure


# Over time ----------------------------------------------------------------------------------------


def _plot_training(ax: Axes, result: PlottedSweep, measure: str, x: str) -> None:
    """Draw a logged value over the time of training, for each group at its best rate."""
    for valley, look in _looks(result.valleys):
        if valley.best is None:
            continue
        rows = valley.rows[valley.place_of_best]
        label = f"{valley.group} at {valley.best.learning_rate:.2g}"
        for row in rows:
            ax.plot(
                _times(row, x),
                row.logs[measure],
                color=look.color,
                linestyle=look.style,
                linewidth=1.4,
                marker=look.marker,
                markersize=4,
                markevery=max(1, row.epochs // 10),
                label=label,
            )
            label = "_"
    target = result.criterion.target
    if target is not None and target.name == measure:
        ax.axhline(target.value, color=INK, linestyle=":", linewidth=1.1)
    if x != "seconds":
        count_along(ax.xaxis, ax.get_xlim()[1], whole=True)
    ax.set_xlabel(f"{x} of training")
    ax.set_ylabel(measure)
    ax.set_title(f"Training at the best rate of each: {measure}")


def _times(row: TrialRow, x: str) -> list[float]:
    if x == "epochs":
        return [float(number + 1) for number in range(len(row.marks))]
    return [float(mark[TO_TARGET.index(x) - 1]) for mark in row.marks]


# Over sizes ---------------------------------------------------------------------------------------


def _plot_sizes(ax: Axes, result: PlottedSweep, measure: str) -> None:
    """Draw a measure at the best rate of each optimizer over the sizes of the model."""
    sizes = list(dict.fromkeys(valley.group.size for valley in result.valleys))
    lines: dict[str, tuple[Look, list[float], list[float], list[float]]] = {}
    for valley, look in _looks(result.valleys, by="optimizer"):
        spread = _at_best(valley, measure)
        blank = [math.nan] * len(sizes)
        line = lines.setdefault(valley.group.optimizer, (look, blank, blank.copy(), blank.copy()))
        for values, value in zip(line[1:], spread, strict=True):
            values[sizes.index(valley.group.size)] = value
    places = np.arange(len(sizes))
    for optimizer, (look, mean, low, high) in lines.items():
        ax.plot(
            places,
            mean,
            color=look.color,
            linestyle=look.style,
            marker=look.marker,
            linewidth=1.6,
            label=optimizer,
        )
        ax.vlines(places, low, high, color=look.color, linewidth=1.0)
    shown = [np.array(values) for line in lines.values() for values in line[1:]]
    _scale(ax, [some[np.isfinite(some)] for some in shown], measure, result.criterion)
    ax.set_xticks(places, sizes)
    ax.set_xlabel("size of the model")
    ax.set_title(f"Each optimizer at its best rate: {_describe(measure, result.criterion)}")


def _at_best(valley: Valley, measure: str) -> tuple[float, float, float]:
    """Return mean, lowest and highest of a measure at the best rate; the band for the rate."""
    if valley.best is None:
        return math.nan, math.nan, math.nan
    if measure == RATE:
        return valley.best.learning_rate, *valley.best.band
    mean, low, high = (float(curve[valley.place_of_best]) for curve in valley.curve(measure))
    return mean, low, high
