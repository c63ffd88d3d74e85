"""Curves in a terminal: a drawing in braille dots, and a table of the important values."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr.plotting.downsampling import ROUNDING, find_jumps
from keras_lr.plotting.scales import Scale
from keras_lr.plotting.text import NARROWEST, align_columns, line_width

Array = NDArray[np.float64]

HEIGHT = 11
MAX_BOUNDARIES = 10
LEAST_JUMP = 0.01
# The bit of each dot in a braille character, by row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def draw(
    curve: ArrayLike,
    steps_per_epoch: float,
    scale: Scale | None = None,
    width: int | None = None,
    plain: bool | None = None,
) -> str:
    """Draw a curve with one value per step.

    Args:
        curve: The values; NaN leaves a gap.
        steps_per_epoch: Steps in one epoch, for the axis.
        scale: The vertical axis; made from the curve by default.
        width: Characters in a line, at least 30; by default the width of the terminal.
        plain: Whether to draw with ASCII characters; by default if the terminal has no others.

    Returns:
        Lines of text.
    """
    values = np.asarray(curve, float)
    scale = Scale.of([values]) if scale is None else scale
    width = max(NARROWEST, width or line_width())
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
        lines.insert(0, " " * margin + "(logarithmic)")
    return "\n".join(lines)


def _raster(places: Array, columns: int) -> NDArray[np.bool_]:
    """Return the dots to set: every column spans its values, joined to the column before."""
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
    last = f"{_number(epochs)} {'epoch' if epochs == 1 else 'epochs'}"
    line = " " * (width - len(last)) + last
    for part in range(4):
        text = _number(epochs * part / 4)
        at = max(0, round((width - 1) * part / 4) - len(text) // 2)
        # Leave out a number that would touch another.
        if not line[max(0, at - 1) : at + len(text) + 1].strip():
            line = line[:at] + text + line[at + len(text) :]
    return line


def describe(values: Array, steps_per_epoch: float, starts: Iterable[float] = ()) -> str:
    """Return a table of the important values: first, peak, boundaries and last.

    Args:
        values: One value per step.
        steps_per_epoch: Steps in one epoch.
        starts: Steps at which stages begin, in addition to those that the curve itself shows.
    """
    last = len(values) - 1
    marks: dict[int, list[str]] = {0: ["first"], last: ["last"]}
    marks.setdefault(int(np.nanargmax(values)), []).append("peak")
    found = {*find_bends(values), *(math.ceil(start) for start in starts if 0 < start <= last)}
    boundaries = sorted(step for step in found if step not in marks)
    for step in boundaries[:MAX_BOUNDARIES]:
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
    more = len(boundaries) - MAX_BOUNDARIES
    return align_columns(rows) + (f"\n(and {more} more boundaries)" if more > 0 else "")


def find_bends(values: Array) -> list[int]:
    """Return the steps at which a curve jumps, or turns between rising, flat and falling."""
    jumps = np.concatenate(find_jumps(values, least=LEAST_JUMP)).tolist()
    change = np.diff(values)
    change[np.abs(change) <= ROUNDING * np.max(np.abs(values), initial=0.0)] = 0.0
    turns = np.flatnonzero(np.diff(np.sign(change))) + 1
    near = max(1, len(values) // 1000)
    found = [*jumps]
    for turn in turns.tolist():
        if all(abs(turn - step) > near for step in (*found, 0, len(values) - 1)):
            found.append(turn)
    return sorted(found)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def _epoch(step: int, steps_per_epoch: float) -> str:
    """Return the epoch of a step, with enough digits to distinguish neighbouring steps."""
    digits = max(0, math.ceil(math.log10(steps_per_epoch)))
    text = f"{step / steps_per_epoch:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
