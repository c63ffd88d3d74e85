"""`Conditions`: what a range test knew of the model and its data besides the losses."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from keras_lr._keras.rates.optimizers import held_optimizers

GRADIENT, FADING, FIXED = "gradient", "fading", "fixed"
"""How the size of an optimizer's step at a given rate behaves: proportional to the gradient, or to
one over the root of the number of steps, or constant."""

GRADIENT_STEPS = ("SGD", "Ftrl")
"""Optimizers whose step shrinks with the gradient."""

FADING_STEPS = ("Adagrad",)
"""Optimizers that divide by the root of the sum of all squared gradients."""

MIN_ROWS = 8
"""Rows of the smallest batch that was measured with batch normalization and gave good rates."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a range test knew of the model and its data besides the losses.

    Attributes:
        step_size: ``"gradient"``: the optimizer's step shrinks with the gradient, as in SGD;
            ``"fading"``: with the number of steps, as in Adagrad; ``"fixed"``: with neither.
        batches: Batches after which the data repeat; None where that is unknown.
        steps_per_epoch: Batches in an epoch of a fit; None where it is not known.
        trained: Whether the optimizer had made updates before the test.
        batch_size: Rows of a batch; None where that is unknown.
        batch_norm: Whether the model has a trainable batch normalization.
    """

    step_size: str
    batches: float | None = None
    steps_per_epoch: float | None = None
    trained: bool = False
    batch_size: int | None = None
    batch_norm: bool = False

    @property
    def normalizes_few_rows(self) -> bool:
        """Whether batches are normalized that are too small for reliable statistics."""
        return self.batch_norm and self.batch_size is not None and self.batch_size < MIN_ROWS

    def to_dict(self) -> dict[str, Any]:
        """Return the conditions as plain data."""
        return dict(vars(self))


def step_size_of(optimizers: Sequence[Any]) -> str:
    """Return how the step size of optimizers behaves; of several, the one that limits the rate."""
    inner = (held_optimizers(optimizer).values() for optimizer in optimizers)
    every = [*optimizers, *itertools.chain(*inner)]
    kinds = {kind.__name__ for optimizer in every for kind in type(optimizer).__mro__}
    if kinds & set(GRADIENT_STEPS):
        return GRADIENT
    return FADING if kinds & set(FADING_STEPS) else FIXED
