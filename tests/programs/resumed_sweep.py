"""Runs a sweep whose settings are of all kinds, and says how many trials it has trained.

Usage: resumed_sweep.py FOLDER
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import functools
import itertools
import json
import logging
import sys
import threading

import keras
import numpy as np
from models import COMPILE
from problems import line_data

import keras_lr as lr

NAMES = {"head", "body", "tail"}
BASE = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dropout(0.0)])
LOG = logging.getLogger(__name__)
TENSOR = keras.ops.ones((2,))


class Records(keras.callbacks.Callback):
    def __init__(self, **options):
        super().__init__()
        self.options = options
        self.lock = threading.Lock()
        self.numbers = itertools.count()
        self.random = np.random.default_rng()
        self.seeds = keras.random.SeedGenerator()
        self.owner = object()
        self.act = self.on_epoch_end
        self.trainings = 0

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, logs=None):
        self.trainings += 1


@functools.lru_cache
def known(name):
    return name in NAMES and name in {"head", "other", "body", "more"}


def build(optimizer, base=BASE):
    assert known("head")
    LOG.debug("building with %s", TENSOR)
    layers = [keras.layers.Dense(3), keras.layers.Dense(1, name="head")]
    model = keras.Sequential([keras.Input((3,)), keras.models.clone_model(base), *layers])
    model.compile(optimizer, "mse", **COMPILE)
    return model


def main(folder):
    x, y = line_data()
    records = Records(names=NAMES, base=BASE, regularizer=keras.regularizers.L2(0.1), kind=object)
    factors = {"head": lr.Constant(1.0).lasting(1) >> lr.Function(lambda epoch: 0.5)}
    sweep = lr.LRSweep(
        0.01, 0.1, per_decade=1, seeds=1, optimizers=["adam"], verbose=0, directory=folder,
        schedule=lambda rate: lr.PiecewiseConstant([1], [rate, rate / len(NAMES)]),
    )  # fmt: skip
    callbacks = [records, lr.LayerRates(factors), keras.callbacks.EarlyStopping("loss")]
    result = sweep.run(build, x, y, epochs=2, batch_size=8, callbacks=callbacks)
    values = [row.value for row in result.rows]
    print(json.dumps({"trainings": records.trainings, "values": values}))


if __name__ == "__main__":
    main(sys.argv[1])
