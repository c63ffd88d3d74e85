"""Hooks of batches: who has one is called for every batch, and Keras's own round is spared."""

import contextlib

import keras
import numpy as np
import pytest
from models import STEPS, fit, meter, samples, settled

from keras_lr import CosineDecay, LRHistory, ReduceLROnPlateau

pytestmark = pytest.mark.core

HOOKS = ["on_train_batch_begin", "on_batch_begin", "on_train_batch_end", "on_batch_end"]
EVERY_BATCH = [*range(STEPS)] * 2
OURS = {
    "schedule": lambda: CosineDecay(0.1),
    "history": LRHistory,
    "plateau": lambda: ReduceLROnPlateau(monitor="loss"),
    "plateau in steps": lambda: ReduceLROnPlateau(monitor="loss", patience="3 steps"),
}


def listener(way, hook, seen):
    """Return a callback with a batch hook, which appends each batch to ``seen``."""

    def hear(batch, logs=None):
        seen.append(batch)

    if way == "class":
        return type("Listener", (keras.callbacks.Callback,), {hook: staticmethod(hear)})()
    callback = keras.callbacks.Callback()
    setattr(callback, hook, hear)
    return callback


@pytest.mark.parametrize("where", [1, -1], ids=["before", "after"])
@pytest.mark.parametrize("way", ["class", "instance"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_with_a_hook_hears_of_every_batch(hook, way, where):
    seen = []
    fit(meter(), [listener(way, hook, seen), CosineDecay(0.1)][::where], epochs=2)
    assert seen == EVERY_BATCH


def test_a_callback_that_is_no_keras_callback_hears_of_every_batch():
    seen = []

    class Duck:
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, sorted(logs)))

        def __getattr__(self, name):
            if name == "on_batch_begin" or not name.startswith(("on_", "set_")):
                raise AttributeError(name)
            return lambda *_, **__: None

    fit(meter(), [CosineDecay(0.1), Duck()], epochs=2)
    assert seen == [(batch, ["loss"]) for batch in EVERY_BATCH]


def test_the_progress_bar_sees_every_batch(capsys):
    fit(meter(), CosineDecay(0.1), epochs=1, verbose=1)
    shown = capsys.readouterr().out
    assert f"{STEPS}/{STEPS}" in shown
    assert "loss" in shown


@pytest.fixture
def rounds(monkeypatch):
    """Count how often Keras begins a round of its callbacks for a batch."""
    counted = []

    def round_of(method):
        def counting(self, batch, logs=None):
            counted.append(batch)
            return method(self, batch, logs)

        return counting

    for hook in ("on_train_batch_begin", "on_train_batch_end"):
        method = getattr(keras.callbacks.CallbackList, hook)
        monkeypatch.setattr(keras.callbacks.CallbackList, hook, round_of(method))
    return counted


@pytest.mark.parametrize("name", OURS)
def test_rounds_of_hooks_that_nobody_has_are_spared(name, rounds):
    model = meter()
    plain = fit(model, [], epochs=2)
    assert rounds == [batch for batch in EVERY_BATCH for _ in ("begin", "end")]
    rounds.clear()
    rates = fit(model, OURS[name](), epochs=2)
    assert rounds == []
    if name == "history":
        assert rates.tolist() == plain.tolist()
    fit(model, [], epochs=2)
    assert len(rounds) == 2 * len(EVERY_BATCH)


def test_only_the_rounds_that_nobody_hears_are_spared(rounds):
    seen = []
    fit(meter(), [CosineDecay(0.1), listener("class", "on_train_batch_end", seen)], epochs=2)
    assert rounds == seen == EVERY_BATCH


@pytest.mark.parametrize("again", ["the same model", "another model"])
@pytest.mark.parametrize("error", [None, OSError])
def test_a_list_of_callbacks_has_its_hooks_again(error, again, rounds):
    class Raise(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if error is not None:
                raise error("disk")

    def train():
        x, y = samples()
        model.fit(x, y, batch_size=2, verbose=0, callbacks=group)

    model, seen = meter(), []
    callbacks = [CosineDecay(0.1), Raise()]
    group = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=1)
    own, order = set(vars(group)), list(group.callbacks)
    with contextlib.nullcontext() if error is None else pytest.raises(error):
        train()
    settled(model)
    assert rounds == []
    added = listener("class", "on_train_batch_end", seen)
    group.callbacks.append(added)
    error = None
    if again == "another model":
        model = meter()
        group.set_model(model)
    train()
    # Of a list made without hooks of batches, Keras calls those added later in threads.
    assert sorted(seen) == [*range(STEPS)]
    assert set(vars(group)) == own
    assert group.callbacks == [*order, added]


# Where Keras is not as expected.


def loop(*callbacks):
    """Train two epochs with hooks that a loop calls itself, and return the rates."""
    model, (x, y) = meter(), samples()
    for callback in callbacks:
        callback.set_model(model)
        callback.set_params({"epochs": 2, "steps": STEPS})
        callback.on_train_begin()
    weights = []
    for epoch in range(2):
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        for batch in range(STEPS):
            rows = slice(2 * batch, 2 * batch + 2)
            model.train_on_batch(x[rows], y[rows])
        for callback in callbacks:
            callback.on_epoch_end(epoch, {})
        weights.append(-model.get_weights()[0][:, 0])
        model.set_weights([np.zeros((STEPS, 1))])
    for callback in callbacks:
        callback.on_train_end()
    return np.concatenate(weights)


def test_hooks_that_no_list_calls():
    schedule = CosineDecay(0.1)
    rates = loop(schedule)
    np.testing.assert_array_equal(rates, schedule.history.learning_rate)
    expected = schedule.values(epochs=2, steps_per_epoch=STEPS)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_a_keras_that_marks_no_hook_as_unused_calls_them_all(rounds, monkeypatch):
    for hook in HOOKS:
        monkeypatch.delattr(getattr(keras.callbacks.Callback, hook), "_is_default")
    schedule = CosineDecay(0.1)
    rates = fit(meter(), schedule, epochs=2)
    assert rounds == [batch for batch in EVERY_BATCH for _ in ("begin", "end")]
    np.testing.assert_array_equal(rates, schedule.history.learning_rate)
