"""`TrialWorker`: trains trials in one of Ray's processes."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np

from keras_lr._keras.state.snapshot import ModelState
from keras_lr.search.engines.ray_parcel import unpack
from keras_lr.search.trials.description import Group, Outcome, Stretch
from keras_lr.search.trials.problem import BuildFailed, Problem
from keras_lr.search.trials.runner import TrialRunner
from keras_lr.search.versions import versions


class TrialWorker:
    """Trains trials of any group, on models that it compiles once."""

    def __init__(self) -> None:
        """Begin with nothing: an exception in `load` is more informative than one here."""
        self._problem: Problem | None = None
        self._runners: dict[Group, TrialRunner] = {}

    def load(self, content: bytes, arrays: list[np.ndarray], expected: dict[str, str]) -> None:
        """Unpickle the problem.

        Args:
            content: The problem.
            arrays: Its arrays.
            expected: The versions where the sweep runs.

        Raises:
            RuntimeError: If other versions are installed here, which may compute other numbers.
            Exception: Any exception that is raised while something is unpickled.
        """
        if (found := versions()) != expected:
            raise RuntimeError(f"a machine has {found}, but the sweep runs with {expected}")
        self._problem = unpack(content, arrays)

    def describe(self, group: Group) -> tuple[str, str]:
        """Build the model of a group, and return its description, or why ``build`` raised.

        Raises:
            TypeError: If ``build`` does not return a model.
            ValueError: If it returns a model that cannot be swept.
        """
        try:
            return self._runner(group).describe(), ""
        except BuildFailed as error:
            return "", str(error)

    def warm_up(self, group: Group) -> tuple[tuple[str, ...], bool]:
        """Train a group's model for a step; return the logged names, and whether more is better.

        Raises:
            Exception: Any exception of the training.
        """
        runner = self._runner(group)
        return runner.warm_up(), runner.higher_is_better()

    def run(self, stretch: Stretch, state: ModelState | None) -> tuple[Outcome, ModelState | None]:
        """Train a stretch from a state, and return its outcome and the state at its end."""
        try:
            runner = self._runner(stretch.trial.group)
            outcome = runner.run(dataclasses.replace(stretch, state=state))
        except Exception as error:
            reason = str(error)
            if not isinstance(error, BuildFailed):
                reason = f"{type(error).__name__}: {reason}"
            return Outcome(stretch.trial, stretch.stops, "failed", reason), None
        return dataclasses.replace(outcome, state=None), _export(outcome.state)

    def _runner(self, group: Group) -> TrialRunner:
        if group not in self._runners:
            assert self._problem is not None
            self._runners[group] = TrialRunner(self._problem, group)
        return self._runners[group]


def _export(snapshot: Any) -> ModelState | None:
    """Return a state as plain data; None if the user's objects hold what cannot be pickled."""
    if snapshot is None:
        return None
    state: ModelState = snapshot.export()
    try:
        pickle.dumps((state.held, state.random_states))
    except Exception:
        return None
    return state
