"""Where functions and classes come from: the user's program, or an installed package."""

from __future__ import annotations

import sys
import types
from typing import Any

import keras

from keras_lr._files import is_installed_file

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
    return name in sys.stdlib_module_names or name in _FRAMEWORKS or is_installed_file(path or "")
