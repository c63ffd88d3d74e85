"""Trials as plain data: what is to be trained, and what came of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple, Self

Status = Literal["trained", "reached", "stopped", "diverged", "failed"]
"""How a stretch ended: trained to its last epoch, reached the target, stopped by a callback of the
user's, a loss that is not finite, or an exception."""


class Group(NamedTuple):
    """Trials that share one compiled model, and are compared with one another."""

    size: str
    """Which of the functions builds the model; empty where there is one."""
    optimizer: str
    """What the sweep calls the optimizer."""

    def __str__(self) -> str:
        return f"{self.optimizer}, {self.size}" if self.size else self.optimizer


@dataclasses.dataclass(frozen=True, order=True)
class Trial:
    """One training: everything that tells it from the other trainings of the same sweep."""

    size: str
    optimizer: str
    learning_rate: float
    seed: int

    @property
    def group(self) -> Group:
        """The trials that this one is compared with."""
        return Group(self.size, self.optimizer)

    @property
    def position(self) -> Any:
        """What the schedule of a search is called with, to drive this trial."""
        return self.learning_rate

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Return a trial from its attributes as JSON keeps them."""
        return cls(**plain)


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The epochs of a trial that are trained in one go.

    A trial that is halved in rungs is trained in several stretches, each from where the one before
    has ended. The description alone decides the outcome: whoever runs a stretch without a state
    runs those before it first, and gets the same numbers.
    """

    trial: Trial
    stops: tuple[int, ...]
    """Epochs after which the stretches of the trial end, up to and including this one."""
    state: Any = dataclasses.field(default=None, compare=False)
    """What the engine gave with the outcome of the stretch before; None where it is not at hand."""
    keep: bool = dataclasses.field(default=False, compare=False)
    """Whether the state at the end will be wanted."""

    @property
    def start(self) -> int:
        """Epochs that the trial has been trained for before."""
        return self.stops[-2] if len(self.stops) > 1 else 0

    @property
    def stop(self) -> int:
        """Epochs that the trial has been trained for afterwards."""
        return self.stops[-1]

    def before(self) -> Self:
        """Return the stretch that ends where this one begins."""
        return dataclasses.replace(self, stops=self.stops[:-1], state=None, keep=True)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a stretch.

    Attributes:
        trial: The trial.
        stops: See `Stretch`.
        status: How the stretch ended.
        reason: Why it ended early, in words; empty where it did not.
        epochs: Whole epochs trained in it.
        steps: Batches trained in it.
        seconds: Seconds of training, validation left out.
        logs: What was logged at the end of each of its epochs, by name.
        marks: Steps and seconds since the start of the stretch, at the end of each of its epochs.
        test: What the test data give at the end, by name; empty where they were not asked for.
        route: How the epochs were trained: by ``"fit"``, or by a faster way that gives the same.
        route_reason: Why by ``fit``, in words; empty where it was a faster way.
        state: The state at the end, for the next stretch; whatever the engine can use.
    """

    trial: Trial
    stops: tuple[int, ...]
    status: Status
    reason: str = ""
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    logs: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    marks: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    test: dict[str, float] = dataclasses.field(default_factory=dict)
    route: str = "fit"
    route_reason: str = ""
    state: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple[Trial, tuple[int, ...]]:
        """What tells the outcome from those of other stretches."""
        return self.trial, self.stops
