"""Fits whose metric is decided by a test, for ReduceLROnPlateau."""

import keras
import numpy as np
import pytest
from keras import layers

X = np.random.default_rng(0).normal(0, 0.1, size=(12, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
NAN = float("nan")
long_executions = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras refuses steps_per_execution on PyTorch"
)


def build(optimizer=None, **options):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(1.0), "mse", **options)
    return model


class Logs(keras.callbacks.Callback):
    """Puts a value of its own into the logs of each epoch; None leaves them alone."""

    def __init__(self, values, name="val_loss"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        if self.values[epoch] is not None:
            logs[self.name] = self.values[epoch]


def fit(model, values, *callbacks, monitor="val_loss", batch_size=12, **options):
    """Train one epoch per value, each of which has the value as its metric."""
    return model.fit(
        X,
        Y,
        batch_size=batch_size,
        epochs=len(values),
        verbose=0,
        callbacks=[Logs(values, monitor), *callbacks],
        **options,
    )


def rates(callback):
    return callback.history.learning_rate.tolist()


def learning_rate(model):
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def by_hooks(callback, values):
    """Return the optimizer's rate after each epoch of a fit in which only hooks are called."""
    model = build()
    callback.set_model(model)
    callback.set_params({"epochs": len(values), "steps": 1})
    callback.on_train_begin()
    found = []
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_loss": value})
        found.append(learning_rate(model))
    callback.on_train_end()
    return found


def random_metric(seed, length=200):
    """Falls, with plateaus, jumps back up and NaN."""
    random = np.random.default_rng(seed)
    values = 2.0 * np.exp(-np.arange(length) / 60) + random.normal(0, 0.05, length).round(3)
    values[100:130] = values[99]
    values[random.integers(0, length, 4)] = NAN
    return values.tolist()
