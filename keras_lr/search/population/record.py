"""`PopulationRecord`: the outcomes of a population in a folder, and the states of its members.

An outcome is a line of JSON, as in the record of a sweep. The lines alone determine how a
population continues. The states of the last rounds are stored in files next to the record, so that
nothing is trained twice. If a state is missing, its line is trained again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

from keras_lr._files import AnyPath, check_writable
from keras_lr.search.engines.base import Rehearsal
from keras_lr.search.population.line import Line
from keras_lr.search.population.results.rows import MemberRow
from keras_lr.search.population.rounds import PopulationRun, round_stops
from keras_lr.search.population.rule import Parameter, PopulationRule
from keras_lr.search.population.states import StateFiles
from keras_lr.search.record import SweepRecord
from keras_lr.search.results.rows import Criterion
from keras_lr.search.trials.description import Outcome, Stretch, Trial
from keras_lr.search.trials.problem import Problem


class PopulationRecord(SweepRecord):
    """Outcomes and states of a population in a folder."""

    file: ClassVar[str] = "members.jsonl"
    noun: ClassVar[str] = "population"
    kind_of_trial: ClassVar[type[Trial]] = Line
    is_of_population: ClassVar[bool] = True

    def __init__(self, directory: AnyPath) -> None:
        """Read the record in a folder, if there is one; write nothing.

        Raises:
            StateError: If a line is damaged.
        """
        super().__init__(directory)
        self.states = StateFiles(self.path.parent / "states")

    def check_writable(self) -> None:
        """Check that outcomes and states can be written.

        Raises:
            OSError: If the folder cannot be written.
        """
        super().check_writable()
        check_writable(self.states.folder / "0.state")

    def find(self, stretch: Stretch) -> Outcome | None:
        """Return the recorded outcome of a stretch, with its state.

        A failed one is tried again, unless a later round has begun: its copies depend on the
        failure.
        """
        found = self.outcomes.get((stretch.trial, stretch.stops))
        if found is not None and found.status == "failed":
            latest = max(len(stops) for _, stops in self.outcomes)
            return found if len(stretch.stops) < latest else None
        if found is None or found.status != "trained":
            return found
        assert isinstance(found.trial, Line)
        return dataclasses.replace(found, state=self.states.load(found.trial))

    def add_outcome(self, outcome: Outcome) -> None:
        """Write an outcome, after its state: a recorded outcome then always has its state.

        Raises:
            OSError: If one of them cannot be written.
        """
        assert isinstance(outcome.trial, Line)
        self.states.save(outcome.trial, outcome.state)
        super().add_outcome(outcome)

    def end_round(self, stops: tuple[int, ...]) -> None:
        """Delete the states of earlier rounds when a round has ended."""
        self.states.delete_before(len(stops))

    def replay(self, criterion: Criterion) -> tuple[PopulationRule, int, list[MemberRow]]:
        """Return the rule, the epochs of a round, and the rows of everything that was trained."""
        known = self.fingerprint
        parameters = tuple(Parameter(*one) for one in known["parameters"])
        rest = {name: known[name] for name in ("population", "quantile", "resample", "seed")}
        rule = PopulationRule(parameters, perturb=tuple(known["perturb"]), **rest)
        every = int(known["every"])
        stops = round_stops(criterion.epochs, every)
        run = PopulationRun(
            _NoEngine(), rule, self.groups[0], criterion, stops, _Reader(self), _Silence()
        )
        with contextlib.suppress(_NotTrained):
            run.train_rounds()
        return rule, every, sorted(run.rows, key=lambda row: (row.round, row.member))


class _NotTrained(Exception):
    """Raised if a requested outcome is not in the record."""


class _NoEngine:
    """Engine that trains nothing."""

    def start(self, problem: Problem) -> Rehearsal:
        raise _NotTrained

    def run(self, stretches: Sequence[Stretch]) -> Iterator[Outcome]:
        if stretches:
            raise _NotTrained
        return iter(())

    def close(self) -> None:
        pass


class _Reader:
    """Record that is only read."""

    def __init__(self, record: PopulationRecord) -> None:
        self.record = record

    def find(self, stretch: Stretch) -> Outcome | None:
        return self.record.outcomes.get((stretch.trial, stretch.stops))

    def add_outcome(self, outcome: Outcome) -> None:
        raise _NotTrained

    def end_round(self, stops: tuple[int, ...]) -> None:
        pass


class _Silence:
    """Progress display that shows nothing."""

    def advance(self, row: MemberRow) -> None:
        pass
