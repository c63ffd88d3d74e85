"""`PopulationRun`: trains a population's members round by round, and stores every outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from keras_lr.search.engines.base import Engine
from keras_lr.search.population.line import Line
from keras_lr.search.population.results.rows import MemberRow, row_of
from keras_lr.search.population.rule import Move, PopulationRule
from keras_lr.search.results.rows import Criterion
from keras_lr.search.trials.description import Group, Outcome, Stretch


class Record(Protocol):
    """Storage of outcomes and states, of this run of a population and of earlier ones."""

    def find(self, stretch: Stretch) -> Outcome | None:
        """Return the recorded outcome of a stretch, with its state if that is stored."""

    def add_outcome(self, outcome: Outcome) -> None:
        """Store an outcome and its state."""

    def end_round(self, stops: tuple[int, ...]) -> None:
        """Delete the states of earlier rounds when a round has ended."""


class Progress(Protocol):
    """Display of a population's progress."""

    def advance(self, row: MemberRow) -> None:
        """Add a member that has finished a round."""


class PopulationRun:
    """Runs the rounds of a population, and decides how each member continues.

    Who copies whom is decided when a whole round is finished, so it does not depend on the order of
    the outcomes.
    """

    def __init__(
        self,
        engine: Engine,
        rule: PopulationRule,
        group: Group,
        criterion: Criterion,
        stops: tuple[int, ...],
        record: Record | None,
        progress: Progress,
    ) -> None:
        """Begin without outcomes.

        Args:
            engine: The engine that trains the members.
            rule: The rule that decides who copies whom.
            group: The model that all members share.
            criterion: How members are compared.
            stops: Epochs after which rounds end.
            record: Permanent storage of outcomes, if there is any.
            progress: Display of the progress.
        """
        self.engine = engine
        self.rule = rule
        self.criterion = criterion
        self.stops = stops
        self.record = record
        self.progress = progress
        self.names = tuple(parameter.name for parameter in rule.parameters)
        members = range(rule.population)
        self.rows: list[MemberRow] = []
        self._moves = [Move(member, rule.first_values(member), ()) for member in members]
        self._lines = [
            Line.of_one_round(group, move.values, rule.seed_of(member))
            for member, move in enumerate(self._moves)
        ]
        self._parents: list[Line | None] = [None for _ in members]
        self._states: dict[Line | None, Any] = {}
        self._new_states: dict[Line | None, Any] = {}

    def train_rounds(self) -> None:
        """Train all rounds, or stop after one in which all members are lost."""
        for number in range(1, len(self.stops) + 1):
            rows = self._train_round(number)
            if number == len(self.stops) or all(row.is_lost for row in rows):
                return
            self._exchange(number, rows)

    def state_of(self, line: Line) -> Any:
        """Return the final state of a line of the last rounds; None if there is none."""
        return (self._states | self._new_states).get(line)

    def _train_round(self, number: int) -> list[MemberRow]:
        """Train a round of all members, and return their rows."""
        members: dict[Line, list[int]] = {}
        for member, line in enumerate(self._lines):
            members.setdefault(line, []).append(member)
        stops = self.stops[:number]
        waiting: list[Stretch] = []
        begun = len(self.rows)

        def note(outcome: Outcome) -> None:
            line = outcome.trial
            assert isinstance(line, Line)
            self._new_states[line] = outcome.state
            for member in members[line]:
                row = row_of(member, self._moves[member], outcome, self.names, self.criterion)
                self.rows.append(row)
                self.progress.advance(row)

        for line, some in members.items():
            stretch = Stretch(line, stops, self._states.get(self._parents[some[0]]), keep=True)
            outcome = None if self.record is None else self.record.find(stretch)
            if outcome is None:
                waiting.append(stretch)
            else:
                note(outcome)
        for outcome in self.engine.run(waiting):
            if self.record is not None:
                self.record.add_outcome(outcome)
            note(outcome)
        self._states, self._new_states = self._new_states, {}
        if self.record is not None:
            self.record.end_round(stops)
        return sorted(self.rows[begun:], key=lambda row: row.member)

    def _exchange(self, number: int, rows: Sequence[MemberRow]) -> None:
        """Decide how each member continues."""
        sign = -1.0 if self.criterion.up else 1.0
        costs = [math.inf if row.is_lost else sign * row.score for row in rows]
        self._moves = self.rule.moves(number, costs, [move.values for move in self._moves])
        self._parents = [self._lines[move.source] for move in self._moves]
        self._lines = [self._lines[move.source].extend(move.values) for move in self._moves]


def round_stops(epochs: int, every: int) -> tuple[int, ...]:
    """Return the epochs after which rounds end; the last round may be shorter.

    >>> round_stops(5, 2)
    (2, 4, 5)
    """
    return (*range(every, epochs, every), epochs)
