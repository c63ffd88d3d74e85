"""Measure what a population costs beside a sweep of the same epochs, and what it finds.

KERAS_BACKEND=jax python -m benchmarks.population [--small] [--pairs N] [--json FILE]

It needs scikit-learn for its data.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import keras
import numpy as np

from benchmarks.measure import Effort, Row, main, pairs
from benchmarks.range_data import digits
from benchmarks.sweep import dense
from keras_lr import LRSweep, PopulationBasedTraining
from keras_lr._keras.state.snapshot import Snapshot
from keras_lr.search.engines.local import LocalEngine

BACKEND = keras.backend.backend()
SWAP = 2.0
"""The most milliseconds that it may take to exchange the training of one member for another's."""

RANGES = {"from 3e-5 to 0.1": (3e-5, 0.1), "from 1e-5 to 1e-4": (1e-5, 1e-4)}
"""One that covers the best rate, and one that ends far below it."""

PAIRS = 3
SEEDS = 3


class Timed(LocalEngine):
    """Engine that notes how long each stretch takes."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[float] = []
        """Seconds of a stretch."""
        self.cpu: list[float] = []
        """The same of the processor."""
        self.training: list[float] = []
        """Seconds of its epoch, validation left out."""

    def run(self, stretches: Any) -> Any:
        began, cpu = time.perf_counter(), time.process_time()
        for outcome in super().run(stretches):
            self.whole.append(time.perf_counter() - began)
            self.cpu.append(time.process_time() - cpu)
            self.training.append(outcome.seconds)
            yield outcome
            began, cpu = time.perf_counter(), time.process_time()


def population(
    rates: tuple[float, float], members: int, engine: Any, seed: int = 0, **fit: Any
) -> Any:
    """Train a population with rounds of one epoch."""
    trained = PopulationBasedTraining({"learning_rate": rates}, members, seed=seed, verbose=0)
    return trained.run(dense, engine=engine, **fit)


def grid(rates: tuple[float, float], members: int, seed: int = 0, **fit: Any) -> Any:
    """Train as many models at fixed rates, for as many epochs, each with weights of its own."""
    found = []
    for member, rate in enumerate(np.geomspace(*rates, members)):
        keras.utils.set_random_seed(seed * members + member)
        model = dense(keras.optimizers.Adam(float(rate)))
        found.append(model.fit(verbose=0, **fit).history["val_loss"][-1])
    return found


def swept(rates: tuple[float, float], members: int, **fit: Any) -> Any:
    """Train as many trials in a sweep, for as many epochs."""
    per_decade = max(1, round((members - 1) / np.log10(rates[1] / rates[0])))
    return LRSweep(*rates, per_decade, seeds=1, optimizers=["adam"], verbose=0).run(dense, **fit)


def stretches(engine: Timed, members: int) -> list[Row]:
    """Return what a stretch of one epoch took, and the part of it that is training."""
    whole, cpu, training = (
        (1e3 * np.array(one[members:])).tolist()
        for one in (engine.whole, engine.cpu, engine.training)
    )
    what = "a stretch of one epoch"
    return [
        Row(what, "", whole, cpu, backend=BACKEND, unit=" ms"),
        Row(f"{what}: the training in it", "", training, backend=BACKEND, unit=" ms"),
    ]


def swap(x: Any, y: Any, count: int) -> Row:
    """Measure keeping the state of one member and putting that of another one back."""
    model = dense(keras.optimizers.Adam())
    model.fit(x[:64], y[:64], verbose=0)
    states = [Snapshot(model), Snapshot(model)]
    taken, cpu = [], []
    for number in range(count):
        began, cpu_began = time.perf_counter(), time.process_time()
        states[number % 2] = Snapshot(model)
        states[1 - number % 2].restore(unbuild=False)
        taken.append(1e3 * (time.perf_counter() - began))
        cpu.append(1e3 * (time.process_time() - cpu_began))
    return Row("a swap of two members", "", taken, cpu, SWAP, backend=BACKEND, unit=" ms")


def found(fit: dict[str, Any], members: int, effort: Effort) -> list[Row]:
    """Measure the validation loss of the best member over that of the best fixed rate."""
    rows = []
    for name, rates in [*RANGES.items()][: 1 if effort.small else None]:
        ratios = []
        for seed in range(1 if effort.small else SEEDS):
            best = population(rates, members, "local", seed, **fit).best.score
            ratios.append(best / min(grid(rates, members, seed, **fit)))
        rows.append(
            Row(
                f"validation loss of the best of {members}, rates {name}",
                "best of as many fixed rates",
                ratios,
                backend=BACKEND,
            )
        )
    return rows


def rows(effort: Effort) -> list[Row]:
    """Measure everything."""
    x, y, test_x, test_y = digits()
    x, test_x = (one.reshape(len(one), -1) for one in (x, test_x))
    members, epochs = (2, 2) if effort.small else (8, 30)
    if effort.small:
        x, y = x[:128], y[:128]
    fit = {"x": x, "y": y, "validation_data": (test_x, test_y), "batch_size": 64, "epochs": epochs}
    rates = (1e-4, 1e-1)
    engines = []

    def ours() -> None:
        engines.append(Timed())
        population(rates, members, engines[-1], **fit)

    by_fit, _ = pairs(ours, functools.partial(grid, rates, members, **fit), effort.pairs(PAIRS))
    in_sweep, _ = pairs(ours, functools.partial(swept, rates, members, **fit), effort.pairs(PAIRS))
    what = f"population of {members}, {epochs} epochs"
    return [
        Row(what, "new model, compile, fit for each rate", by_fit, backend=BACKEND),
        Row(what, "sweep of as many rates", in_sweep, backend=BACKEND),
        *stretches(engines[-1], members),
        swap(x, y, 5 if effort.small else 200),
        *found(fit, members, effort),
    ]


if __name__ == "__main__":
    main(rows, __doc__)
