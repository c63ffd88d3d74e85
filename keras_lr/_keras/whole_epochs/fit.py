"""A ``fit`` by whole epochs, which does around the steps what Keras's ``fit`` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from numpy.typing import NDArray

from keras_lr._keras.whole_epochs.base import EpochTrainer
from keras_lr._keras.whole_epochs.data import NeedsFit


class LogNames(keras.callbacks.Callback):
    """Callback that notes the names that an epoch logs."""

    names: tuple[str, ...] = ()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.names = tuple(logs or ())


def fit_whole_epochs(
    trainer: EpochTrainer,
    callback: keras.callbacks.Callback,
    orders: Iterator[NDArray],
    epochs: range,
    values: NDArray | None = None,
) -> None:
    """Train a model as ``fit`` does with one callback, an epoch at a time.

    The batch hooks may be called only after the whole epoch has been trained. If the callback
    stops an epoch, that epoch is not validated.

    Args:
        trainer: The trainer of the epochs.
        callback: The callback, whose hooks for epochs, batches and evaluations are called.
        orders: The order of the rows in each epoch.
        epochs: The epochs to train.
        values: A row for every step of a ``fit`` from epoch 0 on, with a value for each
            hyperparameter that the trainer moves; None where it moves none.

    Raises:
        NeedsFit: If a metric has the name of such a hyperparameter.
    """
    model, batches = trainer.model, trainer.data.batches
    callback.set_model(model)
    callback.set_params({"epochs": epochs.stop, "steps": batches, "verbose": 0})
    model.stop_training = False

    def on_batch(batch: int, logs: dict[str, Any]) -> bool:
        callback.on_train_batch_end(batch, logs)
        return not model.stop_training

    trainer.take_state()
    for epoch in epochs:
        callback.on_epoch_begin(epoch)
        used = None if values is None else values[epoch * batches : (epoch + 1) * batches]
        logs = trainer.train_epoch(next(orders), used, on_batch)
        if trainer.validation is not None and not model.stop_training:
            callback.on_test_begin()
            found = trainer.evaluate()
            callback.on_test_end(found)
            logs |= {f"val_{name}": value for name, value in found.items()}
        logs = dict(sorted(logs.items()))  # as Keras's list of callbacks hands them on
        if used is not None:
            for moved, value in zip(trainer.moved, used[-1].tolist(), strict=True):
                if moved.column in logs:
                    raise NeedsFit(f"a metric is called {moved.column!r}")
                logs[moved.column] = value
        callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    trainer.return_state()
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
        model.optimizer.finalize_variable_values(model.trainable_weights)


def rehearse(trainer: EpochTrainer) -> tuple[str, ...]:
    """Compile what an epoch runs, by training a short one, and return the names that it logs."""
    order = trainer.rehearsal_order()
    names = LogNames()
    fit_whole_epochs(trainer, names, iter([order]), range(1), trainer.no_values())
    return names.names
