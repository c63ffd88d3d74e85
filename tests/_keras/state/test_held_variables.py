"""Variables that Keras does not list are found, wherever they are, and put back."""

import keras
import numpy as np
import pytest
from holders import BACKEND, HOLDERS, Counts, X, fit, model_of, not_on_jax, numbers, untracked
from keras import layers
from models import COMPILE
from selection import mostly_full

from keras_lr._keras.state.object_walk import layers_in
from keras_lr._keras.state.snapshot import state_preserved

# States of recurrent layers -----------------------------------------------------------------------


class Block(layers.Layer):
    """A layer inside which Keras lists no state."""

    def __init__(self, inner):
        super().__init__()
        self.hidden = {"parts": [inner]}

    def build(self, shape):
        self.hidden["parts"][0].build(shape)

    def call(self, x):
        return self.hidden["parts"][0](x)


def lstm(**options):
    return layers.LSTM(4, stateful=True, **options)


STATEFUL = {
    "lstm": lambda: [lstm()],
    "gru": lambda: [layers.GRU(4, stateful=True)],
    "simple": lambda: [layers.SimpleRNN(4, stateful=True)],
    "stacked cells": lambda: [
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], stateful=True),
    ],
    "two": lambda: [lstm(return_sequences=True), lstm()],
    "bidirectional": lambda: [layers.Bidirectional(lstm())],
    "convolutional": lambda: [
        layers.Reshape((6, 3, 1, 1)),
        layers.ConvLSTM2D(2, (2, 1), stateful=True),
    ],
    "inside a model": lambda: [
        keras.Sequential([keras.Input(batch_shape=(16, 6, 3)), lstm(name="deep")])
    ],
    "inside a layer": lambda: [Block(lstm(name="deep"))],
}


def states_of(model):
    return [
        numbers(state)
        for layer in layers_in(model)
        for state in keras.tree.flatten(getattr(layer, "states", None) or [])
    ]


@pytest.mark.core
@pytest.mark.parametrize("name", mostly_full(STATEFUL, [*STATEFUL][::2]))
def test_states_of_recurrent_layers_come_back(name):
    model = model_of(*STATEFUL[name]())
    model.predict(X, batch_size=16, verbose=0)
    before = states_of(model)
    assert len(before) >= 1
    with state_preserved(model):
        # On PyTorch, Keras cannot train a stateful layer, and on JAX not its untracked states.
        if BACKEND == "tensorflow":
            fit(model)
        else:
            model.predict(X[:16] + 1.0, batch_size=16, verbose=0)
        moved = states_of(model)
    assert BACKEND == "jax" or any((a != b).any() for a, b in zip(before, moved, strict=True))
    for a, b in zip(before, states_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


# Variables that Keras does not track --------------------------------------------------------------


@pytest.mark.core
@not_on_jax
@pytest.mark.parametrize("hold", HOLDERS)
def test_an_untracked_variable_comes_back(hold):
    layer = Counts(hold, untracked, lambda variable: variable.assign_add(1.0))
    model = model_of(layer)
    fit(model)
    before = float(numbers(layer.get()))
    with state_preserved(model):
        fit(model, epochs=2)
        assert float(numbers(layer.get())) == before + 4
    assert float(numbers(layer.get())) == before


@pytest.mark.core
@not_on_jax
def test_a_variable_of_a_loss_comes_back():
    count = untracked()

    def loss(y, prediction):
        count.assign_add(1.0)
        return keras.ops.square(y - prediction)

    model = model_of()
    model.compile("sgd", loss, **COMPILE)
    fit(model)
    before = float(numbers(count))
    with state_preserved(model):
        fit(model)
        assert float(numbers(count)) > before
    assert float(numbers(count)) == before


# What a module holds ------------------------------------------------------------------------------


GLOBAL = untracked()


@pytest.mark.core
@not_on_jax
def test_a_variable_that_a_module_holds_comes_back():
    class Global(layers.Layer):
        def call(self, x):
            GLOBAL.assign_add(1.0)
            return x

    model = model_of(Global())
    fit(model)
    before = float(numbers(GLOBAL))
    with state_preserved(model):
        fit(model)
        assert float(numbers(GLOBAL)) > before
    assert float(numbers(GLOBAL)) == before


class Counters:
    def __init__(self):
        self.first, self.more = untracked(), {"second": [untracked()]}


GLOBALS = {"first": untracked(), "more": (Counters(),), "last": [untracked(), *range(20_000)]}
COUNTERS = Counters()


@pytest.mark.core
@not_on_jax
def test_variables_in_containers_and_objects_of_a_module_come_back():
    class Global(layers.Layer):
        def call(self, x):
            for holder in (GLOBALS["more"][0], COUNTERS):
                for count in (GLOBALS["first"], holder.first, holder.more["second"][0]):
                    count.assign_add(1.0)
            GLOBALS["last"][0].assign_add(1.0)
            return x

    def values():
        counts = [GLOBALS["first"], GLOBALS["last"][0]]
        for holder in (GLOBALS["more"][0], COUNTERS):
            counts += [holder.first, *holder.more["second"]]
        return [float(numbers(count)) for count in counts]

    model = model_of(Global())
    fit(model)
    before = values()
    with state_preserved(model):
        fit(model)
        assert all(now > then for now, then in zip(values(), before, strict=True))
    assert values() == before


TEACHER = keras.Sequential([keras.Input((1,)), layers.BatchNormalization()])


def distance_to_teacher(y, prediction):
    taught = TEACHER(keras.ops.stop_gradient(prediction), training=True)
    return keras.ops.square(prediction - y) + 0.0 * taught


@pytest.mark.core
@not_on_jax
def test_a_model_that_a_loss_refers_to_comes_back():
    model = model_of(layers.Flatten())
    model.compile("sgd", distance_to_teacher, **COMPILE)
    fit(model)
    before = TEACHER.get_weights()
    with state_preserved(model):
        fit(model)
        assert (TEACHER.get_weights()[2] != before[2]).all()
    for a, b in zip(TEACHER.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
