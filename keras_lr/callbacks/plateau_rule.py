"""`Rule`: the rule of `ReduceLROnPlateau`, from a state and a metric's value to the next state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np

Action = Literal["none", "reduce", "increase", "stop"]


@dataclasses.dataclass(frozen=True)
class State:
    """The state of the rule between two epochs or steps."""

    best: float | None = None
    wait: int = 0
    cooldown_counter: int = 0
    scale: float | tuple[float, ...] = 1.0
    """Product of the changes so far, for the schedules that are scaled: one number for all rates,
    or a number for each if they differ."""
    rates: tuple[float, ...] = ()
    """Rate of each optimizer; ignored if a schedule drives the rate."""
    tops: tuple[float, ...] = ()
    """The highest rate that raising leads to, for each optimizer."""
    good: int = 0
    stuck: int = 0
    smooth: float = 0.0
    smoothed: int = 0
    best_epoch: int | None = None
    reduced_epoch: int | None = None
    """The epoch of the last reduction."""

    def replace(self, **changes: Any) -> Self:
        """Return the state with some changes, ten times as fast as `dataclasses.replace`."""
        state = object.__new__(type(self))
        state.__dict__.update(self.__dict__, **changes)
        return state

    def scale_of(self, index: int) -> float:
        """Return the product of the changes so far of one rate."""
        return self.scale[index] if isinstance(self.scale, tuple) else self.scale

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data."""
        values = vars(self).items()
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the state that `to_dict` made plain.

        Raises:
            ValueError: If a field is missing.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        values: dict[str, Any] = {
            name: tuple(state[name]) if isinstance(state[name], list) else state[name]
            for name in names
        }
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Arguments of a `ReduceLROnPlateau` that determine the rate, with a numeric patience."""

    up: bool | None
    """Whether more is better; None until it is known."""
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
        # In float32, as Keras compares.
        nearer = np.float32(value - margin if self.up else value + margin)
        return bool(nearer > np.float32(best) if self.up else nearer < np.float32(best))

    def count_value(
        self, state: State, value: float, count: int, epoch: int
    ) -> tuple[State, Action, bool]:
        """Count a value of the metric, without the rates, which take time to read.

        Args:
            state: The state so far.
            value: The metric.
            count: Epochs or steps that the value stands for.
            epoch: The present epoch.

        Returns:
            The next state, the change to try, and whether the value is the best.
        """
        cooling = max(state.cooldown_counter - count, 0)
        wait = 0 if state.cooldown_counter else state.wait
        wait += 0 if cooling else count
        improved = self.improves(value, state.best)
        state = state.replace(
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

    def change_rates(
        self, state: State, wish: Action, epoch: int, scheduled: Sequence[float | None]
    ) -> tuple[State, Action]:
        """Make a change of all rates, each as far as the bounds allow.

        Args:
            state: The state that `count_value` returned.
            wish: The change that it asked for.
            epoch: The present epoch.
            scheduled: For each rate the one in use if a schedule drives it, else None.

        Returns:
            The next state, and the change that is left to make.
        """
        if wish == "increase":
            assert self.increase is not None
            raised = self.multiply_rates(state, self.increase, scheduled)
            raised = raised.replace(good=0, stuck=0, wait=0)
            return raised, "increase" if _differ(state, raised) else "none"
        if wish == "reduce":
            reduced = self.multiply_rates(state, self.factor, scheduled)
            if not _differ(state, reduced):
                return state, "stop" if self.stop_at_min_lr else "none"
            return reduced.replace(
                cooldown_counter=self.cooldown, wait=0, reduced_epoch=epoch
            ), "reduce"
        return state, "none"

    def multiply_rates(
        self, state: State, factor: float, scheduled: Sequence[float | None]
    ) -> State:
        """Return the state with each rate multiplied by ``factor``, as far as the bounds allow."""
        rates, scales = list(state.rates), [state.scale_of(i) for i in range(len(scheduled))]
        for i, used in enumerate(scheduled):
            if used is None:
                rates[i] = self.multiply_rate(rates[i], factor, state.tops[i])
            else:
                scales[i] = self.multiply_scale(scales[i], factor, used)
        alike = len(set(scales)) == 1
        return state.replace(rates=tuple(rates), scale=scales[0] if alike else tuple(scales))

    def multiply_scale(self, scale: float, factor: float, used: float) -> float:
        """Return the scale of a schedule times ``factor``, if the rate in use may change."""
        top = math.inf if self.max_lr is None else self.max_lr
        if self.multiply_rate(used, factor, top) == used:
            return scale
        limit = 1.0 if self.max_lr is None and factor > 1.0 else math.inf
        return min(scale * factor, limit)

    def multiply_rate(self, rate: float, factor: float, top: float) -> float:
        """Return a rate times ``factor``, no lower than ``min_lr`` and no higher than ``top``."""
        if factor < 1.0:
            return max(rate * factor, self.min_lr) if rate > np.float32(self.min_lr) else rate
        return min(rate * factor, top) if rate < np.float32(top) else rate

    def scale_values(self, values: np.ndarray, scale: float) -> np.ndarray:
        """Return a schedule's values multiplied by ``scale``, as far as the bounds allow."""
        highest = values if self.max_lr is None else np.maximum(values, self.max_lr)
        return np.clip(values * scale, np.minimum(values, self.min_lr), highest)


def _differ(before: State, after: State) -> bool:
    return (before.rates, before.scale) != (after.rates, after.scale)
