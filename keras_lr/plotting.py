"""Pictures of rates: curves before training, histories after it.

Every function draws on the axes it is given and leaves pyplot's current figure alone; without axes
it opens a figure of its own.
"""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from os import PathLike
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from keras_lr import legend
from keras_lr.thinning import held, jumps, moving_mean, thin

__all__ = [
    *("close", "gallery", "plot_curves", "plot_history", "plot_panels", "plot_run", "sparkline")
]

Array = NDArray[np.float64]

BLUE, DARK_BLUE, ORANGE = "#0072b2", "#00497a", "#f08a3c"
INK, FAINT = "#555555", "#dddddd"
COLORS = (BLUE, "#d55e00", "#009e73", "#000000", "#cc79a7", "#e69f00", "#56b4e9")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)), (0, (9, 3)))

DECADES = 2.0
MOST_MARKS = 24


class Record(Protocol):
    """What a history must offer to be drawn: four arrays with one value a step."""

    @property
    def step(self) -> NDArray[Any]: ...
    @property
    def epoch(self) -> NDArray[Any]: ...
    @property
    def learning_rate(self) -> NDArray[Any]: ...
    @property
    def loss(self) -> NDArray[Any]: ...
    def __len__(self) -> int: ...


def plot_curves(
    curves: Mapping[str, ArrayLike],
    steps_per_epoch: float,
    ax: Axes | None = None,
    title: str | None = None,
    ylabel: str = "learning rate",
    names: Sequence[str] = (),
) -> Axes:
    """Draw one or several curves, one value a step, over epochs (below) and steps (above).

    The rate's axis is logarithmic when a tenth of a curve lies more than two decades below the
    highest rate; a zero then leaves the picture at its lower edge.

    Args:
        curves: What to draw, by name.
        steps_per_epoch: Steps that make one epoch.
        ax: Where to draw; a new figure when `None`.
        title: What the picture shows; made from the names when `None`.
        ylabel: What the values are.
        names: Names of which each keeps its look in every picture that is given them.

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
    _scale(ax, list(values.values()), ylabel)
    ticks = _room(ax)
    _count(ax.xaxis, epochs, ticks)
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epochs")
    ax.grid(color=FAINT, linewidth=0.6)
    if steps_per_epoch != 1:
        there, back = (
            partial(np.multiply, steps_per_epoch),
            partial(np.multiply, 1 / steps_per_epoch),
        )
        above = ax.secondary_xaxis("top", functions=(there, back))
        _count(above.xaxis, epochs * steps_per_epoch, ticks, whole=True)
        above.set_xlabel("steps")
    if len(values) > 1:
        _name(ax, list(values))
    if title is None:
        what = next(iter(values)) if len(values) == 1 else f"{len(values)} schedules"
        title = f"{what}: {ylabel} over {epochs:.4g} {'epoch' if epochs == 1 else 'epochs'}"
    _title(ax, title)
    return ax


def plot_panels(
    panels: Mapping[str, tuple[Mapping[str, ArrayLike], str | None]], steps_per_epoch: float
) -> Figure:
    """Draw curves of several kinds, each kind in a panel below the one before.

    Args:
        panels: The curves by name and the title, as `plot_curves` takes them, by what they are.
        steps_per_epoch: Steps that make one epoch.

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
    """Name the curves."""
    columns = legend.columns(names)
    place: dict[str, Any] = {}
    if columns:
        under = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 0.0}
        place |= {"bbox_transform": ax.transAxes + under, "ncols": columns, "fontsize": "small"}
    ax.legend(frameon=False, handlelength=4, **place)


def _title(ax: Axes, text: str) -> None:
    """Set a title, however long it is."""
    ax.set_title(textwrap.fill(text, 90), fontsize="medium" if len(text) > 60 else None)


def plot_history(history: Record, ax: Axes | None = None) -> Axes:
    """Draw what a training used and reached: rate (left) and loss (right) over steps.

    The loss of each batch is thin and its moving mean thick. Sudden rises and falls of the rate
    carry a triangle unless there are very many. Long histories are thinned to the lowest and the
    highest value of each of 1000 stretches, so that no spike is lost.

    Args:
        history: A record of a training, such as `LRHistory`.
        ax: Where to draw; a new figure when `None`.

    Returns:
        The axes of the rate; those of the loss share its x axis.

    Raises:
        ValueError: If the history is empty.
    """
    if not len(history):
        raise ValueError("The history is empty: train with it in `callbacks` first.")
    ax = new_axes() if ax is None else ax
    step, rate = np.asarray(history.step), np.asarray(history.learning_rate, float)
    loss = np.asarray(history.loss, float)
    again = len(step) > 1 and bool(np.any(np.diff(step) <= 0))
    if again:
        step = np.arange(len(step))
    ax.plot(*held(step, rate), color=DARK_BLUE, drawstyle="steps-post", label="learning rate")
    for marker, label, where in zip("^v", ("sudden rise", "sudden fall"), jumps(rate), strict=True):
        if 0 < len(where) <= MOST_MARKS:
            ax.plot(
                step[where],
                rate[where],
                marker,
                color=DARK_BLUE,
                markerfacecolor="white",
                markersize=6,
                label=label,
            )
    _scale(ax, [rate], "learning rate")
    _count(ax.xaxis, step[-1] + 1, whole=True)
    ax.set_xlabel("steps, as recorded over several fits" if again else "steps")
    ax.set_xlim(step[0], step[-1] + 1)
    lines, labels = ax.get_legend_handles_labels()
    seen, lowest = "Learning rate", ax
    if np.isfinite(loss).any():
        lowest = _draw_loss(ax, step, loss)
        more, names = lowest.get_legend_handles_labels()
        lines, labels, seen = lines + more, labels + names, "Learning rate and loss"
    _draw_epochs(ax, lowest, step, np.asarray(history.epoch))
    # Beside the curves no place is free in every picture; under the axes there is.
    ax.legend(
        lines,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=3 if len(lines) > 4 else len(lines),
        frameon=False,
    )
    ax.set_title(f"{seen} over {len(step):,} {'step' if len(step) == 1 else 'steps'}")
    return ax


def plot_run(
    history: Record,
    metrics: Mapping[str, ArrayLike],
    title: str | None = None,
    target: float | None = None,
) -> Figure:
    """Draw a history and, below it on the same steps, shares such as the accuracy of each epoch.

    Args:
        history: A record of a training, such as `LRHistory`.
        metrics: By name, one value between 0 and 1 for each epoch of the history.
        title: What was trained.
        target: A value of the metrics to mark by a line.

    Returns:
        The figure.
    """
    figure: Figure
    figure, (top, below) = plt.subplots(
        2, sharex=True, figsize=(8, 6.5), layout="constrained", height_ratios=(3, 2)
    )
    plot_history(history, top)
    top.set_xlabel("")
    _title(top, title or "")
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
    # The last percent are what tells runs apart; the climb to them may leave the picture.
    known = np.concatenate([np.asarray(values, float) for values in metrics.values()])
    low = max(np.nanmin(known), 1 - 6 * (1 - np.nanmedian(known)), 0) if known.size else 0
    below.set_ylim(min(low, target or low) - 0.01, 1.005)
    below.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
    below.set(xlabel="steps", ylabel="accuracy")
    below.grid(color=FAINT, linewidth=0.6)
    below.legend(loc="best", frameon=False)
    return figure


def gallery(schedules: Mapping[str, ArrayLike], steps_per_epoch: float, columns: int = 4) -> Figure:
    """Draw many curves, each small in a panel of its own with its name above.

    Args:
        schedules: One value a step, by name.
        steps_per_epoch: Steps that make one epoch.
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
        _scale(ax, [curve], "")
        if ax.get_yscale() == "linear":
            ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        _count(ax.xaxis, len(curve) / steps_per_epoch, 5)
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
    """Draw the bare shape of a curve, for a table.

    Args:
        curve: The rates, one value a step.
        width: Width in inches.
        height: Height in inches.

    Returns:
        The figure.
    """
    values = np.asarray(curve, float)
    figure, ax = plt.subplots(figsize=(width, height))
    ax.plot(*held(np.arange(len(values)), values), color=BLUE, linewidth=1.6)
    ax.set_ylim(bottom=-0.06 * values.max(), top=1.08 * values.max())
    ax.set_axis_off()
    figure.tight_layout(pad=0.1)
    return figure


def close(figure: Any, path: str | PathLike[str] | None = None) -> None:
    """Forget a figure, and before that write it to `path` if one is given."""
    if path is not None:
        figure.savefig(path, dpi=130)
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


def new_axes(width: float = legend.WIDTH, height: float = 4.5) -> Axes:
    """Return the axes of a new figure."""
    return plt.figure(figsize=(width, height), layout="constrained").add_subplot()


def _draw_rate(ax: Axes, curve: Array, steps_per_epoch: float, **look: Any) -> None:
    step, values = held(np.arange(len(curve)), curve)
    look.setdefault("linewidth", 1.8)
    ax.plot(step / steps_per_epoch, values, drawstyle="steps-post", **look)


def _scale(ax: Axes, curves: Sequence[Array], ylabel: str) -> None:
    """Choose a linear or a logarithmic y axis for these rates, and its limits."""
    known = [some[np.isfinite(some)] for some in (curve[thin(curve)] for curve in curves)]
    known = [some for some in known if some.size]
    low = min((some.min() for some in known), default=0.0)
    top = max((some.max() for some in known), default=1.0)
    positive = [some[some > 0] for some in known if some.max() > 0]
    if any(np.mean(some < top / 10**DECADES) >= 0.1 for some in positive):
        # A decay to zero passes through every decade in its last steps; they are not the picture.
        least = min(max(some.min(), np.quantile(some, 0.05) / 10) for some in positive)
        ax.set_yscale("log", nonpositive="clip")
        ax.set_ylim(least / (4 if low <= 0 else 1.6), top * 1.6)
        ylabel += " (0 lies below)" if ylabel and low <= 0 else ""
    else:
        ax.yaxis.set_major_formatter(_plain if top >= 1e-3 else _scientific)
        if 0 <= low < top / 2 or 0 < low == top:
            ax.set_ylim(0, top * 1.08)
    ax.set_ylabel(ylabel)


def _plain(value: float, _: float | None = None) -> str:
    return f"{value:.6g}"


def _scientific(value: float, _: float | None = None) -> str:
    """Write 6e-05 as 6e-5: the shorter form fits beside a small panel."""
    return f"{value:.4g}".replace("e-0", "e-")


def _count(axis: Axis, end: float, ticks: int = 9, whole: bool = False) -> None:
    """Tick an axis at whole numbers: always those of steps, of epochs where there are enough."""
    whole = whole or end >= 4
    axis.set_major_locator(MaxNLocator(ticks, integer=whole, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if whole else "{x:,.6g}"))


def _room(ax: Axes) -> int:
    """Return how many labels of an x axis have room: fewer on narrow axes."""
    width = ax.get_window_extent().width / ax.figure.dpi
    return 9 if width >= 5.0 else max(2, int(width / 0.8))


def _draw_epochs(ax: Axes, lowest: Axes, step: NDArray[Any], epoch: NDArray[Any]) -> None:
    """Mark where epochs begin, by lines behind what the ``lowest`` of the axes shows."""
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


def _draw_loss(ax: Axes, step: NDArray[Any], loss: Array) -> Axes:
    """Draw the loss on axes of its own, below those of the rate, and return them."""
    twin: Axes = ax.twinx()
    # The rate, drawn first, belongs above the noise of the loss.
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)
    twin.patch.set_visible(True)
    shown = thin(loss)
    middle, smooth, width = moving_mean(loss)
    thick: dict[str, Any] = {"color": ORANGE, "linewidth": 2.2}
    if width > 1:
        thin_line: dict[str, Any] = {"color": ORANGE, "linewidth": 0.7, "alpha": 0.45}
        twin.plot(step[shown], loss[shown], label="loss of a batch", **thin_line)
        twin.plot(step[middle], smooth, label=f"loss, mean of {width:,} steps", **thick)
    else:
        twin.plot(step[shown], loss[shown], label="loss of a batch", **thick)
    # A line shows no value that has none beside it.
    lines = np.pad(np.isfinite(loss[shown]), 1)
    alone = shown[lines[1:-1] & ~lines[:-2] & ~lines[2:]]
    if alone.size:
        twin.plot(step[alone], loss[alone], "o", color=ORANGE, markersize=4, clip_on=False)
    known = smooth[np.isfinite(smooth)]
    seen = loss[shown][np.isfinite(loss[shown])]
    if known.min() > 0 and known.max() > 10 * known.min():
        floor = max(seen[seen > 0].min(), known.min() / 10)
        twin.set_yscale("log", nonpositive="clip")
        twin.set_ylim(floor / 1.3, seen.max() * 1.3)
    elif seen.min() >= 0:
        twin.set_ylim(0, seen.max() * 1.05)
    twin.set_ylabel("loss")
    return twin
