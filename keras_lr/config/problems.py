"""`ConfigError`: all errors in a config, each with its place."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from keras_lr._fields.kinds import safe_repr

Key = str | int

MAX_PROBLEMS = 100
"""Largest number of errors that are reported for one config."""


class _ShortRepr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Return an integer as text, even one with too many digits for Python."""
        return super().repr_int(x, level) if abs(x) < 10**1000 else safe_repr(x)


short = _ShortRepr()
"""Writes values in errors, short enough for one line."""
short.maxstring = short.maxother = 100
short.maxlevel = 3


class Place:
    """A place in a config, linked to the place around it: a tuple of keys would be copied often."""

    __slots__ = ("around", "key")

    def __init__(self, key: Key | None = None, around: Place | None = None) -> None:
        """Begin with the whole config."""
        self.key, self.around = key, around

    def at(self, *keys: Key) -> Place:
        """Return the place under further keys."""
        place = self
        for key in keys:
            place = Place(key, place)
        return place

    def path(self) -> list[Key]:
        """Return the keys that lead to the place, from the outside in."""
        found: list[Key] = []
        place = self
        while place.around is not None:
            found.append(place.key)  # type: ignore[arg-type]
            place = place.around
        return found[::-1]

    def __str__(self) -> str:
        """Return the place as text.

        >>> str(Place().at("callbacks", 0, "Sequence", 1, "CosineDecay", "over"))
        'callbacks[0].Sequence[1].CosineDecay.over'
        """
        parts = [f".{key}" if _is_word(key) else f"[{short.repr(key)}]" for key in self.path()]
        return "".join(parts).removeprefix(".")


def _is_word(key: Key) -> bool:
    return isinstance(key, str) and key.isidentifier() and len(key) <= 100


class Problem(NamedTuple):
    """One error of a config."""

    path: str
    message: str
    line: int | None = None


class ConfigError(ValueError):
    """Raised if a config is wrong. The message has all errors, one per line.

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


def refuse(place: Place, message: str) -> NoReturn:
    """Raise a `ConfigError` for a place."""
    raise ConfigError([Problem(str(place), message)])
