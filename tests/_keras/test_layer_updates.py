"""What the updates in groups rely on: looked for before a fit trains, and refused if missing."""

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr import Constant, LayerRates
from keras_lr._keras.rates import conditional_update
from keras_lr._keras.rates.layer_updates import Freezing, LayerUpdates, VariableGroup
from keras_lr._keras.rates.step_methods import StepMethods

pytestmark = pytest.mark.core

X = np.ones((4, 3), "float32")


def missing(name):
    """Return an optimizer of a Keras that lacks a name."""

    def absent(self):
        raise AttributeError(name)

    return type("Other", (keras.optimizers.SGD,), {name: property(absent)})


@pytest.mark.parametrize("name", ["_backend_update_step", "_apply_weight_decay", "apply"])
def test_a_keras_that_lacks_a_name_is_refused_before_the_first_update(name):
    body = keras.layers.Dense(1, name="body")
    model = keras.Sequential([keras.Input((3,)), body, keras.layers.Dense(1)])
    model.compile(missing(name)(0.1), "mse", **COMPILE)
    start = model.get_weights()
    with pytest.raises(RuntimeError, match=rf"Other of Keras .* has no {name}, which keras_lr"):
        model.fit(X, X[:, :1], verbose=0, callbacks=[LayerRates({"body": 0.1})])
    for weight, before in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(weight, before)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the others freeze in another way")
def test_a_keras_without_its_scope_is_refused_where_something_thaws(monkeypatch):
    monkeypatch.setattr(conditional_update, "find_module", lambda *names: None)
    body = keras.layers.Dense(1, name="body")
    model = keras.Sequential([keras.Input((3,)), body, keras.layers.Dense(1)])
    model.compile("sgd", "mse", **COMPILE)
    start = model.get_weights()
    thawing = LayerRates({"body": Constant(0.0).lasting(1) >> Constant(1.0)})
    with pytest.raises(RuntimeError, match="by which keras_lr freezes variables inside a step"):
        model.fit(X, X[:, :1], epochs=2, verbose=0, callbacks=[thawing])
    for weight, before in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(weight, before)
    model.fit(X, X[:, :1], verbose=0, callbacks=[LayerRates({"body": 0.1})])


def test_an_optimizer_of_another_library_is_refused():
    class Other:
        built = True

    with pytest.raises(RuntimeError, match="The optimizer Other of its library has no "):
        LayerUpdates(Other(), [])


def test_a_decay_that_does_not_use_the_rate_is_refused():
    class Halved(keras.optimizers.SGD):
        @property
        def learning_rate(self):
            return 0.5 * self._learning_rate

    group = VariableGroup("all", (), Freezing.NEVER)
    LayerUpdates(Halved(0.1), [group])
    with pytest.raises(ValueError, match="computes its learning rate, and has a weight decay"):
        LayerUpdates(Halved(0.1, weight_decay=0.1), [group])


def test_methods_are_replaced_from_the_first_to_enter_to_the_last_to_leave():
    optimizer, seen = keras.optimizers.SGD(0.1), []

    def apply(method, *arguments):
        seen.append(arguments)
        return method(*arguments)

    methods = StepMethods(optimizer, {"apply": apply}, "a test")
    plain = dict(vars(optimizer))
    methods.enter()
    methods.enter()
    assert not methods.leave()
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer.apply([keras.ops.ones(2)], [variable])
    assert len(seen) == 1
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable.value), 0.9)
    assert methods.leave()
    assert methods.leave()  # as an exception may
    assert "apply" not in vars(optimizer)
    assert plain.keys() <= vars(optimizer).keys()


def test_a_method_of_the_instance_is_called_and_put_back():
    optimizer = keras.optimizers.SGD(0.1)
    own = optimizer.apply
    vars(optimizer)["apply"] = own
    methods = StepMethods(optimizer, {"apply": lambda method: method}, "a test")
    methods.enter()
    assert optimizer.apply() is own
    methods.leave()
    assert vars(optimizer)["apply"] is own
