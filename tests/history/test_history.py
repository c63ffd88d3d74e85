"""The record: what it says was used was used, and its losses are those of the batches."""

import copy
import itertools
import pickle
import tracemalloc

import keras
import numpy as np
import pytest
from models import COMPILE, fit, meter, samples, settled

from keras_lr import Constant, CosineDecay, LinearDecay, LRHistory, OneCycle, StepDecay
from keras_lr._fit.events import Executions
from keras_lr.history.columns import Column

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
compiled = pytest.mark.skipif(BACKEND == "torch", reason="Keras takes no such option on PyTorch")
rng = np.random.default_rng(3)
X = rng.normal(size=(23, 3)).astype("float32")
Y = rng.normal(size=(23, 1)).astype("float32")
RATE = StepDecay(0.25, 0.5, "4 steps")
# A running mean in float32 keeps the digits of the mean, which is about 1, not those of a batch.
CLOSE = {"rtol": 2e-5, "atol": 5e-6}


class Sized(keras.utils.PyDataset):
    """Batches of the given sizes, with sample weights if there are any."""

    def __init__(self, sizes, weights=None):
        super().__init__()
        edges = np.cumsum([0, *sizes])
        self.batches = [
            [array[a:b] for array in (X, Y, weights) if array is not None]
            for a, b in itertools.pairwise(edges)
        ]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return tuple(self.batches[index])


def linear(kind=keras.Sequential, metrics=None, **compile_args):
    """A linear model with squared loss, which is worked out by hand in `by_hand`."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = kind([keras.Input((3,)), dense])
    options = COMPILE | {"loss": "mse", "metrics": metrics} | compile_args
    model.compile(keras.optimizers.SGD(0.5), **options)
    return model


def by_hand(data, epochs, rate=RATE):
    """Gradient descent on the mean of squared errors, in float64: the loss of every batch."""
    rates = rate.values(epochs=epochs, steps_per_epoch=len(data))
    kernel, losses = np.zeros((3, 1)), []
    for step, learning_rate in enumerate(rates):
        x, y, *weight = data[step % len(data)]
        weight = weight[0][:, None] if weight else np.ones((len(x), 1))
        error = x.astype(float) @ kernel - y
        losses.append((weight * error**2).sum() / len(x))
        kernel -= learning_rate * 2 * x.T @ (weight * error) / len(x)
    return np.array(losses)


def record(model, data, epochs=3, callbacks=None, **options):
    schedule = copy.deepcopy(RATE)
    callbacks = [schedule] if callbacks is None else callbacks
    options = {"epochs": epochs, "shuffle": False, "verbose": 0} | options
    model.fit(data, callbacks=callbacks, **options)
    return schedule.history


# Losses.


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
    """A model with a tracker of its own, the mean over batches."""

    @property
    def metrics(self):
        if not hasattr(self, "tracker"):
            self.tracker = keras.metrics.Mean(name="loss")
        return [self.tracker]

    def train_step(self, data):
        self.metrics[0].update_state(update(self, *data))
        return {"loss": self.tracker.result()}


class WeightedTracker(Tracker):
    """A model with a tracker of its own, the mean over samples."""

    def train_step(self, data):
        loss = update(self, *data)
        self.metrics[0].update_state(loss, sample_weight=keras.ops.shape(data[0])[0])
        return {"loss": self.tracker.result()}


own_steps = pytest.mark.skipif(BACKEND == "jax", reason="on JAX a train_step has no side effects")


@own_steps
@pytest.mark.parametrize("kind", [Raw, Tracker, WeightedTracker])
@pytest.mark.parametrize("loss", [None, "mse"])
@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (6, 6, 6, 5)])
def test_losses_of_a_train_step_of_ones_own(kind, loss, sizes):
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


# What was used.


class Set(keras.callbacks.Callback):
    """Another's callback that moves the rate at some hook."""

    def __init__(self, hook):
        super().__init__()
        self.calls = 0
        setattr(self, hook, self.act)

    def act(self, index, logs=None):
        self.calls += 1
        self.model.optimizer.learning_rate = 2.0**-self.calls


@pytest.mark.parametrize(
    "hook", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_begin", "on_epoch_end"]
)
@pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
def test_a_rate_that_another_callback_moves_is_recorded_as_used(hook, order):
    history = LRHistory()
    rates = fit(meter(), [history, Set(hook)][::order], epochs=3)
    np.testing.assert_array_equal(history.learning_rate, rates)
    first, last = {
        "on_train_batch_begin": (0.5, 2.0**-15),
        "on_train_batch_end": (1.0, 2.0**-14),
        "on_epoch_begin": (0.5, 0.125),
        "on_epoch_end": (1.0, 0.25),
    }[hook]
    assert (rates[0], rates[-1]) == (first, last)


def test_a_rate_that_nobody_moves():
    history = LRHistory()
    fit(meter(learning_rate=0.3), history, epochs=2)
    assert history.learning_rate.tolist() == [np.float32(0.3)] * 10


def test_keras_reduces_on_a_plateau_and_it_is_recorded():
    history = LRHistory()
    reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, mode="max")
    rates = fit(meter(), [reduce, history], epochs=4)
    np.testing.assert_array_equal(history.learning_rate, rates)
    assert rates[-1] < 1.0


def test_the_rate_of_an_optimizer_with_a_schedule_goes_on_over_fits():
    inside = keras.optimizers.schedules.PolynomialDecay(1.0, 20, 0.0)
    model, history = meter(learning_rate=inside), LRHistory()
    first = fit(model, history, epochs=2)
    np.testing.assert_allclose(history.learning_rate, first, rtol=1e-6)
    second = fit(model, history, epochs=4, initial_epoch=2)
    np.testing.assert_allclose(history.learning_rate, [*first, *second], rtol=1e-6)
    assert second[0] == pytest.approx(0.5)


def test_another_parameter_that_moves_is_recorded():
    schedule = OneCycle(0.5, warmup="40%", momentum=(0.5, 0.75), shape="linear")
    fit(meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5)), schedule, epochs=2)
    momentum = schedule.history["momentum"]
    assert momentum[[0, 2, 4, 7]].tolist() == [0.75, 0.625, 0.5, 0.625]


# Steps, epochs and fits.


def test_steps_and_epochs():
    schedule = CosineDecay(0.5)
    fit(meter(), schedule, epochs=3)
    history = schedule.history
    assert history.step.tolist() == list(range(15))
    assert history.epoch.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert [a.dtype for a in (history.step, history.epoch)] == [np.int32, np.int32]
    assert [a.dtype for a in (history.learning_rate, history.loss)] == [np.float32] * 2


def test_a_fit_that_goes_on_continues_the_record_and_one_that_repeats_replaces_it():
    model, history = meter(), LRHistory()
    fit(model, [Constant(0.5), history], epochs=2)
    fit(model, [Constant(0.25), history], epochs=4, initial_epoch=2)
    assert history.step.tolist() == list(range(20))
    fit(model, [Constant(0.125), history], epochs=2, initial_epoch=1)
    assert history.learning_rate.tolist() == [0.5] * 5 + [0.125] * 5
    fit(model, [Constant(2.0), history], epochs=1)
    assert history.learning_rate.tolist() == [2.0] * 5


def test_it_can_be_read_while_a_fit_runs():
    class Read(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lengths, self.losses = [], []

        def on_train_batch_end(self, batch, logs=None):
            self.lengths.append(len(history))
            self.losses.append(history.loss.copy())

    reader, history = Read(), LRHistory()
    data = Sized((5, 5, 5))
    record(linear(), data, 2, [Constant(0.1), history, reader])
    assert reader.lengths == [1, 2, 3, 4, 5, 6]
    expected = by_hand(data, 2, Constant(0.1))
    for length, losses in enumerate(reader.losses, 1):
        np.testing.assert_allclose(losses, expected[:length], **CLOSE)


def test_it_can_be_read_while_batches_vary():
    class Read(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(history.loss[-1]))

    losses, history, data = [], LRHistory(), Sized((2, 8, 1, 6, 4))
    record(linear(), data, 3, [Constant(0.1), history, Read()])
    # The size of the batch that ran last is not known before the next one begins.
    np.testing.assert_allclose(history.loss, by_hand(data, 3, Constant(0.1)), **CLOSE)
    assert np.isfinite(losses).all()


def test_a_fit_that_is_interrupted_keeps_what_ran():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    schedule = LinearDecay(1.0, over="4 steps")
    with pytest.raises(KeyboardInterrupt):
        fit(meter(), [schedule, Stop()], epochs=2)
    assert schedule.history.learning_rate.tolist() == [1.0, 0.75, 0.5]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_state_file_that_cannot_be_written_costs_no_weights(error, tmp_path, monkeypatch):
    def fail(*args):
        raise error("no space left")

    model, history = meter(), LRHistory(state_path=tmp_path / "record.npz")
    monkeypatch.setattr("keras_lr.history.callback.save_arrays", fail)
    with pytest.raises(error, match="no space left"):
        fit(model, [history, Constant(0.5)], epochs=2)
    assert np.abs(settled(model).get_weights()[0]).max() == 0.5
    assert len(history) == 5
    monkeypatch.undo()
    fit(model, [history, Constant(0.25)], epochs=2)
    assert history.learning_rate.tolist() == [0.25] * 10


@pytest.mark.parametrize("when", range(1, 7))
@pytest.mark.parametrize("before", [0, 3])
def test_what_interrupts_a_recorder_leaves_its_record_whole(when, before, monkeypatch):
    """An interrupt in the middle of taking steps in: all columns have them, or none."""
    first, second, model = LRHistory(), LRHistory(), meter()
    if before:
        fit(model, [first, second, Constant(0.5)], epochs=before)
    real, calls = Column.add, itertools.count(1)

    def add(self, values):
        if next(calls) == when:
            raise KeyboardInterrupt
        real(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(Column, "add", add)
        with pytest.raises(KeyboardInterrupt):
            model.fit(
                *samples(),
                batch_size=2,
                shuffle=False,
                verbose=0,
                initial_epoch=before,
                epochs=before + 1,
                callbacks=[first, second, Constant(0.5)],
            )
    for history in (first, second):
        assert {len(history[name]) for name in history} <= {5 * before, 5 * before + 5}
        assert len({len(history[name]) for name in history}) == 1
    fit(settled(model), [first, second, Constant(0.25)], epochs=2)
    for history in (first, second):
        assert history.learning_rate.tolist() == [0.25] * 10
        assert np.isfinite(history.loss).all()


def test_what_was_read_stays_as_it_was():
    model, history = meter(), LRHistory()
    fit(model, [history, Constant(0.5)], epochs=2)
    rates, losses = history.learning_rate, history.loss
    kept = losses.copy()
    fit(model, [history, Constant(0.25)], epochs=3)
    assert rates.tolist() == [0.5] * 10
    np.testing.assert_array_equal(losses, kept)
    assert history.learning_rate.tolist() == [0.25] * 15
    with pytest.raises(ValueError, match="read-only"):
        rates[0] = 1.0


def test_a_fit_without_epochs():
    schedule = CosineDecay(0.5)
    x, y = samples()
    meter().fit(x, y, epochs=2, initial_epoch=2, verbose=0, callbacks=[schedule])
    assert len(schedule.history) == 0
    assert repr(schedule.history) == "LRHistory(no steps)"


# In the logs of an epoch.


def test_the_rate_stands_in_the_logs_of_each_epoch(tmp_path):
    model, seen = meter(), []
    schedule = LinearDecay(1.0, 0.25, over="12 steps")
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    fit(model, [schedule, logger, spy], epochs=3)
    # The rates of updates 4, 9 and 14.
    assert [log["learning_rate"] for log in seen] == [0.75, 0.4375, 0.25]
    assert model.history.history["learning_rate"] == [0.75, 0.4375, 0.25]
    header, *rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().split()]
    column = header.index("learning_rate")
    assert [float(row[column]) for row in rows] == [0.75, 0.4375, 0.25]


def test_the_recorder_alone_puts_the_rate_into_the_logs():
    model = meter(learning_rate=0.5)
    fit(model, LRHistory(), epochs=2)
    assert model.history.history["learning_rate"] == [0.5, 0.5]


# Out and in.


@pytest.fixture(scope="module")
def history():
    schedule = CosineDecay(0.1)
    linear(metrics=["mae"]).fit(
        X, Y, batch_size=4, epochs=3, verbose=0, shuffle=False, callbacks=[schedule]
    )
    return schedule.history


def test_csv_and_back_is_exact(history, tmp_path):
    history.to_csv(tmp_path / "run.csv")
    again = LRHistory.from_csv(tmp_path / "run.csv")
    assert again == history
    assert again.names == history.names
    for name in history:
        assert again[name].dtype == history[name].dtype
        assert again[name].tobytes() == history[name].tobytes()
    assert repr(again) == repr(history)
    again.to_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()


def test_csv_is_plain(history, tmp_path):
    history.to_csv(tmp_path / "run.csv")
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,learning_rate,loss,mae"
    assert len(lines) == 19
    assert lines[1].startswith("0,0,0.1,")
    assert [path.name for path in tmp_path.iterdir()] == ["run.csv"]


def test_a_file_that_a_spreadsheet_has_saved(history, tmp_path):
    path = tmp_path / "run.csv"
    history.to_csv(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert LRHistory.from_csv(path) == history


@pytest.mark.filterwarnings("error")
def test_an_empty_history_survives(tmp_path):
    empty = LRHistory()
    empty.to_csv(tmp_path / "empty.csv")
    assert LRHistory.from_csv(tmp_path / "empty.csv") == empty


def test_nan_and_infinity_survive(tmp_path):
    logs = [{"loss": np.float32(np.nan)}, {"loss": np.float32(np.inf)}, {"loss": np.float32(1e-45)}]
    special = filled(logs)
    special.to_csv(tmp_path / "special.csv")
    again = LRHistory.from_csv(tmp_path / "special.csv")
    assert again.loss.tobytes() == special.loss.tobytes()


def filled(logs):
    """A record of steps that were not trained."""
    history = LRHistory()
    history.start_epoch(0, len(logs))
    rates = np.full(len(logs), 0.1, np.float32)
    done = Executions(0, [1] * len(logs), {"learning_rate": rates}, logs, None)
    history.extend(0, done)
    history.finish_epoch(len(logs), 0.0)
    return history


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: "", "is no history written by LRHistory.to_csv.* lacks step, epoch"),
        (lambda text: text.replace("loss", "lost", 1), "first line lacks loss"),
        (lambda text: text.replace("mae", "loss", 1), "distinct names"),
        (lambda text: text.replace(",", ";"), "lacks step, epoch, learning_rate, loss"),
        (lambda text: text[: text.rindex(",")], "is damaged"),
        (lambda text: text.replace("0.1", "fast", 1), "is damaged: .*fast"),
        (lambda text: text + "1,2,3\n", "is damaged"),
        (lambda text: text.replace("\n0,", "\n0.5,", 1), "no whole number"),
        (lambda text: text[:-3], "cut off"),
        (lambda text: "\x00\x01" + text, "lacks step"),
    ],
)
def test_a_damaged_file_says_where(history, damage, words, tmp_path):
    path = tmp_path / "run.csv"
    history.to_csv(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=words) as caught:
        LRHistory.from_csv(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        LRHistory.from_csv(tmp_path / "none.csv")


def test_a_folder_that_is_not_there_is_made(history, tmp_path):
    history.to_csv(tmp_path / "new" / "run.csv")
    assert LRHistory.from_csv(tmp_path / "new" / "run.csv") == history


def test_a_file_that_cannot_be_written_leaves_the_old_one(history, tmp_path, monkeypatch):
    path = tmp_path / "run.csv"
    path.write_text("old")
    broken = copy.deepcopy(history)
    monkeypatch.setattr("keras_lr.history.columns.texts", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.to_csv(path)
    assert [item.name for item in tmp_path.iterdir()] == ["run.csv"]
    assert path.read_text() == "old"


def test_to_pandas(history):
    pytest.importorskip("pandas")
    frame = history.to_pandas()
    assert list(frame.columns) == history.names
    assert len(frame) == len(history) == 18
    np.testing.assert_array_equal(frame["loss"].to_numpy(), history.loss)
    assert frame["epoch"].dtype == np.int32


def test_copies(history):
    for again in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert again == history
        assert again is not history
    assert history != LRHistory()
    assert history != "history"


def test_repr_says_what_was_recorded(history):
    assert repr(history).startswith("LRHistory(18 steps in epochs 0 to 2, learning rate 0.1 -> ")
    assert f"last loss {history.loss[-1]:.4g}" in repr(history)


def test_a_name_that_was_not_recorded_lists_what_was(history):
    with pytest.raises(KeyError, match=r"'accuracy' was not recorded. Recorded: step, epoch"):
        history["accuracy"]


def test_an_empty_recorder_is_a_callback_too():
    assert bool(LRHistory())
    assert LRHistory().async_safe
    assert CosineDecay(0.1).async_safe
    assert len(CosineDecay(0.1).history) == 0


# Memory.


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [
        (6, 10_000),
        (1, 60_000),
    ],
)
def test_a_step_takes_at_most_32_bytes(epochs, steps):
    """At every moment of a fit, reported in pieces of 250 steps."""
    piece, samples = 250, 32.0
    logs = [{"loss": 0.5}] * piece
    rates = np.full(piece, 0.1, np.float32)
    tracemalloc.start()
    try:
        history = LRHistory()
        before = tracemalloc.get_traced_memory()[0]
        for epoch in range(epochs):
            history.start_epoch(epoch, steps)
            for first in range(0, steps, piece):
                counts = (samples * np.arange(first, first + piece)).tolist()
                done = Executions(first, [1] * piece, {"learning_rate": rates}, logs, counts)
                history.extend(epoch, done)
            del done, counts
            used = tracemalloc.get_traced_memory()[0] - before
            assert used / len(history) <= 32 or epoch < epochs - 1
            history.finish_epoch(steps, samples * steps)
    finally:
        tracemalloc.stop()
    assert len(history) == steps * epochs
    assert history.loss[-1] == pytest.approx(0.5)


def test_the_reader_of_losses_reads_them():
    """The instrument itself: by hand and by Keras, the loss of an epoch is the same."""
    data = Sized((6, 6, 6, 5))
    model = linear()
    record(model, data)
    own = by_hand(data, 3).reshape(3, 4)
    expected = (own * [6, 6, 6, 5]).sum(axis=1) / 23
    np.testing.assert_allclose(model.history.history["loss"], expected, rtol=1e-5)
