"""Measure a sweep against the loop that people write, KerasTuner and Optuna, and its memory.

KERAS_BACKEND=jax python -m benchmarks.sweep [--small] [--pairs N] [--json FILE]

It needs scikit-learn for its data, and Linux, to read how much memory is used. KerasTuner and
Optuna are left out where they are not installed.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.measure import Effort, Row, main, pairs
from benchmarks.range_data import digits
from benchmarks.range_test_cost import resident
from keras_lr import LRSweep
from keras_lr.search.engines.local import LocalEngine

BACKEND = keras.backend.backend()
GOALS = {"tensorflow": 1 / 10, "jax": 1 / 30}
"""The most that a sweep of the dense network may take of the loop's time."""

PAIRS = 3

MANY = 450
"""Training runs that are to take less than a minute on JAX."""


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


def loop(build: Callable[[Any], Any], rates: Any, seeds: int = 1, **fit: Any) -> list[float]:
    """Train a new model at each rate, as people do."""
    found = []
    for rate, seed in itertools.product(rates, range(seeds)):
        keras.utils.set_random_seed(seed)
        history = build(keras.optimizers.Adam(rate)).fit(verbose=0, **fit)
        found.append(history.history["loss"][-1])
    return found


def keras_tuner_grid(build: Callable[[Any], Any], rates: Any, **fit: Any) -> list[float]:
    """Train at each rate by the grid of KerasTuner."""
    import keras_tuner

    def built(parameters: Any) -> Any:
        keras.utils.set_random_seed(0)
        return build(keras.optimizers.Adam(parameters.Choice("rate", rates)))

    with tempfile.TemporaryDirectory() as folder:
        objective = keras_tuner.Objective("loss", "min")
        tuner = keras_tuner.GridSearch(built, objective, directory=folder)
        tuner.search(verbose=0, **fit)
        trials = tuner.oracle.get_best_trials(len(rates))
        found = {trial.hyperparameters.get("rate"): trial.score for trial in trials}
        return [found[rate] for rate in rates]


def optuna_grid(build: Callable[[Any], Any], rates: Any, **fit: Any) -> list[float]:
    """Train at each rate by the grid of Optuna."""
    import optuna

    def objective(trial: Any) -> float:
        rate = trial.suggest_categorical("rate", rates)
        return loop(build, [rate], **fit)[0]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"rate": rates}))
    study.optimize(objective, n_trials=len(rates))
    found = {trial.params["rate"]: trial.value for trial in study.trials}
    return [found[rate] for rate in rates]


OTHERS = {
    "loop": ("new model, compile, fit for each rate", loop),
    "keras_tuner": ("KerasTuner's GridSearch", keras_tuner_grid),
    "optuna": ("Optuna's GridSampler", optuna_grid),
}


def sweep(build: Callable[[Any], Any], rates: Any, seeds: int = 1, **fit: Any) -> list[float]:
    """Train at the same rates in a sweep."""
    options = {"seeds": seeds, "optimizers": ["adam"], "verbose": 0}
    swept = LRSweep(rates[0], rates[-1], per_decade(rates), **options)
    return [row.value for row in swept.run(build, **fit).rows]


def per_decade(rates: Any) -> int:
    """Return how many rates there are in a factor of ten."""
    return round((len(rates) - 1) / np.log10(rates[-1] / rates[0]))


def rates_of(effort: Effort) -> list[float]:
    """Return the rates to train at."""
    rates = np.geomspace(1e-5, 10.0, 25) if not effort.small else np.geomspace(1e-3, 0.1, 3)
    return [float(f"{rate:.6g}") for rate in rates]


def fit_of(x: Any, y: Any, effort: Effort) -> dict[str, Any]:
    """Return the arguments of each training run."""
    return {"x": x, "y": y, "epochs": 2 if effort.small else 20, "batch_size": 64}


def compare(
    what: str,
    build: Any,
    fit: dict[str, Any],
    effort: Effort,
    goal: float | None = None,
    other: str = "loop",
    seeds: int = 1,
) -> list[Row]:
    """Measure a sweep beside another way to train the same trials, if that is installed."""
    if other != "loop" and importlib.util.find_spec(other) is None:
        return []
    against, by_other = OTHERS[other]
    rates, more = rates_of(effort), {"seeds": seeds} if seeds > 1 else {}
    run = functools.partial(sweep, build, rates, **fit, **more)
    theirs = functools.partial(by_other, build, rates, **fit, **more)
    # What a process does once belongs to neither of them.
    if sweep(build, rates[:2], **fit) != loop(build, rates[:2], **fit):
        raise RuntimeError("the sweep and the loop do not train the same")
    usual = PAIRS if other == "loop" and seeds == 1 else 1
    ratios, cpu = pairs(run, theirs, effort.pairs(usual))
    what = f"sweep of {what}, {len(rates)} rates" + (f", {seeds} seeds" if more else "")
    return [Row(what, against, ratios, cpu, goal, backend=BACKEND)]


def seconds(x: Any, y: Any, effort: Effort) -> Row:
    """Measure how long many training runs of the dense network take."""
    rates = rates_of(effort)
    seeds = 1 if effort.small else MANY // len(rates)
    began = time.perf_counter()
    trained = len(sweep(dense, rates, seeds, **fit_of(x, y, effort)))
    taken = time.perf_counter() - began
    goal = 60.0 if BACKEND == "jax" else None
    return Row(f"{trained} training runs of a dense network", "", [taken], goal=goal, unit=" s")


def memory(x: Any, y: Any, effort: Effort) -> Row:
    """Measure what the memory of the process grows by over many trials, after the first ones."""
    count = 5 if effort.small else 500
    sizes: list[int] = []

    class Measuring(LocalEngine):
        def run(self, stretches: Any) -> Any:
            for number, outcome in enumerate(super().run(stretches)):
                if not number % (1 if effort.small else 50):
                    sizes.append(resident())
                yield outcome

    swept = LRSweep(1e-5, 1.0, max(1, count // 50), seeds=10, optimizers=["adam"], verbose=0)
    fit = {"epochs": 1, "batch_size": 64, "engine": Measuring()}
    trials = swept.run(dense, x[:128], y[:128], **fit).rows
    growth = (sizes[-1] - sizes[len(sizes) // 5]) / 2**20
    return Row(f"memory over {len(trials)} trials, after a fifth", "", [growth], unit=" MiB")


def rows(effort: Effort) -> list[Row]:
    """Measure everything."""
    x, y, _, _ = digits()
    flat = x.reshape(len(x), -1)
    network = "a dense network", dense, fit_of(flat, y, effort), effort
    return [
        *compare(*network, GOALS.get(BACKEND)),
        *compare(*network, seeds=3),
        *compare(*network, other="keras_tuner"),
        *compare(*network, other="optuna"),
        *compare("a convolutional network", convolutional, fit_of(x, y, effort), effort, 1.0),
        seconds(flat, y, effort),
        memory(flat, y, effort),
    ]


if __name__ == "__main__":
    main(rows, __doc__)
