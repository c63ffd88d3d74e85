"""Lazy imports: names of a package that are imported when they are first used."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn


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
            _refuse(package, name, here.__all__)
        found = (importlib.import_module(f"{package}.{module}") for module in modules)
        value = next(getattr(module, name) for module in found if hasattr(module, name))
        vars(here)[name] = value
        return value

    return get


def _refuse(package: str, name: str, known: Iterable[str]) -> NoReturn:
    """Raise the error for a name that a package does not have, with the one probably meant."""
    hint = ""
    if not name.startswith("_"):  # Python and tools look many of those up
        from keras_lr._hints import nearest_name_hint

        hint = nearest_name_hint(name, known)
    # ``from package import name`` would replace an AttributeError by an error without the hint.
    asked_by_import = sys._getframe(2).f_code.co_filename.startswith("<frozen importlib")
    if hint and asked_by_import:
        full = f"{package}.{name}"
        if full not in sys.modules and importlib.util.find_spec(full) is None:
            raise ImportError(f"cannot import name {name!r} from {package!r}.{hint}", name=package)
    raise AttributeError(f"module {package!r} has no attribute {name!r}{'.' * bool(hint)}{hint}")
