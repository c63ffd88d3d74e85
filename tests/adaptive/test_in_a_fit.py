"""What holds for every rule: exact in every kind of step, and nothing left behind."""

import copy

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from models import COMPILE, Counted
from rule_problems import BATCHES, RULES, START, X, Y, fit, linear, train

from keras_lr import Constant, LRHistory
from keras_lr._keras.gradients import packing

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
FIRST, *REST = RULES
EVERY_RULE = pytest.mark.parametrize(
    "name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)]
)
"""The way into a step is the same for all, so that by default one goes it."""


def make(name, **options):
    """Return a callback, and a function that makes an optimizer for it."""
    callback, optimizer = RULES[name]
    return callback(**options), optimizer


def assert_same(one, other):
    for mine, others in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, others)


def assert_close(one, other):
    np.testing.assert_allclose(one[1], other[1], rtol=2e-4)
    for mine, others in zip(one[0], other[0], strict=True):
        np.testing.assert_allclose(mine, others, rtol=2e-4, atol=1e-6)


# The record -----------------------------------------------------------------------------------


@EVERY_RULE
def test_logs_and_every_record_have_the_rates(name):
    callback, optimizer = make(name)
    model, record = linear(optimizer()), LRHistory()
    history = train(model, record, callback, epochs=3)
    rates = callback.history.learning_rate
    assert len(rates) == 3 * BATCHES
    assert len(set(rates.tolist())) > BATCHES
    np.testing.assert_array_equal(record.learning_rate, rates)
    np.testing.assert_array_equal(np.float32(history.history["learning_rate"]), rates[4::5])
    assert np.float32(model.optimizer.learning_rate) == rates[-1]


@EVERY_RULE
@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution there")
@pytest.mark.parametrize("steps", [2, 5])
def test_several_steps_in_an_execution_change_nothing(name, steps):
    (callback, optimizer), (other, _) = make(name), make(name)
    expected = fit(callback, optimizer())
    found = fit(other, optimizer(), steps_per_execution=steps)
    assert_close(found, expected)
    assert len(found[1]) == 2 * BATCHES


@EVERY_RULE
def test_data_of_unknown_length(name):
    (callback, optimizer), (other, _) = make(name), make(name)
    expected = fit(callback, optimizer())

    def generator():
        for first in range(0, len(X), 8):
            yield X[first : first + 8], Y[first : first + 8]

    steps = 1 if BACKEND == "torch" else 2
    model = linear(optimizer(), steps_per_execution=steps)
    for epoch in range(2):
        model.fit(
            *(generator(),),
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=[other],
        )
    np.testing.assert_allclose(other.history.learning_rate, expected[1], rtol=2e-4)


@EVERY_RULE
def test_many_steps(name):
    """More than what is noted at once."""
    callback, optimizer = make(name)
    model = linear(optimizer())
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(model.optimizer.learning_rate))
    )
    if BACKEND == "jax":  # reading the rate there brings all state back
        watch = keras.callbacks.Callback()
    train(model, callback, watch, x=np.tile(X, (30, 1)), y=np.tile(Y, (30, 1)), batch_size=1)
    rates = callback.history.learning_rate
    assert len(rates) == 2 * 30 * len(X)
    if seen:
        np.testing.assert_array_equal(rates, np.float32(seen))


# What is left -----------------------------------------------------------------------------------


@EVERY_RULE
def test_the_optimizer_is_left_as_it_would_be_without(name, tmp_path):
    callback, optimizer = make(name)
    plain, model = linear(optimizer()), linear(optimizer())
    train(plain, epochs=1)
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    train(model, callback, keep)

    def names(model):
        return [one.path.partition("/")[2] for one in model.optimizer.variables]

    def attributes(model):
        return [*vars(model.optimizer)]

    assert names(model) == names(plain)
    assert attributes(model) == attributes(plain)
    loaded = keras.saving.load_model(tmp_path / "2.keras", custom_objects={"Counted": Counted})
    assert_same(loaded.get_weights(), model.get_weights())
    for one, other in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@EVERY_RULE
def test_an_exception_leaves_the_optimizer_as_it_was(name):
    callback, optimizer = make(name)
    model = linear(optimizer())

    def interrupt(batch, logs):
        if batch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, callback, keras.callbacks.LambdaCallback(on_train_batch_end=interrupt))
    plain = linear(optimizer())
    train(plain, epochs=1)
    assert [*vars(model.optimizer)] == [*vars(plain.optimizer)]
    assert len(model.optimizer.variables) == len(plain.optimizer.variables)
    train(model, callback)
    assert len(callback.history.learning_rate) == 2 * BATCHES


@EVERY_RULE
def test_a_second_fit_compiles_nothing(name):
    callback, optimizer = make(name)
    model = linear(optimizer())
    train(model, callback)
    Counted.runs = 0
    train(model, callback)
    equal, _ = make(name)
    if BACKEND != "torch":
        train(model, equal)
        assert Counted.runs == 0


@EVERY_RULE
def test_a_second_fit_begins_anew(name):
    callback, optimizer = make(name)
    model = linear(optimizer())
    train(model, callback)
    fresh = linear(optimizer())
    fresh.set_weights(model.get_weights())
    fresh.optimizer.build(fresh.trainable_variables)
    for one, other in zip(fresh.optimizer.variables, model.optimizer.variables, strict=True):
        one.assign(keras.ops.convert_to_numpy(other))
    again, _ = make(name)
    train(model, callback)
    train(fresh, again)
    assert_same(fresh.get_weights(), model.get_weights())
    np.testing.assert_array_equal(callback.history.learning_rate, again.history.learning_rate)


# Kinds of steps -----------------------------------------------------------------------------------


@EVERY_RULE
def test_steps_that_are_not_compiled(name):
    (callback, optimizer), (other, _) = make(name), make(name)
    eager = fit(callback, optimizer(), run_eagerly=True)
    assert_close(eager, fit(other, optimizer()))


@EVERY_RULE
@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX always compiles by XLA")
def test_steps_compiled_by_xla(name):
    (callback, optimizer), (other, _) = make(name), make(name)
    assert_close(
        fit(callback, optimizer(), jit_compile=True),
        fit(other, optimizer(), jit_compile=False),
    )


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="what PyTorch compiles")
@pytest.mark.parametrize("name", RULES)
def test_steps_compiled_by_pytorch(name):
    (callback, optimizer), (other, _) = make(name), make(name)
    compiled = fit(callback, optimizer(), jit_compile=True)
    assert len(compiled[1]) == 2 * BATCHES
    assert_close(compiled, fit(other, optimizer()))


@EVERY_RULE
def test_a_loss_that_is_scaled(name):
    """The rule sees the gradients of the loss itself."""
    (callback, optimizer), (other, _) = make(name), make(name)
    scaled = optimizers.LossScaleOptimizer(optimizer(), initial_scale=1024.0)
    model = linear(scaled)
    train(model, callback)
    assert_close((model.get_weights(), callback.history.learning_rate), fit(other, optimizer()))
    factor = fit(make(name)[0], optimizer(loss_scale_factor=512.0))
    assert_close(factor, fit(make(name)[0], optimizer()))


@EVERY_RULE
def test_steps_that_a_loss_scale_skips(name):
    """The scale is too large at first: no update, and the rate of the step is what it was."""
    callback, optimizer = make(name)
    scaled = optimizers.LossScaleOptimizer(optimizer(), initial_scale=3e38)
    model = linear(scaled)
    train(model, callback)
    rates = callback.history.learning_rate
    made = int(scaled.iterations)
    assert 0 < made < len(rates) == 2 * BATCHES
    assert callback.failed_updates == 0
    assert len(set(rates[: len(rates) - made].tolist())) == 1


BEFORE_FIRST = {"hypergradient": 0.01, "distance": 0.0, "distance by layer": 0.0, "Prodigy": 1e-3}
"""The rate with which each rule begins."""


@pytest.mark.parametrize("name", BEFORE_FIRST)
def test_a_batch_before_the_first_update_has_no_rate_that_the_rule_did_not_choose(name):
    (callback, optimizer), (other, _) = make(name), make(name)
    factor = 1.0 if "hypergradient" in name else 0.5
    factors = [] if "hypergradient" in name else [Constant(0.5)]
    scaled = optimizers.LossScaleOptimizer(optimizer(), initial_scale=3e38)
    train(linear(scaled), callback, *factors)
    expected = np.float32(factor * BEFORE_FIRST[name])
    assert callback.history.learning_rate[0] == pytest.approx(expected)
    train(linear(optimizer(gradient_accumulation_steps=2)), other, *factors)
    rates = other.history.learning_rate
    assert rates[0] == pytest.approx(expected)
    assert rates[1] == rates[2]
    assert (rates[1] > rates[0]) == ("distance" in name)


@EVERY_RULE
def test_gradients_that_are_accumulated(name):
    """Once an update: as with batches of twice the size."""
    (callback, optimizer), (other, _) = make(name), make(name)
    accumulated = linear(optimizer(gradient_accumulation_steps=2))
    x, y = np.tile(X, (2, 1)), np.tile(Y, (2, 1))
    train(accumulated, callback, x=x, y=y)
    whole = linear(optimizer())
    train(whole, other, x=x, y=y, batch_size=16)
    rates = callback.history.learning_rate
    assert len(rates) == 2 * len(other.history.learning_rate)
    np.testing.assert_allclose(rates[1::2], other.history.learning_rate, rtol=2e-4)
    np.testing.assert_array_equal(rates[2::2], rates[1:-1:2])
    for one, both in zip(accumulated.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, both, rtol=2e-4, atol=1e-6)


@EVERY_RULE
def test_averages_of_the_weights(name):
    """They average what the rule trains, and overwrite the weights when the fit ends."""
    callback, optimizer = make(name)
    weights = []
    model = linear(optimizer(use_ema=True, ema_momentum=0.5))
    collect = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: weights.append(model.get_weights()[0])
    )
    collect.set_model = lambda it: None
    if BACKEND == "jax":

        class Collect(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                weights.append(self.model.get_weights()[0])

        collect = Collect()
    train(model, callback, collect)
    average = weights[0]
    for one in weights[1:]:
        average = 0.5 * average + 0.5 * one
    np.testing.assert_allclose(model.get_weights()[0], average, rtol=1e-5)
    other, _ = make(name)
    plain = fit(other, optimizer())
    np.testing.assert_allclose(callback.history.learning_rate, plain[1], rtol=2e-4)


@EVERY_RULE
def test_clipped_gradients_are_what_the_rule_sees(name):
    callback, optimizer = make(name)
    clipped = fit(callback, optimizer(global_clipnorm=0.1))[1]
    assert not np.allclose(clipped, fit(make(name)[0], optimizer())[1])


@EVERY_RULE
def test_half_precision(name):
    callback, optimizer = make(name)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, dtype="mixed_float16")])
    scaled = optimizers.LossScaleOptimizer(optimizer(), initial_scale=64.0)
    model.set_weights(START)
    model.compile(scaled, "mse", **COMPILE)
    train(model, callback)
    expected = fit(make(name)[0], optimizer())
    np.testing.assert_allclose(callback.history.learning_rate, expected[1], rtol=0.05)


@EVERY_RULE
def test_a_training_step_of_the_users(name):
    callback, optimizer = make(name)

    class Own(keras.Sequential):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    model = Own([keras.Input((3,)), layers.Dense(1)])
    model.set_weights(START)
    model.compile(optimizer(), "mse", **COMPILE)
    train(model, callback)
    assert_close(
        (model.get_weights(), callback.history.learning_rate), fit(make(name)[0], optimizer())
    )


@EVERY_RULE
def test_weights_without_gradients_are_left_alone(name):
    class Idle(layers.Layer):
        def build(self, shape):
            self.idle = self.add_weight(shape=(2,), initializer="zeros")

        def call(self, x):
            return x

    callback, optimizer = make(name)
    model = keras.Sequential([keras.Input((3,)), Idle(), layers.Dense(1)])
    model.layers[-1].set_weights(START)
    model.compile(optimizer(), "mse", **COMPILE)
    train(model, callback)
    np.testing.assert_array_equal(model.get_weights()[0], 0.0)
    if BACKEND != "jax":  # where their gradient is 0, by which Adam moves nothing either
        assert_close(
            (model.get_weights()[1:], callback.history.learning_rate),
            fit(make(name)[0], optimizer()),
        )


class Line(keras.Model):
    def __init__(self):
        super().__init__()
        self.line = layers.Dense(1, name="line")

    def call(self, x):
        return self.line(x)


@EVERY_RULE
def test_a_subclassed_model_that_is_not_built_yet_trains_as_a_built_one(name):
    found = []
    for build in (False, True):
        callback, optimizer = make(name)
        keras.utils.set_random_seed(11)
        model = Line()
        model.compile(optimizer(), "mse", **COMPILE)
        if build:
            model(X[:1])
        train(model, callback)
        found.append((model.get_weights(), callback.history.learning_rate))
    assert_close(*found)


@EVERY_RULE
def test_it_makes_no_difference_which_weights_are_packed_together(name, monkeypatch):
    callback, optimizer = make(name)
    expected = fit(callback, optimizer())
    monkeypatch.setattr(packing, "SMALL", 1)  # the kernel by itself
    assert_close(fit(make(name)[0], optimizer()), expected)


# Gradients that are not finite ------------------------------------------------------------------


@EVERY_RULE
def test_a_gradient_that_is_not_a_number_leaves_the_rate_and_is_counted(name):
    callback, optimizer = make(name)
    y = Y.copy()
    y[3 * 8] = np.nan
    model = linear(optimizer())
    with pytest.warns(UserWarning, match=r"the gradients of 2 updates were not finite"):
        train(model, callback, y=y, epochs=1)
    rates = callback.history.learning_rate
    assert np.isfinite(rates).all()
    assert set(rates[3:].tolist()) == {rates[2]}
    assert callback.failed_updates == 2
    # The weights are lost, as they are without this callback.
    assert np.isnan(model.get_weights()[0]).all()


@EVERY_RULE
def test_a_copy_is_a_callback_of_its_own(name):
    callback, optimizer = make(name)
    expected = fit(copy.deepcopy(callback), optimizer())
    assert_close(fit(callback, optimizer()), expected)
    assert callback == make(name)[0]
    assert (
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(callback))
        == callback
    )
