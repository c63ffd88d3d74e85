"""Modules under their names in version 0.1.0, which its pickles and saved models refer to."""

import importlib
import sys
import types
from typing import Any

_MODULES = {
    "compose": "schedules",
    "cyclic": "schedules.cyclic",
    "decay": "schedules.decay",
    "fields": "_fields.kinds",
    "function": "schedules.function",
    "graph": "schedules.in_graph",
    "param_scheduler": "callbacks.param_scheduler",
    "plateau": "callbacks.plateau",
    "plateau_rule": "callbacks.plateau_rule",
    "range_result": "range_test.result",
    "range_rules": "range_test.curve",
    "range_search": "range_test.search",
    "schedule": "schedules.base",
    "state": "_state",
    "timeline": "_fields.timeline",
}
_CLASSES = {"Found": "SearchResult"}


class _RenamedModule(types.ModuleType):
    """Module that looks its names up in the module that has its content now."""

    def __getattr__(self, name: str) -> Any:
        # Python asks every module for such names; that must not import this one's content.
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _, _, old = self.__name__.rpartition(".")
        module = importlib.import_module(f"{__package__}.{_MODULES[old]}")
        return getattr(module, _CLASSES.get(name, name))


for _name in _MODULES:
    _old = _RenamedModule(f"{__package__}.{_name}", __doc__)
    sys.modules[_old.__name__] = _old
