"""`Packing`: many small tensors in one vector, so that a formula over all needs few operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_lr._keras.gradients.tensors import as_float_tensor, without_gradients

SMALL = 1 << 15
"""Largest tensor that is packed, in elements. Copying a larger one costs more than an operation."""


class Packing:
    """Packs an optimizer's weights, or their gradients, into a few tensors."""

    def __init__(self, weights: Sequence[Any], each_apart: bool) -> None:
        """Choose which weights are packed together.

        Args:
            weights: The weights.
            each_apart: Whether every weight stays a separate tensor.
        """
        with without_gradients():
            types = [as_float_tensor(one).dtype for one in weights]
        together: dict[Any, list[int]] = {}
        self._groups: list[list[int]] = []
        for place, (one, dtype) in enumerate(zip(weights, types, strict=True)):
            if each_apart or math.prod(one.shape) > SMALL:
                self._groups.append([place])
            elif dtype in together:
                together[dtype].append(place)
            else:
                together[dtype] = [place]
                self._groups.append(together[dtype])

    def pack(self, tensors: Sequence[Any]) -> list[Any]:
        """Return tensors of the shapes of the weights, packed."""
        return [
            ops.concatenate([ops.reshape(tensors[place], (-1,)) for place in group])
            if len(group) > 1
            else tensors[group[0]]
            for group in self._groups
        ]
