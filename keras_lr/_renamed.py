"""Modules under the names that version 0.1.0 gave them, which its pickles hold."""

import sys
import types

from keras_lr import _state
from keras_lr._fields import kinds, timeline
from keras_lr.callbacks import param_scheduler, plateau, plateau_rule
from keras_lr.range_test import curve, result, search
from keras_lr.schedules import base, combinators, cyclic, decay, function, in_graph

_MODULES: dict[str, types.ModuleType] = {
    "compose": combinators,
    "cyclic": cyclic,
    "decay": decay,
    "fields": kinds,
    "function": function,
    "graph": in_graph,
    "param_scheduler": param_scheduler,
    "plateau": plateau,
    "plateau_rule": plateau_rule,
    "range_result": result,
    "range_rules": curve,
    "range_search": search,
    "schedule": base,
    "state": _state,
    "timeline": timeline,
}
_CLASSES = {"range_search": {"Found": search.SearchResult}}

for _name, _module in _MODULES.items():
    _old = types.ModuleType(f"{__package__}.{_name}", _module.__doc__)
    vars(_old).update(vars(_module) | _CLASSES.get(_name, {}) | {"__name__": _old.__name__})
    sys.modules[_old.__name__] = _old
