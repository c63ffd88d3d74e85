"""Plot of a training run: the rate of each step, and the loss or another column with it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr._hints import count_of
from keras_lr.plotting.curves import (
    DARK_BLUE,
    FAINT,
    INK,
    ORANGE,
    Array,
    count_along,
    new_axes,
    new_figure,
    scale_rates,
    title_above,
)
from keras_lr.plotting.downsampling import as_stairs, downsample_extrema, find_jumps, moving_mean
from keras_lr.plotting.scales import are_wide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_MARKS = 24
"""Largest number of sudden changes of the rate that are marked; more would hide the curve."""


class StepRecord(Protocol):
    """The record to draw: arrays of equal length by name, one value per step."""

    @property
    def step(self) -> NDArray[np.integer]: ...
    @property
    def epoch(self) -> NDArray[np.integer]: ...
    @property
    def learning_rate(self) -> NDArray[np.floating]: ...

    def __len__(self) -> int: ...
    def __getitem__(self, name: str) -> NDArray[Any]: ...


def plot_history(history: StepRecord, ax: Axes | None = None, beside: str = "loss") -> Axes:
    """Draw the rate of a training run (left) and its loss or another column (right) over the steps.

    The loss of each batch is a thin line and its moving mean a thick one; any other column is one
    line. Triangles mark sudden rises and falls of the rate, unless there are very many. A long
    history is reduced to the lowest and the highest value of each of 1000 stretches, so that no
    spike is lost.

    Args:
        history: The record of a training run.
        ax: Axes to draw into; None makes a new figure.
        beside: Name of the column to draw on the right, if any of its values is finite.

    Returns:
        The axes of the rate. Those of the other column share its x axis.

    Raises:
        KeyError: If there is no column with the name ``beside``.
        TypeError: If ``beside`` is not a string.
        ValueError: If the history is empty.
    """
    if not len(history):
        raise ValueError("The history is empty: train with it in `callbacks` first.")
    if not isinstance(beside, str):
        raise TypeError(
            "Argument `beside` must be the name of one column, such as 'loss'. "
            f"Received: beside={beside!r}"
        )
    values = np.asarray(history[beside], float)
    ax = new_axes() if ax is None else ax
    step: NDArray[Any] = np.asarray(history.step)
    rate = np.asarray(history.learning_rate, float)
    again = len(step) > 1 and bool(np.any(np.diff(step) <= 0))
    if again:
        step = np.arange(len(step))
    ax.plot(*as_stairs(step, rate), color=DARK_BLUE, drawstyle="steps-post", label="learning rate")
    for marker, label, where in zip(
        "^v", ("sudden rise", "sudden fall"), find_jumps(rate), strict=True
    ):
        if 0 < len(where) <= MAX_MARKS:
            ax.plot(
                step[where],
                rate[where],
                marker,
                color=DARK_BLUE,
                markerfacecolor="white",
                markersize=6,
                label=label,
            )
    scale_rates(ax, [rate], "learning rate")
    count_along(ax.xaxis, step[-1] + 1, whole=True)
    ax.set_xlabel("steps, as recorded over several fits" if again else "steps")
    ax.set_xlim(step[0], step[-1] + 1)
    lines, labels = ax.get_legend_handles_labels()
    seen, lowest = "Learning rate", ax
    if np.isfinite(values).any():
        lowest = _axes_below(ax)
        if beside == "loss":
            _draw_loss(lowest, step, values)
        else:
            _draw(lowest, step, values, beside)
        more, names = lowest.get_legend_handles_labels()
        lines, labels, seen = lines + more, labels + names, f"Learning rate and {beside}"
    _draw_epochs(ax, lowest, step, np.asarray(history.epoch))
    # Only the space below the axes is free in every plot.
    ax.legend(
        lines,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=3 if len(lines) > 4 else len(lines),
        frameon=False,
    )
    ax.set_title(f"{seen} over {count_of(len(step), 'step')}")
    return ax


def plot_run(
    history: StepRecord,
    metrics: Mapping[str, ArrayLike],
    title: str | None = None,
    target: float | None = None,
) -> Figure:
    """Draw a history and, below it, metrics such as the accuracy of each epoch.

    Args:
        history: The record of a training run.
        metrics: By name, one value between 0 and 1 for each epoch of the history.
        title: Title of the picture.
        target: Value of the metrics to mark by a line.

    Returns:
        The figure.
    """
    figure = new_figure(8, 6.5)
    top, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    plot_history(history, top)
    top.set_xlabel("")
    title_above(top, title or "")
    top.tick_params(labelbottom=False)
    top.get_legend().set_bbox_to_anchor((0.5, -0.02))
    ends = np.append(np.flatnonzero(np.diff(history.epoch)), len(history) - 1)
    at = np.asarray(history.step)[ends]
    looks = (("s-", DARK_BLUE), ("o--", ORANGE), ("^:", "#009e73"))
    for (name, values), (style, color) in zip(metrics.items(), cycle(looks), strict=False):
        below.plot(at, np.asarray(values, float), style, color=color, markersize=3.5, label=name)
    if target is not None:
        below.axhline(target, color=INK, linewidth=0.8, linestyle=":")
        below.annotate(
            f"{target:.0%}",
            (0, target),
            (4, 2),
            color=INK,
            textcoords="offset points",
            xycoords=below.get_yaxis_transform(),
        )
    # Runs differ in the last few percent; the rise to them may be cut off.
    known = np.concatenate([np.asarray(values, float) for values in metrics.values()])
    low = max(np.nanmin(known), 1 - 6 * (1 - np.nanmedian(known)), 0) if known.size else 0
    below.set_ylim(min(low, target or low) - 0.01, 1.005)
    below.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
    below.set(xlabel="steps", ylabel="accuracy")
    below.grid(color=FAINT, linewidth=0.6)
    below.legend(loc="best", frameon=False)
    return figure


def _draw_epochs(ax: Axes, lowest: Axes, step: NDArray[Any], epoch: NDArray[Any]) -> None:
    """Mark the starts of epochs by lines behind everything else."""
    starts = np.append(0, np.flatnonzero(np.diff(epoch)) + 1)
    if len(starts) < 2:
        return
    every = next(n * 10**k for k in range(9) for n in (1, 2, 5) if len(starts) <= 16 * n * 10**k)
    starts = starts[epoch[starts] % every == 0]
    for at in step[starts]:
        lowest.axvline(at, color=FAINT, linewidth=0.7, zorder=0)
    above = ax.secondary_xaxis("top")
    above.set_xticks(step[starts], [str(number) for number in epoch[starts]])
    above.tick_params(length=2, labelsize="small", colors=INK)
    above.set_xlabel("epoch begins", fontsize="small", color=INK)


def _axes_below(ax: Axes) -> Axes:
    """Return axes for another column over the same steps, behind those of the rate."""
    twin: Axes = ax.twinx()
    # The rate belongs in front of the noise of the loss.
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)
    twin.patch.set_visible(True)
    return twin


def _draw(twin: Axes, step: NDArray[Any], values: Array, name: str) -> None:
    """Draw a column as one line."""
    at, shown = as_stairs(step, values)
    width = 2.2 if len(shown) > len(values) else 0.9  # a thick line would turn extremes to a block
    twin.plot(at, shown, color=ORANGE, linewidth=width, drawstyle="steps-post", label=name)
    twin.set_ylabel(name)


def _draw_loss(twin: Axes, step: NDArray[Any], loss: Array) -> None:
    """Draw the loss of each batch and its moving mean."""
    shown = downsample_extrema(loss)
    middle, smooth, width = moving_mean(loss)
    thick: dict[str, Any] = {"color": ORANGE, "linewidth": 2.2}
    if width > 1:
        thin_line: dict[str, Any] = {"color": ORANGE, "linewidth": 0.7, "alpha": 0.45}
        twin.plot(step[shown], loss[shown], label="loss of a batch", **thin_line)
        twin.plot(step[middle], smooth, label=f"loss, mean of {width:,} steps", **thick)
    else:
        twin.plot(step[shown], loss[shown], label="loss of a batch", **thick)
    # A line does not show a value without neighbours.
    lines = np.pad(np.isfinite(loss[shown]), 1)
    alone = shown[lines[1:-1] & ~lines[:-2] & ~lines[2:]]
    if alone.size:
        twin.plot(step[alone], loss[alone], "o", color=ORANGE, markersize=4, clip_on=False)
    missing = len(loss) - int(np.isfinite(loss).sum())
    known = smooth[np.isfinite(smooth)]
    seen = loss[shown][np.isfinite(loss[shown])]
    if are_wide(known):
        floor = max(seen[seen > 0].min(), known.min() / 10)
        twin.set_yscale("log", nonpositive="clip")
        twin.set_ylim(floor / 1.3, seen.max() * 1.3)
    elif seen.min() >= 0:
        twin.set_ylim(0, seen.max() * 1.05)
    twin.set_ylabel(f"loss (not finite at {count_of(missing, 'step')})" if missing else "loss")
