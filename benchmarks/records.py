"""Measure the record of ten million steps: memory, writing, drawing.

python -m benchmarks.records [--small] [--json FILE]
"""

from __future__ import annotations

import io
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from benchmarks.measure import Effort, Row, main
from keras_lr import LRHistory


def record(steps: int) -> LRHistory:
    """Return a history of ``steps`` steps, in a thousand epochs."""
    rng = np.random.default_rng(0)
    history = LRHistory()
    step = np.arange(steps)
    history.load_state_dict(
        {
            "step": step,
            "epoch": step * 1000 // steps,
            "learning_rate": 0.05 * (1 + np.cos(np.pi * step / steps)),
            "loss": 1 / (1 + 1e-5 * step) + 0.05 * rng.normal(size=steps),
        }
    )
    return history


def rows(effort: Effort) -> list[Row]:
    """Measure the memory, ``to_csv`` and ``plot``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = 100_000 if effort.small else 10_000_000
    tracemalloc.start()
    history = record(steps)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    begun = time.perf_counter()
    axes = history.plot()
    axes.figure.savefig(io.BytesIO(), format="png")
    drawn = time.perf_counter() - begun
    pyplot.close(axes.figure)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        begun = time.perf_counter()
        history.to_csv(path)
        written = time.perf_counter() - begun
        again = (
            len(LRHistory.from_csv(path)) if effort.small else path.read_bytes().count(b"\n") - 1
        )
    if again != steps:
        raise AssertionError(f"the file holds {again} steps, not {steps}")

    amount = f"{steps:,} steps"
    return [
        Row(f"record of {amount}, bytes a step", "", [held / steps], goal=32.0),
        Row(f"plot and save a picture of {amount}", "", [drawn], goal=3.0, unit=" s"),
        Row(f"to_csv of {amount}", "", [written], unit=" s"),
    ]


if __name__ == "__main__":
    main(rows, __doc__)
