"""Names of Keras's optimizers and layers, hidden or not called: refused, or the same is trained."""

import keras
import numpy as np
import pytest
from absence import hide
from models import COMPILE

from keras_lr import Constant, DistanceOverGradients, HypergradientDescent, LayerRates, LinearDecay
from keras_lr._keras.rates import optimizers
from keras_lr._keras.rates.optimizers import held_optimizers
from keras_lr._keras.state.object_walk import optimizers_in

pytestmark = pytest.mark.core
BACKEND = keras.backend.backend()

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
SGD = keras.optimizers.SGD


def network(optimizer, build=True, **options):
    keras.utils.set_random_seed(0)
    body = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, name="inner", activation="tanh")], name="body"
    )
    model = keras.Sequential([keras.Input((3,)), body, keras.layers.Dense(1, name="head")])
    model.compile(optimizer, "mse", **COMPILE | options)
    if build:
        model.optimizer.build(model.trainable_variables)
    return model


def train(model, callback):
    model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
    return model.get_weights()


def values_of(model):
    variables = (*model.trainable_variables, *model.optimizer.variables)
    return [np.array(keras.ops.convert_to_numpy(one)) for one in variables]


def assert_same(weights, others):
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_refused(model, callback, words):
    """Assert that an error says what is missing, and that no update has been made."""
    before = values_of(model) if model.optimizer.built else model.get_weights()
    with pytest.raises(RuntimeError, match=words):
        train(model, callback)
    assert_same(values_of(model) if len(before) > 4 else model.get_weights(), before)


def layer_rates():
    return LayerRates({"body": 0.1})


def thawing():
    return LayerRates({"body": Constant(0.0).lasting(1) >> Constant(1.0)})


# Names that are missing ---------------------------------------------------------------------------

OF_BOTH = ["apply", "_backend_update_step", "_apply_weight_decay", "_trainable_variables"]


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("name", [*OF_BOTH, "_var_key", "_learning_rate", "_iterations"])
def test_an_optimizer_that_hides_what_layers_need_is_refused(monkeypatch, name, built):
    hide(monkeypatch, type(SGD()), name)
    assert_refused(network(SGD(0.1), built), layer_rates(), f"has no {name}, which keras_lr needs")


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("name", [*OF_BOTH, "_var_key", "_variables", "stateless_apply"])
def test_an_optimizer_that_hides_what_a_rule_needs_is_refused(monkeypatch, name, built):
    hide(monkeypatch, type(SGD()), name)
    words = f"has no {name}, which keras_lr needs"
    assert_refused(network(SGD(0.1), built), DistanceOverGradients(), words)


AVERAGES = ["_model_variables_moving_average", "_update_model_variables_moving_average"]


@pytest.mark.skipif(BACKEND == "jax", reason="Keras overwrites the weights after an exception")
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("name", AVERAGES)
def test_an_optimizer_that_hides_its_averages_is_refused(monkeypatch, name, built):
    hide(monkeypatch, type(SGD()), name)
    model = network(SGD(0.1, use_ema=True), built)
    assert_refused(model, layer_rates(), f"has no {name}, which keras_lr needs")


@pytest.mark.parametrize("built", [False, True])
def test_a_nadam_that_hides_its_product_is_refused_where_something_thaws(monkeypatch, built):
    hide(monkeypatch, type(keras.optimizers.Nadam()), "_u_product")
    assert_refused(network("nadam", built), thawing(), "has no _u_product, which keras_lr needs")


def test_a_leaf_of_the_update_that_has_another_name(monkeypatch):
    optimizer = SGD(0.1)
    leaf = "_parallel_update_step" if BACKEND == "torch" else "update_step"
    hide(monkeypatch, type(optimizer), leaf)
    words = (
        "has no update_step" if BACKEND != "torch" else "in its own way, and not by `update_step`"
    )
    assert_refused(network(optimizer), layer_rates(), words)


@pytest.mark.skipif(BACKEND != "jax", reason="the others freeze in another way")
def test_a_scope_that_hides_what_a_step_has_assigned_is_refused(monkeypatch):
    hide(monkeypatch, keras.StatelessScope, "state_mapping")
    assert_refused(network("sgd"), thawing(), r"has no keras\.StatelessScope\.state_mapping")
    train(network("sgd"), layer_rates())


def test_a_rate_that_no_private_method_computes(monkeypatch):
    expected = train(network(SGD(0.1)), LinearDecay(0.1))
    hide(monkeypatch, keras.optimizers.Optimizer, "_get_current_learning_rate")
    assert_same(train(network(SGD(0.1)), LinearDecay(0.1)), expected)


# Names that are there, but not called -------------------------------------------------------------


class OwnApply(SGD):
    """Does all by itself."""

    def apply(self, grads, trainable_variables=None):
        for gradient, variable in zip(grads, self._trainable_variables, strict=True):
            variable.assign(variable - self.learning_rate * gradient)
        self._iterations.assign_add(1)


class OtherUpdate(SGD):
    """Calls another method for the update."""

    def _backend_apply_gradients(self, grads, trainable_variables):
        self._apply_weight_decay(trainable_variables)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            variable.assign(variable - self.learning_rate * gradient)


class OtherDecay(SGD):
    """Calls no method for the weight decay."""

    def _backend_apply_gradients(self, grads, trainable_variables):
        for variable in trainable_variables:
            variable.assign(variable * (1.0 - self.weight_decay * self.learning_rate))
        self._backend_update_step(grads, trainable_variables, self.learning_rate)


class LateDecay(SGD):
    """Decays the weights after the update."""

    def _backend_apply_gradients(self, grads, trainable_variables):
        self._backend_update_step(grads, trainable_variables, self.learning_rate)
        self._apply_weight_decay(trainable_variables)


OWN_WAYS = {
    OwnApply: "_backend_update_step",
    OtherUpdate: "_backend_update_step",
    OtherDecay: "_apply_weight_decay",
}
EAGERLY = [False, *([True] if BACKEND == "tensorflow" else [])]


@pytest.mark.parametrize("eagerly", EAGERLY)
@pytest.mark.parametrize("callback", [layer_rates, HypergradientDescent])
@pytest.mark.parametrize("kind", OWN_WAYS)
def test_an_optimizer_that_updates_in_another_way_is_refused(kind, callback, eagerly):
    model = network(kind(0.1, weight_decay=0.1, momentum=0.5), run_eagerly=eagerly)
    words = f"{kind.__name__} updates its variables in its own way, and not by `{OWN_WAYS[kind]}`"
    assert_refused(model, callback(), words)


@pytest.mark.parametrize("eagerly", EAGERLY)
def test_an_optimizer_that_decays_after_the_update_follows_no_rule(eagerly):
    model = network(LateDecay(0.1, weight_decay=0.1, momentum=0.5), run_eagerly=eagerly)
    words = "LateDecay updates its variables in its own way, and not by `_apply_weight_decay`"
    assert_refused(model, HypergradientDescent(), words)


@pytest.mark.parametrize("eagerly", EAGERLY)
def test_an_optimizer_that_accumulates_is_refused_where_it_would_update(eagerly):
    model = network(OtherUpdate(0.1, momentum=0.5), run_eagerly=eagerly)
    model.optimizer.gradient_accumulation_steps = 2
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="OtherUpdate updates its variables in its own way"):
        train(model, layer_rates())
    updates = int(keras.ops.convert_to_numpy(model.optimizer._iterations))
    assert updates == (1 if eagerly or BACKEND == "torch" else 0)
    if not updates:
        assert_same(model.get_weights(), before)


# Layers and optimizers inside a model -------------------------------------------------------------


def test_layers_that_a_model_does_not_list_are_refused_and_those_that_it_lists_train(monkeypatch):
    expected = train(network("sgd"), layer_rates())
    assert not np.array_equal(train(network("sgd"), LayerRates({"inner": 0.0}))[0], expected[0])
    hide(monkeypatch, keras.layers.Layer, "_flatten_layers")
    assert_same(train(network("sgd"), layer_rates()), expected)
    with pytest.raises(ValueError, match="matches no trained variable"):
        train(network("sgd"), LayerRates({"inner": 0.0}))


def test_lists_of_tensorflow_under_another_name_hide_no_optimizer(monkeypatch):
    model = network("sgd")
    model.second = keras.optimizers.Adam(0.5)
    expected = train(model, LinearDecay(0.1))
    names = [*held_optimizers(model).values()]
    monkeypatch.setattr(optimizers, "_LISTS_OF_TENSORFLOW", "_lists_of_another_version")
    assert [*held_optimizers(model).values()] == names == optimizers_in(model, [])
    other = network("sgd")
    other.second = keras.optimizers.Adam(0.5)
    assert_same(train(other, LinearDecay(0.1)), expected)
