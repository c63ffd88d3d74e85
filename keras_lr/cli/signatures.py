"""Signatures of the schedules and callbacks, read from the source of this package.

Importing the classes would import Keras, which takes seconds.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras_lr

PACKAGE = Path(keras_lr.__file__).parent
MADE_BY = {"schedule", "configurable"}
"""Decorators of classes whose fields are arguments of the constructor."""


class ClassSummary(NamedTuple):
    """What `list` shows for a class."""

    name: str
    arguments: tuple[str, ...]
    """Each as it is written in a call, with its default."""
    summary: str
    """The first line of the docstring."""
    is_schedule: bool


def summarize_classes() -> list[ClassSummary]:
    """Return a summary of each public schedule and each public callback."""
    found = []
    for name in keras_lr.__all__:
        ancestry = list(_ancestry(name))
        bases = {ast.unparse(base) for cls in ancestry for base in cls.bases}
        if "keras.callbacks.Callback" in bases and name != "Schedule":
            summary = (ast.get_docstring(ancestry[0]) or "").partition("\n")[0].replace("``", "")
            found.append(ClassSummary(name, _arguments(ancestry), summary, "Schedule" in bases))
    return found


def _ancestry(name: str) -> Iterator[ast.ClassDef]:
    """Iterate over a class of this package and its ancestors in it, each before its own bases."""
    path = _files().get(name)
    if path is not None:
        definition = _definitions(path)[name]
        assert isinstance(definition, ast.ClassDef)
        yield definition
        for base in definition.bases:
            yield from _ancestry(ast.unparse(base))


@functools.cache
def _files() -> dict[str, Path]:
    """Return the file of each class of this package."""
    pattern = re.compile(r"^class (\w+)", re.MULTILINE)
    return {
        name: path
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    }


@functools.cache
def _definitions(path: Path) -> dict[str, ast.AST]:
    """Return the classes, values and imports at the top level of a file, by name."""
    found: dict[str, ast.AST] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
    return found


def _arguments(ancestry: list[ast.ClassDef]) -> tuple[str, ...]:
    """Return the arguments of a class, given with its ancestors."""
    for cls in ancestry:
        if any(ast.unparse(decorator) in MADE_BY for decorator in cls.decorator_list):
            return _fields(ancestry)
        for node in cls.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return _parameters(node.args, _files()[cls.name])
    return ()


def _fields(ancestry: list[ast.ClassDef]) -> tuple[str, ...]:
    """Return the fields of a class and its ancestors, as a dataclass orders them."""
    found, renamed = {}, {}
    for cls in reversed(ancestry):
        if not any(ast.unparse(decorator) in MADE_BY for decorator in cls.decorator_list):
            continue
        for node in cls.body:
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            name = node.target.id
            if name == "arguments":
                assert node.value is not None
                renamed = ast.literal_eval(node.value)
            elif ast.unparse(node.annotation).endswith("KW_ONLY"):
                found[name] = "*"
            elif not ast.unparse(node.annotation).startswith("ClassVar"):
                default = "" if node.value is None else f"={_text(node.value, _files()[cls.name])}"
                found[name] = renamed.get(name, name) + default
    return tuple(found.values())


def _parameters(arguments: ast.arguments, path: Path) -> tuple[str, ...]:
    """Return the parameters of an explicit constructor, without ``self``."""
    names = [argument.arg for argument in arguments.args]
    defaults = [""] * (len(names) - len(arguments.defaults))
    defaults += [f"={_text(default, path)}" for default in arguments.defaults]
    found = [name + default for name, default in zip(names, defaults, strict=True)][1:]
    if arguments.kwonlyargs:
        found.append("*")
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            found.append(argument.arg + ("" if default is None else f"={_text(default, path)}"))
    return (*found, *([f"**{arguments.kwarg.arg}"] if arguments.kwarg else []))


def _text(value: ast.AST, path: Path) -> str:
    """Return a default as it is written; a constant of this package is replaced by its value."""
    if not isinstance(value, ast.Name):
        return ast.unparse(value)
    defined = _definitions(path)[value.id]
    if isinstance(defined, ast.ImportFrom):
        assert defined.module is not None
        module = PACKAGE.parent.joinpath(*defined.module.split("."))
        path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        return _text(value, path)
    return _text(defined, path)
