"""Report of a sweep in plain words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from keras_lr._hints import count_of
from keras_lr.search.results.rows import TrialRow
from keras_lr.search.results.valleys import Best, Valley
from keras_lr.search.trials.description import Group

if TYPE_CHECKING:
    from keras_lr.search.results.result import SweepResult


def report(result: SweepResult) -> str:
    """Return a line about the whole, and one about each optimizer, the best first."""
    lines = [_summary(result)]
    sizes = list(dict.fromkeys(group.size for group in result.groups))
    for best in result.bests:
        lines.append(_describe_best(best, result))
    lines += [_describe_failure(valley) for valley in result.valleys if valley.best is None]
    lines += [_describe_gaps(valley) for valley in result.valleys if valley.best and valley.gaps()]
    if len(sizes) > 1:
        lines += _describe_moves(result, sizes)
    lines += describe_routes(result.rows)
    return "\n".join(lines)


def describe_routes(rows: Iterable[Any]) -> list[str]:
    """Return a sentence for each reason why ``fit`` has trained some of the rows."""
    reasons = dict.fromkeys(row.route_reason for row in rows if row.route_reason)
    return [f"Trained by fit, because {reason}." for reason in reasons]


def _summary(result: SweepResult) -> str:
    rows = result.rows
    seconds = sum(row.seconds for row in rows)
    time = f"{seconds:.1f}" if seconds >= 1.0 else f"{seconds:.2g}"
    ended = " (interrupted: not all that was planned)" if result.interrupted else ""
    goal = f"steps to {result.criterion.until}" if result.criterion.until else ""
    compared = (
        goal or f"{result.criterion.monitor} after {count_of(result.criterion.epochs, 'epoch')}"
    )
    return f"{count_of(len(rows), 'trial')}{ended}, {time} s of training, compared by {compared}."


def _describe_best(best: Best, result: SweepResult) -> str:
    criterion = result.criterion
    name = f"{best.optimizer}, {best.size}" if best.size else best.optimizer
    low, high = best.band
    if math.isnan(best.spread):
        band = "one seed does not tell how far chance moves it"
    elif low == high:
        band = "no other rate is as good within the spread of the seeds"
    else:
        band = f"as good within the spread of the seeds: {low:.2g} to {high:.2g}"
    if best.target is not None:
        epochs, steps, seconds = best.target
        found = f"{criterion.until} after {steps:.0f} steps, {epochs:.1f} epochs, {seconds:.2g} s"
    else:
        found = f"{criterion.monitor} {best.value:.4g}"
        if criterion.until:
            some = " with every seed" if _is_target_reached(best, result.rows) else ""
            found = f"{criterion.until} not reached{some}; {found}"
    line = f"{name}: best at {best.learning_rate:.2g} ({found}); {band}."
    if best.end:
        beyond = {"lowest": "lower", "highest": "higher"}[best.end]
        line += f" It is the {best.end} rate tried: a {beyond} one may do better still."
    return line + describe_test(best.test)


def describe_test(test: dict[str, float]) -> str:
    """Return a sentence with results on the test data, with a space before it; empty without."""
    tested = ", ".join(f"{name} {value:.4g}" for name, value in test.items())
    return f" On the test data: {tested}." if tested else ""


def _is_target_reached(best: Best, rows: Iterable[TrialRow]) -> bool:
    """Return whether some seed has reached the target at the best rate of an optimizer."""
    place = Group(best.size, best.optimizer), best.learning_rate
    return any(row.target and (row.trial.group, row.trial.learning_rate) == place for row in rows)


def _describe_failure(valley: Valley) -> str:
    reasons = dict.fromkeys(row.reason for rows in valley.rows for row in rows if row.reason)
    return f"{valley.group}: no best rate ({'; '.join(list(reasons)[:2]) or 'none was trained'})."


def _describe_gaps(valley: Valley) -> str:
    gaps = valley.gaps()
    rates = sorted({row.trial.learning_rate for row in gaps})
    where = f"at {rates[0]:.2g}" if len(rates) == 1 else f"from {rates[0]:.2g} to {rates[-1]:.2g}"
    count = count_of(len(gaps), "trial", "d")
    return f"{valley.group}: {count} without a value, {where} ({gaps[0].reason})."


def _describe_moves(result: SweepResult, sizes: list[str]) -> list[str]:
    """Return sentences on how far each optimizer's best rate moves from each size to the next."""
    found = {(best.optimizer, best.size): best for best in result.bests}
    lines = []
    for optimizer in dict.fromkeys(group.optimizer for group in result.groups):
        for small, large in itertools.pairwise(sizes):
            one, other = found.get((optimizer, small)), found.get((optimizer, large))
            if one is None or other is None:
                continue
            factor = other.learning_rate / one.learning_rate
            low, high = other.band
            verdict = "does as well" if low <= one.learning_rate <= high else "is worse"
            lines.append(
                f"{optimizer}, {small} to {large}: the best rate moves by a factor of "
                f"{factor:.2g}; that of {small} {verdict} at {large}."
            )
    return lines
