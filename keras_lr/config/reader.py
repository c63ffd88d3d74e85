"""Configs: callbacks as plain data, in one form for YAML, TOML, JSON and Python mappings.

A mapping with one key names the class, and its value holds the arguments::

    {"callbacks": [{"Warmup": {"schedule": {"CosineDecay": {"initial_lr": 0.1}}, "over": 5}}]}

A config is data. Nothing in it is evaluated or imported.
"""

from __future__ import annotations

import reprlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import keras

from keras_lr._fields.kinds import FieldType, ListOf, Optional
from keras_lr._hints import nearest_name_hint
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.config.registry import (
    CALLBACKS,
    REQUIRED,
    ClassSpec,
    forms,
    functions,
    keras_forms,
    name_of,
)
from keras_lr.range_test.callback import LRRangeTest
from keras_lr.schedules.base import Schedule, ScheduleField
from keras_lr.schedules.function import FunctionField, KerasSchedule

Where = tuple[str | int, ...]

MOST_LEVELS = 150
"""Levels of lists and mappings in a config; what Python's stack carries with room to spare."""

MOST_VALUES = 50_000
MOST_PROBLEMS = 100

OWN = "optimizer"
"""The attribute of a model that holds its own optimizer."""

_FAILED: Any = object()
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlevel = 3


class Problem(NamedTuple):
    """One error of a config."""

    path: str
    message: str
    line: int | None = None


class ConfigError(ValueError):
    """A config is wrong. The message holds all its errors, one a line.

    Attributes:
        problems: The errors, each with ``path``, ``message`` and ``line``.
        file: The file, or None.

    >>> from keras_lr import from_config
    >>> try:
    ...     from_config({"CosineDecay": {"inital_lr": 0.1, "over": -3}})
    ... except ConfigError as error:
    ...     print(error)  # doctest: +ELLIPSIS
    CosineDecay.inital_lr: unknown argument. Did you mean `initial_lr`? Known: initial_lr, ...
    CosineDecay.over: must be a positive length: 5 (epochs), ... Received: -3
    CosineDecay: the argument `initial_lr` is missing: a finite number of at least 0
    """

    def __init__(self, problems: Sequence[Problem], file: str | None = None) -> None:
        """Keep the errors."""
        super().__init__(problems, file)
        self.problems = list(problems)
        self.file = file

    def __str__(self) -> str:
        """Return one line for each error: file, line, path inside, and what is wrong."""
        lines = []
        for path, message, line in self.problems:
            place = ":".join(str(part) for part in (self.file, line) if part is not None)
            lines.append(": ".join(part for part in (place, path, message) if part))
        return "\n".join(lines)


def from_config(config: Any) -> Any:
    """Return what a config describes.

    Args:
        config: A mapping with one key: the name of a class, or ``"callbacks"`` above a list. Any
            mapping will do, among them OmegaConf's.

    Returns:
        One object, or for ``"callbacks"`` a list.

    Raises:
        ConfigError: If the config is wrong; it holds all errors.

    >>> from_config({"CosineDecay": {"initial_lr": 0.1, "over": "20 epochs"}})
    CosineDecay(initial_lr=0.1, over='20 epochs')
    >>> from_config({"callbacks": [{"Constant": {"lr": 0.1}}, {"LRHistory": {}}]})
    [Constant(lr=0.1), LRHistory(no steps)]
    """
    return read(config)


def to_config(thing: Any) -> dict[str, Any]:
    """Return the config of a callback, or of a list of callbacks, as plain data.

    What an object records or keeps while it runs is no part of it. Arguments that have their
    default are left out.

    Args:
        thing: A callback, a schedule, an `LRRangeTest`, or a list of them.

    Raises:
        ConfigError: If it cannot be written, such as a `Function` of a lambda.

    >>> from keras_lr import CosineDecay, LinearDecay
    >>> to_config(LinearDecay(0.0, 0.1, over="5 epochs") >> CosineDecay(0.1))
    {'Sequence': [{'LinearDecay': {'initial_lr': 0.0, 'final_lr': 0.1, 'over': '5 epochs'}},
    {'CosineDecay': {'initial_lr': 0.1}}]}
    """
    try:
        if isinstance(thing, list | tuple):
            written = {CALLBACKS: [_write(one, (CALLBACKS, i)) for i, one in enumerate(thing)]}
        else:
            written = _write(thing, ())
    except RecursionError:
        _refuse((), f"must be nested at most {MOST_LEVELS} levels deep")
    return copied(written)


def read(config: Any, file: str | None = None, line: Callable[[Where], int] | None = None) -> Any:
    """Return what a config describes.

    Args:
        config: The config.
        file: Name of the file that it stands in, for errors.
        line: Gives the line of a place in the file.
    """
    reader = _Reader(line)
    try:
        made = reader.top(copied(config))
    except ConfigError as error:
        raise ConfigError(error.problems, file) from None
    if reader.problems:
        raise ConfigError(reader.problems, file)
    return made


def copied(data: Any) -> Any:
    """Return mappings and sequences of any type as dicts and lists.

    Raises:
        ConfigError: If there are too many levels or values, or one cannot be had.
    """
    count = 0

    def copy(value: Any, where: Where) -> Any:
        nonlocal count
        count += 1
        if len(where) > MOST_LEVELS:
            _refuse(where[:6], f"must be nested at most {MOST_LEVELS} levels deep")
        if count > MOST_VALUES:
            _refuse((), f"must hold at most {MOST_VALUES} values in all, repeated ones included")
        if isinstance(value, Mapping):
            return {key: copy(_item(value, key, where), (*where, key)) for key in value}
        if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
            return [copy(_item(value, i, where), (*where, i)) for i in range(len(value))]
        return value

    return copy(data, ())


def _item(container: Any, key: Any, where: Where) -> Any:
    try:
        return container[key]
    except Exception as error:  # OmegaConf's missing values and interpolations, among others
        _refuse((*where, key), str(error).strip().partition("\n")[0])


def _refuse(where: Where, message: str) -> NoReturn:
    raise ConfigError([Problem(path_text(where), message)])


def path_text(where: Where) -> str:
    """Return a place inside a config as text.

    >>> path_text(("callbacks", 0, "Sequence", 1, "CosineDecay", "over"))
    'callbacks[0].Sequence[1].CosineDecay.over'
    """
    text = ""
    for key in where:
        if isinstance(key, str) and key.isidentifier() and len(key) <= 100:
            text += f".{key}" if text else key
        else:
            text += f"[{_short.repr(key)}]"
    return text


class _Reader:
    """Builds the objects of a config and gathers its errors."""

    def __init__(self, line: Callable[[Where], int] | None) -> None:
        self.line = line
        self.problems: list[Problem] = []

    def fail(self, where: Where, message: str) -> Any:
        """Note an error."""
        line = None if self.line is None else self.line(where)
        self.problems.append(Problem(path_text(where), message, line))
        if len(self.problems) >= MOST_PROBLEMS:
            more = Problem("", f"the first {MOST_PROBLEMS} errors; there may be more")
            raise ConfigError([*self.problems, more])
        return _FAILED

    def wrong(self, where: Where, expected: str, value: Any) -> Any:
        """Note that a value is not what was expected."""
        return self.fail(where, f"must be {expected}. Received: {_short.repr(value)}")

    def top(self, data: Any) -> Any:
        """Read a whole config."""
        if not isinstance(data, dict) or CALLBACKS not in data:
            return self.thing(data, (), object, "a class")
        for name in data:
            if name != CALLBACKS:
                self.fail((name,), f"unknown key beside `{CALLBACKS}`")
        if not isinstance(data[CALLBACKS], list):
            return self.wrong((CALLBACKS,), "a list of callbacks", data[CALLBACKS])
        made = [
            self.thing(one, (CALLBACKS, i), keras.callbacks.Callback, "a callback")
            for i, one in enumerate(data[CALLBACKS])
        ]
        self.distinct(data[CALLBACKS], made)
        return made

    def distinct(self, data: list[Any], made: list[Any]) -> None:
        """Note where two callbacks drive the same number of an optimizer, whatever the model."""
        # Where a ParamScheduler can move a momentum there is one, and OneCycle moves it too.
        known = [(whose, name) for one in made for whose, name, _ in _driven(one)]
        optimizer = types.SimpleNamespace(momentum=0.9 * ((OWN, "momentum") in known))
        first: dict[tuple[str, str], Where] = {}
        for i, one in enumerate(made):
            for whose, name, inside in _driven(one, optimizer):
                where = (CALLBACKS, i, *data[i], *inside)
                before = first.setdefault((whose, name), where)
                if before != where:
                    self.fail(
                        where,
                        f"drives {name} of the same optimizer as {path_text(before)}, which no fit "
                        "accepts. Keep one, join schedules in a Product or a Sequence, or name "
                        "another `optimizer` in a ParamScheduler",
                    )

    def thing(self, data: Any, where: Where, wanted: Any, noun: str) -> Any:
        """Read an object that is an instance of ``wanted``."""
        known = {name: form for name, form in forms().items() if issubclass(form.cls, wanted)}
        return self.named(data, where, known, noun, "A class of your own: @keras_lr.register")

    def named(
        self, data: Any, where: Where, known: dict[str, ClassSpec], noun: str, own: str
    ) -> Any:
        """Read a mapping with one key, which is the name of one of the ``known`` forms."""
        expected = f"a mapping with one key, the name of {noun}"
        if not isinstance(data, dict):
            hint = f"; write {data}: {{}}" if isinstance(data, str) and data in known else ""
            return self.wrong(where, expected + hint, data)
        if len(data) != 1:
            first = next(iter(data), None)
            if first in known and data[first] is None:
                expected += f", {first}; indent its arguments further"
            return self.wrong(where, expected, data)
        ((name, arguments),) = data.items()
        where = (*where, name)
        if name not in known:
            hint = nearest_name_hint(name, known) or f" Known: {', '.join(sorted(known))}. {own}"
            return self.fail(where, f"unknown name of {noun}.{hint}")
        return self.build(known[name], arguments, where)

    def build(self, form: ClassSpec, data: Any, where: Where) -> Any:
        """Read the arguments of a class and build it."""
        if form.alone is not None and isinstance(data, list):
            values = {form.alone: self.value(form.arguments[form.alone].kind, data, where)}
        elif isinstance(data, dict | None):
            values = {
                name: self.argument(form, name, value, (*where, name))
                for name, value in (data or {}).items()
            }
        else:
            return self.wrong(where, "a mapping of arguments to values", data)
        missing = [
            self.fail(where, f"the argument `{name}` is missing: {argument.kind.expected}")
            for name, argument in form.arguments.items()
            if name not in values and argument.default is REQUIRED
        ]
        if missing or any(value is _FAILED for value in values.values()):
            return _FAILED
        try:
            return form.build(values)
        except Exception as error:  # what Keras and a registered class may raise is not known
            words = " ".join(str(error).split())[:300] or type(error).__name__
            return self.fail(where, words.removeprefix(f"{form.cls.__name__}: "))

    def argument(self, form: ClassSpec, name: Any, data: Any, where: Where) -> Any:
        """Read one argument."""
        if name in form.arguments:
            return self.value(form.arguments[name].kind, data, where)
        if form.others is not None and isinstance(name, str):
            return self.value(form.others, data, where)
        known = ", ".join(form.arguments) or "none"
        hint = nearest_name_hint(name, form.arguments)
        return self.fail(where, f"unknown argument.{hint} Known: {known}")

    def value(self, kind: FieldType, data: Any, where: Where, also: str = "") -> Any:
        """Read a value of a kind."""
        if isinstance(kind, Optional):
            return None if _is_none(kind, data) else self.value(kind.kind, data, where, ", or none")
        if isinstance(kind, ScheduleField):
            return self.thing(data, where, Schedule, "a schedule")
        if isinstance(kind, FunctionField):
            return self.function(data, where)
        if isinstance(kind, ListOf):
            if not isinstance(data, list) or not kind.fits(len(data)):
                return self.wrong(where, kind.expected + also, data)
            items = [self.value(kind.item, item, (*where, i)) for i, item in enumerate(data)]
            return _FAILED if any(item is _FAILED for item in items) else items
        try:
            return kind.convert(data)
        except OverflowError:
            return self.wrong(where, kind.expected + also, data)
        except (TypeError, ValueError) as error:
            return self.wrong(where, f"{error}{also}", data)

    def function(self, data: Any, where: Where) -> Any:
        """Read the name of a registered function, or a Keras schedule."""
        known = functions()
        own = "A function of your own: @keras_lr.register, and its name as a string"
        if not isinstance(data, str):
            return self.named(data, where, keras_forms(), "a Keras schedule", own)
        if data in known:
            return known[data]
        names = ", ".join(sorted(known)) or "none"
        return self.fail(
            where,
            f"unknown function {_short.repr(data)}.{nearest_name_hint(data, known)} "
            f"Registered: {names}. Decorate the function with @keras_lr.register before the config "
            "is read",
        )


def _driven(callback: Any, optimizer: Any = None) -> Iterator[tuple[str, str, Where]]:
    """Iterate over what a callback drives: an optimizer's name, a number's, and the place inside.

    ``optimizer`` holds what is known of the model's own.
    """
    if isinstance(callback, ParamScheduler):
        for name in callback.schedules:
            yield callback.optimizer or OWN, name, (name,)
        return
    auto = isinstance(callback, LRRangeTest)
    schedule = callback.auto if auto else callback
    if isinstance(schedule, Schedule):
        try:
            moved = list(schedule.hyperparameter_schedules(optimizer))
        except Exception:  # a registered class may ask for more than is known here
            moved = []
        for name in moved:
            yield OWN, name, ("auto",) if auto else ()


def _is_none(kind: Optional, data: Any) -> bool:
    """Return whether a value says None; TOML, which has no null, can write "none"."""
    if data is None:
        return True
    if not isinstance(data, str) or data not in ("none", "None"):
        return False
    try:
        kind.kind.convert(data)
    except (TypeError, ValueError):
        return True
    return False


def _write(thing: Any, where: Where) -> dict[str, Any]:
    try:
        name, form = name_of(thing)
    except TypeError as error:
        _refuse(where, f"{error}. Received: {_short.repr(thing)}")
    where = (*where, name)
    values = {}
    for argument, value in form.values(thing).items():
        known = form.arguments.get(argument)
        if known is None or known.default is REQUIRED or value != known.default:
            values[argument] = _plain(value, (*where, argument))
    return {name: values[form.alone] if form.alone is not None else values}


def _plain(value: Any, where: Where) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item, (*where, i)) for i, item in enumerate(value)]
    if isinstance(value, Schedule | KerasSchedule):
        return _write(value, where)
    for name, known in functions().items():
        if known is value:
            return name
    if callable(value):
        _refuse(
            where,
            "a config can name registered functions only; define the function with def and "
            f"decorate it with @keras_lr.register. Received: {_short.repr(value)}",
        )
    item = value.item() if hasattr(value, "item") else value
    if not isinstance(item, bool | int | float | str | None):
        _refuse(where, f"a config cannot hold this. Received: {_short.repr(value)}")
    return item
