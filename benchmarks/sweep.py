"""Measure a sweep against the loop that people write, and its memory over many trials.

KERAS_BACKEND=jax python -m benchmarks.sweep [--small] [--pairs N] [--json FILE]

It needs scikit-learn for its data, and Linux, to read how much memory is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.measure import Effort, Row, main, pairs
from benchmarks.range_data import digits
from benchmarks.range_test_cost import resident
from keras_lr import LRSweep

BACKEND = keras.backend.backend()
GOALS = {"tensorflow": 1 / 10, "jax": 1 / 30}
"""The most that a sweep of the dense network may take of the loop's time."""

PAIRS = 3


def dense(optimizer: Any) -> Any:
    """Return a small dense network."""
    return compiled(
        [keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)], optimizer
    )


def convolutional(optimizer: Any) -> Any:
    """Return a small network of convolutions."""
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
    return compiled(layers, optimizer)


def compiled(layers: list[Any], optimizer: Any) -> Any:
    """Return a compiled classifier."""
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def loop(build: Callable[[Any], Any], rates: Any, **fit: Any) -> list[float]:
    """Train a new model at each rate, as people do."""
    found = []
    for rate in rates:
        keras.utils.set_random_seed(0)
        history = build(keras.optimizers.Adam(rate)).fit(verbose=0, **fit)
        found.append(history.history["loss"][-1])
    return found


def sweep(build: Callable[[Any], Any], rates: Any, **fit: Any) -> list[float]:
    """Train at the same rates in a sweep."""
    swept = LRSweep(rates[0], rates[-1], per_decade(rates), seeds=1, optimizers=["adam"], verbose=0)
    return [row.value for row in swept.run(build, **fit).rows]


def per_decade(rates: Any) -> int:
    """Return how many rates there are in a factor of ten."""
    return round((len(rates) - 1) / np.log10(rates[-1] / rates[0]))


def compare(what: str, build: Any, x: Any, y: Any, effort: Effort, goal: float | None) -> Row:
    """Measure a sweep beside the loop, on the same trials."""
    rates = np.geomspace(1e-5, 10.0, 25) if not effort.small else np.geomspace(1e-3, 0.1, 3)
    rates = [float(f"{rate:.6g}") for rate in rates]
    fit = {"x": x, "y": y, "epochs": 2 if effort.small else 20, "batch_size": 64}
    run = functools.partial(sweep, build, rates, **fit)
    by_hand = functools.partial(loop, build, rates, **fit)
    if effort.small and not np.allclose(run(), by_hand(), rtol=1e-6, equal_nan=True):
        raise RuntimeError("the sweep and the loop do not train the same")
    ratios, cpu = pairs(run, by_hand, effort.pairs(PAIRS))
    against = "new model, compile, fit for each rate"
    return Row(f"sweep of {what}, {len(rates)} rates", against, ratios, cpu, goal, backend=BACKEND)


def memory(x: Any, y: Any, effort: Effort) -> Row:
    """Measure what the memory of the process grows by over many trials, after the first ones."""
    count = 5 if effort.small else 500
    trials: list[Any] = []
    sizes: list[int] = []

    def look(trial: Any) -> list[Any]:
        trials.append(trial)
        if not len(trials) % (1 if effort.small else 50):
            sizes.append(resident())
        return []

    swept = LRSweep(1e-5, 1.0, max(1, count // 50), seeds=10, optimizers=["adam"], verbose=0)
    swept.run(dense, x[:128], y[:128], epochs=1, batch_size=64, callbacks=look)
    growth = (sizes[-1] - sizes[len(sizes) // 5]) / 2**20
    return Row(f"memory over {len(trials)} trials, after a fifth", "", [growth], unit=" MiB")


def rows(effort: Effort) -> list[Row]:
    """Measure everything."""
    x, y, _, _ = digits()
    flat = x.reshape(len(x), -1)
    return [
        compare("a dense network", dense, flat, y, effort, GOALS.get(BACKEND)),
        compare("a convolutional network", convolutional, x, y, effort, 1.0),
        memory(flat, y, effort),
    ]


if __name__ == "__main__":
    main(rows, __doc__)
