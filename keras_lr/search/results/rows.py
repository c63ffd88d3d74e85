"""`TrialRow`: all that is known about a trial. `Criterion`: how trials are compared."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_lr._files import PathLike, atomic_write
from keras_lr.search.trials.description import Group, Outcome, Trial
from keras_lr.search.trials.target import Target

GAPS = ("diverged", "failed")
"""Statuses of trials that have no value."""


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """One trial, with its stretches put together.

    Attributes:
        trial: The trial.
        status: ``"trained"`` to the last epoch, ``"reached"`` the target, ``"stopped"`` by a
            callback, ``"diverged"``, also if the compared value is not finite, ``"failed"``, or
            ``"partial"``: dropped after a rung, or not yet continued.
        reason: Why it ended early, in words; empty if it did not.
        epochs: Whole epochs that it was trained for.
        steps: Batches that it was trained on.
        seconds: Seconds of training, without validation.
        value: The compared value, as the last epoch logged it; NaN if there is none.
        logs: The logged value of each epoch, by name.
        marks: Steps and seconds since the start, at the end of each epoch.
        target: Epochs, steps and seconds to the target; None if it was not reached.
        test: Results on the test data at the end, by name.
        route: How it was trained; see `Outcome`.
        route_reason: Why by ``fit``; see `Outcome`.
    """

    trial: Trial
    status: str
    reason: str
    epochs: int
    steps: int
    seconds: float
    value: float
    logs: dict[str, list[float]]
    marks: list[tuple[int, float]]
    target: tuple[int, int, float] | None
    test: dict[str, float]
    route: str
    route_reason: str

    def measure(self, name: str) -> float:
        """Return a measure of the trial by name; NaN if it is missing.

        Args:
            name: ``"epochs"``, ``"steps"`` or ``"seconds"`` to the target, or what an epoch logs.
        """
        if name in TO_TARGET:
            return math.nan if self.target is None else self.target[TO_TARGET.index(name)]
        values = self.logs.get(name, [])
        return values[-1] if values and self.status not in GAPS else math.nan


TO_TARGET = ("epochs", "steps", "seconds")
"""Measures of the effort to reach a target."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """How the trials of a sweep are compared.

    Attributes:
        monitor: Name of the logged value.
        up: Whether more of it is better.
        until: The target, as it was written; empty if there is none.
        epochs: Epochs of a trial that is trained to its end.
    """

    monitor: str
    up: bool
    until: str
    epochs: int

    @property
    def measure(self) -> str:
        """Name of the measure by which trials are compared."""
        return "steps" if self.until else self.monitor

    @property
    def target(self) -> Target | None:
        """The target, if there is one."""
        return Target.parse(self.until) if self.until else None

    def rank(self, rows: Sequence[TrialRow]) -> tuple[float, ...]:
        """Return the rank of a rate, from the rows of its seeds; less is better.

        Rates are ranked by the number of seeds that fail, then by the number that miss the target,
        then by the steps to it, then by the value.
        """
        failed = sum(row.status in GAPS for row in rows)
        reached = [row.measure("steps") for row in rows if row.target is not None]
        missed = len(rows) - failed - len(reached) if self.until else 0
        values = [row.value for row in rows if row.status not in GAPS]
        mean = float(np.mean(values)) if values else math.nan
        steps = float(np.mean(reached)) if reached else 0.0
        cost = -mean if self.up else mean
        return failed, missed, steps, cost if math.isfinite(cost) else math.inf

    def rows(self, outcomes: Iterable[Outcome]) -> list[TrialRow]:
        """Return a row for each trial among some outcomes, in order."""
        parts: dict[Trial, list[Outcome]] = {}
        for outcome in outcomes:
            parts.setdefault(outcome.trial, []).append(outcome)
        return [self.row(parts[trial]) for trial in sorted(parts)]

    def row(self, outcomes: Iterable[Outcome]) -> TrialRow:
        """Return the row of a trial from the outcomes of its stretches."""
        parts = sorted(outcomes, key=lambda outcome: outcome.stops)
        last = parts[-1]
        logs: dict[str, list[float]] = {}
        marks: list[tuple[int, float]] = []
        epochs, steps, seconds = 0, 0, 0.0
        for part in parts:
            marks += [(steps + more, seconds + longer) for more, longer in part.marks]
            epochs, steps = epochs + part.epochs, steps + part.steps
            seconds += part.seconds
            for name, values in part.logs.items():
                logs.setdefault(name, []).extend(values)
        status, reason = self._status(last, logs.get(self.monitor, []))
        return TrialRow(
            last.trial,
            status,
            reason,
            epochs,
            steps,
            seconds,
            math.nan if status in GAPS else logs.get(self.monitor, [math.nan])[-1],
            logs,
            marks,
            (epochs, steps, seconds) if status == "reached" else None,
            last.test,
            last.route,
            last.route_reason,
        )

    def _status(self, last: Outcome, values: Sequence[float]) -> tuple[str, str]:
        """Return the status of a trial and its reason.

        Args:
            last: The outcome of its last stretch.
            values: The compared value of each epoch that logged it.
        """
        if last.status in GAPS:
            return last.status, last.reason
        if values and not math.isfinite(values[-1]):
            return "diverged", f"{self.monitor} was {values[-1]}"
        if last.status == "trained" and last.stops[-1] < self.epochs:
            return "partial", f"trained for {last.stops[-1]} of {self.epochs} epochs"
        if not values:
            return "failed", f"no epoch logged {self.monitor}"
        return last.status, last.reason


def rows_by_rate(rows: Iterable[TrialRow], group: Group) -> dict[float, list[TrialRow]]:
    """Return the rows of a group by rate, the lowest first, each by seed."""
    found: dict[float, list[TrialRow]] = {}
    for row in sorted(rows, key=lambda row: row.trial):
        if row.trial.group == group:
            found.setdefault(row.trial.learning_rate, []).append(row)
    return found


def write_rows(path: PathLike, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of plain data to a CSV file, which appears whole or not at all."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plain_row(row: TrialRow) -> dict[str, Any]:
    """Return a row as flat plain data, one value per column."""
    target = row.target or (None, None, None)
    last = {name: values[-1] for name, values in row.logs.items() if values}
    return {
        **dataclasses.asdict(row.trial),
        "status": row.status,
        "reason": row.reason,
        "epochs": row.epochs,
        "steps": row.steps,
        "seconds": row.seconds,
        "target_epochs": target[0],
        "target_steps": target[1],
        "target_seconds": target[2],
        "route": row.route,
        "route_reason": row.route_reason,
        **last,
        **{f"test_{name}": value for name, value in row.test.items()},
    }
