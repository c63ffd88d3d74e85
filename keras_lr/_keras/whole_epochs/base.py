"""`EpochTrainer`: base of the trainers by whole epochs, and the check of a model that can use one.

Relies on (Keras 3.0 to 3.15; `NeedsFit` is raised otherwise):

- ``model._symbolic_build(data_batch=...)`` builds the compiled loss and metrics, as a ``fit`` does
  before it trains.
- ``model._get_metrics_result_or_logs(logs)`` returns what ``fit`` logs for an epoch.
- A model trains as ``keras.Model`` does if its class overrides none of `OF_KERAS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.rates.hyperparameters import Hyperparameter
from keras_lr._keras.whole_epochs.data import EpochData, NeedsFit

OF_KERAS = (
    *("fit", "evaluate", "make_train_function", "make_test_function", "reset_metrics"),
    *("get_metrics_result", "_get_metrics_result_or_logs", "_symbolic_build"),
)
"""Methods of a model that decide what an epoch is, besides ``train_step`` and ``test_step``."""

OnBatch = Callable[[int, dict[str, Any]], bool]
"""Gets the number of a batch and the logs after it; returns whether to continue the epoch."""


class EpochTrainer:
    """Trainer of a model that runs a whole epoch at once; base class of the backends' trainers.

    Between `take_state` and `return_state` the state of the model need not be in its variables.
    """

    route: ClassVar[str] = "whole epochs"
    """How the epochs are trained, in words."""

    def __init__(
        self,
        model: Any,
        data: EpochData,
        validation: EpochData | None,
        moved: Sequence[Hyperparameter],
    ) -> None:
        """Build the compiled loss and metrics, as a first ``fit`` does.

        Args:
            model: A compiled model.
            data: What to train on.
            validation: What to validate on, if anything.
            moved: The hyperparameters that have a value for each batch.
        """
        self.model = model
        self.data = data
        self.validation = validation
        self.moved = list(moved)
        self.numbers = [one for one in moved if one.variable is None]
        """The moved hyperparameters that no variable holds: they enter a step as it is traced."""
        build_compiled_parts(model, data)

    def take_state(self) -> None:
        """Take the state out of the model."""

    def train_epoch(self, order: Any, values: NDArray | None, on_batch: OnBatch) -> dict[str, Any]:
        """Train an epoch, and return what it logs.

        Args:
            order: The rows, in the order in which to read them.
            values: A row for each batch, with a value for each of ``moved``; None if nothing moves.
            on_batch: Called for every batch in order, perhaps only after all have been trained.
        """
        raise NotImplementedError

    def evaluate(self) -> dict[str, Any]:
        """Return the logs of an evaluation on the validation data."""
        raise NotImplementedError

    def return_state(self) -> None:
        """Put the state back into the model."""

    def rehearsal_order(self) -> NDArray:
        """Return the rows of a short epoch that compiles everything a long one runs."""
        return self.data.first_rows

    def no_values(self) -> NDArray | None:
        """Return values for an epoch that is trained only to compile."""
        shape = self.data.batches, len(self.moved)
        return np.zeros(shape, np.float32) if self.moved else None

    def functions(self) -> list[Any]:
        """Return the compiled functions."""
        raise NotImplementedError


def report_batches(losses: NDArray, logs: dict[str, Any], on_batch: OnBatch) -> None:
    """Report the batches of a trained epoch, up to the one after which ``on_batch`` stops it.

    Args:
        losses: The loss that each batch logged, if the batches log one.
        logs: What the last batch logged.
        on_batch: Called for each batch.
    """
    for number, loss in enumerate(losses.tolist()):
        if not on_batch(number, {"loss": loss} if "loss" in logs else {}):
            break


def check_model(model: Any) -> None:
    """Refuse a model that cannot be trained by whole epochs.

    Raises:
        NeedsFit: If the model is one of these.
    """
    changed = [name for name in OF_KERAS if not is_as_in_keras(model, name)]
    if changed:
        raise NeedsFit(f"the model's `{changed[0]}` is not Keras's")
    if model.run_eagerly:
        raise NeedsFit("the model is compiled with run_eagerly")
    if model.steps_per_execution != 1:
        raise NeedsFit("the model is compiled with steps_per_execution")
    if keras.distribution.distribution() is not None:
        raise NeedsFit("a distribution is set")
    limits = (getattr(keras.config, name, None) for name in ("max_epochs", "max_steps_per_epoch"))
    if any(limit is not None and limit() for limit in limits):
        raise NeedsFit("keras.config limits the epochs or their steps")


def is_as_in_keras(model: Any, name: str) -> bool:
    """Return whether a model has a method unchanged from ``keras.Model``."""
    given = getattr(keras.Model, name, None)
    return name not in vars(model) and getattr(type(model), name, None) is given is not None


def build_compiled_parts(model: Any, data: EpochData) -> None:
    """Build the loss and metrics given to ``compile``, as a first ``fit`` does."""
    model._symbolic_build(data_batch=data.take(slice(0, data.batch_size)))


def epoch_logs(model: Any, logs: dict[str, Any]) -> dict[str, Any]:
    """Return what ``fit`` logs for an epoch: the results of the metrics, or else ``logs``.

    Args:
        model: The model, whose metrics' variables hold their values.
        logs: What the last step has returned.
    """
    return dict(model._get_metrics_result_or_logs(logs))
