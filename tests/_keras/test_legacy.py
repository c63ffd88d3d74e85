"""The same callback objects on models of legacy Keras 2, ``tf_keras``."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lr import CosineDecay, LinearDecay, LRHistory, ParamScheduler, ReduceLROnPlateau
from keras_lr._keras.state.snapshot import state_preserved

tf_keras = pytest.importorskip("tf_keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("legacy Keras is TensorFlow's", allow_module_level=True)

tf = pytest.importorskip("tensorflow")

EPOCHS, STEPS, BATCH = 3, 4, 3
X = np.random.default_rng(0).normal(size=(STEPS * BATCH - 1, 2)).astype("float32")
Y = (X @ [[1.0], [-2.0]]).astype("float32")
START = np.array([[0.5], [0.5]], "float32")


def build(**options):
    dense = tf_keras.layers.Dense(1, use_bias=False, input_shape=(2,))
    model = tf_keras.Sequential([dense])
    dense.set_weights([START])
    model.compile(tf_keras.optimizers.SGD(1.0), "mse", **options)
    return model


def fit(model, *callbacks, **options):
    options = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0} | options
    history = model.fit(X, Y, callbacks=list(callbacks), **options)
    return model.get_weights()[0], history.history


def by_hand(rates):
    """Return the weight that SGD comes to, and the loss of each batch."""
    w, losses = START.astype(np.float64), []
    for t, rate in enumerate(rates):
        batch = slice(t % STEPS * BATCH, (t % STEPS + 1) * BATCH)
        error = X[batch] @ w - Y[batch]
        losses.append(np.mean(error**2))
        w = w - rate * 2 * X[batch].T @ error / len(error)
    return w, losses


def curve(schedule):
    return schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=str)
def test_a_schedule(options):
    schedule, history = CosineDecay(0.3).warmup("2 steps"), LRHistory()
    found, logs = fit(build(**options), schedule, history)
    weights, losses = by_hand(curve(schedule))
    np.testing.assert_allclose(found, weights, atol=2e-6)
    np.testing.assert_allclose(history.learning_rate, curve(schedule), rtol=1e-6)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        logs["learning_rate"], curve(schedule)[STEPS - 1 :: STEPS], rtol=1e-6
    )


def test_one_callback_serves_both_kinds_of_model():
    schedule = CosineDecay(0.3)
    new = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    new.set_weights([START])
    new.compile(keras.optimizers.SGD(1.0), "mse")
    for model in (build(), new, build()):
        found, _ = fit(model, schedule)
        np.testing.assert_allclose(found, by_hand(curve(schedule))[0], atol=2e-6)


def test_long_executions_hold_the_rate_and_say_so():
    schedule = CosineDecay(0.3)
    with pytest.warns(UserWarning, match="held for 2 batches at a time"):
        found, _ = fit(build(steps_per_execution=2), schedule)
    held = np.repeat(curve(schedule)[::2], 2)
    np.testing.assert_allclose(schedule.history.learning_rate, held, rtol=1e-6)
    np.testing.assert_allclose(found, by_hand(held)[0], atol=2e-6)


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_a_plateau(monitor, tmp_path):
    def callback():
        path = tmp_path / "plateau.json"
        return ReduceLROnPlateau(monitor, 0.5, 1, min_delta=1e9, state_path=path)

    data = {"validation_data": (X, Y)} if monitor == "val_loss" else {}
    fit(build(), callback(), epochs=2, **data)
    model = build()
    resumed = callback()
    fit(model, resumed, epochs=4, initial_epoch=2, **data)
    assert resumed.history.learning_rate.tolist() == [0.5] * STEPS + [0.25] * STEPS
    assert float(model.optimizer.learning_rate.numpy()) == 0.125


class Score(tf_keras.callbacks.Callback):
    """Puts a value of its own into the logs of each epoch."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def similar(y_true, y_pred):
    return y_pred


def own_acc(y_true, y_pred):
    return y_pred


def plateau_of(kind, metric, name):
    """Return the rate after a metric has risen three times, and another after it has fallen."""
    found = []
    for values in ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]):
        model = build(metrics=[metric])
        fit(model, Score(name, values), kind(name, factor=0.5, patience=1))
        found.append(float(model.optimizer.learning_rate.numpy()))
    return found


@pytest.mark.parametrize(
    ("metric", "name"), [("accuracy", "accuracy"), (own_acc, "own_acc"), ("mae", "mae")]
)
def test_auto_goes_the_way_that_legacy_keras_goes(metric, name):
    found = plateau_of(ReduceLROnPlateau, metric, name)
    assert found == plateau_of(tf_keras.callbacks.ReduceLROnPlateau, metric, name)
    assert found == ([0.25, 1.0] if name == "mae" else [1.0, 0.25])


def test_auto_knows_better_than_legacy_keras_where_keras_3_does():
    """Legacy Keras takes every name without "acc" for an error to bring down."""
    metric = tf_keras.metrics.AUC
    assert plateau_of(tf_keras.callbacks.ReduceLROnPlateau, metric(name="auc"), "auc") == [
        0.25,
        1.0,
    ]
    assert plateau_of(ReduceLROnPlateau, metric(name="auc"), "auc") == [1.0, 0.25]


def test_auto_of_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match=r"`mode` must be 'min' or 'max'.*monitor='similar'"):
        fit(build(metrics=[similar]), ReduceLROnPlateau("similar"))


def test_a_plateau_cuts_a_schedule():
    schedule = CosineDecay(0.3)
    callback = ReduceLROnPlateau("loss", 0.5, 1, min_delta=1e9)
    found, _ = fit(build(), schedule, callback)
    rates = curve(schedule) * np.repeat([1.0, 1.0, 0.5], STEPS)
    np.testing.assert_allclose(callback.history.learning_rate, rates, rtol=1e-6)
    np.testing.assert_allclose(found, by_hand(rates)[0], atol=2e-6)


def test_states_and_variables_come_back():
    class Counts(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.counts = [{"inside": tf.Variable(0, trainable=False)}]

        def call(self, x, training=False):
            if training:
                self.counts[0]["inside"].assign_add(1)
            return x

    lstm = tf_keras.layers.LSTM(2, stateful=True, batch_input_shape=(4, 3, 2))
    counts = Counts()
    model = tf_keras.Sequential([lstm, counts, tf_keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 3, 2)).astype("float32")
    y = x.sum((1, 2))[:, None]
    model.fit(x, y, batch_size=4, verbose=0)

    def state():
        return [state.numpy().tolist() for state in lstm.states], int(counts.counts[0]["inside"])

    before = state()
    with state_preserved(model):
        model.fit(x, y, batch_size=4, verbose=0)
        assert state() != before
    assert state() == before


def test_a_momentum_moves_in_eager_steps():
    model = build()
    model.compile(tf_keras.optimizers.SGD(1.0, momentum=0.9), "mse", run_eagerly=True)
    rates, momenta = CosineDecay(0.1), LinearDecay(0.9, 0.1)
    scheduler = ParamScheduler(learning_rate=rates, momentum=momenta)
    found, _ = fit(model, scheduler)
    w, velocity = START.astype(np.float64), 0.0
    for t, (rate, momentum) in enumerate(zip(curve(rates), curve(momenta), strict=True)):
        batch = slice(t % STEPS * BATCH, (t % STEPS + 1) * BATCH)
        gradient = 2 * X[batch].T @ (X[batch] @ w - Y[batch]) / len(X[batch])
        velocity = momentum * velocity - rate * gradient
        w = w + velocity
    np.testing.assert_allclose(found, w, atol=2e-6)
    np.testing.assert_allclose(scheduler.history["momentum"], curve(momenta), rtol=1e-6)
    assert model.optimizer.momentum == 0.9


def test_a_momentum_cannot_move_in_the_compiled_step():
    model = build()
    model.compile(tf_keras.optimizers.SGD(1.0, momentum=0.9), "mse")
    with pytest.raises(RuntimeError, match="run_eagerly=True"):
        fit(model, ParamScheduler(momentum=CosineDecay(0.9, 0.5)))


@pytest.mark.slow
def test_two_workers(tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    program = pathlib.Path(__file__).parents[1] / "programs" / "worker.py"
    workers = []
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                [sys.executable, program, tmp_path / str(index)],
                env=os.environ | {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, (_, errors) in zip(workers, outputs, strict=True):
        assert worker.returncode == 0, errors
    chief, other = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert chief == other
    assert chief["ended"] == "diverged"
    assert 10 < len(chief["tested"]) < 30
    assert len(set(chief["rates"])) == len(chief["rates"]) == 12
    assert chief["scale"] < 1
    assert sorted(os.listdir(tmp_path / "0")) == ["history.npz", "logs", "plateau.json"]
    assert os.listdir(tmp_path / "1") == []
