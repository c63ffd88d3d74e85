"""Lazy imports: names of a package that are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def find_late(package: str, *modules: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names are looked up in its modules.

    Args:
        package: The package, whose ``__all__`` holds the names.
        modules: Its modules and subpackages, in the order in which they are searched.
    """

    def get(name: str) -> Any:
        here = sys.modules[package]
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in here.__all__:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = (importlib.import_module(f"{package}.{module}") for module in modules)
        value = next(getattr(module, name) for module in found if hasattr(module, name))
        vars(here)[name] = value
        return value

    return get
