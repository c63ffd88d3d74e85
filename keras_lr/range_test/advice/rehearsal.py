"""`Rehearsal`: runs near the rate that the short runs advise, compared by their validation loss.

The short runs of a range test are read by their training loss. Longer ones would say no more in
this way: where data repeat, the loss on them says less and less of other data. So a larger budget
is spent on a few runs near the advised rate, under the schedule of the training if it is known, and
as long as the training itself or as the budget allows. These are read by their validation loss.
Where no validation data were given, a fifth of the rows is held out of these runs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr.range_test.advice.training import Training
from keras_lr.range_test.search import MAX_RATES, next_rate
from keras_lr.range_test.trials import NUM_CONSTANT_RUNS, Runs, Trials

MIN_LENGTH = 100
"""Steps of the shortest rehearsal: the shortest training whose best rate has been measured."""

SHARE_HELD_OUT = 0.2
"""Share of the rows to hold out of a rehearsal where there are no validation data."""

MIN_HELD_OUT, MAX_HELD_OUT = 100, 2000
"""Rows to hold out at least and at most. Fewer say too little: on the problems for tuning such a
rehearsal made the rate worse. More cost time and say hardly more."""


class ValidatedRuns(Runs, Protocol):
    """Training runs from the same restored state, after which the model can be validated."""

    def follow(self, rates: NDArray[np.float64]) -> ArrayLike:
        """Train one batch at each rate."""

    def validate(self) -> float:
        """Return the validation loss of the model as the last run left it."""


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """Runs of one length under one schedule, compared by their validation loss.

    Attributes:
        best: The best rate for such a run; the highest of the schedule.
        training: Length and schedule of each run.
        losses: Validation loss at the end of each run, by rate, in the order of trying; infinite if
            the run diverged.
        held_out: Rows of the training data that were held out for validation, if none were given.
    """

    best: float
    training: Training
    losses: dict[float, float]
    held_out: int = 0

    def correct(self, rate: float, factor: float) -> float:
        """Return the geometric mean of an advised rate and the rate that follows from these runs.

        Args:
            rate: The rate that the short runs advise for a training run.
            factor: Ratio of the best rate of that training to the best of such a run.
        """
        return math.sqrt(rate * self.best * factor)

    def __str__(self) -> str:
        rates = sorted(self.losses)
        rows = f"loss on {self.held_out:,} rows that were held out"
        return (
            f"In {len(rates)} runs of {self.training}, between {rates[0]:.1e} and {rates[-1]:.1e}, "
            f"the {rows if self.held_out else 'validation loss'} ended lowest at about "
            f"{self.best:.1e}."
        )


class ValidatedTrials(Trials):
    """Runs under one schedule, compared by their validation loss."""

    runs: ValidatedRuns

    def __init__(self, runs: ValidatedRuns, budget: int, training: Training) -> None:
        """Plan runs of a length under a schedule.

        Args:
            runs: Training runs from the same restored state.
            budget: Steps to share among the runs.
            training: Length and schedule of each.
        """
        super().__init__(runs, budget, math.inf)
        self.training, self.length = training, training.steps
        self.validation_losses: dict[float, float] = {}

    def _run_at(self, rate: float) -> ArrayLike:
        return self.runs.follow(self.training.rates(rate))

    def run(self, rate: float) -> None:
        """Train at a rate, and keep the validation loss."""
        super().run(rate)
        losses = self.losses[rate]
        is_complete = len(losses) >= self.length and bool(np.isfinite(losses).all())
        loss = self.runs.validate() if is_complete else math.inf
        self.validation_losses[rate] = loss if math.isfinite(loss) else math.inf

    def final_losses(self) -> NDArray[np.float64]:
        """Return the validation loss of each run, lowest rate first; infinite if it diverged."""
        return np.array([[self.validation_losses[rate]] for rate in self.rates])

    def memorized_below(self, lowest: float) -> float:
        """Return 0: no model has seen the validation data, however low its loss on them."""
        return 0.0


def rehearsal_length(budget: int, steps: int) -> int:
    """Return the length of the runs for a training run; 0 if the budget is too small.

    Args:
        budget: Steps to share among the runs.
        steps: Length of the training.
    """
    longest = budget // NUM_CONSTANT_RUNS
    return 0 if longest < MIN_LENGTH else min(max(steps, MIN_LENGTH), longest)


def rows_to_hold_out(rows: int, batch_size: int) -> int:
    """Return how many rows a rehearsal holds out, in whole batches; 0 if there are too few.

    Args:
        rows: Rows of the data.
        batch_size: Rows of a batch.
    """
    most = min(int(SHARE_HELD_OUT * rows), max(MAX_HELD_OUT, batch_size))
    whole = most // batch_size * batch_size
    return whole if whole >= MIN_HELD_OUT else 0


def rehearse(
    runs: ValidatedRuns, center: float, training: Training, budget: int
) -> Rehearsal | None:
    """Train near a rate, and return what the validation shows; None if every run diverged.

    The rates go outwards from ``center`` in half decades until the best one lies between two
    others. Then the gaps are halved.

    Args:
        runs: Training runs from the same restored state.
        center: The highest rate of the first run.
        training: Length and schedule of each run.
        budget: Steps in all; never exceeded.
    """
    trials = ValidatedTrials(runs, budget, training)
    rate: float | None = center
    while rate is not None and trials.can_afford() and len(trials.losses) < MAX_RATES:
        trials.run(rate)
        rate = next_rate(trials)
    losses = trials.final_losses()
    if not np.isfinite(losses).any():
        return None
    return Rehearsal(trials.best_rate(losses), training, trials.validation_losses)
