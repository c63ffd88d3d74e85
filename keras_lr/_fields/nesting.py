"""Recursive functions with their own stack, so that objects may be nested without limit.

A schedule built in a loop may be thousands of levels deep, but Python's own stack ends at a
thousand calls. A nested function is a generator: instead of a recursive call, it yields a `call`,
and is sent the result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Nested = Generator["_Call", Any, R]
"""The generator of a nested function that returns an ``R``."""

_GENERATORS: dict[Any, Callable[..., Nested[Any]]] = {}
"""The generator function of each nested function."""


class _Call(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def call(function: Callable[..., Any], *arguments: Any) -> _Call:
    """Return the object that a nested function yields instead of ``function(*arguments)``."""
    return _Call(function, arguments)


def nested(function: Callable[P, Nested[R]]) -> Callable[P, R]:
    """Turn a generator function into a plain function that recurses without Python's stack.

    >>> @nested
    ... def depth(pair):
    ...     return 0 if pair is None else 1 + (yield call(depth, pair[1]))
    >>> pair = None
    >>> for number in range(100_000):
    ...     pair = (number, pair)
    >>> depth(pair)
    100000
    """

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        return _run(function(*arguments, **options))

    _GENERATORS[run] = function
    return run


def _run(outermost: Nested[R]) -> R:
    stack: list[Nested[Any]] = [outermost]
    answer: Any = None
    error: BaseException | None = None
    try:
        while stack:
            try:
                innermost = stack[-1]
                wanted = innermost.send(answer) if error is None else innermost.throw(error)
            except StopIteration as end:
                stack.pop()
                answer, error = end.value, None
                continue
            except BaseException as raised:
                stack.pop()
                answer, error = None, raised
                continue
            answer, error = None, None
            begun = _begin(wanted)
            if begun is not None:
                stack.append(begun)
                continue
            try:
                answer = wanted.function(*wanted.arguments)
            except BaseException as raised:
                error = raised
        if error is not None:
            raise error
        return answer
    finally:
        # The traceback of the error holds this frame.
        del error


def _begin(wanted: _Call) -> Nested[Any] | None:
    """Return the generator of a nested function; None for a function of another kind."""
    function = wanted.function
    generator = _GENERATORS.get(getattr(function, "__func__", function))
    if generator is None:
        return None
    bound = getattr(function, "__self__", None)
    return generator(*wanted.arguments) if bound is None else generator(bound, *wanted.arguments)
