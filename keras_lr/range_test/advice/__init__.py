"""Rates for a training run of some length and schedule, extrapolated from short runs.

The short runs of a range test find the best rate for a training run as short as they are. For other
runs the best rate depends on the kind of optimizer, the length, the schedule and how often the
data are repeated. `extrapolation` has the formula and its numbers, fitted on a set of problems.
With a larger budget a `Rehearsal` of the training corrects the result: runs near the advised rate,
compared by their validation loss.
"""

from keras_lr.range_test.advice.advice import (
    DEFAULT_STEPS,
    Advice,
    confidence_in,
    describe_limits,
    give_advice,
    plan_training,
    tabulate,
)
from keras_lr.range_test.advice.conditions import GRADIENT, Conditions, step_size_of
from keras_lr.range_test.advice.rehearsal import (
    Rehearsal,
    rehearsal_length,
    rehearse,
    rows_to_hold_out,
)
from keras_lr.range_test.advice.training import Training

__all__ = [
    "DEFAULT_STEPS",
    "GRADIENT",
    "Advice",
    "Conditions",
    "Rehearsal",
    "Training",
    "confidence_in",
    "describe_limits",
    "give_advice",
    "plan_training",
    "rehearsal_length",
    "rehearse",
    "rows_to_hold_out",
    "step_size_of",
    "tabulate",
]
