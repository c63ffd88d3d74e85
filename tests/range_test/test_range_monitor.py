"""What a range test reads: each batch's own value of whatever it watches, and from whose rate."""

import keras
import numpy as np
import pytest
from models import X, Y, network
from selection import mostly_full

from keras_lr import LRHistory, LRRangeTest, NoSuggestion, from_config, load, save, to_config

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


def test_rules_read_a_metric_to_be_maximised_the_right_way_up():
    logs = np.linspace(-6, 1, 80)
    loss = (logs + 2.0) ** 2
    from keras_lr import RangeTestResult

    down = RangeTestResult.from_curve(10.0**logs, loss)
    up = RangeTestResult.from_curve(10.0**logs, 7.0 - loss, up=True, monitor="accuracy")
    np.testing.assert_allclose(up.losses, 7.0 - loss)
    assert up.suggestion == pytest.approx(down.suggestion)
    assert up.bounds == pytest.approx(down.bounds)
    assert up.confidence == down.confidence
    explanation = "More of 'accuracy' is better: here, the loss is its negative."
    assert up.report() == f"{down.report()}\n{explanation}"


# How much a run says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "run", "bar", "words"),
    [
        (1, 0, False, False),
        pytest.param(0, 1, True, True, marks=pytest.mark.full),
        (0, 2, True, True),
        pytest.param(0, "auto", True, True, marks=pytest.mark.full),
        pytest.param(0, True, True, True, marks=pytest.mark.full),
        pytest.param(1, False, False, False, marks=pytest.mark.full),
    ],
)
def test_verbose_is_taken_as_fit_takes_it(capsys, own, run, bar, words):
    test = LRRangeTest(steps=20, budget=60, rule="edge", verbose=own)
    result = test.run(network(), X, Y, verbose=run)
    shown = capsys.readouterr().out
    assert ("rate" in shown.removesuffix(f"{result.report()}\n")) is bar
    assert shown.endswith(f"{result.report()}\n") is words
    assert shown.count("/step - rate") == 1 or run != 2
    assert test.verbose == own


@pytest.mark.parametrize("verbose", [3, -1, "loud", None, [1]])
def test_verbose_that_fit_does_not_take_is_refused(verbose):
    with pytest.raises(ValueError, match=r"`verbose` must be 0, 1, 2 or 'auto'"):
        LRRangeTest(verbose=0).run(network(), X, Y, verbose=verbose)


# Whose rate it is ---------------------------------------------------------------------------------


class TwoOptimizers(keras.Model):
    """Trains by an optimizer of its own, beside the idle one that it is compiled with."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.dense.build((None, 1))
        self.built = True

    def compile(self, own):
        super().compile(optimizer="sgd", loss="mse")
        self.own = own

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        weights = list(self.dense.trainable_variables)
        if BACKEND == "torch":
            self.zero_grad()
            loss = keras.ops.mean((self.dense(data[0]) - 3.0) ** 2)
            loss.backward()
            self.own.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss.detach()}
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.dense(data[0]) - 3.0) ** 2)
        self.own.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def two_optimizers():
    model = TwoOptimizers()
    model.compile(keras.optimizers.SGD(0.01))
    return model


ONES = np.ones((40, 1), "float32")
needs_variables = pytest.mark.skipif(BACKEND == "jax", reason="JAX's step has the model's own")


@needs_variables
def test_an_optimizer_that_trains_nothing_is_an_error():
    model = two_optimizers()
    with pytest.raises(
        ValueError, match=r"optimizer 'sgd.*made no update.*optimizer=None.*optimizer, own"
    ):
        LRRangeTest(verbose=0).run(model, ONES, ONES, batch_size=4)
    with pytest.raises(ValueError, match="made no update"):
        model.fit(ONES, ONES, batch_size=4, verbose=0, callbacks=[LRRangeTest(verbose=0)])


@pytest.mark.full
@needs_variables
@pytest.mark.parametrize("by_name", [True, False])
def test_an_optimizer_is_named_or_given(by_name):
    model = two_optimizers()
    which = "own" if by_name else model.own
    result = LRRangeTest(verbose=0, optimizer=which).run(model, ONES, ONES, batch_size=4)
    # (w - 3) ** 2 has the curvature 2, so that SGD is stable below 1.
    assert 0.01 < result.suggestion < 1.0
    assert float(model.own.learning_rate) == pytest.approx(0.01)
    assert int(model.own.iterations) == 0
    test = LRRangeTest(verbose=0, optimizer=which, apply=True)
    model.fit(ONES, ONES, batch_size=4, verbose=0, callbacks=[test])
    assert float(model.own.learning_rate) == pytest.approx(test.result.suggestion)


@pytest.mark.full
def test_the_model_s_own_optimizer_may_be_named():
    named = LRRangeTest(verbose=0, steps=20, budget=60, optimizer="optimizer")
    plain = LRRangeTest(verbose=0, steps=20, budget=60)
    assert named.run(network(), X, Y).suggestion == plain.run(network(), X, Y).suggestion
    with pytest.raises(ValueError, match=r"no optimizer named 'optimiser'.*Did you mean"):
        LRRangeTest(verbose=0, optimizer="optimiser").run(network(), X, Y)


def test_a_config_names_an_optimizer_and_holds_none(tmp_path):
    test = LRRangeTest(optimizer="own", auto=None)
    assert from_config(to_config(test)) == test
    save(test, tmp_path / "test.yaml")
    assert load(tmp_path / "test.yaml") in (test, [test])
    assert LRRangeTest.from_config(test.get_config()) == test
    assert "optimizer" not in LRRangeTest().get_config()
    with pytest.raises(ValueError, match="Give the name of the model's attribute"):
        LRRangeTest(optimizer=keras.optimizers.SGD()).get_config()
    for wrong in (0.1, ""):
        with pytest.raises((TypeError, ValueError), match="`optimizer` must be the name"):
            LRRangeTest(optimizer=wrong)


# Which words it uses ------------------------------------------------------------------------------


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
