"""A training run that is killed, and resumes as in a new process."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from shapes import EPOCHS, STEPS

from keras_lr import ReduceLROnPlateau
from keras_lr._keras.state.snapshot import Snapshot

random = np.random.default_rng(1)
X = random.normal(size=(STEPS, 3)).astype("float32")
Y = random.normal(size=(STEPS, 1)).astype("float32")
VX, VY = X[::-1] + 0.1, Y


class Killed(BaseException):
    """Takes a fit down as a signal would: nothing of Keras or of the callbacks runs after it."""


class Kill(keras.callbacks.Callback):
    """Kills at one hook of one epoch, at its batch 1 if it is a hook of batches."""

    def __init__(self, hook, epoch):
        super().__init__()
        self.epoch = None
        setattr(self, f"on_{hook}", functools.partial(self.check, hook, epoch))
        if hook != "epoch_begin":
            self.on_epoch_begin = self.note

    def note(self, epoch, logs=None):
        self.epoch = epoch

    def check(self, hook, wanted, index=None, logs=None):
        if hook.startswith("epoch"):
            self.epoch = index
        if self.epoch == wanted and (index == 1 or "batch" not in hook):
            raise Killed


@functools.cache
def trained():
    """One model for all tests, compiled once, and its state as a new process would find it."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9), "mse")
    return model, Snapshot(model)


def fit(callbacks, killed=False, batch_size=4, model=None, **options):
    """Fit as a new process would."""
    if model is None:
        model, pristine = trained()
        pristine.restore()
    options = {"epochs": EPOCHS} | options

    def run():
        model.fit(
            X, Y, batch_size=batch_size, shuffle=False, verbose=0, callbacks=callbacks, **options
        )

    if killed:
        with pytest.raises(Killed):
            run()
    else:
        run()
    return model


def plateau(folder, **options):
    """Return a plateau that keeps its state in a folder, if there is one."""
    name = "plateau.json"
    options = {"monitor": "loss", "patience": 1, "factor": 0.5, "min_delta": 0.02} | options
    return ReduceLROnPlateau(**options, state_path=folder and folder / name)
