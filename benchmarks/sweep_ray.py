"""Measure what workers of Ray bring to a sweep, and what they cost to start.

KERAS_BACKEND=jax python -m benchmarks.sweep_ray [--small] [--pairs N] [--json FILE]

It needs Ray and scikit-learn, and says most on a machine with two cores or more that does nothing
else.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import keras

from benchmarks.measure import Effort, Row, main, pairs
from benchmarks.range_data import digits
from benchmarks.sweep import convolutional
from keras_lr import LRSweep, RayEngine

BACKEND = keras.backend.backend()
PAIRS = 2


def run(engine: Any, epochs: int, rates: int, **fit: Any) -> Any:
    """Sweep over some rates of one optimizer."""
    swept = LRSweep(1e-4, 1e-1, (rates - 1) // 3, seeds=1, optimizers=["adam"], verbose=0)
    return swept.run(convolutional, epochs=epochs, engine=engine, **fit)


def trained(engine: Any, epochs: int, rates: int, **fit: Any) -> tuple[float, float]:
    """Return the seconds that each trial takes in the second half of a sweep."""
    times = []

    class Timed(RayEngine):
        """Notes when each outcome comes."""

        def run(self, stretches: Any) -> Any:
            for outcome in super().run(stretches):
                times.append(time.perf_counter())
                yield outcome

    run(Timed(engine.workers), epochs, rates, **fit)
    # Until then each worker is up and has compiled.
    first = len(times) // 2
    seconds = (times[-1] - times[first]) / (len(times) - 1 - first)
    return seconds, seconds


def start(fit: dict[str, Any]) -> list[float]:
    """Return the seconds that a sweep of one short trial takes on a new Ray, beyond training."""
    began = time.perf_counter()
    swept = LRSweep(1e-3, 2e-3, 1, seeds=1, optimizers=["adam"], verbose=0)
    result = swept.run(convolutional, epochs=1, engine=RayEngine(1), **fit)
    return [time.perf_counter() - began - sum(row.seconds for row in result.rows)]


def rows(effort: Effort) -> list[Row]:
    """Measure everything."""
    x, y, _, _ = digits()
    fit = {"x": x, "y": y, "batch_size": 64}
    epochs, rates = (1, 7) if effort.small else (60, 25)
    timed = functools.partial(trained, epochs=epochs, rates=rates, **fit)
    ratios, _ = pairs(lambda: timed(RayEngine(2)), lambda: timed(RayEngine(1)), effort.pairs(PAIRS))
    whole, _ = pairs(
        lambda: run(RayEngine(2), epochs, rates, **fit),
        lambda: run("local", epochs, rates, **fit),
        1,
    )
    return [
        Row("seconds a trial, two workers", "one worker", ratios, goal=0.7, backend=BACKEND),
        Row(
            f"whole sweep of {rates} rates, two workers", "in this process", whole, backend=BACKEND
        ),
        Row("Ray, a worker and its model, to start", "", start(fit), unit=" s", backend=BACKEND),
    ]


if __name__ == "__main__":
    main(rows, __doc__)
