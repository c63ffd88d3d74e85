"""Small curves of schedules for notebooks. Before any fit, they assume one that shows all parts."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr._fields.configurable import Configurable, field_types
from keras_lr._fields.kinds import FieldType, ListOf, Optional
from keras_lr._fields.lengths import LengthField, parse_length
from keras_lr._fields.timeline import Timeline
from keras_lr.plotting.svg import Panel, draw_panels, frame, stair_line

STEPS_PER_EPOCH, EPOCHS = 100, 30
"""The smallest fit that is assumed; longer lengths in a schedule make it longer."""

TIMES_THE_LONGEST = 6
"""Length of the assumed fit, as a multiple of the longest length in a schedule."""

BEYOND_THE_LAST = 1.25
"""The same for lengths that are counted from the start, such as boundaries."""

COMPARED = 64
"""Number of points at which a fit is compared with one of twice as many epochs."""

MAX_POINTS = 1 << 16
"""Largest number of points at which a curve is evaluated."""

MAX_BYTES = 8500
"""Largest size of the picture in a cell; curves beyond it are only counted."""

_ADDRESS = re.compile(r"<(?:function )?(?:[\w.<>]*\.)?<?(\w+)>?(?: object)? at 0x[0-9a-fA-F]+>")
"""The default repr of a function or an object; the group is its name."""


class Curve(Protocol):
    """A schedule, as far as this module needs it."""

    def __call__(self, step: ArrayLike, timeline: Timeline) -> NDArray[np.float64]: ...
    def parts(self) -> Iterator[Configurable]: ...
    def length(self, timeline: Timeline) -> float: ...
    def __add__(self, other: Any) -> Any: ...
    @property
    def duration_kind(self) -> str: ...


class Span(NamedTuple):
    """A stretch of training, and the unit in which an axis counts it."""

    timeline: Timeline
    unit: str
    step: float
    """Training steps in one unit."""
    note: str = ""
    """A remark on what was assumed."""

    def steps(self) -> NDArray[np.float64]:
        """Return the steps of the stretch, thinned out to what a picture can show."""
        total = self.timeline.total or 1.0
        count = max(2, min(int(total), MAX_POINTS))
        return np.floor(np.linspace(0.0, max(total - 1.0, 1.0), count))


def without_addresses(text: str) -> str:
    """Return a repr in which the names of functions and objects replace their addresses."""
    return _ADDRESS.sub(r"\1", text)


def describe_curves(owner: Any, curves: Mapping[str, Curve], known: Timeline | None) -> str:
    """Return HTML with an object's repr and its curves, one below the other.

    Args:
        owner: The object that has the curves.
        curves: The curves by their titles.
        known: The last fit; None before the first.
    """
    try:
        picture, note = _draw(curves, known)
    except Exception as error:
        # A user's function may raise anything, but a notebook cell must show the object.
        picture, note = "", f"no curve: {error}"
    return frame(without_addresses(repr(owner)), picture, without_addresses(note))


def _draw(curves: Mapping[str, Curve], known: Timeline | None) -> tuple[str, str]:
    """Return the curves as SVG, and a remark on what they show."""
    if known is None or not known.total:
        span = choose_span(functools.reduce(operator.add, curves.values()))
    else:
        span = Span(known, "epochs", known.steps_per_epoch or 1.0)
    steps = span.steps()
    end = (span.timeline.total or 0.0) / span.step
    panels = [
        Panel(title, [stair_line(steps / span.step, curve(steps, span.timeline), end)], span.unit)
        for title, curve in curves.items()
    ]
    while len(picture := draw_panels(panels)) > MAX_BYTES and len(panels) > 1:
        panels.pop()
    left_out = len(curves) - len(panels)
    notes = [span.note, f"and {left_out} more" if left_out else ""]
    return picture, "; ".join(filter(None, notes))


def choose_span(curve: Curve) -> Span:
    """Return a fit that is long enough to show what every part of a schedule does."""
    longest = {"steps": 0.0, "epochs": 0.0, "%": 0.0, "rest": 0.0}
    for part in curve.parts():
        for name, field_type in field_types(type(part)).items():
            times = BEYOND_THE_LAST if isinstance(field_type, ListOf) else TIMES_THE_LONGEST
            for length in _lengths(field_type, getattr(part, name)):
                amount, unit = parse_length(length)
                longest[unit] = max(longest[unit], times * amount)
    steps, epochs = longest["steps"], longest["epochs"]
    in_steps = steps > 0.0 and not epochs
    per_epoch = steps / EPOCHS if in_steps else float(STEPS_PER_EPOCH)
    total = max(steps, epochs * per_epoch, EPOCHS * per_epoch)
    if not steps and not epochs and _is_of_shares(curve, per_epoch, total):
        return Span(Timeline(per_epoch, EPOCHS), "% of the fit", total / 100.0)
    if curve.duration_kind == "own" and not longest["%"]:
        total = curve.length(Timeline(per_epoch, total / per_epoch))
        note = "over its own length"
    else:
        note = f"as in a fit of {total if in_steps else total / per_epoch:,.6g} "
        note += "steps" if in_steps else "epochs"
    if steps and epochs:
        note += f", with {STEPS_PER_EPOCH} steps in an epoch"
    timeline = Timeline(per_epoch, total / per_epoch)
    return Span(timeline, *(("steps", 1.0) if in_steps else ("epochs", per_epoch)), note)


def _lengths(field_type: FieldType, value: Any) -> Iterator[float | int | str]:
    """Iterate over the lengths in the value of a field."""
    if isinstance(field_type, LengthField):
        yield value
    elif isinstance(field_type, Optional) and value is not None:
        yield from _lengths(field_type.item, value)
    elif isinstance(field_type, ListOf):
        for item in value:
            yield from _lengths(field_type.item, item)


def _is_of_shares(curve: Curve, per_epoch: float, total: float) -> bool:
    """Return whether a curve keeps its form in a fit of twice as many epochs."""
    steps = np.linspace(0.0, total - 1.0, COMPARED)
    fit, longer = (Timeline(per_epoch, times * total / per_epoch) for times in (1, 2))
    return np.allclose(curve(steps, fit), curve(2 * steps, longer))
