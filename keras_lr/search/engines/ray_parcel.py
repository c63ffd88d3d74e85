"""`Parcel`: what is sent to Ray's workers: a problem as bytes, its arrays, Keras's settings."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lr.search.trials.problem import DATA, Problem


@dataclasses.dataclass(frozen=True)
class Stored:
    """Placeholder for an array that is sent separately."""

    index: int


class Parcel(NamedTuple):
    """A problem in the form in which it is sent to the workers.

    Arrays are separate, so that all workers of a machine can read the same memory. Everything else
    is pickled, so that each worker has its own objects: these may change, as does a dataset that
    shuffles its indices.
    """

    content: bytes
    arrays: list[np.ndarray]


def pack(problem: Problem, dumps: Callable[[Any], bytes]) -> Parcel:
    """Return a problem as a parcel.

    Args:
        problem: The problem.
        dumps: Function that pickles any object, including functions.

    Raises:
        ValueError: If a part of it cannot be sent; the message names the argument.
    """
    arrays: list[np.ndarray] = []

    def store(leaf: Any) -> Any:
        if type(leaf) is not np.ndarray or leaf.dtype.hasobject:
            return leaf
        arrays.append(leaf)
        return Stored(len(arrays) - 1)

    fit = {
        name: keras.tree.map_structure(store, value) if name in DATA else value
        for name, value in problem.fit.items()
    }
    parts = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}
    parts["fit"] = fit
    parts["test_data"] = keras.tree.map_structure(store, problem.test_data)
    # Keras would pickle an optimizer as a file, and would not find the user's classes in it.
    parts["optimizers"] = {
        name: (type(optimizer), optimizer.get_config())
        for name, optimizer in problem.optimizers.items()
    }
    try:
        return Parcel(dumps((parts, _keras_settings())), arrays)
    except Exception as error:
        name, reason = _find_unpicklable_part(parts, dumps) or ("build", error)
        raise ValueError(
            f"{problem.search.name}.run: argument `{name}` cannot be sent to a worker of Ray: "
            f"{type(reason).__name__}: {reason}. Make what it needs inside of a function, such as "
            "`build`, or pass engine='local'."
        ) from error


def _find_unpicklable_part(
    parts: dict[str, Any], dumps: Callable[[Any], bytes]
) -> tuple[str, Exception] | None:
    """Return the name of the argument that cannot be pickled, and why."""
    named = {"build": parts["builds"], **parts["fit"], **parts}
    for name, part in named.items():
        if name in ("builds", "fit"):
            continue
        try:
            dumps(part)
        except Exception as error:
            return name, error
    return None


def unpack(content: bytes, arrays: list[np.ndarray]) -> Problem:
    """Return the problem in a parcel, after applying the Keras settings of its sender.

    Raises:
        Exception: Any exception that is raised while something is unpickled.
    """
    parts, settings = pickle.loads(content)
    _apply_keras_settings(settings)

    def fetch(leaf: Any) -> Any:
        return arrays[leaf.index] if isinstance(leaf, Stored) else leaf

    parts["fit"] = {
        name: keras.tree.map_structure(fetch, value) if name in DATA else value
        for name, value in parts["fit"].items()
    }
    parts["test_data"] = keras.tree.map_structure(fetch, parts["test_data"])
    parts["optimizers"] = {
        name: kind.from_config(config) for name, (kind, config) in parts["optimizers"].items()
    }
    return Problem(**parts)


def _keras_settings() -> dict[str, Any]:
    """Return the settings of Keras that determine what a model computes."""
    return {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "dtype_policy": keras.dtype_policies.serialize(keras.config.dtype_policy()),
    }


def _apply_keras_settings(settings: dict[str, Any]) -> None:
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    policy = keras.dtype_policies.deserialize(settings["dtype_policy"])
    keras.config.set_dtype_policy(policy)
