"""Formulas over all weights of a model as one vector, given as a list of tensors."""

from __future__ import annotations

from typing import Any

from keras import ops

Vector = list[Any]


def dot(one: Vector, other: Vector) -> Any:
    """Return the scalar product of two vectors."""
    return sum(ops.sum(a * b) for a, b in zip(one, other, strict=True))


def share(part: Any, whole: Any) -> Any:
    """Return ``part / whole``, and 0 where the whole is 0."""
    nothing = ops.equal(whole, 0.0)
    return ops.where(nothing, 0.0, part / ops.where(nothing, 1.0, whole))
