"""Lengths that say their unit, and the timeline that turns them into steps.

>>> timeline = Timeline(steps_per_epoch=100, epochs=90)
>>> (
...     timeline.steps(5),
...     timeline.steps("5 epochs"),
...     timeline.steps("250 steps"),
...     timeline.steps("30%"),
... )
(500.0, 500.0, 250.0, 2700.0)
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr.fields import Kind, Number, real

Unit = Literal["steps", "epochs", "%", "rest"]

FORMS = "5 (epochs), '5 epochs', '2000 steps', '30%' or 'rest'"
OWN_FORMS = "5 (epochs), '5 epochs', '2000 steps' or '30%'"
_PATTERN = re.compile(
    r"(?P<amount>\d+(?:_\d+)*(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(?P<unit>steps?|epochs?|%)"
)


SNAP = 1e-9
"""Share of a number of steps that it may lie off a whole number and be taken for it."""


class UnresolvedLength(ValueError):
    """A length cannot be turned into steps because a number that it needs is not known.

    >>> Timeline(steps_per_epoch=None, epochs=5).steps("2000 steps")
    2000.0
    >>> Timeline(steps_per_epoch=None, epochs=5).steps("2 epochs")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    keras_lr.timeline.UnresolvedLength: The length '2 epochs' cannot be placed: ...
    """


def parse_length(length: float | int | str, forms: str = FORMS) -> tuple[float, Unit]:
    """Return amount and unit of a length.

    Args:
        length: A number of epochs, or one of ``"5 epochs"``, ``"2000 steps"``, ``"30%"``,
            ``"rest"``.
        forms: The forms that an error names.

    Raises:
        TypeError: If it is neither a number nor a string.
        ValueError: If it is no length, or the length is not positive and finite.

    >>> parse_length("30%"), parse_length(2)
    ((30.0, '%'), (2.0, 'epochs'))
    """
    if isinstance(length, str):
        text = length.strip().lower()
        if text == "rest":
            return 1.0, "rest"
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"a length: {forms}")
        amount = float(match["amount"])
        unit: Unit = (
            "%" if match["unit"] == "%" else "steps" if match["unit"][0] == "s" else "epochs"
        )
    elif isinstance(length, bool) or not isinstance(length, numbers.Real):
        raise TypeError(f"a length: {forms}")
    else:
        amount, unit = real(length), "epochs"
    if not (math.isfinite(amount) and amount > 0):
        raise ValueError(f"a positive length: {forms}")
    if unit == "%" and amount > 100:
        raise ValueError("a share of at most 100%")
    return amount, unit


@dataclasses.dataclass(frozen=True)
class LengthKind(Kind):
    """A length; ``timescale`` excludes ``"rest"``, which would leave the unit of a rate open."""

    timescale: bool = False

    @property
    def forms(self) -> str:
        """The forms that a length may have."""
        return OWN_FORMS if self.timescale else FORMS

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        return f"a length: {self.forms}"

    def convert(self, value: Any) -> float | int | str:
        _, unit = parse_length(value, self.forms)
        if unit == "rest" and self.timescale:
            raise ValueError(f"a length of its own: {OWN_FORMS}")
        if isinstance(value, str):
            return " ".join(value.lower().split())
        return int(value) if float(value).is_integer() else float(value)

    def schema(self) -> dict[str, Any]:
        return length_schema("steps?|epochs?|%", rest=not self.timescale)


class Patience(Kind):
    """A number of epochs, or ``"N steps"``."""

    expected = "a whole number of epochs of at least 0, or 'N steps'"

    def convert(self, value: Any) -> int | str:
        if not isinstance(value, str):
            return int(Number(minimum=0, whole=True).convert(value))
        amount, unit = parse_length(value)
        if unit != "steps" or not amount.is_integer():
            raise ValueError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        words = length_schema("steps?")["anyOf"][1]
        return {"anyOf": [{"type": "integer", "minimum": 0}, words]}


class Batches(Kind):
    """A number of batches, or a length that says its unit."""

    expected = "a number of batches of at least 10, or a length such as '2 epochs'"

    def convert(self, value: Any) -> int | str:
        if isinstance(value, str):
            amount, unit = parse_length(value)
            enough = amount >= 10 and amount.is_integer()
            if unit != "epochs" and not (unit == "steps" and enough):
                raise ValueError(self.expected)
            return value
        return int(Number(minimum=10, whole=True).convert(value))

    def schema(self) -> dict[str, Any]:
        words = length_schema("steps?|epochs?")["anyOf"][1]
        return {"anyOf": [Number(minimum=10, whole=True).schema(), words]}


class WholeEpochs(Kind):
    """A whole number of epochs."""

    expected = "a whole number of epochs of at least 1, such as 10 or '10 epochs'"

    def convert(self, value: Any) -> int:
        number = value
        if isinstance(value, str):
            number, unit = parse_length(value)
            if unit != "epochs" or number != int(number):
                raise ValueError(self.expected)
        return int(Number(minimum=1, whole=True).convert(int(number) if value != number else value))

    def schema(self) -> dict[str, Any]:
        words = length_schema("epochs?")["anyOf"][1]
        return {"anyOf": [Number(minimum=1, whole=True).schema(), words]}


def length_schema(units: str, rest: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of a number of epochs, or a length in ``units``."""
    amount = r"\d+(_\d+)*(\.\d*)?([eE][+-]?\d+)?"
    words = rf"{amount}\s*({units})" + ("|rest" if rest else "")
    shown = {"epochs?": "5 epochs", "steps?": "2000 steps", "%": "30%"}
    examples = [shown[unit] for unit in units.split("|")] + ["rest"] * rest
    return {
        "anyOf": [
            {"title": "epochs", "type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": rf"^\s*({words})\s*$", "examples": examples},
        ]
    }


Length = Annotated[float | int | str, LengthKind()]
"""A length: a number of epochs, ``"5 epochs"``, ``"2000 steps"``, ``"30%"`` or ``"rest"``."""

Timescale = Annotated[float | int | str, LengthKind(timescale=True)]
"""A length that cannot be ``"rest"``."""


@dataclasses.dataclass(frozen=True)
class Timeline:
    """A part of training: how long an epoch is, and how long the part that a schedule fills.

    Args:
        steps_per_epoch: Batches in an epoch; None where it is not known.
        epochs: Epochs of the whole fit; None where it is not known.
        total: Steps of the enclosing part, of which ``"%"`` is a share. By default the whole fit.
        rest: Steps that earlier stages leave of that part: ``"rest"``. By default all of it.
        start: Step of the fit at which this part's own ``t = 0`` lies.
        clock: ``"step"``, or ``"epoch"`` where a tick is an epoch because steps are not known.

    >>> Timeline(steps_per_epoch=10, epochs=3).rest
    30.0
    """

    steps_per_epoch: float | None = None
    epochs: float | None = None
    total: float | None = None
    rest: float | None = None
    start: float = 0.0
    clock: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        """Check both numbers and fill in the whole fit."""
        for name in ("steps_per_epoch", "epochs"):
            value = getattr(self, name)
            if value is not None:
                kind = Number(above=0.0)
                try:
                    object.__setattr__(self, name, kind.convert(value))
                except (TypeError, ValueError) as error:
                    raise type(error)(
                        f"`{name}` must be {error}. Received: {name}={value!r}"
                    ) from None
        if self.total is None and self.steps_per_epoch is not None and self.epochs is not None:
            object.__setattr__(self, "total", snap(self.steps_per_epoch * self.epochs))
        if self.rest is None:
            object.__setattr__(self, "rest", self.total)

    @classmethod
    def by_epoch(cls, epochs: float | None) -> Timeline:
        """Return a timeline of which one tick is an epoch, for a fit of unknown steps."""
        return cls(steps_per_epoch=1, epochs=epochs, clock="epoch")

    def steps(self, length: float | int | str) -> float:
        """Return a length in steps (in ticks of the clock).

        A value that lies within rounding of a whole number is that number, so that ``"29%"`` of 100
        steps is 29 and not 28.999999999999996.

        Raises:
            UnresolvedLength: If a number that the length needs is not known.
        """
        amount, unit = parse_length(length)
        if unit == "steps":
            if self.clock == "epoch":
                raise UnresolvedLength(_unknown_steps(length))
            return amount
        if unit == "epochs":
            if self.steps_per_epoch is None:
                raise UnresolvedLength(_unknown_steps(length))
            return snap(amount * self.steps_per_epoch)
        if unit == "%" and self.clock == "epoch":
            raise UnresolvedLength(_unknown_steps(length))
        known = self.total if unit == "%" else self.rest
        if known is None:
            raise UnresolvedLength(
                f"The length {length!r} needs the length of the part that it is a share of. "
                "Pass `epochs` and `steps_per_epoch`, or give a length in steps or epochs."
            )
        return snap(known * amount / 100.0) if unit == "%" else known

    def progress(self, step: NDArray[np.float64], length: float | int | str) -> NDArray[np.float64]:
        """Return how much of a length is done at ``step``, from 0 to 1.

        An empty length is done right after its start, so that a warmup longer than the fit still
        rises towards the first value of what would follow.
        """
        span = self.steps(length)
        return np.where(step > 0, 1.0, 0.0) if span == 0 else np.clip(step / span, 0.0, 1.0)

    def epoch(self, step: ArrayLike) -> NDArray[np.float64]:
        """Return the epoch of the fit, counted from 0, in which each step of this part lies."""
        if self.steps_per_epoch is None:
            raise UnresolvedLength(_unknown_steps("1 epoch"))
        return np.floor((np.asarray(step) + self.start) / self.steps_per_epoch)

    def after(self, steps: float) -> Timeline:
        """Return the timeline of the next stage, ``steps`` later in the same part."""
        rest = None if self.rest is None else max(self.rest - steps, 0.0)
        return self._but(rest=rest, start=self.start + steps)

    def part(self, steps: float, start: float = 0.0) -> Timeline:
        """Return the timeline of a part of ``steps`` that begins ``start`` later.

        Shares of an empty part, of which only ``t = 0`` is ever asked, are those of one step.
        """
        steps = steps or 1.0
        return self._but(total=steps, rest=steps, start=self.start + start)

    def _but(self, **changes: float | None) -> Self:
        """Return the timeline with some changes, without the checks of `dataclasses.replace`."""
        timeline = object.__new__(type(self))
        timeline.__dict__.update(self.__dict__, **changes)
        return timeline

    def open(self) -> Timeline:
        """Return this timeline without the length of the part."""
        return _Open(self.steps_per_epoch, None, None, None, self.start, self.clock)


class _Open(Timeline):
    """A timeline that does not know how long its part is."""

    def __post_init__(self) -> None:
        """Leave the length open."""


def snap(steps: float) -> float:
    """Return the whole number within rounding of ``steps``, else ``steps``."""
    if not math.isfinite(steps):
        return steps
    whole = float(round(steps))
    return whole if abs(steps - whole) <= SNAP * max(1.0, abs(steps)) else steps


def snap_all(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `snap` makes of each of many finite numbers of steps."""
    near = np.round(steps)
    return np.where(np.abs(steps - near) <= SNAP * np.maximum(np.abs(steps), 1.0), near, steps)


def _unknown_steps(length: Any) -> str:
    return (
        f"The length {length!r} cannot be placed: the number of steps in an epoch is not known. "
        "Pass `steps_per_epoch` to `fit`, or give every length of the schedule in epochs, "
        "or every length in steps."
    )
