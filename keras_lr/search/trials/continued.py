"""Callbacks of trials that are trained in stretches, each of which has new callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keras_lr._keras.state.callback_state import remembers_epochs, unfit_for_trials
from keras_lr.adaptive.base import GradientRate
from keras_lr.callbacks import ReduceLROnPlateau
from keras_lr.range_test import LRRangeTest
from keras_lr.search.trials.description import Trial
from keras_lr.search.trials.problem import Problem

REMEMBERING = ReduceLROnPlateau, GradientRate, LRRangeTest
"""Callbacks of this package whose rates depend on earlier epochs of a fit."""


def check_callbacks_of_stretches(problem: Problem, trials: Iterable[Trial]) -> None:
    """Refuse callbacks that would begin again in each stretch of a trial.

    Args:
        problem: The problem.
        trials: Trials whose callbacks are made to be checked.

    Raises:
        ValueError: If a trial has such a callback, or is driven by one.
    """
    if not problem.in_stretches:
        return
    for trial in trials:
        made = _try_to_make(problem.callbacks_of, trial)
        _refuse(problem, made, _try_to_make(problem.driver_of, trial))


def _try_to_make(make: Callable[[Trial], list[Any]], trial: Trial) -> list[Any]:
    """Return what a function makes; nothing if it raises, with which the trial will fail."""
    try:
        return make(trial)
    except Exception:
        return []


def make_callbacks(problem: Problem, trial: Trial) -> list[Any]:
    """Return new callbacks for a stretch of a trial, the one that drives the rate first.

    Raises:
        ValueError: If one cannot be continued in another stretch.
    """
    driver, made = problem.driver_of(trial), problem.callbacks_of(trial)
    if problem.in_stretches:
        _refuse(problem, made, driver)
    return [*driver, *made]


def _refuse(problem: Problem, made: list[Any], driver: list[Any]) -> None:
    """Refuse callbacks, and the one that drives the rate, if one of them remembers epochs."""
    search = problem.search
    unfit = _remembering(made)
    if search.shares_files:
        unfit += unfit_for_trials(made)
    if unfit:
        names = ", ".join(dict.fromkeys(type(one).__name__ for one in unfit))
        raise ValueError(
            f"{search.name}.run: argument `callbacks` must hold none that {search.forgetting} "
            f"Received: {names}"
        )
    if unfit := _remembering(driver):
        raise ValueError(
            f"{search.name}: argument `schedule` must return no callback that "
            f"{search.forgetting} Received: one that returns a {type(unfit[0]).__name__}"
        )


def _remembering(callbacks: list[Any]) -> list[Any]:
    return [one for one in callbacks if isinstance(one, REMEMBERING) or remembers_epochs(one)]
