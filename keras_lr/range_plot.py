"""The picture of a range test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lr.plotting import BLUE, DARK_BLUE, INK, ORANGE, new_axes
from keras_lr.range_rules import Curve, NoSuggestion, smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_lr.range_result import RangeTestResult


def plot_range_test(result: RangeTestResult, ax: Axes | None = None) -> Axes:
    """Draw what a range test measured over a log axis of rates, and what it suggests.

    The thin line is the raw curve and the thick one the smoothed; the band spans the quartiles of
    repeated ramps. The dotted line, on the right axis, is the slope per decade of rate. Dots are
    the final losses of the short runs at constant rates.

    Returns:
        The axes of the monitored value.
    """
    ax = new_axes() if ax is None else ax
    finite = np.isfinite(result.values)
    rates, values = result.rates[finite], result.values[finite]
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel(result.monitor)
    if len(rates) < 2:
        ax.set_title("Learning-rate range test: nothing to draw")
        return ax
    if not np.array_equal(result.lower, result.upper):
        band = (result.lower[finite], result.upper[finite])
        ax.fill_between(rates, *band, color=BLUE, alpha=0.18, label="quartiles of the repeats")
    smoothed = _smoothed(result, rates, values)
    ax.plot(rates, values, color=BLUE, alpha=0.45, linewidth=0.9, label="each batch")
    ax.plot(rates, smoothed, color=DARK_BLUE, linewidth=2.2, label="smoothed")
    _draw_holds(ax, result)
    _limit(ax, smoothed, up=result.up)
    _draw_slope(ax, rates, smoothed)
    _draw_suggestion(ax, result)
    ax.legend(loc="lower left", fontsize=8, framealpha=0.9)
    return ax


def _smoothed(result: RangeTestResult, rates: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the curve as the rules see it, in which an explosion moves no mean."""
    try:
        curve = Curve.read(rates, -values if result.up else values)
    except NoSuggestion:
        return smooth(rates, values)
    return -curve.smoothed if result.up else curve.smoothed


def _draw_holds(ax: Axes, result: RangeTestResult) -> None:
    if result.found is None:
        return
    ends = {
        rate: float(np.mean(losses[-max(2, len(losses) // 4) :]))
        for rate, losses in result.found.holds.items()
        if len(losses) and np.isfinite(losses[-1])
    }
    label = "end of a short run at one rate"
    ax.plot(list(ends), list(ends.values()), "o", color=ORANGE, markeredgecolor=INK, label=label)


def _limit(ax: Axes, smoothed: np.ndarray, up: bool) -> None:
    """Leave a divergence outside of the picture."""
    low, high = float(smoothed.min()), float(smoothed.max())
    start = float(smoothed[0])
    room = 0.12 * max(abs(start - (high if up else low)), 1e-12)
    if up:
        ax.set_ylim(min(start, low) - room, high + room)
    else:
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
        low = min(low, float(drawn.min()))
        ax.set_ylim(low - room, min(high, start + 3 * room) + room)


def _draw_slope(ax: Axes, rates: np.ndarray, smoothed: np.ndarray) -> None:
    slope = np.gradient(smoothed, np.log10(rates))
    twin: Any = ax.twinx()
    twin.plot(rates, slope, color=INK, linestyle=":", linewidth=1.1)
    inside = (smoothed >= ax.get_ylim()[0]) & (smoothed <= ax.get_ylim()[1])
    reach = 1.15 * max(float(np.abs(slope[inside]).max(initial=0.0)), 1e-12)
    twin.set_ylim(-reach, reach)
    twin.set_ylabel("slope per decade (dotted)", color=INK)
    twin.tick_params(axis="y", colors=INK)


def _draw_suggestion(ax: Axes, result: RangeTestResult) -> None:
    ended = "" if result.ended == "complete" else f" (ended early: {result.ended})"
    try:
        suggestion, (base, top) = result.suggestion, result.bounds
    except NoSuggestion:
        ax.set_title(f"Learning-rate range test: no suggestion{ended}")
        return
    ax.axvspan(base, top, color=ORANGE, alpha=0.14, label=f"bounds {base:.1e} to {top:.1e}")
    ax.axvline(suggestion, color=INK, linestyle="--", label=f"suggestion {suggestion:.1e}")
    ax.set_title(f"Learning-rate range test{ended}")
