"""Plot of a population, which is also legible in black and white."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lr._keras.rates.hyperparameters import BELOW_ONE, range_of
from keras_lr.plotting.curves import BLUE, FAINT, INK, count_along, new_figure
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.search.population.results.rows import MemberRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_lr.search.population.results.result import PopulationResult

MARKERS = "os^Dv*PXhd"
"""Markers that distinguish the members."""

HIGHEST = 50.0
"""Upper end of the axis, as a multiple of the lowest score: higher scores say little."""

LEGEND_ROWS = 14


def plot_population(result: PopulationResult, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw the hyperparameters and the scores of all members over the epochs.

    Returns:
        The axes.

    Raises:
        ValueError: If nothing was trained, or the number of axes is wrong.
    """
    if not result.rows:
        raise ValueError("PopulationResult.plot: nothing was trained, so there is nothing to draw.")
    count = len(result.names) + 1
    axes = _new_axes(count) if axes is None else list(axes)
    if len(axes) != count:
        raise ValueError(
            f"PopulationResult.plot: argument `axes` must be {count} axes, one for each "
            f"hyperparameter and one for the score. Received: {len(axes)}"
        )
    picture = PopulationPicture(result)
    for ax, name in zip(axes, result.names, strict=False):
        picture.draw_values(ax, name)
    picture.draw_scores(axes[-1])
    for ax in axes:
        count_along(ax.xaxis, max(row.epoch for row in result.rows))
        ax.grid(color=FAINT, linewidth=0.6)
    axes[-1].set_xlabel("epochs")
    axes[0].set_title(
        "Thick: the winner's line. Hollow: a copy, dotted from the member it copied.",
        fontsize="medium",
    )
    columns = -(-result.rule.population // LEGEND_ROWS)
    axes[0].legend(
        fontsize=8, frameon=False, ncols=columns, loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )
    return axes


def _new_axes(count: int) -> list[Axes]:
    """Return axes of a new figure, one below the other."""
    figure = new_figure(8.0, 1.0 + 3.0 * count)
    first = figure.add_subplot(count, 1, 1)
    return [first, *(figure.add_subplot(count, 1, n, sharex=first) for n in range(2, count + 1))]


class PopulationPicture:
    """Draws each row of a population as a piece of a line that begins at the state it came from."""

    def __init__(self, result: PopulationResult) -> None:
        """Find out which rows led to the winner."""
        self.result = result
        self._rows = {(row.round, row.member): row for row in result.rows}
        try:
            self._winners = {(row.round, row.member) for row in result.lineage}
        except NoSuggestion:
            self._winners = set()

    def draw_values(self, ax: Axes, name: str) -> None:
        """Draw a hyperparameter: level in a round, with a jump where a copy begins."""
        for row in self.result.rows:
            value, start = row.values[name], (row.round - 1) * self.result.every
            ax.plot([start, row.epoch], [value] * 2, solid_capstyle="butt", **self._line(row))
            label = f"member {row.member}" if row.round == 1 else "_"
            ax.plot([(start + row.epoch) / 2], [value], label=label, **self._marker(row))
            before = self._before(row)
            if before is not None and row.copied_from is not None:
                style = self._line(row) | {"linestyle": ":"}
                ax.plot([start] * 2, [before.values[name], value], **style)
            if row.is_lost:
                ax.plot([row.epoch], [value], "x", color=INK, markersize=9, zorder=4)
        if range_of(name) != BELOW_ONE:
            ax.set_yscale("log")
        ax.set_ylabel(name.replace("_", " "))

    def draw_scores(self, ax: Axes) -> None:
        """Draw the score at the end of each round, after that of the state it began from."""
        for row in self.result.rows:
            if row.is_lost:
                place = ax.get_xaxis_transform()
                ax.plot([row.epoch], [0.97], "x", color=INK, markersize=9, transform=place)
                continue
            before = self._before(row)
            if before is not None:
                style = "-" if row.copied_from is None else ":"
                ends = [before.epoch, row.epoch], [before.score, row.score]
                ax.plot(*ends, **self._line(row) | {"linestyle": style})
            ax.plot([row.epoch], [row.score], **self._marker(row))
        self._scale_scores(ax)
        ax.set_ylabel(self.result.criterion.monitor)

    def _scale_scores(self, ax: Axes) -> None:
        """Choose a linear or a log axis, so that the best scores show."""
        scores = np.array([row.score for row in self.result.rows if not row.is_lost])
        if self.result.criterion.up or not scores.size:
            return
        low, high = float(scores.min()), float(scores.max())
        if low > 0 and high > 5 * low:
            ax.set_yscale("log")
            ax.set_ylim(low / 1.3, min(high, HIGHEST * low) * 1.3)

    def _before(self, row: MemberRow) -> MemberRow | None:
        """Return the row whose state a row began from."""
        return self._rows.get((row.round - 1, row.source))

    def _is_winner(self, row: MemberRow) -> bool:
        return (row.round, row.member) in self._winners

    def _line(self, row: MemberRow) -> dict[str, Any]:
        if self._is_winner(row):
            return {"color": BLUE, "linewidth": 2.6, "zorder": 3}
        return {"color": INK, "linewidth": 1.0, "zorder": 2}

    def _marker(self, row: MemberRow) -> dict[str, Any]:
        color = BLUE if self._is_winner(row) else INK
        fill = color if row.copied_from is None else "white"
        return {
            "marker": MARKERS[row.member % len(MARKERS)],
            "color": color,
            "markerfacecolor": fill,
            "linestyle": "",
            "markersize": 6,
            "zorder": 4,
        }
