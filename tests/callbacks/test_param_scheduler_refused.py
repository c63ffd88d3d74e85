"""What `ParamScheduler` is written as, and what it refuses before the first update."""

import copy
import pickle

import keras
import numpy as np
import pytest
from models import fit, meter, samples, settled
from shapes import written

from keras_lr import (
    Constant,
    CosineDecay,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    PiecewiseConstant,
)

pytestmark = pytest.mark.core


def test_an_optimizer_that_is_not_there_lists_what_is():
    model = meter(optimizer=keras.optimizers.SGD(0.5))
    model.generator_optimizer = keras.optimizers.SGD(0.5)
    scheduler = ParamScheduler("generatr_optimizer", learning_rate=Constant(0.1))
    with pytest.raises(ValueError, match="no optimizer named 'generatr_optimizer'") as caught:
        fit(model, scheduler)
    assert "Did you mean 'generator_optimizer'?" in str(caught.value)
    assert not model.get_weights()[0].any()


@pytest.mark.parametrize(
    ("optimizer", "name", "words"),
    [
        (
            keras.optimizers.SGD(0.5, momentum=0.9),
            "momentm",
            r"SGD has no hyperparameter 'momentm'.*Did you mean 'momentum'\? It has: learning_rate",
        ),
        (keras.optimizers.Adam(0.5), "momentum", "It has: learning_rate, beta_1, beta_2, epsilon"),
        (keras.optimizers.SGD(0.5), "beta_1", "SGD has no hyperparameter 'beta_1'"),
        (keras.optimizers.Adam(0.5), "weight_decay", "weight_decay=None: it is not used"),
        (keras.optimizers.Adagrad(0.5), "initial_accumulator_value", "It has: .*_rate, epsilon"),
        (keras.optimizers.Ftrl(0.5), "initial_accumulator_value", "has no hyperparameter 'initial"),
        (keras.optimizers.Adam(0.5), "amsgrad", "Adam has no hyperparameter 'amsgrad'"),
        (
            keras.optimizers.SGD(0.5, momentum=0.0),
            "momentum",
            r"built with momentum=0 and keeps no velocity.*SGD\(momentum=0.9\)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_number_that_cannot_move_says_what_can(optimizer, name, words):
    model = meter(optimizer=optimizer)
    with pytest.raises(ValueError, match=words):
        fit(model, ParamScheduler(**{name: Constant(0.1)}))
    assert not model.get_weights()[0].any()


def test_it_takes_schedules():
    with pytest.raises(ValueError, match="at least one schedule must be given"):
        ParamScheduler()
    words = r"ParamScheduler: argument `momentum` must be a schedule.* Received: momentum=0.9"
    with pytest.raises(TypeError, match=words):
        ParamScheduler(momentum=0.9)


def test_a_schedule_in_the_place_of_an_optimizer():
    with pytest.raises(TypeError, match=r"ParamScheduler\(learning_rate=...\).*CosineDecay"):
        ParamScheduler(CosineDecay(0.1))


def test_two_that_move_the_same_number_raise():
    model = meter(optimizer=keras.optimizers.SGD(0.5, momentum=0.25))
    with pytest.raises(ValueError, match="Two callbacks drive momentum of the same optimizer"):
        fit(model, [OneCycle(0.1), ParamScheduler(momentum=Constant(0.5))])
    assert not model.get_weights()[0].any()


@pytest.mark.parametrize(
    ("optimizer", "name", "course", "words"),
    [
        ("adam", "beta_2", Constant(2.0), r"gives beta_2=2 for step 0 of .*at least 0 and below 1"),
        ("adam", "beta_1", Constant(1.0 - 1e-9), "gives beta_1=1 for step 0 of"),
        ("sgd", "momentum", LinearDecay(0.5, 1.5), "gives momentum=1 for step 5 of the fit"),
        ("sgd", "momentum", Constant(0.5) - Constant(0.9), "momentum=-0.4 for step 0 .*at least 0"),
        ("adamw", "weight_decay", Constant(0.1) - Constant(0.2), "gives weight_decay=-0.1 for"),
        ("rmsprop", "rho", PiecewiseConstant([1], [0.9, 1.1]), "gives rho=1.1 for step 5 of"),
    ],
)
def test_a_value_that_the_optimizer_cannot_have_is_refused_first(optimizer, name, course, words):
    made = keras.optimizers.get(optimizer)
    if optimizer == "sgd":
        made = keras.optimizers.SGD(0.5, momentum=0.25)
    model = meter(optimizer=made)
    with pytest.raises(ValueError, match=words):
        fit(model, ParamScheduler(**{name: course}), epochs=2)
    assert not settled(model).get_weights()[0].any()


def test_a_value_late_in_a_long_first_epoch_is_refused_before_the_first_update():
    model = meter(optimizer=keras.optimizers.SGD(0.5, momentum=0.25), steps=1)
    data = np.ones((1500, 1), "float32"), np.zeros((1500, 1), "float32")
    momentum = PiecewiseConstant(["1400 steps"], [0.5, 1.1])
    with pytest.raises(ValueError, match=r"gives momentum=1\.1 for step 1400 of the fit"):
        model.fit(*data, batch_size=1, verbose=0, callbacks=[ParamScheduler(momentum=momentum)])
    assert not settled(model).get_weights()[0].any()


def test_an_epoch_of_unknown_length_is_named_where_a_value_is_refused():
    model = meter(optimizer=keras.optimizers.SGD(0.5, momentum=0.25))
    x, y = samples()
    batches = ((x[i : i + 2], y[i : i + 2]) for _ in range(3) for i in range(0, len(x), 2))
    momentum = PiecewiseConstant([2], [0.5, 1.5])
    with pytest.raises(ValueError, match=r"gives momentum=1\.5 for epoch 2 of the fit"):
        model.fit(batches, epochs=3, verbose=0, callbacks=[ParamScheduler(momentum=momentum)])
    assert not settled(model).get_weights()[0].any()


# What a config file or a worker process needs -----------------------------------------------------


@pytest.mark.parametrize(
    "scheduler",
    [
        ParamScheduler(momentum=LinearDecay(0.95, 0.85)),
        ParamScheduler("second", learning_rate=CosineDecay(0.1).warmup(2), beta_1=Constant(0.5)),
        ParamScheduler(weight_decay=PiecewiseConstant([1], [0.1, 0.0]).per_epoch()),
    ],
    ids=written,
)
def test_it_is_serialised(scheduler):
    again = [
        ParamScheduler.from_config(scheduler.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(scheduler)),
        pickle.loads(pickle.dumps(scheduler)),
        copy.deepcopy(scheduler),
    ]
    for other in again:
        assert other == scheduler
        assert hash(other) == hash(scheduler)
        assert repr(other) == repr(scheduler)
    assert scheduler != ParamScheduler(momentum=LinearDecay(0.95, 0.8))
    assert scheduler != LRHistory()


def test_an_optimizer_as_an_object_is_not_serialised():
    scheduler = ParamScheduler(keras.optimizers.SGD(0.1), learning_rate=Constant(0.1))
    with pytest.raises(ValueError, match="Give the name of the model's attribute instead"):
        scheduler.get_config()
