"""`FitData`: the data that a ``fit`` trains on, split as ``fit`` splits them, in several orders.

Relies on ``keras.src.trainers.data_adapters.array_slicing`` (Keras 3.0 and later), by which ``fit``
takes rows of whatever it accepts as an array: dense, sparse and ragged arrays and DataFrames.
Without it, rows are taken as numpy takes them.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lr._hints import warn_user, with_article
from keras_lr._keras.fits.fit_frame import check_not_exhausted, frame_of_fit
from keras_lr._keras.model_layers import is_model_built
from keras_lr._keras.state.random_state import set_seed

VALIDATION = ("validation_data", "validation_split", "validation_steps", "validation_batch_size")
ARRAYS = ("x", "y", "sample_weight")

DEFAULT_BATCH_SIZE = 32
"""Samples in a batch by default, as Keras documents."""

COMPARED = 8
"""Batches that are compared to see whether data come in the same order twice: where a small buffer
shuffles them, the first may be the same by chance."""


def are_arrays(x: Any) -> bool:
    """Return whether data are arrays or tensors, alone or nested."""
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves if leaf is not None)


def count_rows(x: Any) -> int:
    """Return the number of rows of arrays."""
    return int(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None).shape[0])


def batch_size_of(fit: dict[str, Any]) -> int:
    """Return the batch size of a ``fit`` of arrays, from its arguments."""
    if fit.get("batch_size"):
        return int(fit["batch_size"])
    steps = fit.get("steps_per_epoch")
    return math.ceil(count_rows(fit["x"]) / steps) if steps else DEFAULT_BATCH_SIZE


def known_batch_size(fit: dict[str, Any]) -> int | None:
    """Return the batch size of the data of a ``fit``; None where it is unknown."""
    x = fit["x"]
    if are_arrays(x):
        return min(batch_size_of(fit), count_rows(x))
    size = getattr(x, "batch_size", None)
    if size is None:
        leaves = keras.tree.flatten(getattr(x, "element_spec", None))
        shape = getattr(leaves[0], "shape", None) if leaves else None
        size = shape[0] if shape else None
    return size if isinstance(size, int) else None


def rows_of_all_shapes(rows: int, batch_size: int) -> int:
    """Return how many rows make a full batch, and also a short one if the last batch is short."""
    return min(rows, batch_size + rows % batch_size)


def batches_per_epoch(fit: dict[str, Any]) -> int | None:
    """Return the number of batches in the data of a ``fit``; None where it is unknown."""
    x = fit["x"]
    if are_arrays(x):
        return math.ceil(count_rows(x) / batch_size_of(fit))
    try:
        return len(x)
    except TypeError:
        return None


def split_validation(data: Any, share: float) -> tuple[Any, Any]:
    """Return arrays without their last rows, and those rows, as ``fit(validation_split=...)`` does.

    Args:
        data: Arrays, nested in any way; None stays None.
        share: Share of the rows to split off.

    Raises:
        ValueError: If the data are not arrays, or one of the parts would be empty.
    """
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    kinds = sorted({type(leaf).__name__ for leaf in leaves if not hasattr(leaf, "shape")})
    if kinds:
        raise ValueError(
            "Argument `validation_split` is for arrays and tensors only. Pass `validation_data` "
            f"instead. Received: data of type {', '.join(kinds)}"
        )
    rows = count_rows(data)
    first = math.floor(rows * (1.0 - share))
    if not 0 < first < rows:
        raise ValueError(
            f"Argument `validation_split` must leave some of the {rows} rows for training and "
            f"some for validation. Received: validation_split={share}"
        )
    return take_rows(data, slice(0, first)), take_rows(data, slice(first, rows))


def take_rows(data: Any, rows: slice | np.ndarray) -> Any:
    """Return some rows of arrays, nested in any way, in the order asked for."""
    try:
        from keras.src.trainers.data_adapters.array_slicing import convert_to_sliceable
    except ImportError:
        return keras.tree.map_structure(
            lambda array: None if array is None else np.asarray(array)[rows], data
        )
    return keras.tree.map_structure(
        lambda array: None if array is None else convert_to_sliceable(array)[rows], data
    )


def shuffled_rows(rows: int, batch_size: int, shuffle: Any, seed: int) -> np.ndarray:
    """Return a random order of rows, always the same one for a seed.

    Args:
        rows: Number of rows.
        batch_size: Rows of a batch.
        shuffle: The argument of ``fit``; ``"batch"`` shuffles whole batches.
        seed: Seed of the order.
    """
    random = np.random.default_rng(seed)
    if shuffle != "batch":
        return random.permutation(rows)
    whole = rows // batch_size
    batches = np.arange(whole * batch_size).reshape(whole, batch_size)
    return np.append(random.permutation(batches).ravel(), np.arange(whole * batch_size, rows))


class FitData:
    """The data arguments of a ``fit``, with a different order of the rows for each repeat."""

    def __init__(self, fit: dict[str, Any]) -> None:
        """Split off the rows for validation, as ``fit`` does.

        Args:
            fit: Arguments of ``fit``.

        Raises:
            ValueError: If there is no batch to train on, or ``validation_split`` cannot be met.
        """
        self.fit = {name: value for name, value in fit.items() if name not in VALIDATION}
        self.validation = {name: fit[name] for name in VALIDATION if name in fit}
        share = self.validation.pop("validation_split", None)
        if share and self.validation.get("validation_data") is None:
            arrays, last = split_validation([self.fit.get(name) for name in ARRAYS], share)
            self.fit |= dict(zip(ARRAYS, arrays, strict=True))
            self.validation["validation_data"] = tuple(last)
        self.x = self.fit["x"]
        if self.x is None or self.batches_per_epoch == 0:
            raise self.no_batch()

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches after which the data repeat; None where that is unknown."""
        return batches_per_epoch(self.fit)

    @property
    def batch_size(self) -> int | None:
        """Rows of a batch; None where that is unknown."""
        return known_batch_size(self.fit)

    @property
    def rows(self) -> int:
        """Rows of the data; 0 if they are not arrays."""
        given = [self.fit.get(name) for name in ARRAYS]
        return count_rows(self.x) if are_arrays(given) else 0

    @property
    def loaders(self) -> list[Any]:
        """The data that are not arrays, which may draw random numbers."""
        data = (self.x, self.validation.get("validation_data"))
        return [one for one in data if not are_arrays(one)]

    @property
    def can_validate_again(self) -> bool:
        """Whether there are validation data that give the same batches each time."""
        data = self.validation.get("validation_data")
        return data is not None and not isinstance(data, Iterator)

    def hold_out(self, held_out: int, steps: int) -> FitData:
        """Return the data of a run, with some rows held out for validation.

        The rows are drawn at random, the same for all runs of these lengths.

        Args:
            held_out: Number of rows to hold out; whole batches leave the shapes as they were.
            steps: Batches of the run. No more rows are kept than it trains on.
        """
        batch_size, shuffle = batch_size_of(self.fit), self.fit.get("shuffle", True)
        order = np.random.default_rng(0).permutation(self.rows)
        kept = order[held_out:] if shuffle else np.sort(order[held_out:])
        arrays = [self.fit.get(name) for name in ARRAYS]
        training = take_rows(arrays, kept[: steps * batch_size])
        validation = tuple(take_rows(arrays, order[:held_out]))
        fit = self.fit | dict(zip(ARRAYS, training, strict=True))
        more = {"batch_size": batch_size, "steps_per_epoch": None, "validation_data": validation}
        return FitData(fit | more)

    def evaluation(self) -> dict[str, Any]:
        """Return the arguments with which ``evaluate`` validates as ``fit`` does."""
        given = self.validation
        x, y, weights = keras.utils.unpack_x_y_sample_weight(given["validation_data"])
        size = given.get("validation_batch_size") or self.fit.get("batch_size")
        return {
            **{"x": x, "y": y, "sample_weight": weights, "batch_size": size},
            "steps": given.get("validation_steps"),
        }

    def check_not_exhausted(self) -> None:
        """Refuse data whose generator has ended.

        Raises:
            ValueError: If the training or validation data are such a generator.
        """
        check_not_exhausted(x=self.x, validation_data=self.validation.get("validation_data"))

    def no_batch(self) -> ValueError:
        """Return the error for data without a batch."""
        return ValueError(
            "LRRangeTest: argument `x` must hold at least one batch to train on. Received: "
            f"x={self.fit['x']!r}"
        )

    def arguments(self, repeat: int, steps: int) -> dict[str, Any]:
        """Return the arguments of ``fit`` for a run of a repeat.

        Repeat 0 keeps Keras's order. Keras may order arrays by the number of the epoch, which would
        give each repeat the same order. The other repeats therefore get reordered rows, and only as
        many as they need.

        Args:
            repeat: Number of the repeat.
            steps: The largest number of batches in a run.
        """
        if not repeat or not are_arrays(self.x) or not self.fit.get("shuffle", True):
            return self.fit
        batch_size = batch_size_of(self.fit)
        rows = shuffled_rows(count_rows(self.x), batch_size, self.fit.get("shuffle"), repeat)
        if not self.fit.get("steps_per_epoch"):
            rows = rows[: steps * batch_size]
        arrays = [self.fit.get(name) for name in ARRAYS]
        return self.fit | dict(zip(ARRAYS, take_rows(arrays, rows), strict=True))

    def warn_if_order_is_fixed(self, keep_kernels: bool) -> None:
        """Warn if all repeats will see the batches in the same order.

        Args:
            keep_kernels: See `set_seed`, which has the data read in the orders of two repeats.
        """
        reason = self._reason_for_fixed_order(keep_kernels)
        if reason is not None:
            warn_user(
                "LRRangeTest: the test cannot give its `repeats` different orders of the batches: "
                f"{reason}. Their band shows what else is random, or has no width. Pass arrays "
                "with shuffle=True, or data that shuffle themselves, in more than one batch."
            )

    def _reason_for_fixed_order(self, keep_kernels: bool) -> str | None:
        """Return why all repeats see the same order; None where they do not."""
        x, shuffles = self.x, self.fit.get("shuffle", True)
        if self.batches_per_epoch == 1:
            return "the data are a single batch"
        if are_arrays(x):
            return None if shuffles else "the data are not shuffled (shuffle=False)"
        if isinstance(x, keras.utils.PyDataset) and shuffles:
            return None
        kind = f"the data are {with_article(type(x).__name__)}"
        if inspect.isgenerator(x) or iter(x) is x:
            return f"{kind}, which continues where the last run ended"
        first = []
        for seed in range(2):
            set_seed(seed, keep_kernels)
            first.append([_to_bytes(batch) for batch in self._first_batches()])
        return f"{kind}, which gives them in one order" if first[0] == first[1] else None

    def _first_batches(self) -> list[Any]:
        """Return the batches with which the next epoch begins, of data that are not arrays."""
        x = self.x
        if not isinstance(x, keras.utils.PyDataset):
            return list(itertools.islice(x, COMPARED))
        x.on_epoch_begin()
        batches = self.batches_per_epoch
        first = [x[i] for i in range(COMPARED if batches is None else min(batches, COMPARED))]
        x.on_epoch_end()  # where most data sets shuffle
        return first


def _to_bytes(batch: Any) -> list[bytes]:
    """Return bytes that differ between different batches."""
    return [_leaf_to_bytes(leaf) for leaf in keras.tree.flatten(batch)]


def _leaf_to_bytes(leaf: Any) -> bytes:
    """Return bytes that differ between different arrays."""
    try:
        return np.asarray(leaf).tobytes()
    except (TypeError, ValueError, RuntimeError):  # ragged, or on several devices
        return repr(leaf).encode()


def build_model(model: Any, x: Any) -> None:
    """Build a model that does not know the shape of its input yet, from the data.

    Raises:
        ValueError: If reading the shape would use up the data.
    """
    if is_model_built(model):
        return
    batch = None
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif hasattr(x, "element_spec"):
        batch = next(iter(x))
    elif hasattr(x, "shape") or isinstance(x, dict | list | tuple):
        batch = (keras.tree.map_structure(lambda array: array[:1], x),)
    if batch is None:
        raise ValueError(
            f"The model {model.name!r} is not built, and its data do not show the shape of its "
            "input. Give it an Input, or call it on a batch first."
        )
    model(batch[0] if isinstance(batch, list | tuple) else batch)


def build_model_in_fit(model: Any) -> Any:
    """Return a model whose ``fit`` has begun, built from the data of this ``fit``.

    On TensorFlow a subclassed model has no variables before its first step.

    Raises:
        ValueError: If the shape of the input is not known.
    """
    if not is_model_built(model):
        frame = frame_of_fit(model)
        build_model(model, None if frame is None else frame.f_locals["x"])
    return model
