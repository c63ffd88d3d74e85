"""What a ``fit`` by whole epochs asks of a backend, and which models can be trained so.

Relies on (Keras 3.0 to 3.15; `NeedsFit` says where it is not so):

- ``model._symbolic_build(data_batch=...)`` builds the compiled loss and metrics, as a ``fit`` does
  before it trains.
- A model trains as ``keras.Model`` says, if its class has replaced none of `OF_KERAS`.
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
"""Gets the number of a batch and the logs after it; returns whether the epoch goes on."""


class EpochTrainer:
    """Trainer of a model that runs a whole epoch in one go; the base of those of the backends.

    Between `begin` and `end` the state of the model may be somewhere else than in its variables.
    """

    route: ClassVar[str] = "whole epochs"
    """How the epochs are trained, for people."""

    def __init__(
        self,
        model: Any,
        data: EpochData,
        validation: EpochData | None,
        moved: Sequence[Hyperparameter],
    ) -> None:
        """Build what a first ``fit`` builds.

        Args:
            model: A compiled model.
            data: What to train on.
            validation: What to validate on, if anything.
            moved: The hyperparameters of which each batch has a value.
        """
        self.model = model
        self.data = data
        self.validation = validation
        self.moved = list(moved)
        self.numbers = [one for one in moved if one.variable is None]
        """Those that no variable holds: they enter a step while it is traced."""
        build_compiled_parts(model, data)

    def begin(self) -> None:
        """Take the state of the model."""

    def train(self, order: Any, values: NDArray | None, on_batch: OnBatch) -> dict[str, Any]:
        """Train an epoch, and return what it logs.

        Args:
            order: The rows, in the order in which to read them.
            values: A row for each batch with a value for each of ``moved``; None where that is
                empty.
            on_batch: Is told of every batch, in their order, perhaps when all are trained.
        """
        raise NotImplementedError

    def evaluate(self) -> dict[str, Any]:
        """Return what the validation data give."""
        raise NotImplementedError

    def end(self) -> None:
        """Put the state into the model."""

    def rehearsal_order(self) -> NDArray:
        """Return the rows of a short epoch that compiles all that a long one runs."""
        return self.data.first_rows

    def no_values(self) -> NDArray | None:
        """Return values for an epoch that is trained to compile what it runs."""
        shape = self.data.batches, len(self.moved)
        return np.zeros(shape, np.float32) if self.moved else None

    def functions(self) -> list[Any]:
        """Return what was compiled."""
        raise NotImplementedError


def tell_batches(losses: NDArray, logs: dict[str, Any], on_batch: OnBatch) -> None:
    """Tell of the batches of an epoch that is trained, up to the one that ends it.

    Args:
        losses: The loss that each batch logged, if they log one.
        logs: What the last batch logged.
        on_batch: Is told.
    """
    for number, loss in enumerate(losses.tolist()):
        if not on_batch(number, {"loss": loss} if "loss" in logs else {}):
            break


def check_model(model: Any) -> None:
    """Refuse a model that cannot be trained by whole epochs.

    Raises:
        NeedsFit: If it cannot.
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
    """Return whether a model has a method as ``keras.Model`` defines it."""
    given = getattr(keras.Model, name, None)
    return name not in vars(model) and getattr(type(model), name, None) is given is not None


def build_compiled_parts(model: Any, data: EpochData) -> None:
    """Build what a first ``fit`` builds from the arguments of ``compile``."""
    model._symbolic_build(data_batch=data.take(slice(0, data.batch_size)))


def epoch_logs(model: Any, logs: dict[str, Any]) -> dict[str, Any]:
    """Return what ``fit`` logs of an epoch: the results of the metrics, or else ``logs``.

    Args:
        model: The model, whose metrics' variables hold their values.
        logs: What the last step has returned.
    """
    return dict(model._get_metrics_result_or_logs(logs))
