"""What an execution is fed with: batches of data, counted, and where the values of each stand."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
from numpy.typing import NDArray


def samples_in(data: Any) -> int | None:
    """Return the number of samples in a batch of data; None where it does not show."""
    while isinstance(data, _NESTS):
        for part in data.values() if isinstance(data, dict) else data:
            if part is not None:
                data = part
                break
        else:
            return None
    shape = getattr(data, "shape", None)
    return int(shape[0]) if shape else None


_NESTS = (list, tuple, dict)


class Feed:
    """The batches of an execution, counted, and each with where its values stand."""

    indices: ClassVar[list[Any]] = []
    """Numbers that need not travel to the device in each step."""

    def __init__(self, drive: Any, with_values: bool, rows: int) -> None:
        self.drive = drive
        self.with_values = with_values
        self.rows = rows
        self.spread = keras.distribution.distribution() is not None
        self.iterator: Any = None
        self.index = self.used = 0
        self.loaded: Any = None
        self.table: Any = None

    def begin(self, iterator: Any, index: int) -> None:
        """Begin an execution at a row of the drive's block."""
        self.iterator = iterator
        self.index = index
        self.used = 0
        if self.with_values and self.drive.block is not self.loaded:
            self.load(self.drive.block)

    def load(self, block: NDArray[np.float32]) -> None:
        """Put a block on the device, where a single device computes."""
        self.loaded = block
        self.table = np.zeros((self.rows, block.shape[1]), np.float32)
        self.table[: len(block)] = block
        if not self.spread:
            self.table = keras.ops.convert_to_tensor(self.table)
            for i in range(len(self.indices), len(block)):
                self.indices.append(keras.ops.convert_to_tensor(i, "int32"))

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Any:
        data = next(self.iterator)
        self.drive.loss.passed(samples_in(data))
        index = self.index + self.used
        self.used += 1
        if not self.with_values:
            return data
        return (self.table, np.int32(index) if self.spread else self.indices[index]), data
