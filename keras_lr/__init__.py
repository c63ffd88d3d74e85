"""Keras callbacks for learning rates: schedules, cyclical rates, and a record of what they did."""

from keras_lr.compose import Clip, Lasting, PerEpoch, Product, Repeat, Scaled, Sequence, Warmup
from keras_lr.config import ConfigError, from_config, to_config
from keras_lr.config_files import load, save
from keras_lr.cyclic import CosineRestarts, OneCycle, TriangularCLR, WarmupStableDecay
from keras_lr.decay import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseSqrtDecay,
    LinearDecay,
    PiecewiseConstant,
    PolynomialDecay,
    StepDecay,
    TimeDecay,
)
from keras_lr.function import Function
from keras_lr.graph import InGraph
from keras_lr.history import LRHistory
from keras_lr.param_scheduler import ParamScheduler
from keras_lr.plateau import ReduceLROnPlateau
from keras_lr.range_result import RangeTestResult
from keras_lr.range_rules import NoSuggestion
from keras_lr.range_test import LRRangeTest
from keras_lr.registry import register
from keras_lr.schedule import Schedule
from keras_lr.state import StateError
from keras_lr.timeline import Timeline, UnresolvedLength

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
