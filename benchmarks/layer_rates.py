"""Measure what a rate for each part of a model costs per training step.

    KERAS_BACKEND=jax python -m benchmarks.layer_rates [--small] [--pairs N] [--json FILE]

The model is a dense network of 13 layers at batch size 32, trained by Adam, in which every layer
may be a part. It is compared with a fit without callbacks, and with a ``MultiOptimizer`` that has
an optimizer for each part: what Keras offers for the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.fits import Clock
from benchmarks.measure import Effort, Row, main, pairs
from keras_lr import Constant, CosineDecay, LayerRates

BACKEND = keras.backend.backend()
BATCH, LAYERS, WIDTH = 32, 13, 32
RATE = 1e-3
GROUPS = (1, 3, 13)
STEPS = {"tensorflow": 100, "jax": 400, "torch": 60}

Callbacks = Callable[[], list[keras.callbacks.Callback]]


def parts(groups: int) -> dict[str, float]:
    """Return a factor for each of so many groups of neighbouring layers, by pattern."""
    members = np.array_split(np.arange(LAYERS), groups)
    names = ("|".join(f"layer_{number}" for number in some) for some in members)
    return {f".*/({name})/.*": 0.9**power for power, name in enumerate(names)}


def adam(factor: float) -> keras.optimizers.Optimizer:
    """Return an optimizer for a group."""
    return keras.optimizers.Adam(RATE * factor)


def build(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """Return a compiled model."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(WIDTH, "relu", name=f"layer_{number}") for number in range(LAYERS)]
    model = keras.Sequential([keras.Input((WIDTH,)), *layers])
    model.compile(optimizer, "mse")
    return model


def of_parts(groups: int) -> keras.Model:
    """Return a model with an optimizer for each group."""
    by_path = {pattern: adam(factor) for pattern, factor in parts(groups).items()}
    several = keras.optimizers.OptimizerMap(adam(1.0), by_path)
    return build(keras.optimizers.MultiOptimizer(several))


class Fits:
    """Times fits on the same data."""

    def __init__(self, effort: Effort) -> None:
        self.steps = 4 if effort.small else STEPS[BACKEND]
        self.count = effort.pairs(41)
        random = np.random.default_rng(0)
        self.x = random.normal(size=(BATCH * self.steps, WIDTH)).astype("float32")

    def run(self, model: keras.Model, callbacks: Callbacks = list) -> tuple[float, float]:
        clock = Clock()
        group = [clock, *callbacks(), clock.last]
        options: dict[str, Any] = {"batch_size": BATCH, "verbose": 0, "shuffle": False}
        model.fit(self.x, self.x, callbacks=group, **options)
        return clock.wall, clock.cpu

    def row(
        self, what: str, against: str, new: Callable[[], Any], old: Callable[[], Any], goal: Any
    ) -> Row:
        new(), old()
        ratios, cpu = pairs(new, old, self.count)
        return Row(what, against, ratios, cpu, goal, backend=BACKEND)


def measured(effort: Effort) -> list[Row]:
    """Measure every number of groups."""
    fits, rows = Fits(effort), []
    plain = build(adam(1.0))
    none = functools.partial(fits.run, plain)
    goals = {3: 1.05} if BACKEND != "torch" else {}
    for groups in GROUPS:
        model = build(adam(1.0))

        def layer_rates(groups: int = groups) -> list[keras.callbacks.Callback]:
            return [LayerRates(parts(groups))]

        ours = functools.partial(fits.run, model, layer_rates)
        what = f"LayerRates of {groups} group{'s' * (groups > 1)}"
        rows.append(fits.row(what, "fit without callbacks", ours, none, goals.get(groups)))
        theirs = functools.partial(fits.run, of_parts(groups))
        rows.append(fits.row(what, f"MultiOptimizer of {groups}", ours, theirs, 1.0))

    def with_schedule() -> list[keras.callbacks.Callback]:
        return [CosineDecay(RATE), LayerRates(parts(3))]

    def thawing() -> list[keras.callbacks.Callback]:
        frozen = Constant(0.0).lasting("10%") >> Constant(1.0)
        return [LayerRates(dict.fromkeys(parts(3), frozen))]

    for what, callbacks in {
        "CosineDecay and LayerRates of 3 groups": with_schedule,
        "LayerRates of 3 groups that thaw": thawing,
    }.items():
        ours = functools.partial(fits.run, build(adam(1.0)), callbacks)
        rows.append(fits.row(what, "fit without callbacks", ours, none, None))
    return rows


if __name__ == "__main__":
    main(measured, __doc__)
