"""The rows of a record: steps and epochs over several fits, whatever ends one, read at any time."""

import itertools
import tracemalloc

import keras
import numpy as np
import pytest
from models import fit, meter, samples, settled
from regression import CLOSE, Sized, by_hand, linear, record
from selection import mostly_full

from keras_lr import Constant, CosineDecay, LinearDecay, LRHistory
from keras_lr._fit.events import Executions
from keras_lr._state import save_arrays
from keras_lr.history.columns import Column

pytestmark = pytest.mark.core


def test_steps_and_epochs():
    schedule = CosineDecay(0.5)
    fit(meter(), schedule, epochs=3)
    history = schedule.history
    assert history.step.tolist() == list(range(15))
    assert history.epoch.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert [a.dtype for a in (history.step, history.epoch)] == [np.int64, np.int64]
    assert [a.dtype for a in (history.learning_rate, history.loss)] == [np.float32] * 2


def test_steps_and_epochs_beyond_32_bits(tmp_path):
    begin, history = 3_000_000_000, LRHistory()
    fit(meter(), [history, Constant(0.5)], initial_epoch=begin, epochs=begin + 2)
    assert history.step.tolist() == list(range(5 * begin, 5 * begin + 10))
    assert history.epoch.tolist() == [begin] * 5 + [begin + 1] * 5
    history.to_csv(tmp_path / "run.csv")
    assert LRHistory.from_csv(tmp_path / "run.csv") == history
    save_arrays(tmp_path / "record.npz", history.state_dict())
    again = LRHistory(state_path=tmp_path / "record.npz")
    fit(meter(), [again, Constant(0.5)], initial_epoch=begin + 2, epochs=begin + 3)
    assert again.step.tolist() == list(range(5 * begin, 5 * begin + 15))


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
@pytest.mark.parametrize("before", mostly_full([0, 3], [3]))
def test_what_interrupts_a_recorder_leaves_its_record_whole(when, before, monkeypatch):
    """An interrupt in the middle of taking steps in: all columns have them, or none."""
    first, second, model = LRHistory(), LRHistory(), meter()
    if before:
        fit(model, [first, second, Constant(0.5)], epochs=before)
    real, calls = Column.append, itertools.count(1)

    def append(self, values):
        if next(calls) == when:
            raise KeyboardInterrupt
        real(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(Column, "append", append)
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


def test_an_empty_recorder_is_a_callback_too():
    assert bool(LRHistory())
    assert LRHistory().async_safe
    assert CosineDecay(0.1).async_safe
    assert len(CosineDecay(0.1).history) == 0


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
