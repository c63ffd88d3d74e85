"""Layers that hold what Keras lists nowhere, in every place that Python has, and models of them."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from models import COMPILE

BACKEND = keras.backend.backend()
not_on_jax = pytest.mark.skipif(BACKEND == "jax", reason="JAX needs a stateless call")
X = np.random.default_rng(0).normal(size=(32, 6, 3)).astype("float32")
Y = X.sum((1, 2))[:, None]


def compiled(model, **options):
    """Return a model after it was compiled."""
    model.compile("adam", "mse", **{**COMPILE, **options})
    return model


def model_of(*parts, **options):
    """Return a compiled model of some layers."""
    inputs = keras.Input(batch_shape=(16, 6, 3))
    return compiled(
        keras.Sequential([inputs, *parts, layers.Flatten(), layers.Dense(1)]), **options
    )


def fit(model, x=X, **options):
    """Train a model for two steps."""
    model.fit(x, Y, batch_size=16, shuffle=False, verbose=0, **options)


def numbers(value):
    """Return a copy of what a variable holds."""
    return np.array(keras.ops.convert_to_numpy(value))


class Holder:
    """A plain object of the user's."""

    def __init__(self, value):
        self.value = value
        self.itself = self


def in_a_list(layer, make):
    layer.values = [[make()]]
    return lambda: layer.values[0][0]


def in_a_dict(layer, make):
    layer.values = {"inside": {"a dict": make()}}
    return lambda: layer.values["inside"]["a dict"]


def in_an_object(layer, make):
    layer.value = Holder(Holder(make()))
    return lambda: layer.value.value.value


def in_a_closure(layer, make):
    value = make()
    layer.function = lambda: value
    return lambda: value


def in_a_tuple(layer, make):
    layer.values = (1, (make(),))
    return lambda: layer.values[1][0]


def in_a_property(layer, make):
    value = make()

    class Own(type(layer)):
        state = property(lambda self: value)

    layer.__class__ = Own
    return lambda: layer.state


def in_a_decorated_function(layer, make):
    value = make()

    def plain():
        return value

    @functools.wraps(plain)
    def decorated():
        return plain()

    layer.function = decorated
    return lambda: value


HOLDERS = [
    *(in_a_list, in_a_dict, in_an_object, in_a_closure, in_a_tuple),
    *(in_a_property, in_a_decorated_function),
]


class Counts(layers.Layer):
    """Adds to a number in training, wherever the number is."""

    def __init__(self, hold, make, add):
        super().__init__()
        self.get = hold(self, make)
        self.add = add

    def call(self, x, training=False):
        if training:
            self.add(self.get())
        return x


def untracked(**options):
    """Return a variable that no layer tracks: one that was made before the layer holds it."""
    return keras.Variable(1.0, trainable=False, **options)
