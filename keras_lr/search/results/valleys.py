"""`Valley`: the results of one optimizer over the rates. `Best`: its best rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keras_lr.search.results.rows import GAPS, Criterion, TrialRow, rows_by_rate
from keras_lr.search.trials.description import Group

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Best:
    """The best rate of an optimizer, and the rates that are as good.

    Attributes:
        optimizer: The sweep's name for the optimizer.
        size: Name of the model's size; empty if there is only one.
        learning_rate: The rate.
        band: The lowest and the highest rate around it that are as good within the spread of the
            seeds; with one seed, both are the rate itself.
        value: The mean over the seeds of the monitored value there.
        spread: The standard deviation over the seeds of the compared measure: the median of this
            rate's and its neighbours'; NaN with one seed.
        end: ``"lowest"`` or ``"highest"`` if the rate lies at that end of the range, or ``""``.
        target: Epochs, steps and seconds to the target, means over the seeds; None without one.
        test: Results on the test data there, means over the seeds.
    """

    optimizer: str
    size: str
    learning_rate: float
    band: tuple[float, float]
    value: float
    spread: float
    end: Literal["lowest", "highest", ""]
    target: tuple[float, float, float] | None
    test: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Valley:
    """The results of a group of trials over the rates.

    Attributes:
        group: The size and the optimizer.
        rates: The rates, ascending.
        rows: The rows of each rate, one for each seed.
        best: Its best rate; None if no rate was trained to its end.
    """

    group: Group
    rates: Array
    rows: list[list[TrialRow]]
    best: Best | None

    def curve(self, measure: str) -> tuple[Array, Array, Array]:
        """Return the mean, lowest and highest value of a measure over the seeds at each rate.

        A rate at which a seed has no value is a gap: NaN.
        """
        values = [[row.measure(measure) for row in rows] for rows in self.rows]
        mean, low, high = (
            np.array([how(some) for some in values]) for how in (np.mean, np.min, np.max)
        )
        return mean, low, high

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """Whether each rate was trained to its end with every seed."""
        return np.array([_is_finished(rows) for rows in self.rows], dtype=bool)

    @property
    def place_of_best(self) -> int:
        """The place of the best rate among the rates.

        Raises:
            ValueError: If there is no best rate.
        """
        if self.best is None:
            raise ValueError(f"{self.group} has no best rate")
        return self.rates.tolist().index(self.best.learning_rate)

    def gaps(self) -> list[TrialRow]:
        """Return the trials without a value, which have a reason."""
        return [row for rows in self.rows for row in rows if row.status in GAPS]


def find_valley(rows: Sequence[TrialRow], group: Group, criterion: Criterion) -> Valley:
    """Return the valley of a group."""
    by_rate = rows_by_rate(rows, group)
    rates = np.array(list(by_rate))
    return Valley(group, rates, list(by_rate.values()), _find_best(by_rate, group, criterion))


def _is_finished(rows: Sequence[TrialRow]) -> bool:
    return all(row.status in ("trained", "reached", "stopped") for row in rows)


def _find_best(
    by_rate: dict[float, list[TrialRow]], group: Group, criterion: Criterion
) -> Best | None:
    """Return the best rate among those that were trained to their end with every seed."""
    seeds = max(map(len, by_rate.values()), default=0)
    ranks = {
        rate: criterion.rank(rows)
        for rate, rows in by_rate.items()
        if len(rows) == seeds and _is_finished(rows)
    }
    if not ranks:
        return None
    rate = min(ranks, key=lambda one: ranks[one])
    rows = by_rate[rate]
    reached = [row.target for row in rows if row.target is not None]
    measure = criterion.measure if len(reached) == seeds else criterion.monitor
    samples = {one: [row.measure(measure) for row in by_rate[one]] for one in ranks}
    rates = list(by_rate)
    spread = _typical_deviation(rate, rates, samples)
    end: Literal["lowest", "highest", ""] = ""
    if len(rates) > 1 and rate in (rates[0], rates[-1]):
        end = "lowest" if rate == rates[0] else "highest"
    means = np.mean(np.array(reached, float), 0).tolist() if len(reached) == seeds else None
    return Best(
        group.optimizer,
        group.size,
        rate,
        _band(rate, rates, samples, spread),
        float(np.mean([row.value for row in rows])),
        spread,
        end,
        tuple(means) if means else None,
        _mean_test(rows),
    )


def _typical_deviation(rate: float, rates: list[float], samples: dict[float, list[float]]) -> float:
    """Return the standard deviation over the seeds: the median of a rate's and its neighbours'.

    With few seeds, that of a single rate is unreliable, and next to a cliff it says nothing.
    """
    place = rates.index(rate)
    near = [samples[one] for one in rates[max(0, place - 1) : place + 2] if one in samples]
    usable = [some for some in near if len(some) > 1 and np.isfinite(some).all()]
    return float(np.median([np.std(some, ddof=1) for some in usable])) if usable else math.nan


def _band(
    rate: float, rates: list[float], samples: dict[float, list[float]], spread: float
) -> tuple[float, float]:
    """Return the ends of the range around the best rate whose means differ by at most the spread.

    The seeds are the same at every rate, so the means differ by the effect of the rate and chance.
    """
    center = float(np.mean(samples[rate]))

    def is_alike(one: float) -> bool:
        return one in samples and abs(float(np.mean(samples[one])) - center) <= spread

    low = high = rates.index(rate)
    while low > 0 and is_alike(rates[low - 1]):
        low -= 1
    while high < len(rates) - 1 and is_alike(rates[high + 1]):
        high += 1
    return rates[low], rates[high]


def _mean_test(rows: list[TrialRow]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row.test)
    return {name: float(np.mean([row.test.get(name, math.nan) for row in rows])) for name in names}
