"""Keras callbacks for learning rates: schedules, cyclical rates, and a record of what they did."""

from typing import TYPE_CHECKING

from keras_lr import _renamed as _renamed
from keras_lr._command_line import is_command_line
from keras_lr._late import find_late
from keras_lr._version import __version__ as __version__

# The import registers the classes with Keras, which may load a model at any time afterwards. The
# command line skips it, because importing Keras takes seconds.
if TYPE_CHECKING or not is_command_line():
    from keras_lr._fields.serialization import register_late
    from keras_lr._fields.timeline import Timeline, UnresolvedLength
    from keras_lr._state import StateError
    from keras_lr.callbacks import LayerDecay, LayerRates, ParamScheduler, ReduceLROnPlateau
    from keras_lr.history import LRHistory
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

    register_late(
        __name__, "DistanceOverGradients", "HypergradientDescent", "LRRangeTest", "Prodigy"
    )

# These are imported when somebody asks for them. They would double the time of the import.
if TYPE_CHECKING:
    from keras_lr.adaptive import DistanceOverGradients, HypergradientDescent, Prodigy
    from keras_lr.config import ConfigError, from_config, load, register, save, to_config
    from keras_lr.range_test import LRRangeTest, NoSuggestion, RangeTestResult
    from keras_lr.search import (
        LRSweep,
        PopulationBasedTraining,
        PopulationResult,
        RayEngine,
        SweepResult,
    )

__all__ = [
    "Clip",
    "ConfigError",
    "Constant",
    "CosineDecay",
    "CosineRestarts",
    "DistanceOverGradients",
    "ExponentialDecay",
    "Function",
    "HypergradientDescent",
    "InGraph",
    "InverseSqrtDecay",
    "LRHistory",
    "LRRangeTest",
    "LRSweep",
    "Lasting",
    "LayerDecay",
    "LayerRates",
    "LinearDecay",
    "NoSuggestion",
    "OneCycle",
    "ParamScheduler",
    "PerEpoch",
    "PiecewiseConstant",
    "PolynomialDecay",
    "PopulationBasedTraining",
    "PopulationResult",
    "Prodigy",
    "Product",
    "RangeTestResult",
    "RayEngine",
    "ReduceLROnPlateau",
    "Repeat",
    "Scaled",
    "Schedule",
    "Sequence",
    "StateError",
    "StepDecay",
    "Sum",
    "SweepResult",
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

_ROOMS = (
    *("schedules", "callbacks", "history", "range_test", "adaptive"),
    *("_state", "config", "search", "plotting"),
)
"""Modules in which a name that is not imported yet is looked up, in this order."""

if not TYPE_CHECKING:  # with it, a type checker would accept any name
    __getattr__ = find_late(__name__, *_ROOMS)


def __dir__() -> list[str]:
    return [*__all__, "__version__", "plotting"]
