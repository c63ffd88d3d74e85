"""The rates of an optimizer that is made of several, moved together as one.

The highest rate counts as the rate of the whole, and each of the others keeps its share of it. The
shares are computed when the optimizer is first seen, before a checkpoint restores other rates. They
are computed again whenever the rates have been set to other ratios. Relies on public names only:
``optimizers`` of Keras's ``MultiOptimizer``.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from typing import Any, NamedTuple

import numpy as np

from keras_lr._keras.rates.hyperparameters import (
    LEARNING_RATE,
    Hyperparameter,
    find_hyperparameter,
)
from keras_lr._keras.rates.optimizers import optimizer_of, unwrap_loss_scaling

_SHARES: weakref.WeakKeyDictionary[Any, tuple[float, ...]] = weakref.WeakKeyDictionary()
"""The shares of each optimizer that is made of several."""

ROUNDING = 1e-4
"""Relative difference that rounding in a fit may cause between the rates and their shares."""


class Share(NamedTuple):
    """A hyperparameter, and its share of the value that a callback gives."""

    parameter: Hyperparameter
    share: float


def find_shares(optimizer: Any, name: str) -> list[Share]:
    """Return the hyperparameters that move together under a name, the one with share 1 first.

    There is one, except for the learning rate of an optimizer that is made of several.

    Raises:
        TypeError, ValueError: As `find_hyperparameter`; or if all rates are 0, so that they have no
            shares.
    """
    parts = getattr(optimizer, "optimizers", None)
    if name != LEARNING_RATE or parts is None:
        return [Share(find_hyperparameter(optimizer, name), 1.0)]
    rates = [find_hyperparameter(unwrap_loss_scaling(part), LEARNING_RATE) for part in parts]
    shares = _shares(optimizer, [rate.read() for rate in rates])
    together = [Share(*pair) for pair in zip(rates, shares, strict=True)]
    return sorted(together, key=lambda one: -one.share)


def remember_shares(model: Any, optimizer: Any = None) -> None:
    """Store the shares of a model's optimizer, if it is made of several, before rates change.

    Args:
        model: The model.
        optimizer: The optimizer, or the name of the model's attribute that holds it.
    """
    with contextlib.suppress(TypeError, ValueError):  # raised again when a fit begins
        found = optimizer_of(model, optimizer)
        if getattr(found, "optimizers", None):
            find_shares(found, LEARNING_RATE)


def _shares(optimizer: Any, rates: list[float]) -> tuple[float, ...]:
    """Return the share of each rate in the highest one."""
    known = _SHARES.get(optimizer)
    highest = max(rates, default=0.0)
    if known is not None and len(known) == len(rates):
        expected = highest * np.array(known)
        if np.allclose(rates, expected, rtol=ROUNDING, atol=0.0):
            return known
    if not (highest > 0.0 and math.isfinite(highest)):
        raise ValueError(
            f"The optimizer {type(optimizer).__name__} is made of several, whose rates move "
            f"together and keep their ratios, and these rates have none: {rates}. Build the "
            "optimizers with the rates to begin with, or drive each by its own "
            "ParamScheduler(optimizer=..., learning_rate=...)."
        )
    shares = tuple(rate / highest for rate in rates)
    _SHARES[optimizer] = shares
    return shares
