"""The losses of a record are those of the batches, whatever averages them, at every digit."""

import keras
import numpy as np
import pytest

from keras_lr import Constant, LRHistory

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
compiled = pytest.mark.skipif(BACKEND == "torch", reason="Keras takes no such option on PyTorch")
own_steps = pytest.mark.skipif(BACKEND == "jax", reason="on JAX a train_step has no side effects")
LOSSES = np.array([5.0, 1.0, 4.0, 2.0, 8.0, 0.5], "float32")


class Labels(keras.losses.Loss):
    """The label is the loss, so that a test decides the loss of each batch."""

    def call(self, y_true, y_pred):
        return y_true + 0.0 * y_pred


def fit(model, losses, *callbacks, size=1, epochs=1, **options):
    y = np.repeat(np.asarray(losses, "float32"), size)[:, None]
    return model.fit(
        *(np.ones_like(y), y),
        batch_size=size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def dense(**options):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), Labels(), **options)
    return model


# Digits.

STEEP = [1e6, *np.linspace(0.5, 1.5, 50)]
"""A running mean in float32 that begins with a million keeps no digit of what follows."""


@pytest.mark.parametrize("callback", [LRHistory, lambda: Constant(0.0)], ids=["alone", "moved"])
def test_a_loss_keeps_its_digits_however_large_the_mean_is(callback):
    callback = callback()
    model = dense()
    fit(model, STEEP, callback, size=3, epochs=2)
    history = callback if isinstance(callback, LRHistory) else callback.history
    np.testing.assert_allclose(history.loss, STEEP * 2, rtol=3e-7)
    # What Keras shows is what it shows without us.
    plain = fit(dense(), STEEP, size=3, epochs=2).history["loss"]
    assert model.history.history["loss"] == plain


@compiled
def test_losses_of_long_executions():
    history = LRHistory()
    fit(dense(steps_per_execution=4), [5.0, 1.0, 4.0, 2.0, 8.0, 0.5], history, size=2, epochs=2)
    np.testing.assert_allclose(history.loss, [3.0] * 4 + [4.25] * 2 + [3.0] * 4 + [4.25] * 2)


@pytest.mark.slow
def test_the_losses_of_a_long_epoch_keep_six_digits():
    values = np.random.default_rng(0).uniform(0.5, 1.5, 100_000).astype("float32")
    history = LRHistory()
    fit(dense(), values, history)
    np.testing.assert_allclose(history.loss, values, rtol=1e-6)


# Trackers of any name.


class Own(keras.Model):
    """A model with a custom step that averages its loss in a metric."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.dense.build((None, 1))
        self.total = keras.metrics.Mean(name="total_loss")
        self.other = keras.metrics.Mean(name="loss")
        self.built = True
        self.compile(keras.optimizers.SGD(0.0))

    @property
    def metrics(self):
        return [self.total, self.other]

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        loss = keras.ops.mean(self.dense(data[0]) + data[1])
        weights = self.dense.trainable_variables
        self.optimizer.apply([keras.ops.zeros_like(one.value) for one in weights], weights)
        return self.average(keras.ops.stop_gradient(loss))

    def average(self, loss):
        self.total.update_state(loss)
        return {"loss": self.total.result()}


class Two(Own):
    def average(self, loss):
        self.other.update_state(100.0 * loss)
        self.total.update_state(loss)
        return {"loss": self.total.result(), "regularization": self.other.result()}


class Untracked(Own):
    """Keras does not know of the metric, and never resets it."""

    @property
    def metrics(self):
        return []


class Listed(Own):
    def __init__(self):
        super().__init__()
        self.trackers = {"all": [keras.metrics.Mean(name="any")]}

    @property
    def metrics(self):
        return [self.trackers["all"][0]]

    def average(self, loss):
        self.metrics[0].update_state(loss)
        return {"loss": self.metrics[0].result()}


class Summed(Own):
    def __init__(self):
        super().__init__()
        self.total = keras.metrics.Sum(name="sum_of_losses")


class ResetEachStep(Own):
    def average(self, loss):
        self.total.reset_state()
        return super().average(loss)


class TwicePerStep(Own):
    """Averages two halves of a batch."""

    def average(self, loss):
        self.total.update_state(0.5 * loss)
        self.total.update_state(1.5 * loss)
        return {"loss": self.total.result()}


class Raw(Own):
    """Logs the loss itself, and averages it for something else."""

    def average(self, loss):
        self.total.update_state(loss)
        self.other.update_state(loss)
        return {"loss": loss, "mean": self.total.result()}


class Called(Own):
    def average(self, loss):
        return {"loss": self.total(loss)}


@own_steps
@pytest.mark.parametrize(
    "kind", [Own, Two, Untracked, Listed, Summed, ResetEachStep, TwicePerStep, Called, Raw]
)
@pytest.mark.parametrize("callback", [LRHistory, lambda: Constant(0.0)], ids=["alone", "moved"])
def test_losses_that_a_custom_step_averages(kind, callback):
    callback, model = callback(), kind()
    fit(model, LOSSES, callback, size=4, epochs=2)
    history = callback if isinstance(callback, LRHistory) else callback.history
    np.testing.assert_allclose(history.loss, [*LOSSES, *LOSSES], rtol=1e-6)
    for name in ("total", "other"):
        assert "assign_add" not in vars(getattr(model, name).total)
        assert "result" not in vars(getattr(model, name))


@pytest.mark.skipif(BACKEND != "jax", reason="a step of JAX takes and returns the state")
def test_losses_that_a_custom_step_of_jax_averages():
    class Stateless(Own):
        def train_step(self, state, data):
            *rest, metrics = state
            loss = keras.ops.mean(data[1])
            new = self.total.stateless_update_state(metrics[:2], loss)
            logs = {"loss": self.total.stateless_result(new)}
            return logs, (*rest, [*new, *metrics[2:]])

    history = LRHistory()
    fit(Stateless(), LOSSES, history, size=4, epochs=2)
    np.testing.assert_allclose(history.loss, [*LOSSES, *LOSSES], rtol=1e-6)


# Metrics that are no mean over samples.


class Greatest(keras.metrics.Metric):
    def __init__(self, name):
        super().__init__(name=name)
        self.greatest = self.add_variable(shape=(), initializer="zeros", name="greatest")

    def update_state(self, value):
        self.greatest.assign(keras.ops.maximum(self.greatest, value))

    def result(self):
        return 1.0 * self.greatest


class Worst(Own):
    """Logs the worst loss of the epoch so far."""

    def __init__(self):
        super().__init__()
        self.total = Greatest(name="loss")

    @property
    def metrics(self):
        return [self.total]


@own_steps
def test_a_loss_of_which_the_batches_do_not_follow_is_of_the_epoch_so_far():
    history = LRHistory()
    fit(Worst(), LOSSES, history, size=4)
    np.testing.assert_allclose(history["loss_so_far"], np.maximum.accumulate(LOSSES))
    assert np.isnan(history.loss).all()


class Composed(Own):
    """Logs as its loss what it computes from the means of its parts."""

    def __init__(self, logs_parts):
        super().__init__()
        self.logs_parts = logs_parts

    def average(self, loss):
        self.total.update_state(loss)
        self.other.update_state(2.0 * loss)
        parts = {"a": self.total.result(), "b": self.other.result()} if self.logs_parts else {}
        return {"loss": self.total.result() + self.other.result()} | parts


@own_steps
@pytest.mark.parametrize("logs_parts", [False, True])
def test_a_loss_that_is_computed_from_means_is_of_the_epoch_so_far(logs_parts):
    history = LRHistory()
    fit(Composed(logs_parts), LOSSES, history, size=2)
    assert np.isnan(history.loss).all()
    so_far = 3.0 * np.cumsum(LOSSES) / np.arange(1, 7)
    np.testing.assert_allclose(history["loss_so_far"], so_far, rtol=1e-6)


class Computed(Own):
    """Logs as its loss what it computes from the mean that is called "loss"."""

    def __init__(self, formula, collects):
        super().__init__()
        self.total = keras.metrics.Mean(name="loss")
        self.other = keras.metrics.Mean(name="other")
        self.formula, self.collects = formula, collects

    def average(self, loss):
        self.total.update_state(loss)
        logs = self.get_metrics_result() if self.collects else {"loss": self.total.result()}
        return {"loss": self.formula(logs["loss"])}


@own_steps
@pytest.mark.parametrize("collects", [False, True])
@pytest.mark.parametrize(
    "formula", [lambda x: 2.0 * x, lambda x: x + 1.0, lambda x: -x, keras.ops.sqrt]
)
def test_a_loss_that_is_computed_from_its_own_mean_is_of_the_epoch_so_far(formula, collects):
    history = LRHistory()
    losses = [3.0, 1.0, 2.0, 4.0, 0.5, 1.0, 3.5, 3.0]
    fit(Computed(formula, collects), losses, history, size=2)
    assert np.isnan(history.loss).all()
    so_far = np.cumsum(losses) / np.arange(1, 9)
    expected = keras.ops.convert_to_numpy(formula(keras.ops.convert_to_tensor(so_far)))
    np.testing.assert_allclose(history["loss_so_far"], expected, rtol=1e-6)


class Replaced(Computed):
    """Logs the loss of the batch, with a penalty that its mean is without."""

    def average(self, loss):
        self.total.update_state(loss)
        return self.get_metrics_result() | {"loss": self.formula(loss)}


@own_steps
@pytest.mark.parametrize("formula", [lambda x: 2.0 * x, lambda x: x + 1.0, lambda x: -x])
def test_a_loss_that_is_computed_from_that_of_the_batch_is_its_own(formula):
    history = LRHistory()
    losses = np.array([3.0, 1.0, 2.0, 4.0, 0.5, 1.0, 3.5, 3.0])
    fit(Replaced(formula, True), losses, history, size=2)
    np.testing.assert_allclose(history.loss, formula(losses), rtol=1e-6)
    assert "loss_so_far" not in history.names


class Renamed(Own):
    """Logs metrics that are no mean under names which are not theirs, and a loss as it is."""

    def __init__(self):
        super().__init__()
        self.worst, self.sum = Greatest(name="worst"), keras.metrics.Sum(name="sum")

    @property
    def metrics(self):
        return [self.worst, self.sum]

    def average(self, loss):
        self.worst.update_state(loss)
        self.sum.update_state(loss)
        return {"loss": self.worst.result(), "cost": self.sum.result(), "plain": loss}


@own_steps
@pytest.mark.parametrize("callback", [LRHistory, lambda: Constant(0.0)], ids=["alone", "moved"])
def test_what_a_custom_step_renames_is_of_the_epoch_so_far(callback):
    callback, model = callback(), Renamed()
    # In the second fit nothing is traced.
    for _ in range(2):
        fit(model, LOSSES, callback, size=4)
        history = callback if isinstance(callback, LRHistory) else callback.history
        np.testing.assert_allclose(history["loss_so_far"], np.maximum.accumulate(LOSSES))
        np.testing.assert_allclose(history["cost_so_far"], np.cumsum(LOSSES))
        np.testing.assert_allclose(history["plain"], LOSSES)
        assert np.isnan(history.loss).all()
        assert not {"cost", "plain_so_far"} & {*history.names}
    assert "result" not in vars(model.worst)


@pytest.mark.skipif(BACKEND != "jax", reason="a step of JAX takes and returns the state")
@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_what_a_custom_step_of_jax_renames_is_of_the_epoch_so_far(steps_per_execution):
    class Stateless(Renamed):
        def train_step(self, state, data):
            *rest, metrics = state
            loss = keras.ops.mean(data[1])
            new = self.worst.stateless_update_state(metrics[:1], loss)
            logs = {"loss": self.worst.stateless_result(new), "plain": loss}
            return logs, (*rest, [*new, *metrics[1:]])

    model, history = Stateless(), LRHistory()
    model.compile("sgd", steps_per_execution=steps_per_execution)
    fit(model, LOSSES, history, size=4)
    ends = slice(steps_per_execution - 1, None, steps_per_execution)
    worst = np.maximum.accumulate(LOSSES)
    np.testing.assert_allclose(history["loss_so_far"][ends], worst[ends])
    np.testing.assert_allclose(history["plain"][ends], LOSSES[ends])


def test_a_metric_that_is_no_mean_says_that_it_is_of_the_epoch_so_far():
    metrics = [
        keras.metrics.RootMeanSquaredError(name="rmse"),
        keras.metrics.AUC(name="auc"),
        keras.metrics.Recall(name="recall"),
        keras.metrics.MeanAbsoluteError(name="mae"),
    ]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=metrics, weighted_metrics=["mse"])
    history = LRHistory()
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0], "float32")
    x = np.linspace(-1.0, 1.0, 6, dtype="float32")[:, None]
    kept = model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[history]).history
    so_far = ["rmse_so_far", "auc_so_far", "recall_so_far", "mse_so_far"]
    assert sorted(history.names[4:]) == sorted([*so_far, "mae"])
    for name in (*so_far, "mae"):
        logged = kept[name.removesuffix("_so_far")][-1]
        np.testing.assert_allclose(history[name][-1], logged, rtol=1e-6)
    error = model.predict(x, verbose=0)[:, 0] - y
    expected = [np.sqrt(np.mean(error[:n] ** 2)) for n in (2, 4, 6)]
    np.testing.assert_allclose(history["rmse_so_far"], expected, rtol=1e-5)
    np.testing.assert_allclose(history.loss, (error**2).reshape(3, 2).mean(1), rtol=1e-5)


@pytest.mark.parametrize("eager", [False, True])
def test_a_count_is_recorded_as_it_was_after_each_step(eager):
    metrics = [keras.metrics.TruePositives(name="hits")]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=metrics, run_eagerly=eager)
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    history = LRHistory()
    x = np.array([1.0, -1.0, 1.0, 1.0], "float32")[:, None]
    y = np.ones_like(x)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[history])
    assert history["hits_so_far"].tolist() == [1.0, 1.0, 2.0, 3.0]
