"""Finding a rate by trying it: one ramp, then a few short runs at constant rates."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr.range_test.curve import Curve, NoSuggestion
from keras_lr.range_test.rules import bounds

Array = NDArray[np.float64]

NUM_CONSTANT_RUNS = 4
"""Runs at constant rates that share what the ramp leaves of the budget."""

START = 2.0
"""The first such rate is this much below where the loss of the ramp is lowest."""

STRIDE = math.sqrt(10.0)
"""From one such rate to the next: half a decade."""

LEARNT = 0.02
"""Share of the first loss below which data that are seen again are learnt by heart."""

UNSEEN = 0.5
"""The same as a share of the loss on data that are seen for the first time."""

OPEN = 0.5
"""Highest confidence where the best rate tried has no other on one side."""

LONG_RUN = {True: 10.0**-0.5, False: 10.0**-0.1}
"""Share of the best rate for a short run that suits a long one, by whether steps are normalized."""


Ramp = tuple[Array, Array]


class Runs(Protocol):
    """What the search needs: trainings that all begin from the same restored state.

    Each returns the loss of every batch; a run that stops early returns fewer, or ends in NaN.
    """

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> ArrayLike:
        """Train along ``steps`` rates that grow exponentially from ``min_lr`` to ``max_lr``."""

    def hold(self, rate: float, steps: int) -> ArrayLike:
        """Train at one rate."""


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        suggestion: The rate to train at.
        bounds: Base and highest rate for a cycle.
        confidence: Share of re-readings of the runs that come within a factor of two, 0 to 1; at
            most `OPEN` where the best is the lowest or the highest rate that was tried.
        report: The same in words.
        rates: Rates of the ramp.
        losses: Losses of the ramp, as many as there were.
        holds: The losses of each run at a constant rate, by rate, in the order of trying.
        steps: What it cost.
    """

    suggestion: float
    bounds: tuple[float, float]
    confidence: float
    report: str
    rates: Array
    losses: Array
    holds: dict[float, Array]
    steps: int


class _Trials:
    """Runs at constant rates, compared on the same batches."""

    def __init__(self, runs: Runs, budget: int, epoch: float) -> None:
        self.runs, self.left = runs, budget
        self.length = budget // NUM_CONSTANT_RUNS
        self.epoch = epoch
        self.losses: dict[float, Array] = {}
        self.still: Array | None = None
        """What the batches do at a rate too low to train."""

    def afford(self, runs: int = 1) -> bool:
        return self.left >= runs * self.length

    def run(self, rate: float) -> None:
        self.losses[rate] = self._hold(rate)

    def stand(self, rate: float) -> None:
        self.still = self._hold(rate)

    def _hold(self, rate: float) -> Array:
        losses = _losses(self.runs.hold(rate, self.length))
        self.left -= len(losses)
        return losses

    def tails(self) -> Array:
        """The last quarter of each run, lowest rate first; infinite where a run came to an end."""
        return np.array([self._end(self.losses[rate], 4) for rate in sorted(self.losses)])

    def _end(self, run: Array, share: int) -> Array:
        count = max(2, self.length // share)
        whole = len(run) >= self.length and np.isfinite(run[self.length - 1])
        return run[self.length - count : self.length] if whole else np.full(count, np.inf)

    def gain(self, index: int) -> Array:
        """How far below the run at the lowest rate another is in its second half."""
        runs = [self.losses[rate] for rate in sorted(self.losses)]
        lowest = runs[0] if self.still is None else self.still
        return self._end(lowest, 2) - self._end(runs[index], 2)

    def levels(self, tails: Array) -> Array:
        """Log of each run's final loss, so that a quarter less counts the same at any size.

        On data seen before, a loss that has all but vanished says nothing about other data, and a
        higher rate only takes the model further from where it began: what lies below `LEARNT`
        counts as just as far above.
        """
        means = tails.mean(1)
        finite = means[np.isfinite(means)]
        highest, lowest = (finite.max(), finite.min()) if finite.size else (1.0, 1.0)
        floor = 0.0 if lowest >= 0.0 else lowest - 0.1 * (highest - lowest)
        levels = np.log(np.maximum(means - floor, 1e-12 * max(abs(highest), 1e-300)))
        learnt = self.learnt(lowest)
        if learnt:
            levels = np.maximum(levels, 2.0 * math.log(learnt) - levels)
        return levels

    def learnt(self, lowest: float) -> float:
        """Below which loss the data are known by heart; 0 for new data, or losses below zero.

        A loss as low as that on data not seen before, in the first epoch, is no sign of it.
        """
        first = float(np.median([row[0] for row in self.losses.values()]))
        if self.epoch >= self.length or lowest < 0.0 or not 0.0 < first < math.inf:
            return 0.0
        epoch = int(self.epoch)
        ends = [row[epoch - max(1, epoch // 4) : epoch] for row in self.losses.values()]
        unseen = min((float(end.mean()) for end in ends if end.size), default=math.inf)
        return max(0.0, min(LEARNT * first, UNSEEN * unseen))

    def best(self, tails: Array | None = None) -> float:
        """Rate of the lowest final loss: the vertex of a parabola through the best three runs."""
        rates = np.log10(sorted(self.losses))
        tails = self.tails() if tails is None else tails
        levels = self.levels(tails)
        i = int(levels.argmin())
        if i == len(rates) - 1 > 0 and _alike(tails[i - 1], tails[i]):
            # What lies above is not known: a gain within the noise is not worth the risk.
            return float(10.0 ** rates[i - 1])
        if not 0 < i < len(rates) - 1:
            return float(10.0 ** rates[i])
        (x0, x1, x2), (y0, y1, y2) = rates[i - 1 : i + 2], levels[i - 1 : i + 2]
        # Beyond the edge of stability a loss may be anything.
        left, right = (min(y0, y1 + 2.0) - y1) / (x1 - x0), (min(y2, y1 + 2.0) - y1) / (x2 - x1)
        if left + right < 1e-9:
            return float(10.0**x1)
        vertex = x1 + 0.5 * (left * (x2 - x1) - right * (x1 - x0)) / (left + right)
        return float(10.0 ** np.clip(vertex, (x0 + x1) / 2, (x1 + x2) / 2))


def search(
    runs: Runs,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 60,
    *,
    budget: int = 300,
    normalizes: bool = True,
    epoch: float = math.inf,
) -> SearchResult:
    """Find a rate to train at.

    A ramp shows roughly where the loss is lowest. What it cannot show is how a rate does when it
    stays. So four runs at constant rates share the rest of the budget, 60 steps each by default,
    from the same state and on the same batches: the first at half of that rate, the next half a
    decade below, on towards whichever ended lower, until the best lies between two others; then
    closer. A parabola through the best three, over the log rate, gives the best rate for a run as
    short as these. Where the runs see the data more than once, the training loss may all but vanish
    over a wide range of rates; there it is the rate at which the loss ends at a fiftieth of the
    first. Where batches differ so much that nothing seems to be learnt, one of the runs is at the
    lowest rate: what the batches do by themselves is taken out of the ramp, or of the other runs.

    A real training is longer. Where the optimizer divides by the size of the gradient (Adam and all
    its kin), its noise does not fade as the gradient does, and the best rate falls with the square
    root of the length: the suggestion is ``10 ** -0.5`` of the best, for a training ten times as
    long. Where the step shrinks with the gradient (SGD, with momentum or without), the limit is
    stability, which time does not move much: ``10 ** -0.1``.

    Args:
        runs: Trainings from the same restored state.
        min_lr: Lowest rate of the ramp.
        max_lr: Highest rate of the ramp.
        steps: Length of the ramp.
        budget: Steps in all, the ramp included; never exceeded.
        normalizes: Whether the optimizer's step does not shrink with the gradient.
        epoch: Batches after which the data repeat.

    Raises:
        NoSuggestion: If nothing was learnt at any rate; the message says what to change.
        ValueError: If the budget leaves fewer than 24 steps after the ramp.
    """
    if budget < steps + 24:
        raise ValueError(
            "Argument `budget` must leave at least 24 steps after the ramp. "
            f"Received: budget={budget}, steps={steps}"
        )
    ramps, still, center = _ramps(runs, min_lr, max_lr, steps, budget)
    spent = sum(len(losses) for _, losses in ramps) + len(still)
    trials = _Trials(runs, budget - spent, epoch)
    if len(still) >= trials.length:
        trials.still = still
    trials.run(center / START)
    while trials.afford():
        rate = _next(trials) if len(trials.losses) < 2 * NUM_CONSTANT_RUNS else None
        last = rate is None or not trials.afford(2)
        if last and trials.still is None and _nothing_learnt(ramps, trials):
            trials.stand(min(rates[0] for rates, _ in ramps))
        elif rate is None:
            break
        else:
            trials.run(rate)
    reason = _nothing_learnt(ramps, trials)
    if reason:
        raise NoSuggestion(reason)
    tails = trials.tails()
    best = trials.best(tails)
    rates, losses = ramps[-1]
    suggestion = best * LONG_RUN[normalizes]
    low = _base(rates, losses, suggestion)
    sure, end = _confidence(trials, tails, best), _end(trials, best)
    return SearchResult(
        suggestion,
        (low, best),
        min(sure, OPEN) if end else sure,
        _words(trials, tails, suggestion, best, low, sure, end),
        rates,
        losses,
        trials.losses,
        budget - trials.left,
    )


def _ramps(
    runs: Runs, low: float, high: float, steps: int, budget: int
) -> tuple[list[Ramp], Array, float]:
    """Ramp until a minimum is inside, moving the range at most once.

    Returns:
        The ramps; the losses of a run at the lowest rate, if there was one; the rate at which the
        loss is lowest.
    """
    tried, still = [_ramp(runs, low, high, steps)], np.array([])
    rates, losses = tried[0]
    curve = _read(rates, losses)
    if curve and curve.verdict in ("rises", "flat") and budget - 2 * len(losses) >= steps:
        # Or are the first batches easy ones? See without what the batches do by themselves.
        still = _losses(runs.hold(low, len(losses)))
        if len(still) == len(losses):
            curve = _read(rates, losses - still + still.mean())
    verdict = _verdict(curve)
    if verdict != "good" and budget - len(losses) - len(still) >= steps:
        low, high = (low / 1e4, low * 10) if verdict == "rises" else (high / 10, high * 1e3)
        tried.append(_ramp(runs, low, high, steps // 2))
        curve = _read(*tried[-1])
    center = curve.rates[curve.lowest] if curve else low
    return [(rates[: len(losses)], losses) for rates, losses in tried], still, float(center)


def _ramp(runs: Runs, low: float, high: float, steps: int) -> Ramp:
    """Run one ramp: all its rates, and the losses, which may be fewer."""
    return np.geomspace(low, high, steps), _losses(runs.ramp(low, high, steps))


def _losses(run: ArrayLike) -> Array:
    return np.asarray(run, float).ravel()


def _read(rates: Array, losses: Array) -> Curve | None:
    """The curve of a ramp, which may have ended early; None if it is too short to read."""
    missing = np.full(len(rates) - len(losses), np.nan)
    try:
        return Curve.read(rates, np.append(losses, missing))
    except NoSuggestion:
        return None


def _verdict(curve: Curve | None) -> str:
    if curve is None:
        return "rises"
    # Noise hides the fall, but not where the loss rises: runs on the same batches may show it.
    return "good" if curve.verdict == "flat" and curve.climbs else curve.verdict


def _next(trials: _Trials) -> float | None:
    """The rate to try next: outwards until the best is inside, then halving the better side."""
    rates = sorted(trials.losses)
    tails = trials.tails()
    levels = trials.levels(tails)
    i = int(levels.argmin())
    if 0 < i < len(rates) - 1 and _alike(tails[i - 1], tails[i]):
        i -= 1  # A fall within the noise bounds nothing: the best may be far below.
    if i == 0:
        return rates[0] / STRIDE
    if i == len(rates) - 1:
        return rates[-1] * STRIDE
    below, above = math.sqrt(rates[i - 1] * rates[i]), math.sqrt(rates[i] * rates[i + 1])
    wide = [rates[i] / rates[i - 1] > 2.0, rates[i + 1] / rates[i] > 2.0]
    if wide[0] and (levels[i - 1] <= levels[i + 1] or not wide[1]):
        return below
    return above if wide[1] else None


def _alike(one: Array, other: Array) -> bool:
    """Whether two runs differ by less than two standard errors, on the batches they share."""
    difference = one - other
    error = difference.std() / math.sqrt(len(difference))
    return bool(np.isfinite(difference).all() and abs(difference.mean()) <= 2.0 * error)


def _nothing_learnt(ramps: list[Ramp], trials: _Trials) -> str | None:
    """Why there is no suggestion, unless the best run learnt something.

    Either it ended below the losses at rates too low to change anything, or, where batches differ
    more than that, below the run at the lowest rate on the batches that they share.
    """
    tails = trials.tails()
    index = int(tails.mean(1).argmin())
    rate, best = trials.best(tails), tails[index]
    rates, losses = (np.concatenate(part) for part in zip(*ramps, strict=True))
    low = rates <= max(rate / 100.0, *np.sort(rates)[:3])
    first = losses[low & np.isfinite(losses)]
    if not first.size or not np.isfinite(best).all():
        return (
            "Diverged at every rate that was tried. Look for a mistake in the loss, the labels or "
            "the scale of the inputs, or begin lower: a smaller min_lr."
        )
    error = math.hypot(first.std() / math.sqrt(first.size), best.std() / math.sqrt(best.size))
    if np.median(first) - best.mean() > 4.0 * error:
        return None
    gain = trials.gain(index)
    if np.isfinite(gain).all() and gain.mean() > 3.0 * gain.std(ddof=1) / math.sqrt(gain.size):
        return None
    return (
        "Nothing was learnt: at no rate did the loss end below where it began by more than its "
        "noise. Widen the range, take a larger batch, or allow more steps."
    )


def _base(rates: Array, losses: Array, suggestion: float) -> float:
    """Where the ramp began to improve; a tenth of the suggestion where it does not say."""
    try:
        return min(bounds(rates, losses)[0], suggestion / 2.0)
    except NoSuggestion:
        return suggestion / 10.0


def _confidence(trials: _Trials, tails: Array, best: float, draws: int = 200) -> float:
    """Draw the last batches anew, the same for all runs, and see how often the best rate stays."""
    if len(tails) < 2:
        return 0.0
    picks = np.random.default_rng(0).integers(tails.shape[1], size=(draws, tails.shape[1]))
    again = np.array([trials.best(tails[:, pick]) for pick in picks])
    return float(np.mean(np.abs(np.log2(again / best)) <= 1.0))


def _end(trials: _Trials, best: float) -> str:
    """Beyond which of the rates tried the best may lie: ``"lowest"``, ``"highest"`` or neither."""
    at = [math.isclose(best, rate) for rate in (min(trials.losses), max(trials.losses))]
    return {(True, False): "lowest", (False, True): "highest"}.get((at[0], at[1]), "")


def _words(
    trials: _Trials,
    tails: Array,
    suggestion: float,
    best: float,
    low: float,
    sure: float,
    end: str,
) -> str:
    rates = sorted(trials.losses)
    lowest = float(tails.mean(1).min())
    heart = lowest < trials.learnt(lowest)
    lines = [
        f"In {len(rates)} short runs between {rates[0]:.1e} and {rates[-1]:.1e} the loss "
        + ("all but vanished from" if heart else "ended lowest at")
        + f" about {best:.1e}"
        + (" on; on data seen so often, lower ones say no more." if heart else "."),
        f"Suggestion for a training that is longer: {suggestion:.1e}; for a cycle: {low:.1e} to "
        f"{best:.1e}.",
    ]
    if end:
        beyond = {"lowest": "lower", "highest": "higher"}[end]
        lines.append(f"The best rate tried is the {end}: a {beyond} one may do better still.")
    if sure < 0.8:
        lines.append(
            f"Only {sure:.0%} of re-readings agree within a factor of two: the losses are noisy "
            "for runs this short. A larger batch or budget would say more."
        )
    return "\n".join(lines)
