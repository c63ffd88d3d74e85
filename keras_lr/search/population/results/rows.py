"""`MemberRow`: all that is known about one member in one round."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_lr.search.population.line import Line
from keras_lr.search.population.rule import Move
from keras_lr.search.results.rows import GAPS, Criterion
from keras_lr.search.trials.description import Outcome

LOST = (*GAPS, "stopped")
"""Statuses of a member that is replaced after the round."""


@dataclasses.dataclass(frozen=True)
class MemberRow:
    """One member in one round.

    Attributes:
        member: Number of the member, from 0.
        round: Number of the round, from 1.
        epoch: Epochs that the member's weights have been trained for at its end.
        values: The hyperparameters in the round, by name.
        score: The compared value, as the last epoch logged it; NaN for a lost member.
        status: ``"trained"``, or how it was lost: ``"diverged"``, ``"failed"`` or ``"stopped"``.
        reason: Why it was lost, in words; empty if it was not.
        copied_from: The member whose state it began the round from; None if that was its own.
        changes: What was done to each hyperparameter of a copy, in words, by name.
        seconds: Seconds of training, without validation.
        logs: The logged value of each epoch of the round, by name.
        test: Results on the test data after the last round, by name.
        route: How it was trained; see `Outcome`.
        route_reason: Why by ``fit``; see `Outcome`.
        line: The whole history of its weights.
    """

    member: int
    round: int
    epoch: int
    values: dict[str, float]
    score: float
    status: str
    reason: str
    copied_from: int | None
    changes: dict[str, str]
    seconds: float
    logs: dict[str, list[float]]
    test: dict[str, float]
    route: str
    route_reason: str
    line: Line

    @property
    def is_lost(self) -> bool:
        """Whether the member has no state from which to continue."""
        return self.status in LOST

    @property
    def source(self) -> int:
        """The member whose state it began the round from."""
        return self.member if self.copied_from is None else self.copied_from

    @property
    def seed(self) -> int:
        """The seed of the initial weights from which its weights came."""
        return self.line.seed


def row_of(
    member: int, move: Move, outcome: Outcome, names: tuple[str, ...], criterion: Criterion
) -> MemberRow:
    """Return the row of a member from the outcome of its round."""
    line = outcome.trial
    assert isinstance(line, Line)
    status, reason = str(outcome.status), outcome.reason
    score = outcome.logs.get(criterion.monitor, [math.nan])[-1] if status == "trained" else math.nan
    if status == "trained" and not math.isfinite(score):
        status, reason = "diverged", f"{criterion.monitor} was {score}"
        score = math.nan
    return MemberRow(
        member,
        len(outcome.stops),
        outcome.stops[-1],
        dict(zip(names, move.values, strict=True)),
        score,
        status,
        reason,
        None if move.source == member else move.source,
        dict(zip(names, move.changes, strict=False)),
        outcome.seconds,
        outcome.logs,
        outcome.test,
        outcome.route,
        outcome.route_reason,
        line,
    )


def plain_row(row: MemberRow) -> dict[str, Any]:
    """Return a row as flat plain data, one value per column."""
    last = {name: values[-1] for name, values in row.logs.items() if values}
    return {
        "member": row.member,
        "round": row.round,
        "epoch": row.epoch,
        **row.values,
        "score": row.score,
        "status": row.status,
        "reason": row.reason,
        "copied_from": row.copied_from,
        "changes": ", ".join(f"{name} {change}" for name, change in row.changes.items()),
        "seed": row.seed,
        "seconds": row.seconds,
        "route": row.route,
        "route_reason": row.route_reason,
        **{name: value for name, value in last.items() if name not in row.values},
        **{f"test_{name}": value for name, value in row.test.items()},
    }
