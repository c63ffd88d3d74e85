"""Random operations of TensorFlow in a compiled step draw on as if no range test had been."""

import keras
import numpy as np
import pytest
from models import COMPILE
from selection import mostly_full

from keras_lr import LinearDecay, LRRangeTest
from keras_lr._keras.state import random_kernels
from keras_lr._keras.state.snapshot import state_preserved

if keras.backend.backend() != "tensorflow":
    pytest.skip("operations of TensorFlow", allow_module_level=True)

import tensorflow as tf

X = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
Y = X.sum(1, keepdims=True)

DRAWS = {
    "normal": lambda x: tf.random.normal(tf.shape(x)),
    "a seed": lambda x: tf.random.uniform(tf.shape(x), seed=5),
    "shuffle": lambda x: tf.random.shuffle(x, seed=3),
    "a function inside": tf.function(lambda x: tf.random.truncated_normal(tf.shape(x))),
    "a condition": lambda x: tf.cond(
        tf.reduce_sum(x) > 0.0, lambda: tf.random.normal(tf.shape(x)), lambda: x
    ),
}


class Noisy(keras.layers.Layer):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def call(self, x):
        return x + self.draw(x)


def build(draw, **options):
    keras.utils.set_random_seed(0)
    layers = [Noisy(draw), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "mse", **{**COMPILE, **options})
    return model


def fit(model, *callbacks):
    return model.fit(X, Y, batch_size=8, verbose=0, callbacks=list(callbacks)).history["loss"]


def range_test(model):
    LRRangeTest(steps=10, rule="edge", verbose=0).run(model, X, Y, batch_size=8)


def train_inside(model):
    with state_preserved(model):
        fit(model)


@pytest.mark.full
@pytest.mark.parametrize("between", mostly_full([range_test, train_inside], [range_test]))
@pytest.mark.parametrize("trained", mostly_full([False, True], [True]))
@pytest.mark.parametrize("name", DRAWS)
def test_draws_go_on_as_if_nothing_had_been(name, trained, between):
    results = []
    for disturb in (lambda model: None, between):
        model = build(DRAWS[name])
        losses = fit(model) if trained else []
        disturb(model)
        results.append((losses, fit(model), fit(model), model.get_weights()[0].tolist()))
    assert results[0] == results[1]


def test_draws_of_a_step_with_a_schedule_go_on():
    results = []
    for disturb in (lambda model: None, range_test):
        model = build(DRAWS["normal"])
        losses = fit(model, LinearDecay(0.01))
        disturb(model)
        results.append((losses, fit(model, LinearDecay(0.01)), fit(model)))
    assert results[0] == results[1]


def test_only_seeded_operations_draw():
    keras.utils.set_random_seed(0)
    model = build(lambda x: tf.random.stateless_uniform(tf.shape(x), (1, 2)))
    fit(model)
    assert not random_kernels.draws_from_kernels(model.train_function)
    model = build(DRAWS["normal"])
    assert not random_kernels.draws_from_kernels(model.train_function)
    fit(model)
    assert random_kernels.draws_from_kernels(model.train_function)


def test_a_tensorflow_that_hides_its_traces_is_said(monkeypatch):
    model = build(DRAWS["normal"])
    fit(model)
    monkeypatch.setattr(random_kernels, "_LIST", "a_name_of_another_version")
    with pytest.warns(UserWarning, match=r"does not show what it has compiled"):
        assert not random_kernels.draws_from_kernels(model.train_function)


def test_a_function_whose_traces_an_interruption_has_broken_is_put_aside(monkeypatch):
    def broken(self):
        raise KeyError("a trace")

    model = build(lambda x: 0.0 * x)
    fit(model)
    before = model.train_function
    kind = type(next(random_kernels._compiled_in(before)))
    monkeypatch.setattr(kind, "_list_all_concrete_functions", broken)
    with state_preserved(model):
        assert model.train_function is not before
        fit(model)
    assert model.train_function is before
