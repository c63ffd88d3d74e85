"""Types of the fields of a callback: each checks a value and says what it expected.

A field is declared with its type, as in ``initial_lr: PositiveRate``. Checks, errors, configs and
their schema follow from the type.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import re
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np

from keras_lr._files import URL, path_text
from keras_lr._hints import nearest_name_hint

_NUMERAL = re.compile(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*")
_AS_TEXT = ", not text (readers of YAML 1.1 take 1e-3 for text; write 1.0e-3)"


class FieldType:
    """Type of a field; the base class of all types that fields are annotated with.

    Your own type says in ``expected`` what it accepts, and checks it in `convert`:

    >>> from typing import Annotated
    >>> import numpy as np
    >>> from keras_lr.schedules import FieldType, Schedule, schedule
    >>> class Note(FieldType):
    ...     expected = "a musical note, one of A to G"
    ...
    ...     def convert(self, value):
    ...         if value not in tuple("ABCDEFG"):
    ...             raise ValueError(self.expected)
    ...         return value
    >>> @schedule
    ... class Tuned(Schedule):
    ...     note: Annotated[str, Note()]
    ...
    ...     def value(self, step, timeline):
    ...         return np.full(step.shape, "ABCDEFG".index(self.note) / 10)
    >>> Tuned("C")(0)
    0.2
    >>> Tuned("H")
    Traceback (most recent call last):
    ValueError: Tuned: argument `note` must be a musical note, one of A to G. Received: note='H'
    """

    expected: str
    """What the field accepts, in words that follow "must be"."""

    def convert(self, value: Any) -> Any:
        """Return ``value`` as the field keeps it.

        Raises:
            TypeError: If the value has the wrong type.
            ValueError: If the value has the right type but is out of range.
        """
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what a config may hold."""
        return {"description": self.expected}


@dataclasses.dataclass(eq=False, repr=False)
class Number(FieldType):
    """A finite real number within bounds.

    Args:
        minimum: The least value.
        maximum: The greatest value.
        above: A bound that the value must exceed.
        below: A bound that the value must stay below.
        whole: Whether it must be a whole number; the field then keeps an int.

    >>> Number(minimum=1, whole=True).convert(3.0)
    3
    >>> Number(above=0.0, maximum=1.0).expected
    'a finite number above 0 and at most 1'
    >>> Number(minimum=1, maximum=1_000_000, whole=True).expected
    'a whole number from 1 to 1,000,000'
    """

    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    whole: bool = False

    @property
    def expected(self) -> str:  # type: ignore[override]
        """What the field takes, in words."""
        noun = "a whole number" if self.whole else "a finite number"
        if math.isfinite(self.minimum) and math.isfinite(self.maximum):
            return f"{noun} from {_bound_text(self.minimum)} to {_bound_text(self.maximum)}"
        bounds = [
            f"{words} {_bound_text(bound)}"
            for words, bound in (
                ("of at least", self.minimum),
                ("above", self.above),
                ("of at most", self.maximum),
                ("below", self.below),
            )
            if math.isfinite(bound)
        ]
        return " ".join([noun, " and ".join(bounds).replace("and of", "and")]).strip()

    def convert(self, value: Any) -> float | int:
        value = without_dimensions(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            as_text = isinstance(value, str) and _NUMERAL.fullmatch(value)
            raise TypeError(self.expected + (_AS_TEXT if as_text else ""))
        number = as_float(value)
        exact = value if isinstance(value, int) else number  # a bound may be its nearest float
        inside = self.minimum <= exact <= self.maximum and self.above < exact < self.below
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
        # An integer may be too large for a float.
        if not known.keys() & {"minimum", "exclusiveMinimum"}:
            known["minimum"] = -sys.float_info.max
        if not known.keys() & {"maximum", "exclusiveMaximum"}:
            known["maximum"] = sys.float_info.max
        return {"type": "integer" if self.whole else "number", **known}


def _bound_text(bound: float) -> str:
    """Return a bound as a message shows it."""
    return f"{bound:,.0f}" if bound == int(bound) and abs(bound) < 1e15 else f"{bound:g}"


LARGEST_RATE = 3.4028234663852886e38
"""The largest number of float32, in which optimizers keep their rates."""


class RateField(Number):
    """A number that an optimizer can keep as its learning rate."""

    def convert(self, value: Any) -> float | int:
        value = without_dimensions(value)
        rate = super().convert(value)
        if (value if isinstance(value, int) else rate) > LARGEST_RATE:
            raise ValueError(f"a rate of at most {LARGEST_RATE:.5g}, the largest that float32 has")
        return rate

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "maximum": LARGEST_RATE}


@dataclasses.dataclass(eq=False, repr=False)
class Choice(FieldType):
    """One of a few words.

    >>> Choice(("linear", "cosine")).convert("linear")
    'linear'
    """

    words: tuple[str, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        """What the field takes, in words."""
        return "one of " + ", ".join(repr(word) for word in self.words)

    def convert(self, value: Any) -> str:
        if value not in self.words:
            hint = nearest_name_hint(value, self.words, quote="'").replace(" Did", " (did")
            raise ValueError(f"{self.expected}{hint})" if hint else self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


class Bool(FieldType):
    """True or False.

    >>> Bool().convert(True)
    True
    """

    expected = "True or False"

    def convert(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Text(FieldType):
    """A string that is not empty, such as a name.

    >>> Text().convert("val_loss")
    'val_loss'
    """

    expected = "a string that is not empty"

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(self.expected)
        if not value:
            raise ValueError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclasses.dataclass(eq=False, repr=False)
class Path(FieldType):
    """The path of a file, kept as a string."""

    expected: str = "the path of a file"

    def convert(self, value: Any) -> str:
        try:
            path = path_text(value)
        except TypeError:
            raise TypeError(self.expected) from None
        except ValueError:
            is_url = "\0" not in os.fsdecode(value)
            reason = "on this machine, not a URL" if is_url else "without null characters"
            raise ValueError(f"{self.expected} {reason}") from None
        if not path:
            raise ValueError(self.expected)
        return path

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?!{URL})[^\\u0000]+$"}


@dataclasses.dataclass(eq=False, repr=False)
class ListOf(FieldType):
    """A list of values of one type, kept as a tuple.

    Args:
        item: The type of each value.
        at_least: The least number of values.
        exactly: The number of values, where it is fixed.

    >>> ListOf(Number(minimum=0.0), exactly=2).convert([0.85, 0.95])
    (0.85, 0.95)
    """

    item: FieldType
    at_least: int = 0
    exactly: int | None = None

    @property
    def expected(self) -> str:  # type: ignore[override]
        """What the field takes, in words."""
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
        """Return whether a list of ``count`` values is neither too short nor too long."""
        return count >= self.at_least if self.exactly is None else count == self.exactly

    def schema(self) -> dict[str, Any]:
        size = {"minItems": self.at_least if self.exactly is None else self.exactly}
        most = {} if self.exactly is None else {"maxItems": self.exactly}
        return {"type": "array", "items": self.item.schema(), **size, **most}


@dataclasses.dataclass(eq=False, repr=False)
class Optional(FieldType):
    """A value of a type, or None.

    >>> Optional(Number()).convert(None)
    >>> Optional(Number()).expected
    'a finite number, or None'
    """

    item: FieldType

    @property
    def expected(self) -> str:  # type: ignore[override]
        """What the field takes, in words."""
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


class OptimizerReference(FieldType):
    """An optimizer of a model: the name of the attribute that holds it, or the object itself."""

    expected = "the name of the model's attribute that holds an optimizer, or the optimizer"

    def convert(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "learning_rate"):
            raise TypeError(self.expected)
        if value == "":
            raise ValueError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


def check_optimizer_is_named(owner: str, optimizer: Any) -> None:
    """Refuse to write an optimizer that is given as an object to a config.

    Raises:
        ValueError: If the optimizer is given as an object.
    """
    if not isinstance(optimizer, str | None):
        raise ValueError(
            f"{owner}: an optimizer given as an object cannot be saved. Give the name of the "
            f"model's attribute instead. Received: optimizer={optimizer!r}"
        )


Rate = Annotated[float, RateField(minimum=0.0)]
"""A learning rate: not negative, and at most the largest number of float32."""

OptionalRate = Annotated[float | None, Optional(RateField(minimum=0.0))]
"""A learning rate, or None."""

PositiveRate = Annotated[float, RateField(above=0.0)]
"""A learning rate above zero, and at most the largest number of float32."""

Positive = Annotated[float, Number(above=0.0)]
"""A finite number above zero."""

DecayFactor = Annotated[float, Number(above=0.0, maximum=1.0)]
"""A factor that does not grow: above 0, at most 1."""


def without_dimensions(value: Any) -> Any:
    """Return the number in an array without dimensions; any other value as it is."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def as_float(value: Any) -> float:
    """Return a number as a float; infinity if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def safe_repr(value: Any) -> str:
    """Return the repr of a value, or a description of an integer that is too long for Python."""
    try:
        return repr(value)
    except ValueError:
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else "?"


def check(owner: str, name: str, field_type: FieldType, value: Any, shown: Any = None) -> Any:
    """Return ``value`` as a field keeps it, or raise an error that names the argument."""
    try:
        return field_type.convert(value)
    except (TypeError, ValueError) as error:
        received = safe_repr(value if shown is None else shown)
        raise type(error)(
            f"{owner}: argument `{name}` must be {error}. Received: {name}={received}"
        ) from None
