"""A rate for each part of a model: the weights are those that an optimizer for each part gives."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from models import COMPILE
from selection import mostly_full

from keras_lr import CosineDecay, LayerRates, LinearDecay

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(48, 6)).astype("float32")
Y = RANDOM.normal(size=(48, 2)).astype("float32")
STEPS = 6


def network():
    """Return a model of three named parts, the same each time."""
    keras.utils.set_random_seed(11)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="tanh", name="body"),
            layers.Dense(8, activation="tanh", name="neck"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )


def compiled(optimizer, model=None, **options):
    model = model or network()
    model.compile(optimizer, "mse", **COMPILE | options)
    return model


def train(model, *callbacks, epochs=2, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0} | options
    model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)
    return model


def weights(model):
    return {one.path: keras.ops.convert_to_numpy(one.value) for one in model.weights}


def slots(optimizer, part):
    """Return what an optimizer keeps for the variables of a part, by name."""
    return {
        one.path.split("/")[-1]: keras.ops.convert_to_numpy(one.value)
        for one in optimizer.variables
        if part in one.path
    }


def assert_same(one, other, only=""):
    assert one.keys() == other.keys()
    for name in one:
        if only in name:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def rate_product(rate, factor):
    """Return a product as a training step computes it."""
    return float(np.float32(rate) * np.float32(factor))


def separately(make, factors, rate, **options):
    """Train with an optimizer for each part, and return the model."""
    parts = {f"net/{name}/.*": make(rate_product(rate, factor)) for name, factor in factors.items()}
    optimizer = optimizers.MultiOptimizer(optimizers.OptimizerMap(make(rate), parts))
    return train(compiled(optimizer, **options))


OPTIMIZERS = {
    "SGD": optimizers.SGD,
    "momentum": lambda rate: optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "Adam": optimizers.Adam,
    "Adam, amsgrad": lambda rate: optimizers.Adam(rate, amsgrad=True),
    "AdamW": lambda rate: optimizers.AdamW(rate, weight_decay=0.1),
    "RMSprop": lambda rate: optimizers.RMSprop(rate, momentum=0.5, centered=True),
    "Adagrad": optimizers.Adagrad,
    "Adadelta": optimizers.Adadelta,
    "Adamax": optimizers.Adamax,
    "Nadam": optimizers.Nadam,
    "Ftrl": optimizers.Ftrl,
    "Lion": optimizers.Lion,
    "Lamb": optimizers.Lamb,
    "Adafactor": optimizers.Adafactor,
    "Muon": optimizers.Muon,
    "ScheduleFreeAdamW": lambda rate: optimizers.ScheduleFreeAdamW(rate),
    "clipnorm": lambda rate: optimizers.SGD(rate, clipnorm=0.01),
    "clipvalue": lambda rate: optimizers.SGD(rate, clipvalue=0.01),
}


@pytest.mark.parametrize("name", mostly_full(OPTIMIZERS, ["momentum", "AdamW", "Adafactor"]))
def test_factors_are_an_optimizer_for_each_part(name):
    make = OPTIMIZERS[name]
    expected = separately(make, {"body": 0.1, "neck": 0.3}, 0.01)
    rates = LayerRates({"net/body/.*": 0.1, "neck": 0.3})
    model = train(compiled(make(0.01)), rates)
    assert_same(weights(model), weights(expected))
    assert int(model.optimizer.iterations) == 2 * STEPS


def test_a_schedule_beside_it_and_a_default():
    model = train(
        compiled(optimizers.SGD(0.5)),
        CosineDecay(0.1),
        rates := LayerRates({"head": 1.0}, default=0.25),
    )
    curve = CosineDecay(0.1).values(epochs=2, steps_per_epoch=STEPS).astype("float32")
    np.testing.assert_array_equal(rates.history.learning_rate, curve)
    np.testing.assert_array_equal(rates.history["learning_rate_head"], curve)
    np.testing.assert_array_equal(rates.history["learning_rate_default"], curve * np.float32(0.25))
    assert model.optimizer.learning_rate == curve[-1]


def test_a_factor_that_is_a_schedule():
    """Each batch moves its own weight, so that the weights are the rates."""
    factor = LinearDecay(1.0, 0.25, over="4 steps")
    x = np.eye(STEPS, dtype="float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((STEPS,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(optimizers.SGD(0.5), lambda y, prediction: prediction, **COMPILE)
    rates = LayerRates({".*kernel": factor})
    model.fit(x, x[:, :1], batch_size=1, shuffle=False, verbose=0, callbacks=[rates])
    expected = np.float32(0.5) * np.float32([1.0, 0.8125, 0.625, 0.4375, 0.25, 0.25])
    np.testing.assert_array_equal(-model.get_weights()[0][:, 0], expected)
    np.testing.assert_array_equal(rates.history["learning_rate_.*kernel"], expected)
