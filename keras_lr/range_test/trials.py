"""`Trials`: short runs at constant rates, compared on the batches that they share."""

from __future__ import annotations

import copy
import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NUM_CONSTANT_RUNS = 4
"""Number of runs at constant rates, which share the budget that the ramp leaves."""

TAIL = 4
"""The final loss of a run is the mean of its last ``1 / TAIL``: a longer part would reach back too
close to the start, and a shorter one would leave too much noise."""

MEMORIZED = 0.02
"""Share of the first loss below which repeated data count as memorized."""

MEMORIZED_UNSEEN = 0.5
"""The same, as a share of the lowest loss on data seen for the first time."""

MARGIN = 0.1
"""Share of the spread of the final losses by which they are kept above zero before taking
logarithms, if some are negative."""

TINY = 1e-12
"""Smallest final loss, as a share of the highest, whose logarithm is used."""

UNSTABLE = 2.0
"""Rise in the log of the final loss above which a run no longer shapes the parabola: beyond the
edge of stability the loss may be anything."""

STRAIGHT = 1e-9
"""Sum of two slopes below which three runs lie on a line, which has no vertex."""

ALIKE = 2.0
"""Standard errors up to which the difference of two runs is noise."""


class Runs(Protocol):
    """Training runs that all begin from the same restored state.

    Each returns the loss of every batch. A run that stops early returns fewer, or ends in NaN.
    """

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> ArrayLike:
        """Train along ``steps`` rates that grow exponentially from ``min_lr`` to ``max_lr``."""

    def hold(self, rate: float, steps: int) -> ArrayLike:
        """Train at one rate."""


class Trials:
    """Short runs at constant rates, compared on the batches that they share."""

    def __init__(
        self, runs: Runs, budget: int, batches_per_epoch: float, vanishes: bool = True
    ) -> None:
        """Plan runs of equal length.

        Args:
            runs: Training runs from the same restored state.
            budget: Steps to share among the runs.
            batches_per_epoch: Batches after which the data repeat.
            vanishes: Whether the minimum of the loss is known to be zero.
        """
        self.runs = runs
        self.steps_left = budget
        self.length = budget // NUM_CONSTANT_RUNS
        self.batches_per_epoch = batches_per_epoch
        self.vanishes = vanishes
        self.losses: dict[float, Array] = {}
        """Losses of each run, by rate, in the order of trying."""
        self.baseline: Array | None = None
        """Losses of the same batches at a rate too low to train."""

    @property
    def rates(self) -> list[float]:
        """The rates that were tried, the lowest first."""
        return sorted(self.losses)

    def cut(self, length: int) -> Trials:
        """Return the same runs as if they had ended after ``length`` steps."""
        cut = copy.copy(self)
        cut.length = length
        cut.losses = {rate: losses[:length] for rate, losses in self.losses.items()}
        return cut

    def can_afford(self, runs: int = 1) -> bool:
        """Return whether the budget has room for ``runs`` more runs."""
        return self.steps_left >= runs * self.length

    def run(self, rate: float) -> None:
        """Train at a rate, and keep the losses."""
        self.losses[rate] = self._train_at(rate)

    def run_baseline(self, rate: float) -> None:
        """Measure the effect of the batches alone, at a rate too low to train."""
        self.baseline = self._train_at(rate)

    def _train_at(self, rate: float) -> Array:
        losses = to_losses(self._run_at(rate))
        self.steps_left -= len(losses)
        return losses

    def _run_at(self, rate: float) -> ArrayLike:
        return self.runs.hold(rate, self.length)

    def final_losses(self) -> Array:
        """Return the last quarter of each run, lowest rate first; infinite if it ended early."""
        return np.array([self._last_part(self.losses[rate], TAIL) for rate in self.rates])

    def _last_part(self, losses: Array, share: int) -> Array:
        """Return the last ``1 / share`` of a run."""
        count = max(2, self.length // share)
        complete = len(losses) >= self.length and np.isfinite(losses[self.length - 1])
        if not complete:
            return np.full(count, np.inf)
        return losses[self.length - count : self.length]

    def gain(self, index: int) -> Array:
        """Return how far the second half of a run is below the baseline, or the lowest rate."""
        reference = self.losses[self.rates[0]] if self.baseline is None else self.baseline
        return self._last_part(reference, 2) - self._last_part(self.losses[self.rates[index]], 2)

    def levels(self, final_losses: Array) -> Array:
        """Return the log of each final loss, so that only ratios of losses count.

        On memorized data a loss that has almost vanished says nothing about other data, and a
        higher rate only moves the model further from its start. A loss below the threshold of
        `memorized_below` therefore counts as being as far above it.
        """
        means = final_losses.mean(1)
        finite = means[np.isfinite(means)]
        highest, lowest = (finite.max(), finite.min()) if finite.size else (1.0, 1.0)
        zero = 0.0 if lowest >= 0.0 else lowest - MARGIN * (highest - lowest)
        levels = np.log(np.maximum(means - zero, TINY * max(abs(highest), 1e-300)))
        threshold = self.memorized_below(lowest)
        if threshold:
            levels = np.maximum(levels, 2.0 * math.log(threshold) - levels)
        return levels

    def memorized_below(self, lowest: float) -> float:
        """Return the loss below which the data count as memorized; 0 if no loss can show that.

        Data that the runs see once cannot be memorized. A loss whose minimum is not known to be
        zero need not vanish. Nor is a loss as low as on data seen for the first time a sign of it.

        Args:
            lowest: The lowest final loss.
        """
        first = float(np.median([losses[0] for losses in self.losses.values()]))
        may_show_it = self.vanishes and self.batches_per_epoch < self.length
        if not may_show_it or lowest < 0.0 or not 0.0 < first < math.inf:
            return 0.0
        epoch = int(self.batches_per_epoch)
        ends = [losses[epoch - max(1, epoch // TAIL) : epoch] for losses in self.losses.values()]
        unseen = min((float(end.mean()) for end in ends if end.size), default=math.inf)
        return max(0.0, min(MEMORIZED * first, MEMORIZED_UNSEEN * unseen))

    def best_rate(self, final_losses: Array) -> float:
        """Return the rate of the lowest final loss: the vertex of a parabola through three runs."""
        logs = np.log10(self.rates)
        levels = self.levels(final_losses)
        i = int(levels.argmin())
        if i == len(logs) - 1 > 0 and are_alike(final_losses[i - 1], final_losses[i]):
            # No run was made above this rate: a gain within the noise is not worth the risk.
            return float(10.0 ** logs[i - 1])
        if not 0 < i < len(logs) - 1:
            return float(10.0 ** logs[i])
        (x0, x1, x2), (y0, y1, y2) = logs[i - 1 : i + 2], levels[i - 1 : i + 2]
        left = (min(y0, y1 + UNSTABLE) - y1) / (x1 - x0)
        right = (min(y2, y1 + UNSTABLE) - y1) / (x2 - x1)
        if left + right < STRAIGHT:
            return float(10.0**x1)
        vertex = x1 + 0.5 * (left * (x2 - x1) - right * (x1 - x0)) / (left + right)
        return float(10.0 ** np.clip(vertex, (x0 + x1) / 2, (x1 + x2) / 2))

    def confidence(self, final_losses: Array, best: float, draws: int = 200) -> float:
        """Return the share of bootstrap samples of the last batches that agree on the best rate.

        Each sample draws the same batches for all runs. Rates within a factor of two agree.
        """
        if len(final_losses) < 2:
            return 0.0
        count = final_losses.shape[1]
        samples = np.random.default_rng(0).integers(count, size=(draws, count))
        again = np.array([self.best_rate(final_losses[:, sample]) for sample in samples])
        return float(np.mean(np.abs(np.log2(again / best)) <= 1.0))


def to_losses(run: ArrayLike) -> Array:
    """Return the losses of a run as a flat array."""
    return np.asarray(run, float).ravel()


def are_alike(one: Array, other: Array) -> bool:
    """Return whether two runs differ by less than two standard errors on their common batches."""
    difference = one - other
    error = difference.std() / math.sqrt(len(difference))
    return bool(np.isfinite(difference).all() and abs(difference.mean()) <= ALIKE * error)
