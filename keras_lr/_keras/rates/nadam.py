"""Nadam's product over its updates, for variables that have missed some of them.

Relies on ``_u_product`` of Keras 3: ``u_1 * u_2 * ...`` over all updates so far, with ``u_t =
beta_1 * (1 - 0.96 ** t / 2)``. Nadam keeps one for all variables. A built Nadam without this
attribute is refused where variables may miss updates; other optimizers do not have it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

_CONVERGED = 1024
"""Number of updates after which ``1 - 0.96 ** t / 2`` is 1 to the last digit."""

_DECAYS = np.concatenate([[1.0], np.cumprod(1.0 - 0.5 * 0.96 ** np.arange(1.0, _CONVERGED + 1))])


def names_of_product(optimizer: Any) -> list[str]:
    """Return the name of the product, if an optimizer must have one."""
    needs_one = isinstance(optimizer, keras.optimizers.Nadam) and optimizer.built
    return ["_u_product"] if needs_one else []


def product_of(optimizer: Any) -> Any:
    """Return the variable with an optimizer's product; None if it has none."""
    return getattr(optimizer, "_u_product", None)


def product_after(optimizer: Any, updates: Any) -> Any:
    """Return the product for variables that have had ``updates`` updates."""
    dtype = product_of(optimizer).dtype
    decays = keras.ops.convert_to_tensor(_DECAYS, dtype)
    updates = keras.ops.convert_to_tensor(updates)
    decay = keras.ops.take(decays, keras.ops.minimum(updates, _CONVERGED))
    beta = keras.ops.convert_to_tensor(optimizer.beta_1, dtype)
    return decay * keras.ops.power(beta, keras.ops.cast(updates, dtype))
