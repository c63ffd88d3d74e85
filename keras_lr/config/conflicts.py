"""Callbacks that no fit accepts together, because they drive the same number."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr.adaptive.base import GradientRate
from keras_lr.callbacks.layer_rates import LayerRates
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.config.problems import Key
from keras_lr.range_test.callback import LRRangeTest
from keras_lr.schedules.base import Schedule

MODEL_OPTIMIZER = "optimizer"
"""The attribute of a model that holds the optimizer it is compiled with."""


class Conflict(NamedTuple):
    """Two callbacks that drive the same number of an optimizer, each as its place in the list."""

    first: tuple[Any, ...]
    second: tuple[Any, ...]
    number: str


def find_conflicts(callbacks: list[Any]) -> Iterator[Conflict]:
    """Iterate over the pairs of callbacks that conflict, whatever the model."""
    # If a ParamScheduler moves a momentum, the optimizer has one, and OneCycle moves it too.
    known = [(whose, name) for one in callbacks for whose, name, _ in _driven(one)]
    optimizer = types.SimpleNamespace(momentum=0.9 * ((MODEL_OPTIMIZER, "momentum") in known))
    first: dict[tuple[str, str], tuple[Any, ...]] = {}
    for i, one in enumerate(callbacks):
        for whose, name, inside in _driven(one, optimizer):
            before = first.setdefault((whose, name), (i, *inside))
            if before != (i, *inside):
                yield Conflict(before, (i, *inside), name)


def _driven(callback: Any, optimizer: Any = None) -> Iterator[tuple[str, str, tuple[Key, ...]]]:
    """Iterate over the numbers that a callback drives: optimizer's name, number's name, place.

    ``optimizer`` stands in for the model's own, as far as it is known.
    """
    if isinstance(callback, LayerRates):
        yield callback.optimizer or MODEL_OPTIMIZER, "factors of layers", ()
        return
    if isinstance(callback, GradientRate):
        yield MODEL_OPTIMIZER, "rate by gradients", ()
        if not callback.takes_factor:
            yield MODEL_OPTIMIZER, LEARNING_RATE, ()
        return
    if isinstance(callback, ParamScheduler):
        for name in callback.schedules:
            yield callback.optimizer or MODEL_OPTIMIZER, name, (name,)
        return
    auto = isinstance(callback, LRRangeTest)
    schedule = callback.auto if auto else callback
    if isinstance(schedule, Schedule):
        try:
            moved = list(schedule.hyperparameter_schedules(optimizer))
        except Exception:  # a registered class may need more than is known here
            moved = []
        owner = (callback.optimizer if auto else None) or MODEL_OPTIMIZER
        for name in moved:
            yield owner, name, ("auto",) if auto else ()
