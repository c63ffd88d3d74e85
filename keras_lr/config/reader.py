"""Reader of configs: builds the objects that plain data describes.

A mapping with one key names the class, and its value holds the arguments::

    {"callbacks": [{"Warmup": {"schedule": {"CosineDecay": {"initial_lr": 0.1}}, "over": 5}}]}

A config is data. Nothing in it is evaluated or imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_lr._fields.kinds import FieldType, ListOf, Optional
from keras_lr._fields.nesting import Nested, call, nested
from keras_lr._hints import nearest_name_hint
from keras_lr.callbacks.layer_fields import FactorField, FactorsField
from keras_lr.config.conflicts import find_conflicts
from keras_lr.config.plain import IN_MEMORY, Limits, plain_data
from keras_lr.config.problems import MAX_PROBLEMS, ConfigError, Place, Problem, short
from keras_lr.config.registry import (
    CALLBACKS,
    REQUIRED,
    ClassSpec,
    class_specs,
    functions,
    keras_class_specs,
)
from keras_lr.schedules.base import Schedule, ScheduleField
from keras_lr.schedules.function import FunctionField, KerasSchedule, ScaleField

LineOf = Callable[[Place], int]
"""Function that returns the line in a file of a place in its config."""

_OWN_CLASS = "A class of your own: @keras_lr.register"
_OWN_FUNCTION = "A function of your own: @keras_lr.register, and its name as a string"

_FAILED: Any = object()
"""Placeholder for an object that could not be built; the reason is among the problems."""


def from_config(config: Any) -> Any:
    """Return the objects that a config describes.

    Args:
        config: A mapping with one key: the name of a class, or ``"callbacks"`` with a list. Any
            type of mapping is accepted, including OmegaConf's.

    Returns:
        One object, or for ``"callbacks"`` a list.

    Raises:
        ConfigError: If the config is wrong; it holds all errors.

    >>> from_config({"CosineDecay": {"initial_lr": 0.1, "over": "20 epochs"}})
    CosineDecay(initial_lr=0.1, over='20 epochs')
    >>> from_config({"callbacks": [{"Constant": {"lr": 0.1}}, {"LRHistory": {}}]})
    [Constant(lr=0.1), LRHistory(no steps)]
    """
    return read_config(config)


def read_config(
    config: Any,
    file: str | None = None,
    line_of: LineOf | None = None,
    limits: Limits = IN_MEMORY,
) -> Any:
    """Return the objects that a config describes.

    Args:
        config: The config.
        file: Name of its file, for errors.
        line_of: Function that returns the line of a place in the file.
        limits: How large the config may be.
    """
    reader = _Reader(line_of)
    try:
        made = reader.read_config(plain_data(config, limits))
    except ConfigError as error:
        raise ConfigError(error.problems, file) from None
    if reader.problems:
        raise ConfigError(reader.problems, file)
    return made


class _Reader:
    """Builds the objects of a config and gathers its errors."""

    def __init__(self, line_of: LineOf | None) -> None:
        self.line_of = line_of
        self.problems: list[Problem] = []
        self.specs_of: dict[type, dict[str, ClassSpec]] = {}

    def fail(self, place: Place, message: str) -> Any:
        """Note an error."""
        line = None if self.line_of is None else self.line_of(place)
        self.problems.append(Problem(str(place), message, line))
        if len(self.problems) >= MAX_PROBLEMS:
            more = Problem("", f"the first {MAX_PROBLEMS} errors; there may be more")
            raise ConfigError([*self.problems, more])
        return _FAILED

    def fail_value(self, place: Place, expected: str, value: Any) -> Any:
        """Note that a value is not what was expected."""
        return self.fail(place, f"must be {expected}. Received: {short.repr(value)}")

    def read_config(self, data: Any) -> Any:
        """Read a whole config."""
        top = Place()
        if not isinstance(data, dict) or CALLBACKS not in data:
            for name, value in data.items() if isinstance(data, dict) else ():
                hint = nearest_name_hint(name, [CALLBACKS])
                if hint and isinstance(value, list):  # which no class takes
                    return self.fail(top.at(name), f"unknown key.{hint}")
            return self.read_object(data, top, object, "a class")
        for name in data:
            if name != CALLBACKS:
                self.fail(top.at(name), f"unknown key next to `{CALLBACKS}`")
        listed = data[CALLBACKS]
        if not isinstance(listed, list):
            return self.fail_value(top.at(CALLBACKS), "a list of callbacks", listed)
        made = [
            self.read_object(one, top.at(CALLBACKS, i), keras.callbacks.Callback, "a callback")
            for i, one in enumerate(listed)
        ]
        for conflict in find_conflicts(made):
            first, second = (
                top.at(CALLBACKS, i, *listed[i], *inside)
                for i, *inside in (conflict.first, conflict.second)
            )
            self.fail(
                second,
                f"drives {conflict.number} of the same optimizer as {first}, which no fit accepts. "
                "Keep one, join schedules in a Product or a Sequence, or name another `optimizer` "
                "in a ParamScheduler",
            )
        return made

    def specs(self, wanted: type) -> dict[str, ClassSpec]:
        """Return the classes that a config may name where it needs an instance of ``wanted``."""
        if wanted not in self.specs_of:
            known = keras_class_specs() if wanted is KerasSchedule else class_specs()
            fitting = {name: one for name, one in known.items() if issubclass(one.cls, wanted)}
            self.specs_of[wanted] = fitting
        return self.specs_of[wanted]

    @nested
    def read_object(self, data: Any, place: Place, wanted: type, noun: str) -> Nested[Any]:
        """Read a mapping with one key, which names a class whose objects are ``wanted``."""
        known = self.specs(wanted)
        expected = f"a mapping with one key, the name of {noun}"
        if not isinstance(data, dict):
            named = known.get(data) if isinstance(data, str) else None
            hint = "" if named is None else f"; write {named.example}"
            return self.fail_value(place, expected + hint, data)
        if len(data) != 1:
            first = next(iter(data), None)
            if first in known and data[first] is None:
                expected += f", {first}; indent its arguments further"
            return self.fail_value(place, expected, data)
        ((name, arguments),) = data.items()
        place = place.at(name)
        if name not in known:
            how = _OWN_FUNCTION if wanted is KerasSchedule else _OWN_CLASS
            hint = nearest_name_hint(name, known) or f" Known: {', '.join(sorted(known))}. {how}"
            return self.fail(place, f"unknown name of {noun}.{hint}")
        return (yield call(self.build, known[name], arguments, place))

    @nested
    def build(self, spec: ClassSpec, data: Any, place: Place) -> Nested[Any]:
        """Read the arguments of a class and build an object of it."""
        values = {}
        if spec.list_argument is not None and isinstance(data, list):
            item_type = spec.arguments[spec.list_argument].type
            values[spec.list_argument] = yield call(self.read_value, item_type, data, place)
        elif isinstance(data, dict | None):
            for name, value in (data or {}).items():
                values[name] = yield call(self.read_argument, spec, name, value, place.at(name))
        else:
            return self.fail_value(place, "a mapping of arguments to values", data)
        missing = [
            self.fail(place, f"the argument `{name}` is missing: {argument.type.expected}")
            for name, argument in spec.arguments.items()
            if name not in values and argument.default is REQUIRED
        ]
        if missing or any(value is _FAILED for value in values.values()):
            return _FAILED
        try:
            return spec.build(values)
        except Exception as error:  # Keras or a registered class may raise anything
            words = " ".join(str(error).split())[:300] or type(error).__name__
            return self.fail(place, words.removeprefix(f"{spec.cls.__name__}: "))

    @nested
    def read_argument(self, spec: ClassSpec, name: Any, data: Any, place: Place) -> Nested[Any]:
        """Read one argument."""
        if name in spec.arguments:
            return (yield call(self.read_value, spec.arguments[name].type, data, place))
        if spec.others is not None and isinstance(name, str):
            return (yield call(self.read_value, spec.others, data, place))
        known = ", ".join(spec.arguments) or "none"
        hint = nearest_name_hint(name, spec.arguments)
        return self.fail(place, f"unknown argument.{hint} Known: {known}")

    @nested
    def read_value(
        self, field_type: FieldType, data: Any, place: Place, also: str = ""
    ) -> Nested[Any]:
        """Read a value of a type; ``also`` tells errors what else it may be."""
        if isinstance(field_type, Optional):
            if _is_none(field_type, data):
                return None
            return (yield call(self.read_value, field_type.item, data, place, ", or none"))
        if isinstance(field_type, FactorsField):
            return (yield call(self.read_factors, field_type, data, place))
        if isinstance(field_type, ScheduleField) or (
            isinstance(field_type, FactorField) and isinstance(data, dict)
        ):
            return (yield call(self.read_object, data, place, Schedule, "a schedule"))
        if isinstance(field_type, ScaleField) and not isinstance(data, str):
            return (yield call(self.read_object, data, place, Schedule, "a schedule"))
        if isinstance(field_type, FunctionField | ScaleField):
            return (yield call(self.read_function, data, place))
        if isinstance(field_type, ListOf):
            if not isinstance(data, list) or not field_type.fits(len(data)):
                return self.fail_value(place, field_type.expected + also, data)
            items = []
            for i, item in enumerate(data):
                items.append((yield call(self.read_value, field_type.item, item, place.at(i))))
            return _FAILED if any(item is _FAILED for item in items) else items
        try:
            return field_type.convert(data)
        except OverflowError:
            return self.fail_value(place, field_type.expected + also, data)
        except (TypeError, ValueError) as error:
            return self.fail_value(place, f"{error}{also}", data)

    @nested
    def read_factors(self, field_type: FactorsField, data: Any, place: Place) -> Nested[Any]:
        """Read the factor of each part of a model."""
        if not isinstance(data, dict) or not data or not all(isinstance(key, str) for key in data):
            return self.fail_value(place, field_type.expected, data)
        factors = {}
        for key, value in data.items():
            factors[key] = yield call(self.read_value, field_type.item, value, place.at(key))
        return _FAILED if any(one is _FAILED for one in factors.values()) else factors

    @nested
    def read_function(self, data: Any, place: Place) -> Nested[Any]:
        """Read the name of a registered function, or a Keras schedule."""
        known = functions()
        if not isinstance(data, str):
            return (yield call(self.read_object, data, place, KerasSchedule, "a Keras schedule"))
        if data in known:
            return known[data]
        names = ", ".join(sorted(known)) or "none"
        return self.fail(
            place,
            f"unknown function {short.repr(data)}.{nearest_name_hint(data, known)} "
            f"Registered: {names}. Decorate the function with @keras_lr.register before the config "
            "is read",
        )


def _is_none(field_type: Optional, data: Any) -> bool:
    """Return whether a value means None; in TOML, which has no null, "none" means it."""
    if data is None:
        return True
    if not isinstance(data, str) or data not in ("none", "None"):
        return False
    try:
        field_type.item.convert(data)
    except (TypeError, ValueError):
        return True
    return False
