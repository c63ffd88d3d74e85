"""Callbacks of trials that halving or a population continues: each stretch has new ones."""

import keras
import pytest
from problems import line, line_data, sweep

from keras_lr import (
    CosineDecay,
    DistanceOverGradients,
    Function,
    HypergradientDescent,
    LayerRates,
    LRHistory,
    LRRangeTest,
    ParamScheduler,
    PopulationBasedTraining,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core

X, Y = line_data()
FIT = {"epochs": 4, "batch_size": 8}


def run(halving=0.25, schedule=None, **fit):
    return sweep(halving=halving, schedule=schedule).run(line, X, Y, **FIT | fit)


REMEMBER = {
    "EarlyStopping": lambda: keras.callbacks.EarlyStopping("loss"),
    "ReduceLROnPlateau": lambda: ReduceLROnPlateau("loss"),
    "ModelCheckpoint": lambda: keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
    "SwapEMAWeights": lambda: keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
}


@pytest.mark.parametrize("name", REMEMBER)
@pytest.mark.parametrize("listed", [True, False], ids=["list", "function"])
def test_halving_refuses_callbacks_that_remember_earlier_epochs(name, listed, trainings):
    make = REMEMBER[name]
    words = rf"^LRSweep.run: argument `callbacks` .*Leave halving out.* Received: {name}$"
    with pytest.raises(ValueError, match=words):
        run(callbacks=[make()] if listed else lambda trial: [make()])
    assert trainings() == 0


def test_every_rate_of_the_grid_is_checked(trainings):
    def callbacks(trial):
        return [REMEMBER["EarlyStopping"]()] if trial.learning_rate > 0.05 else []

    with pytest.raises(ValueError, match="Received: EarlyStopping"):
        run(callbacks=callbacks)
    assert trainings() == 0


@pytest.mark.parametrize(
    "schedule",
    [
        lambda rate: ReduceLROnPlateau("loss"),
        lambda rate: keras.callbacks.ReduceLROnPlateau("loss"),
        lambda rate: HypergradientDescent(),
        lambda rate: DistanceOverGradients(),
        lambda rate: LRRangeTest(),
    ],
)
def test_halving_refuses_what_finds_its_rate_in_earlier_epochs(schedule, trainings):
    name = type(schedule(0.1)).__name__
    words = rf"`schedule` must return no callback.* Leave halving out.* returns a {name}$"
    with pytest.raises(ValueError, match=words):
        run(schedule=schedule)
    assert trainings() == 0


def test_a_population_checks_callbacks_that_a_function_makes(trainings):
    training = PopulationBasedTraining({"learning_rate": (1e-3, 0.1)}, population=2, verbose=0)
    for name, make in REMEMBER.items():
        with pytest.raises(ValueError, match=f"new callbacks in every round.* Received: {name}$"):
            training.run(line, X, Y, **FIT, callbacks=lambda trial, make=make: [make()])
    assert trainings() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"halving": None},
        {"epochs": 1},
    ],
    ids=["no halving", "one stretch"],
)
def test_a_trial_of_one_stretch_may_have_any(arguments):
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    rows = run(callbacks=[stop], schedule=lambda rate: ReduceLROnPlateau("loss"), **arguments).rows
    assert {row.epochs for row in rows} == {min(2, arguments.get("epochs", 4))}


@pytest.mark.full
@pytest.mark.parametrize(
    "more",
    [
        {"schedule": CosineDecay, "callbacks": lambda trial: [keras.callbacks.TerminateOnNaN()]},
        {"schedule": lambda rate: Function(lambda epoch, lr: 0.5 * lr)},
        {
            "schedule": lambda rate: keras.callbacks.LearningRateScheduler(
                lambda epoch, lr: 0.5 * lr
            )
        },
        {"callbacks": [LayerRates({"dense": CosineDecay(1.0)}), LRHistory()]},
        {"callbacks": [ParamScheduler(weight_decay=CosineDecay(0.1))]},
    ],
    ids=["schedule", "function", "of Keras", "layers", "weight decay"],
)
def test_callbacks_without_a_memory_give_what_one_fit_gives(more):
    def build(optimizer):
        model = line(optimizer)
        model.layers[0].name = "dense"
        return model

    optimizers = [keras.optimizers.SGD(weight_decay=0.01)]
    whole = sweep(optimizers=optimizers, schedule=more.get("schedule"))
    halved = sweep(optimizers=optimizers, schedule=more.get("schedule"), halving=0.25)
    fit = FIT | {"callbacks": more.get("callbacks", [])}
    full = {row.trial: row.logs for row in whole.run(build, X, Y, **fit).rows}
    (row,) = (row for row in halved.run(build, X, Y, **fit).rows if row.epochs == 4)
    assert row.logs == full[row.trial]


class StopsAfterTheFirstEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 0


def test_a_trial_that_a_callback_stops_where_trials_are_compared_has_ended():
    rows = run(callbacks=[StopsAfterTheFirstEpoch()]).rows
    assert [(row.status, row.epochs) for row in rows] == [("stopped", 1)] * 2
