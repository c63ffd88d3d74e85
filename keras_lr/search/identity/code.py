"""What the code of functions and classes uses, and which values it changes while it runs."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

CHANGING = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "extendleft",
        "fill",
        "insert",
        "pop",
        "popitem",
        "popleft",
        "put",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "subtract",
        "update",
        "write",
        "writelines",
    }
)
"""Methods that change the container that they belong to."""

CONSTRUCTION = frozenset(("__init__", "__new__", "__post_init__", "__setstate__"))

_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF")


class Change(NamedTuple):
    """A value that code changes: a name, or an attribute of what the name stands for."""

    name: str
    attribute: str | None
    is_set: bool
    """Whether an attribute is set to a new value, which may be the same in each run."""


def functions_of(value: Any) -> list[types.FunctionType]:
    """Return the functions of an attribute of a class, such as those of a property."""
    if isinstance(value, property):
        found: list[Any] = [value.fget, value.fset, value.fdel]
    elif isinstance(value, functools.cached_property):
        found = [value.func]
    else:
        found = [getattr(value, "__func__", value)]
    return [one for one in found if isinstance(one, types.FunctionType)]


def names_used(function: types.FunctionType) -> dict[str, Any]:
    """Return the global and enclosing values that a function uses, by name."""
    found = {
        name: function.__globals__[name]
        for name in sorted(_global_names(function.__code__))
        if name in function.__globals__ and not name.startswith("__")
    }
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return found


def all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Iterate over a code and those of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from all_codes(constant)


def attributes_used(code: types.CodeType) -> set[str]:
    """Return the names of all attributes and global values that a code uses."""
    return {name for one in all_codes(code) for name in one.co_names}


def _global_names(code: types.CodeType) -> set[str]:
    return {
        one.argval
        for part in all_codes(code)
        for one in dis.get_instructions(part)
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }


@functools.cache
def changes(code: types.CodeType) -> frozenset[Change]:
    """Return what a code changes while it runs, as far as its instructions show."""
    return frozenset(one for part in all_codes(code) for one in _changes(part))


@functools.cache
def state_of(cls: type) -> frozenset[str]:
    """Return the attributes that methods of a class change after its construction.

    An argument of the constructor is a setting, even if a method sets it again.
    """
    methods: list[tuple[str, types.CodeType]] = []
    arguments: set[str] = set()
    for one in cls.__mro__[:-1]:
        for name, value in vars(one).items():
            codes = [function.__code__ for function in functions_of(value)]
            methods += [(name, code) for code in codes]
            if name in CONSTRUCTION:
                arguments |= {argument for code in codes for argument in _arguments(code)}
    helpers = _helpers(methods)
    found = set()
    for name, code in methods:
        own = {*code.co_varnames[:1], cls.__name__}
        for change in changes(code):
            if change.name not in own or change.attribute is None or name in helpers:
                continue
            if not (change.is_set and change.attribute.lstrip("_") in arguments):
                found.add(change.attribute)
    return frozenset(found)


def _arguments(code: types.CodeType) -> tuple[str, ...]:
    return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def _helpers(methods: list[tuple[str, types.CodeType]]) -> set[str]:
    """Return the methods that construct an object, with those that nothing else calls."""
    names = {name for name, _ in methods}
    found = set(CONSTRUCTION)
    while True:
        inside = {one for name, code in methods if name in found for one in attributes_used(code)}
        others = [code for name, code in methods if name not in found]
        outside = {one for code in others for one in attributes_used(code)}
        more = (names & inside) - outside - found
        if not more:
            return found
        found |= more


def _changes(code: types.CodeType) -> Iterator[Change]:
    """Iterate over what a code changes, without the functions defined in it."""
    steps = list(dis.get_instructions(code))
    for place, step in enumerate(steps):
        name = step.opname
        before = steps[place - 1].opname if place else ""
        following = steps[place + 1].opname if place + 1 < len(steps) else ""
        target: tuple[str, str | None] | None = None
        if name in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            name in ("STORE_DEREF", "DELETE_DEREF") and step.argval in code.co_freevars
        ):
            target = step.argval, None
        elif name in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in CHANGING:
            target = _root(steps, place - 1)
        elif name in ("STORE_ATTR", "DELETE_ATTR"):
            owner = _root(steps, place - 1)
            if owner is not None:
                is_own = owner[1] is None
                yield Change(owner[0], step.argval if is_own else owner[1], is_own)
        elif name == "COPY" and following in ("LOAD_ATTR", "LOAD_METHOD"):  # x.a += 1
            owner = _root(steps, place - 1)
            target = owner and (owner[0], owner[1] or steps[place + 1].argval)
        elif (name == "COPY" == following and step.arg == 2) or (
            name in ("STORE_SUBSCR", "DELETE_SUBSCR") and before != "SWAP"
        ):
            target = _root(steps, _start(steps, place - 1) - 1)
        if target is not None:
            yield Change(*target, False)


def _root(steps: list[dis.Instruction], place: int) -> tuple[str, str | None] | None:
    """Return the name, and the attribute of it, from which an instruction takes its result."""
    if place < 0:
        return None
    step = steps[place]
    if step.opname in _LOADS or "LOAD_FAST" in step.opname:
        return (step.argval[-1] if isinstance(step.argval, tuple) else step.argval), None
    if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
        owner = _root(steps, place - 1)
        return owner and (owner[0], owner[1] or step.argval)
    if step.opname == "BINARY_SUBSCR" or step.argrepr == "[]":
        return _root(steps, _start(steps, place - 1) - 1)
    return None


def _start(steps: list[dis.Instruction], place: int) -> int:
    """Return the first instruction of the expression that ends with an instruction."""
    missing = 1
    while place > 0:
        missing -= dis.stack_effect(steps[place].opcode, steps[place].arg, jump=False)
        if missing <= 0:
            break
        place -= 1
    return place
