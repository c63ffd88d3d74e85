"""A rate for each part of a model, in every kind of training step that Keras and users write."""

import os
import shutil

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from models import COMPILE, several_optimizers
from test_layer_rates import (
    BACKEND,
    OPTIMIZERS,
    STEPS,
    assert_same,
    compiled,
    network,
    rate_product,
    separately,
    train,
    weights,
)

from keras_lr import Constant, CosineDecay, LayerRates, LinearDecay, ParamScheduler

pytestmark = pytest.mark.core

FACTORS = {"body": 0.1, "neck": 0.3}
THAWING = Constant(0.0).lasting("4 steps") >> LinearDecay(1.0, 0.25, over="6 steps")
CPP_COMPILER = shutil.which(os.environ.get("CXX", "g++"))
"""What torch.compile needs on a CPU."""


def test_every_optimizer_of_keras_is_tried():
    kinds = {type(make(0.01)).__name__ for make in OPTIMIZERS.values()}
    shipped = {
        name
        for name, kind in vars(optimizers).items()
        if isinstance(kind, type) and issubclass(kind, optimizers.Optimizer)
    }
    # The base, and what holds other optimizers.
    assert shipped - {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"} <= kinds


def by_factors(rates=0.5):
    """Return what moves each batch's own weight by its rate: a part without a factor, and one with.

    Their gradients are 1 in any precision, so that the weights are the sums of the rates, negative.
    """
    factor = THAWING.values(epochs=2, steps_per_epoch=STEPS)
    return np.broadcast_to(rates, (2 * STEPS,)), rates * factor


def meters(optimizer, **options):
    """Return a model of two parts, and data of which each batch moves one weight of either."""
    inputs = keras.Input((STEPS,))
    zeros = {"use_bias": False, "kernel_initializer": "zeros"}
    parts = [layers.Dense(1, name=name, **zeros)(inputs) for name in ("plain", "part")]
    model = keras.Model(inputs, layers.Add()(parts))
    model.compile(optimizer, lambda y, prediction: prediction, **COMPILE | options)
    return model, np.eye(STEPS, dtype="float32")


def moved(model, x, *callbacks):
    """Train for two epochs and return how far each part has moved in each of the 12 updates."""
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([weight[:, 0] for weight in self.model.get_weights()])
            self.model.set_weights([np.zeros_like(one) for one in self.model.get_weights()])

    options = {"batch_size": 1, "shuffle": False, "verbose": 0, "epochs": 2}
    model.fit(x, x[:, :1], callbacks=[*callbacks, Weights()], **options)
    return [-np.concatenate(part) for part in zip(*seen, strict=True)]


# Mixed precision ----------------------------------------------------------------------------------


@pytest.fixture
def policy(request):
    """A policy for all layers and models that the test makes."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"], indirect=True)
def test_mixed_precision(policy):
    """Under mixed_float16 Keras puts a LossScaleOptimizer around the optimizer by itself."""
    model, x = meters(optimizers.SGD(0.5))
    assert hasattr(model.optimizer, "inner_optimizer") == (policy == "mixed_float16")
    layer = LayerRates({"part": THAWING})
    plain, part = moved(model, x, layer)
    expected = by_factors()
    np.testing.assert_array_equal(plain, expected[0])
    np.testing.assert_allclose(part, expected[1], rtol=1e-6)
    np.testing.assert_allclose(layer.history["learning_rate_part"], expected[1], rtol=1e-6)
    assert model.dtype_policy.name == policy
    assert {str(one.dtype) for one in model.trainable_variables} == {"float32"}


@several_optimizers
@pytest.mark.parametrize("policy", ["mixed_bfloat16"], indirect=True)
def test_mixed_precision_is_an_optimizer_for_each_part(policy):
    expected = separately(optimizers.Adam, FACTORS, 0.01)
    model = train(compiled(optimizers.Adam(0.01)), LayerRates(FACTORS))
    assert model.layers[0].compute_dtype == "bfloat16"
    assert_same(weights(model), weights(expected))


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
@pytest.mark.parametrize("factor", [0.0, Constant(0.0)], ids=["number", "schedule"])
def test_a_part_that_is_frozen_in_mixed_precision(factor, policy):
    model, x = meters(optimizers.Adam(0.5))
    plain, part = moved(model, x, LayerRates({"part": factor}))
    assert not part.any()
    assert plain.all()


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_a_step_whose_gradients_overflow_is_skipped_in_every_part(policy):
    """The scale is too large for the first step, of which nothing may be left in any part."""
    scaled = optimizers.LossScaleOptimizer(optimizers.SGD(0.5), initial_scale=2.0**17)
    model, x = meters(scaled)
    plain, part = moved(model, x, LayerRates({"part": 0.25}))
    taken = plain != 0.0
    assert not taken[0]
    assert taken[-STEPS:].all()
    np.testing.assert_allclose(part, 0.25 * plain)


# Compiled steps -----------------------------------------------------------------------------------


def test_a_compiled_step_thaws():
    model, x = meters(optimizers.SGD(0.5), jit_compile=True)
    rates = LayerRates({"part": THAWING})
    if BACKEND == "torch" and not CPP_COMPILER:
        with pytest.raises(RuntimeError, match=r"No working C\+\+ compiler found"):
            moved(model, x, rates)
        return
    plain, part = moved(model, x, rates)
    np.testing.assert_array_equal(plain, by_factors()[0])
    np.testing.assert_allclose(part, by_factors()[1], rtol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="the others count in another test")
@pytest.mark.skipif(not CPP_COMPILER, reason="torch.compile needs a C++ compiler")
def test_torch_compiles_nothing_for_another_factor():
    from torch._dynamo.utils import counters

    model, x = meters(optimizers.SGD(0.5), jit_compile=True)
    moved(model, x, LayerRates({"part": Constant(0.5)}))
    graphs = counters["stats"]["unique_graphs"]
    assert graphs
    moved(model, x, LayerRates({"part": LinearDecay(0.9, 0.1)}))
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on PyTorch")
@pytest.mark.parametrize("jit", [False, True])
def test_several_steps_in_an_execution_thaw_in_the_middle_of_one(jit):
    options = {"steps_per_execution": 3, "jit_compile": jit or BACKEND == "jax"}
    model, x = meters(optimizers.SGD(0.5), **options)
    _, part = moved(model, x, LayerRates({"part": THAWING}))
    np.testing.assert_allclose(part, by_factors()[1], rtol=1e-6)


# Steps that users write ---------------------------------------------------------------------------


class OwnStep(keras.Sequential):
    """A model with a training step of its own, as the guides of Keras write it for each backend."""

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    elif BACKEND == "torch":

        def train_step(self, data):
            import torch

            x, y = data
            self.zero_grad()
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            loss.backward()
            trained = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([one.value.grad for one in trained], trained)
            return {"loss": loss.detach()}

    else:

        def compute_loss_and_updates(self, trained, fixed, x, y, training=False):
            prediction, fixed = self.stateless_call(trained, fixed, x, training=training)
            return self.compute_loss(x, y, prediction), fixed

        def train_step(self, state, data):
            import jax

            trained, fixed, optimizer, metrics = state
            gradient = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
            (loss, fixed), gradients = gradient(trained, fixed, *data, training=True)
            trained, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trained)
            return {"loss": loss}, (trained, fixed, optimizer, metrics)


def with_own_step(optimizer):
    return compiled(optimizer, OwnStep(network().layers, name="net"))


@several_optimizers
@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam], ids=lambda one: one.__name__)
def test_a_custom_train_step(make):
    parts = {f"net/{name}/.*": make(rate_product(0.01, f)) for name, f in FACTORS.items()}
    several = optimizers.MultiOptimizer(optimizers.OptimizerMap(make(0.01), parts))
    expected = train(with_own_step(several))
    model = train(with_own_step(make(0.01)), layer := LayerRates(FACTORS))
    assert_same(weights(model), weights(expected))
    np.testing.assert_array_equal(
        layer.history["learning_rate_body"], layer.history.learning_rate * np.float32(0.1)
    )


def test_a_custom_train_step_thaws():
    thawing = LayerRates({"body": THAWING, "neck": 0.0})
    expected = train(compiled(optimizers.Adam(0.01)), CosineDecay(0.02), thawing)
    model = train(with_own_step(optimizers.Adam(0.01)), CosineDecay(0.02), thawing)
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], value, rtol=1e-5, atol=1e-7)
    assert_same(weights(model), weights(network()), only="neck")


# Several optimizers -------------------------------------------------------------------------------


@several_optimizers
def test_the_factors_of_one_of_several_optimizers():
    rest, head = optimizers.SGD(0.02, momentum=0.9), optimizers.Adam(0.01)
    both = optimizers.MultiOptimizer(optimizers.OptimizerMap(rest, {"net/head/.*": head}))
    model = train(compiled(both), layer := LayerRates({"body": 0.5}, optimizer=rest))
    body = optimizers.SGD(rate_product(0.02, 0.5), momentum=0.9)
    parts = {"net/head/.*": optimizers.Adam(0.01), "net/body/.*": body}
    expected = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(0.02, momentum=0.9), parts)
    )
    assert_same(weights(model), weights(train(compiled(expected))))
    assert "learning_rate_body" in layer.history.names


@several_optimizers
def test_factors_beside_a_schedule_of_several_optimizers():
    """The schedule is that of the highest rate, the other keeps its share; factors multiply."""
    by_part = {"net/head/.*": optimizers.SGD(0.4)}
    several = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.1), by_part))
    curve = CosineDecay(0.2)
    model = train(compiled(several), curve, LayerRates({"body": 0.5}))
    rates = {"head": 1.0, "neck": 0.25, "body": 0.125}
    each = {f"net/{name}/.*": optimizers.SGD(1.0) for name in rates}
    other = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(1.0), each))
    moving = [
        ParamScheduler(each[f"net/{name}/.*"], learning_rate=share * curve)
        for name, share in rates.items()
    ]
    expected = train(compiled(other), *moving)
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], value, rtol=1e-5, atol=1e-7)
