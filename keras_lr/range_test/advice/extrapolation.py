"""How the best rate moves with the length and the schedule of a training run.

``benchmarks/range_advice.py`` fits the numbers below on the problems `TUNED` and `FITTED`, and
checks them on held-out problems. All are small: at most 3,000 steps, batches of 16 to 128.
"""

from __future__ import annotations

import dataclasses
import math

from keras_lr.range_test.advice.conditions import FADING, FIXED, GRADIENT, Conditions
from keras_lr.range_test.advice.training import Training

MEASURED = 100, 3000
"""Lengths of training, in steps, between which the numbers were fitted."""

LONGEST = 10.0
"""Multiple of the longest of these up to which the numbers are used; beyond, the rate stays."""

PASSES = 10.0
"""Passes over the data after which the best rate starts to fall because the data repeat."""

MIN_BATCHES = 8
"""Batches of the smallest data that the numbers were fitted on; smaller data count as these."""

COSINE_MEAN = 0.5
"""Ratio of mean to highest rate of a cosine and of one cycle, which the numbers were fitted on."""

SAME = math.log10(2.0)
"""Decades within which two rates count as the same."""

SURE = 0.9
"""Share of agreeing re-readings of the short runs below which the range test itself is unsure: most
often because the best rate is the lowest or the highest that was tried."""

SPREADS = 0.24, 0.33, 0.41, 0.35
"""Standard deviations of the best rates around the extrapolation, in decades: for a training run as
long as the short runs, and what is added by ten times the length, by an unsure range test and by
batch normalization."""

LEFT_BY_REHEARSAL = 0.85
"""Share of the spread that a rehearsal leaves for a training run of its own length."""


@dataclasses.dataclass(frozen=True)
class Drift:
    """How the best rate of a long run differs from that of a short one, for one kind of optimizer.

    All numbers are in decades of rate.

    Attributes:
        offset: Difference for a training run as long as the short run.
        per_decade: Change for ten times as many steps.
        decay: Change of the highest rate for a schedule that falls to zero, such as a cosine.
        per_repeat: Change for ten times as many passes over the data, beyond the first ten.
    """

    offset: float
    per_decade: float
    decay: float
    per_repeat: float


DRIFTS = {
    GRADIENT: Drift(-0.06, -0.22, 0.24, -0.12),
    FIXED: Drift(0.02, -0.39, 0.32, -0.65),
    FADING: Drift(0.01, -0.16, 0.32, -0.48),
}


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The best rate of a training run, as far as short runs can show it.

    Attributes:
        factor: Ratio of the best rate of the training to that of the short runs.
        spread: Standard deviation of its logarithm, in decades.
    """

    factor: float
    spread: float

    def confidence(self, factor: float | None = None) -> float:
        """Return the chance that a rate lies within a factor of two of the best one.

        Args:
            factor: Ratio of the rate to the best of the short runs; by default the extrapolated
                one.
        """
        off = 0.0 if factor is None else math.log10(factor / self.factor)
        above, below = (
            math.erf((off + side * SAME) / (self.spread * math.sqrt(2.0))) for side in (1.0, -1.0)
        )
        return (above - below) / 2.0

    def after_rehearsal(self, rehearsed: Extrapolation, growth: float) -> Extrapolation:
        """Return the same with the spread that a rehearsal leaves.

        Args:
            rehearsed: The extrapolation to the length of the rehearsal.
            growth: Logarithm of the length of the training over that of the rehearsal. For shorter
                runs the spread stays as it is.
        """
        if growth < 0.0:
            return self
        left = LEFT_BY_REHEARSAL * rehearsed.spread
        return dataclasses.replace(self, spread=math.hypot(left, SPREADS[1] * growth))


def terms_of(
    conditions: Conditions, run: int, training: Training
) -> tuple[float, float, float, float]:
    """Return the multipliers of the four numbers of a `Drift`, whose products are added up.

    Args:
        conditions: What is known of the model and its data.
        run: Length of the short runs in steps.
        training: The training.
    """
    shortest, longest = MEASURED
    steps = min(max(training.steps, shortest), LONGEST * longest)
    repeats = 0.0
    if conditions.batches is not None:
        batches = max(conditions.batches, MIN_BATCHES)
        repeats = max(0.0, math.log10(steps / batches / PASSES))
    decays = min(1.0, (1.0 - training.mean) / (1.0 - COSINE_MEAN))
    return 1.0, math.log10(steps / run), decays, repeats


def extrapolate(
    conditions: Conditions, run: int, agreement: float, training: Training
) -> Extrapolation:
    """Return how the best rate of a training run differs from that of short runs.

    Args:
        conditions: What is known of the model and its data.
        run: Length of the short runs in steps.
        agreement: Share of their re-readings that agree on the best rate.
        training: The training.
    """
    drift = DRIFTS[conditions.step_size]
    numbers = (drift.offset, drift.per_decade, drift.decay, drift.per_repeat)
    terms = terms_of(conditions, run, training)
    logarithm = sum(number * term for number, term in zip(numbers, terms, strict=True))
    growth = math.log10(max(training.steps, MEASURED[0]) / run)
    spreads = zip(SPREADS, spread_terms_of(conditions, agreement, growth), strict=True)
    return Extrapolation(10.0**logarithm, math.hypot(*(number * term for number, term in spreads)))


def spread_terms_of(
    conditions: Conditions, agreement: float, growth: float
) -> tuple[float, float, float, float]:
    """Return the multipliers of the `SPREADS`, which are added up as independent errors.

    Args:
        conditions: What is known of the model and its data.
        agreement: Share of re-readings of the short runs that agree on the best rate.
        growth: Logarithm of the length of the training over that of the short runs.
    """
    is_unsure = agreement < SURE or conditions.normalizes_few_rows
    return 1.0, growth, is_unsure, conditions.batch_norm
