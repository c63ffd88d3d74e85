"""What a range test reads: each batch's own value of whatever it watches, and which way is up."""

import keras
import numpy as np
import pytest
from models import X, Y, network
from selection import mostly_full
from short_tests import quick, two_outputs

from keras_lr import LRHistory, LRRangeTest, NoSuggestion, RangeTestResult

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(320, 3)).astype("float32")
TARGETS = RANDOM.normal(size=(320, 1)).astype("float32")
CLASSES = (TARGETS > 0).astype("float32")
WEIGHTS = RANDOM.uniform(0.5, 2.0, 320).astype("float32")


def still(**arguments):
    """A test at rates that change nothing."""
    low = {"min_lr": 1e-12, "max_lr": 1e-11, "steps": 10, "rule": "edge", "verbose": 0}
    return LRRangeTest(**low | arguments)


class Spread(keras.metrics.Metric):
    """The difference of the largest and the least prediction so far."""

    def __init__(self, name="spread"):
        super().__init__(name=name)
        self.low = self.add_variable((), lambda shape, dtype: keras.ops.full(shape, 1e9), name="l")
        self.high = self.add_variable(
            (), lambda shape, dtype: keras.ops.full(shape, -1e9), name="h"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.low.assign(keras.ops.minimum(self.low, keras.ops.min(y_pred)))
        self.high.assign(keras.ops.maximum(self.high, keras.ops.max(y_pred)))

    def result(self):
        return self.high - self.low

    def reset_state(self):
        self.low.assign(1e9)
        self.high.assign(-1e9)


def head(y):
    return "sigmoid" if y is CLASSES else None


METRICS = {
    "rmse": (lambda: keras.metrics.RootMeanSquaredError(name="rmse"), TARGETS, False),
    "r2": (lambda: keras.metrics.R2Score(name="r2"), TARGETS, False),
    "auc": (lambda: keras.metrics.AUC(name="auc"), CLASSES, False),
    "recall": (lambda: keras.metrics.Recall(name="recall"), CLASSES, False),
    "f1": (
        lambda: keras.metrics.F1Score(threshold=0.5, average="micro", name="f1"),
        CLASSES,
        False,
    ),
    "iou": (lambda: keras.metrics.BinaryIoU(name="iou"), CLASSES, False),
    "spread": (Spread, TARGETS, False),
    "weighted_mae": (lambda: keras.metrics.MeanAbsoluteError(name="mae"), TARGETS, True),
}


@pytest.mark.parametrize("monitor", METRICS)
def test_a_metric_is_that_of_each_batch(monitor):
    make, y, weighted = METRICS[monitor]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, head(y))])
    kind = "weighted_metrics" if weighted else "metrics"
    model.compile(keras.optimizers.SGD(), "mse", **{kind: [make()]})
    prediction = keras.ops.convert_to_numpy(model(INPUTS))
    expected = []
    for i in range(0, 320, 32):
        metric, rows = make(), slice(i, i + 32)
        metric.update_state(y[rows], prediction[rows], WEIGHTS[rows] if weighted else None)
        expected.append(float(metric.result()))
    name = "mae" if weighted else monitor
    fit = {"batch_size": 32, "shuffle": False, "sample_weight": WEIGHTS if weighted else None}
    result = still(monitor=name, mode="max").run(model, INPUTS, y, **fit)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(result.values, expected, rtol=1e-4)
    np.testing.assert_array_equal(result.losses, result.values)
    assert result.up


class OwnTracker(keras.Model):
    """Averages its loss itself, in a metric of another name, and shows that as its loss."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.dense.build((None, 1))
        self.total = keras.metrics.Mean(name="total_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.total]

    def call(self, x):
        return self.dense(x)

    def loss_of(self, x, y):
        return keras.ops.mean(self.dense(x) + y)

    def train_step(self, *arguments):
        return getattr(self, f"train_on_{BACKEND}")(*arguments)

    def train_on_tensorflow(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.loss_of(*data[:2])
        weights = self.dense.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.total.update_state(loss)
        return {"loss": self.total.result()}

    def train_on_torch(self, data):
        self.zero_grad()
        loss = self.loss_of(*data[:2])
        loss.backward()
        weights = list(self.dense.trainable_weights)
        gradients = [weight.value.grad for weight in weights]
        import torch

        with torch.no_grad():
            self.optimizer.apply(gradients, weights)
        self.total.update_state(loss.detach())
        return {"loss": self.total.result()}

    def train_on_jax(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data[:2]

        def loss_of(trainable):
            prediction, _ = self.stateless_call(trainable, others, x)
            return keras.ops.mean(prediction + y)

        loss, gradients = jax.value_and_grad(loss_of)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        metrics = self.total.stateless_update_state(metrics, loss)
        logs = {"loss": self.total.stateless_result(metrics)}
        return logs, (trainable, others, optimizer, metrics)


def test_a_loss_that_the_model_averages_itself_is_that_of_each_batch():
    model, record = OwnTracker(), LRHistory()
    model.compile(keras.optimizers.SGD())
    y = np.repeat(np.array([5.0, 1.0, 4.0, 2.0, 9.0], "float32"), 8)[:, None]
    fit = {"batch_size": 8, "shuffle": False, "callbacks": [record]}
    result = still().run(model, np.ones((40, 1), "float32"), y, **fit)
    expected = [5, 1, 4, 2, 9, 5, 1, 4, 2, 9]
    np.testing.assert_allclose(result.values, expected, rtol=1e-5)
    np.testing.assert_allclose(record.loss, expected, rtol=1e-5)
    again = model.fit(np.ones((40, 1), "float32"), y, batch_size=8, verbose=0, shuffle=False)
    # At the rate 0.01 each update lowers the loss by 0.01, and two of them on average.
    np.testing.assert_allclose(again.history["loss"], [4.2 - 0.02], rtol=1e-5)


class Unlisted(OwnTracker):
    """A model whose metric Keras does not reset."""

    @property
    def metrics(self):
        return []


@pytest.mark.skipif(BACKEND == "jax", reason="JAX's step has the metrics that a model lists")
def test_a_loss_in_a_metric_that_the_model_does_not_list_is_that_of_each_batch():
    model = Unlisted()
    model.compile(keras.optimizers.SGD())
    y = np.repeat(np.array([5.0, 1.0, 4.0, 2.0, 9.0], "float32"), 8)[:, None]
    result = still().run(model, np.ones((40, 1), "float32"), y, batch_size=8, shuffle=False)
    np.testing.assert_allclose(result.values, [5, 1, 4, 2, 9] * 2, rtol=1e-5)
    assert float(keras.ops.convert_to_numpy(model.total.count)) == 0.0


@pytest.mark.full
def test_every_ramp_has_the_losses_of_outputs():
    y = {"a": X[:, :1], "b": X[:, 1:2]}
    results = []
    for repeats in (1, 3):
        keras.utils.set_random_seed(5)
        test = quick(repeats=repeats, monitor="a_loss")
        results.append(test.run(two_outputs(), X, y, batch_size=len(X)))
    alone, three = results
    np.testing.assert_allclose(three.lower[:5], alone.values[:5], rtol=1e-3)
    np.testing.assert_allclose(three.upper[:5], alone.values[:5], rtol=1e-3)


@pytest.mark.full
def test_a_validation_loss_is_measured_every_so_many_steps():
    test = quick(rule="edge", steps=40, monitor="val_loss", validate_every=4, stop_factor=1e9)
    result = test.run(network(), X, Y, validation_data=(X, Y))
    assert len(result.rates) == 10
    np.testing.assert_allclose(result.rates[[0, -1]], np.geomspace(1e-6, 10, 40)[[3, -1]])


# Which way is up ----------------------------------------------------------------------------------


def test_any_metric_can_be_watched():
    result = quick(rule="edge", steps=40, monitor="accuracy", mode="max").run(network(), X, Y)
    assert ((result.values >= 0) & (result.values <= 1)).all()


@pytest.mark.full
@pytest.mark.parametrize(
    ("monitor", "up", "compiled"),
    [
        ("a_mae", False, {"metrics": [["mae"], ["accuracy", "mae"]]}),
        ("b_accuracy", True, {"metrics": {"b": ["mae", "accuracy"]}}),
        ("val_b_r2", True, {"metrics": {"b": [keras.metrics.R2Score(name="r2")]}}),
        ("b_loss", False, {}),
        (
            "b_weighted_accuracy",
            True,
            {"metrics": {"b": "accuracy"}, "weighted_metrics": {"b": "accuracy"}},
        ),
    ],
)
def test_a_metric_of_a_model_just_compiled_knows_its_own_direction(monitor, up, compiled):
    y = [X[:, :1], (X[:, 1:2] > 0).astype("float32")]
    test = quick(monitor=monitor, validate_every=8)
    assert test.run(two_outputs(**compiled), X, y, validation_data=(X, y)).up is up


@pytest.mark.full
@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy"])
def test_a_model_just_compiled_can_be_watched_by_run_and_by_fit(monitor):
    arguments = {"validation_data": (X, Y)}
    assert quick(monitor=monitor, validate_every=8).run(network(), X, Y, **arguments).up
    test = quick(monitor=monitor, validate_every=8)
    network().fit(X, Y, verbose=0, callbacks=[test], **arguments)
    assert test.result.up
    assert test.result.monitor == monitor


def test_rules_read_a_metric_to_be_maximised_the_right_way_up():
    logs = np.linspace(-6, 1, 80)
    loss = (logs + 2.0) ** 2

    down = RangeTestResult.from_curve(10.0**logs, loss)
    up = RangeTestResult.from_curve(10.0**logs, 7.0 - loss, up=True, monitor="accuracy")
    np.testing.assert_allclose(up.losses, 7.0 - loss)
    assert up.suggestion == pytest.approx(down.suggestion)
    assert up.bounds == pytest.approx(down.bounds)
    assert up.confidence == down.confidence
    explanation = "A higher 'accuracy' is better: above, the loss stands for its negative."
    assert up.report() == f"{down.report()}\n{explanation}"


# Where the loss ends ------------------------------------------------------------------------------


def test_a_loss_below_zero_has_not_vanished():
    random = np.random.default_rng(0)
    x = random.normal(size=(4096, 8)).astype("float32")
    y = x[:, :4] + random.normal(size=(4096, 4)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    model.compile("sgd", lambda a, b: keras.ops.mean((a - b) ** 2, axis=-1) - 5.0)
    report = LRRangeTest(verbose=0).run(model, x, y, batch_size=32).report()
    assert "vanished" not in report
    assert "ended lowest" in report


def memorizing(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((100,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile(keras.optimizers.Adam(), loss)
    x = np.random.default_rng(0).normal(size=(64, 100)).astype("float32")
    y = np.random.default_rng(1).integers(2, size=(64, 1)).astype("float32")
    return LRRangeTest(verbose=0).run(model, x, y, batch_size=16)


def own_crossentropy(y, p):
    return keras.losses.binary_crossentropy(y, p)


@pytest.mark.full
def test_only_a_loss_that_is_known_to_end_at_zero_vanishes():
    assert "all but vanished" in memorizing(keras.losses.BinaryCrossentropy()).report()
    assert "vanished" not in memorizing(own_crossentropy).report()


def reward(y, p):
    return -keras.ops.mean(keras.ops.tanh(y * p), axis=-1)


@pytest.mark.skipif(BACKEND == "torch", reason="slow, and what is tested is no backend's")
@pytest.mark.parametrize("optimizer", mostly_full(["SGD", "Adam"], ["Adam"]))
@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(keras.losses.CosineSimilarity(), id="cosine"),
        pytest.param(reward, id="reward", marks=pytest.mark.full),
    ],
)
def test_a_loss_that_never_breaks_down_gets_a_rate_that_trains(loss, optimizer):
    random = np.random.default_rng(0)
    x = random.normal(size=(1024, 8)).astype("float32")
    y = np.tanh(x @ random.normal(size=(8, 4))).astype("float32")
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8,)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(4, "tanh")]
    model = keras.Sequential(layers)
    model.compile(getattr(keras.optimizers, optimizer)(), loss)
    start = model.get_weights()

    def loss_after(rate):
        model.set_weights(start)
        model.compile(getattr(keras.optimizers, optimizer)(rate), loss)
        model.fit(x, y, epochs=6, verbose=0)
        return model.evaluate(x, y, verbose=0)

    try:
        suggestion = LRRangeTest(verbose=0).run(model, x, y).suggestion
    except NoSuggestion:
        return
    untrained = model.evaluate(x, y, verbose=0)
    best = min(loss_after(10.0**log) for log in range(-2, 2))
    assert untrained - loss_after(suggestion) > 0.9 * (untrained - best)
