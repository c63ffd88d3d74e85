"""What the fields of a callback may hold: each kind checks a value and says what it expected.

A field is declared with its kind, ``initial_lr: PositiveRate``, and the kind is all that the
checks, the errors and the config need to know about it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import numbers
import os
import sys
from collections.abc import Iterable
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import keras

C = TypeVar("C", bound=type)


class Kind:
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
class Number(Kind):
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
            raise TypeError(self.expected)
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
class Choice(Kind):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        return "one of " + ", ".join(repr(word) for word in self.words)

    def convert(self, value: Any) -> str:
        if value not in self.words:
            near = difflib.get_close_matches(str(value), self.words, n=1)
            raise ValueError(self.expected + (f" (did you mean {near[0]!r}?)" if near else ""))
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclasses.dataclass(frozen=True)
class Flag(Kind):
    """True or False."""

    expected: str = "True or False"

    def convert(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclasses.dataclass(frozen=True)
class Text(Kind):
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
class Path(Kind):
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
class Many(Kind):
    """A list of values of one kind, kept as a tuple."""

    item: Kind
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
class Optional(Kind):
    """A value of a kind, or None."""

    kind: Kind

    @property
    def expected(self) -> str:  # type: ignore[override]
        """The words that an error uses."""
        return f"{self.kind.expected}, or None"

    def convert(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.kind.convert(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, or None") from None

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.kind.schema(), {"type": "null"}, {"enum": ["none", "None"]}]}


Rate = Annotated[float, Number(minimum=0.0)]
"""A learning rate: finite, not negative."""

PositiveRate = Annotated[float, Number(above=0.0)]
"""A learning rate above zero."""

Positive = Annotated[float, Number(above=0.0)]
"""A finite number above zero."""

Shrink = Annotated[float, Number(above=0.0, maximum=1.0)]
"""A factor that does not grow: above 0, at most 1."""


def real(value: Any) -> float:
    """Return a number as a float: infinity where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check(owner: str, name: str, kind: Kind, value: Any, shown: Any = None) -> Any:
    """Convert ``value`` by ``kind``, or raise an error that names owner, argument and value."""
    try:
        return kind.convert(value)
    except (TypeError, ValueError) as error:
        received = value if shown is None else shown
        raise type(error)(
            f"{owner}: argument `{name}` must be {error}. Received: {name}={received!r}"
        ) from None


def kinds_of(cls: type, names: dict[str, Any] | None = None) -> dict[str, Kind]:
    """Return the kind of every field of a class, in order.

    Args:
        cls: The class.
        names: What the annotations may refer to besides the globals of the class's module.
    """
    if "_kinds" in vars(cls):
        return cls._kinds  # type: ignore[attr-defined]
    hints = get_type_hints(cls, localns=names, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kinds = [arg for arg in get_args(hint)[1:] if isinstance(arg, Kind)]
        if get_origin(hint) is not Annotated or not kinds:
            raise TypeError(
                f"{cls.__name__}.{field.name} is declared as {hint}; "
                "declare it with a kind, such as `PositiveRate` or `Length`"
            )
        found[field.name] = kinds[0]
    cls._kinds = found  # type: ignore[attr-defined]
    return found


class Configurable:
    """A class whose dataclass fields are its whole config.

    Checks, equality, ``repr``, ``get_config``, ``from_config`` and pickling come from the fields.
    An object does not change after it is built; ``dataclasses.replace`` makes a changed one.
    """

    _ready: ClassVar[bool] = False
    arguments: ClassVar[dict[str, str]] = {}
    """Argument names of the fields that cannot bear them, because a method of that name exists."""

    def __post_init__(self) -> None:
        """Check every field, then let no field change."""
        for name, kind in kinds_of(type(self)).items():
            argument = self.arguments.get(name, name)
            setattr(self, name, check(type(self).__name__, argument, kind, getattr(self, name)))
        self.validate()
        super().__init__()
        self.__dict__["_ready"] = True

    def validate(self) -> None:
        """Check what involves several fields; raise `ValueError` through `invalid`."""

    def invalid(self, name: str, expected: str) -> ValueError:
        """Return the error for a field whose value does not go with the others."""
        argument = self.arguments.get(name, name)
        return ValueError(
            f"{type(self).__name__}: argument `{argument}` must be {expected}. "
            f"Received: {argument}={getattr(self, name)!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if self._ready and name in kinds_of(type(self)):
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot change after the object is built. "
                f"Make a new one: dataclasses.replace(schedule, {name}={value!r})"
            )
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(
            _comparable(getattr(self, name)) == _comparable(getattr(other, name))
            for name in kinds_of(type(self))
        )

    def __hash__(self) -> int:
        return hash((type(self), *(_hashable(getattr(self, n)) for n in kinds_of(type(self)))))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{self.arguments.get(field.name, field.name)}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.default is dataclasses.MISSING or field.default != getattr(self, field.name)
        )
        return f"{type(self).__name__}({shown})"

    def __getstate__(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in kinds_of(type(self))}
        return {**super().__getstate__(), **fields, "_ready": True}  # type: ignore[dict-item]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.validate()

    def get_config(self) -> dict[str, Any]:
        """Return the fields as plain data, nested objects serialised by Keras."""
        return {
            self.arguments.get(name, name): encode(getattr(self, name))
            for name in kinds_of(type(self))
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build an object from what `get_config` returned."""
        return cls(**{name: decode(value) for name, value in config.items()})


@dataclass_transform(eq_default=False)
def configured(cls: C, depth: int = 1) -> C:
    """Make a class of annotated fields one whose fields are its whole config.

    Args:
        cls: A subclass of `Configurable`.
        depth: How many calls up the class statement stands.
    """
    dataclasses.dataclass(eq=False, repr=False)(cls)
    # The class may stand in a function or a notebook, whose names its annotations use.
    caller = sys._getframe(depth)
    kinds_of(cls, {**caller.f_globals, **caller.f_locals})
    explain_arguments(cls)
    package = cls.__module__.partition(".")[0]
    return keras.saving.register_keras_serializable(package=package)(cls)


def explain_arguments(cls: type) -> None:
    """Make the constructor of ``cls`` answer an unknown argument with the nearest known one."""
    plain = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(plain)
    fields = {argument: field for field, argument in cls.arguments.items()}  # type: ignore[attr-defined]
    shown = [
        parameter.replace(name=cls.arguments.get(name, name))  # type: ignore[attr-defined]
        for name, parameter in signature.parameters.items()
    ]
    known = [parameter.name for parameter in shown[1:]]

    @functools.wraps(plain)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known and name not in signature.parameters:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean `{near[0]}`?" if near else ""
                raise TypeError(
                    f"{cls.__name__}: unknown argument `{name}`. Received: "
                    f"{name}={kwargs[name]!r}.{hint} Known: {', '.join(known)}"
                )
        # `dataclasses.replace` passes all fields by their own names, and the changes among them.
        own = {name: value for name, value in kwargs.items() if name not in fields}
        said = {fields[name]: value for name, value in kwargs.items() if name in fields}
        plain(self, *args, **own | said)

    init.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    cls.__init__ = init  # type: ignore[misc]


def encode(value: Any) -> Any:
    """Return a field's value as plain data."""
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return keras.saving.serialize_keras_object(value)


def decode(value: Any) -> Any:
    """Return the value that `encode` made plain."""
    if isinstance(value, list | tuple):
        return [decode(item) for item in value]
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value


def _comparable(value: Any) -> Any:
    """A stand-in that compares by content for Keras objects, which compare by identity."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return type(value), _listed(value.get_config())
    return value


def _hashable(value: Any) -> Any:
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return type(value), repr(_listed(value.get_config()))
    return value


def _listed(value: Any) -> Any:
    """Return a value with lists for tuples, which a config file cannot tell apart."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
