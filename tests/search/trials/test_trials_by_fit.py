"""Trials that only ``fit`` can train are trained by it, and the report says why."""

import inspect

import keras
import pytest
from models import COMPILE
from problems import Batches, convolutional, digits, line, line_data, sweep
from routes import BACKEND, by_hand, check_same, compiles, run_line

from keras_lr import Constant, CosineDecay, Function, OneCycle, ParamScheduler
from keras_lr._keras.whole_epochs import data as epoch_data
from keras_lr._keras.whole_epochs.base import check_model
from keras_lr._keras.whole_epochs.data import NeedsFit

pytestmark = pytest.mark.core


def eager(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


class Fitting(keras.Sequential):
    def fit(self, *args, **options):
        return super().fit(*args, **options)


def fitting(optimizer):
    model = Fitting([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **COMPILE)
    return model


@compiles
@pytest.mark.parametrize(
    ("build", "fit", "reason"),
    [
        (line, {"callbacks": [keras.callbacks.Callback()]}, "callbacks are given"),
        pytest.param(
            line, {"callbacks": lambda trial: []}, "callbacks are given", marks=pytest.mark.full
        ),
        (line, {"x": Batches(), "y": None, "batch_size": None}, "the data are not arrays"),
        pytest.param(
            line, {"steps_per_epoch": 2}, "`steps_per_epoch` is given", marks=pytest.mark.full
        ),
        (line, {"validation_split": 0.5, "validation_steps": 1}, "`validation_steps` is given"),
        pytest.param(eager, {}, "the model is compiled with run_eagerly", marks=pytest.mark.full),
        pytest.param(fitting, {}, "the model's `fit` is not Keras's", marks=pytest.mark.full),
    ],
)
def test_what_needs_fit_is_trained_by_it(build, fit, reason):
    x, y = line_data()
    result = sweep().run(build, **{"x": x, "y": y, "epochs": 1, "batch_size": 8} | fit)
    assert {(row.status, row.route, row.route_reason) for row in result.rows} == {
        ("trained", "fit", reason)
    }
    assert f"Trained by fit, because {reason}." in result.report()
    assert set(result.to_pandas().route_reason) == {reason}


@pytest.mark.full
@compiles
@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (lambda lr: Function(lambda epoch, rate: rate), "looks at the rate of the optimizer"),
        (
            lambda lr: keras.callbacks.LearningRateScheduler(lambda epoch: lr),
            "a LearningRateScheduler drives",
        ),
        (
            lambda lr: CosineDecay(lr) if lr < 0.1 else Function(lambda epoch, rate: rate),
            "looks at the rate of the optimizer",
        ),
    ],
)
def test_a_schedule_whose_rates_are_not_known_before_needs_fit(schedule, reason):
    result = run_line(sweep(schedule=schedule))
    assert {row.status for row in result.rows} == {"trained"}
    last = result.rows[-1]
    assert last.route == "fit"
    assert reason in last.route_reason
    optimizer = keras.optimizers.SGD(0.1)
    x, y = line_data()
    fit = {"x": x, "y": y, "epochs": 3, "batch_size": 8}
    assert last.logs == by_hand(line, optimizer, fit | {"callbacks": [schedule(0.1)]})


@pytest.mark.full
@compiles
@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (
            lambda lr: ParamScheduler("optimizer", learning_rate=CosineDecay(lr)),
            "the schedule names its optimizer",
        ),
        (
            lambda lr: ParamScheduler(weight_decay=Constant(0.1)),
            "the schedule does not move the learning rate",
        ),
        (
            lambda lr: CosineDecay(lr) if lr < 0.1 else OneCycle(lr),
            "the schedules of the trials move different hyperparameters",
        ),
    ],
)
def test_hyperparameters_that_are_not_those_of_the_step_need_fit(schedule, reason):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1)
    last = run_line(sweep(schedule=schedule, optimizers=[optimizer])).rows[-1]
    assert (last.route, last.route_reason) == ("fit", reason)
    x, y = line_data()
    fit = {"x": x, "y": y, "epochs": 3, "batch_size": 8}
    history = by_hand(line, optimizer, fit | {"callbacks": [schedule(0.1)]})
    assert last.logs == {name: history[name] for name in last.logs}


@compiles
def test_a_metric_with_the_name_of_what_moves_needs_fit():
    def build(optimizer):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        named = keras.metrics.MeanSquaredError(name="momentum")
        model.compile(optimizer, "mse", metrics=[named], **COMPILE)
        return model

    x, y = line_data()
    swept = sweep(schedule=OneCycle, optimizers=[keras.optimizers.SGD(momentum=0.9)])
    row = swept.run(build, x, y, epochs=1, batch_size=8).rows[0]
    assert (row.status, row.route_reason) == ("trained", "a metric is called 'momentum'")


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow trains these by whole epochs")
def test_convolutions_on_jax_need_fit_where_more_than_the_rate_moves():
    (x, y), _ = digits()
    swept = sweep(schedule=OneCycle, optimizers=[keras.optimizers.SGD(momentum=0.9)])
    x = x.reshape(-1, 8, 8, 1)[:64]
    row = swept.run(convolutional, x, y[:64], epochs=1, batch_size=32).rows[0]
    assert row.route_reason == "Keras compiles momentum into its step"


@pytest.mark.skipif(BACKEND != "torch", reason="the other backends compile steps")
def test_pytorch_trains_by_fit():
    result = run_line(sweep())
    assert {row.route_reason for row in result.rows} == {"torch compiles no step"}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a kernel of TensorFlow counts its draws")
def test_draws_that_a_kernel_counts_need_fit():
    import tensorflow as tf

    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    def build(optimizer):
        model = keras.Sequential([keras.Input((3,)), Noise(), keras.layers.Dense(1)])
        model.compile(optimizer, "mse", **COMPILE)
        return model

    x, y = line_data()
    fit = {"x": x, "y": y, "epochs": 2, "batch_size": 8}
    result = sweep().run(build, **fit)
    for row in result.rows:
        assert row.route_reason == "operations of TensorFlow count what they draw"
        assert row.logs == by_hand(build, keras.optimizers.SGD(row.trial.learning_rate), fit)


class Unwilling(keras.Model):
    """A model that trains alone, and refuses to be trained inside of a larger program."""

    def train_step(self, *given):
        if any("_keras/whole_epochs" in frame.filename for frame in inspect.stack(0)):
            raise RuntimeError("not here")
        return super().train_step(*given)


@pytest.mark.full
@compiles
def test_a_whole_epoch_that_raises_is_trained_by_fit():
    def build(optimizer):
        x = keras.Input((3,))
        model = Unwilling(x, keras.layers.Dense(1)(x))
        model.compile(optimizer, "mse", **COMPILE)
        return model

    x, y = line_data()
    rows = check_same(build, {"x": x, "y": y, "epochs": 2, "batch_size": 16}, route="fit")
    assert rows[0].route_reason == "a whole epoch raised RuntimeError"


# Another version of Keras -------------------------------------------------------------------------


@compiles
@pytest.mark.parametrize(
    "name", ["_symbolic_build", "_get_metrics_result_or_logs", "make_train_function"]
)
def test_without_a_name_of_keras_a_model_is_refused(monkeypatch, name):
    model = line(keras.optimizers.SGD())
    check_model(model)
    for kind in keras.Model.__mro__:
        if name in vars(kind):
            monkeypatch.delattr(kind, name)
    with pytest.raises(NeedsFit, match=name):
        check_model(model)


@compiles
@pytest.mark.parametrize("module", ["_ADAPTERS", "_SLICING"])
def test_without_the_data_adapters_of_keras_fit_trains(monkeypatch, module):
    monkeypatch.setattr(epoch_data, module, "keras.of_another_version")
    result = run_line(sweep(), epochs=1)
    assert {row.status for row in result.rows} == {"trained"}
    assert {row.route for row in result.rows} == {"fit"}
    assert "this Keras does not show how it" in result.rows[0].route_reason
