"""A linear model whose losses are worked out by hand, and fits that record it."""

import copy
import itertools

import keras
import numpy as np
from models import COMPILE

from keras_lr import StepDecay

rng = np.random.default_rng(3)
X = rng.normal(size=(23, 3)).astype("float32")
Y = rng.normal(size=(23, 1)).astype("float32")
RATE = StepDecay(0.25, 0.5, "4 steps")
# A running mean in float32 keeps the digits of the mean, which is about 1, not those of a batch.
CLOSE = {"rtol": 2e-5, "atol": 5e-6}


class Sized(keras.utils.PyDataset):
    """Batches of the given sizes, with sample weights if there are any."""

    def __init__(self, sizes, weights=None):
        super().__init__()
        edges = np.cumsum([0, *sizes])
        self.batches = [
            [array[a:b] for array in (X, Y, weights) if array is not None]
            for a, b in itertools.pairwise(edges)
        ]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return tuple(self.batches[index])


def linear(kind=keras.Sequential, metrics=None, **compile_args):
    """A linear model with squared loss, which is worked out by hand in `by_hand`."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = kind([keras.Input((3,)), dense])
    options = COMPILE | {"loss": "mse", "metrics": metrics} | compile_args
    model.compile(keras.optimizers.SGD(0.5), **options)
    return model


def by_hand(data, epochs, rate=RATE):
    """Gradient descent on the mean of squared errors, in float64: the loss of every batch."""
    rates = rate.values(epochs=epochs, steps_per_epoch=len(data))
    kernel, losses = np.zeros((3, 1)), []
    for step, learning_rate in enumerate(rates):
        x, y, *weight = data[step % len(data)]
        weight = weight[0][:, None] if weight else np.ones((len(x), 1))
        error = x.astype(float) @ kernel - y
        losses.append((weight * error**2).sum() / len(x))
        kernel -= learning_rate * 2 * x.T @ (weight * error) / len(x)
    return np.array(losses)


def record(model, data, epochs=3, callbacks=None, **options):
    schedule = copy.deepcopy(RATE)
    callbacks = [schedule] if callbacks is None else callbacks
    options = {"epochs": epochs, "shuffle": False, "verbose": 0} | options
    model.fit(data, callbacks=callbacks, **options)
    return schedule.history
