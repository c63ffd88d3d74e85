"""`model_of`: returns the model of a member, with its weights."""

from __future__ import annotations

from typing import Any

from keras_lr._keras.state.final_values import finalize_weights
from keras_lr._keras.state.snapshot import Snapshot
from keras_lr.search.population.line import Line
from keras_lr.search.population.states import export_state
from keras_lr.search.trials.description import Stretch
from keras_lr.search.trials.problem import Problem
from keras_lr.search.trials.runner import TrialRunner


def model_of(problem: Problem, line: Line, stops: tuple[int, ...], state: Any) -> Any:
    """Return a model that has been trained along a line.

    Args:
        problem: The problem.
        line: The line.
        stops: Epochs after which its rounds end.
        state: The state in the outcome of the last round.
    """
    if not isinstance(state, Snapshot):
        runner = TrialRunner(problem, line.group)
        exported = export_state(state)
        # Without a state, the line alone gives the same model.
        state = runner.adopt(exported) if exported is not None else None
        state = state or runner.run(Stretch(line, stops, keep=True)).state
        assert isinstance(state, Snapshot)
    state.restore()
    if stops[-1] < problem.epochs:
        finalize_weights(state.model)  # Ctrl-C came before the last round, which would have done so
    return state.model
