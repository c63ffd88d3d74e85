"""Curves in a terminal: a drawing in braille dots, and a table of the values that matter."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

HEIGHT = 11
MOST_BOUNDARIES = 10
# The bit of each dot in a braille character, by row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


@dataclasses.dataclass(frozen=True)
class Scale:
    """The vertical axis of one or several drawings."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, curves: Iterable[ArrayLike]) -> Scale:
        """Return an axis that holds all curves; logarithmic where one spends time far below."""
        known = [values[np.isfinite(values)] for values in (np.asarray(c, float) for c in curves)]
        known = [values for values in known if values.size]
        if not known:
            return cls(0.0, 1.0)
        high = max(float(values.max()) for values in known)
        low = min(float(values.min()) for values in known)
        positive = [values[values > 0] for values in known if values.max() > 0]
        if any(np.mean(values < high / 100) >= 0.1 for values in positive):
            # A decay to zero passes through every decade in its last steps.
            least = min(max(v.min(), np.quantile(v, 0.05) / 10) for v in positive)
            return cls(float(least), high, log=True)
        if high - low <= 1e-9 * abs(high):
            # One value, within rounding, lies between the edges.
            return cls(0.0, 2.0 * high) if high > 0 else cls(high - 1.0, high + 1.0)
        return cls(0.0 if 0 <= low < high / 2 else low, high)

    def place(self, values: Array) -> Array:
        """Return where values lie, from 0 at the bottom to 1 at the top."""
        if self.log:
            places = np.log(np.maximum(values, self.low) / self.low) / math.log(
                self.high / self.low
            )
        else:
            places = (values - self.low) / (self.high - self.low)
        return np.clip(places, 0.0, 1.0)

    def at(self, place: float) -> float:
        """Return the value at a place."""
        if self.log:
            return float(self.low * (self.high / self.low) ** place)
        return (1.0 - place) * self.low + place * self.high


def draw(
    curve: ArrayLike,
    steps_per_epoch: float,
    scale: Scale | None = None,
    width: int | None = None,
    plain: bool | None = None,
) -> str:
    """Draw a curve with one value a step.

    Args:
        curve: The values; NaN leaves a gap.
        steps_per_epoch: Steps that make one epoch, for the axis.
        scale: The vertical axis; made from the curve by default.
        width: Characters in a line; those of the terminal by default.
        plain: Whether to draw with ASCII characters, by default where the terminal has no others.

    Returns:
        Lines of text.
    """
    values = np.asarray(curve, float)
    scale = Scale.of([values]) if scale is None else scale
    width = max(30, width or min(shutil.get_terminal_size().columns, 100))
    plain = not _can_print("⣿┤│└─") if plain is None else plain
    labels = {
        row: _number(scale.at(1 - row / (HEIGHT - 1))) for row in (0, HEIGHT // 2, HEIGHT - 1)
    }
    margin = max(map(len, labels.values())) + 1
    room = width - margin - 1
    dots = _raster(scale.place(values), room)
    bits = (dots.reshape(HEIGHT, 4, room, 2) * _DOTS[:, None]).sum(axis=(1, 3))
    lines = []
    for row, cells in enumerate(bits.tolist()):
        label = f"{labels.get(row, ''):>{margin - 1}} "
        edge = ("|" if plain else "┤") if row in labels else ("|" if plain else "│")
        text = "".join((" *"[cell > 0] if plain else chr(0x2800 + cell)) for cell in cells)
        lines.append((label + edge + text).rstrip(" \u2800"))
    lines.append(" " * margin + ("+" + "-" * room if plain else "└" + "─" * room))
    lines.append(" " * margin + _axis(len(values) / steps_per_epoch, room + 1))
    if scale.log:
        lines[0] += "  (logarithmic)"
    return "\n".join(lines)


def _raster(places: Array, columns: int) -> NDArray[np.bool_]:
    """Return which dots are set: every column spans its values, joined to the column before."""
    rows = HEIGHT * 4
    dots = np.zeros((rows, columns * 2), bool)
    edges = np.arange(columns * 2 + 1) * len(places) / (columns * 2)
    before = math.nan
    for column in range(columns * 2):
        start = int(edges[column])
        inside = places[start : max(start + 1, int(edges[column + 1]))]
        inside = inside[np.isfinite(inside)]
        if not inside.size:
            before = math.nan
            continue
        low, high = np.rint(np.array([inside.min(), inside.max()]) * (rows - 1)).astype(int)
        if math.isfinite(before):
            joint = round(before * (rows - 1))
            low, high = min(low, max(joint - 1, high)), max(high, min(joint + 1, low))
            low, high = min(low, joint + 1), max(high, joint - 1)
        dots[rows - 1 - high : rows - low, column] = True
        before = float(inside[-1])
    return dots


def _axis(epochs: float, width: int) -> str:
    """Return the line of numbers below a drawing."""
    line = [" "] * width
    for part in range(5):
        text = _number(epochs * part / 4)
        at = round((width - 1) * part / 4)
        at = min(max(at - len(text) // 2 if 0 < part < 4 else at, 0), width - len(text))
        line[at : at + len(text)] = text
    return "".join(line).rstrip() + " epochs"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as aligned columns, the first to the left and the others to the right."""
    columns = range(len(rows[0]))
    widths = [max(len(row[column]) for row in rows) for column in columns]
    return "\n".join(
        "  ".join(
            text.ljust(size) if column == 0 else text.rjust(size)
            for column, (text, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def describe(values: Array, steps_per_epoch: float, starts: Iterable[float] = ()) -> str:
    """Return a table of the values that matter: first, peak, boundaries and last.

    Args:
        values: One value a step.
        steps_per_epoch: Steps that make one epoch.
        starts: Steps at which something begins, besides those that the curve itself shows.
    """
    last = len(values) - 1
    marks: dict[int, list[str]] = {0: ["first"], last: ["last"]}
    marks.setdefault(int(np.nanargmax(values)), []).append("peak")
    found = {*bends(values), *(math.ceil(start) for start in starts if 0 < start <= last)}
    boundaries = sorted(step for step in found if step not in marks)
    for step in boundaries[:MOST_BOUNDARIES]:
        marks[step] = ["boundary"]
    rows = [("", "step", "epoch", "value")]
    rows += [
        (
            ", ".join(marks[step]),
            f"{step:,}",
            _epoch(step, steps_per_epoch),
            f"{values[step]:.4g}",
        )
        for step in sorted(marks)
    ]
    more = len(boundaries) - MOST_BOUNDARIES
    return table(rows) + (f"\n(and {more} more boundaries)" if more > 0 else "")


def bends(values: Array) -> list[int]:
    """Return the steps at which a curve jumps, or turns between rising, flat and falling."""
    change = np.diff(values)
    top = float(np.max(np.abs(values), initial=0.0))
    size = np.where(np.abs(change) <= 1e-12 * top, 0.0, np.abs(change))
    around = np.pad(size, 1)
    jumps = np.flatnonzero((size > 5 * np.maximum(around[:-2], around[2:])) & (size > 0.01 * top))
    sign = np.sign(change) * (size > 0)
    turns = np.flatnonzero(np.diff(sign)) + 1
    kept = [int(step) + 1 for step in jumps]
    near = max(1, len(values) // 1000)
    for turn in turns.tolist():
        if all(abs(turn - step) > near for step in (*kept, 0, len(values) - 1)):
            kept.append(turn)
    return sorted(kept)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def _epoch(step: int, steps_per_epoch: float) -> str:
    """Write where a step lies, in so many digits that the last step is not the end of the fit."""
    digits = max(0, math.ceil(math.log10(steps_per_epoch)))
    text = f"{step / steps_per_epoch:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
