"""Fingerprint of a sweep: everything that determines its results, as plain data to compare."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import textwrap
import types
from typing import Any

import keras
import numpy as np

from keras_lr._keras.fits.fit_data import are_arrays
from keras_lr.search.engines.base import Rehearsal
from keras_lr.search.trials.problem import DATA, Problem

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)


def fingerprint(
    problem: Problem, rehearsal: Rehearsal, stops: tuple[int, ...], subset: float | None
) -> dict[str, Any]:
    """Return everything that determines the results of trials, under names that users know.

    What only determines which trials there are is left out, so that a sweep can be extended. Nested
    dicts have an entry for each size and optimizer; later runs may have more of them.

    Args:
        problem: What is trained.
        rehearsal: The rehearsal, with descriptions of the models.
        stops: Epochs after which trials are compared.
        subset: Share of the rows to train on.
    """
    fit = {name: repr(value) for name, value in problem.fit.items() if name not in DATA}
    return {
        "backend": keras.backend.backend(),
        "epochs": problem.epochs,
        "halving": list(stops),
        "monitor": problem.monitor,
        "mode": problem.mode,
        "until": str(problem.target or ""),
        "subset": subset,
        "arguments of fit": fit,
        **{name: digest(describe_data(problem.fit.get(name))) for name in DATA},
        "test_data": digest(describe_data(problem.test_data)),
        "schedule": digest(describe_function(problem.schedule)),
        "callbacks": digest(describe_callbacks(problem.callbacks)),
        "build": {
            f"build {size}".strip(): digest(describe_function(build))
            for size, build in problem.builds.items()
        },
        "model": {str(group): digest(model) for group, model in rehearsal.models.items()},
        "optimizer": {
            name: json.dumps(_without_rate(optimizer.get_config()), default=repr, sort_keys=True)
            for name, optimizer in problem.optimizers.items()
        },
    }


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of the entries that differ; one that only one side has does not count."""
    found = []
    for name in before.keys() & now.keys():
        one, other = before[name], now[name]
        if name in ("build", "model", "optimizer"):
            shared = one.keys() & other.keys()
            found += [
                f"{name} of {part}" if name == "model" else part
                for part in shared
                if one[part] != other[part]
            ]
        elif one != other:
            found.append(name)
    if "epochs" in found and "halving" in found:
        found.remove("halving")  # the epochs of its comparisons are shares of all epochs
    return sorted(found)


def digest(text: str | bytes) -> str:
    """Return a short hash."""
    data = text.encode() if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _without_rate(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("learning_rate", "name")}


def describe_data(data: Any) -> str:
    """Return text that identifies data: the contents of arrays, or the type and size of others."""
    if data is None:
        return ""
    if are_arrays(data):
        leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(data) if leaf is not None]
        return json.dumps([[leaf.shape, str(leaf.dtype), _content(leaf)] for leaf in leaves])
    size = len(data) if hasattr(data, "__len__") else "?"
    return f"{type(data).__name__} {size} {getattr(data, 'element_spec', '')}"


def _content(array: np.ndarray) -> str:
    if array.dtype == object:
        return digest(repr(array.tolist()))
    return digest(np.ascontiguousarray(array).tobytes())


def describe_callbacks(callbacks: Any) -> str:
    """Return text that identifies callbacks, as far as their attributes show."""
    if callable(callbacks):
        return describe_function(callbacks)
    return "\n".join(f"{type(one).__name__} {_plain_attributes(one)}" for one in callbacks)


def _plain_attributes(value: Any) -> str:
    return repr(sorted((k, repr(v)) for k, v in vars(value).items() if isinstance(v, _PLAIN)))


def describe_function(function: Any, depth: int = 3) -> str:
    """Return text that identifies what a function does, whatever its comments and formatting.

    It consists of the function's code, the plain values that it uses from outside, and the user's
    functions that it calls, down to some depth.
    """
    if function is None:
        return ""
    if isinstance(function, functools.partial):
        arguments = _describe_value([function.args, function.keywords], 0)
        return f"{describe_function(function.func, depth)} {arguments}"
    function = inspect.unwrap(function)
    if isinstance(function, types.MethodType):
        owner = _describe_value(function.__self__, 0)
        return f"{describe_function(function.__func__, depth)} {owner}"
    if not isinstance(function, types.FunctionType):
        return _describe_value(function, 0)
    parts = [_describe_code(function), repr(function.__defaults__), repr(function.__kwdefaults__)]
    for name, value in sorted(_names_used(function).items()):
        parts.append(f"{name}={_describe_value(value, depth)}")
    return "\n".join(parts)


def _describe_value(value: Any, depth: int) -> str:
    """Return text that identifies a value, without its address."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({[_describe_value(one, depth) for one in value]})"
    if isinstance(value, dict):
        return repr({str(key): _describe_value(one, depth) for key, one in value.items()})
    if isinstance(value, np.ndarray):
        return describe_data(value)
    if isinstance(value, types.FunctionType) and depth and _is_users(value):
        return describe_function(value, depth - 1)
    if isinstance(value, types.ModuleType | type | types.FunctionType):
        return value.__name__
    attributes = _plain_attributes(value) if hasattr(value, "__dict__") else ""
    return f"{type(value).__name__} {attributes}"


def _is_users(function: types.FunctionType) -> bool:
    package = (function.__module__ or "").partition(".")[0]
    return package not in ("keras", "keras_lr", "numpy", "tensorflow", "jax", "torch")


def _names_used(function: types.FunctionType) -> dict[str, Any]:
    """Return the global and enclosing values that a function uses, by name."""
    code = function.__code__
    found = {
        name: function.__globals__[name]
        for name in _global_names(code)
        if name in function.__globals__
    }
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return found


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _describe_code(function: types.FunctionType) -> str:
    """Return the parsed source of a function, or its bytecode if there is no source."""
    if function.__name__ != "<lambda>":
        try:
            source = textwrap.dedent(inspect.getsource(function))
            return ast.dump(ast.parse(source))
        except (OSError, TypeError, SyntaxError):
            pass
    return _describe_bytecode(function.__code__)


def _describe_bytecode(code: types.CodeType) -> str:
    constants = [
        _describe_bytecode(one) if isinstance(one, types.CodeType) else repr(one)
        for one in code.co_consts
    ]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"
