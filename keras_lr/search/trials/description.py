"""Trials as plain data: what is to be trained, and its outcome."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple, Self

Status = Literal["trained", "reached", "stopped", "diverged", "failed"]
"""How a stretch ended: at its last epoch, at the target, stopped by a user's callback, with a loss
that is not finite, or with an exception."""


class Group(NamedTuple):
    """Trials that share one compiled model, and are compared with one another."""

    size: str
    """Name of the function that builds the model; empty if there is only one."""
    optimizer: str
    """The sweep's name for the optimizer."""

    def __str__(self) -> str:
        return f"{self.optimizer}, {self.size}" if self.size else self.optimizer


@dataclasses.dataclass(frozen=True, order=True)
class Trial:
    """One training run: everything that distinguishes it from the others of the same sweep."""

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
        """The argument with which the schedule of a search is called for this trial."""
        return self.learning_rate

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Return a trial from its attributes as stored in JSON."""
        return cls(**plain)


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The epochs of a trial that are trained without interruption.

    With halving, a trial is trained in several stretches, each of which starts where the previous
    one ended. The description alone determines the outcome: a stretch without a state is run after
    those before it, with the same numbers.
    """

    trial: Trial
    stops: tuple[int, ...]
    """Epochs after which the stretches of the trial end, up to and including this one."""
    state: Any = dataclasses.field(default=None, compare=False)
    """The state in the outcome of the stretch before; None if it is not available."""
    keep: bool = dataclasses.field(default=False, compare=False)
    """Whether the state at the end will be wanted."""

    @property
    def start(self) -> int:
        """Number of epochs trained before this stretch."""
        return self.stops[-2] if len(self.stops) > 1 else 0

    @property
    def stop(self) -> int:
        """Number of epochs trained after this stretch."""
        return self.stops[-1]

    def before(self) -> Self:
        """Return the stretch that ends where this one begins."""
        return dataclasses.replace(self, stops=self.stops[:-1], state=None, keep=True)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a stretch.

    Attributes:
        trial: The trial.
        stops: See `Stretch`.
        status: How the stretch ended.
        reason: Why it ended early, in words; empty if it did not.
        epochs: Whole epochs trained in it.
        steps: Batches trained in it.
        seconds: Seconds of training, without validation.
        logs: The values logged at the end of each of its epochs, by name.
        marks: Steps and seconds since the start of the stretch, at the end of each of its epochs.
        test: Results on the test data at the end, by name; empty if there were none.
        route: How the epochs were trained: by ``"fit"``, or by a faster way with the same result.
        route_reason: Why by ``fit``, in words; empty if it was a faster way.
        state: The state at the end, for the next stretch, in whatever form the engine uses.
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
        """Key that identifies the outcome among those of other stretches."""
        return self.trial, self.stops
