"""Plots of rates before any training, and functions that all plots of this package share.

Every function draws on the axes it is given and does not change pyplot's current figure; without
axes it opens a new figure.
"""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, StrMethodFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from keras_lr._files import AnyPath, atomic_write, path_text
from keras_lr._hints import count_of
from keras_lr.plotting import legend
from keras_lr.plotting.downsampling import as_stairs
from keras_lr.plotting.scales import ValueRange

__all__ = ["close", "gallery", "plot_curves", "plot_panels", "sparkline"]

Array = NDArray[np.float64]

BLUE, DARK_BLUE, ORANGE = "#0072b2", "#00497a", "#f08a3c"
INK, FAINT = "#555555", "#dddddd"
COLORS = (BLUE, "#d55e00", "#009e73", "#000000", "#cc79a7", "#e69f00", "#56b4e9")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)), (0, (9, 3)))


def plot_curves(
    curves: Mapping[str, ArrayLike],
    steps_per_epoch: float,
    ax: Axes | None = None,
    title: str | None = None,
    ylabel: str = "learning rate",
    names: Sequence[str] = (),
) -> Axes:
    """Draw one or several curves, one value per step, over epochs (below) and steps (above).

    The axis of the rate is logarithmic if a tenth of a curve is more than two decades below the
    highest rate; a zero is then cut off at the lower edge.

    Args:
        curves: The curves by name.
        steps_per_epoch: Steps in one epoch.
        ax: Axes to draw into; a new figure if `None`.
        title: Title of the plot; made from the names if `None`.
        ylabel: Label of the values.
        names: Names whose curves look the same in every plot that gets the same ``names``.

    Returns:
        The axes.

    Raises:
        ValueError: If there is nothing to draw, or `steps_per_epoch` is not positive.
    """
    values = _checked(curves, steps_per_epoch)
    ax = new_axes(height=4.5 + legend.height(values)) if ax is None else ax
    epochs = max(map(len, values.values())) / steps_per_epoch
    order = dict.fromkeys([*names, *values])
    looks = dict(zip(order, zip(cycle(COLORS), cycle(STYLES), strict=False), strict=False))
    for name, curve in values.items():
        color, style = looks[name]
        _draw_rate(ax, curve, steps_per_epoch, color=color, linestyle=style, label=name)
    scale_rates(ax, list(values.values()), ylabel)
    ticks = _room(ax)
    count_along(ax.xaxis, epochs, ticks)
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epochs")
    ax.grid(color=FAINT, linewidth=0.6)
    if steps_per_epoch != 1:
        there, back = (
            partial(np.multiply, steps_per_epoch),
            partial(np.multiply, 1 / steps_per_epoch),
        )
        above = ax.secondary_xaxis("top", functions=(there, back))
        count_along(above.xaxis, epochs * steps_per_epoch, ticks, whole=True)
        above.set_xlabel("steps")
    if len(values) > 1:
        _name(ax, list(values))
    if title is None:
        what = next(iter(values)) if len(values) == 1 else f"{len(values)} schedules"
        title = f"{what}: {ylabel} over {count_of(epochs, 'epoch', '.4g')}"
    title_above(ax, title)
    return ax


def plot_panels(
    panels: Mapping[str, tuple[Mapping[str, ArrayLike], str | None]], steps_per_epoch: float
) -> Figure:
    """Draw curves of several kinds, each kind in its own panel, one below the other.

    Args:
        panels: The curves by name and the title, as for `plot_curves`, by the label of their kind.
        steps_per_epoch: Steps in one epoch.

    Returns:
        The figure.
    """
    below = sum(legend.height(curves) for curves, _ in panels.values())
    height = max(4.5, 4.0 * len(panels)) + below
    figure = plt.figure(figsize=(legend.WIDTH, height), layout="constrained")
    names = [name for curves, _ in panels.values() for name in curves]
    for number, (what, (curves, title)) in enumerate(panels.items(), 1):
        ax = figure.add_subplot(len(panels), 1, number)
        plot_curves(curves, steps_per_epoch, ax, title, ylabel=what, names=names)
    return figure


def _name(ax: Axes, names: Sequence[str]) -> None:
    """Add a legend with the names of the curves."""
    columns = legend.columns(names)
    place: dict[str, Any] = {}
    if columns:
        under = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 0.0}
        place |= {"bbox_transform": ax.transAxes + under, "ncols": columns, "fontsize": "small"}
    ax.legend(frameon=False, handlelength=4, **place)


def title_above(ax: Axes, text: str) -> None:
    """Set a title, wrapped if it is long."""
    ax.set_title(textwrap.fill(text, 90), fontsize="medium" if len(text) > 60 else None)


def gallery(schedules: Mapping[str, ArrayLike], steps_per_epoch: float, columns: int = 4) -> Figure:
    """Draw many small curves, each in its own panel with its name above.

    Args:
        schedules: The curves by name, one value per step.
        steps_per_epoch: Steps in one epoch.
        columns: Panels in a row.

    Returns:
        The figure.

    Raises:
        ValueError: If there is nothing to draw, or `steps_per_epoch` or `columns` is not positive.
    """
    values = _checked(schedules, steps_per_epoch)
    if columns < 1:
        raise ValueError(f"Argument `columns` must be positive. Received: columns={columns}")
    columns = min(columns, len(values))
    rows = -(-len(values) // columns)
    figure: Figure
    figure, panels = plt.subplots(
        rows, columns, squeeze=False, figsize=(2.9 * columns, 2.1 * rows), layout="constrained"
    )
    for ax, (name, curve) in zip(panels.flat, values.items(), strict=False):
        _draw_rate(ax, curve, steps_per_epoch, color=BLUE)
        scale_rates(ax, [curve], "")
        if ax.get_yscale() == "linear":
            ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        count_along(ax.xaxis, len(curve) / steps_per_epoch, 5)
        ax.set_xlim(0, len(curve) / steps_per_epoch)
        ax.tick_params(labelsize=8)
        ax.grid(color=FAINT, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(textwrap.fill(name, 28), fontsize=10)
    for ax in panels.flat[len(values) :]:
        ax.set_visible(False)
    figure.supxlabel("epochs", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    return figure


def sparkline(curve: ArrayLike, width: float = 1.6, height: float = 0.5) -> Figure:
    """Draw the shape of a curve without axes, for a table.

    Args:
        curve: The rates, one value per step.
        width: Width in inches.
        height: Height in inches.

    Returns:
        The figure.
    """
    values = np.asarray(curve, float)
    figure, ax = plt.subplots(figsize=(width, height))
    ax.plot(*as_stairs(np.arange(len(values)), values), color=BLUE, linewidth=1.6)
    ax.set_ylim(bottom=-0.06 * values.max(), top=1.08 * values.max())
    ax.set_axis_off()
    figure.tight_layout(pad=0.1)
    return figure


def close(figure: Any, path: AnyPath | None = None) -> None:
    """Close a figure, after writing it to `path` if one is given.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If matplotlib writes no file of that ending.
    """
    try:
        if path is not None:
            kind = Path(path_text(path)).suffix.removeprefix(".").lower()
            with atomic_write(path, "wb") as file:
                figure.savefig(file, dpi=130, format=kind or None)
    finally:
        plt.close(figure)


def _checked(curves: Mapping[str, ArrayLike], steps_per_epoch: float) -> dict[str, Array]:
    if not steps_per_epoch > 0:
        raise ValueError(
            "Argument `steps_per_epoch` must be positive. "
            f"Received: steps_per_epoch={steps_per_epoch}"
        )
    values = {name: np.asarray(curve, float) for name, curve in curves.items()}
    if not values:
        raise ValueError("There must be at least one curve to draw. Received: none")
    for name, curve in values.items():
        if curve.ndim != 1 or not curve.size:
            raise ValueError(
                f"Each curve must be an array with one value a step. Received: {name!r} "
                f"with shape {curve.shape}"
            )
    return values


def new_figure(width: float, height: float) -> Figure:
    """Return a new figure with a size in inches."""
    return plt.figure(figsize=(width, height), layout="constrained")


def new_axes(width: float = legend.WIDTH, height: float = 4.5) -> Axes:
    """Return the axes of a new figure."""
    return new_figure(width, height).add_subplot()


def _draw_rate(ax: Axes, curve: Array, steps_per_epoch: float, **look: Any) -> None:
    step, values = as_stairs(np.arange(len(curve)), curve)
    look.setdefault("linewidth", 1.8)
    ax.plot(step / steps_per_epoch, values, drawstyle="steps-post", **look)


def scale_rates(ax: Axes, curves: Sequence[Array], ylabel: str) -> None:
    """Choose a linear or a logarithmic y axis for some rates, and set its limits."""
    span = ValueRange.of(curves)
    low, high = span.low, span.high
    if span.log_floor is not None:
        ax.set_yscale("log", nonpositive="clip")
        ax.set_ylim(span.log_floor / (4 if low <= 0 else 1.6), high * 1.6)
        ylabel += " (0 lies below)" if ylabel and low <= 0 else ""
    else:
        ax.yaxis.set_major_formatter(_plain if high >= 1e-3 else _scientific)
        if 0 <= low < high / 2 or 0 < low == high:
            ax.set_ylim(0, high * 1.08)
    ax.set_ylabel(ylabel)


def _plain(value: float, _: float | None = None) -> str:
    return f"{value:.6g}"


def _scientific(value: float, _: float | None = None) -> str:
    """Write 6e-05 as 6e-5, which fits next to a small panel."""
    return f"{value:.4g}".replace("e-0", "e-")


def count_along(axis: Axis, end: float, ticks: int = 9, whole: bool = False) -> None:
    """Tick an axis at whole numbers if ``whole`` is set or there are enough of them."""
    whole = whole or end >= 4
    axis.set_major_locator(MaxNLocator(ticks, integer=whole, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if whole else "{x:,.6g}"))


class _PlainLogFormatter(LogFormatter):
    """Formatter that writes plain numbers where matplotlib labels a log axis."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return _scientific(value) if super().__call__(value, position) else ""


def label_plainly(axis: Axis) -> None:
    """Write plain numbers on a logarithmic axis: 60 and 0.02, not 6 times a power."""
    axis.set_major_formatter(_PlainLogFormatter())
    axis.set_minor_formatter(_PlainLogFormatter(labelOnlyBase=False))


def _room(ax: Axes) -> int:
    """Return how many labels fit below an x axis."""
    width = ax.get_window_extent().width / ax.figure.dpi
    return 9 if width >= 5.0 else max(2, int(width / 0.8))
