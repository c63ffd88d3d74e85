"""Small curves as SVG, for the cells of a notebook.

They need no script and no style sheet. Text and axes have the colour of the surrounding text, and
the colours of the curves are visible on white and on black.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr.plotting.downsampling import downsample_extrema, find_jumps
from keras_lr.plotting.scales import Scale

Array = NDArray[np.float64]

BLUE, ORANGE = "#2f81f7", "#d9730d"

# In tenths of a pixel, so that every coordinate is a whole number.
WIDTH, HEIGHT = 4400, 1250
LEFT, RIGHT, TOP, BOTTOM = 560, 130, 240, 210
"""Margins around the axes of a panel."""

AXES_WIDTH, AXES_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

BUCKETS = 90
"""Number of stretches of a curve; the lowest and the highest value of each are drawn."""

ROUNDING = 1e-9
"""Distance beyond an end of the axis at which a round number still counts, in tick steps."""

LEVEL_ROUNDING = 1e-4
"""Share of a linear axis within which a value is written as 0."""

MAX_LETTERS = 1000
"""Largest number of letters in the text above a curve."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve.

    Args:
        x: Places on the horizontal axis, in ascending order.
        y: The values; NaN leaves a gap.
        color: Its colour.
        faint: Whether it is drawn faintly, such as the loss of each batch behind the mean.
    """

    x: ArrayLike
    y: ArrayLike
    color: str = BLUE
    faint: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        title: Title, which names the values.
        lines: The curves.
        unit: Unit of the horizontal axis.
        ends: Ends of the horizontal axis; by default those of the curves.
        log: Whether the horizontal axis is logarithmic.
        marks: Places on it with a vertical line.
        band: Two places on it between which the background is coloured.
        limits: Lowest and highest value of the vertical axis; by default the curves decide.
    """

    title: str
    lines: Sequence[Line]
    unit: str
    ends: tuple[float, float] | None = None
    log: bool = False
    marks: Sequence[float] = ()
    band: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None


def draw_panels(panels: Sequence[Panel]) -> str:
    """Return panels, one below the other, as an SVG element."""
    label = html.escape("; ".join(panel.title for panel in panels))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT * len(panels)}" '
        f'style="display:block;width:100%;max-width:{WIDTH // 10}px;height:auto" '
        'font-size="110" font-family="system-ui,sans-serif" fill="currentColor">'
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate(0 {HEIGHT * number})">{_draw_panel(panel)}</g>')
    return "".join([*parts, "</svg>"])


def stair_line(x: ArrayLike, y: ArrayLike, end: float) -> Line:
    """Return a staircase: each value is held until the next, and the last until ``end``."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    return Line(np.append(x, end), np.append(y, y[-1]))


def frame(text: str, picture: str, note: str = "") -> str:
    """Return HTML with a text, the curves below it, and a remark."""
    if len(text) > MAX_LETTERS:
        text = f"{text[: MAX_LETTERS - 3]}..."
    remark = f'<div style="opacity:.7;font-size:85%">{html.escape(note)}</div>' if note else ""
    code = f'<code style="overflow-wrap:anywhere">{html.escape(text)}</code>'
    return f"<div>{code}{picture}{remark}</div>"


def _draw_panel(panel: Panel) -> str:
    axes = _Axes(panel)
    title = f"{panel.title} (logarithmic)" if axes.scale.log else panel.title
    parts = [
        _texts([(LEFT, 130, title)], "start"),
        _texts([(WIDTH - RIGHT, 130, panel.unit)], "end"),
    ]
    if panel.band is not None:
        left, right = axes.across(np.clip(panel.band, axes.low, axes.high)).tolist()
        place = f'x="{left}" y="{TOP}" width="{right - left}" height="{AXES_HEIGHT}"'
        parts.append(f'<rect {place} fill="{BLUE}" opacity=".15"/>')
    heights = {share: round(TOP + AXES_HEIGHT * (1.0 - share)) for share in (0.0, 0.5, 1.0)}
    levels = "".join(f"M{LEFT} {height}h{AXES_WIDTH}" for height in heights.values())
    parts.append(_stroke(levels, 8, opacity=0.25))
    values = [
        (LEFT - 60, height + 38, format_number(axes.value_at(share)))
        for share, height in heights.items()
    ]
    parts.append(_texts(values, "end"))
    ticks = axes.ticks()
    places = axes.across(ticks).tolist()
    parts.append(
        _stroke("".join(f"M{left} {TOP + AXES_HEIGHT}v40" for left in places), 8, opacity=0.5)
    )
    numbers = [
        (left, HEIGHT - 60, format_number(tick)) for tick, left in zip(ticks, places, strict=True)
    ]
    parts.append(_texts(numbers, "middle"))
    for left in axes.across(panel.marks).tolist():
        dashes = 'stroke-dasharray="40 30"'
        parts.append(_stroke(f"M{left} {TOP}v{AXES_HEIGHT}", 14, ORANGE, more=dashes))
    for line in panel.lines:
        width, opacity = (9, 0.45) if line.faint else (18, 1.0)
        parts.append(_stroke(axes.path(line), width, line.color, opacity))
    return "".join(parts)


def _texts(texts: Iterable[tuple[float, float, str]], anchor: str) -> str:
    """Return texts as SVG, each with its start, middle or end at a place."""
    written = (f'<text x="{x}" y="{y}">{html.escape(words)}</text>' for x, y, words in texts)
    return f'<g text-anchor="{anchor}" opacity=".75">{"".join(written)}</g>'


def _stroke(
    path: str, width: int, color: str = "currentColor", opacity: float = 1.0, more: str = ""
) -> str:
    """Return a line along a path."""
    look = f'stroke="{color}" stroke-width="{width}" stroke-linejoin="round" opacity="{opacity:g}"'
    return f'<path d="{path}" fill="none" {look} {more}/>'


class _Axes:
    """The axes of a panel: the values that they span, and the place of each value."""

    def __init__(self, panel: Panel) -> None:
        self.log = panel.log
        starts, ends = zip(
            *(np.asarray(line.x, float)[[0, -1]] for line in panel.lines), strict=True
        )
        self.low, self.high = panel.ends or (float(min(starts)), float(max(ends)))
        curves = [line.y for line in panel.lines]
        self.scale = Scale(*panel.limits) if panel.limits else Scale.of(curves)

    def across(self, x: ArrayLike) -> NDArray[np.int64]:
        """Return the horizontal coordinates of some places."""
        places, ends = np.asarray(x, float), (self.low, self.high)
        if self.log:
            places, ends = np.log(places), (math.log(self.low), math.log(self.high))
        share = (places - ends[0]) / (ends[1] - ends[0] or 1.0)
        return np.rint(LEFT + AXES_WIDTH * share).astype(np.int64)

    def value_at(self, share: float) -> float:
        """Return the value at a share of the height; 0 where it differs from 0 by rounding."""
        value = self.scale.at(share)
        span = abs(self.scale.at(1.0) - self.scale.at(0.0))
        return 0.0 if not self.scale.log and abs(value) < LEVEL_ROUNDING * span else value

    def ticks(self) -> list[float]:
        """Return the places on the horizontal axis that have a number."""
        if self.log:
            return _decades(self.low, self.high)
        return _round_numbers(self.low, self.high)

    def path(self, line: Line) -> str:
        """Return the path of a curve."""
        x, y = np.asarray(line.x, float), np.asarray(line.y, float)
        y = np.where(np.isfinite(y), y, np.nan)
        # Both sides of a jump, so that it is vertical; a curve with many jumps is dense anyway.
        jumps = np.concatenate(find_jumps(y))[:BUCKETS]
        shown = np.unique(np.concatenate([downsample_extrema(y, BUCKETS), jumps - 1, jumps]))
        height = TOP + AXES_HEIGHT * (1.0 - self.scale.place(y[shown]))
        return _path(self.across(x[shown]).tolist(), height.tolist())


def _path(across: list[int], down: list[float]) -> str:
    """Return the path along some points, with a gap where a height is not finite."""
    points = [
        (x, round(y)) if math.isfinite(y) else None for x, y in zip(across, down, strict=True)
    ]
    parts = []
    before = None
    for point, after in itertools.zip_longest(points, points[1:]):
        if point is None or before is None:
            parts += [f"M{point[0]} {point[1]}h0"] if point else []
        elif after and before[1] == point[1] == after[1]:
            continue  # in the middle of a level stretch
        elif point != before:
            parts.append(f"l{point[0] - before[0]} {point[1] - before[1]}")
        before = point
    return "".join(parts)


def _round_numbers(low: float, high: float) -> list[float]:
    """Return round numbers along an axis, four to eight of them."""
    span = high - low
    if not span > 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / 4.0))
    step = next((step for step in (5 * power, 2 * power) if step <= span / 4.0), power)
    first = math.ceil(low / step - ROUNDING)
    return [number * step for number in range(first, math.floor(high / step + ROUNDING) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten along a logarithmic axis, at most eight of them."""
    first, last = math.ceil(math.log10(low) - ROUNDING), math.floor(math.log10(high) + ROUNDING)
    return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 8)]


def format_number(value: float) -> str:
    """Return a number in at most three digits, as short as possible.

    >>> [format_number(value) for value in (0.0, 0.05, 0.00035, 1e-10, 12000.0, 39100.0)]
    ['0', '0.05', '3.5e-4', '1e-10', '12k', '39.1k']
    """
    if abs(value) >= 1e15:
        return f"{value:.2g}".replace("e+", "e")
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    is_small = 0.0 < abs(float(f"{value:.3g}")) < 1e-3
    mantissa, _, exponent = f"{value:{'.2e' if is_small else '.3g'}}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if exponent else mantissa
