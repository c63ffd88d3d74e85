"""`Engine`: trains stretches of trials somewhere, and yields their outcomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

from keras_lr.search.trials.description import Group, Outcome, Stretch
from keras_lr.search.trials.problem import Problem


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What an engine learns by building every model, and training one of them for a step.

    Attributes:
        models: A description of each group's model, which changes when the model changes.
        failures: Why ``build`` raised, for each group in which it did.
        logged: Names of all that an epoch logs, including validation; empty if no model was built.
        up: Whether more of the monitored value is better.
    """

    models: dict[Group, str]
    failures: dict[Group, str]
    logged: tuple[str, ...]
    up: bool


class Engine(Protocol):
    """Trains trials in this process, or on the workers of a cluster.

    The sweep decides the order of the trials and which of them continue, and keeps the record. An
    engine may run the stretches anywhere and in any order: the result is the same.
    """

    def start(self, problem: Problem) -> Rehearsal:
        """Prepare to train trials of a problem.

        Raises:
            ValueError: If ``build`` returns a model that cannot be swept.
        """

    def run(self, stretches: Sequence[Stretch]) -> Iterator[Outcome]:
        """Train stretches, and yield each outcome as soon as it is known, in any order.

        An exception inside a trial becomes an outcome with the status ``"failed"``. If ``keep`` of
        the stretch is set, its outcome has a ``state``, which the sweep passes back in the trial's
        next stretch. A population also calls ``export()`` of a state, and passes the result to the
        engine of another process.
        """

    def close(self) -> None:
        """Release models, data and workers."""
