"""What `ParamScheduler` is written as, and what it refuses before the first update."""

import copy
import pickle

import keras
import pytest
from models import fit, meter
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
