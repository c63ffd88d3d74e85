"""Small problems that a sweep trains on, with a valley that is known."""

import functools

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr.search import LRSweep


@functools.cache
def digits(rows=400):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return (x[:rows], y[:rows]), (x[rows : rows + 100], y[rows : rows + 100])


def classifier(optimizer, width=16):
    """Return a small network for digits, with every kind of state."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(width, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **COMPILE)
    return model


def convolutional(optimizer):
    """Return a small network for digits as pictures."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **COMPILE)
    return model


LINE = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


def line(optimizer):
    """Return a model of three weights without a bias, whose loss is a parabola."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, "mse", **COMPILE)
    return model


def unbuilt(optimizer):
    """Fail where nothing may be built."""
    pytest.fail("it was built")


def scaled(optimizer):
    """Return a model in half precision, whose optimizer is wrapped by one that scales the loss."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = line(optimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    return model


def line_data():
    return LINE, LINE.sum(1, keepdims=True)


class Batches(keras.utils.PyDataset):
    """Batches that come in one order."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        x, y = line_data()
        return x[index::5], y[index::5]


def traced_line(traces):
    """Return a function that builds a model which adds to a list whenever it is traced."""

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(self)
            return x

    def build(optimizer):
        model = keras.Sequential([keras.Input((3,)), Counting(), keras.layers.Dense(1)])
        model.compile(optimizer, "mse", **COMPILE)
        return model

    return build


def sweep(rates=(0.01, 0.1), **more):
    """Return a sweep over one optimizer with a rate in each decade."""
    low, high = rates
    options = {"per_decade": 1, "seeds": 1, "optimizers": ["sgd"], "verbose": 0}
    return LRSweep(low, high, **options | more)
