"""What TensorBoard shows of a record: every step once, whatever ended the fit before."""

import copy
import errno
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jsonschema
import keras
import numpy as np
import pytest
import tensorboardX.event_file_writer as events
from models import fit, meter, settled
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from keras_lr import (
    Constant,
    CosineDecay,
    LinearDecay,
    LRHistory,
    OneCycle,
    StepDecay,
    from_config,
    load,
    save,
    to_config,
)
from keras_lr.config.schema import schema
from keras_lr.history.tensorboard import EventLog

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
compiled = pytest.mark.skipif(BACKEND == "torch", reason="Keras takes no such option on PyTorch")


def shown(folder):
    """Return what TensorBoard shows: steps and values by name."""
    found = EventAccumulator(str(folder), tensor_size_guidance={"scalars": 0})
    found.Reload()
    events = {name: found.Tensors(name) for name in found.Tags()["tensors"]}
    return {
        name: ([e.step for e in some], [make_ndarray(e.tensor_proto).item() for e in some])
        for name, some in events.items()
    }


def rates(folder):
    return shown(folder)["learning_rate"]


def held_open(folder):
    """Return the files in a folder that this process has not closed."""
    targets = (os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return [target for target in targets if target.startswith(str(folder))]


class Losses(keras.losses.Loss):
    """The label is the loss, so that a test decides the loss of each batch."""

    def call(self, y_true, y_pred):
        return y_true + 0.0 * y_pred


def train(losses, *callbacks, epochs=1, **options):
    """Train on batches of one sample with the given losses."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), Losses(), **options)
    y = np.asarray(losses, "float32").reshape(-1, 1)
    model.fit(
        *(np.ones_like(y), y),
        batch_size=1,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )


class Raise(keras.callbacks.Callback):
    """Ends a fit at the end of batch 2 of an epoch."""

    def __init__(self, epoch, error=RuntimeError):
        super().__init__()
        self.at, self.error = epoch, error

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.at, 2):
            raise self.error


def interrupted(model, folder, epoch, schedule, **options):
    """Fit until batch 2 of an epoch is done, and return what recorded it."""
    history = LRHistory(log_dir=folder, **options)
    with pytest.raises(RuntimeError):
        fit(model, [schedule, history, Raise(epoch)], epochs=epoch + 1)
    return history


# What stands there.


def test_rate_momentum_and_loss_of_every_step(tmp_path):
    schedule = OneCycle(0.5, warmup="40%", momentum=(0.5, 0.75), shape="linear")
    history = LRHistory(log_dir=tmp_path)
    model = meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5))
    fit(model, [schedule, history], epochs=2)
    found = shown(tmp_path)
    assert set(found) == {"learning_rate", "momentum", "loss"}
    steps, values = found["learning_rate"]
    assert steps == list(range(10))
    np.testing.assert_array_equal(values, np.float32(schedule.values(epochs=2, steps_per_epoch=5)))
    assert found["momentum"][1][:5] == [0.75, 0.6875, 0.625, 0.5625, 0.5]
    assert found["loss"] == (steps, history.loss.tolist())


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["one by one", "at the end"])
def test_losses_are_those_of_the_batches(every, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_lr.history.tensorboard.EVERY", every)
    losses = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    train(losses, LRHistory(log_dir=tmp_path), epochs=2)
    steps, values = shown(tmp_path)["loss"]
    assert steps == list(range(16))
    np.testing.assert_allclose(values, losses * 2, rtol=1e-5)


@compiled
@pytest.mark.parametrize("every", [0.0, 1e9], ids=["one by one", "at the end"])
@pytest.mark.parametrize("length", ["known", "unknown"])
def test_long_executions(every, length, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_lr.history.tensorboard.EVERY", every)
    model = meter(6, steps_per_execution=4)

    def batches():
        for _ in range(6):
            yield np.eye(6, dtype="float32"), np.zeros((6, 1), "float32")

    import tensorflow as tf

    data = tf.data.Dataset.from_generator(
        batches, output_signature=(tf.TensorSpec((6, 6)), tf.TensorSpec((6, 1)))
    )
    if length == "known":
        data = data.apply(tf.data.experimental.assert_cardinality(6))
    callbacks = [StepDecay(0.5, 0.5, 1), LRHistory(log_dir=tmp_path)]
    model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    assert rates(tmp_path) == (list(range(18)), [0.5] * 6 + [0.25] * 6 + [0.125] * 6)


def test_a_full_disk_ends_the_fit_and_costs_no_record(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no space left")

    model, history = meter(), LRHistory(log_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "write", fail)
        with pytest.raises(OSError, match="no space left"):
            fit(model, [history, Constant(0.5)], epochs=2)
    assert len(history) == len(history.loss) == 5
    assert np.abs(settled(model).get_weights()[0]).max() == 0.5
    assert held_open(tmp_path) == []
    fit(model, [history, Constant(0.25)], epochs=2)
    assert rates(tmp_path)[1] == [0.25] * 10


@pytest.mark.parametrize("after", [0, 3])
def test_the_error_of_a_full_disk_names_the_folder(tmp_path, monkeypatch, after):
    flush, calls = events.EventsWriter.flush, []

    def fail(self):
        calls.append(self)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "no space")
        return flush(self)

    model, history = meter(), LRHistory(log_dir=tmp_path / "logs")
    with monkeypatch.context() as patch:
        patch.setattr(events.EventsWriter, "flush", fail)
        with pytest.raises(OSError, match="no space") as caught:
            fit(model, [history, Constant(0.5)], epochs=9)
    assert caught.value.filename == str(tmp_path / "logs")
    assert (len(history) == 0) == (after == 0)
    fit(model, [history, Constant(0.25)], epochs=2)
    assert rates(tmp_path / "logs")[1] == [0.25] * 10


@pytest.mark.parametrize("kind", ["file", "pipe", "file above"])
def test_a_folder_that_cannot_be_is_an_error_before_the_first_update(tmp_path, kind):
    folder = tmp_path / "logs"
    os.mkfifo(folder) if kind == "pipe" else folder.touch()
    before = folder.stat()
    if kind == "file above":
        folder = folder / "run"
    history = LRHistory(log_dir=folder)
    with pytest.raises(NotADirectoryError) as caught:
        fit(meter(), history)
    assert caught.value.filename == str(folder)
    assert len(history) == 0
    assert (tmp_path / "logs").stat() == before


def test_a_folder_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("target")
    for folder in ("link", b"caf\xe9 [a]\nb", "gs:logs", Path("n" * 250)):
        fit(meter(), [Constant(0.5), LRHistory(log_dir=folder)])
        assert len(os.listdir(folder)) == 1
    assert (tmp_path / "link").is_symlink()
    assert rates(tmp_path / "target")[1] == [0.5] * 5


@pytest.mark.parametrize("wrong", ["", "a\0b", "s3://bucket/logs", Path("gs://bucket/logs")])
def test_what_is_no_folder_on_this_machine_is_refused(wrong):
    with pytest.raises(ValueError, match="argument `log_dir` must be the path of a file or a fold"):
        LRHistory(log_dir=wrong)


def test_what_has_no_number_is_not_there(tmp_path):
    history = LRHistory(log_dir=tmp_path)
    train([np.nan, np.nan], history)
    assert list(shown(tmp_path)) == ["learning_rate"]


def test_a_loss_that_diverges_shows(tmp_path):
    train([1.0, 2.0, np.nan, np.nan], LRHistory(log_dir=tmp_path), epochs=2)
    steps, values = shown(tmp_path)["loss"]
    assert steps == list(range(8))
    assert [value != value for value in values] == [False, False, True, True] * 2


def test_it_is_written_in_pieces(tmp_path, monkeypatch):
    pieces = []
    write = EventLog.write

    def watched(self, steps, columns):
        pieces.append(len(steps))
        write(self, steps, columns)

    monkeypatch.setattr(EventLog, "write", watched)
    train([1.0] * 600, LRHistory(log_dir=tmp_path))
    assert sum(pieces) == 600
    assert len(pieces) <= 4
    assert len(rates(tmp_path)[0]) == 600


def test_a_slow_fit_shows_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_lr.history.tensorboard.EVERY", 0.0)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(len(shown(tmp_path).get("loss", ([], []))[0]))

    fit(meter(), [LRHistory(log_dir=tmp_path), Look()], epochs=2)
    # Of the execution that ran last, the size of its batch is not known yet.
    assert seen == [0, 0, 1, 2, 3, 5, 5, 6, 7, 8]


# Over several fits.


def test_a_fit_that_goes_on_and_one_that_repeats(tmp_path):
    model, history = meter(), LRHistory(log_dir=tmp_path)
    fit(model, [Constant(0.5), history], epochs=2)
    fit(model, [Constant(0.25), history], epochs=4, initial_epoch=2)
    assert rates(tmp_path) == (list(range(20)), [0.5] * 10 + [0.25] * 10)
    fit(model, [Constant(0.125), history], epochs=2, initial_epoch=1)
    assert rates(tmp_path) == (list(range(10)), [0.5] * 5 + [0.125] * 5)
    # A record of its own, as in another process.
    fit(model, [Constant(1.0), LRHistory(log_dir=tmp_path)], epochs=3, initial_epoch=2)
    assert rates(tmp_path) == (list(range(15)), [0.5] * 5 + [0.125] * 5 + [1.0] * 5)
    fit(model, [Constant(2.0), history], epochs=1)
    assert rates(tmp_path) == (list(range(5)), [2.0] * 5)
    assert len(list(tmp_path.iterdir())) == 5


def test_an_epoch_that_was_cut_off_is_shown_once(tmp_path):
    """The epoch runs again in a new process, the state of which is a file."""
    paths = {"state_path": tmp_path / "history.npz"}
    history = interrupted(meter(), tmp_path / "logs", 2, Constant(0.5), **paths)
    assert len(history) == 13
    again = LRHistory(log_dir=tmp_path / "logs", **paths)
    fit(meter(), [Constant(0.25), again], epochs=4, initial_epoch=2)
    history._end_log()
    assert rates(tmp_path / "logs") == (list(range(20)), [0.5] * 10 + [0.25] * 10)


def test_where_the_length_is_unknown_the_state_file_says_where_to_go_on(tmp_path):
    def batches():
        for batch in np.eye(5, dtype="float32")[:, None]:
            yield batch, np.zeros((1, 1), "float32")

    def run(rate, **options):
        history = LRHistory(tmp_path / "history.npz", tmp_path / "logs")
        meter().fit(
            batches(), shuffle=False, verbose=0, callbacks=[Constant(rate), history], **options
        )

    run(0.5, epochs=1)
    run(0.25, epochs=2, initial_epoch=1)
    assert rates(tmp_path / "logs") == (list(range(10)), [0.5] * 5 + [0.25] * 5)


# Ends.


def test_the_next_fit_writes_what_an_interrupted_one_left(tmp_path):
    model = meter()
    history = interrupted(model, tmp_path, 1, Constant(0.5))
    assert len(rates(tmp_path)[0]) == 5
    fit(model, [Constant(0.25), history], epochs=3, initial_epoch=2)
    assert rates(tmp_path) == ([*range(8), *range(10, 15)], [0.5] * 8 + [0.25] * 5)
    assert history.step.tolist() == [*range(8), *range(10, 15)]


def test_a_record_that_is_forgotten_writes_what_it_has(tmp_path):
    interrupted(meter(), tmp_path, 1, Constant(0.5))
    gc.collect()
    assert rates(tmp_path) == (list(range(8)), [0.5] * 8)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_file_is_closed(tmp_path):
    model, history = meter(), LRHistory(log_dir=tmp_path)
    fit(model, history, epochs=2)
    assert held_open(tmp_path) == []
    history = interrupted(model, tmp_path, 1, Constant(0.5))
    assert len(held_open(tmp_path)) == 1  # nothing has been told that the fit is over
    fit(model, history)
    assert held_open(tmp_path) == []


@pytest.mark.slow
def test_a_process_that_an_exception_ends_writes_what_it_has(tmp_path):
    code = """
import sys
from keras_lr import LinearDecay, LRHistory
from models import fit, meter
from history.test_tensorboard import Raise

fit(meter(), [LinearDecay(1.0, over=2), LRHistory(log_dir=sys.argv[1]), Raise(1)], epochs=2)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr.rstrip().endswith("RuntimeError"), result.stderr
    steps, values = rates(tmp_path)
    assert steps == list(range(8))
    np.testing.assert_allclose(values, 1.0 - np.arange(8) / 10, rtol=1e-6)


def test_only_the_chief_of_several_workers_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_lr._fit.session.FitSession.chief", False)
    history = LRHistory(log_dir=tmp_path / "logs")
    fit(meter(), [Constant(0.5), history], epochs=1)
    assert len(history) == 5
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboardx_it_says_what_to_install(tmp_path, monkeypatch):
    model, history = meter(), LRHistory(log_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorboardX", None)
        patch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
        with pytest.raises(ImportError, match=r"log_dir.*pip install 'keras-lr\[tensorboard\]'"):
            fit(model, [Constant(0.5), history])
    assert fit(model, [Constant(0.25), history]).tolist() == [0.25] * 5
    assert rates(tmp_path)[1] == [0.25] * 5


# Out and in.


def test_the_folder_is_kept(tmp_path):
    history = LRHistory("a.npz", tmp_path)
    for again in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert (again.state_path, again.log_dir) == ("a.npz", str(tmp_path))


def test_a_config_can_name_the_folder(tmp_path):
    config = {"LRHistory": {"log_dir": "logs/run"}}
    history = from_config(config)
    assert (history.state_path, history.log_dir) == (None, "logs/run")
    assert to_config(history) == config
    for path in (tmp_path / "lr.yaml", tmp_path / "lr.toml", tmp_path / "lr.json"):
        save([history], path)
        assert load(path)[0].log_dir == "logs/run"
    made = schema()
    assert "TensorBoard" in made["$defs"]["LRHistory"]["properties"]["log_dir"]["description"]
    validator = jsonschema.Draft202012Validator(made)
    assert validator.is_valid({"callbacks": [config]})
    assert not validator.is_valid({"callbacks": [{"LRHistory": {"log_dir": 3}}]})


# Others' loggers.


@pytest.mark.parametrize("schedule", [LinearDecay(1.0, 0.25, over="12 steps"), CosineDecay(0.5)])
def test_the_rate_reaches_keras_own_callback(schedule, tmp_path):
    theirs = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    fit(meter(), [schedule, theirs], epochs=3)
    steps, values = shown(tmp_path / "train")["epoch_learning_rate"]
    assert steps == [0, 1, 2]
    last = schedule.values(epochs=3, steps_per_epoch=5)[4::5]
    np.testing.assert_allclose(values, last, rtol=1e-6)
