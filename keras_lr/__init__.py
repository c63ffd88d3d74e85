"""Keras callbacks for learning rates: schedules, cyclical rates, and a record of what they did."""

from keras_lr import _renamed as _renamed
from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr._state import StateError
from keras_lr.callbacks import ParamScheduler, ReduceLROnPlateau
from keras_lr.config import ConfigError, from_config, load, register, save, to_config
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


def __dir__() -> list[str]:
    return [*__all__, "__version__", "plotting"]
