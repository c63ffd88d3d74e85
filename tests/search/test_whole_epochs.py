"""Trials that are trained by whole epochs: the numbers are those of ``fit``, bit for bit."""

import inspect

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import Batches, classifier, digits, line, line_data

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    OneCycle,
    ParamScheduler,
    PiecewiseConstant,
)
from keras_lr._keras.whole_epochs import data as epoch_data
from keras_lr._keras.whole_epochs.base import check_model
from keras_lr._keras.whole_epochs.data import EpochData, NeedsFit
from keras_lr.search import LRSweep
from keras_lr.search.trials.watch import TrialWatch

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
compiles = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles no step")
FAST = "whole epochs"
ahead = BACKEND == "jax" and keras.distribution.list_devices()[0].split(":")[0] != "cpu"
by_turns = pytest.mark.skipif(
    ahead, reason="on a GPU, Keras on JAX orders each batch before its turn"
)


def sweep(rates=(0.01, 0.1), **more):
    low, high = rates
    options = {"per_decade": 1, "seeds": 1, "optimizers": ["sgd"], "verbose": 0}
    return LRSweep(low, high, **options | more)


def run_line(swept, epochs=3, **fit):
    x, y = line_data()
    return swept.run(line, x, y, **{"epochs": epochs, "batch_size": 8} | fit)


def by_hand(build, optimizer, fit, seed=0):
    """Return what the loop that people write logs."""
    keras.utils.set_random_seed(seed)
    return build(optimizer).fit(verbose=0, **fit).history


def check_same(build, fit, route=FAST, make=keras.optimizers.SGD):
    """Check that a sweep gives the numbers of ``fit`` and takes a route; return its rows."""
    result = sweep(optimizers=[make()], seeds=2).run(build, **fit)
    assert {row.route for row in result.rows} == {route}, result.rows[0].route_reason
    for row in (result.rows[0], result.rows[-1]):
        history = by_hand(build, make(row.trial.learning_rate), fit, row.trial.seed)
        assert row.logs == history, row.trial
        assert list(row.logs) == list(history)
    return result.rows


# Equal to fit -------------------------------------------------------------------------------------


@pytest.mark.full
@compiles
def test_every_kind_of_state_and_validation():
    (x, y), validation = digits()
    weights = dict.fromkeys(range(5), 0.5) | dict.fromkeys(range(5, 10), 2.0)
    fit = {"x": x, "y": y, "epochs": 3, "batch_size": 48, "class_weight": weights}
    check_same(classifier, fit | {"validation_data": validation}, make=keras.optimizers.Adam)


@compiles
@pytest.mark.parametrize(
    "fit",
    [
        {"batch_size": 10},
        pytest.param({"batch_size": 500}, marks=pytest.mark.full),
        pytest.param({"shuffle": False}, marks=pytest.mark.full),
        pytest.param({"shuffle": "batch"}, marks=by_turns),
        pytest.param({"sample_weight": np.linspace(0.0, 2.0, 40)}, marks=pytest.mark.full),
        {"validation_split": 0.4, "validation_batch_size": 7},
    ],
    ids=["even", "one batch", "in order", "by batch", "weights", "validation"],
)
def test_the_data_are_read_as_fit_reads_them(fit):
    x, y = line_data()
    check_same(line, {"x": x, "y": y, "epochs": 3, "batch_size": 16} | fit)


def two_sided(optimizer):
    """Return a model with two inputs, two outputs, a penalty and metrics that are no means."""
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    both = keras.layers.Concatenate()([a, b])
    hidden = keras.layers.Dense(4, "tanh", kernel_regularizer="l2")(both)
    outputs = {
        "is": keras.layers.Dense(1, "sigmoid", name="is")(hidden),
        "size": keras.layers.Dense(1, name="size")(hidden),
    }
    model = keras.Model({"a": a, "b": b}, outputs)
    losses = {"is": "binary_crossentropy", "size": "mse"}
    metrics = {"is": [keras.metrics.AUC(num_thresholds=20, name="auc")], "size": ["mae"]}
    weighted = {"is": [], "size": [keras.metrics.RootMeanSquaredError()]}
    model.compile(optimizer, losses, metrics=metrics, weighted_metrics=weighted, **COMPILE)
    return model


@pytest.mark.full
@compiles
def test_nested_data_and_metrics_that_are_no_means():
    random = np.random.default_rng(1)
    x = {"a": random.normal(size=(50, 3)), "b": random.normal(size=(50, 2)).astype("float32")}
    y = {"is": (x["a"][:, :1] > 0).astype("float32"), "size": x["b"].sum(1, keepdims=True)}
    fit = {"x": x, "y": y, "epochs": 3, "batch_size": 16, "validation_data": (x, y)}
    check_same(two_sided, fit, make=keras.optimizers.Adam)


class Stepping(keras.Model):
    """A model whose steps are its own and log something else than the metrics."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, *given):
        found = super().train_step(*given)
        logs, *state = found if BACKEND == "jax" else (found,)
        logs = logs | {"twice": 2.0 * logs["loss"]}
        return (logs, *state) if BACKEND == "jax" else logs


def stepping(optimizer):
    model = Stepping()
    model.compile(optimizer, "mse", **COMPILE)
    return model


def scaled(optimizer):
    """Return a model in half precision, whose optimizer is wrapped by one that scales the loss."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = line(optimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    return model


@pytest.mark.full
@compiles
@pytest.mark.parametrize("build", [stepping, scaled])
def test_other_steps_and_optimizers_are_trained_too(build):
    x, y = line_data()
    check_same(build, {"x": x, "y": y, "epochs": 3, "batch_size": 16})


@pytest.mark.full
@compiles
@pytest.mark.parametrize(
    "options",
    [
        {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
        {"use_ema": True, "ema_momentum": 0.9},
        {"gradient_accumulation_steps": 2},
        {"clipnorm": 0.1, "weight_decay": 0.1},
    ],
    ids=["averages in training", "averages at the end", "accumulation", "clipping and decay"],
)
def test_what_the_optimizer_does_besides(options):
    x, y = line_data()
    fit = {"x": x, "y": y, "epochs": 2, "batch_size": 16, "validation_data": (x, -y)}

    def make(rate=0.01):
        return keras.optimizers.SGD(rate, momentum=0.5, **options)

    (row, _) = sweep(optimizers=[make()]).run(line, **fit, test_data=(x, x[:, :1])).rows
    assert row.route == FAST, row.route_reason
    keras.utils.set_random_seed(0)
    model = line(make(row.trial.learning_rate))
    assert row.logs == model.fit(verbose=0, **fit).history
    assert row.test["loss"] == model.evaluate(x, x[:, :1], batch_size=16, verbose=0)


def recurrent(optimizer):
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.GRU(6, dropout=0.2),
            keras.layers.LayerNormalization(),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **COMPILE)
    return model


def convolutional(optimizer):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **COMPILE)
    return model


@pytest.mark.full
@compiles
def test_recurrent_layers():
    (x, y), _ = digits()
    x = x.reshape(-1, 8, 8)[:100]
    check_same(recurrent, {"x": x, "y": y[:100], "epochs": 2, "batch_size": 32})


@pytest.mark.full
@compiles
def test_convolutions_are_not_scanned_on_jax():
    (x, y), (test_x, test_y) = digits()
    shaped = x.reshape(-1, 8, 8, 1)[:100], y[:100]
    fit = {"epochs": 2, "batch_size": 32}
    fit |= {"x": shaped[0], "y": shaped[1]}
    fit["validation_data"] = (test_x.reshape(-1, 8, 8, 1), test_y)
    check_same(convolutional, fit, route="steps without hooks" if BACKEND == "jax" else FAST)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX always compiles")
def test_a_step_that_xla_compiles():
    def build(optimizer):
        model = classifier(optimizer)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=True)
        return model

    (x, y), validation = digits()
    fit = {"x": x, "y": y, "epochs": 2, "batch_size": 48, "validation_data": validation}
    check_same(build, fit, make=keras.optimizers.Adam)


@compiles
@pytest.mark.parametrize(
    "make",
    [CosineDecay, lambda lr: LinearDecay(0.0, lr, over=1) >> CosineDecay(lr).per_epoch(), OneCycle],
    ids=["decay", "sequence", "one cycle"],
)
def test_a_schedule_gives_each_step_its_rate(make):
    x, y = line_data()
    fit = {"x": x, "y": y, "epochs": 3, "batch_size": 16, "validation_data": (x, -y)}
    for row in sweep(schedule=make).run(line, **fit).rows:
        assert row.route == FAST, row.route_reason
        rate = row.trial.learning_rate
        with_schedule = fit | {"callbacks": [make(rate)]}
        history = by_hand(line, keras.optimizers.SGD(rate), with_schedule)
        assert row.logs == history
        assert list(row.logs) == list(history)


def several(lr):
    """Return what moves all that Adam has."""
    return ParamScheduler(
        weight_decay=Constant(0.1) * CosineDecay(1.0),
        learning_rate=CosineDecay(lr),
        beta_1=PiecewiseConstant([1], [0.8, 0.95]),
    )


@pytest.mark.full
@compiles
@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (several, keras.optimizers.AdamW),
        (OneCycle, lambda rate=0.1: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)),
    ],
    ids=["weight decay and betas", "momentum"],
)
def test_other_hyperparameters_move_in_each_step(schedule, make):
    (x, y), validation = digits()
    fit = {"x": x, "y": y, "epochs": 3, "batch_size": 48, "validation_data": validation}
    swept = sweep((0.001, 0.01), schedule=schedule, optimizers=[make()])
    for row in swept.run(classifier, **fit).rows:
        assert row.route == FAST, row.route_reason
        rate = row.trial.learning_rate
        history = by_hand(classifier, make(rate), fit | {"callbacks": [schedule(rate)]})
        assert row.logs == history
        assert list(row.logs) == list(history)


@pytest.mark.full
@compiles
@pytest.mark.parametrize("rates", [(0.1, 1e30), (1e30, 1e32)])
def test_a_diverged_trial_is_what_it_is_by_fit(rates):
    fast = run_line(sweep(rates))
    slow = run_line(sweep(rates), callbacks=[keras.callbacks.Callback()])
    assert {row.status for row in fast.rows} >= {"diverged"}
    for one, other in zip(fast.rows, slow.rows, strict=True):
        assert (one.route, other.route) == (FAST, "fit")
        told = ("status", "reason", "epochs", "steps", "logs")
        assert [getattr(one, name) for name in told] == [getattr(other, name) for name in told]


@compiles
def test_an_exception_in_an_epoch_fails_that_trial_alone(monkeypatch):
    whole = run_line(sweep((0.01, 1.0)))
    on_epoch_end = TrialWatch.on_epoch_end
    begun = []

    def break_the_second(watch, epoch, logs=None):
        begun.append(epoch)
        if len(begun) == 5:
            raise OSError("disk full")
        on_epoch_end(watch, epoch, logs)

    monkeypatch.setattr(TrialWatch, "on_epoch_end", break_the_second)
    result = run_line(sweep((0.01, 1.0)))
    assert [row.status for row in result.rows] == ["trained", "failed", "trained"]
    assert [row.logs for row in result.rows[::2]] == [row.logs for row in whole.rows[::2]]


# The way round ------------------------------------------------------------------------------------


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


@compiles
def test_the_orders_are_those_in_which_fit_reads():
    rows = np.arange(30)
    read = EpochData(x=rows, batch_size=8, shuffle=True)
    keras.utils.set_random_seed(3)
    orders = read.orders(3, reads_ahead=False)
    first = [next(orders) for _ in range(2)]
    keras.utils.set_random_seed(3)
    again = read.orders(3, reads_ahead=False)
    assert all(np.array_equal(one, next(again)) for one in first)
    assert all(np.array_equal(np.sort(one), rows) for one in first)
    assert not np.array_equal(first[0], rows)
    keras.utils.set_random_seed(4)
    assert not np.array_equal(first[0], next(read.orders(4, reads_ahead=False)))


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


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX scans")
def test_a_step_that_cannot_be_scanned_is_called(monkeypatch):
    import jax

    def scan(*args, **options):
        raise TypeError("carry")

    monkeypatch.setattr(jax.lax, "scan", scan)
    x, y = line_data()
    check_same(line, {"x": x, "y": y, "epochs": 2, "batch_size": 8}, route="steps without hooks")
