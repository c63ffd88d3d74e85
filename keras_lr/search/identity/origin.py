"""Where functions and classes come from: the user's program, or an installed package."""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import keras

_FRAMEWORKS = ("keras", "keras_lr", "numpy", "tensorflow", "jax", "jaxlib", "torch", "ray")


def package_of(value: Any) -> str:
    """Return the name of the package of a function or a class."""
    return str(getattr(value, "__module__", None) or "").partition(".")[0]


def is_opaque(cls: type) -> bool:
    """Return whether attributes of objects of a class say nothing that lasts."""
    package = package_of(cls)
    if issubclass(cls, keras.callbacks.Callback | types.SimpleNamespace) or package == "keras_lr":
        return False
    is_of_python = package in sys.stdlib_module_names and package != "__main__"
    return is_of_python or package in _FRAMEWORKS


def is_installed(value: Any) -> bool:
    """Return whether a function, a class or a module is part of Python or an installed package."""
    if isinstance(value, types.ModuleType):
        name, path = value.__name__.partition(".")[0], getattr(value, "__file__", None)
    elif isinstance(value, types.FunctionType):
        name, path = package_of(value), value.__code__.co_filename
    else:
        name = package_of(value)
        path = getattr(sys.modules.get(value.__module__), "__file__", None)
    if name == "__main__":
        return False
    return name in sys.stdlib_module_names or name in _FRAMEWORKS or _is_in_packages(path or "")


@functools.cache
def _is_in_packages(path: str) -> bool:
    return path.startswith("<frozen ") or path.startswith(_package_folders())


@functools.cache
def _package_folders() -> tuple[str, ...]:
    places = sysconfig.get_paths()
    found = [places[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    found.append(str(Path(keras.__file__).parent.parent))
    return tuple(folder.rstrip(os.sep) + os.sep for folder in found)
