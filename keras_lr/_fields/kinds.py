"""What the fields of a callback may hold: each kind checks a value and says what it expected.

A field is declared with its kind, ``initial_lr: PositiveRate``, and the kind is all that the
checks, the errors and the config need to know about it.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import re
from collections.abc import Iterable
from typing import Annotated, Any

from keras_lr._hints import nearest_name_hint

_NUMERAL = re.compile(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*")
_AS_TEXT = ", not text (readers of YAML 1.1 take 1e-3 for text; write 1.0e-3)"


class FieldType:
    """What a field may hold. ``convert`` returns the value to keep, or raises."""

    expected: str

    def convert(self, value: Any) -> Any:
        """Return ``value`` in the form that the field keeps.

        Raises:
            TypeError: If the value has the wrong type.
            ValueError: If the value has the right type and is out of range.
        """
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what a config may say."""
        return {"description": self.expected}


@dataclasses.dataclass(frozen=True)
class Number(FieldType):
    """A finite real number within bounds; ``above`` and ``below`` exclude the bound itself."""

    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    whole: bool = False

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        noun = "a whole number" if self.whole else "a finite number"
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (
                ("of at least", self.minimum),
                ("above", self.above),
                ("of at most", self.maximum),
                ("below", self.below),
            )
            if math.isfinite(bound)
        ]
        return " ".join([noun, " and ".join(bounds)]).strip()

    def convert(self, value: Any) -> float | int:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            as_text = isinstance(value, str) and _NUMERAL.fullmatch(value)
            raise TypeError(self.expected + (_AS_TEXT if as_text else ""))
        number = real(value)
        inside = self.minimum <= number <= self.maximum and self.above < number < self.below
        if not (math.isfinite(number) and inside) or (self.whole and number != int(number)):
            raise ValueError(self.expected)
        return int(number) if self.whole else number

    def schema(self) -> dict[str, Any]:
        bounds = {
            "minimum": self.minimum,
            "exclusiveMinimum": self.above,
            "maximum": self.maximum,
            "exclusiveMaximum": self.below,
        }
        known = {name: bound for name, bound in bounds.items() if math.isfinite(bound)}
        return {"type": "integer" if self.whole else "number", **known}


@dataclasses.dataclass(frozen=True)
class Choice(FieldType):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        return "one of " + ", ".join(repr(word) for word in self.words)

    def convert(self, value: Any) -> str:
        if value not in self.words:
            hint = nearest_name_hint(value, self.words, quote="'").replace(" Did", " (did")
            raise ValueError(f"{self.expected}{hint})" if hint else self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclasses.dataclass(frozen=True)
class Bool(FieldType):
    """True or False."""

    expected: str = "True or False"

    def convert(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclasses.dataclass(frozen=True)
class Text(FieldType):
    """A name."""

    expected: str = "a string that is not empty"

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(self.expected)
        if not value:
            raise ValueError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclasses.dataclass(frozen=True)
class Path(FieldType):
    """The path of a file, kept as a string."""

    expected: str = "the path of a file"

    def convert(self, value: Any) -> str:
        if not isinstance(value, str | os.PathLike):
            raise TypeError(self.expected)
        if not os.fspath(value):
            raise ValueError(self.expected)
        return os.fspath(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclasses.dataclass(frozen=True)
class ListOf(FieldType):
    """A list of values of one type, kept as a tuple."""

    item: FieldType
    at_least: int = 0
    exactly: int | None = None

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        if self.exactly is not None:
            return f"a list of exactly {self.exactly}, each {self.item.expected}"
        size = f" of at least {self.at_least}" if self.at_least else ""
        return f"a list{size}, each {self.item.expected}"

    def convert(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TypeError(self.expected)
        items = tuple(value)
        if not self.fits(len(items)):
            raise ValueError(self.expected)
        return tuple(self.item.convert(item) for item in items)

    def fits(self, count: int) -> bool:
        """Return whether a list may have so many values."""
        return count >= self.at_least if self.exactly is None else count == self.exactly

    def schema(self) -> dict[str, Any]:
        size = {"minItems": self.at_least if self.exactly is None else self.exactly}
        most = {} if self.exactly is None else {"maxItems": self.exactly}
        return {"type": "array", "items": self.item.schema(), **size, **most}


@dataclasses.dataclass(frozen=True)
class Optional(FieldType):
    """A value of a type, or None."""

    item: FieldType

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        return f"{self.item.expected}, or None"

    def convert(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.item.convert(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, or None") from None

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.schema(), {"type": "null"}, {"enum": ["none", "None"]}]}


Rate = Annotated[float, Number(minimum=0.0)]
"""A learning rate: finite, not negative."""

PositiveRate = Annotated[float, Number(above=0.0)]
"""A learning rate above zero."""

Positive = Annotated[float, Number(above=0.0)]
"""A finite number above zero."""

DecayFactor = Annotated[float, Number(above=0.0, maximum=1.0)]
"""A factor that does not grow: above 0, at most 1."""


def real(value: Any) -> float:
    """Return a number as a float: infinity where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check(owner: str, name: str, field_type: FieldType, value: Any, shown: Any = None) -> Any:
    """Return ``value`` as a field keeps it, or raise an error that names the argument."""
    try:
        return field_type.convert(value)
    except (TypeError, ValueError) as error:
        received = value if shown is None else shown
        raise type(error)(
            f"{owner}: argument `{name}` must be {error}. Received: {name}={received!r}"
        ) from None
