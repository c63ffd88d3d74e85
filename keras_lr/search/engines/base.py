"""What a sweep asks of an engine: run stretches of trials somewhere, and give their outcomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

from keras_lr.search.trials.description import Group, Outcome, Stretch
from keras_lr.search.trials.problem import Problem


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What an engine has found by building every model, and training one of them for a step.

    Attributes:
        models: What each group's model is like, in words that change where the model does.
        failures: Why ``build`` raised, for each group where it did.
        logged: Names of all that an epoch logs, validation included; empty where nothing was built.
        up: Whether more of the monitored value is better.
    """

    models: dict[Group, str]
    failures: dict[Group, str]
    logged: tuple[str, ...]
    up: bool


class Engine(Protocol):
    """Where trials are trained: in this process, or on the workers of a cluster.

    The order of the trials, which of them go on, and the record are the sweep's. An engine that
    runs each stretch as its description says, anywhere and in any order, gives the same result.
    """

    def start(self, problem: Problem) -> Rehearsal:
        """Make ready to train trials of a problem.

        Raises:
            ValueError: If ``build`` returns what cannot be swept.
        """

    def run(self, stretches: Sequence[Stretch]) -> Iterator[Outcome]:
        """Train stretches, and give each outcome as soon as it is there, in any order.

        What goes wrong inside a trial is an outcome with the status ``"failed"``, not an exception.
        An outcome has a ``state`` where the stretch says ``keep``. The sweep hands it back in the
        trial's next stretch. A population calls its ``export()`` too, and hands what that has
        returned to the engine of another process.
        """

    def close(self) -> None:
        """Let go of models, data and workers."""
