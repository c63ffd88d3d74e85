"""The rule of `ReduceLROnPlateau`: from a state and the value of a metric to the next state."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, Self

import numpy as np

Action = Literal["none", "reduce", "increase", "stop"]


@dataclasses.dataclass(frozen=True)
class State:
    """What the rule remembers."""

    best: float | None = None
    wait: int = 0
    cooldown_counter: int = 0
    scale: float = 1.0
    """Product of the factors so far, for the schedules that are scaled."""
    rates: tuple[float, ...] = ()
    """Rates of the optimizers that no schedule drives."""
    tops: tuple[float, ...] = ()
    """The highest rates that raising leads to."""
    good: int = 0
    stuck: int = 0
    smooth: float = 0.0
    smoothed: int = 0
    best_epoch: int | None = None
    reduced_epoch: int | None = None
    """The epoch of the last reduction."""

    def but(self, **changes: Any) -> Self:
        """Return the state with some changes, in a tenth of the time of `dataclasses.replace`."""
        state = object.__new__(type(self))
        state.__dict__.update(self.__dict__, **changes)
        return state

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return vars(self) | {"rates": list(self.rates), "tops": list(self.tops)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the state that `to_dict` made plain.

        Raises:
            ValueError: If something is missing.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        values = {name: state[name] for name in names}
        return cls(**values | {"rates": tuple(state["rates"]), "tops": tuple(state["tops"])})


@dataclasses.dataclass(frozen=True)
class Rule:
    """The arguments of a `ReduceLROnPlateau` that decide, with ``patience`` as a number."""

    up: bool | None
    """Whether more is better; None as long as nobody has asked the metric."""
    factor: float
    patience: int
    min_delta: float
    threshold_mode: str
    cooldown: int
    min_lr: float
    on_nan: str
    stop_at_min_lr: bool
    increase: float | None
    increase_when: str
    increase_after: int
    max_lr: float | None

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether a value is better than the best by more than the threshold."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        margin = abs(self.min_delta) * (abs(best) if self.threshold_mode == "relative" else 1.0)
        # In float32, in which Keras compares.
        nearer = np.float32(value - margin if self.up else value + margin)
        return bool(nearer > np.float32(best) if self.up else nearer < np.float32(best))

    def count(
        self, state: State, value: float, count: int, epoch: int
    ) -> tuple[State, Action, bool]:
        """Take a value. This needs no rate, which takes time to read.

        Args:
            state: What is remembered so far.
            value: The metric.
            count: Epochs or steps that it stands for.
            epoch: The present epoch.

        Returns:
            The next state, what to try, and whether the value is the best.
        """
        cooling = max(state.cooldown_counter - count, 0)
        wait = 0 if state.cooldown_counter else state.wait
        wait += 0 if cooling else count
        improved = self.improves(value, state.best)
        state = state.but(
            best=value if improved else state.best,
            best_epoch=epoch if improved else state.best_epoch,
            cooldown_counter=cooling,
            wait=0 if improved else wait,
            good=state.good + count if improved else 0,
            stuck=0 if improved else state.stuck + count,
        )
        counted = state.good if self.increase_when == "good" else state.stuck
        if self.increase is not None and counted >= self.increase_after:
            return state, "increase", improved
        late = state.wait >= self.patience or (self.on_nan == "reduce" and math.isnan(value))
        wish: Action = "reduce" if late and not improved and not cooling else "none"
        return state, wish, improved

    def fulfilled(
        self, state: State, wish: Action, epoch: int, scheduled: float | None
    ) -> tuple[State, Action]:
        """Do what is to be tried, as far as the bounds allow.

        Args:
            state: What `count` returned.
            wish: What it wants tried.
            epoch: The present epoch.
            scheduled: The rate in use where a schedule drives it; None where the state's rates do.

        Returns:
            The next state, and what is to be done.
        """
        if wish == "increase":
            assert self.increase is not None
            raised = self.multiplied(state, self.increase, scheduled)
            raised = raised.but(good=0, stuck=0, wait=0)
            return raised, "increase" if _moved(state, raised) else "none"
        if wish == "reduce":
            reduced = self.multiplied(state, self.factor, scheduled)
            if not _moved(state, reduced):
                return state, "stop" if self.stop_at_min_lr else "none"
            return reduced.but(
                cooldown_counter=self.cooldown, wait=0, reduced_epoch=epoch
            ), "reduce"
        return state, "none"

    def multiplied(self, state: State, factor: float, scheduled: float | None) -> State:
        """Return the state after a change of the rate by ``factor``, as far as the bounds allow."""
        if scheduled is None:
            pairs = zip(state.rates, state.tops, strict=True)
            return state.but(rates=tuple(self.bounded(rate, factor, top) for rate, top in pairs))
        top = math.inf if self.max_lr is None else self.max_lr
        if self.bounded(scheduled, factor, top) == scheduled:
            return state
        limit = 1.0 if self.max_lr is None and factor > 1.0 else math.inf
        return state.but(scale=min(state.scale * factor, limit))

    def bounded(self, rate: float, factor: float, top: float) -> float:
        """Return a rate times ``factor``, no lower than ``min_lr`` and no higher than ``top``."""
        if factor < 1.0:
            return max(rate * factor, self.min_lr) if rate > np.float32(self.min_lr) else rate
        return min(rate * factor, top) if rate < np.float32(top) else rate

    def scaled(self, values: np.ndarray, scale: float) -> np.ndarray:
        """Return a schedule's values under the cuts so far, which respect both bounds."""
        highest = values if self.max_lr is None else np.maximum(values, self.max_lr)
        return np.clip(values * scale, np.minimum(values, self.min_lr), highest)


def _moved(before: State, after: State) -> bool:
    return (before.rates, before.scale) != (after.rates, after.scale)
