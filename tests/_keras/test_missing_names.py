"""More names that Keras or Python may lack, each taken away where something relies on it."""

import sys
import threading
from typing import ClassVar

import keras
import numpy as np
import pytest
from models import COMPILE, fit, meter

from keras_lr import (
    Constant,
    DistanceOverGradients,
    LayerRates,
    LinearDecay,
    ParamScheduler,
    Prodigy,
)
from keras_lr._keras.fits.fit_data import take_rows
from keras_lr._keras.fits.fit_frame import is_fitted_by
from keras_lr._keras.model_layers import layers_in
from keras_lr._keras.state.callback_state import unfit_for_trials

pytestmark = pytest.mark.core

X = np.ones((4, 3), "float32")


def compiled(optimizer):
    """Return a model whose optimizer is built."""
    body = keras.layers.Dense(1, name="body")
    model = keras.Sequential([keras.Input((3,)), body, keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **COMPILE)
    model.optimizer.build(model.trainable_variables)
    return model


def assert_refused_before_the_first_update(model, callback, name):
    start = model.get_weights()
    with pytest.raises(RuntimeError, match=rf"has no {name}, which keras_lr needs"):
        model.fit(X, X[:, :1], epochs=2, verbose=0, callbacks=[callback])
    for weight, before in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(weight, before)


# Fits ---------------------------------------------------------------------------------------------


def test_without_the_frames_of_threads_no_fit_of_another_thread_is_seen(monkeypatch):
    class Ask(keras.callbacks.Callback):
        found: ClassVar = []

        def on_epoch_end(self, epoch, logs=None):
            self.found.append(is_fitted_by(threading.get_ident(), self.model))

    model = compiled("sgd")
    model.fit(X, X[:, :1], verbose=0, callbacks=[Ask()])
    monkeypatch.delattr(sys, "_current_frames")
    model.fit(X, X[:, :1], verbose=0, callbacks=[Ask()])
    assert Ask.found == [True, False]


def test_without_the_slicing_of_keras_rows_are_taken_as_numpy_takes_them(monkeypatch):
    data = {"a": np.arange(6), "b": None, "c": [np.arange(12).reshape(6, 2)]}
    found = take_rows(data, np.array([4, 1]))
    monkeypatch.setitem(sys.modules, "keras.src.trainers.data_adapters.array_slicing", None)
    for one in (found, take_rows(data, np.array([4, 1]))):
        np.testing.assert_array_equal(one["a"], [4, 1])
        assert one["b"] is None
        np.testing.assert_array_equal(one["c"][0], [[8, 9], [2, 3]])


def test_without_the_list_of_all_layers_those_of_the_model_are_known():
    class Model:
        layers: ClassVar = [keras.layers.Dense(1), keras.layers.Dense(2)]

    assert layers_in(Model()) == Model.layers


def test_a_callback_that_keras_does_not_have_is_not_looked_for(monkeypatch):
    writer = keras.callbacks.ModelCheckpoint("model.keras")
    driver = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    assert unfit_for_trials([writer, driver]) == [writer, driver]
    monkeypatch.delattr(keras.callbacks, "ModelCheckpoint")
    assert unfit_for_trials([writer, driver]) == [driver]


# Optimizers ---------------------------------------------------------------------------------------


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX refuses it before the first step")
@pytest.mark.parametrize("known", [True, False])
def test_an_optimizer_that_does_not_say_what_it_trains_is_refused_after_an_epoch(
    monkeypatch, known
):
    model = meter(optimizer=keras.optimizers.SGD(1.0, name="old"))
    old = model.optimizer
    old.build(model.trainable_variables)
    model.compile(keras.optimizers.SGD(1.0, name="new"), model.loss, **COMPILE)
    if not known:
        monkeypatch.delattr(old, "_trainable_variables")
    with pytest.raises(ValueError, match="'old', which does not train"):
        fit(model, ParamScheduler(old, learning_rate=LinearDecay(1.0)), epochs=2)
    assert np.count_nonzero(model.get_weights()[0]) == (1 if known else 5)


@pytest.mark.parametrize("name", ["apply", "_apply_weight_decay", "_backend_update_step"])
def test_an_optimizer_without_what_a_rule_needs_is_refused(name):
    def absent(self):
        raise AttributeError(name)

    kind = type("Other", (keras.optimizers.SGD,), {name: property(absent)})
    model = compiled(kind(0.1))
    assert_refused_before_the_first_update(model, DistanceOverGradients(), name)


@pytest.mark.parametrize("name", ["_momentums", "_velocities", "_velocity_hats"])
def test_an_adam_without_its_means_is_refused(monkeypatch, name):
    model = compiled(keras.optimizers.Adam(amsgrad=True))
    monkeypatch.delattr(model.optimizer, name)
    assert_refused_before_the_first_update(model, Prodigy(), name)


def test_a_nadam_without_its_product_is_refused_where_something_thaws(monkeypatch):
    model = compiled("nadam")
    monkeypatch.delattr(model.optimizer, "_u_product")
    thawing = LayerRates({"body": Constant(0.0).lasting(1) >> Constant(1.0)})
    assert_refused_before_the_first_update(model, thawing, "_u_product")
