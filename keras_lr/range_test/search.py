"""Search for a learning rate by training: one ramp, then a few short runs at constant rates."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from keras_lr.range_test.curve import CHECK_THE_TASK, SIGNIFICANT, Curve, NoSuggestion
from keras_lr.range_test.rules import TRUSTED, bounds, describe_distrust
from keras_lr.range_test.trials import NUM_CONSTANT_RUNS, Runs, Trials, are_alike, to_losses

Array = NDArray[np.float64]

RecordedRamp = tuple[Array, Array]
"""Rates of a ramp and its losses, one for each."""

MIN_STEPS = 6 * NUM_CONSTANT_RUNS
"""Steps to leave for the runs at constant rates: six for each still show a trend."""

START = 2.0
"""Factor by which the first constant rate is below the rate at which the ramp's loss is lowest: a
ramp does not stay at a rate, so it survives rates at which a run would diverge."""

STRIDE = math.sqrt(10.0)
"""Factor between neighbouring constant rates: half a decade."""

FINEST = 2.0
"""Factor between neighbouring rates at which halving stops: short runs cannot show finer steps."""

ADVISED_RUN = 60
"""Steps of the runs from which the rates for longer runs follow. Where data repeat, the loss on
them says less and less about other data, so longer runs are read after this many steps."""

MAX_RATES = 2 * NUM_CONSTANT_RUNS
"""Largest number of rates to try, if runs that end early leave budget for more than four."""

LOWER, HIGHER = 1e4, 1e3
"""Factors by which a second ramp extends the range of the first downwards or upwards."""

OVERLAP = 10.0
"""Factor by which the second ramp overlaps the first."""

UNCHANGED = 100.0
"""Factor below the best rate at which a ramp has not yet changed the loss."""

GAINED = 3.0
"""Standard errors by which a run must lie below the baseline on the same batches."""

LONG_RUN = {True: 10.0**-0.5, False: 10.0**-0.1}
"""Share of a short run's best rate that suits a long run, by whether steps are normalized."""

NEAREST_BASE, USUAL_BASE = 2.0, 10.0
"""Factors by which the base rate of a cycle is below the suggestion: the smallest one, and the one
used if the ramp does not show the base rate."""

MAX_CONFIDENCE_AT_END = 0.5
"""Highest confidence in the lowest or the highest rate tried, since nothing beyond was tried."""


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        suggestion: The rate to train at.
        bounds: Base and highest rate for a cycle.
        confidence: Share of re-readings of the runs that come within a factor of two, from 0 to 1;
            at most 0.5 where the best is the lowest or the highest of the rates that were tried. It
            knows these runs alone; that of the result of a test is for the training that follows.
        report: What the runs showed, in words.
        rates: Rates of the ramp.
        losses: Losses of the ramp, which may have ended early.
        holds: Losses of each run at a constant rate, by rate, in the order of trying.
        steps: Training steps that the search took.
        early_best: Best rate for a run of `ADVISED_RUN` steps; None where the runs are not longer.
    """

    suggestion: float
    bounds: tuple[float, float]
    confidence: float
    report: str
    rates: Array = dataclasses.field(repr=False)
    losses: Array = dataclasses.field(repr=False)
    holds: dict[float, Array] = dataclasses.field(repr=False)
    steps: int
    early_best: float | None = None

    @property
    def advised_from(self) -> tuple[float, int]:
        """The best rate of the short runs from which others follow, and the length of the runs."""
        if self.early_best is not None:
            return self.early_best, ADVISED_RUN
        return self.bounds[1], self.run_length

    @property
    def run_length(self) -> int:
        """The length of the short runs in steps."""
        return max(map(len, self.holds.values()))


def search(
    runs: Runs,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 60,
    *,
    budget: int = 300,
    normalizes: bool = True,
    epoch: float = math.inf,
    vanishes: bool = True,
) -> SearchResult:
    """Return the rate to train at, found by training.

    A ramp shows roughly where the loss is lowest. It cannot show how a rate does when it is kept.
    So four runs at constant rates share the rest of the budget, 60 steps each by default, from the
    same state and on the same batches. The first is at half of the ramp's best rate, and the next
    half a decade below. Further rates follow on the side where the loss ended lower, until the best
    rate lies between two others. Then the gaps are halved. A parabola through the best three, over
    the log of the rate, gives the best rate for a run of this length.

    If the runs see the data more than once, a loss whose minimum is zero may almost vanish over a
    wide range of rates. The best rate is then the one at which the loss ends at a fiftieth
    of the first loss. If batches differ so much that nothing seems to be learnt, one of the runs is
    a baseline at the lowest rate: it shows the effect of the batches alone, and is subtracted from
    the ramp or from the other runs.

    A bounded loss, such as a cosine similarity, may never diverge: a ramp keeps what it learnt at
    lower rates. Where its curve ends in a plateau, the first run is at half of the rate at which
    the plateau begins.

    A real run is longer. Where the optimizer divides by the size of the gradient (Adam and its
    relatives), its noise does not fade as the gradient does, and the best rate falls with the
    square root of the length. The suggestion is ``10 ** -0.5`` of the best, for a training run ten
    times as long. Where the step shrinks with the gradient (SGD, with or without momentum), the
    limit is stability, which hardly depends on time: ``10 ** -0.1``.

    Args:
        runs: Training runs from the same restored state.
        min_lr: Lowest rate of the ramp.
        max_lr: Highest rate of the ramp.
        steps: Length of the ramp.
        budget: Steps in all, including the ramp; never exceeded.
        normalizes: Whether the size of the optimizer's step is independent of the gradient's.
        epoch: Batches after which the data repeat.
        vanishes: Whether the minimum of the loss is known to be zero.

    Raises:
        NoSuggestion: If nothing was learnt at any rate; the message says what to change.
        ValueError: If the budget leaves fewer than 24 steps after the ramp.
    """
    if budget < steps + MIN_STEPS:
        raise ValueError(
            f"Argument `budget` must leave at least {MIN_STEPS} steps after the ramp. "
            f"Received: budget={budget}, steps={steps}"
        )
    ramps, baseline, center = _run_ramps(runs, min_lr, max_lr, steps, budget)
    spent = sum(len(losses) for _, losses in ramps) + len(baseline)
    trials = Trials(runs, budget - spent, epoch, vanishes)
    if len(baseline) >= trials.length:
        trials.baseline = baseline
    trials.run(center / START)
    while trials.can_afford():
        rate = next_rate(trials) if len(trials.losses) < MAX_RATES else None
        is_last = rate is None or not trials.can_afford(2)
        if is_last and trials.baseline is None and _explain_failure(ramps, trials):
            trials.run_baseline(min(rates[0] for rates, _ in ramps))
        elif rate is None:
            break
        else:
            trials.run(rate)
    failure = _explain_failure(ramps, trials)
    if failure:
        raise NoSuggestion(failure)
    final_losses = trials.final_losses()
    best = trials.best_rate(final_losses)
    rates, losses = ramps[-1]
    suggestion = best * LONG_RUN[normalizes]
    base = _find_base(rates, losses, suggestion)
    confidence = trials.confidence(final_losses, best)
    end = _end_reached(trials, best)
    return SearchResult(
        suggestion,
        (base, best),
        min(confidence, MAX_CONFIDENCE_AT_END) if end else confidence,
        _report(trials, final_losses, best, confidence, end),
        rates,
        losses,
        trials.losses,
        budget - trials.steps_left,
        find_early_best(trials),
    )


def _run_ramps(
    runs: Runs, low: float, high: float, steps: int, budget: int
) -> tuple[list[RecordedRamp], Array, float]:
    """Run ramps until one contains a minimum, moving the range at most once.

    Returns:
        The ramps, the losses of a baseline if there was one, and the rate of the lowest loss.
    """
    ramps, baseline = [_run_ramp(runs, low, high, steps)], np.array([])
    rates, losses = ramps[0]
    curve = _read_curve(rates, losses)
    if curve and curve.plateau is not None:
        return [(rates[: len(losses)], losses)], baseline, curve.plateau
    if curve and curve.verdict in ("rises", "flat") and budget - 2 * len(losses) >= steps:
        # The first batches may be easy ones: subtract the effect of the batches alone.
        baseline = to_losses(runs.hold(low, len(losses)))
        if len(baseline) == len(losses):
            curve = _read_curve(rates, losses - baseline + baseline.mean())
    verdict = _judge(curve)
    if verdict != "good" and budget - len(losses) - len(baseline) >= steps:
        if verdict == "rises":
            low, high = low / LOWER, low * OVERLAP
        else:
            low, high = high / OVERLAP, high * HIGHER
        ramps.append(_run_ramp(runs, low, high, steps // 2))
        curve = _read_curve(*ramps[-1])
    center = curve.rates[curve.lowest] if curve else low
    return [(rates[: len(losses)], losses) for rates, losses in ramps], baseline, float(center)


def _run_ramp(runs: Runs, low: float, high: float, steps: int) -> RecordedRamp:
    """Return all rates of one ramp and its losses, which may be fewer."""
    return np.geomspace(low, high, steps), to_losses(runs.ramp(low, high, steps))


def _read_curve(rates: Array, losses: Array) -> Curve | None:
    """Return the curve of a ramp, which may have ended early; None if it is too short to read."""
    missing = np.full(len(rates) - len(losses), np.nan)
    try:
        return Curve.from_arrays(rates, np.append(losses, missing))
    except NoSuggestion:
        return None


def _judge(curve: Curve | None) -> str:
    """Return the verdict on a curve, for choosing where to try constant rates."""
    if curve is None:
        return "rises"
    # Noise hides the fall, but not where the loss rises: runs on the same batches may show it.
    return "good" if curve.verdict == "flat" and curve.climbs else curve.verdict


def next_rate(trials: Trials) -> float | None:
    """Return the rate to try next; None if nothing is left to try.

    Rates go outwards until the best one is inside. Then the gap on its better side is halved.
    """
    rates = trials.rates
    final_losses = trials.final_losses()
    levels = trials.levels(final_losses)
    i = int(levels.argmin())
    if 0 < i < len(rates) - 1 and are_alike(final_losses[i - 1], final_losses[i]):
        i -= 1  # A fall within the noise is no bound: the best rate may be far below.
    if i == 0:
        return rates[0] / STRIDE
    if i == len(rates) - 1:
        return rates[-1] * STRIDE
    below, above = math.sqrt(rates[i - 1] * rates[i]), math.sqrt(rates[i] * rates[i + 1])
    wide = [rates[i] / rates[i - 1] > FINEST, rates[i + 1] / rates[i] > FINEST]
    if wide[0] and (levels[i - 1] <= levels[i + 1] or not wide[1]):
        return below
    return above if wide[1] else None


def _explain_failure(ramps: list[RecordedRamp], trials: Trials) -> str | None:
    """Return why there is no suggestion; None if the best run learnt something.

    A run has learnt something if it ended below the losses at rates too low to change anything. If
    the batches differ by more than the loss falls, it must have ended below the baseline on the
    same batches.
    """
    final_losses = trials.final_losses()
    index = int(final_losses.mean(1).argmin())
    rate, best = trials.best_rate(final_losses), final_losses[index]
    rates, losses = (np.concatenate(part) for part in zip(*ramps, strict=True))
    low = rates <= max(rate / UNCHANGED, *np.sort(rates)[:3])
    first = losses[low & np.isfinite(losses)]
    if not first.size or not np.isfinite(best).all():
        return (
            f"Diverged at every rate that was tried. Begin lower, with a smaller min_lr, or "
            f"{CHECK_THE_TASK}."
        )
    error = math.hypot(first.std() / math.sqrt(first.size), best.std() / math.sqrt(best.size))
    if np.median(first) - best.mean() > SIGNIFICANT * error:
        return None
    gain = trials.gain(index)
    error = gain.std(ddof=1) / math.sqrt(gain.size)
    if np.isfinite(gain).all() and gain.mean() > GAINED * error:
        return None
    return (
        "Nothing was learnt: at no rate did the loss end below its start by more than its noise. "
        "Widen the range, take a larger batch, or allow more steps."
    )


def _find_base(rates: Array, losses: Array, suggestion: float) -> float:
    """Return the rate at which the ramp began to improve, as the base of a cycle."""
    try:
        return min(bounds(rates, losses)[0], suggestion / NEAREST_BASE)
    except NoSuggestion:
        return suggestion / USUAL_BASE


def find_early_best(trials: Trials) -> float | None:
    """Return the best rate for a run of `ADVISED_RUN` steps; None where the runs are not longer."""
    if trials.length <= ADVISED_RUN:
        return None
    early = trials.cut(ADVISED_RUN)
    return early.best_rate(early.final_losses())


def _end_reached(trials: Trials, best: float) -> str:
    """Return ``"lowest"`` or ``"highest"`` if the best rate tried is at that end, otherwise ""."""
    is_lowest, is_highest = (
        math.isclose(best, rate) for rate in (trials.rates[0], trials.rates[-1])
    )
    if is_lowest == is_highest:
        return ""
    return "lowest" if is_lowest else "highest"


def _report(trials: Trials, final_losses: Array, best: float, confidence: float, end: str) -> str:
    """Return in words what the runs showed, and how to learn more if they showed too little."""
    lowest = float(final_losses.mean(1).min())
    runs = f"In {len(trials.rates)} short runs between {trials.rates[0]:.1e} and "
    runs += f"{trials.rates[-1]:.1e} the loss "
    if 0.0 <= lowest < trials.memorized_below(lowest):
        runs += (
            f"all but vanished from about {best:.1e} on: the model fits these data exactly, and a "
            "still lower loss says nothing more."
        )
    else:
        runs += f"ended lowest at about {best:.1e}."
    lines = [runs]
    if end:
        beyond = {"lowest": "lower", "highest": "higher"}[end]
        lines.append(f"The best rate tried is the {end}: a {beyond} one may do better still.")
    if confidence < TRUSTED:
        lines.append(
            f"{describe_distrust(confidence)}: the losses are noisy for runs this short. A larger "
            "batch or budget would say more."
        )
    return "\n".join(lines)
