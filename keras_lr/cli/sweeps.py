"""The subcommand `keras-lr sweep`: runs the sweep that a file defines, or shows one."""

from __future__ import annotations

import math
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_lr.search import SweepResult

NAMES = ("build", "data", "sweep")


def run_or_show(
    what: list[str], y: str | None, engine: str | None, workers: int | None, out: Path | None
) -> int:
    """Run the sweep of a file, or show what the sweep in a directory has found."""
    from keras_lr.search import SweepResult

    if workers is not None and engine != "ray":
        raise ValueError("--workers is for --engine ray")
    match what:
        case ["show", directory]:
            result = SweepResult.load(directory)
            print(result.report())
            print()
            print(table(result, y))
        case [study] if study != "show":
            result = _run(Path(study), engine, workers)
        case _:
            raise ValueError(
                "sweep takes a file, or `show` and a directory. Received: " + " ".join(what)
            )
    if out is not None:
        from keras_lr import plotting

        out.parent.mkdir(parents=True, exist_ok=True)
        plotting.close(result.plot(y).figure, out)
        print(f"wrote {out}")
    return 0


def _run(study: Path, engine: str | None, workers: int | None) -> SweepResult:
    """Run the sweep that a file defines, on the engine of its data if none is given."""
    from keras_lr.search import RayEngine

    if not study.is_file():
        raise FileNotFoundError(f"there is no file {study}")
    sys.path.insert(0, str(study.parent))
    found = runpy.run_path(str(study), run_name="__keras_lr_sweep__")
    missing = [name for name in NAMES if name not in found]
    if missing:
        raise ValueError(
            f"{study} must define build, data and sweep. It lacks: {', '.join(missing)}"
        )
    data = found["data"]
    data = data() if callable(data) else data
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{study}: `data` must be a dict of arguments for LRSweep.run, such as x, y and "
            f"epochs, or a function that returns one. Received: a {type(data).__name__}"
        )
    if engine is not None:
        data = {**data, "engine": RayEngine(workers) if engine == "ray" else engine}
    return found["sweep"].run(found["build"], **data)


def table(result: SweepResult, y: str | None) -> str:
    """Return a table of the mean over the seeds: a row for each rate, a column for each optimizer.

    Args:
        result: What the sweep has found.
        y: What to show; by default what the trials are compared by.
    """
    from keras_lr.plotting.text import align_columns

    measure = y or result.criterion.measure
    rates = sorted({float(rate) for valley in result.valleys for rate in valley.rates})
    columns: list[dict[float, str]] = []
    for valley in result.valleys:
        shown = zip(valley.rates.tolist(), valley.curve(measure)[0], valley.rows, strict=True)
        columns.append({rate: _cell(value, rows) for rate, value, rows in shown})
    head = ("rate", *(str(valley.group) for valley in result.valleys))
    lines = [(f"{rate:.3g}", *(column.get(rate, "") for column in columns)) for rate in rates]
    return f"{measure}\n{align_columns([head, *lines])}"


def _cell(value: float, rows: list[Any]) -> str:
    if math.isfinite(value):
        return f"{value:.4g}"
    return next((row.status for row in rows if row.reason), "-")
