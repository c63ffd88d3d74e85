"""`Advice`: a rate for a training run of some length and schedule, and how sure it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from keras_lr._fields.kinds import Number
from keras_lr.range_test.advice.conditions import MIN_ROWS, Conditions
from keras_lr.range_test.advice.extrapolation import (
    MEASURED,
    MIN_BATCHES,
    Extrapolation,
    extrapolate,
)
from keras_lr.range_test.advice.rehearsal import Rehearsal
from keras_lr.range_test.advice.training import Training
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.search import ADVISED_RUN, SearchResult

DEFAULT_RUNS = 10
"""Assumed length of a training run of unknown length, as a multiple of the short runs."""

DEFAULT_STEPS = DEFAULT_RUNS * ADVISED_RUN
"""The same in steps, for short runs of the usual length."""

SHOWN = "Constant", "CosineDecay", "OneCycle"
"""Schedules in the table of a report."""

SHOWN_STEPS = 1000
"""Length in the table of a report for a test outside of a fit."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """A rate for a training run of some length and schedule, and how sure it is.

    Attributes:
        rate: The rate; for a schedule, its highest.
        confidence: The share of such answers that lie within a factor of two of the best rate.
        training: The training that it is for.
        tested: The lowest and the highest rate that the range test trained at.
    """

    rate: float
    confidence: float
    training: Training
    tested: tuple[float, float]

    @property
    def is_outside(self) -> bool:
        """Whether the range test never trained at a rate as low, or as high."""
        return not self.tested[0] <= self.rate <= self.tested[1]


def give_advice(
    found: SearchResult,
    conditions: Conditions,
    training: Training,
    rehearsal: Rehearsal | None = None,
) -> Advice:
    """Return the rate for a training run.

    With a rehearsal it is the geometric mean of two rates: that which the short runs advise, and
    that which the rehearsal does.

    Args:
        found: What the short runs found.
        conditions: What is known of the model and its data.
        training: The training.
        rehearsal: What longer runs found, if there were any.

    Raises:
        NoSuggestion: If the model was trained before the test.
    """
    if conditions.trained:
        raise NoSuggestion(
            "No rate for a training run of a given length: the model was trained before the test, "
            "and how the best rate moves from there has not been measured. `suggestion` is the "
            "rate for a training run about ten times as long as the short runs."
        )
    moved = _extrapolate(found, conditions, training)
    tried = [*found.holds, *found.rates[: len(found.losses)]]
    rate = found.advised_from[0] * moved.factor
    if rehearsal is not None:
        tried += rehearsal.losses
        rehearsed = _extrapolate(found, conditions, rehearsal.training)
        rate = rehearsal.correct(rate, moved.factor / rehearsed.factor)
        growth = math.log10(training.steps / rehearsal.training.steps)
        moved = moved.after_rehearsal(rehearsed, growth)
    return Advice(
        rate,
        moved.confidence(),
        training,
        (float(min(tried)), float(max(tried))),
    )


def confidence_in(found: SearchResult, conditions: Conditions) -> float:
    """Return the chance that the suggestion of a search is within a factor of two of the best rate.

    That suggestion is for a training run at one rate, ten times as long as the short runs.

    Args:
        found: The search.
        conditions: What is known of the model and its data.
    """
    training = Training(DEFAULT_RUNS * found.run_length)
    moved = _extrapolate(found, conditions, training)
    return moved.confidence(found.suggestion / found.advised_from[0])


def _extrapolate(found: SearchResult, conditions: Conditions, training: Training) -> Extrapolation:
    return extrapolate(conditions, found.advised_from[1], found.confidence, training)


def plan_training(
    conditions: Conditions,
    steps: int | None,
    epochs: float | None,
    schedule: Any,
    known: Training | None,
) -> Training:
    """Return the training that the arguments of ``suggest`` name.

    Args:
        conditions: What is known of the data.
        steps: Length in steps.
        epochs: Length in epochs.
        schedule: A schedule, its class or its name.
        known: The training of the result, whose length is used if none is given.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the length is not positive, is given twice, or is unknown.
    """
    if steps is not None and epochs is not None:
        raise ValueError(
            f"Pass one length: `steps` or `epochs`. Received: steps={steps!r}, epochs={epochs!r}"
        )
    if epochs is not None:
        per_epoch = conditions.steps_per_epoch
        epochs = _check("epochs", Number(above=0.0), epochs)
        if per_epoch is None:
            raise ValueError(
                "Argument `epochs` needs the number of batches in an epoch, which the data of the "
                f"test did not say. Pass steps=... Received: epochs={epochs!r}"
            )
        steps = max(1, round(epochs * per_epoch))
    elif steps is not None:
        steps = _check("steps", Number(minimum=1, whole=True), steps)
    elif known is not None:
        steps = known.steps
    else:
        raise ValueError(
            "Pass the length of the training that the rate is for: steps=... or epochs=... "
            f"Received: schedule={schedule!r}"
        )
    assert steps is not None
    return Training.plan(steps, schedule, conditions.steps_per_epoch)


def _check(name: str, kind: Number, value: Any) -> Any:
    try:
        return kind.convert(value)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"Argument `{name}` must be {error}. Received: {name}={value!r}"
        ) from None


def describe_limits(conditions: Conditions) -> list[str]:
    """Return sentences on how the model and its data differ from those that were measured."""
    limits = []
    if conditions.normalizes_few_rows:
        limits.append(
            f"Batches of {conditions.batch_size} with batch normalization: the statistics of so "
            "few rows are so noisy that another test may suggest a rate ten times as high or as "
            f"low. Take batches of {MIN_ROWS} or more, or another normalization."
        )
    if conditions.batches is not None and conditions.batches < MIN_BATCHES:
        batches = "1 batch" if conditions.batches == 1 else f"{conditions.batches:,} batches"
        limits.append(
            f"The data have {batches}, and no fewer than {MIN_BATCHES} were measured: the "
            "rates below are those for as many."
        )
    return limits


def tabulate(
    found: SearchResult,
    conditions: Conditions,
    training: Training | None,
    rehearsal: Rehearsal | None,
) -> list[str]:
    """Return the lines of a table of rates, for three schedules at one length and ten times that.

    Args:
        found: What the short runs found.
        conditions: What is known of the model and its data.
        training: The training of the fit around the test, if there is one.
        rehearsal: What longer runs found, if there were any.
    """
    steps = training.steps if training else SHOWN_STEPS
    lengths = [steps, 10 * steps]
    every = [
        [
            give_advice(found, conditions, _training(name, length, conditions), rehearsal)
            for length in lengths
        ]
        for name in SHOWN
    ]
    header = f"{'Highest rate for training for':30s}" + "".join(
        f" {f'{length:,} steps':>20s}" for length in lengths
    )
    lines = [header, *(_row(name, row) for name, row in zip(SHOWN, every, strict=True))]
    lines.append("In brackets: the chance that the best rate is within a factor of two.")
    if lengths[-1] > MEASURED[1]:
        lines.append(
            f"Beyond {MEASURED[1]:,} steps nothing was measured: the rates are extrapolated."
        )
    if any(one.is_outside for row in every for one in row):
        lines.append("A rate marked * is outside of those that were tested.")
    return lines


def _training(name: str, steps: int, conditions: Conditions) -> Training:
    return Training.plan(steps, name, conditions.steps_per_epoch)


def _row(name: str, row: Sequence[Advice]) -> str:
    cells = [f"{one.rate:.1e}{'*' * one.is_outside} ({one.confidence:.0%})" for one in row]
    return f"{name:30s}" + "".join(f" {cell:>20s}" for cell in cells)
