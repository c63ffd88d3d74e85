"""Plot of a range test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_lr.plotting.curves import BLUE, DARK_BLUE, INK, ORANGE, label_plainly, new_axes
from keras_lr.plotting.scales import are_wide
from keras_lr.range_test.curve import NoSuggestion, smooth_as_rules_do, visible_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


class ConstantRuns(Protocol):
    """Losses of short runs at constant rates."""

    @property
    def holds(self) -> Mapping[float, Array]:
        """Losses of each run, by rate."""


class PlottedRangeTest(Protocol):
    """The part of a range test's result that the plot shows; see `RangeTestResult`."""

    @property
    def rates(self) -> Array: ...
    @property
    def values(self) -> Array: ...
    @property
    def lower(self) -> Array: ...
    @property
    def upper(self) -> Array: ...
    @property
    def monitor(self) -> str: ...
    @property
    def ended(self) -> str: ...
    @property
    def up(self) -> bool: ...
    @property
    def found(self) -> ConstantRuns | None: ...
    @property
    def suggestion(self) -> float: ...
    @property
    def bounds(self) -> tuple[float, float]: ...


def plot_range_test(result: PlottedRangeTest, ax: Axes | None = None) -> Axes:
    """Draw what a range test measured over a log axis of rates, and what it suggests.

    The thin line is the raw curve and the thick line the smoothed one. The band spans the quartiles
    of repeated ramps. The dotted line, on the right axis, is the slope per decade of rate. Where
    the test also trained at constant rates, a strip below shows the final losses.

    Returns:
        The axes of the monitored value.
    """
    ax = new_axes(height=5.2 if result.found else 4.5) if ax is None else ax
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
    smoothed = smooth_as_rules_do(rates, values, result.up)
    each = "each validation" if result.monitor.startswith("val_") else "each batch"
    ax.plot(rates, values, color=BLUE, alpha=0.45, linewidth=0.9, label=each)
    ax.plot(rates, smoothed, color=DARK_BLUE, linewidth=2.2, label="smoothed")
    ax.set_ylim(*visible_limits(values, smoothed, result.up))
    below = _draw_holds(ax, result)
    _draw_slope(ax, rates, -smoothed if result.up else smoothed, result.up)
    _draw_suggestion(ax, result, [ax, *below])
    ax.legend(loc="upper left" if result.up else "lower left", fontsize=8, framealpha=0.9)
    return ax


def _draw_holds(ax: Axes, result: PlottedRangeTest) -> list[Axes]:
    """Draw the final losses of the runs at constant rates in a strip below the ramp."""
    if result.found is None:
        return []
    ends = {
        rate: float(np.mean(losses[-max(2, len(losses) // 4) :]))
        for rate, losses in sorted(result.found.holds.items())
        if len(losses) and np.isfinite(losses[-1])
    }
    place = ax.get_subplotspec()
    if not ends or place is None:
        return []
    grid = place.subgridspec(2, 1, height_ratios=(5, 2), hspace=0.04)
    ax.set_subplotspec(grid[0])
    below = ax.figure.add_subplot(grid[1], sharex=ax)
    ax.tick_params(labelbottom=False)
    ax.set_xlabel("")
    look: dict[str, Any] = {"color": ORANGE, "markerfacecolor": ORANGE, "markeredgecolor": INK}
    below.plot(list(ends), list(ends.values()), "o-", linewidth=1.0, **look)
    below.margins(y=0.25)
    if are_wide(np.array([*ends.values()])):
        below.set_yscale("log")
        label_plainly(below.yaxis)
    else:
        below.ticklabel_format(axis="y", useOffset=False)
    steps = max(map(len, result.found.holds.values()))
    below.set_ylabel(f"loss after\n{steps} steps\nat one rate")
    below.set_xlabel("learning rate")
    return [below]


def _draw_slope(ax: Axes, rates: Array, falling: Array, up: bool) -> None:
    """Draw the slope, scaled to the part where the curve improves; later values may be cut off."""
    slope = np.gradient(falling, np.log10(rates))
    before = slope[: max(2, int(np.argmin(falling)) + 1)]
    reach = 1.6 * max(float(np.abs(before).max()), 1e-12)
    twin: Any = ax.twinx()
    # The legend belongs in front of this line.
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)
    twin.plot(rates, -slope if up else slope, color=INK, linestyle=":", linewidth=1.1)
    twin.set_ylim(-reach, reach)
    twin.set_ylabel("slope per decade (dotted)", color=INK)
    twin.tick_params(axis="y", colors=INK)


def _draw_suggestion(ax: Axes, result: PlottedRangeTest, every: list[Axes]) -> None:
    """Draw the suggestion and the bounds, and say in the title how the ramp ended."""
    ended = {"diverged": ", up to where it diverged", "complete": ""}.get(
        result.ended, f", ended early: {result.ended}"
    )
    try:
        suggestion, (base, top) = result.suggestion, result.bounds
    except NoSuggestion:
        ax.set_title(f"Learning-rate range test: no suggestion{ended}")
        return
    for part in every:
        part.axvspan(base, top, color=ORANGE, alpha=0.14, label=f"bounds {base:.2g} to {top:.2g}")
        part.axvline(suggestion, color=INK, linestyle="--", label=f"suggestion {suggestion:.2g}")
    ax.set_title(f"Learning-rate range test{ended}")
