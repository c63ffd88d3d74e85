"""Learning rates as functions of the training step, and the tools to write another one.

`schedule` turns a class of fields and a formula into a schedule. Its fields have these types:
`Rate`, `PositiveRate`, `Positive`, `DecayFactor`, `Length` and `Timescale`, or ``Annotated`` with
`Number`, `Choice`, `Bool`, `Text`, `ListOf`, `Optional`, `LengthField`, `ScheduleField`, or a
`FieldType` of your own.
"""

from keras_lr._fields.kinds import (
    Bool,
    Choice,
    DecayFactor,
    FieldType,
    ListOf,
    Number,
    Optional,
    Positive,
    PositiveRate,
    Rate,
    Text,
)
from keras_lr._fields.lengths import Length, LengthField, Timescale
from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr.schedules.base import Schedule, ScheduleField, Steps, schedule
from keras_lr.schedules.combinators import (
    Clip,
    Lasting,
    PerEpoch,
    Product,
    Repeat,
    Scaled,
    Sequence,
    Sum,
    Warmup,
)
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

__all__ = [
    "Bool",
    "Choice",
    "Clip",
    "Constant",
    "CosineDecay",
    "CosineRestarts",
    "DecayFactor",
    "ExponentialDecay",
    "FieldType",
    "Function",
    "InGraph",
    "InverseSqrtDecay",
    "Lasting",
    "Length",
    "LengthField",
    "LinearDecay",
    "ListOf",
    "Number",
    "OneCycle",
    "Optional",
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
    "ScheduleField",
    "Sequence",
    "StepDecay",
    "Steps",
    "Sum",
    "Text",
    "TimeDecay",
    "Timeline",
    "Timescale",
    "TriangularCLR",
    "UnresolvedLength",
    "Warmup",
    "WarmupStableDecay",
    "schedule",
]
