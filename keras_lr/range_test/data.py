"""What a range test trains on: the data arguments of a ``fit``, checked and described."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_lr._keras.object_walk import callables_in
from keras_lr.callback import LearningRateCallback

DECIDED = {"epochs": "steps", "initial_epoch": "steps", "verbose": "verbose"}
"""Arguments of ``fit`` that the test decides, each with the one of the test that stands for it."""


def check_arguments(fit: dict[str, Any]) -> None:
    """Refuse arguments of ``fit`` that a test cannot use.

    Raises:
        TypeError: If the test itself decides one of them.
        ValueError: If there are no data, or a callback drives what the test drives.
    """
    for name, own in DECIDED.items():
        if name in fit:
            raise TypeError(
                f"LRRangeTest.run: argument `{name}` is decided by the test; pass `{own}` to "
                f"LRRangeTest instead. Received: {name}={fit[name]!r}"
            )
    given = keras.tree.flatten(fit.get("callbacks") or [])
    driving = [one for one in given if isinstance(one, LearningRateCallback)]
    if driving:
        raise ValueError(
            "LRRangeTest.run: argument `callbacks` must hold none that drives a rate or another "
            f"hyperparameter, which the test does. Received: callbacks={driving!r}"
        )
    if fit["x"] is None or batches_per_epoch(fit) == 0:
        raise no_batch(fit["x"])


def no_batch(x: Any) -> ValueError:
    """Return the error for data without a batch."""
    return ValueError(
        f"LRRangeTest: argument `x` must hold at least one batch to train on. Received: x={x!r}"
    )


def build_model(model: Any, x: Any) -> None:
    """Build a model that does not know the shape of its input yet, from the data.

    Raises:
        ValueError: If the data would be used up by a look at their shape.
    """
    if model.built:
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
            "input. Give it an Input, call it on a batch, or call model.build(input_shape) first."
        )
    model(batch[0] if isinstance(batch, list | tuple) else batch)


def batches_per_epoch(fit: dict[str, Any]) -> int | None:
    """Return the number of batches in an epoch; None where the data do not say."""
    x = fit["x"]
    if are_arrays(x):
        return math.ceil(len(keras.tree.flatten(x)[0]) / (fit.get("batch_size") or 32))
    try:
        return len(x)
    except TypeError:
        return None


def are_arrays(x: Any) -> bool:
    """Return whether data are arrays or tensors, alone or nested."""
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(hasattr(a, "shape") for a in leaves if a is not None)


def callables_of(model: Any, callbacks: list[Any], *data: Any) -> list[Any]:
    """Return what a fit calls: the parts of the model and of its compilation, callbacks, data."""
    loaders = [one for one in data if not are_arrays(one)]
    return [*callables_in(model), *callbacks, *loaders]
