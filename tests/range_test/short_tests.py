"""Short range tests, and what several files of tests have them train on."""

import keras
from models import X, Y

from keras_lr import LRRangeTest


def quick(**arguments):
    """Return a range test of few steps."""
    return LRRangeTest(**{"verbose": 0, "steps": 20, "budget": 60, **arguments})


class Stop(keras.callbacks.Callback):
    """Raises after the fourth batch."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise self.error


def two_outputs(metrics=None, **compiled):
    """Return a model with the outputs `a` and `b`."""
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    outputs = [keras.layers.Dense(1, name="a")(hidden), keras.layers.Dense(1, name="b")(hidden)]
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(), ["mse", "mse"], metrics=metrics, **compiled)
    return model


def finite(batches):
    """Yield so many batches, once."""
    for _ in range(batches):
        yield X[:32], Y[:32]
