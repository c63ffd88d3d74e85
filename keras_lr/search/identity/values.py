"""Description of any value, which is the same in each process that runs the same program.

It has no addresses, and no order that a hash decides. Of a value that changes while a program runs,
it has only what the program begins with.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import functools
import hashlib
import pathlib
import re
import types
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_lr._keras.model_layers import layers_in
from keras_lr.callback import LearningRateCallback
from keras_lr.search.identity.code import (
    CHANGING,
    attributes_used,
    changes,
    functions_of,
    names_used,
    state_of,
)
from keras_lr.search.identity.origin import is_installed, is_opaque, package_of

DEEPEST = 60
"""Levels of nesting that are described. Of what lies deeper, only the type is."""

_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, np.generic)
_SHOWN = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, np.dtype, range, slice)
_OF_A_FIT = ("params", "timeline")
"""Attributes that the last fit has left in a callback."""
_ALL: frozenset[str | None] = frozenset()
_COUNTED = re.compile(r"_\d+$")
"""End of a name that Keras gave: how many objects of the class there are in the process."""


def digest(text: str | bytes) -> str:
    """Return a short hash."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def describe(value: Any) -> str:
    """Return text that identifies a value in each process that runs the same program.

    - Containers, arrays and tensors are described by their contents, files by their type.
    - Functions of the user are described by their bytecode and the values that it uses, down to the
      user's functions that they call. Functions of installed packages are described by their name
      and the values that they enclose.
    - Keras's objects are described by their configuration, and other objects by their class and
      their attributes.
    - What code changes while it runs is state and left out: names and attributes that functions and
      methods assign or change, apart from those that a constructor takes as arguments. So are the
      values of variables and random generators.
    """
    return _Description().of(value)


class _Description:
    """Descriptions of values, each made once, so that shared and circular values end."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool, frozenset[str | None]], str] = {}
        self._kept: list[Any] = []  # so that no other object takes the address of a known one
        self._open: dict[int, int] = {}

    def of(self, value: Any, called: bool = False, without: frozenset[str | None] = _ALL) -> str:
        """Return the description of a value.

        Args:
            value: The value.
            called: Whether code refers to it by a global name.
            without: Attributes to leave out.
        """
        if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            return f"{type(value).__name__} {value!r}"
        key = (id(value), called, without)
        if key in self._known:
            return self._known[key]
        if id(value) in self._open:
            return f"circle {len(self._open) - self._open[id(value)]}"
        if len(self._open) >= DEEPEST:
            return type(value).__name__
        self._open[id(value)] = len(self._open)
        try:
            text = self._describe(value, called, without)
        except Exception:  # code of the value, such as a property, has raised
            text = type(value).__qualname__
        finally:
            del self._open[id(value)]
        self._kept.append(value)
        self._known[key] = digest(text)
        return self._known[key]

    def _describe(self, value: Any, called: bool, without: frozenset[str | None]) -> str:
        kind = type(value).__name__
        match value:
            case list() | tuple() | collections.deque():
                return f"{kind} {[self.of(one) for one in value]}"
            case set() | frozenset() | collections.abc.KeysView():
                return f"{kind} {sorted(map(self.of, value))}"
            case Mapping():
                return f"{kind} {sorted((self.of(k), self.of(v)) for k, v in value.items())}"
            case types.CodeType():
                return self._code(value)
            case types.FunctionType():
                return self._function(value, called)
            case types.MethodType():
                return f"method {self.of(value.__func__, called)} {self.of(value.__self__)}"
            case functools.partial():
                return f"partial {[self.of(one) for one in (value.func, value.args)]} " + self.of(
                    value.keywords
                )
            case type():
                return self._class(value)
            case types.ModuleType():
                return f"module {value.__name__}"
            case enum.Enum():
                return f"{kind} {value.name}"
            case pathlib.PurePath():
                return f"{kind} {value}"
            case re.Pattern():
                return f"{kind} {value.pattern!r} {value.flags}"
        if isinstance(value, _SHOWN):
            return f"{kind} {value!r}"
        array = self._array(value)
        if array is not None:
            return f"{kind} {array}"
        if callable(value) and not hasattr(value, "__dict__"):
            return self._foreign_function(value)
        if is_function_around(value):
            return f"{kind} {self.of(function_inside(value), called)}"
        return self._object(value, without)

    def _array(self, value: Any) -> str | None:
        """Return the shape and the contents of an array, without those of a variable."""
        if isinstance(value, keras.Variable) or hasattr(value, "assign_add"):
            return f"variable {tuple(value.shape)} {value.dtype}"
        if getattr(value, "requires_grad", None) is True:
            return f"variable {tuple(value.shape)} {value.dtype}"
        if not isinstance(value, np.ndarray):
            if keras.ops.is_tensor(value):
                value = keras.ops.convert_to_numpy(value)
            elif hasattr(value, "__array__") and not isinstance(value, keras.KerasTensor):
                value = np.asarray(value)
            else:
                return None
        if value.dtype == object:
            content = self.of(value.tolist())
        else:
            content = digest(np.ascontiguousarray(value).tobytes())
        return f"{value.shape} {value.dtype} {content}"

    # Code -----------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType, called: bool) -> str:
        name = f"{function.__module__}.{function.__qualname__}"
        defaults = self.of([function.__defaults__, function.__kwdefaults__])
        if is_installed(function):
            if called:
                return name
            cells = {
                k: self._used(function, k, v)
                for k, v in names_used(function).items()
                if k in function.__code__.co_freevars
            }
            return f"{name} {defaults} {cells}"
        used = {name: self._used(function, name, v) for name, v in names_used(function).items()}
        return f"{self.of(function.__code__)} {defaults} {sorted(used.items())}"

    def _used(self, function: types.FunctionType, name: str, value: Any) -> str:
        """Return the description of a value that a function uses, without what it changes."""
        changed = {one.attribute for one in changes(function.__code__) if one.name == name}
        if None in changed:
            return "state"
        if isinstance(value, types.ModuleType) and not is_installed(value):
            names = sorted((attributes_used(function.__code__) & vars(value).keys()) - changed)
            found = [(one, self.of(vars(value)[one], called=True)) for one in names]
            return f"module {value.__name__} {found}"
        return self.of(value, True, frozenset(changed))

    def _code(self, code: types.CodeType) -> str:
        arguments = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        handlers = code.co_exceptiontable.hex()
        constants = [self.of(one) for one in code.co_consts]
        return f"{code.co_code.hex()} {arguments} {code.co_flags} {names} {handlers} {constants}"

    def _foreign_function(self, function: Any) -> str:
        """Return the description of a function that is written in C."""
        if is_function_around(function):
            return f"{type(function).__name__} {self.of(function_inside(function))}"
        name = getattr(function, "__qualname__", getattr(function, "__name__", ""))
        owner = getattr(function, "__self__", None)
        text = f"{type(function).__name__} {getattr(function, '__module__', '')} {name}"
        is_state = isinstance(owner, types.ModuleType) or name.rpartition(".")[2] in CHANGING
        return text if is_state else f"{text} {self.of(owner)}"

    def _class(self, cls: Any) -> str:
        name = f"class {cls.__module__}.{cls.__qualname__}"
        if is_installed(cls):
            return name
        parts = [f"{name} {[self.of(base) for base in cls.__bases__]}"]
        state = state_of(cls)
        for key, value in sorted(vars(cls).items()):
            functions = functions_of(value)
            if functions:
                parts.append(f"{key} {[self.of(one) for one in functions]}")
            elif not key.startswith("__") and key not in state:
                parts.append(f"{key} {self.of(value)}")
        return "\n".join(parts)

    # Objects --------------------------------------------------------------------------------------

    def _object(self, value: Any, without: frozenset[str | None]) -> str:
        cls: Any = type(value)
        text = self.of(cls)
        if isinstance(value, keras.random.SeedGenerator):
            return text  # its seed is drawn where none is given
        config = self._config(value)
        if config is not None:
            text += f" {config}"
            if is_installed(cls):
                return text
        elif is_opaque(cls):
            return text
        is_partly_private = config is not None or package_of(cls) == "keras_lr"
        left_out = state_of(cls) | without
        found = []
        for name, one in sorted(_attributes(value).items()):
            if name in left_out or (is_partly_private and name.startswith("_")):
                continue
            if isinstance(value, keras.callbacks.Callback) and name in _OF_A_FIT:
                continue
            found.append((name, self.of(one)))
        return f"{text} {found}"

    def _config(self, value: Any) -> str | None:
        """Return the configuration of an object, without names and identities of a process."""
        if isinstance(value, LearningRateCallback) or not hasattr(value, "get_config"):
            return None  # the configuration of ours has functions by name
        layers = [value, *layers_in(value)] if isinstance(value, keras.Layer) else []
        names = {layer.name: f"layer {place}" for place, layer in enumerate(layers)}
        functions = [one.function for one in layers if isinstance(one, keras.layers.Lambda)]
        try:
            return f"{self.of(_without_names(value.get_config(), names))} {self.of(functions)}"
        except Exception:  # many classes of users have none
            return None


def is_function_around(value: Any) -> bool:
    """Return whether a value is a compiled or cached function around a function."""
    return callable(value) and function_inside(value) is not None


def function_inside(value: Any) -> Any:
    """Return the function in a compiled or cached one; None if there is none."""
    found = getattr(value, "__wrapped__", None) or getattr(value, "python_function", None)
    return found if isinstance(found, types.FunctionType | types.MethodType) else None


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _without_names(config: Any, names: Mapping[str, str]) -> Any:
    """Return a configuration without the names that Keras counts and the identities of objects."""
    if isinstance(config, str):
        return names.get(config, config)
    if isinstance(config, list | tuple):
        return [_without_names(one, names) for one in config]
    if not isinstance(config, Mapping):
        return config
    if config.get("class_name") == "__lambda__":
        return "lambda"  # its dump differs between processes
    found = {}
    for key, value in config.items():
        if key == "name" and isinstance(value, str):
            value = names.get(value) or _COUNTED.sub("", value)
        if key != "shared_object_id":
            found[key] = _without_names(value, names)
    return found
