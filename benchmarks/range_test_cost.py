"""Measure a range test against the training that it does, and a snapshot against a copy.

KERAS_BACKEND=jax python -m benchmarks.range_test_cost [--small] [--pairs N] [--json FILE]

It needs Linux, to read how much memory is used.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.measure import PAIRS, Effort, Row, main, once, pairs
from keras_lr import CosineDecay, LinearDecay, LRRangeTest
from keras_lr._keras.state.snapshot import Snapshot

BACKEND = keras.backend.backend()
BATCH = 32


class Counting(keras.Model):
    """Counts how often Python calls its layers: once for each trace of a step."""

    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        self.parts = keras.Sequential(layers)
        self.traces = 0

    def call(self, x: Any) -> Any:
        self.traces += 1
        return self.parts(x)


def model_of(width: int, depth: int, optimizer: Any, own: bool = False) -> Any:
    """Return a dense network, of Keras's layers alone or inside a custom class."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, "relu") for _ in range(depth)]
    model = (Counting if own else keras.Sequential)([*layers, keras.layers.Dense(10)])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def tests(steps: int, count: int) -> list[Row]:
    """Measure a range test of ``steps`` steps beside a fit of as many."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * steps, 64)).astype("float32")
    y = rng.integers(0, 10, BATCH * steps)
    what, against = f"range test of {steps} steps, with restore", f"fit of {steps} steps"
    rows = []
    for own in (False, True):
        model = model_of(32, 1, keras.optimizers.SGD(1e-3), own)
        tested, trained = runs(model, x, y, steps)
        traces = getattr(model, "traces", 0)
        ratios, cpu = pairs(tested, trained, count)
        whose = ", model of a custom class" if own else ""
        rows.append(Row(what + whose, against, ratios, cpu, 1.15, backend=BACKEND))
    if BACKEND != "torch":
        rows.append(Row("traces in those tests and fits", "", [float(model.traces - traces)]))
        fit = functools.partial(model.fit, x, y, batch_size=BATCH, verbose=0)
        fit(callbacks=[CosineDecay(0.1)])
        traces = model.traces
        fit(callbacks=[LinearDecay(0.1)])
        again = [float(model.traces - traces)]
        rows.append(Row("traces in a fit with another schedule", "", again))
    return rows


def runs(model: Any, x: Any, y: Any, steps: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return a range test and a fit, both of a model that is already compiled."""
    fit = functools.partial(model.fit, x, y, batch_size=BATCH, verbose=0)
    fit()
    model.optimizer.iterations.assign(0)
    test = LRRangeTest(1e-6, 1e-3, steps, rule="edge", stop_factor=1e9, verbose=0)
    untrained = Snapshot(model)

    def fresh(run: Callable[[], Any]) -> tuple[float, float]:
        # In a model that was trained before, the test would make one more run.
        untrained.restore()
        return once(run)

    trained = functools.partial(fresh, fit)
    tested = functools.partial(fresh, functools.partial(test.run, model, x, y, batch_size=BATCH))
    tested(), trained()
    return tested, trained


def snapshots(width: int, count: int) -> list[Row]:
    """Measure a snapshot with its restore beside a copy of the same state in memory."""
    map_from(1 << 20)
    model = model_of(width, 6, keras.optimizers.Adam())
    model(np.zeros((1, width), "float32"))
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    state = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    size = sum(value.nbytes for value in state)

    before = resident()
    snapshot = Snapshot(model)
    snapshot.restore()
    memory = (resident("HWM") - before) / size
    map_from(32 << 20)

    taken, taken_cpu = pairs(lambda: Snapshot(model), lambda: copied(state), count)
    put_back, put_back_cpu = pairs(snapshot.restore, lambda: copied(state), count)
    kept = list(zip(variables, state, strict=True))
    floor, floor_cpu = pairs(lambda: assigned(kept), lambda: copied(state), count)
    parameters = model.count_params() / 1e6
    about = f"of {parameters:.1f} million parameters with Adam"
    copy = "one copy of its state"
    return [
        Row(f"snapshot {about}: memory", copy, [memory], goal=1.5, backend=BACKEND),
        Row(f"snapshot {about}: time", copy, taken, taken_cpu, 1.5, backend=BACKEND),
        Row(f"restore {about}: time", copy, put_back, put_back_cpu, 1.5, backend=BACKEND),
        Row("Keras's assign to each of its variables", copy, floor, floor_cpu, backend=BACKEND),
    ]


def assigned(values: list[tuple[Any, Any]]) -> None:
    """Assign an array to each variable."""
    for variable, value in values:
        variable.assign(value)


def resident(which: str = "RSS") -> int:
    """Return the bytes of memory of this process, as Linux counts them: now, or the highest.

    Reading the present number resets the highest.
    """
    if which == "RSS":
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"Vm{which}:"))
    return int(line.split()[1]) * 1024


def map_from(size: int) -> None:
    """Make the allocator return blocks of ``size`` bytes or more to Linux once they are free."""
    ctypes.CDLL(None).mallopt(-3, size)  # M_MMAP_THRESHOLD


def copied(state: list[Any]) -> list[Any]:
    """Copy arrays."""
    return [value.copy() for value in state]


def rows(effort: Effort) -> list[Row]:
    """Measure both."""
    steps, width = (20, 64) if effort.small else (100, 2048)
    return tests(steps, effort.pairs(8 * PAIRS)) + snapshots(width, effort.pairs(PAIRS))


if __name__ == "__main__":
    main(rows, __doc__)
