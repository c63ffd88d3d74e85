"""Keras callbacks for learning rates: schedules, cyclical rates, and a record of what they did."""

from keras_lr.compose import Clip, Lasting, PerEpoch, Product, Repeat, Scaled, Sequence, Warmup
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
from keras_lr.schedule import Schedule
from keras_lr.state import StateError
from keras_lr.timeline import Timeline, UnresolvedLength

__all__ = [
    "Clip",
    "Constant",
    "CosineDecay",
    "CosineRestarts",
    "ExponentialDecay",
    "Function",
    "InGraph",
    "InverseSqrtDecay",
    "LRHistory",
    "Lasting",
    "LinearDecay",
    "OneCycle",
    "ParamScheduler",
    "PerEpoch",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Product",
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
]
