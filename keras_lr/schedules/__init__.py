"""Learning rates as functions of the training step, and what one needs to write another.

``schedule`` makes a class of fields and a formula a schedule. ``Rate``, ``PositiveRate``,
``Positive``, ``DecayFactor``, ``Length`` and ``Timescale`` are the types that its fields may have.
"""

from keras_lr._fields.kinds import DecayFactor, Positive, PositiveRate, Rate
from keras_lr._fields.lengths import Length, Timescale
from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr.schedules.base import Schedule, Steps, schedule
from keras_lr.schedules.combinators import Clip, PerEpoch, Product, Scaled
from keras_lr.schedules.cyclic import CosineRestarts, OneCycle, TriangularCLR, WarmupStableDecay
from keras_lr.schedules.decay import (
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
from keras_lr.schedules.function import Function
from keras_lr.schedules.in_graph import InGraph
from keras_lr.schedules.stages import Lasting, Repeat, Sequence, Warmup

__all__ = [
    "Clip",
    "Constant",
    "CosineDecay",
    "CosineRestarts",
    "DecayFactor",
    "ExponentialDecay",
    "Function",
    "InGraph",
    "InverseSqrtDecay",
    "Lasting",
    "Length",
    "LinearDecay",
    "OneCycle",
    "PerEpoch",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Positive",
    "PositiveRate",
    "Product",
    "Rate",
    "Repeat",
    "Scaled",
    "Schedule",
    "Sequence",
    "StepDecay",
    "Steps",
    "TimeDecay",
    "Timeline",
    "Timescale",
    "TriangularCLR",
    "UnresolvedLength",
    "Warmup",
    "WarmupStableDecay",
    "schedule",
]
