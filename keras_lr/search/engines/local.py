"""`LocalEngine`: trains the trials in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keras_lr.search.engines.base import Rehearsal
from keras_lr.search.trials.description import Group, Outcome, Stretch
from keras_lr.search.trials.problem import BuildFailed, Problem
from keras_lr.search.trials.runner import TrialRunner


class LocalEngine:
    """Engine that trains in this process, with one model for each group, compiled once."""

    def __init__(self) -> None:
        """Begin without models."""
        self._runners: dict[Group, TrialRunner] = {}
        self._failures: dict[Group, str] = {}

    def start(self, problem: Problem) -> Rehearsal:
        """Build the model of each group, and train the first of them for a step."""
        for group in problem.groups:
            try:
                self._runners[group] = TrialRunner(problem, group)
            except BuildFailed as error:
                self._failures[group] = str(error)
        models = {group: runner.describe() for group, runner in self._runners.items()}
        if not self._runners:
            return Rehearsal(models, self._failures, (), False)
        first = next(iter(self._runners.values()))
        return Rehearsal(models, self._failures, first.warm_up(), first.higher_is_better())

    def run(self, stretches: Sequence[Stretch]) -> Iterator[Outcome]:
        """Train stretches in their order."""
        for stretch in stretches:
            runner = self._runners.get(stretch.trial.group)
            if runner is not None and stretch.state is None:
                runner.prepare(stretch.trial.seed)
        for stretch in stretches:
            group = stretch.trial.group
            if group in self._failures:
                yield Outcome(stretch.trial, stretch.stops, "failed", self._failures[group])
            else:
                yield self._runners[group].run(stretch)

    def close(self) -> None:
        """Release the models."""
        self._runners.clear()
