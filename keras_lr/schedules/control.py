"""Control of an optimizer's hyperparameters by schedules during a fit."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr._fit.session import FitSession
from keras_lr._fit.tracks import Source
from keras_lr._hints import count_of, warn_user
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, Hyperparameter, Range
from keras_lr._keras.rates.joint_rates import Share, find_shares, remember_shares
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr.callback import LearningRateCallback
from keras_lr.schedules.evaluation import ScheduleEvaluator, blocks_of_steps
from keras_lr.schedules.formulas import describe_bound

CHECKED = 1 << 16
"""Number of steps whose values are checked at once."""

LOOKED_AT = 256
"""Number of steps at which a resumed fit checks whether all rates to come are 0."""

SAME = 1e-2
"""Largest relative difference of two rates that is not a jump."""


class Moving(Protocol):
    """A schedule, as far as a fit needs it."""

    timeline: Timeline | None
    may_exceed: bool

    @property
    def value_bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest value, where they are known without any evaluation."""

    def __call__(self, step: Any, timeline: Timeline | None) -> Any:
        """Return the rates at some steps."""

    def parts(self) -> Iterator[Any]:
        """Iterate over the schedule and all that it is made of."""

    def unreached_stages(self, timeline: Timeline) -> Sequence[str]:
        """Return what a fit ends before, in words."""


class FollowsHyperparameter(ABC):
    """A schedule whose values depend on the hyperparameter that it moves."""

    @abstractmethod
    def before_restore(self, parameter: Hyperparameter) -> None:
        """Look at the hyperparameter before another callback may restore an earlier value."""

    @abstractmethod
    def on_fit_start(
        self, parameter: Hyperparameter, epoch: int, timeline: Timeline, alone: bool
    ) -> None:
        """Look at the hyperparameter in a fit that begins at ``epoch``.

        Args:
            parameter: The hyperparameter, after everything that restores a value has done so.
            epoch: The first epoch of the fit.
            timeline: The size of the fit.
            alone: Whether this schedule alone decides the values: it is not part of a composition,
                and no plateau scales it.
        """


def before_restore(schedules: Mapping[str, Moving], model: Any, optimizer: Any = None) -> None:
    """Show schedules the hyperparameters of a model's optimizer before a state is restored.

    Args:
        schedules: The schedule of each hyperparameter.
        model: The model.
        optimizer: The optimizer, or the name of the model's attribute that holds it.
    """
    remember_shares(model, optimizer)
    for name, schedule in schedules.items():
        for part in schedule.parts():
            if isinstance(part, FollowsHyperparameter):
                lead, *_ = find_shares(optimizer_of(model, optimizer), name)
                part.before_restore(lead.parameter)


def control(
    session: FitSession,
    owner: LearningRateCallback,
    optimizer: Any,
    schedules: Mapping[str, Moving],
) -> None:
    """Make schedules decide hyperparameters of an optimizer during a fit.

    If the optimizer is made of several, the highest rate follows the schedule of the rate, and the
    others keep their ratios to it.

    Args:
        session: The session of the fit.
        owner: The callback that holds the schedules, for errors.
        optimizer: The optimizer.
        schedules: The schedule of each hyperparameter.
    """
    timeline = session.timeline
    for name, schedule in schedules.items():
        before, schedule.timeline = schedule.timeline, timeline
        shares = find_shares(optimizer, name)
        note = unreached_warning(schedule, timeline)
        if note and (schedule is owner or all(one is not owner for one in schedules.values())):
            warn_user(note)
        session.events.on_fit_start.append(
            functools.partial(start_schedule, schedule, session, shares[0].parameter)
        )
        if name == LEARNING_RATE:
            session.events.on_fit_start.append(
                functools.partial(_warn_of_new_layout, schedule, before, shares[0].parameter)
            )
        evaluator = ScheduleEvaluator(schedule, timeline, session)
        control_together(
            session, owner, shares, evaluator.values, evaluator.peak, evaluator.peak_step
        )


def control_together(
    session: FitSession,
    owner: LearningRateCallback,
    shares: Sequence[Share],
    source: Source,
    peak: Callable[[], float] | None = None,
    peak_step: Callable[[], float] | None = None,
) -> None:
    """Make a source decide hyperparameters that move together.

    Args:
        session: The session of the fit.
        owner: The callback that decides, for errors.
        shares: The hyperparameters, with their shares.
        source: Source of the values of the hyperparameter whose share is 1.
        peak: Function that returns the highest of the values to come.
        peak_step: Function that returns the first step with that value.
    """
    for parameter, share in shares:
        session.control(
            owner,
            parameter,
            source if share == 1.0 else functools.partial(_scaled_values, source, share),
            peak if share == 1.0 or peak is None else functools.partial(_scaled_peak, peak, share),
            peak_step,
        )


def _scaled_values(
    source: Source, share: float, first: int, count: int
) -> NDArray[np.floating[Any]]:
    return share * source(first, count)


def _scaled_peak(peak: Callable[[], float], share: float) -> float:
    return share * peak()


def unreached_warning(schedule: Moving, timeline: Timeline) -> str:
    """Return a sentence on what a fit does not reach, stages or peaks; empty if there is none."""
    if timeline.total is None:
        return ""
    unreached = schedule.unreached_stages(timeline)
    if not unreached:
        return ""
    return (
        f"A fit of {count_of(timeline.total, 'step', 'g')} ends before "
        f"{', and before '.join(unreached)}. "
        "Give shorter lengths or, unless they are shares, train longer."
    )


def _warn_of_new_layout(
    schedule: Moving, before: Timeline | None, parameter: Hyperparameter, epoch: int
) -> None:
    """Warn if a schedule was laid out for a shorter fit, and the rate now jumps or stays 0.

    A schedule was laid out for the length of the fit that it drove before. A new schedule for a
    loaded model was laid out for the epochs so far if it then ends with the optimizer's rate.
    """
    now = schedule.timeline
    if not epoch or now is None or now.steps_per_epoch is None or now.total is None:
        return
    if any(isinstance(part, FollowsHyperparameter) for part in schedule.parts()):
        return
    told = None if before is None else before.epochs
    epochs = told or epoch
    first = math.ceil(epoch * now.steps_per_epoch)
    follow = f".then(..., after={epochs:g})"
    try:
        last, to_come = schedule([first - 1, first], now)
        ahead = schedule(np.floor(np.linspace(first, max(now.total - 1.0, first), LOOKED_AT)), now)
        was, held = schedule([first - 1, first], Timeline(now.steps_per_epoch, epochs))
    except ValueError:  # some length does not fit into one of the two
        return
    if not ahead.any():
        warn_user(
            f"{schedule!r} gives a rate of 0 from epoch {epoch + 1} to the end of the fit, which "
            f"trains nothing. To train on, let another schedule follow: {follow}."
        )
        return
    found = told is not None or math.isclose(was, parameter.read(), rel_tol=1e-5)
    if found and not math.isclose(was, last, rel_tol=SAME):
        hold = f"To keep the curve and hold its last rate, pass .lasting({epochs:g}); to"
        warn_user(
            f"{schedule!r} was laid out for {count_of(epochs, 'epoch', 'g')} and is now for "
            f"{now.epochs:g}: the rate jumps from {was:.3g} to {to_come:.3g} at epoch {epoch + 1}. "
            f"{hold if held else 'To'} let another schedule follow, {follow}."
        )


def start_schedule(
    schedule: Moving, session: FitSession, parameter: Hyperparameter, epoch: int
) -> None:
    """Show a schedule the hyperparameter that it moves in a fit that begins at ``epoch``.

    Raises:
        ValueError: If the schedule leaves the range of the hyperparameter later in the fit.
    """
    _check_values(schedule, parameter, epoch)
    for part in schedule.parts():
        alone = part is schedule and not session.adjustments[parameter.key]
        if isinstance(part, FollowsHyperparameter):
            part.on_fit_start(parameter, epoch, schedule.timeline or Timeline(), alone)


def _check_values(schedule: Moving, parameter: Hyperparameter, epoch: int) -> None:
    """Refuse a schedule that leaves the range of a hyperparameter, before the first update.

    The results of a function, which is called once per epoch, are checked when they are used.
    """
    timeline, parts, permitted = schedule.timeline, list(schedule.parts()), parameter.permitted
    if timeline is None or timeline.epochs is None:
        return
    if any(isinstance(part, FollowsHyperparameter) for part in parts):
        return
    # Most schedules have checked that they give rates.
    if permitted.below == math.inf and not any(part.may_exceed for part in parts):
        return
    if (
        schedule.value_bounds is not None
        and permitted.find_outside(np.array(schedule.value_bounds)) is None
    ):
        return
    steps_per_epoch, unit = timeline.steps_per_epoch, "step"
    if steps_per_epoch is None:
        timeline, steps_per_epoch, unit = Timeline.by_epoch(timeline.epochs), 1, "epoch"
    first, end = (math.ceil(number * steps_per_epoch) for number in (epoch, timeline.epochs or 0))
    for steps in blocks_of_steps(first, end, CHECKED):
        try:
            values = schedule(steps, timeline)
        except UnresolvedLength:  # raised again, or resolved, when a value is used
            return
        where = permitted.find_outside(values)
        if where is not None:
            value = values[where]
            raise ValueError(
                f"{schedule!r} gives {parameter.name}={value:g} for {unit} {steps[where]} of "
                f"the fit; it must be {permitted.expected}.{_describe_bound(value, permitted)}"
            )


def _describe_bound(value: float, permitted: Range) -> str:
    """Return a sentence on how to keep a schedule in a range; empty if no bound helps."""
    if value >= permitted.below:
        return f" To bound it, append .clip(max=...) with a number below {permitted.below:g}."
    return describe_bound(value)
