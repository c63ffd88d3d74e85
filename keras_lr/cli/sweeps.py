"""The subcommand `keras-lr sweep`: runs the sweep or the population of a file, or shows one."""

from __future__ import annotations

import math
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lr._hints import with_article

if TYPE_CHECKING:
    from keras_lr.search import PopulationResult, SweepResult


def run_or_show(
    what: list[str], y: str | None, engine: str | None, workers: int | None, out: Path | None
) -> int:
    """Run the search in a file, or show the results of the one in a directory."""
    if workers is not None and engine != "ray":
        raise ValueError("--workers is for --engine ray")
    match what:
        case ["show", directory]:
            result = _load(Path(directory))
            _show(result, y)
        case [study] if study != "show":
            result = _run(Path(study), y, engine, workers)
            _check_trained(result)
        case _:
            raise ValueError(
                "sweep takes a file, or `show` and a directory. Received: " + " ".join(what)
            )
    if out is not None:
        from keras_lr import plotting

        out.parent.mkdir(parents=True, exist_ok=True)
        axes = result.plot()[0] if _is_population(result) else result.plot(y)
        plotting.close(axes.figure, out)
        print(f"wrote {out}")
    return 130 if trains(what) and result.interrupted else 0


def trains(what: list[str]) -> bool:
    """Return whether the command trains, rather than only showing results."""
    return what[0] != "show"


def _show(result: Any, y: str | None) -> None:
    """Print the results of a sweep or a population."""
    from keras_lr.search.results.plot import measures

    if _is_population(result):
        _refuse_y(y)
    elif y is not None and y not in (known := measures(result)):
        raise ValueError(f"--y must be one of {', '.join(known)}. Received: {y}")
    print(result.report())
    print()
    print(last_round(result) if _is_population(result) else table(result, y))


def _load(directory: Path) -> Any:
    """Return the results of the sweep or the population in a directory."""
    from keras_lr.search import PopulationResult, SweepResult
    from keras_lr.search.population.record import PopulationRecord

    if (directory / PopulationRecord.file).is_file():
        return PopulationResult.load(directory)
    return SweepResult.load(directory)


def _is_population(result: Any) -> bool:
    from keras_lr.search import PopulationResult

    return isinstance(result, PopulationResult)


def _refuse_y(y: str | None) -> None:
    if y is not None:
        raise ValueError(
            f"--y is for a sweep: a population shows its rates and scores. Received: --y {y}"
        )


def _run(study: Path, y: str | None, engine: str | None, workers: int | None) -> Any:
    """Run the search that a file defines, on the engine of its data if none is given."""
    if not study.is_file():
        raise FileNotFoundError(f"there is no file {study}")
    from keras_lr.search import LRSweep, PopulationBasedTraining, RayEngine

    # Absolute: Python remembers where a relative folder was first.
    sys.path.insert(0, str(study.parent.resolve()))
    found = runpy.run_path(str(study), run_name="__keras_lr_sweep__")
    searches = [name for name in ("sweep", "population") if name in found]
    if len(searches) > 1:
        raise ValueError(f"{study} must define one of sweep and population. It defines both")
    (name,) = searches or ["sweep"]
    missing = [one for one in ("build", "data", name) if one not in found]
    if missing:
        instead = "" if searches else " (or population)"
        raise ValueError(
            f"{study} must define build, data and {name}. It lacks: {', '.join(missing)}{instead}"
        )
    if name == "population":
        _refuse_y(y)
    search = found[name]
    kind = PopulationBasedTraining if name == "population" else LRSweep
    if not isinstance(search, kind):
        raise ValueError(
            f"{study}: `{name}` must be an object {kind.__name__}(...). Received: {search!r}"
        )
    data = found["data"]
    data = data() if callable(data) else data
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{study}: `data` must be a dict of arguments for {type(search).__name__}.run, such as "
            f"x, y and epochs, or a function that returns one. Received: "
            f"{with_article(type(data).__name__)}"
        )
    if "epochs" not in data:
        raise ValueError(
            f"{study}: `data` must hold the `epochs` of {type(search).__name__}.run. "
            f"It holds: {', '.join(map(str, data)) or 'nothing'}"
        )
    if reserved := [key for key in data if key == "build" or not isinstance(key, str)]:
        raise ValueError(
            f"{study}: `data` must hold arguments of {type(search).__name__}.run by name, without "
            f"`build`. Received: {reserved[0]!r}"
        )
    if engine is not None:
        data = {**data, "engine": RayEngine(workers) if engine == "ray" else engine}
    return search.run(found["build"], **data)


def _check_trained(result: Any) -> None:
    """Refuse a sweep without a result, of which a study with ``verbose=0`` would say nothing.

    Raises:
        ValueError: If every trial failed or diverged.
    """
    from keras_lr.search.results.rows import GAPS

    if _is_population(result) or result.interrupted or not result.rows:
        return
    if all(row.status in GAPS for row in result.rows):
        row = result.rows[0]
        raise ValueError(f"every trial failed or diverged; the first {row.status}: {row.reason}")


def last_round(result: PopulationResult) -> str:
    """Return a table of the last round: a row for each member, the best one first."""
    from keras_lr.plotting.text import align_columns

    names, monitor = result.names, result.criterion.monitor
    if not result.rows:
        return "no member was trained"
    sign = -1.0 if result.criterion.up else 1.0
    rows = sorted(result.last_round, key=lambda row: (row.is_lost, sign * row.score, row.member))
    lines = [
        (
            str(row.member),
            *(f"{row.values[name]:.3g}" for name in names),
            row.status if row.is_lost else f"{row.score:.4g}",
        )
        for row in rows
    ]
    return align_columns([("member", *names, monitor), *lines])


def table(result: SweepResult, y: str | None) -> str:
    """Return a table of means over the seeds: a row for each rate, a column for each optimizer.

    Args:
        result: The result of the sweep.
        y: The measure to show; by default the one by which trials are compared.
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
