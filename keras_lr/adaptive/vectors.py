"""Formulas over all weights of a model as one vector, given as a list of tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

Vector = list[Any]


def total(parts: Iterable[Any]) -> Any:
    """Return the sum of at least one tensor."""
    return functools.reduce(operator.add, parts)


def dot_each(one: Vector, other: Vector) -> list[Any]:
    """Return the scalar product of each pair of tensors."""
    # PyTorch's vdot saves a pass over memory. TensorFlow's is slow, and sums less exactly.
    if keras.backend.backend() == "torch":
        flat = ([ops.reshape(part, (-1,)) for part in vector] for vector in (one, other))
        return [ops.vdot(a, b) for a, b in zip(*flat, strict=True)]
    return [ops.sum(a * b) for a, b in zip(one, other, strict=True)]


def dot(one: Vector, other: Vector) -> Any:
    """Return the scalar product of two vectors."""
    return total(dot_each(one, other))


def share(part: Any, whole: Any) -> Any:
    """Return ``part / whole``, or 0 where the whole is 0."""
    nothing = ops.equal(whole, 0.0)
    return ops.where(nothing, 0.0, part / ops.where(nothing, 1.0, whole))
