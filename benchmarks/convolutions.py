"""Convolutions as one matrix product, which XLA trains several times as fast on a CPU."""

import itertools
from typing import Any

from keras import layers, ops


class _MatrixProduct:
    """Sums the same products as the layer of Keras that it is mixed into, in another order."""

    def call(self: Any, inputs):
        sizes, strides = self.kernel_size, self.strides
        if self.padding == "same":
            around = map(_padding, inputs.shape[1:-1], sizes, strides)
            inputs = ops.pad(inputs, [(0, 0), *around, (0, 0)])
        ends = [length - size + 1 for length, size in zip(inputs.shape[1:-1], sizes, strict=True)]
        shifted = []
        for shift in itertools.product(*map(range, sizes)):
            parts = zip(shift, ends, strides, strict=True)
            inside = [slice(first, first + end, stride) for first, end, stride in parts]
            shifted.append(inputs[(slice(None), *inside)])
        kernel = ops.reshape(self.kernel, (-1, self.filters))
        outputs = ops.matmul(ops.concatenate(shifted, -1), kernel)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


def _padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after a dimension that is padded to the same length."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


class Conv1D(_MatrixProduct, layers.Conv1D):
    """One dimension, channels last."""


class Conv2D(_MatrixProduct, layers.Conv2D):
    """Two dimensions, channels last."""
