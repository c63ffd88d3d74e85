"""`SweepRun`: trains the trials of one sweep, rung by rung, and stores every outcome."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from keras_lr.search.engines.base import Engine
from keras_lr.search.halving import better_half, finer_rates
from keras_lr.search.results.rows import Criterion, TrialRow, rows_by_rate
from keras_lr.search.results.valleys import find_valley
from keras_lr.search.trials.description import Group, Outcome, Stretch, Trial

Rates = Mapping[Group, list[float]]


class Record(Protocol):
    """Storage of outcomes, of this run of a sweep and of earlier ones."""

    def find(self, stretch: Stretch) -> Outcome | None:
        """Return the recorded outcome of a stretch, if there is one."""

    def add_outcome(self, outcome: Outcome) -> None:
        """Store an outcome."""


class Progress(Protocol):
    """Display of a sweep's progress."""

    def plan(self, epochs: int) -> None:
        """Add epochs to those that are to be trained."""

    def advance(self, epochs: int, row: TrialRow) -> None:
        """Count epochs that need no more training, and store the row of their trial."""


class SweepRun:
    """Runs the trials of a sweep, and decides what to train next.

    All groups train a rung together, so that an engine with many workers has enough to do. Which
    trials continue is decided when a whole rung is finished, so it does not depend on the order of
    the outcomes.
    """

    def __init__(
        self,
        engine: Engine,
        criterion: Criterion,
        seeds: int,
        stops: tuple[int, ...],
        record: Record | None,
        progress: Progress,
    ) -> None:
        """Begin without outcomes.

        Args:
            engine: The engine that trains the trials.
            criterion: How trials are compared.
            seeds: Seeds for each rate.
            stops: Epochs after which trials are compared, the last being the end.
            record: Permanent storage of outcomes, if there is any.
            progress: Display of the progress.
        """
        self.engine = engine
        self.criterion = criterion
        self.seeds = seeds
        self.stops = stops
        self.record = record
        self.progress = progress
        self._outcomes: dict[Trial, list[Outcome]] = {}
        self._states: dict[Trial, Any] = {}

    @property
    def rows(self) -> list[TrialRow]:
        """A row for each trial that was trained, in order."""
        return self.criterion.rows(itertools.chain.from_iterable(self._outcomes.values()))

    def train_trials(self, rates: Rates, halve: bool) -> None:
        """Train trials at some rates for each group.

        Args:
            rates: The rates of each group.
            halve: Whether only the better half of the rates continues after a rung.
        """
        self._plan_epochs(rates, halve)
        for number in range(len(self.stops)):
            stretches = [
                stretch
                for group, some in rates.items()
                for rate in some
                for seed in range(self.seeds)
                if (stretch := self._stretch(Trial(*group, rate, seed), number)) is not None
            ]
            self._run(stretches)
            if halve and number + 1 < len(self.stops):
                rates = {group: self._better(group, some) for group, some in rates.items()}
                self._drop_states(rates)

    def finer(self, rates: Rates, count: int) -> Rates:
        """Return further rates next to the best one of each group."""
        found = {}
        for group, some in rates.items():
            best = find_valley(self.rows, group, self.criterion).best
            if best is not None:
                found[group] = finer_rates(sorted(some), best.learning_rate, count)
        return found

    def _plan_epochs(self, rates: Rates, halve: bool) -> None:
        counts = [len(some) for some in rates.values()]
        before = 0
        for stop in self.stops:
            self.progress.plan((stop - before) * sum(counts) * self.seeds)
            before = stop
            counts = [-(-count // 2) for count in counts] if halve else counts

    def _stretch(self, trial: Trial, number: int) -> Stretch | None:
        """Return the stretch of a trial to train in a rung; None if the trial has ended."""
        parts = self._outcomes.get(trial, [])
        if parts and parts[-1].status != "trained":
            start = self.stops[number - 1] if number else 0
            self.progress.advance(self.stops[number] - start, self.criterion.row(parts))
            return None
        is_last = number + 1 == len(self.stops)
        return Stretch(trial, self.stops[: number + 1], self._states.get(trial), not is_last)

    def _run(self, stretches: list[Stretch]) -> None:
        """Train stretches, except those whose outcome is recorded."""
        waiting = []
        for stretch in stretches:
            outcome = None if self.record is None else self.record.find(stretch)
            if outcome is None:
                waiting.append(stretch)
            else:
                self._note(outcome)
        for outcome in self.engine.run(waiting):
            if self.record is not None:
                self.record.add_outcome(outcome)
            self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        parts = self._outcomes.setdefault(outcome.trial, [])
        parts.append(outcome)
        self._states.pop(outcome.trial, None)
        if outcome.state is not None:
            self._states[outcome.trial] = outcome.state
        stops = (0, *outcome.stops)
        self.progress.advance(stops[-1] - stops[-2], self.criterion.row(parts))

    def _better(self, group: Group, rates: Iterable[float]) -> list[float]:
        """Return the rates of a group that continue."""
        rows = rows_by_rate(self.rows, group)
        return better_half({rate: self.criterion.rank(rows[rate]) for rate in rates})

    def _drop_states(self, rates: Rates) -> None:
        """Drop the states of trials that do not continue."""
        going = {(group, rate) for group, some in rates.items() for rate in some}
        self._states = {
            trial: state
            for trial, state in self._states.items()
            if (trial.group, trial.learning_rate) in going
        }
