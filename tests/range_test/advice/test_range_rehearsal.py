"""Rehearsals: what a larger budget buys where there are validation data."""

import json
import math
import pickle

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import COMPILE

from keras_lr import (
    Constant,
    CosineDecay,
    LRRangeTest,
    OneCycle,
    RangeTestResult,
    WarmupStableDecay,
)
from keras_lr.range_test.advice import Rehearsal, Training, rehearsal_length, rehearse

pytestmark = pytest.mark.core

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 6)).astype("float32")
Y = (X.sum(1, keepdims=True) + RANDOM.normal(size=(64, 1))).astype("float32")
VALIDATION = X[:24] + 0.5, Y[:24]
FIT = {"x": X, "y": Y, "batch_size": 8}
BUDGET = 700


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.5), "mse", **COMPILE)
    return model


def run(model=None, budget=BUDGET, **fit):
    options = FIT | {"validation_data": VALIDATION} | fit
    return LRRangeTest(budget=budget, verbose=0).run(model or network(), **options)


class Batches(keras.callbacks.Callback):
    """Counts the batches that are trained."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def trained(rate, rows=64):
    """Return a new model after 100 steps at a rate on batches of the first rows, in their order."""
    model = network()
    model.optimizer.learning_rate = rate
    epochs, rest = divmod(100, rows // 8)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(X[:rows], Y[:rows], epochs=epochs, **options)
    model.fit(X[: 8 * rest], Y[: 8 * rest], **options)
    return model


# What it measures ---------------------------------------------------------------------------------


def test_the_losses_are_those_of_a_fit_at_each_rate():
    rehearsal = run(shuffle=False).rehearsal
    assert rehearsal.training == Training(100)
    assert len(rehearsal.losses) == 4
    for rate, loss in rehearsal.losses.items():
        expected = trained(rate).evaluate(*VALIDATION, verbose=0)
        assert loss == pytest.approx(expected, rel=1e-4)
    lowest = min(rehearsal.losses, key=rehearsal.losses.get)
    assert lowest / 3.2 < rehearsal.best < lowest * 3.2


@pytest.mark.parametrize("schedule", [CosineDecay, WarmupStableDecay])  # one begins at a rate of 0
def test_in_a_fit_it_follows_the_schedule_of_the_fit(schedule):
    fit = FIT | {"validation_data": VALIDATION, "epochs": 16, "shuffle": False, "verbose": 0}
    test = LRRangeTest(budget=1200, verbose=0, apply=True)
    network().fit(**fit, callbacks=[test, schedule(0.1)])
    rehearsal = test.result.rehearsal
    assert rehearsal.training == test.result.training
    assert f"128 steps of {schedule.__name__}" in test.result.report()
    for rate, loss in rehearsal.losses.items():
        model = network()
        model.fit(**fit, callbacks=[schedule(rate)])
        assert loss == pytest.approx(model.evaluate(*VALIDATION, verbose=0), rel=1e-4)


@pytest.mark.parametrize("schedule", [OneCycle(1.0), CosineDecay(1.0), Constant(1.0)])
def test_a_shorter_run_follows_the_schedule_compressed(schedule):
    training = Training.plan(900, schedule).of_length(100)
    expected = schedule.values(epochs=1, steps_per_epoch=100)
    assert training.rates(0.5) == pytest.approx(0.5 * expected, abs=0.01)


WEIGHTS = np.linspace(0.0, 2.0, 24).astype("float32")


@pytest.mark.full
@pytest.mark.parametrize(
    ("fit", "rows", "evaluated"),
    [
        ({"validation_data": (*VALIDATION, WEIGHTS)}, 64, {"sample_weight": WEIGHTS}),
        ({"validation_steps": 2}, 64, {"steps": 2, "batch_size": 8}),
        ({"validation_steps": 1, "validation_batch_size": 5}, 64, {"steps": 1, "batch_size": 5}),
        ({"validation_data": None, "validation_split": 0.25}, 48, {"x": X[48:], "y": Y[48:]}),
    ],
    ids=["weights", "steps", "batch size", "split"],
)
def test_validation_is_that_of_fit(fit, rows, evaluated):
    rehearsal = run(shuffle=False, **fit).rehearsal
    rate, loss = next(iter(rehearsal.losses.items()))
    data = dict(zip("xy", VALIDATION, strict=True))
    expected = trained(rate, rows).evaluate(**data | evaluated, verbose=0)
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.full
def test_the_model_is_as_it_was_and_the_budget_is_kept():
    model, count = network(), Batches()
    model.optimizer.build(model.trainable_variables)
    before = [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]
    result = run(model, budget=1000, callbacks=[count])
    assert result.rehearsal.training.steps == 175
    assert 60 + 240 + 3 * 175 < count.count <= 1000
    after = [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


# When there is one --------------------------------------------------------------------------------


def batches_once():
    yield VALIDATION


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [{"validation_data": None}, {"budget": 699}, {"validation_data": batches_once()}],
    ids=["no validation", "small budget", "generator"],
)
def test_without_room_or_data_the_whole_budget_is_for_short_runs(options):
    result = run(**options)
    assert result.rehearsal is None
    assert result.found.run_length > 100


def test_where_short_runs_find_nothing_the_rest_of_the_budget_goes_into_longer_ones():
    # The sum of the inputs is one 37th of the variance, in batches of two.
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 6)).astype("float32")
    y = (x.sum(1, keepdims=True) + 6.0 * random.normal(size=(2000, 1))).astype("float32")
    data = {"x": x[500:], "y": y[500:], "batch_size": 2, "shuffle": False}
    count = Batches()
    short = LRRangeTest(budget=300, verbose=0).run(network(), **data)
    assert "Nothing was learnt" in short.reason
    result = run(budget=2000, callbacks=[count], **data, validation_data=(x[:500], y[:500]))
    assert result.found.run_length > 300
    assert result.rehearsal is None
    assert 1e-4 < result.suggestion < 0.1
    assert count.count <= 2000


@pytest.mark.full
def test_a_model_that_was_trained_before_has_none():
    model = network()
    model.fit(X, Y, verbose=0)
    assert run(model).rehearsal is None


def test_in_a_fit_it_is_as_long_as_what_is_left():
    test = LRRangeTest(budget=1200, verbose=0, apply=True)
    schedule = CosineDecay(0.1)
    options = {"validation_data": VALIDATION, "verbose": 0, "epochs": 16}
    network().fit(X, Y, batch_size=8, callbacks=[test, schedule], **options)
    assert test.result.rehearsal.training == test.result.training
    assert test.result.training.steps == 16 * 8
    assert test.history.learning_rate[0] == pytest.approx(test.result.suggestion)


@pytest.mark.parametrize(
    ("budget", "steps", "length"),
    [
        (399, 1000, 0),
        (400, 1000, 100),
        (400, 20, 100),
        (4000, 300, 300),
        (4000, 5000, 1000),
    ],
)
def test_its_length(budget, steps, length):
    assert rehearsal_length(budget, steps) == length


@pytest.mark.full
def test_without_a_validation_loss_there_is_a_warning():
    with pytest.warns(UserWarning, match="validation logged no finite loss"):
        result = run(validation_data=(X[:24], np.nan * Y[:24]))
    assert result.rehearsal is None
    assert result.suggestion == result.found.suggestion


# What follows from it -----------------------------------------------------------------------------


def test_advice_lies_halfway_between_the_short_runs_and_the_rehearsal():
    result = run(budget=1000)
    length = result.rehearsal.training.steps
    without = RangeTestResult.from_dict(
        {name: one for name, one in result.to_dict().items() if name != "rehearsal"}
    )
    short, both = without.suggest(steps=length), result.suggest(steps=length)
    assert both**2 == pytest.approx(short * result.rehearsal.best)
    # From there to other training runs the rate moves by the same factor.
    for other in ({"steps": 3000}, {"steps": length, "schedule": "OneCycle"}):
        assert result.suggest(**other) / both == pytest.approx(without.suggest(**other) / short)
    assert result.suggestion == result.suggest(steps=600)
    assert result.confidence == result.advise(steps=600).confidence
    # What was rehearsed is known better, and what is shorter no worse.
    for steps, surer in ((100, False), (length, True), (3000, True)):
        before, after = (one.advise(steps=steps).confidence for one in (without, result))
        assert after > before if surer else after == before
    assert "In 4 runs of 175 steps at one rate, between" in result.report()


def test_it_survives_files_and_pickles():
    result = run()
    rehearsal = Rehearsal(result.rehearsal.best, Training(100), {0.1: 2.0, 1.0: math.inf})
    result = RangeTestResult.from_dict(
        result.to_dict()
        | {
            "rehearsal": {
                "best": rehearsal.best,
                "training": Training(100).to_dict(),
                "losses": [[0.1, 2.0], [1.0, math.inf]],
            }
        }
    )
    assert result.rehearsal == rehearsal
    again = RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.rehearsal == rehearsal
    assert pickle.loads(pickle.dumps(result)).rehearsal == rehearsal


# The search for the best rate ---------------------------------------------------------------------


class Valley:
    """Runs whose validation loss is lowest at a rate, and which diverge from another one on."""

    def __init__(self, best, edge=math.inf):
        self.best, self.edge = best, edge
        self.steps, self.rate = 0, 0.0

    def follow(self, rates):
        self.steps, self.rate = self.steps + len(rates), rates.max()
        return np.full(len(rates), np.nan if self.rate >= self.edge else 1.0)

    def validate(self):
        return 1.0 + math.log10(self.rate / self.best) ** 2

    ramp = hold = None


@settings(deadline=None)
@given(st.floats(-4.0, -1.0), st.floats(-1.5, 1.5), st.integers(100, 500), st.integers(4, 8))
def test_it_finds_the_lowest_validation_loss_within_the_budget(best, off, length, runs):
    valley = Valley(10.0**best)
    found = rehearse(valley, 10.0 ** (best + off), Training(length), runs * length)
    assert valley.steps <= runs * length
    reached = max(0.0, abs(off) - 0.5 * (runs - 3))
    assert abs(math.log10(found.best) - best) <= reached + 0.51


def test_runs_that_diverge_lead_to_lower_rates():
    valley = Valley(0.001, edge=0.01)
    found = rehearse(valley, 0.1, Training(100), 800)
    assert found.best == pytest.approx(0.001, rel=0.3)
    assert math.inf in found.losses.values()


def test_where_every_run_diverges_there_is_no_rehearsal():
    assert rehearse(Valley(0.001, edge=0.0), 0.1, Training(100), 800) is None
