"""`PopulationRule`: who copies whom after a round, and with which hyperparameters.

Each member has its own random generator in each round, made from the seed, the round and the
member's number. So no draw depends on the order in which members are trained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_lr._keras.rates.hyperparameters import BELOW_ONE, range_of
from keras_lr.search.halving import round_rate
from keras_lr.search.population.line import Values

MAX_TRIES = 100
"""Number of draws to find a copy that differs from the other copies of the round. Two copies of one
state with the same values would stay identical."""


class Parameter(NamedTuple):
    """A hyperparameter and the range from which it is drawn, evenly on a log axis.

    >>> Parameter("learning_rate", 0.001, 0.1).moved(0.01, 1.2)
    0.012
    >>> Parameter("momentum", 0.5, 0.99).moved(0.9, 1.2)
    0.88
    """

    name: str
    low: float
    high: float

    def drawn(self, random: np.random.Generator) -> float:
        """Return a value from the range."""
        low, high = sorted((self._scaled(self.low), self._scaled(self.high)))
        return self._value(math.exp(random.uniform(math.log(low), math.log(high))))

    def moved(self, value: float, factor: float) -> float:
        """Return a value multiplied by a factor; it may leave the range."""
        return self._value(self._scaled(value) * factor)

    @property
    def is_below_one(self) -> bool:
        """Whether the distance from 1 is drawn and multiplied."""
        return range_of(self.name) == BELOW_ONE

    def _scaled(self, value: float) -> float:
        return 1.0 - value if self.is_below_one else value

    def _value(self, scaled: float) -> float:
        """Return the value for a scaled number, rounded like the rates of a sweep."""
        return max(0.0, round_rate(1.0 - scaled)) if self.is_below_one else round_rate(scaled)


class Move(NamedTuple):
    """How a member continues in the next round."""

    source: int
    """The member whose state it begins from: itself, or the one that it copies."""
    values: Values
    """Its hyperparameters."""
    changes: tuple[str, ...]
    """What was done to each hyperparameter, in words; empty if the member copies none."""


@dataclasses.dataclass(frozen=True)
class PopulationRule:
    """Truncation selection: the worst members copy the best, with slightly changed values.

    Attributes:
        parameters: The hyperparameters, the learning rate first.
        population: Number of members.
        quantile: Share of the members that are replaced after a round, and of those they copy.
        perturb: Factors, one of which multiplies each copied value.
        resample: Probability with which a value is drawn again instead.
        seed: Seed of all draws.
    """

    parameters: tuple[Parameter, ...]
    population: int
    quantile: float
    perturb: tuple[float, ...]
    resample: float
    seed: int

    def first_values(self, member: int) -> Values:
        """Return the hyperparameters with which a member begins."""
        random = self._random(0, member)
        return tuple(parameter.drawn(random) for parameter in self.parameters)

    def seed_of(self, member: int) -> int:
        """Return the seed of a member's initial weights; no two populations share one."""
        return self.seed * self.population + member

    def moves(self, number: int, costs: Sequence[float], values: Sequence[Values]) -> list[Move]:
        """Return how each member continues.

        Args:
            number: Number of rounds trained so far.
            costs: Scores of the members, less is better; infinite for a lost member.
            values: Their hyperparameters.

        Raises:
            ValueError: If all members are lost.
        """
        order = sorted(range(self.population), key=lambda member: costs[member])
        alive = [member for member in order if math.isfinite(costs[member])]
        if not alive:
            raise ValueError("there is no member to copy")
        count = min(self.population // 2, max(1, round(self.quantile * self.population)))
        best = alive[:count]
        worst = {*order[-count:], *order[len(alive) :]} - {*best}
        found: list[Move] = []
        for member in range(self.population):
            move = Move(member, values[member], ())
            if member in worst:
                random = self._random(number, member)
                for _ in range(MAX_TRIES):
                    move = self._copy(random, best, values)
                    if all(move[:2] != other[:2] for other in found):
                        break
            found.append(move)
        return found

    def _copy(
        self, random: np.random.Generator, best: Sequence[int], values: Sequence[Values]
    ) -> Move:
        source = best[int(random.integers(len(best)))]
        found, changes = [], []
        for parameter, value in zip(self.parameters, values[source], strict=True):
            if random.random() < self.resample:
                found.append(parameter.drawn(random))
                changes.append("drawn anew")
            else:
                factor = self.perturb[int(random.integers(len(self.perturb)))]
                found.append(parameter.moved(value, factor))
                changes.append(f"times {factor:g}")
        return Move(source, tuple(found), tuple(changes))

    def _random(self, number: int, member: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, member])
