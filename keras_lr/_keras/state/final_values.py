"""Training in several fits as in one: what an optimizer does to the weights at the end of a fit.

An optimizer with ``use_ema=True`` replaces the weights by their average when a fit ends, after the
last validation and ``on_epoch_end`` and before ``on_train_end``. A fit that continues from there
trains something else than one long fit.

Relies on (Keras 3.12 to 3.15): a fit ends with ``model.optimizer.finalize_variable_values``, which
is public, and an instance attribute of that name is called instead of the method.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_lr._keras.rates.step_methods import StepMethods

_FINALIZE = "finalize_variable_values"


@contextlib.contextmanager
def weights_kept(model: Any, continues: Callable[[], bool]) -> Iterator[None]:
    """Leave the weights as they are at the end of a fit that another one will continue.

    Args:
        model: The model, whose fits end inside the context.
        continues: Called at the end of a fit; returns whether another one will continue it.
    """
    if not isinstance(model.optimizer, keras.optimizers.Optimizer):
        yield  # Keras finalizes no other
        return

    def finalize(method: Callable[..., None], variables: Any) -> None:
        if not continues():
            method(variables)

    methods = StepMethods(model.optimizer, {_FINALIZE: finalize}, "a training in stretches")
    methods.enter()
    try:
        yield
    finally:
        methods.leave()


def finalize_weights(model: Any) -> None:
    """Give a model the weights with which a fit would have ended where it is."""
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
        model.optimizer.finalize_variable_values(model.trainable_weights)
