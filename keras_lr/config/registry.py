"""Registry of the names in configs: this package's classes, Keras's schedules, users' objects.

Nothing else can be built from a config, so a config remains plain data.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, overload

import keras
import numpy as np

from keras_lr._fields.configurable import Configurable, field_types
from keras_lr._fields.kinds import (
    LARGEST_RATE,
    Bool,
    FieldType,
    ListOf,
    Number,
    Optional,
    Text,
)
from keras_lr._keras.rates.keras_schedules import schedule_values
from keras_lr.adaptive import distance, hypergradient, prodigy
from keras_lr.callbacks import plateau
from keras_lr.callbacks.layer_fields import FactorField, FactorsField
from keras_lr.callbacks.layer_rates import LayerDecay, LayerRates
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.history.callback import PATH, LRHistory
from keras_lr.range_test import callback as range_test
from keras_lr.schedules import combinators, cyclic, decay, function, stages
from keras_lr.schedules.base import Schedule, ScheduleField
from keras_lr.schedules.function import KerasSchedule, arity
from keras_lr.schedules.in_graph import InGraph

T = TypeVar("T", bound=Callable[..., Any])

REQUIRED: Any = inspect.Parameter.empty
CALLBACKS = "callbacks"
"""The key at the top of a config file."""

_registered: dict[str, Any] = {}


class Argument(NamedTuple):
    """The type of an argument, and its default."""

    type: FieldType
    default: Any = REQUIRED


@dataclasses.dataclass(frozen=True)
class ClassSpec:
    """The form of a class in a config."""

    name: str
    cls: type
    arguments: dict[str, Argument]
    build: Callable[[dict[str, Any]], Any]
    values: Callable[[Any], dict[str, Any]]
    others: FieldType | None = None
    """The type of arguments whose names are not fixed; None if all names are fixed."""

    @property
    def required(self) -> list[str]:
        """The arguments without a default."""
        return [name for name, one in self.arguments.items() if one.default is REQUIRED]

    @property
    def example(self) -> str:
        """The class in a config with nothing but the arguments that it must have."""
        return f"{self.name}: {{{', '.join(f'{name}: ...' for name in self.required)}}}"

    @property
    def list_argument(self) -> str | None:
        """The argument whose list may be written instead of all arguments."""
        match [(name, self.arguments[name].type) for name in self.required]:
            case [(name, ListOf(item=ScheduleField()))]:
                return name
        return None


@dataclasses.dataclass(frozen=True)
class Plain(FieldType):
    """Plain data: the type of all arguments of a registered Keras schedule."""

    expected: str = "a number, true or false, none, text, or a list of these"

    def convert(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, list | tuple):
            return [self.convert(item) for item in value]
        if not isinstance(value, bool | int | float | str | None):
            raise TypeError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/plain"}


PLAIN_SCHEMA = {
    "anyOf": [
        {"type": ["number", "boolean", "null", "string"]},
        {"type": "array", "items": {"$ref": "#/$defs/plain"}},
    ]
}
"""The JSON Schema of plain data."""


@overload
def register(thing: str) -> Callable[[T], T]: ...
@overload
def register(thing: T) -> T: ...
def register(thing: Any) -> Any:
    """Register a function or a class of yours under a name for configs; a decorator.

    Args:
        thing: A function for `Function`, a class made by `keras_lr.schedules.schedule`, or a Keras
            ``LearningRateSchedule``. Or the name to use in configs, by default its own.

    Raises:
        TypeError: If ``thing`` is none of these.
        ValueError: If the name is taken by something else.

    >>> from keras_lr import Function, from_config, to_config
    >>> @register
    ... def halving(epoch):
    ...     return 0.1 * 0.5**epoch
    >>> to_config(Function(halving))
    {'Function': {'fn': 'halving'}}
    >>> from_config({"Function": {"fn": "halving"}}).values(epochs=2, steps_per_epoch=1)
    array([0.1 , 0.05])
    >>> @register("steep")
    ... def f(epoch):
    ...     return 0.1**epoch
    """
    if isinstance(thing, str):
        return functools.partial(_register, thing)
    return _register(getattr(thing, "__name__", ""), thing)


def _register(name: str, thing: T) -> T:
    if isinstance(thing, type):
        if not (issubclass(thing, KerasSchedule) or is_configurable(thing)):
            raise TypeError(
                "register: a class must be made by keras_lr.schedules.schedule or derive from "
                f"keras.optimizers.schedules.LearningRateSchedule. Received: {thing!r}"
            )
    elif not callable(thing):
        raise TypeError(f"register: must decorate a function or a class. Received: {thing!r}")
    else:
        arity(thing)
    if not name or name == "<lambda>":
        raise ValueError(f"register: {thing!r} has no name; pass one: register('name')(...)")
    taken = _registered.get(name, _package_specs().get(name) or _keras_specs().get(name))
    # A notebook's cell may run twice.
    if (taken is not None and _origin(taken) != _origin(thing)) or name in (CALLBACKS, "InGraph"):
        raise ValueError(f"register: the name {name!r} is taken. Choose another: register('name')")
    _registered[name] = thing
    return thing


def _origin(thing: Any) -> tuple[Any, Any]:
    return getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)


def is_configurable(cls: type) -> bool:
    """Return whether the fields of a class are its whole config."""
    return issubclass(cls, Configurable) and "_field_types" in vars(cls)


def class_specs() -> dict[str, ClassSpec]:
    """Return the form of each class, by name."""
    users = {name: cls for name, cls in _classes() if is_configurable(cls)}
    return _package_specs() | {name: _spec(name, cls) for name, cls in users.items()}


def keras_class_specs() -> dict[str, ClassSpec]:
    """Return the form of each Keras schedule inside `Function`, by name."""
    users = {name: cls for name, cls in _classes() if issubclass(cls, KerasSchedule)}
    return _keras_specs() | {name: _keras_spec(name, cls, True) for name, cls in users.items()}


def functions() -> dict[str, Callable]:
    """Return the registered functions by name."""
    return {name: fn for name, fn in _registered.items() if not isinstance(fn, type)}


def _classes() -> Iterator[tuple[str, type]]:
    return ((name, cls) for name, cls in _registered.items() if isinstance(cls, type))


@functools.cache
def _package_specs() -> dict[str, ClassSpec]:
    found = {
        name: _spec(name, cls)
        for module in (
            *(decay, cyclic, stages, combinators, function),
            *(plateau, range_test, hypergradient, distance, prodigy),
        )
        for name, cls in vars(module).items()
        if isinstance(cls, type) and cls.__module__ == module.__name__ and is_configurable(cls)
    }
    path = Argument(PATH, None)
    paths = dict.fromkeys(inspect.signature(LRHistory).parameters, path)
    found["LRHistory"] = ClassSpec(
        "LRHistory",
        LRHistory,
        paths,
        build=lambda values: LRHistory(**values),
        values=lambda history: {name: getattr(history, name) for name in paths},
    )
    optimizer = Argument(Optional(Text()), None)
    for cls, arguments in (
        (
            LayerRates,
            {"factors": Argument(FactorsField()), "default": Argument(FactorField(), 1.0)},
        ),
        (
            LayerDecay,
            {
                "factor": Argument(Number(above=0.0, maximum=1.0)),
                "blocks": Argument(Text()),
            },
        ),
    ):
        found[cls.__name__] = ClassSpec(
            cls.__name__,
            cls,
            arguments | {"optimizer": optimizer},
            build=functools.partial(_call, cls),
            values=cls.arguments,
        )
    found["ParamScheduler"] = ClassSpec(
        "ParamScheduler",
        ParamScheduler,
        {"optimizer": optimizer},
        build=lambda values: ParamScheduler(**values),
        values=lambda one: {"optimizer": one.optimizer, **one.schedules},
        others=ScheduleField(),
    )
    return found


def _call(cls: type, values: dict[str, Any]) -> Any:
    return cls(**values)


def _spec(name: str, cls: type[Configurable]) -> ClassSpec:
    fields = {cls.arguments.get(field, field): field for field in field_types(cls)}
    defaults = {argument: p.default for argument, p in inspect.signature(cls).parameters.items()}
    return ClassSpec(
        name,
        cls,
        {
            argument: Argument(field_types(cls)[field], defaults[argument])
            for argument, field in fields.items()
        },
        build=lambda values: cls(**values),
        values=lambda thing: {
            argument: getattr(thing, field) for argument, field in fields.items()
        },
    )


@functools.cache
def _keras_specs() -> dict[str, ClassSpec]:
    return {
        name: _keras_spec(name, cls)
        for name, cls in vars(keras.optimizers.schedules).items()
        if isinstance(cls, type) and issubclass(cls, KerasSchedule) and cls is not KerasSchedule
    }


def _keras_spec(name: str, cls: type, foreign: bool = False) -> ClassSpec:
    """Return the form of a Keras schedule; the types of a ``foreign`` one are not known."""
    parameters = inspect.signature(cls).parameters
    arguments = {
        name: Argument(Plain() if foreign else _keras_type(name, p.default), p.default)
        for name, p in parameters.items()
    }

    def build(values: dict[str, Any]) -> Any:
        made = cls.from_config(values)  # type: ignore[attr-defined]
        if foreign:
            # A user's class may not check its arguments until the first step.
            schedule_values(made, np.zeros(1, np.int64))
        return made

    return ClassSpec(
        name,
        cls,
        arguments,
        build=build,
        values=lambda thing: thing.get_config(),
    )


def _keras_type(name: str, default: Any) -> FieldType:
    """Return the type of an argument of one of Keras's own schedules."""
    if name in ("boundaries", "values"):
        return ListOf(Number(minimum=-LARGEST_RATE, maximum=LARGEST_RATE), at_least=1)
    if isinstance(default, bool):
        return Bool()
    if isinstance(default, str):
        return Text()
    if name.endswith("decay_steps"):
        return Number(above=0.0, maximum=LARGEST_RATE)
    number = Number(minimum=-LARGEST_RATE, maximum=LARGEST_RATE)
    return Optional(number) if default is None else number


def spec_of(thing: Any) -> tuple[str, ClassSpec]:
    """Return the name and spec of an object of this package or of a registered class.

    Raises:
        TypeError: If it has none; the message says what to do.
    """
    known = keras_class_specs() if isinstance(thing, KerasSchedule) else class_specs()
    for name, spec in known.items():
        if spec.cls is type(thing):
            return name, spec
    if isinstance(thing, InGraph):
        raise TypeError(
            "a config cannot hold an InGraph; give its schedule, and call in_graph on what "
            "from_config returns"
        )
    if isinstance(thing, Schedule | Configurable | KerasSchedule):
        raise TypeError(
            f"the class {type(thing).__name__} is not known to configs; decorate it with "
            "@keras_lr.register"
        )
    raise TypeError("a config can hold the callbacks of keras_lr and registered classes only")
