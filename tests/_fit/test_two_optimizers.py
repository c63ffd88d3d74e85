"""Two optimizers in one model: each its own schedule, both in the record."""

import keras
import numpy as np
import pytest

from keras_lr import (
    CosineDecay,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    ParamScheduler,
    ReduceLROnPlateau,
    StepDecay,
)

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
SIZE = {"epochs": 2, "steps_per_epoch": 4}


class Pair(keras.Sequential):
    """A model whose kernel and bias are each moved by an optimizer of its own; gradients are 1."""

    def __init__(self, momentum=0.0):
        dense = keras.layers.Dense(1, kernel_initializer="zeros")
        super().__init__([keras.Input((1,)), dense])
        self.first = keras.optimizers.SGD(1.0, name="first")
        self.second = keras.optimizers.SGD(1.0, momentum=momentum, name="second")
        kernel, bias = self.trainable_variables
        self.first.build([kernel])
        self.second.build([bias])
        self.compile("sgd" if BACKEND != "jax" else self.first)

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(data[0], training=True))
            kernel, bias = self.trainable_variables
            gradients = tape.gradient(loss, [kernel, bias])
            self.first.apply([gradients[0]], [kernel])
            self.second.apply([gradients[1]], [bias])
            return {"loss": loss}

    elif BACKEND == "torch":

        def train_step(self, data):
            import torch

            self.zero_grad()
            loss = torch.mean(self(data[0], training=True))
            loss.backward()
            kernel, bias = self.trainable_variables
            with torch.no_grad():
                self.first.apply([kernel.value.grad], [kernel])
                self.second.apply([bias.value.grad], [bias])
            return {"loss": loss.detach()}

    else:

        @property
        def non_trainable_variables(self):
            """What Keras hands to the step beside the variables of the compiled optimizer."""
            return [*super().non_trainable_variables, *self.second.variables]

        def train_step(self, state, data):
            import jax

            (kernel, bias), fixed, optimizer, metrics = state

            def loss_of(weights):
                outputs, _ = self.stateless_call(weights, fixed, data[0], training=True)
                return outputs.mean()

            loss, gradients = jax.value_and_grad(loss_of)([kernel, bias])
            (kernel,), optimizer = self.first.stateless_apply(optimizer, [gradients[0]], [kernel])
            (bias,), fixed = self.second.stateless_apply(fixed, [gradients[1]], [bias])
            return {"loss": loss}, ([kernel, bias], fixed, optimizer, metrics)


def fit(model, *callbacks, **options):
    x = np.ones((8, 1), "float32")
    options = {"batch_size": 2, "epochs": 2, "verbose": 0} | options
    model.fit(x, callbacks=list(callbacks), **options)
    return [float(np.squeeze(weight)) for weight in model.get_weights()[:2]]


def test_both_rates_are_recorded_under_names_of_their_own():
    one, two = LinearDecay(1.0), CosineDecay(0.5)
    callbacks = [
        ParamScheduler(optimizer="first", learning_rate=one),
        ParamScheduler(optimizer="second", learning_rate=two),
    ]
    kernel, bias = fit(Pair(), *callbacks)
    history = callbacks[1].history
    np.testing.assert_allclose(history.learning_rate, one.values(**SIZE), rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate_second"], two.values(**SIZE), rtol=1e-6)
    assert kernel == pytest.approx(-one.values(**SIZE).sum())
    assert bias == pytest.approx(-two.values(**SIZE).sum())


def test_rate_and_momentum_of_the_second_alone():
    """The bias is moved as by hand, the kernel at the first optimizer's own rate."""
    momenta, rates = LinearDecay(0.9, 0.1), StepDecay(0.5, 0.5, every=1)
    scheduler = ParamScheduler("second", learning_rate=rates, momentum=momenta)
    model = Pair(momentum=0.5)
    kernel, bias = fit(model, scheduler)
    assert kernel == pytest.approx(-8.0)
    expected = velocity = 0.0
    for rate, momentum in zip(rates.values(**SIZE), momenta.values(**SIZE), strict=True):
        velocity = momentum * velocity - rate
        expected += velocity
    assert bias == pytest.approx(expected, rel=1e-6)
    assert model.second.momentum == 0.5
    assert float(keras.ops.convert_to_numpy(model.second.learning_rate)) == 0.25


def test_a_record_alone_has_the_rates_of_both_and_says_which_trains_nothing(recwarn):
    model, history = Pair(), LRHistory()
    model.second.learning_rate = 0.25
    assert fit(model, history) == [-8.0, -2.0]
    assert history["learning_rate_second"].tolist() == [0.25] * 8
    used = "learning_rate" if BACKEND == "jax" else "learning_rate_first"
    assert history[used].tolist() == [1.0] * 8
    said = [str(one.message) for one in recwarn if "made no update" in str(one.message)]
    if BACKEND == "jax":  # which has the first one compiled
        assert not said
    else:
        (message,) = said
        assert "recorded as: 'learning_rate_first', 'learning_rate_second'" in message


@pytest.mark.parametrize(
    ("name", "held"), [("held[0]", lambda one: [one]), ("held['bias']", lambda one: {"bias": one})]
)
def test_an_optimizer_in_a_list_or_dict_is_named_as_it_is_written(name, held):
    class Listed(Pair):
        @property
        def second(self):
            return keras.tree.flatten(self.held)[0]

        @second.setter
        def second(self, optimizer):
            self.held = held(optimizer)

    scheduler = ParamScheduler(name, learning_rate=LinearDecay(1.0))
    assert fit(Listed(), scheduler) == [-8.0, -4.5]


@pytest.mark.parametrize("name", ["both", "loss", "compile"])
def test_a_name_of_something_else_is_refused(name):
    model = Pair()
    model.both = [model.first, model.second]
    names = r"no optimizer named '.*Its optimizers: first, second"
    for callback in (
        ParamScheduler(name, learning_rate=LinearDecay(1.0)),
        ReduceLROnPlateau("loss", optimizer=name),
        LRRangeTest(verbose=0, optimizer=name),
    ):
        with pytest.raises(ValueError, match=names):
            fit(model, callback)


@pytest.mark.skipif(BACKEND != "jax", reason="elsewhere a step sees every variable")
def test_an_optimizer_that_keras_does_not_hand_to_the_step_is_an_error():
    class Outside(Pair):
        non_trainable_variables = keras.Sequential.non_trainable_variables

    model = Outside()
    scheduler = ParamScheduler(optimizer="second", learning_rate=LinearDecay(1.0))
    with pytest.raises(RuntimeError, match=r"'second' to the training step.*non_trainable_variab"):
        fit(model, scheduler)
    assert [float(np.squeeze(weight)) for weight in model.get_weights()] == [0.0, 0.0]
