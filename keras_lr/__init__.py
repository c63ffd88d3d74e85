"""Keras callbacks for learning rates: schedules, cyclical rates, and a record of what they did."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_lr import _renamed as _renamed
from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr._state import StateError
from keras_lr.callbacks import ParamScheduler, ReduceLROnPlateau
from keras_lr.history import LRHistory
from keras_lr.range_test import LRRangeTest, NoSuggestion, RangeTestResult
from keras_lr.schedules import (
    Clip,
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    Function,
    InGraph,
    InverseSqrtDecay,
    Lasting,
    LinearDecay,
    OneCycle,
    PerEpoch,
    PiecewiseConstant,
    PolynomialDecay,
    Product,
    Repeat,
    Scaled,
    Schedule,
    Sequence,
    StepDecay,
    Sum,
    TimeDecay,
    TriangularCLR,
    Warmup,
    WarmupStableDecay,
)

if TYPE_CHECKING:
    from keras_lr.config import ConfigError, from_config, load, register, save, to_config

__all__ = [
    "Clip",
    "ConfigError",
    "Constant",
    "CosineDecay",
    "CosineRestarts",
    "ExponentialDecay",
    "Function",
    "InGraph",
    "InverseSqrtDecay",
    "LRHistory",
    "LRRangeTest",
    "Lasting",
    "LinearDecay",
    "NoSuggestion",
    "OneCycle",
    "ParamScheduler",
    "PerEpoch",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Product",
    "RangeTestResult",
    "ReduceLROnPlateau",
    "Repeat",
    "Scaled",
    "Schedule",
    "Sequence",
    "StateError",
    "StepDecay",
    "Sum",
    "TimeDecay",
    "Timeline",
    "TriangularCLR",
    "UnresolvedLength",
    "Warmup",
    "WarmupStableDecay",
    "from_config",
    "load",
    "register",
    "save",
    "to_config",
]

__version__ = "0.1.0"


# The classes must be registered with Keras when this package is imported. What follows need not be
# there so early, and would take a tenth of the time.
_LATER = {
    **dict.fromkeys(
        ["ConfigError", "from_config", "load", "register", "save", "to_config"], "config"
    ),
    "config": "",
    "plotting": "",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _LATER[name]:
        return importlib.import_module(f"{__name__}.{name}")
    globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__", "plotting"]
