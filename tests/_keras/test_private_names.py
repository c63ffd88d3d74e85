"""Each name that Keras, TensorFlow or JAX does not promise, taken away: a way back or an error."""

from typing import ClassVar

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr import LinearDecay, ParamScheduler, ReduceLROnPlateau
from keras_lr._keras.fits import jax_state
from keras_lr._keras.metrics import higher_is_better
from keras_lr._keras.rates.hyperparameters import fastest_setter, find_hyperparameter
from keras_lr._keras.rates.optimizers import count_batches, schedule_of
from keras_lr._keras.rates.traced_number import TracedFloat, TracedNumber, trace_number
from keras_lr._keras.state import random_state, snapshot
from keras_lr._keras.state.snapshot import Snapshot, state_preserved

pytestmark = pytest.mark.core
BACKEND = keras.backend.backend()

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def dense(optimizer="adam", *layers, **options):
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **{**COMPILE, **options})
    return model


def fit(model, *callbacks, **options):
    options = {"batch_size": 4, "verbose": 0, "shuffle": False} | options
    return model.fit(X, Y, callbacks=list(callbacks), **options)


def hide(monkeypatch, kind, name):
    """Let instances of a class keep an attribute under another name, as a new version might."""

    def get(self):
        raise AttributeError(name)

    other = f"{name}_of_another_version"
    hidden = property(get, lambda self, value: object.__setattr__(self, other, value))
    monkeypatch.setattr(kind, name, hidden, raising=False)


# Optimizers ---------------------------------------------------------------------------------------


def test_without_learning_rate_the_public_one_is_the_variable(monkeypatch):
    optimizer = keras.optimizers.SGD(0.25)
    variable = optimizer.learning_rate
    monkeypatch.delattr(optimizer, "_learning_rate")
    monkeypatch.setattr(keras.optimizers.SGD, "_get_current_learning_rate", lambda self: variable)
    monkeypatch.setattr(
        keras.optimizers.Optimizer, "_get_current_learning_rate", lambda self: variable
    )
    monkeypatch.setattr(keras.optimizers.Optimizer, "get_config", lambda self: {"momentum": 0.5})
    found = find_hyperparameter(optimizer, "learning_rate")
    assert found.variable is variable
    assert found.read() == 0.25


def test_without_learning_rate_the_config_tells_of_a_schedule(monkeypatch):
    decay = keras.optimizers.schedules.CosineDecay(0.5, 10)
    optimizer = keras.optimizers.SGD(decay)
    config = optimizer.get_config()
    monkeypatch.setattr(keras.optimizers.SGD, "get_config", lambda self: config)
    monkeypatch.delattr(optimizer, "_learning_rate")
    assert schedule_of(optimizer).get_config() == decay.get_config()
    with pytest.raises(TypeError, match=r"SGD\(learning_rate=CosineDecay\(\.\.\.\)\)"):
        find_hyperparameter(optimizer, "learning_rate")


@pytest.mark.parametrize(("steps", "before", "after"), [(None, 7, 7), (3, 7, 6)])
def test_without_iterations_the_public_count_is_multiplied(monkeypatch, steps, before, after):
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=steps)
    count = optimizer._iterations
    count.assign(7)
    assert count_batches(optimizer) == before
    public = property(lambda self: count if steps is None else count // steps)
    monkeypatch.setattr(keras.optimizers.SGD, "iterations", public)
    monkeypatch.delattr(optimizer, "_iterations")
    assert count_batches(optimizer) == after


def test_an_optimizer_that_does_not_count_says_so():
    class Bare:
        pass

    with pytest.raises(TypeError, match="Bare does not count its updates"):
        count_batches(Bare())


# Random states ------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch):
    """Return a function that lets a module of another library be missing."""
    find = random_state.find_module

    def hide_module(name):
        monkeypatch.setattr(
            random_state,
            "find_module",
            lambda module, *needed: None if name in module else find(module, *needed),
        )

    return hide_module


@pytest.mark.parametrize(
    ("name", "library"),
    [("keras.src", "Keras"), ("eager", "TensorFlow"), ("stateful_random_ops", "TensorFlow")],
)
def test_a_random_state_that_is_not_shown_is_said(without, name, library):
    if library == "TensorFlow":
        pytest.importorskip("tensorflow")
    without(name)
    with pytest.warns(UserWarning, match=rf"of {library} \(.*does not show its random state"):
        restore = random_state.capture_random_states()
    before = np.random.rand()  # noqa: NPY002
    restore()
    assert np.random.rand() == before  # noqa: NPY002


def draw():
    return keras.ops.convert_to_numpy(keras.random.normal((2,))).tolist()


@pytest.mark.parametrize("name", ["keras.src", "eager"])
def test_without_private_modules_everything_is_seeded_in_public(without, name):
    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        draws.append(draw())
    if draws[0] != draws[1]:
        pytest.skip(f"set_random_seed of keras {keras.__version__} seeds no generator in use")
    without(name)
    for _ in range(2):
        random_state.set_seed(3, keep_kernels=True)
        draws.append(draw())
    assert draws[1] == draws[2] == draws[3]


def test_a_module_without_what_is_needed_counts_as_missing():
    assert random_state.find_module("random", "getstate") is not None
    assert random_state.find_module("random", "getstate", "no_such_name") is None
    assert random_state.find_module("no_such_module") is None


# Snapshots ----------------------------------------------------------------------------------------


def weights_after(model, **options):
    fit(model, **options)
    return model.get_weights()


@pytest.mark.parametrize("name", ["_jax_state", "_jax_state_synced"])
def test_without_the_state_of_an_interrupted_epoch_the_public_sync_is_called(monkeypatch, name):
    model = dense()
    before = model.get_weights()
    saved = Snapshot(model)
    fit(model)
    calls = []
    if BACKEND == "jax":
        sync = model.jax_state_sync
        monkeypatch.setattr(model, "jax_state_sync", lambda: calls.append(1) or sync())
        vars(model).pop("_jax_state", None)
    saved.restore()
    assert len(calls) == (BACKEND == "jax")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_stored_in_the_model_during_a_fit_is_wrapped_as_ever():
    class Store(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.during = {"rates": [0.1]}

    model = dense()
    model.before = {"rates": [0.1]}
    attributes = set(vars(model._tracker))
    fit(model, LinearDecay(0.1, over="3 steps"), Store())
    assert type(model.during) is type(model.before) is not dict
    assert type(model.during["rates"]) is type(model.before["rates"]) is not list
    assert set(vars(model._tracker)) == attributes


@pytest.mark.parametrize(
    "name", ["_get_jax_state", "track", "make_test_function", "make_predict_function"]
)
def test_a_model_that_keeps_its_state_in_another_way_trains_the_same(monkeypatch, name):
    class Use(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.evaluate(X, Y, verbose=0)
            self.model.predict(X, verbose=0)

    keras.utils.set_random_seed(0)
    expected = weights_after(dense(), epochs=2)
    replace = jax_state.StateKeeper._replace

    def replace_others(self, owner, one, replacement_for):
        if one != name:
            replace(self, owner, one, replacement_for)

    monkeypatch.setattr(jax_state.StateKeeper, "_replace", replace_others)
    keras.utils.set_random_seed(0)
    model = dense()
    fit(model, LinearDecay(0.001, 0.001, over="6 steps"), Use(), epochs=2)
    for a, b in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("names", ["_FIT_ATTRIBUTES", "_COMPILED_PARTS"])
def test_a_snapshot_of_a_model_whose_attributes_have_other_names(monkeypatch, names):
    renamed = tuple(f"{name}_of_another_version" for name in getattr(snapshot, names))
    monkeypatch.setattr(snapshot, names, renamed)
    keras.utils.set_random_seed(0)
    expected = weights_after(dense(), epochs=2)
    keras.utils.set_random_seed(0)
    model = dense()
    saved = Snapshot(model)
    fit(model)
    saved.restore()
    for a, b in zip(expected, weights_after(model, epochs=2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_optimizer_built_later_for_unknown_variables_says_to_build_it_first(monkeypatch):
    model = dense()
    model.second = keras.optimizers.SGD(momentum=0.5)
    saved = Snapshot(model)
    model.second.build(model.trainable_variables)
    monkeypatch.delattr(model.second, "_trainable_variables")
    with pytest.raises(RuntimeError, match=r"SGD was built during .*optimizer\.build\(variables\)"):
        saved.restore()


def test_an_optimizer_that_cannot_be_made_anew_says_to_build_it_first():
    class Needy(keras.optimizers.SGD):
        def __init__(self, needed):
            super().__init__()

    model = dense()
    model.second = Needy(1)
    with pytest.raises(ValueError, match=r"Needy is not built and cannot be built again"):
        Snapshot(model)
    model.second.build(model.trainable_variables)
    with state_preserved(model):
        fit(model)
    assert int(model.optimizer.iterations) == 0


# Metrics ------------------------------------------------------------------------------------------


def test_without_a_direction_the_error_asks_for_the_mode(monkeypatch):
    hide(monkeypatch, keras.metrics.MeanAbsoluteError, "_direction")
    model = dense(metrics=["mae"])
    with pytest.raises(ValueError, match="`mode` must be 'min' or 'max'"):
        fit(model, ReduceLROnPlateau("mae", factor=0.5, patience=1))


def test_without_the_compiled_loss_the_metrics_are_known_still():
    class Model:
        metrics: ClassVar = [keras.metrics.MeanAbsoluteError(name="mae")]

    assert not higher_is_better("Test", Model(), "mae", "auto")
    assert not higher_is_better("Test", Model(), "loss", "auto")


@pytest.mark.parametrize("name", ["_flat_metrics", "_flat_weighted_metrics", "output_name"])
def test_without_the_lists_of_compiled_metrics_the_error_asks_for_the_mode(monkeypatch, name):
    x = keras.Input((3,))
    outputs = {"a": keras.layers.Dense(1, name="a")(x), "b": keras.layers.Dense(1, name="b")(x)}
    model = keras.Model(x, outputs)
    model.compile("sgd", "mse", metrics={"a": ["mae"], "b": ["cosine_similarity"]}, **COMPILE)
    model.fit(X, {"a": Y, "b": Y}, verbose=0)
    assert higher_is_better("Test", model, "b_cosine_similarity", "auto")
    compiled = next(one for one in model.metrics if hasattr(one, "_flat_metrics"))
    if name == "output_name":
        for one in filter(None, compiled._flat_metrics):
            monkeypatch.delattr(one, name)
    else:
        listed = compiled.metrics
        monkeypatch.setattr(type(compiled), "metrics", property(lambda self: listed))
        monkeypatch.delattr(compiled, name)
    if name == "_flat_weighted_metrics":
        assert higher_is_better("Test", model, "b_cosine_similarity", "auto")
    else:
        with pytest.raises(ValueError, match="`mode` must be 'min' or 'max'"):
            higher_is_better("Test", model, "b_cosine_similarity", "auto")


# Traced numbers -----------------------------------------------------------------------------------


@pytest.mark.skipif(BACKEND == "torch", reason="Keras does not compile on PyTorch")
def test_a_backend_that_asks_no_number_for_its_tensor_is_refused_before_the_first_update(
    monkeypatch,
):
    protocol = {"tensorflow": "__tf_tensor__", "jax": "__jax_array__"}[BACKEND]
    monkeypatch.delattr(TracedNumber, protocol)
    model = dense(keras.optimizers.SGD(0.1, momentum=0.9))
    before = model.get_weights()
    with pytest.raises(TypeError, match=rf"{protocol}.*[Mm]ove the learning rate"):
        fit(model, ParamScheduler(momentum=LinearDecay(0.9, 0.5)))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer.momentum == 0.9


# An unknown backend -------------------------------------------------------------------------------


@pytest.fixture
def unknown_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "an_invented_backend")


def test_a_snapshot_on_a_backend_that_nobody_knows(unknown_backend):
    keras.utils.set_random_seed(0)
    expected = weights_after(dense("adam", keras.layers.Dropout(0.5)), epochs=2)
    keras.utils.set_random_seed(0)
    model = dense("adam", keras.layers.Dropout(0.5))
    with state_preserved(model):
        fit(model)
    for a, b in zip(expected, weights_after(model, epochs=2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_hyperparameters_on_a_backend_that_nobody_knows(unknown_backend):
    optimizer = keras.optimizers.SGD(0.25, momentum=0.5)
    rate, momentum = (
        find_hyperparameter(optimizer, name) for name in ("learning_rate", "momentum")
    )
    assert (rate.read(), momentum.read()) == (0.25, 0.5)
    assert rate.variable is optimizer.learning_rate
    fastest_setter(rate.variable)(0.125)
    assert rate.read() == 0.125


def test_seeds_on_a_backend_that_nobody_knows(unknown_backend):
    restore = random_state.capture_random_states()
    draws = []
    for _ in range(2):
        random_state.set_seed(3, keep_kernels=True)
        draws.append(keras.ops.convert_to_numpy(keras.random.normal((2,))).tolist())
        restore()
    assert draws[0] == draws[1]


def test_a_number_is_traced_as_a_scalar_on_a_backend_that_nobody_knows(unknown_backend):
    stand_in = trace_number(0.5, keras.ops.convert_to_tensor(0.25))
    assert not isinstance(stand_in, TracedFloat)
    assert stand_in == 0.5
    assert float(keras.ops.convert_to_numpy(stand_in * 4.0)) == 1.0


def test_copies_of_variables_do_not_follow_them():
    variable = keras.Variable(np.arange(3.0))
    copy = snapshot.copy_to_host(variable)
    variable.assign(np.ones(3))
    np.testing.assert_array_equal(copy, np.arange(3.0))
