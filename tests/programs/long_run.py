"""Trains for long and prints how memory, live objects, threads and traces grew.

Usage: long_run.py steps|fits|compiles COUNT [plain]

What is measured stands at a quarter of the way and at its end; with ``plain``, without callbacks.
"""

import gc
import json
import sys
import threading

import keras
import numpy as np
from models import COMPILE, Counted

from keras_lr import CosineDecay, LRHistory, ReduceLROnPlateau

keras.utils.set_random_seed(0)


def build():
    model = keras.Sequential([keras.Input((4,)), Counted(), keras.layers.Dense(1)])
    compile_model(model)
    return model


def compile_model(model):
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9), "mse", **COMPILE)


def callbacks():
    if "plain" in sys.argv:
        return []
    return [CosineDecay(0.001).warmup(1), ReduceLROnPlateau("loss", patience=2), LRHistory()]


def fit(model, **options):
    size = options.pop("steps", 20)
    x = np.ones((size, 4), "float32")
    model.fit(x, x[:, :1], batch_size=1, verbose=0, **options)


def measure():
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "megabytes": pages * 4096 / 2**20,
        "objects": len(gc.get_objects()),
        "threads": threading.active_count(),
        "traces": Counted.runs if keras.backend.backend() != "torch" else 0,
    }


class Measure(keras.callbacks.Callback):
    """Measures when a quarter and all of the epochs are over."""

    def __init__(self, epochs):
        super().__init__()
        self.moments = epochs // 4, epochs - 1
        self.measured = []

    def on_epoch_end(self, epoch, logs=None):
        if epoch in self.moments:
            self.measured.append(measure())


def long_fit(count):
    """Measure inside one fit of so many steps."""
    epochs = 8
    watch = Measure(epochs)
    fit(build(), steps=count // epochs, epochs=epochs, callbacks=[*callbacks(), watch])
    return watch.measured


def many(count, prepare):
    """Measure between so many fits of one model."""
    model, measured = build(), []
    for number in range(1, count + 1):
        prepare(model)
        fit(model, epochs=2, callbacks=callbacks())
        if number in (max(2, count // 4), count):
            measured.append(measure())
    return measured


what, count = sys.argv[1], int(sys.argv[2])
before, after = {
    "steps": lambda: long_fit(count),
    "fits": lambda: many(count, lambda model: None),
    "compiles": lambda: many(count, compile_model),
}[what]()
print(json.dumps({name: after[name] - before[name] for name in before}))
