"""Lengths that say their unit: ``5`` (epochs), ``"2000 steps"``, ``"30%"``, ``"rest"``."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from typing import Annotated, Any, Literal

from keras_lr._fields.kinds import FieldType, Number, real

Unit = Literal["steps", "epochs", "%", "rest"]

FORMS = "5 (epochs), '5 epochs', '2000 steps', '30%' or 'rest'"
OWN_FORMS = "5 (epochs), '5 epochs', '2000 steps' or '30%'"
_PATTERN = re.compile(
    r"(?P<amount>\d+(?:_\d+)*(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(?P<unit>steps?|epochs?|%)"
)


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
class LengthField(FieldType):
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


class Patience(FieldType):
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


class Batches(FieldType):
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


class WholeEpochs(FieldType):
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


Length = Annotated[float | int | str, LengthField()]
"""A length: a number of epochs, ``"5 epochs"``, ``"2000 steps"``, ``"30%"`` or ``"rest"``."""

Timescale = Annotated[float | int | str, LengthField(timescale=True)]
"""A length that cannot be ``"rest"``."""
