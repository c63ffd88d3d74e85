"""What a record is of: no changed setting goes unnoticed, and nothing else counts as a change."""

import functools
import json

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import line_data
from processes import run_program

import keras_lr as lr
from keras_lr._state import checksum_of

X, Y = line_data()


def line(optimizer, regularizer=None):
    layer = keras.layers.Dense(1, name="head", kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(optimizer, "mse", **COMPILE)
    return model


def run(folder, build=line, schedule=None, **fit):
    """Run a sweep of two rates in a folder; return the values of its trials."""
    sweep = lr.LRSweep(
        0.01,
        0.1,
        per_decade=1,
        seeds=1,
        optimizers=["sgd"],
        verbose=0,
        directory=folder,
        schedule=schedule,
    )
    result = sweep.run(build, X, Y, **{"epochs": 2, "batch_size": 8} | fit)
    return [row.value for row in result.rows]


def scaled(base):
    return lambda rate: base.scale(rate)


def stages(last):
    return lr.Constant(1.0).lasting(1) >> lr.Constant(last)


def constant(value):
    return lambda epoch: value


def factor_of(table):
    return lambda rate: lr.Constant(table["all"][0] * rate)


def times(factor, rate):
    return lr.Constant(factor * rate)


def at_epoch_end(action):
    return keras.callbacks.LambdaCallback(on_epoch_end=action)


class Regularized:
    """A `build` that holds a regularizer."""

    def __init__(self, regularizer):
        self.regularizer = regularizer

    def __call__(self, optimizer):
        return line(optimizer, self.regularizer)


class Stops(keras.callbacks.Callback):
    """A callback whose setting has another name than the argument, and is nested."""

    def __init__(self, epoch):
        super().__init__()
        self.plan = {"stop": [(epoch,)]}

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch >= self.plan["stop"][0][0]


def circular(value):
    """Return a callback that refers to itself."""
    callback = Stops(value)
    callback.itself = callback
    callback.plan["owner"] = [callback]
    return callback


def deep(value):
    """Return a callback with a list that is nested more deeply than is described."""
    callback = Stops(value)
    callback.nested = functools.reduce(lambda inner, _: [inner], range(3000), [])
    return callback


CHANGES = {
    "sequence": lambda v: {"schedule": scaled(stages(v))},
    "pieces": lambda v: {"schedule": scaled(lr.PiecewiseConstant([1], [1.0, v]))},
    "function": lambda v: {"schedule": scaled(lr.Function(constant(v)))},
    "lambda": lambda v: {
        "schedule": scaled(lr.Function((lambda epoch: 0.5) if v else (lambda epoch: epoch + 1.0)))
    },
    "dict": lambda v: {"schedule": factor_of({"all": [v]})},
    "array": lambda v: {"schedule": factor_of({"all": np.array([v])})},
    "partial": lambda v: {"schedule": functools.partial(times, v)},
    "layer rates": lambda v: {"callbacks": [lr.LayerRates({"head": v})]},
    "parameters": lambda v: {"callbacks": [lr.ParamScheduler(momentum=stages(v))]},
    "actions": lambda v: {
        "callbacks": [at_epoch_end((lambda e, logs: None) if v else (lambda e, logs: [e]))]
    },
    "attributes": lambda v: {"callbacks": [Stops(v)]},
    "circle": lambda v: {"callbacks": [circular(v)]},
    "depth": lambda v: {"callbacks": [deep(v)]},
    "build": lambda v: {"build": Regularized(keras.regularizers.L2(v))},
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_setting_is_noticed_and_the_same_one_is_not(tmp_path, kind):
    make = CHANGES[kind]
    values = run(tmp_path, **make(0.5))
    assert run(tmp_path, **make(0.5)) == values
    with pytest.raises(lr.StateError, match=r"Changed: (schedule|callbacks|build)"):
        run(tmp_path, **make(0.0))


class Remembers(keras.callbacks.Callback):
    """A callback that remembers in every way that a callback may, those of its copies too."""

    seen = 0

    def __init__(self, logs, count=0):
        super().__init__()
        self.logs = logs
        self.count = count
        self.table = {"epochs": {}}
        self.begin()

    def begin(self):
        self.history = []

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, logs=None):
        self.begin()
        Remembers.seen += 1
        self.held = self.model

    def on_epoch_end(self, epoch, logs=None):
        self.count += 1
        self.logs.append(dict(logs))
        self.history += [epoch]
        self.table["epochs"][self.count, epoch] = logs


LOSSES = []
COUNTS = {"builds": 0}


def counted(optimizer):
    COUNTS["builds"] += 1
    return line(optimizer)


def test_what_callbacks_and_functions_remember_is_no_setting(tmp_path):
    epochs, calls = set(), 0

    def count(epoch, logs):
        nonlocal calls
        calls += 1
        LOSSES.append(logs["loss"])
        epochs.add(epoch)

    callbacks = [
        Remembers([]),
        at_epoch_end(count),
        keras.callbacks.EarlyStopping("loss", patience=5),
        keras.callbacks.TerminateOnNaN(),
        lr.LRHistory(),
        lr.LayerRates({"head": stages(0.5)}),
    ]
    values = run(tmp_path, build=counted, callbacks=callbacks)
    assert callbacks[0].count == calls == len(LOSSES) == 4
    assert COUNTS["builds"]
    model = line(keras.optimizers.SGD())
    model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)
    assert run(tmp_path, build=counted, callbacks=callbacks) == values
    assert callbacks[0].count == 6


@pytest.mark.slow
def test_another_process_with_other_hashes_resumes(tmp_path):
    first, second = (
        run_program("resumed_sweep.py", tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2")
    )
    assert first["trainings"] == 2
    assert second == {**first, "trainings": 0}


def test_a_record_of_an_earlier_format_says_why_it_does_not_continue(tmp_path):
    values = run(tmp_path)
    path = tmp_path / "trials.jsonl"
    head, *rest = path.read_text().splitlines()
    plain = json.loads(head)
    del plain["fingerprint"]["format"], plain["checksum"]
    old = json.dumps({**plain, "checksum": checksum_of(plain)})
    path.write_text("\n".join([old, *rest]) + "\n")
    with pytest.raises(lr.StateError, match="was written by another version of keras_lr"):
        run(tmp_path)
    assert [row.value for row in lr.SweepResult.load(tmp_path).rows] == values
