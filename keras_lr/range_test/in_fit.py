"""`FitRates`: what a fit does with the results of its range tests, and how they are stored."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.timeline import Timeline
from keras_lr._fit.session import FitSession
from keras_lr._fit.tracks import HyperparameterTrack
from keras_lr._hints import warn_user
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr._keras.rates.joint_rates import find_shares
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.range_test.advice import Training
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.result import RangeTestResult
from keras_lr.schedules.base import Schedule
from keras_lr.schedules.control import (
    FollowsHyperparameter,
    control_together,
    start_schedule,
)
from keras_lr.schedules.decay import Constant
from keras_lr.schedules.evaluation import ScheduleEvaluator


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a test inside a fit found, and how the fit used it."""

    suggestion: float | None = None
    bounds: tuple[float, float] | None = None
    scale: float = 1.0
    """Factor by which the schedules of the fit are multiplied from this test on."""


class FitRates:
    """The learning rates of one fit, which follow the outcomes of its range tests."""

    def __init__(
        self,
        owner: Any,
        session: FitSession,
        optimizer: Any,
        timeline: Timeline,
        auto: Schedule | None,
        apply: bool,
    ) -> None:
        """Control the rates of a fit.

        Args:
            owner: The callback that drives the rates, for error messages.
            session: The session of the fit.
            optimizer: The optimizer whose rate is tested.
            timeline: The length of the fit.
            auto: The schedule to train by, if there is one.
            apply: Whether suggestions become the rate.
        """
        self.session = session
        self.optimizer = optimizer
        self.rates = find_shares(optimizer, LEARNING_RATE)
        self.timeline = timeline
        self.auto = auto
        self.acts = apply or auto is not None
        self.scale = 1.0
        self.evaluators: dict[str, ScheduleEvaluator] = {}
        for name in {} if auto is None else auto.hyperparameter_schedules(optimizer):
            control_together(
                session,
                owner,
                find_shares(optimizer, name),
                functools.partial(self._values_of, name),
                functools.partial(self._peak_of, name),
            )
        for rate in self.rates if self.acts else []:
            session.adjust(rate.parameter, self._scaled)

    def _values_of(self, name: str, first: int, count: int) -> NDArray[np.float64]:
        return self.evaluators[name].values(first, count)

    def _peak_of(self, name: str) -> float:
        return self.evaluators[name].peak()

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.scale * values

    def follow_result(self, result: RangeTestResult, before: Outcome | None, epoch: int) -> Outcome:
        """Make the rates follow a new result.

        Args:
            result: What the test before the epoch found.
            before: The outcome of the test before that one.
            epoch: The epoch that begins.

        Returns:
            The outcome.

        Raises:
            NoSuggestion: If ``auto`` needs a suggestion, and no earlier test gave one.
        """
        try:
            outcome = Outcome(result.suggestion, result.bounds)
        except NoSuggestion:
            if self.auto is not None and before is None:
                raise
            if self.acts:
                _warn_of_unchanged_rate("no suggestion", epoch)
            return dataclasses.replace(before or Outcome(), suggestion=None)
        self.follow(outcome)
        tracks = self._tracks()
        if outcome.suggestion and tracks and not hasattr(self.auto, "max_lr"):
            peak = max(map(_peak_to_come, tracks))
            if peak == 0.0 and self.acts:
                _warn_of_unchanged_rate("a schedule that ends at zero", epoch)
            scale = outcome.suggestion / peak if peak else (before or Outcome()).scale
            outcome = dataclasses.replace(outcome, scale=scale)
            self.follow(outcome)
        return outcome

    def training_from(self, epoch: int) -> Training | None:
        """Return the rest of the fit from an epoch on; None where its length is not known.

        Anything but a schedule of steps counts as a constant rate.
        """
        timeline = self.timeline
        if timeline.steps_per_epoch is None or timeline.epochs is None:
            return None
        first = int(epoch * timeline.steps_per_epoch)
        steps = max(1, round(timeline.epochs * timeline.steps_per_epoch) - first)
        owner = self.auto or next((track.owner for track in self._tracks()), None)
        if isinstance(owner, ParamScheduler):
            owner = owner.schedules.get(LEARNING_RATE)
        planned: Schedule = Constant(1.0)
        if isinstance(owner, Schedule) and not any(
            isinstance(part, FollowsHyperparameter) for part in owner.parts()
        ):
            planned = owner
        try:
            return Training.along(planned, timeline, first, steps)
        except ValueError:
            # A schedule that ends at zero has no rate to suggest; `follow_result` warns of it.
            return None

    def follow(self, outcome: Outcome) -> None:
        """Make the schedules of the fit follow an outcome."""
        self.scale = outcome.scale
        if self.auto is None:
            return
        moved = _move_to_bounds(self.auto, outcome.bounds).hyperparameter_schedules(self.optimizer)
        for name, schedule in moved.items():
            schedule.timeline = self.timeline
            lead, *_ = find_shares(self.optimizer, name)
            start_schedule(schedule, self.session, lead.parameter, self.session.epoch)
            self.evaluators[name] = ScheduleEvaluator(schedule, self.timeline, self.session)

    def write_rate(self, rate: float | None) -> None:
        """Set the rate to a suggestion where no schedule drives it."""
        if rate is not None and not self._tracks():
            for parameter, share in self.rates:
                self.session.write_rate(parameter, share * rate)

    def _tracks(self) -> list[HyperparameterTrack]:
        """Return the tracks that drive the rate in this fit."""
        keys = {rate.parameter.key for rate in self.rates}
        return [track for track in self.session.tracks if track.parameter.key in keys]


def _warn_of_unchanged_rate(has: str, epoch: int) -> None:
    warn_user(f"LRRangeTest has {has} before epoch {epoch + 1}; the learning rate stays as it is.")


def _move_to_bounds(schedule: Schedule, bounds: tuple[float, float] | None) -> Schedule:
    """Return a schedule with its rates moved to ``bounds``, as far as it has such rates."""
    if bounds is None or not hasattr(schedule, "max_lr"):
        return schedule
    low, high = bounds
    rates: dict[str, float] = {"max_lr": high}
    if hasattr(schedule, "base_lr"):
        rates["base_lr"] = low
    elif hasattr(schedule, "div"):
        rates["div"] = high / low
    return dataclasses.replace(schedule, **rates)


def _peak_to_come(track: HyperparameterTrack) -> float:
    """Return the highest rate still to come, after all adjustments."""
    peak = 0.0 if track.peak is None else track.peak()
    for adjustment in track.adjust:
        peak = float(adjustment(np.array([peak]))[0])
    return peak


def to_plain(
    outcomes: dict[int, Outcome], results: dict[int, RangeTestResult]
) -> dict[int, dict[str, Any]]:
    """Return the outcome of each test, and its result where there is one, as plain data."""
    states = {epoch: dataclasses.asdict(outcome) for epoch, outcome in outcomes.items()}
    for epoch in states.keys() & results.keys():
        states[epoch]["result"] = results[epoch].to_dict()
    return states


def from_plain(
    states: dict[int, dict[str, Any]],
) -> tuple[dict[int, Outcome], dict[int, RangeTestResult]]:
    """Return the outcomes and results that `to_plain` made plain.

    Raises:
        TypeError, ValueError: If ``states`` is not such data.
    """
    outcomes, results = {}, {}
    for epoch, state in states.items():
        rest = dict(state)
        if "result" in rest:
            results[epoch] = RangeTestResult.from_dict(rest.pop("result"))
        outcomes[epoch] = Outcome(**rest)
    return outcomes, results
