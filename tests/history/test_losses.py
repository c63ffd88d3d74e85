"""The losses of a record are those of the batches."""

import keras
import numpy as np
import pytest
from regression import CLOSE, RATE, Sized, X, Y, by_hand, linear, record
from selection import mostly_full

from keras_lr import Constant, LRHistory

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
compiled = pytest.mark.skipif(BACKEND == "torch", reason="Keras takes no such option on PyTorch")


@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (6, 6, 6, 5), (11, 11, 1), (9,), (1,) * 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_the_batches(sizes, weighted):
    weights = np.linspace(0, 3, 23).astype("float32") if weighted else None
    data = Sized(sizes, weights)
    history = record(linear(), data)
    np.testing.assert_allclose(history.loss, by_hand(data, 3), **CLOSE)


def test_losses_of_arrays_with_a_short_last_batch_and_validation():
    history = LRHistory()
    linear().fit(
        *(X, Y),
        batch_size=4,
        validation_data=(X[:5], Y[:5]),
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[RATE, history],
    )
    data = Sized([4, 4, 4, 4, 4, 3])
    np.testing.assert_allclose(history.loss, by_hand(data, 3), **CLOSE)
    assert history == RATE.history


@pytest.mark.parametrize("sizes", [(2, 8, 1, 6, 4), (4, 1, 4, 4)])
def test_losses_of_batches_that_vary_are_exact(sizes):
    data = Sized(sizes)
    history = record(linear(), data)
    np.testing.assert_allclose(history.loss, by_hand(data, 3), **CLOSE)


def test_losses_of_a_long_epoch_stay_close():
    """Over 600 batches the running mean loses digits, and the batch's own loss with it."""
    x, y = np.tile(X[:20], (60, 1)), np.tile(Y[:20], (60, 1))
    schedule = Constant(1e-3)
    linear().fit(x, y, batch_size=2, epochs=1, shuffle=False, verbose=0, callbacks=[schedule])
    batches = [(x[i : i + 2], y[i : i + 2]) for i in range(0, len(x), 2)]
    expected = by_hand(batches, 1, Constant(1e-3))
    np.testing.assert_allclose(schedule.history.loss, expected, atol=1e-3)


@compiled
@pytest.mark.parametrize("steps_per_execution", [2, 4])
def test_the_rows_of_an_execution_share_its_mean_loss(steps_per_execution):
    data = Sized((5, 5, 5, 5, 3))
    history = record(linear(steps_per_execution=steps_per_execution), data)
    own, sizes = by_hand(data, 3).reshape(3, 5), np.array([5, 5, 5, 5, 3])
    expected = own.copy()
    for first in range(0, 5, steps_per_execution):
        part = slice(first, first + steps_per_execution)
        mean = (own[:, part] * sizes[part]).sum(axis=1) / sizes[part].sum()
        expected[:, part] = mean[:, None]
    np.testing.assert_allclose(history.loss, expected.reshape(-1), **CLOSE)
    np.testing.assert_array_equal(history.learning_rate, np.float32(values(3, 5)))


def values(epochs, steps):
    return RATE.values(epochs=epochs, steps_per_epoch=steps)


if BACKEND == "tensorflow":

    def update(model, x, y):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.mean((model(x, training=True) - y) ** 2)
        weights = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

elif BACKEND == "torch":

    def update(model, x, y):
        model.zero_grad()
        loss = keras.ops.mean((model(x, training=True) - y) ** 2)
        loss.backward()
        weights = model.trainable_weights
        model.optimizer.apply([weight.value.grad for weight in weights], weights)
        return loss.detach()


class Raw(keras.Sequential):
    """A model whose step returns the loss of the batch, not a running mean."""

    def train_step(self, data):
        return {"loss": update(self, *data)}


class Tracker(keras.Sequential):
    """A model that averages its loss itself, over batches."""

    @property
    def metrics(self):
        if not hasattr(self, "tracker"):
            self.tracker = keras.metrics.Mean(name="loss")
        return [self.tracker]

    def train_step(self, data):
        self.metrics[0].update_state(update(self, *data))
        return {"loss": self.tracker.result()}


class WeightedTracker(Tracker):
    """A model that averages its loss itself, over samples."""

    def train_step(self, data):
        loss = update(self, *data)
        self.metrics[0].update_state(loss, sample_weight=keras.ops.shape(data[0])[0])
        return {"loss": self.tracker.result()}


own_steps = pytest.mark.skipif(BACKEND == "jax", reason="on JAX a train_step has no side effects")


@own_steps
@pytest.mark.parametrize("kind", [Raw, Tracker, WeightedTracker])
@pytest.mark.parametrize("loss", [None, "mse"])
@pytest.mark.parametrize("sizes", mostly_full([(5, 5, 5, 5), (6, 6, 6, 5)], [(6, 6, 6, 5)]))
def test_losses_of_a_custom_train_step(kind, loss, sizes):
    data = Sized(sizes)
    history = record(linear(kind, loss=loss), data)
    np.testing.assert_allclose(history.loss, by_hand(data, 3), **CLOSE)
    np.testing.assert_array_equal(history.learning_rate, np.float32(values(3, 4)))


@own_steps
def test_a_train_step_without_a_loss():
    class Silent(keras.Sequential):
        def train_step(self, data):
            return {"score": update(self, *data)}

    history = record(linear(Silent, loss=None), Sized((5, 5)))
    assert np.isnan(history.loss).all()
    assert len(history["score"]) == len(history) == 6
    assert "last loss nan" in repr(history)


def test_metrics_are_recorded_as_they_are_logged():
    class Logs(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append(logs)

    logs, history = Logs(), LRHistory()
    record(linear(metrics=["mae"]), Sized((6, 6, 5)), 2, [history, logs])
    expected = [float(keras.ops.convert_to_numpy(log["mae"])) for log in logs.seen]
    np.testing.assert_allclose(history["mae"], expected, rtol=1e-6)
    assert history.names[:4] == ["step", "epoch", "learning_rate", "loss"]
    assert "mae" in list(history)


def test_the_reader_of_losses_reads_them():
    """The instrument itself: by hand and by Keras, the loss of an epoch is the same."""
    data = Sized((6, 6, 6, 5))
    model = linear()
    record(model, data)
    own = by_hand(data, 3).reshape(3, 4)
    expected = (own * [6, 6, 6, 5]).sum(axis=1) / 23
    np.testing.assert_allclose(model.history.history["loss"], expected, rtol=1e-5)
