"""Names of random states, tables, metrics and data that are hidden: said, or the same comes out."""

import importlib
import random

import keras
import numpy as np
import pytest
from absence import hide
from models import COMPILE

from keras_lr import LRHistory
from keras_lr._keras.metrics import higher_is_better
from keras_lr._keras.state.random_state import capture_random_states, set_seed
from keras_lr._keras.state.snapshot import state_preserved
from keras_lr.search import LRSweep

pytestmark = pytest.mark.core
BACKEND = keras.backend.backend()
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="objects of TensorFlow")

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def compiled(outputs, inputs, *arguments, **options):
    model = keras.Model(inputs, outputs)
    model.compile(*arguments, **COMPILE | options)
    return model


# Random states ------------------------------------------------------------------------------------


def draws():
    """Return a draw of each library whose state is shared."""
    drawn = [random.random(), np.random.rand()]  # noqa: NPY002
    drawn.append(float(keras.ops.convert_to_numpy(keras.random.normal(()))))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        drawn.append(next(iter(tf.data.Dataset.range(1000).shuffle(1000))).numpy())
    return drawn


def come_back():
    """Return which draws are the same after the random states have been put back."""
    keras.utils.set_random_seed(1)
    draws()
    restore = capture_random_states()
    before = draws()
    restore()
    return [one == other for one, other in zip(before, draws(), strict=True)]


def draws_after_a_seed():
    set_seed(3, keep_kernels=True)
    return draws()


@on_tensorflow
@pytest.mark.parametrize("name", ["_seed", "_rng"])
def test_a_seed_of_tensorflow_under_another_name_is_said(monkeypatch, name):
    from tensorflow.python.eager import context

    assert all(come_back())
    attributes = vars(context.context())
    monkeypatch.setitem(attributes, f"{name}_of_another_version", attributes[name])
    monkeypatch.delitem(attributes, name)
    hide(monkeypatch, type(context.context()), name)
    with pytest.warns(UserWarning, match=r"of TensorFlow \(.*does not show its random state"):
        assert come_back() == [True, True, True, False]
    assert draws_after_a_seed()[-1] == draws_after_a_seed()[-1]


@pytest.mark.parametrize(
    ("module", "constant"),
    [("utils.rng_utils", "GLOBAL_RANDOM_SEED"), ("random.seed_generator", "GLOBAL_SEED_GENERATOR")],
)
def test_a_random_state_of_keras_under_another_name_comes_back(monkeypatch, module, constant):
    module = importlib.import_module(f"keras.src.{module}")
    if not hasattr(module, constant):
        pytest.skip(f"keras {keras.__version__} has no constant for the name")
    monkeypatch.setattr(module, constant, "another_name")
    assert all(come_back())
    assert draws_after_a_seed() == draws_after_a_seed()


# Tables -------------------------------------------------------------------------------------------


@on_tensorflow
@pytest.mark.parametrize("name", ["_empty_key", "_deleted_key"])
def test_a_table_that_hides_its_special_keys_is_said_to_stay(monkeypatch, name):
    import tensorflow as tf

    def integers(*values):
        return tf.constant(values, tf.int64)

    class Counts(keras.layers.Layer):
        def __init__(self, table):
            super().__init__(name="counts")
            self.holder = [table]

        def call(self, x, training=False):
            if training:
                self.holder[0].insert(integers(7), self.holder[0].lookup(integers(7)) + 1)
            return x

    kind = tf.lookup.experimental.DenseHashTable
    hide(monkeypatch, kind, name)
    table = kind(tf.int64, tf.int64, 0, empty_key=-1, deleted_key=-2)
    table.insert(integers(7, 8), integers(3, 4))
    table.remove(integers(8))
    inputs = keras.Input((3,))
    model = compiled(
        keras.layers.Dense(1)(Counts(table)(inputs)), inputs, "sgd", "mse", jit_compile=False
    )
    before = model.get_weights()
    with (
        pytest.warns(UserWarning, match=r"cannot be put back.*counts\.holder.*DenseHashTable"),
        state_preserved(model),
    ):
        model.fit(X, Y, batch_size=4, verbose=0)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert table.lookup(integers(7, 8)).numpy().tolist() == [6, 0]


# Losses and metrics -------------------------------------------------------------------------------


def test_a_loss_that_hides_its_parts_is_logged_the_same_after_a_snapshot(monkeypatch):
    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in "ab"}
        return compiled(outputs, inputs, "sgd", {"a": "mse", "b": "mae"}, metrics={"a": ["mae"]})

    def fit(model):
        options = {"batch_size": 4, "shuffle": False, "verbose": 0}
        return model.fit(X, {"a": Y, "b": Y}, epochs=2, **options).history

    model = build()
    expected = fit(model)
    hide(monkeypatch, type(model._compile_loss), "_metrics")
    model = build()
    with state_preserved(model):
        fit(model)
    assert fit(model) == expected


@pytest.mark.parametrize("name", ["_flat_metrics", "_flat_weighted_metrics"])
def test_metrics_of_unknown_weights_are_recorded_as_means_so_far(monkeypatch, name):
    def record():
        inputs = keras.Input((3,))
        metrics = {"metrics": ["mae"], "weighted_metrics": ["mae", "mse"]}
        model = compiled(keras.layers.Dense(1)(inputs), inputs, "sgd", "mse", **metrics)
        history = LRHistory()
        weights = np.linspace(0.0, 1.0, len(X))
        model.fit(X, Y, sample_weight=weights, batch_size=4, verbose=0, callbacks=[history])
        return model, set(history.names)

    model, names = record()
    assert {"mae", "weighted_mae_so_far", "mse_so_far"} <= names
    (kind,) = {type(one) for one in model.metrics if hasattr(one, name)}
    hide(monkeypatch, kind, name)
    _, names = record()
    assert {"mae_so_far", "weighted_mae_so_far", "mse_so_far"} <= names


def test_a_metric_of_legacy_keras_that_hides_its_function_asks_for_the_mode():
    class MeanMetricWrapper:
        metrics = ()

        def __init__(self, name, **attributes):
            self.name = name
            vars(self).update(attributes)

    class Model:
        def __init__(self, metric):
            self.metrics = [metric]

    known = Model(MeanMetricWrapper("error", _fn=keras.losses.mean_absolute_error))
    assert not higher_is_better("Test", known, "val_error", "auto")
    hidden = MeanMetricWrapper("error", _fn_of_another_version=keras.losses.mean_absolute_error)
    with pytest.raises(ValueError, match="`mode` must be 'min' or 'max'"):
        higher_is_better("Test", Model(hidden), "val_error", "auto")


# Whole epochs -------------------------------------------------------------------------------------

READER = {"tensorflow": "get_tf_dataset", "jax": "get_jax_iterator"}.get(BACKEND)


@pytest.mark.skipif(BACKEND == "torch", reason="there trials are trained by fit")
@pytest.mark.parametrize("name", ["_inputs", READER])
def test_trials_whose_data_cannot_be_read_are_trained_by_fit(monkeypatch, name):
    def build(optimizer):
        inputs = keras.Input((3,))
        return compiled(keras.layers.Dense(1)(inputs), inputs, optimizer, "mse")

    def losses(route):
        sweep = LRSweep(0.01, 0.1, 1, optimizers=[keras.optimizers.SGD()], verbose=0)
        rows = sweep.run(build, X, Y, epochs=2, batch_size=4).rows
        assert {row.route for row in rows} == {route}
        return [row.logs["loss"] for row in rows]

    expected = losses("whole epochs")
    hide(monkeypatch, keras.src.trainers.data_adapters.ArrayDataAdapter, name)
    np.testing.assert_allclose(losses("fit"), expected, rtol=1e-6)
