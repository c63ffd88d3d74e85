"""What a sweep refuses, before any training."""

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import line, line_data

from keras_lr import CosineDecay, LRRangeTest, ParamScheduler
from keras_lr.range_test import NoSuggestion
from keras_lr.search import LRSweep

X, Y = line_data()


def run(swept=None, build=line, x=X, y=Y, **fit):
    swept = LRSweep(0.01, 0.1, per_decade=1, seeds=1, optimizers=["sgd"], verbose=0, **swept or {})
    return swept.run(build, x, y, **{"epochs": 2, "batch_size": 8} | fit)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"min_lr": 0.1, "max_lr": 0.1},
            r"`max_lr` must be above min_lr=0.1. Received: max_lr=0.1",
        ),
        ({"min_lr": 1.0, "max_lr": 0.1}, r"`max_lr` must be above min_lr=1.0"),
        ({"min_lr": 0.0}, r"`min_lr` must be a finite number above 0"),
        ({"per_decade": 0}, r"`per_decade` must be a whole number of at least 1"),
        ({"seeds": 0}, r"`seeds` must be a whole number of at least 1"),
        ({"optimizers": []}, r"`optimizers` must be a list of optimizers"),
        ({"optimizers": "sgd"}, r"`optimizers` must be a list"),
        ({"optimizers": ["sdg"]}, r"Keras knows no 'sdg'"),
        ({"optimizers": [keras.optimizers.SGD]}, r"pass an object: SGD\(\)"),
        ({"optimizers": ["sgd", "SGD"]}, r"each once \(SGD appears twice\)"),
        (
            {"optimizers": [keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))]},
            r"with a number for its rate .*schedule=lambda lr",
        ),
        ({"until": "accuracy"}, r"`until` must be a metric, >=.* such as 'accuracy >= 0.97'"),
        ({"until": "accuracy >= high"}, r"`until` must be a metric"),
        ({"halving": 1.0}, r"`halving` must be a finite number above 0 and below 1"),
        ({"subset": 0.0}, r"`subset` must be a finite number above 0"),
        ({"refine": -1}, r"`refine` must be a whole number of at least 0"),
        ({"schedule": CosineDecay(0.1)}, r"`schedule` must be a function of the rate"),
        ({"mode": "up"}, r"`mode` must be one of 'auto', 'min', 'max'"),
        ({"optimisers": ["sgd"]}, r"unknown argument `optimisers`.* Did you mean `optimizers`"),
    ],
)
def test_arguments_of_a_sweep(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        LRSweep(**arguments)


def uncompiled(optimizer):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def with_own_optimizer(optimizer):
    model = uncompiled(optimizer)
    model.compile("adam", "mse", **COMPILE)
    return model


def with_schedule(optimizer):
    model = uncompiled(optimizer)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 9)
    model.compile(keras.optimizers.SGD(schedule), "mse", **COMPILE)
    return model


ONE = []


def the_same(optimizer):
    if not ONE:
        ONE.append(line(optimizer))
    ONE[0].compile(optimizer, "mse", **COMPILE)
    return ONE[0]


SIZES = []


def ever_larger(optimizer):
    SIZES.append(len(SIZES) + 1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(len(SIZES))])
    model.compile(optimizer, "mse", **COMPILE)
    return model


@pytest.mark.core
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda optimizer: None, r"must return a compiled Keras model. Received: None"),
        (uncompiled, r"must return a compiled model: call model.compile\(optimizer, loss\)"),
        (
            with_own_optimizer,
            r"must compile the model with the optimizer that it is given.*, an Adam$",
        ),
        (with_schedule, r"optimizer has a learning rate schedule.*LRSweep\(schedule=lambda lr"),
        (the_same, r"must return a new model at each call"),
        (ever_larger, r"must return a model of the same shape at each call"),
        ("model", r"`build` must be a function of an optimizer"),
        (lambda: None, r"`build` must be a function of an optimizer.*whose arguments are \(\)"),
        ({}, r"`build` must be a function of an optimizer"),
        (line(keras.optimizers.SGD()), r"`build` must be a function of an optimizer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_build_returns(build, words, trainings):
    with pytest.raises((TypeError, ValueError), match=words):
        run(build=build)
    assert trainings() == 0


@pytest.mark.core
@pytest.mark.parametrize("fit", [{}, {"callbacks": [keras.callbacks.Callback()]}])
def test_what_is_not_refused_is_trained(fit, trainings):
    run(**fit)
    assert trainings() == 2


def batches():
    while True:
        yield X, Y


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": None, "y": None}, r"`x` must hold data to train on"),
        ({"x": X[:0], "y": Y[:0]}, r"`x` must hold data to train on. Received: x=no rows"),
        ({"x": batches(), "y": None, "batch_size": None}, r"`x` must be data that can be read ag"),
        ({"x": iter([(X, Y)]), "y": None, "batch_size": None}, r"can be read once"),
        ({"validation_data": batches()}, r"`validation_data` must be data that can be read again"),
        ({"test_data": batches()}, r"`test_data` must be data that can be read again"),
        ({"epochs": 0}, r"`epochs` must be a whole number of at least 1. Received: epochs=0"),
        ({"epochs": 1.5}, r"`epochs` must be a whole number"),
        ({"batchsize": 8}, r"unknown argument `batchsize`.* Did you mean `batch_size`"),
        ({"initial_epoch": 1}, r"`initial_epoch` is decided by the sweep"),
        ({"callbacks": [CosineDecay(0.1)]}, r"must hold none that decides the learning rate"),
        ({"callbacks": LRRangeTest()}, r"must hold none that decides the learning rate"),
        (
            {"callbacks": [ParamScheduler(learning_rate=CosineDecay(0.1))]},
            r"To sweep a schedule, pass LRSweep\(schedule=lambda lr",
        ),
        (
            {"callbacks": [keras.callbacks.BackupAndRestore("backup")]},
            r"must hold no BackupAndRestore.*LRSweep\(directory=",
        ),
        ({"callbacks": ["EarlyStopping"]}, r"`callbacks` must be a list of Keras callbacks"),
        (
            {"callbacks": [keras.callbacks.History]},
            r"holds the class.*=\[History\(...\)\]",
        ),
        ({"callbacks": 3}, r"`callbacks` must be a list of Keras callbacks"),
        ({"engine": "cluster"}, r"`engine` must be one of 'local'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_of_run(arguments, words, trainings):
    with pytest.raises((TypeError, ValueError), match=words):
        run(**arguments)
    assert trainings() == 0


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"monitor": "val_loss"}, r"`monitor` must name .* Received: monitor='val_loss'. Logged"),
        ({"monitor": "acuracy"}, r"`monitor` must name .* Received: monitor='acuracy'. Logged are"),
        ({"monitor": "accuracy", "mode": "max"}, r"`monitor` must name a value that an epoch logs"),
        ({"until": "accuracy >= 0.9"}, r"`until` must name a value that an epoch logs.*are: loss"),
    ],
)
def test_a_metric_that_is_not_logged(arguments, words, trainings):
    with pytest.raises(ValueError, match=words):
        run(arguments)
    assert trainings() == 0


@pytest.mark.core
def test_epochs_that_do_not_validate_cannot_be_compared(trainings):
    validated = {"validation_data": (X, Y), "validation_freq": 2}
    with pytest.raises(ValueError, match=r"`validation_freq` must be 1, .* log 'val_loss'"):
        run(**validated)
    assert trainings() == 0
    assert len(run({"monitor": "loss"}, **validated).rows) == 2


@pytest.mark.core
def test_a_schedule_that_is_no_callback_is_refused(trainings):
    with pytest.raises(TypeError, match=r"returns a callback, .*one that returns 0\.1 for 0\.01"):
        run({"schedule": lambda lr: 0.1})
    assert trainings() == 0


def test_a_subset_of_what_has_no_rows():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X, Y

    with pytest.raises(ValueError, match=r"`subset` needs arrays or tensors"):
        run({"subset": 0.5}, x=Batches(), y=None, batch_size=None)


def test_a_sweep_in_which_all_fails_says_why():
    def build(optimizer):
        raise RuntimeError("no such layer")

    result = run(build=build)
    assert [row.status for row in result.rows] == ["failed"] * 2
    with pytest.raises(NoSuggestion, match="no such layer"):
        result.best  # noqa: B018
    assert "SGD: no best rate (build raised RuntimeError: no such layer)" in result.report()
    with pytest.raises(KeyError, match=r"has no Adam\. It has: SGD"):
        result.best_of("Adam")
    assert np.isnan(result.rows[0].value)


def test_a_build_that_fails_for_a_seed_fails_its_trials_alone():
    def build(optimizer):
        if np.random.get_state()[1][0] == 1:  # noqa: NPY002
            raise OSError("no disk")
        return line(optimizer)

    x, y = line_data()
    swept = LRSweep(0.01, 0.1, per_decade=1, seeds=3, optimizers=["sgd"], verbose=0)
    rows = swept.run(build, x, y, epochs=1).rows
    assert [row.status for row in rows] == ["trained", "failed", "trained"] * 2
    assert {row.reason for row in rows if row.status == "failed"} == {
        "build raised OSError: no disk"
    }
