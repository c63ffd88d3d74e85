"""The state of a model as plain data, from which another model of the same kind continues."""

import pickle
import random

import keras
import numpy as np
import pytest
from models import COMPILE, X, Y, same, state

from keras_lr._keras.state.snapshot import Snapshot

pytestmark = pytest.mark.core


class Remembers(keras.layers.Layer):
    """Keeps state that Keras does not list, beside objects that each layer has for itself."""

    def __init__(self):
        super().__init__()
        self.parts = [keras.layers.Dense(8), keras.layers.Dropout(0.3)]
        self.calls = [0]
        self.random = np.random.default_rng(3)
        self.name_of_last = ""

    def build(self, shape):
        self.mean = keras.Variable(np.zeros(()), trainable=False, dtype="float32")

    def call(self, x, training=False):
        self.mean.assign(0.5 * self.mean + keras.ops.mean(x))
        for part in self.parts:
            x = part(x, training=training) if "Dropout" in type(part).__name__ else part(x)
        return x + self.mean


def new_model():
    model = keras.Sequential([keras.Input((6,)), Remembers(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **COMPILE)
    return model


def train(model, first, last):
    history = model.fit(X, Y, batch_size=32, epochs=last, initial_epoch=first, verbose=0)
    return history.history


def through_pickle(snapshot):
    return pickle.loads(pickle.dumps(snapshot.export()))


def test_another_model_goes_on_from_the_state():
    keras.utils.set_random_seed(1)
    model = new_model()
    train(model, 0, 2)
    layer = model.layers[0]
    layer.calls[0], layer.name_of_last = 7, "seventh"
    layer.random.random(5)
    kept = through_pickle(Snapshot(model))
    expected = train(model, 2, 4), state(model), random.random(), layer.random.random()

    keras.utils.set_random_seed(2)
    other = new_model()
    train(other, 0, 1)  # so that it holds all that a model holds between two fits
    snapshot = Snapshot(other)
    snapshot.adopt(kept)
    snapshot.restore()
    own = other.layers[0]
    assert (own.calls[0], own.name_of_last) == (7, "seventh")
    assert own.parts[0] is not layer.parts[0]
    assert own.parts[0] is own._layers[0]
    history, weights, drawn, drawn_by_layer = expected
    assert train(other, 2, 4) == history
    assert same(state(other), weights)
    assert (random.random(), own.random.random()) == (drawn, drawn_by_layer)


def test_a_model_that_holds_other_things_is_left_alone():
    model, other = new_model(), new_model()
    for one in (model, other):
        train(one, 0, 1)
    model.layers[0].notes = ["one more attribute"]
    snapshot = Snapshot(other)
    before = state(other)
    with pytest.raises(ValueError, match="zip"):
        snapshot.adopt(through_pickle(Snapshot(model)))
    snapshot.restore()
    assert same(state(other), before)


def test_the_generator_of_keras_goes_with_it():
    keras.utils.set_random_seed(5)
    keras.random.normal(())
    model = new_model()
    kept = through_pickle(Snapshot(model))
    drawn = float(keras.random.normal(()))
    keras.utils.set_random_seed(6)
    other = new_model()
    snapshot = Snapshot(other)
    snapshot.adopt(kept)
    snapshot.restore()
    assert float(keras.random.normal(())) == drawn
