"""Report of a population in plain words."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from keras_lr._hints import count_of
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.search.population.results.rows import MemberRow
from keras_lr.search.results.report import describe_routes, describe_test

if TYPE_CHECKING:
    from keras_lr.search.population.results.result import PopulationResult

MAX_MEMBERS = 4
"""Largest number of members that are named for having trained the winner's weights."""

MAX_LOSSES = 5
"""Largest number of lost members that each get a line."""


def report(result: PopulationResult) -> str:
    """Return a line about the whole, and some about the winner, the copies and the losses."""
    lines = [_summary(result)]
    try:
        best = result.best
    except NoSuggestion as error:
        lines.append(str(error))
    else:
        lines += [_describe_best(result, best), _describe_line(result)]
        lines += _describe_range(result, best)
    lines += [_describe_copies(result)] if len(result.rounds) > 1 else []
    lines += _describe_losses(result)
    lines += describe_routes(result.rows)
    return "\n".join(lines)


def _summary(result: PopulationResult) -> str:
    count = len(result.rounds)
    ended = " (interrupted: not all that was planned)" if result.interrupted else ""
    seconds = sum(row.seconds for row in result.rows)
    return (
        f"{result.rule.population} members, {count_of(count, 'round')} of "
        f"{count_of(result.every, 'epoch')}{ended}, {seconds:.1f} s of training, "
        f"compared by {result.criterion.monitor}."
    )


def _describe_best(result: PopulationResult, best: MemberRow) -> str:
    line = f"Best: member {best.member} ({result.criterion.monitor} {best.score:.4g})."
    for place, name in enumerate(result.names):
        first, last = best.line.values[0][place], best.line.values[-1][place]
        went = f"was {last:.3g}" if first == last else f"went from {first:.3g} to {last:.3g}"
        line += f" Its {name.replace('_', ' ')} {went}."
    return line + describe_test(best.test)


def _describe_line(result: PopulationResult) -> str:
    """Return a sentence on which members had the winner's weights, and up to which epoch."""
    runs = [list(rows) for _, rows in itertools.groupby(result.lineage, lambda row: row.member)]
    parts = [f"member {rows[0].member} to epoch {rows[-1].epoch}" for rows in runs]
    if len(parts) > MAX_MEMBERS:
        parts[MAX_MEMBERS - 1 : -1] = [f"{len(parts) - MAX_MEMBERS} others in turn"]
    return f"Its weights were trained by {', then by '.join(parts)}."


def _describe_range(result: PopulationResult, best: MemberRow) -> list[str]:
    """Return a sentence for each hyperparameter that was mostly outside its range."""
    found = []
    for place, parameter in enumerate(result.rule.parameters):
        values = [each[place] for each in best.line.values]
        beyond = [value for value in values if not parameter.low <= value <= parameter.high]
        if 2 * len(beyond) > len(values):
            side = "below" if beyond[-1] < parameter.low else "above"
            found.append(
                f"The {parameter.name.replace('_', ' ')} of the best was mostly {side} the range "
                f"that members began in, {parameter.low:g} to {parameter.high:g}. A range that "
                "covers it may do better: a copy moves only a little in a round."
            )
    return found


def _describe_copies(result: PopulationResult) -> str:
    copies = sum(row.copied_from is not None for row in result.rows)
    roots = {row.seed for row in result.last_round if not row.is_lost}
    left = f"{len(roots)} of the {result.rule.population} that began"
    noun = "copy" if copies == 1 else "copies"
    return f"{copies} {noun}; the members of the last round come from {left}."


def _describe_losses(result: PopulationResult) -> list[str]:
    lost = [row for row in result.rows if row.is_lost]
    copies = {(row.round, row.member): row.copied_from for row in result.rows}
    lines = []
    for row in lost[:MAX_LOSSES]:
        source = copies.get((row.round + 1, row.member))
        fate = "" if source is None else f" and was replaced by a copy of member {source}"
        how = {"diverged": "diverged", "failed": "failed", "stopped": "was stopped"}[row.status]
        lines.append(f"Member {row.member} {how} in round {row.round}{fate} ({row.reason}).")
    if len(lost) > MAX_LOSSES:
        lines.append(f"So did {len(lost) - MAX_LOSSES} more: see the column `status`.")
    return lines
