"""Rules that read a learning rate from the curve of one ramp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from keras_lr._fields.kinds import Choice
from keras_lr.range_test.curve import WIDTH, Curve, NoSuggestion, smooth

SLIDE_WIDTH = 1.2
"""Decades of the interval that ``slide`` moves."""

SLIDE_CHANGE = 0.03
"""Change of the slope, per decade and as a share of the whole fall, up to which it is constant."""

FALL_BEGINS, FALL_SLOWS = 0.1, 0.9
"""Shares of the whole fall between which the bounds for a cycle lie."""

RAGGED = 3.0
"""Losses are ragged where second differences exceed those at lower rates by this factor."""

MIN_BOUNDS_RATIO = 3.0
"""Factor above the base rate at which raggedness starts to count: below, the fall is uneven."""

TRUSTED = 0.8
"""Confidence below which a report warns of noise."""


def edge(curve: Curve) -> float:
    """Return a quarter of the rate at which the smoothed loss is lowest."""
    curve.check()
    return float(curve.rates[curve.lowest]) / 4.0


def minimum(curve: Curve) -> float:
    """Return a tenth of the rate at which the smoothed loss is lowest."""
    curve.check()
    return float(curve.rates[curve.lowest]) / 10.0


def steepest(curve: Curve) -> float:
    """Return the rate at which the smoothed loss falls fastest per decade of rate."""
    at = int(curve.slope[: curve.lowest + 1].argmin())
    if curve.verdict != "falls" or curve.rates[at] * 10.0**WIDTH >= curve.rates[-1]:
        curve.check()
    return float(curve.rates[at])


def valley(curve: Curve) -> float:
    """Return the rate in the middle of the longest falling subsequence of smoothed losses.

    Each step of the subsequence falls by at least a twentieth of the whole fall, so that a plateau
    does not count.
    """
    curve.check()
    values, step = curve.smoothed, curve.drop / 20.0
    length, before = np.ones(len(values), int), np.full(len(values), -1)
    for i in range(1, len(values)):
        above = np.flatnonzero(values[:i] >= values[i] + step)
        if above.size:
            before[i] = above[length[above].argmax()]
            length[i] = length[before[i]] + 1
    member = int(length.argmax())
    for _ in range(length.max() // 2):
        member = before[member]
    return float(curve.rates[member])


def slide(curve: Curve) -> float:
    """Return the rate below the lowest loss at which the slope stops changing.

    An interval of 1.2 decades, or of a third of the range if that is less, moves left from the
    minimum. It stops when the slope at its right end exceeds the slope at its left end by at most
    3 % of the whole fall per decade. Its left end is the suggestion.
    """
    curve.check()
    logs, slope = np.log10(curve.rates), curve.slope / curve.drop
    width = min(SLIDE_WIDTH, (logs[-1] - logs[0]) / 3)
    for right in range(curve.lowest, -1, -1):
        if logs[right] - width < logs[0] - 1e-9:
            break
        if slope[right] - np.interp(logs[right] - width, logs, slope) <= SLIDE_CHANGE:
            return float(10.0 ** (logs[right] - width))
    raise NoSuggestion(
        "The slope still changes at the lowest rate: the range begins too high for this rule. "
        f"Begin lower: min_lr={curve.rates[0] / 1000:.0e}."
    )


RULES: dict[str, Callable[[Curve], float]] = {
    f.__name__: f for f in (edge, minimum, steepest, valley, slide)
}

SEARCH = "search"
"""The rule that does not only read the curve: after the ramp it tries rates in short runs."""


def suggest(rates: ArrayLike, losses: ArrayLike, rule: str = "edge") -> float:
    """Return the rate that a rule reads from a recorded curve.

    ``edge`` takes a quarter of the rate at which the loss, smoothed over 0.3 of a decade, is
    lowest, and ``minimum`` a tenth of it. ``steepest`` takes the rate of the fastest fall per
    decade of rate. ``valley`` takes the middle of the longest falling subsequence. ``slide`` goes
    down from the minimum until the slope is constant.

    Args:
        rates: Rates of the test, increasing.
        losses: Loss at each rate; NaN and infinity are allowed.
        rule: ``"edge"``, ``"minimum"``, ``"steepest"``, ``"valley"`` or ``"slide"``.

    Raises:
        NoSuggestion: If the curve supports none; the message says what to change.
        ValueError: If there is no such rule, or the arrays are not a curve.

    Source: ``valley`` and ``slide`` follow fastai's rules of these names, but depend neither on the
    number of points nor on the scale of the loss.

    >>> rates = np.geomspace(1e-6, 1e1, 141)
    >>> losses = (np.log10(rates) + 2.0) ** 2
    >>> f"{suggest(rates, losses, 'minimum'):.4f} {suggest(rates, losses):.4f}"
    '0.0010 0.0025'
    """
    return _find_rule(rule)(Curve.from_arrays(rates, losses))


def bounds(rates: ArrayLike, losses: ArrayLike) -> tuple[float, float]:
    """Return the rates between which to cycle.

    At the base rate the loss begins to improve: from there on, the smoothed loss stays below its
    start by a tenth of its whole fall. At the highest rate the improvement slows: nine tenths of
    the fall are reached. The highest rate is lower if the losses become ragged before that: their
    second differences, smoothed, exceed three times those at lower rates.

    Raises:
        NoSuggestion: If the curve supports none.

    Source: Smith 2017, Cyclical learning rates (arXiv:1506.01186), section 3.3.
    """
    curve = Curve.from_arrays(rates, losses)
    curve.check()
    fallen = (curve.start - curve.smoothed) / curve.drop
    # Noise may dip below the tenth early: only the last crossing counts.
    above = np.flatnonzero(fallen[: curve.lowest + 1] < FALL_BEGINS)
    base = int(above[-1]) + 1 if above.size else 0
    top = int(np.argmax(fallen >= FALL_SLOWS))
    rough = smooth(curve.rates[1:-1], np.abs(np.diff(curve.losses, 2)))
    calm = np.maximum.accumulate(rough[: max(base, 3)])[-1]
    ragged = np.flatnonzero(rough > RAGGED * calm) + 1
    ragged = ragged[curve.rates[ragged] >= MIN_BOUNDS_RATIO * curve.rates[base]]
    if ragged.size:
        top = min(top, int(ragged[0]))
    return float(curve.rates[base]), float(curve.rates[max(top, base + 1)])


def confidence(rates: ArrayLike, losses: ArrayLike, rule: str = "edge", draws: int = 50) -> float:
    """Return the confidence in a suggestion, from 0 to 1.

    It is the share of ``draws`` re-readings that suggest a rate within a factor of two. Each
    re-reading is of the smoothed curve with its residuals added under random signs, which come from
    a fixed seed.
    """
    curve, choose = Curve.from_arrays(rates, losses), _find_rule(rule)
    suggestion = choose(curve)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (draws, len(curve.rates)))
    agree = 0
    for sign in signs:
        again = curve.smoothed + sign * (curve.losses - curve.smoothed)
        try:
            other = choose(Curve.from_arrays(curve.rates, again))
        except NoSuggestion:
            continue
        agree += 0.5 <= other / suggestion <= 2.0
    return agree / draws


def report(rates: ArrayLike, losses: ArrayLike, rule: str = "edge") -> str:
    """Return in plain words what a curve shows, or what to change so that it shows more."""
    try:
        curve = Curve.from_arrays(rates, losses)
        suggestion = _find_rule(rule)(curve)
    except NoSuggestion as reason:
        return str(reason)
    lines = [f"Suggestion: {suggestion:.1e} by the rule {rule!r}."]
    try:
        base, top = bounds(rates, losses)
    except NoSuggestion as reason:
        return "\n".join([*lines, f"No bounds for a cycle. {reason}"])
    lines.insert(
        0,
        f"The loss begins to fall at {base:.1e}, has fallen by nine tenths or becomes ragged at "
        f"{top:.1e}, and is lowest at {curve.rates[curve.lowest]:.1e}.",
    )
    if curve.rates[curve.lowest] > 0.5 * curve.rates[-1] and not curve.diverged:
        lines.append("The minimum is near the end of the range: a higher max_lr would confirm it.")
    if base < 2.0 * curve.rates[0]:
        lines.append("The loss falls from the first rate on: a lower min_lr would show its start.")
    trust = confidence(rates, losses, rule)
    if trust < TRUSTED:
        lines.append(
            f"{describe_distrust(trust)}: the curve is noisy for its length. Take more steps, a "
            "larger batch, or repeats."
        )
    return "\n".join(lines)


def describe_distrust(confidence: float) -> str:
    """Return the sentence about a low confidence, to be continued with its cause."""
    return f"Only {confidence:.0%} of re-readings agree within a factor of two"


def _find_rule(name: str) -> Callable[[Curve], float]:
    """Return the rule with a name.

    Raises:
        ValueError: If there is no such rule.
    """
    try:
        return RULES[Choice(tuple(RULES)).convert(name)]
    except ValueError as error:
        raise ValueError(f"Argument `rule` must be {error}. Received: rule={name!r}") from None
