"""`Timeline`: turns lengths into steps.

>>> timeline = Timeline(steps_per_epoch=100, epochs=90)
>>> (
...     timeline.steps(5),
...     timeline.steps("5 epochs"),
...     timeline.steps("250 steps"),
...     timeline.steps("30%"),
... )
(500.0, 500.0, 250.0, 2700.0)
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr._fields.kinds import Number
from keras_lr._fields.lengths import parse_length
from keras_lr._hints import count_of

SNAP = 1e-9
"""Relative distance from a whole number within which steps are rounded to it."""

SHORTEST = 1e-9
"""The smallest number of steps that a length may have; rounding would turn less into nothing."""


class UnresolvedLength(ValueError):
    """Raised if a length cannot be turned into steps because a number that it needs is unknown.

    >>> Timeline(steps_per_epoch=None, epochs=5).steps("2000 steps")
    2000.0
    >>> Timeline(steps_per_epoch=None, epochs=5).steps("2 epochs")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    keras_lr._fields.timeline.UnresolvedLength: The length '2 epochs' cannot be placed: ...
    """


@dataclasses.dataclass(frozen=True)
class Timeline:
    """A part of training: how long an epoch is, and how long the part that a schedule fills.

    Args:
        steps_per_epoch: Batches in an epoch; None where it is not known.
        epochs: Epochs of the whole fit; None where it is not known.
        total: Steps of the enclosing part, of which ``"%"`` is a share. By default the whole fit.
        rest: Steps that earlier stages leave of that part: ``"rest"``. By default all of it.
        start: Step of the fit at which this part's own ``t = 0`` lies.
        clock: ``"step"``, or ``"epoch"`` where a tick is an epoch because steps are not known.

    >>> Timeline(steps_per_epoch=10, epochs=3).rest
    30.0
    """

    steps_per_epoch: float | None = None
    epochs: float | None = None
    total: float | None = None
    rest: float | None = None
    start: float = 0.0
    clock: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        """Check both numbers and fill in the whole fit."""
        for name in ("steps_per_epoch", "epochs"):
            value = getattr(self, name)
            if value is not None:
                try:
                    object.__setattr__(self, name, Number(above=0.0).convert(value))
                except (TypeError, ValueError) as error:
                    raise type(error)(
                        f"`{name}` must be {error}. Received: {name}={value!r}"
                    ) from None
        if self.total is None and self.steps_per_epoch is not None and self.epochs is not None:
            object.__setattr__(self, "total", snap_to_whole(self.steps_per_epoch * self.epochs))
        if self.rest is None:
            object.__setattr__(self, "rest", self.total)

    @classmethod
    def by_epoch(cls, epochs: float | None) -> Timeline:
        """Return a timeline whose tick is an epoch, for a fit of an unknown number of steps."""
        return cls(steps_per_epoch=1, epochs=epochs, clock="epoch")

    def steps(self, length: float | int | str) -> float:
        """Return a length in steps (in ticks of the clock).

        A value within rounding of a whole number is returned as that number, so that ``"29%"`` of
        100 steps is 29 and not 28.999999999999996.

        Raises:
            UnresolvedLength: If a number that the length needs is not known.
            ValueError: If the length comes to nothing, or to more than any float holds.
        """
        amount, unit = parse_length(length)
        if unit == "rest":
            if self.rest is None:
                raise UnresolvedLength(_unknown_part(length))
            return self.rest
        if unit == "steps":
            if self.clock == "epoch":
                raise UnresolvedLength(_unknown_steps(length))
            steps = amount
        elif unit == "epochs":
            if self.steps_per_epoch is None:
                raise UnresolvedLength(_unknown_steps(length))
            steps = snap_to_whole(amount * self.steps_per_epoch)
        else:
            if self.total is None:
                raise UnresolvedLength(_unknown_part(length))
            steps = snap_to_whole(self.total * amount / 100.0)
        if amount and not SHORTEST <= steps < math.inf:
            other = "longer" if steps < SHORTEST else "shorter"
            size = count_of(steps, "step", "g")
            raise ValueError(f"The length {length!r} comes to {size}. Give a {other} one.")
        return steps

    def progress(
        self, step: NDArray[np.float64], length: float | int | str, endpoint: bool = False
    ) -> NDArray[np.float64]:
        """Return how much of a length is done at ``step``, from 0 to 1.

        Args:
            step: Steps since the length began.
            length: The length.
            endpoint: Whether the length is done at its last update, and not one step later.

        An empty length is done right after its start, so that a warmup longer than the fit still
        rises towards the first value of what would follow.
        """
        steps = self.steps(length)
        return share_done(step, self.last_update(steps) if endpoint else steps)

    def last_update(self, steps: float) -> float:
        """Return the step of the last update among the next ``steps``."""
        end = snap_to_whole(self.start + steps)
        return max(math.ceil(end) - 1.0 - self.start, 0.0)

    def epoch(self, step: ArrayLike) -> NDArray[np.float64]:
        """Return the epoch of the fit, counted from 0, in which each step of this part lies."""
        if self.steps_per_epoch is None:
            raise UnresolvedLength(_unknown_steps("1 epoch"))
        return np.floor((np.asarray(step) + self.start) / self.steps_per_epoch)

    def after(self, steps: float) -> Timeline:
        """Return the timeline of the next stage, ``steps`` later in the same part."""
        rest = None if self.rest is None else max(self.rest - steps, 0.0)
        return self._changed(rest=rest, start=self.start + steps)

    def part(self, steps: float, start: float = 0.0) -> Timeline:
        """Return the timeline of a part of ``steps`` that begins ``start`` later.

        An empty part is only evaluated at ``t = 0``; its shares are those of one step.
        """
        steps = steps or 1.0
        return self._changed(total=steps, rest=steps, start=self.start + start)

    def without_length(self) -> Self:
        """Return the timeline of a part whose length is not known."""
        return self._changed(epochs=None, total=None, rest=None)

    def _changed(self, **changes: float | None) -> Self:
        """Return the timeline with some changes, without the checks of `dataclasses.replace`."""
        timeline = object.__new__(type(self))
        timeline.__dict__.update(self.__dict__, **changes)
        return timeline


def share_done(step: NDArray[np.float64], steps: float) -> NDArray[np.float64]:
    """Return the share of a number of steps that is done at ``step``, from 0 to 1.

    >>> share_done(np.array([0.0, 1.0, 5.0]), 4.0), share_done(np.array([0.0, 1.0]), 0.0)
    (array([0.  , 0.25, 1.  ]), array([0., 1.]))
    """
    return np.where(step > 0, 1.0, 0.0) if steps <= 0 else np.clip(step / steps, 0.0, 1.0)


def snap_to_whole(steps: float) -> float:
    """Return the whole number within rounding of ``steps``, or ``steps`` if there is none."""
    if not 0.5 <= steps < math.inf:
        return steps
    whole = float(round(steps))
    return whole if abs(steps - whole) <= SNAP * max(1.0, steps) else steps


def snap_each_to_whole(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the result of `snap_to_whole` for each number of steps."""
    near = np.round(steps)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        within = np.abs(steps - near) <= SNAP * np.maximum(steps, 1.0)
    return np.where(within & (near > 0.0), near, steps)


def _unknown_part(length: Any) -> str:
    return (
        f"The length {length!r} needs the length of the part that it is a share of. "
        "Pass `epochs` and `steps_per_epoch`, or give a length in steps or epochs."
    )


def _unknown_steps(length: Any) -> str:
    return (
        f"The length {length!r} cannot be placed: the number of steps in an epoch is not known. "
        "Pass `steps_per_epoch` to `fit`, or give every length of the schedule in epochs, "
        "or every length in steps."
    )
