"""`RateNotes`: the rates that the last steps used, which the steps write to variables themselves.

Relies on public names only. The variables are the same on every backend, so that a rate is noted
wherever the step runs, whatever the number of steps per execution.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.gradients.tensors import assign_element
from keras_lr._keras.host_values import to_numpy


class RateNotes:
    """Table of the rates of the last batches, and the number of batches noted so far."""

    def __init__(self, rows: int) -> None:
        """Keep the rates of ``rows`` batches; `pop` must be called before more have run."""
        options: dict[str, Any] = {"trainable": False, "aggregation": "only_first_replica"}
        self.rates = keras.Variable(np.zeros(rows), dtype="float32", **options)
        self.count = keras.Variable(np.zeros((), np.int32), dtype="int32", **options)
        self._popped = 0

    @property
    def variables(self) -> list[Any]:
        """The variables that a step changes."""
        return [self.rates, self.count]

    def with_rate(self, rates: Any, count: Any, rate: Any) -> tuple[Any, Any]:
        """Return the values of the variables after one more batch.

        Args:
            rates: The value of `rates`.
            count: The value of `count`.
            rate: The rate of the batch.
        """
        rows = self.rates.shape[0]
        here = keras.ops.equal(keras.ops.arange(rows, dtype="int32"), count % rows)
        return keras.ops.where(here, keras.ops.cast(rate, "float32"), rates), count + 1

    def note(self, rate: Any) -> None:
        """Note the rate of one more batch, in a step that sets variables."""
        count = keras.ops.convert_to_tensor(self.count)
        assign_element(self.rates, count % self.rates.shape[0], keras.ops.cast(rate, "float32"))
        self.count.assign_add(1)

    def start_fit(self) -> None:
        """Begin with no batch."""
        self.count.assign(np.zeros((), np.int32))
        self._popped = 0

    def noted(self) -> int:
        """Return the number of batches noted in this fit."""
        return int(to_numpy(self.count))

    def start_epoch(self) -> None:
        """Drop the rates that were noted but not popped."""
        self._popped = self.noted()

    def check_unpopped(self, count: int) -> int:
        """Return how many of the next ``count`` batches have run, by the rates that they noted.

        Raises:
            RuntimeError: If the steps noted more than one rate for each batch.
        """
        noted = self.noted() - self._popped
        if noted > count:
            raise applied_too_often(noted, count)
        return noted

    def pop(self, count: int) -> NDArray[np.float32]:
        """Return the rates of the next ``count`` batches.

        If the data ended early, the last of them have not run: they get the last rate.

        Raises:
            RuntimeError: If the steps did not note one rate for each batch.
        """
        noted = self.check_unpopped(count)
        if count and not noted:
            raise applied_too_often(noted, count)
        batches = self._popped + np.minimum(np.arange(count), noted - 1)
        self._popped += noted
        return to_numpy(self.rates)[batches % self.rates.shape[0]].astype(np.float32)


def applied_too_often(times: int, batches: int) -> RuntimeError:
    """Return the error for a step that does not apply gradients exactly once for each batch."""
    return RuntimeError(
        f"The training step has applied gradients {times} times in {batches} "
        f"{'batch' if batches == 1 else 'batches'}, so the rate of each batch is unknown. "
        "Let train_step of the model call optimizer.apply or optimizer.stateless_apply once "
        "for each batch."
    )
