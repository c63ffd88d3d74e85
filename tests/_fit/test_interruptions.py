"""Ctrl-C at any moment: what a fit leaves is the state after some whole step.

More moments: ``KERAS_LR_INTERRUPTIONS=50 pytest -m slow ...``.
"""

import os
import signal
import sys
import threading

import keras
import numpy as np
import pytest
from models import COMPILE
from processes import run_program
from selection import mostly_full

from keras_lr import LinearDecay, LRHistory, ReduceLROnPlateau

pytestmark = pytest.mark.core

TIMES = int(os.environ.get("KERAS_LR_INTERRUPTIONS", 15))
BACKEND = keras.backend.backend()
MOMENTS = TIMES if BACKEND == "jax" else 3
RATE, EPOCHS, STEPS = 0.125, 2, 4
X = np.ones((STEPS, 1), "float32")
CALLBACKS = {
    "schedule": lambda: LinearDecay(1.0, 0.2),
    "history": LRHistory,
    "plateau": lambda: ReduceLROnPlateau("val_loss", patience=100),
}


def build(**options):
    """Return a model whose only gradient is 1."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    loss = lambda y, p: keras.ops.mean(p)  # noqa: E731
    model.compile(keras.optimizers.SGD(RATE), loss, **COMPILE | options)
    return model


def fit(model, callbacks, data=(X, X), **options):
    options = {"batch_size": 1, "epochs": EPOCHS, "verbose": 0, "shuffle": False} | options
    model.fit(*data, callbacks=callbacks, validation_data=(X, X), **options)


class Moment:
    """Sends SIGINT to this process at a call or a return of a function of Keras's or ours."""

    def __init__(self, number=None):
        self.number, self.passed = number, 0

    def __enter__(self):
        sys.setprofile(self.pass_by)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        # JAX makes a TypeError of whatever is raised while it converts an argument.
        return error[0] in (KeyboardInterrupt, TypeError)

    def pass_by(self, frame, event, argument):
        if "keras" in frame.f_code.co_filename and not event.startswith("c_"):
            self.passed += 1
            if self.passed == self.number:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(BACKEND == "torch", reason="there an update is no single operation")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", mostly_full([1, 3], [3]))
@pytest.mark.parametrize("name", mostly_full(CALLBACKS, ["schedule", "plateau"]))
def test_an_interruption_loses_no_step_wherever_it_comes(name, size):
    model, before = build(steps_per_execution=size), signal.getsignal(signal.SIGINT)
    fit(model, [CALLBACKS[name]()])
    with Moment() as moment:
        fit(model, [CALLBACKS[name]()])
    for number in np.linspace(1, moment.passed, MOMENTS, dtype=int):
        schedule = CALLBACKS[name]()
        model.set_weights([np.zeros((1, 1))])
        model.optimizer.learning_rate = RATE
        model.optimizer.iterations.assign(0)
        with Moment(number):
            fit(model, [schedule])
        assert signal.getsignal(signal.SIGINT) is before
        rates = np.full(EPOCHS * STEPS, RATE)
        if name == "schedule":
            rates = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)
        steps = int(model.optimizer.iterations)
        np.testing.assert_allclose(model.get_weights()[0], -rates[:steps].sum(), rtol=1e-6)
    fit(model, [])
    assert int(model.optimizer.iterations) == steps + EPOCHS * STEPS


class Data(keras.utils.PyDataset):
    """Batches of one sample, of which one raises."""

    def __init__(self, failing, act):
        super().__init__()
        self.failing, self.act = failing, act

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        if index == self.failing:
            self.act()
        return X[:1], X[:1]


@pytest.mark.skipif(BACKEND != "jax", reason="elsewhere Keras reads ahead, or has no such size")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_exception_between_the_batches_of_an_execution_keeps_those_that_ran(error):
    def act():
        raise error

    model, schedule = build(steps_per_execution=STEPS), LinearDecay(1.0, 0.2)
    fit(model, [])
    model.set_weights([np.zeros((1, 1))])
    with pytest.raises(error):
        model.fit(Data(2, act), epochs=1, verbose=0, callbacks=[schedule], shuffle=False)
    np.testing.assert_allclose(model.get_weights()[0], -(1.0 + 0.8), rtol=1e-6)
    assert int(model.optimizer.iterations) == EPOCHS * STEPS + 2


def test_a_handler_of_the_users_keeps_its_meaning():
    class Told(Exception):
        pass

    def tell(number, frame):
        raise Told(number)

    model = build()
    fit(model, [])
    before = signal.signal(signal.SIGINT, tell)
    try:
        with Moment(150), pytest.raises(Told, match=str(int(signal.SIGINT))):
            fit(model, [LinearDecay(1.0)])
        assert signal.getsignal(signal.SIGINT) is tell
    finally:
        signal.signal(signal.SIGINT, before)
    fit(model, [])


def test_a_handler_that_a_callback_sets_during_a_fit_stays():
    def ours(number, frame):
        """Do nothing."""

    def set_handler(epoch, logs):
        signal.signal(signal.SIGINT, ours)

    before = signal.getsignal(signal.SIGINT)
    try:
        fit(build(), [LinearDecay(1.0), keras.callbacks.LambdaCallback(on_epoch_end=set_handler)])
        assert signal.getsignal(signal.SIGINT) is ours
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fit_in_a_thread_leaves_the_handlers_alone():
    seen = []
    see = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(signal.getsignal(signal.SIGINT))
    )
    thread = threading.Thread(target=fit, args=(build(), [LinearDecay(1.0), see]))
    thread.start()
    thread.join()
    assert set(seen) == {signal.getsignal(signal.SIGINT)}


@pytest.mark.slow
def test_a_model_trains_on_after_an_interruption():
    assert run_program("interrupted.py", TIMES)["problems"] == []
