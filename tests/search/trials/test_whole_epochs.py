"""Trials that are trained by whole epochs: the numbers are those of ``fit``, bit for bit."""

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import classifier, convolutional, digits, line, line_data, scaled, sweep
from routes import BACKEND, FAST, by_hand, check_same, compiles, run_line

from keras_lr import Constant, CosineDecay, LinearDecay, OneCycle, ParamScheduler, PiecewiseConstant
from keras_lr._keras.whole_epochs.data import EpochData
from keras_lr.search.trials.watch import TrialWatch

pytestmark = pytest.mark.core

ahead = BACKEND == "jax" and keras.distribution.list_devices()[0].split(":")[0] != "cpu"
by_turns = pytest.mark.skipif(
    ahead, reason="on a GPU, Keras on JAX orders each batch before its turn"
)


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


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX scans")
def test_a_step_that_cannot_be_scanned_is_called(monkeypatch):
    import jax

    def scan(*args, **options):
        raise TypeError("carry")

    monkeypatch.setattr(jax.lax, "scan", scan)
    x, y = line_data()
    check_same(line, {"x": x, "y": y, "epochs": 2, "batch_size": 8}, route="steps without hooks")


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


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow warns of what it compiles")
def test_many_sweeps_in_one_process_do_not_warn_of_compiling(caplog):
    for _ in range(8):
        assert {row.route for row in run_line(sweep()).rows} == {FAST}
    assert [record.getMessage() for record in caplog.records if record.name == "tensorflow"] == []
