"""`RateProperty`: the learning rate of an optimizer that computes it, set through its property.

Such an optimizer may return a multiple of another one's rate, or a rate that depends on its
iterations. What its setter does is unknown, so the rate is set once as a trial and read back.
Relies on public names only: the property ``learning_rate`` and ``optimizer.variables``.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from keras_lr._keras.host_values import to_float, to_numpy
from keras_lr._keras.rates.optimizers import held_optimizers, is_variable

LATER = 1, 1_000_000
"""Numbers of updates after which a rate that was set must still be the same."""


class RateProperty:
    """Stands in for the variable of a learning rate that an optimizer computes.

    It can be set between two steps only: what a property does inside a compiled step is unknown.
    """

    def __init__(self, optimizer: Any) -> None:
        """Check by a trial that the rate can be set.

        Raises:
            ValueError: If it cannot.
        """
        self.optimizer = optimizer
        _check_rate_can_be_set(optimizer)

    @property
    def value(self) -> float:
        """The present rate."""
        return to_float(self.optimizer.learning_rate)

    def assign(self, value: float) -> None:
        """Set the rate."""
        self.optimizer.learning_rate = value


def _check_rate_can_be_set(optimizer: Any) -> None:
    """Refuse an optimizer whose rate is not what it was set to, or is not kept in a variable.

    A compiled step would keep using the old rate where a plain attribute holds it.
    """
    if keras.backend.backend() == "jax":
        raise _refusal(
            optimizer, "and on JAX nothing that is set between two steps reaches the training step"
        )
    before = to_float(optimizer.learning_rate)
    trial = before / 2 if before and math.isfinite(before) else 0.5
    variables = _variables_behind(optimizer)
    values = [to_numpy(variable).copy() for variable in variables]
    try:
        optimizer.learning_rate = trial
        after = to_float(optimizer.learning_rate)
        moved = any(
            not np.array_equal(to_numpy(variable), value)
            for variable, value in zip(variables, values, strict=True)
        )
        later = [_rate_after(optimizer, updates) for updates in LATER]
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise _refusal(optimizer, f"and setting it fails: {error}") from error
    finally:
        _undo_trial(optimizer, before, variables, values)
    if not math.isclose(after, trial, rel_tol=1e-5):
        raise _refusal(optimizer, f"and reads {after:g} after it was set to {trial:g}")
    if not np.allclose(later, after, rtol=1e-5, atol=0):
        raise _refusal(optimizer, "which moves by itself with the number of its updates")
    if not moved:
        raise _refusal(
            optimizer, "from a plain attribute, which stays as it is in a compiled training step"
        )


def _rate_after(optimizer: Any, updates: int) -> float:
    """Return the rate that an optimizer computes for a later number of updates."""
    iterations = optimizer.iterations
    before = to_numpy(iterations)
    iterations.assign(before + updates)
    try:
        return to_float(optimizer.learning_rate)
    finally:
        iterations.assign(before)


def _undo_trial(
    optimizer: Any, rate: float, variables: list[Any], values: list[np.ndarray]
) -> None:
    """Undo a trial: restore the variables bit for bit, and anything else through the property."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    if to_float(optimizer.learning_rate) != rate:
        optimizer.learning_rate = rate


def _variables_behind(optimizer: Any) -> list[Any]:
    """Return the scalar variables of an optimizer and of those inside it, each once."""
    found: dict[int, Any] = {}
    for one in (optimizer, *held_optimizers(optimizer).values()):
        for variable in (*one.variables, *vars(one).values()):
            if is_variable(variable) and not len(variable.shape):
                found[id(variable)] = variable
    return list(found.values())


def _refusal(optimizer: Any, reason: str) -> ValueError:
    kind = type(optimizer).__name__
    inner = [*held_optimizers(optimizer)]
    instead = (
        f"Drive the optimizer that it holds: ParamScheduler(model.optimizer.{inner[0]}, "
        "learning_rate=...). "
        if inner
        else "Let `learning_rate` be the variable that Keras keeps for it. "
    )
    return ValueError(
        f"The optimizer {kind} computes its learning rate, {reason}, so it cannot be driven. "
        f"{instead}To only record the rate, pass keras_lr.LRHistory() alone."
    )
