"""Lengths that say their unit: ``5`` (epochs), ``"2000 steps"``, ``"30%"``, ``"rest"``.

Text is parsed with the patterns that the JSON Schema gives to editors, so that both agree.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import re
from typing import Annotated, Any, Literal

from keras_lr._fields.kinds import FieldType, Number, as_float, without_dimensions

Unit = Literal["steps", "epochs", "%", "rest"]

EXAMPLES = "5 (epochs), '5 epochs', '2000 steps', '30%' or 'rest'"
EXAMPLES_WITHOUT_REST = "5 (epochs), '5 epochs', '2000 steps' or '30%'"

LONGEST = 1e150
"""The largest amount: sums and products of a few such lengths are still finite."""

# At most 30 digits and an exponent of two: whatever these match is finite, and a positive amount
# is above zero as a float too.
_DIGITS = "[0-9](?:_?[0-9]){0,29}"
_POSITIVE = r"(?=[0-9_.]*[1-9])"
_AMOUNT = rf"{_DIGITS}(?:\.[0-9]{{0,30}})?(?:[eE][+-]?0*[0-9]{{1,2}})?"
_SHARE = r"0*(?:100(?:\.0{0,30})?|[0-9]{1,2}(?:\.[0-9]{0,30})?)(?:[eE]-0*[0-9]{1,2})?"
_WHOLE = rf"{_DIGITS}(?:\.0{{0,30}})?(?:[eE]\+?0*[0-9]{{1,2}})?"
_AT_LEAST_TEN = (
    rf"(?:(?=[0_]*[1-9]_?[0-9]){_DIGITS}(?:\.0{{0,30}})?"
    rf"|{_DIGITS}(?:\.0{{0,30}})?[eE]\+?0*[1-9][0-9]?)"
)
# A schema has no flag to ignore case.
_STEPS, _EPOCHS = "[sS][tT][eE][pP][sS]?", "[eE][pP][oO][cC][hH][sS]?"
_REST = "[rR][eE][sS][tT]"

_PARTS = (
    rf"\s*(?:(?P<amount>{_AMOUNT})\s*(?P<unit>{_STEPS}|{_EPOCHS})|(?P<share>{_SHARE})\s*%"
    rf"|{_REST})\s*"
)


def _pattern(*texts: str) -> str:
    """Return a pattern that matches any of several texts, in a JSON Schema as in Python."""
    return rf"^\s*(?:{'|'.join(texts)})\s*$"


def parse_length(length: float | int | str) -> tuple[float, Unit]:
    """Return the amount and unit of a length, which may be zero.

    Args:
        length: A number of epochs, or one of ``"5 epochs"``, ``"2000 steps"``, ``"30%"``,
            ``"rest"``.

    Raises:
        TypeError: If it is neither a number nor a string.
        ValueError: If it is not a length.

    >>> parse_length("30%"), parse_length(2)
    ((30.0, '%'), (2.0, 'epochs'))
    """
    if isinstance(length, str):
        parsed = _parse_text(length)
        if parsed is None:
            raise ValueError(f"a length: {EXAMPLES}")
        return parsed
    length = without_dimensions(length)
    if isinstance(length, bool) or not isinstance(length, numbers.Real):
        raise TypeError(f"a length: {EXAMPLES}")
    return as_float(length), "epochs"


@functools.lru_cache(4096)
def _parse_text(text: str) -> tuple[float, Unit] | None:
    """Return the amount and unit in a text; None if it is not a length."""
    found = re.fullmatch(_PARTS, text)
    if found is None:
        return None
    if found["share"] is not None:
        return float(found["share"]), "%"
    if found["amount"] is None:
        return 1.0, "rest"
    return float(found["amount"]), "steps" if found["unit"][0] in "sS" else "epochs"


def _without_comma(text: str, field: FieldType) -> str:
    """Return a hint how to write a number without its comma; empty if that is not what is wrong.

    Whether a comma separates thousands or decimals differs from country to country.
    """
    thousands = re.fullmatch(r"\s*\d{1,3}(?:,\d{3})+(?!\d|,).*", text)
    written = text.replace(",", "" if thousands else ".").strip()
    try:
        if "," in text:
            field.convert(written)
            return f"; write {written!r}, without a comma"
    except ValueError:
        pass
    return ""


@dataclasses.dataclass(eq=False, repr=False)
class LengthField(FieldType):
    """A length in time.

    Args:
        timescale: Whether to refuse ``"rest"``, which would leave the unit of a rate open.
        zero: Whether the length may be 0, which leaves a part out.

    >>> LengthField().convert("5  Epochs")
    '5 epochs'
    """

    timescale: bool = False
    zero: bool = False

    @property
    def examples(self) -> str:
        """Every way to write such a length."""
        return EXAMPLES_WITHOUT_REST if self.timescale else EXAMPLES

    @property
    def expected(self) -> str:  # type: ignore[override]
        """What the field takes, in words."""
        return f"a length: {self.examples}"

    @property
    def _expected_amount(self) -> str:
        return f"a {'length of at least 0' if self.zero else 'positive length'}: {self.examples}"

    def convert(self, value: Any) -> float | int | str:
        value = without_dimensions(value)
        if isinstance(value, str):
            return self._convert_text(value)
        try:
            amount, _ = parse_length(value)
        except TypeError:
            raise TypeError(self.expected) from None
        if not (math.isfinite(amount) and (amount > 0 or (self.zero and amount == 0))):
            raise ValueError(self._expected_amount)
        if (value if isinstance(value, int) else amount) > LONGEST:
            raise ValueError(f"a length of at most {LONGEST:g} epochs")
        return int(amount) if amount.is_integer() else amount

    def _convert_text(self, text: str) -> str:
        parsed = _parse_text(text)
        if parsed is None:
            share = re.fullmatch(rf"\s*{_AMOUNT}\s*%\s*", text)
            expected = self.expected + _without_comma(text, self)
            raise ValueError("a share of at most 100%, such as '30%'" if share else expected)
        amount, unit = parsed
        if unit == "rest" and self.timescale:
            raise ValueError(f"a length of its own: {EXAMPLES_WITHOUT_REST}")
        if not (amount > 0 or self.zero):
            raise ValueError(self._expected_amount)
        return " ".join(text.lower().split())

    def schema(self) -> dict[str, Any]:
        sign = "" if self.zero else _POSITIVE
        texts = [rf"{sign}{_AMOUNT}\s*(?:{_STEPS}|{_EPOCHS})", rf"{sign}{_SHARE}\s*%"]
        least = "minimum" if self.zero else "exclusiveMinimum"
        examples = ["2000 steps", "5 epochs", "30%"]
        if not self.timescale:
            texts.append(_REST)
            examples.append("rest")
        return {
            "anyOf": [
                {"title": "epochs", "type": "number", least: 0, "maximum": LONGEST},
                {"type": "string", "pattern": _pattern(*texts), "examples": examples},
            ]
        }


class StartField(FieldType):
    """The start of something: after a length, or after the schedule's warmup.

    >>> StartField().convert("warmup"), StartField().convert("5%")
    ('warmup', '5%')
    """

    @property
    def expected(self) -> str:  # type: ignore[override]
        """What the field takes, in words."""
        return f"{self._length.expected}, or 'warmup'"

    @property
    def _length(self) -> LengthField:
        return LengthField(timescale=True, zero=True)

    def convert(self, value: Any) -> float | int | str:
        if isinstance(value, str) and value == "warmup":
            return value
        try:
            return self._length.convert(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, or 'warmup'") from None

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [*self._length.schema()["anyOf"], {"enum": ["warmup"]}]}


class _CountField(FieldType):
    """A whole number, or a text that matches a pattern."""

    def number(self) -> Number:
        """Return the type of the number."""
        raise NotImplementedError

    def pattern(self) -> str:
        """Return the pattern of the text."""
        raise NotImplementedError

    def convert(self, value: Any) -> int | str:
        if not isinstance(value, str):
            return int(self.number().convert(value))
        if not re.search(self.pattern(), value):
            raise ValueError(self.expected + _without_comma(value, self))
        return self.convert_text(value)

    def convert_text(self, text: str) -> int | str:
        """Return a text that matches as the field keeps it."""
        return text

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.number().schema(), {"type": "string", "pattern": self.pattern()}]}


class Patience(_CountField):
    """A number of epochs, or ``"N steps"``."""

    expected = "a whole number of epochs of at least 0, or 'N steps'"

    def number(self) -> Number:
        return Number(minimum=0, whole=True)

    def pattern(self) -> str:
        return _pattern(rf"{_POSITIVE}{_WHOLE}\s*{_STEPS}")


class Batches(_CountField):
    """A number of batches, or a length that says its unit."""

    expected = "a number of batches of at least 10, or a length such as '2 epochs'"

    def number(self) -> Number:
        return Number(minimum=10, whole=True)

    def pattern(self) -> str:
        return _pattern(
            rf"{_POSITIVE}{_AT_LEAST_TEN}\s*{_STEPS}", rf"{_POSITIVE}{_AMOUNT}\s*{_EPOCHS}"
        )


class WholeEpochs(_CountField):
    """A whole number of epochs, which the field keeps as a number."""

    expected = "a whole number of epochs of at least 1, such as 10 or '10 epochs'"

    def number(self) -> Number:
        return Number(minimum=1, whole=True)

    def pattern(self) -> str:
        return _pattern(rf"{_POSITIVE}{_WHOLE}\s*{_EPOCHS}")

    def convert_text(self, text: str) -> int:
        return int(parse_length(text)[0])


Length = Annotated[float | int | str, LengthField()]
"""A length: a number of epochs, ``"5 epochs"``, ``"2000 steps"``, ``"30%"`` or ``"rest"``."""

Timescale = Annotated[float | int | str, LengthField(timescale=True)]
"""A length that cannot be ``"rest"``."""

LengthOrZero = Annotated[float | int | str, LengthField(zero=True)]
"""The length of a part that is left out if the length is 0."""

TimescaleOrZero = Annotated[float | int | str, LengthField(timescale=True, zero=True)]
"""The length of a part that is left out if the length is 0; it cannot be ``"rest"``."""
