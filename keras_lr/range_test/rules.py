"""Reading the curve of a learning-rate range test: what one pair of arrays can say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from keras_lr._fields.kinds import Choice
from keras_lr.range_test.curve import WIDTH, Curve, NoSuggestion, smooth


def edge(curve: Curve) -> float:
    """Return a quarter of the rate at which the smoothed loss is lowest."""
    curve.check()
    return float(curve.rates[curve.lowest]) / 4.0


def minimum(curve: Curve) -> float:
    """Return a tenth of the rate at which the smoothed loss is lowest."""
    curve.check()
    return float(curve.rates[curve.lowest]) / 10.0


def steepest(curve: Curve) -> float:
    """Return the rate at which the smoothed loss falls fastest for each decade of rate."""
    at = int(curve.slope[: curve.lowest + 1].argmin())
    if curve.verdict != "falls" or curve.rates[at] * 10.0**WIDTH >= curve.rates[-1]:
        curve.check()
    return float(curve.rates[at])


def valley(curve: Curve) -> float:
    """Return the middle member of the longest falling subsequence of smoothed losses.

    Each of its steps is at least a twentieth of the whole fall, so that no plateau counts.
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
    """Slide down from the lowest loss to where the slope no longer changes.

    An interval of 1.2 decades, or a third of the range if that is less, moves left from the minimum
    for as long as the slope at its right end exceeds that at its left by more than 3 % of the whole
    fall for each decade; its left end is the suggestion.
    """
    curve.check()
    logs, slope = np.log10(curve.rates), curve.slope / curve.drop
    width = min(1.2, (logs[-1] - logs[0]) / 3)
    for right in range(curve.lowest, -1, -1):
        if logs[right] - width < logs[0] - 1e-9:
            break
        if slope[right] - np.interp(logs[right] - width, logs, slope) <= 0.03:
            return float(10.0 ** (logs[right] - width))
    raise NoSuggestion(
        "The slope changes down to the lowest rate: the range begins too high for this rule. "
        f"Begin lower: min_lr={curve.rates[0] / 1000:.0e}."
    )


RULES: dict[str, Callable[[Curve], float]] = {
    f.__name__: f for f in (edge, minimum, steepest, valley, slide)
}


def suggest(rates: ArrayLike, losses: ArrayLike, rule: str = "edge") -> float:
    """Suggest one rate from a recorded curve.

    ``edge`` takes a quarter of the rate where the loss, smoothed over 0.3 of a decade, is lowest,
    and ``minimum`` a tenth; ``steepest`` the fastest fall for each decade of rate; ``valley`` the
    middle of the longest falling subsequence; ``slide`` goes down from the minimum to where the
    slope settles.

    Args:
        rates: Rates of the test, increasing.
        losses: The loss at each; NaN and infinity are understood.
        rule: ``"edge"``, ``"minimum"``, ``"steepest"``, ``"valley"`` or ``"slide"``.

    Raises:
        NoSuggestion: If the curve supports none; the message says what to change.
        ValueError: If there is no such rule, or the arrays are no curve.

    Source: ``valley`` and ``slide`` after fastai's rules of these names, without their dependence
    on the number of points and on the scale of the loss.

    >>> rates = np.geomspace(1e-6, 1e1, 141)
    >>> losses = (np.log10(rates) + 2.0) ** 2
    >>> f"{suggest(rates, losses, 'minimum'):.4f} {suggest(rates, losses):.4f}"
    '0.0010 0.0025'
    """
    return _rule(rule)(Curve.read(rates, losses))


def bounds(rates: ArrayLike, losses: ArrayLike) -> tuple[float, float]:
    """Return the rates between which to cycle.

    The base rate is from where on the smoothed loss stays a tenth of its whole fall below its
    start: it begins to improve. The highest is where nine tenths are reached and it slows, or where
    the losses become ragged (their second differences, smoothed, exceed three times those at lower
    rates) if that is earlier.

    Raises:
        NoSuggestion: If the curve supports none.

    Source: Smith 2017, Cyclical learning rates (arXiv:1506.01186), section 3.3.
    """
    curve = Curve.read(rates, losses)
    curve.check()
    fallen = (curve.start - curve.smoothed) / curve.drop
    # Noise may pass the tenth early, but what lies between two points above it is no fall yet.
    above = np.flatnonzero(fallen[: curve.lowest + 1] < 0.1)
    base = int(above[-1]) + 1 if above.size else 0
    top = int(np.argmax(fallen >= 0.9))
    rough = smooth(curve.rates[1:-1], np.abs(np.diff(curve.losses, 2)))
    calm = np.maximum.accumulate(rough[: max(base, 3)])[-1]
    ragged = np.flatnonzero(rough > 3.0 * calm) + 1
    ragged = ragged[curve.rates[ragged] >= 3.0 * curve.rates[base]]
    if ragged.size:
        top = min(top, int(ragged[0]))
    return float(curve.rates[base]), float(curve.rates[max(top, base + 1)])


def confidence(rates: ArrayLike, losses: ArrayLike, rule: str = "edge", draws: int = 50) -> float:
    """Return how far a suggestion can be trusted, from 0 to 1.

    It is the share of ``draws`` re-readings that suggest a rate within a factor of two. Each reads
    the smoothed curve with its own residuals put back under random signs, always the same ones.
    """
    curve, choose = Curve.read(rates, losses), _rule(rule)
    suggestion = choose(curve)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (draws, len(curve.rates)))
    agree = 0
    for sign in signs:
        again = curve.smoothed + sign * (curve.losses - curve.smoothed)
        try:
            other = choose(Curve.read(curve.rates, again))
        except NoSuggestion:
            continue
        agree += 0.5 <= other / suggestion <= 2.0
    return agree / draws


def report(rates: ArrayLike, losses: ArrayLike, rule: str = "edge") -> str:
    """Say in plain words what a curve shows, and what to change where it shows too little."""
    try:
        curve = Curve.read(rates, losses)
        suggestion = _rule(rule)(curve)
        base, top = bounds(rates, losses)
    except NoSuggestion as reason:
        return str(reason)
    lines = [
        f"The loss begins to fall at {base:.1e}, has fallen by nine tenths or becomes ragged at "
        f"{top:.1e}, and is lowest at {curve.rates[curve.lowest]:.1e}.",
        f"Suggestion: {suggestion:.1e} by the rule {rule!r}.",
    ]
    if curve.rates[curve.lowest] > 0.5 * curve.rates[-1] and not curve.diverged:
        lines.append("The minimum is near the end of the range: a higher max_lr would confirm it.")
    if base < 2.0 * curve.rates[0]:
        lines.append("The loss falls from the first rate on: a lower min_lr would show its start.")
    sure = confidence(rates, losses, rule)
    if sure < 0.8:
        lines.append(
            f"Only {sure:.0%} of re-readings agree within a factor of two: the curve is noisy for "
            "its length. Take more steps, a larger batch, or repeats."
        )
    return "\n".join(lines)


def _rule(name: str) -> Callable[[Curve], float]:
    try:
        return RULES[Choice(tuple(RULES)).convert(name)]
    except ValueError as error:
        raise ValueError(f"Argument `rule` must be {error}. Received: rule={name!r}") from None
