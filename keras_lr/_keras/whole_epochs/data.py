"""`EpochData`: the whole arrays of a ``fit``, and the orders in which ``fit`` takes their rows.

Relies on (Keras 3.9 to 3.15; `NeedsFit` is raised otherwise):

- ``keras.src.trainers.data_adapters`` has the ``get_data_adapter`` by which ``fit`` splits data.
  For arrays it returns an ``ArrayDataAdapter``, whose ``_inputs`` are what the steps get in
  batches, with class weights turned into sample weights. Its ``get_tf_dataset`` or
  ``get_jax_iterator`` reads an epoch. ``convert_to_sliceable`` of
  ``keras.src.trainers.data_adapters.array_slicing`` converts arrays as ``fit`` does.
- The order of the rows depends on their number, on ``batch_size``, ``shuffle`` and the random
  states, but not on their contents. So an adapter over the row numbers gives the orders.
- On TensorFlow, the order in which a dataset reads its rows depends on TensorFlow's seed alone. If
  two readings have the same order, all have it: the kernel that draws it starts afresh each time
  (https://github.com/tensorflow/tensorflow/issues/35682).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Hashable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.fits.fit_data import rows_of_all_shapes
from keras_lr._keras.private_modules import find_module

_ADAPTERS = "keras.src.trainers.data_adapters"
_SLICING = "keras.src.trainers.data_adapters.array_slicing"

DISTINCT = 20
"""Number of rows from which on two random orders are never equal by chance."""


class NeedsFit(Exception):
    """Raised with the reason why a model has to be trained by ``fit``, not by whole epochs."""


class EpochData:
    """Arrays that are read in batches, epoch by epoch."""

    def __init__(self, shuffle: Any = False, **arguments: Any) -> None:
        """Convert the arrays as ``fit`` does.

        Args:
            shuffle: See ``fit``.
            **arguments: The data, ``class_weight`` and ``batch_size``, as ``fit`` takes them.

        Raises:
            NeedsFit: If the data are not dense arrays, or this Keras splits data in another way.
        """
        adapter = self._adapter(shuffle=shuffle, **arguments)
        self.arrays: Any = _whole(adapter._inputs)
        leaves = keras.tree.flatten(self.arrays)
        self.rows = int(leaves[0].shape[0])
        self.batch_size = int(adapter.batch_size)
        self.shuffle = shuffle
        self._kept: dict[Hashable, _KeptOrders] = {}

    @functools.cached_property
    def tensors(self) -> Any:
        """The arrays as tensors of the backend, which all models that read them share."""
        return keras.tree.map_structure(keras.ops.convert_to_tensor, self.arrays)

    def _adapter(self, **arguments: Any) -> Any:
        adapters = find_module(_ADAPTERS, "get_data_adapter", "ArrayDataAdapter")
        if adapters is None:
            raise NeedsFit("this Keras does not show how it splits data into batches")
        adapter = adapters.get_data_adapter(**arguments)
        if not isinstance(adapter, adapters.ArrayDataAdapter):
            raise NeedsFit("the data are not arrays")
        if not all(hasattr(adapter, name) for name in ("_inputs", _reader())):
            raise NeedsFit("this Keras does not show how it splits data into batches")
        return adapter

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.rows // self.batch_size)

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """The rows of a full batch, and of one like the last where that is short."""
        return np.arange(rows_of_all_shapes(self.rows, self.batch_size))

    def take(self, rows: Any) -> Any:
        """Return a batch: the rows of each array."""
        return keras.tree.map_structure(lambda array: array[rows], self.arrays)

    def orders(self, key: Hashable, reads_ahead: bool) -> Iterator[NDArray[np.int64]]:
        """Return an iterator over the orders of the rows, one for each epoch of a new ``fit``.

        If numpy draws the orders, each is drawn only when it is needed, as in ``fit``.

        Args:
            key: Identifies the present random states among those of other fits.
            reads_ahead: Whether the ``fit`` reads a batch before it trains.
        """
        if not self.shuffle:
            return itertools.repeat(np.arange(self.rows))
        numbers = self._adapter(
            x=np.arange(self.rows), batch_size=self.batch_size, shuffle=self.shuffle
        )
        read = getattr(numbers, _reader())
        if keras.backend.backend() == "tensorflow":
            if key not in self._kept:
                self._kept[key] = _KeptOrders(read(), self.rows)
            return iter(self._kept[key])
        if reads_ahead:
            next(iter(read()))
        return (_joined(read()) for _ in itertools.count())


class _KeptOrders:
    """TensorFlow's orders, which are the same in each fit with the same seed."""

    def __init__(self, dataset: Any, rows: int) -> None:
        self._dataset = dataset
        self._orders: list[NDArray[np.int64]] = []
        self._may_repeat = rows >= DISTINCT

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for epoch in itertools.count():
            if self._may_repeat and len(self._orders) == 2:
                first, second = self._orders
                if np.array_equal(first, second):
                    yield first
                    continue
            if epoch == len(self._orders):
                self._orders.append(_joined(self._dataset))
            yield self._orders[epoch]


def _reader() -> str:
    """Return Keras's name for the method of a data adapter that reads an epoch."""
    tensorflow = keras.backend.backend() == "tensorflow"
    return "get_tf_dataset" if tensorflow else "get_jax_iterator"


def _joined(batches: Any) -> NDArray[np.int64]:
    return np.concatenate(list(batches))


def _whole(inputs: Any) -> Any:
    """Return arrays as a step of this backend gets them, but with all rows.

    Raises:
        NeedsFit: If they are not dense arrays.
    """
    slicing = find_module(_SLICING, "convert_to_sliceable")
    if slicing is None:
        raise NeedsFit("this Keras does not show how it converts data")
    if any(leaf is None for leaf in keras.tree.flatten(inputs)):
        raise NeedsFit("a part of the data is missing")
    backend = keras.backend.backend()
    found = slicing.convert_to_sliceable(inputs, target_backend=backend)
    if backend == "tensorflow":
        import tensorflow as tf

        leaves = keras.tree.flatten(found)
        if not all(isinstance(leaf, np.ndarray | tf.Tensor) for leaf in leaves):
            raise NeedsFit("the data are not dense arrays")
        return keras.tree.lists_to_tuples(found)
    arrays = keras.tree.map_structure(
        lambda one: one.convert_to_jax_compatible(one[slice(None)]), found
    )
    leaves = keras.tree.flatten(arrays)
    if not all(isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc" for leaf in leaves):
        raise NeedsFit("the data are not dense arrays of numbers")
    return arrays
