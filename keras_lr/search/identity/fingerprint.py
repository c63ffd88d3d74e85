"""Fingerprint of a sweep: everything that determines its results, as plain data to compare."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np

from keras_lr._keras.fits.fit_data import are_arrays
from keras_lr.search.engines.base import Rehearsal
from keras_lr.search.identity.values import describe, digest
from keras_lr.search.trials.problem import DATA, Problem

FORMAT = 2
"""How values are described. Fingerprints of different formats cannot be compared."""


def fingerprint(
    problem: Problem, rehearsal: Rehearsal, stops: tuple[int, ...], subset: float | None
) -> dict[str, Any]:
    """Return everything that determines the results of trials, under names that users know.

    What only determines which trials there are is left out, so that a sweep can be extended. Nested
    dicts have an entry for each size and optimizer; later runs may have more of them.

    Args:
        problem: What is trained.
        rehearsal: The rehearsal, with descriptions of the models.
        stops: Epochs after which trials are compared.
        subset: Share of the rows to train on.
    """
    fit = {name: describe(value) for name, value in problem.fit.items() if name not in DATA}
    callbacks = problem.callbacks
    return {
        "format": FORMAT,
        "backend": keras.backend.backend(),
        "epochs": problem.epochs,
        "halving": list(stops),
        "monitor": problem.monitor,
        "mode": problem.mode,
        "until": str(problem.target or ""),
        "subset": subset,
        "arguments of fit": fit,
        **{name: digest(describe_data(problem.fit.get(name))) for name in DATA},
        "test_data": digest(describe_data(problem.test_data)),
        "schedule": describe(problem.schedule),
        "callbacks": describe(callbacks if callable(callbacks) else list(callbacks)),
        "build": {
            f"build {size}".strip(): describe(build) for size, build in problem.builds.items()
        },
        "model": {str(group): digest(model) for group, model in rehearsal.models.items()},
        "optimizer": {
            name: _describe_optimizer(optimizer) for name, optimizer in problem.optimizers.items()
        },
    }


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of the entries that differ; one that only one side has does not count."""
    found = []
    for name in before.keys() & now.keys():
        one, other = before[name], now[name]
        if name in ("build", "model", "optimizer"):
            shared = one.keys() & other.keys()
            found += [
                f"{name} of {part}" if name == "model" else part
                for part in shared
                if one[part] != other[part]
            ]
        elif one != other:
            found.append(name)
    if "epochs" in found and "halving" in found:
        found.remove("halving")  # the epochs of its comparisons are shares of all epochs
    return sorted(found)


def _describe_optimizer(optimizer: keras.optimizers.Optimizer) -> str:
    config = optimizer.get_config()
    shown = {name: config[name] for name in config if name not in ("learning_rate", "name")}
    return describe([type(optimizer), shown])


def describe_data(data: Any) -> str:
    """Return text that identifies data: the contents of arrays, or the type and size of others."""
    if data is None:
        return ""
    if are_arrays(data):
        leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(data) if leaf is not None]
        return json.dumps([[leaf.shape, str(leaf.dtype), _content(leaf)] for leaf in leaves])
    size = len(data) if hasattr(data, "__len__") else "?"
    return f"{type(data).__name__} {size} {getattr(data, 'element_spec', '')}"


def _content(array: np.ndarray) -> str:
    if array.dtype == object:
        return describe(array.tolist())
    return digest(np.ascontiguousarray(array).tobytes())
