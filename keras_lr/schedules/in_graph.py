"""`InGraph`: a schedule compiled into the training step as a Keras ``LearningRateSchedule``."""

from __future__ import annotations

from typing import Any, Self

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr._fields.kinds import Number, check
from keras_lr._fields.serialization import decode, encode
from keras_lr._fields.timeline import Timeline
from keras_lr.schedules.formulas import describe_bound, find_no_rate


@keras.saving.register_keras_serializable(package="keras_lr")
class InGraph(keras.optimizers.schedules.LearningRateSchedule):
    """The curve of a schedule, as a table that the compiled step looks up.

    ``rate(t) = values[min(t, epochs * steps_per_epoch)]``

    The table holds the float64 formula rounded once to float32. A formula evaluated in float32
    inside the step would lose digits where a decay approaches zero. A table also works for
    schedules made of Python functions. It takes 4 bytes per step; a saved model holds the
    schedule's config, not the table.

    Args:
        schedule: The `Schedule`.
        epochs: Epochs of the fit.
        steps_per_epoch: Batches in an epoch.

    >>> from keras_lr import CosineDecay
    >>> rate = CosineDecay(0.1).in_graph(epochs=1, steps_per_epoch=10)
    >>> [round(float(rate(t)), 4) for t in (0, 5, 10, 99)]
    [0.1, 0.05, 0.0, 0.0]
    """

    def __init__(self, schedule: Any, epochs: float, steps_per_epoch: float) -> None:
        """Evaluate the schedule once."""
        super().__init__()
        self.schedule = schedule
        self.epochs = check("in_graph", "epochs", Number(above=0.0), epochs)
        self.steps_per_epoch = check(
            "in_graph", "steps_per_epoch", Number(above=0.0), steps_per_epoch
        )
        self.table = self._table()

    def _table(self) -> NDArray[np.float32]:
        timeline = Timeline(self.steps_per_epoch, self.epochs)
        steps = np.arange(int(np.ceil(timeline.total or 0.0)) + 1)
        rates = self.schedule(steps, timeline)
        where = find_no_rate(rates)
        if where is not None:
            raise ValueError(
                f"{self.schedule!r} gives the rate {rates[where]} at step {where}."
                f"{describe_bound(rates[where])}"
            )
        return rates.astype(np.float32)

    def __call__(self, step: Any, rate: Any = None) -> Any:
        """Return the rate at ``step``, a number or a tensor, as a float32 tensor.

        Raises:
            ValueError: If there is also a rate, which a ``keras.callbacks.LearningRateScheduler``
                passes.
        """
        if rate is not None:
            raise ValueError(
                "A keras.callbacks.LearningRateScheduler passes the number of the epoch, but this "
                "schedule needs the training step. Give it to the optimizer, or pass the schedule "
                f"that it was made from to fit(callbacks=[...]). Received: {self!r}"
            )
        last = len(self.table) - 1
        if isinstance(step, int | float | np.ndarray | np.generic):
            step = np.clip(step, 0, last)
        # Clip before the cast, which would make a step beyond 2**31 negative.
        step = keras.ops.cast(keras.ops.clip(step, 0, last), "int32")
        return keras.ops.take(keras.ops.convert_to_tensor(self.table), step, axis=0)

    def rates(self, steps: ArrayLike) -> NDArray[np.float32]:
        """Return the rates at ``steps`` as numpy, without the backend."""
        return self.table[np.clip(steps, 0, len(self.table) - 1)]

    def __repr__(self) -> str:
        size = f"epochs={self.epochs:g}, steps_per_epoch={self.steps_per_epoch:g}"
        return f"{self.schedule!r}.in_graph({size})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InGraph):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, float, float]:
        return self.schedule, self.epochs, self.steps_per_epoch

    def get_config(self) -> dict[str, Any]:
        """Return the schedule's config and the fit's size."""
        return {
            "schedule": encode(self.schedule),
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the schedule from what `get_config` returned."""
        return cls(decode(config["schedule"]), config["epochs"], config["steps_per_epoch"])
