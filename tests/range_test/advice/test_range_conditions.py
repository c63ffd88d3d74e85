"""What a range test knows of its data, its model and the training to come, for its advice."""

import json
import pickle

import keras
import numpy as np
import pytest
from models import COMPILE, X, Y

from keras_lr import (
    CosineDecay,
    LinearDecay,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    RangeTestResult,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core


def model(optimizer=None):
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    made.compile(optimizer or keras.optimizers.Adam(), "mse", **COMPILE)
    return made


def fit(callbacks, epochs=5, optimizer=None, **options):
    data = {"x": X[:64], "y": Y[:64], "batch_size": 4} | options
    return model(optimizer).fit(epochs=epochs, verbose=0, callbacks=callbacks, **data)


class Rows(keras.utils.PyDataset):
    """Batches of four rows that say their size."""

    batch_size = 4

    def __len__(self):
        return 16

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], Y[rows]


@pytest.mark.full
@pytest.mark.parametrize("arrays", [True, False])
def test_a_test_knows_the_rows_of_a_batch_and_whether_they_are_normalized(arrays):
    data = {"x": X[:64], "y": Y[:64], "batch_size": 4} if arrays else {"x": Rows()}
    plain = model()
    found = LRRangeTest(verbose=0).run(plain, **data).conditions
    assert (found.batch_size, found.batch_norm) == (4, False)


@pytest.mark.full
@pytest.mark.parametrize("trains", [True, False])
def test_batch_normalization_counts_where_it_trains(trains):
    keras.utils.set_random_seed(3)
    norm = keras.layers.BatchNormalization(trainable=trains)
    inner = keras.Sequential([keras.layers.Dense(8), norm])
    made = keras.Sequential([keras.Input((6,)), inner, keras.layers.Dense(1)])
    made.compile(keras.optimizers.Adam(), "mse", **COMPILE)
    found = LRRangeTest(verbose=0).run(made, X[:64], Y[:64], batch_size=4)
    assert found.conditions.batch_norm is trains
    assert ("with batch normalization" in found.report()) is trains


def test_data_of_unknown_length_say_no_epochs():
    def batches():
        while True:
            for i in range(0, 64, 4):
                yield X[i : i + 4], Y[i : i + 4]

    found = LRRangeTest(verbose=0).run(model(), batches())
    assert found.suggest(steps=1000) > 0.0
    with pytest.raises(ValueError, match="data of the test did not say"):
        found.suggest(epochs=3)


@pytest.mark.full
def test_more_budget_reads_runs_of_the_same_length():
    found = LRRangeTest(verbose=0, budget=600).run(model(), X[:64], Y[:64], batch_size=4).found
    assert found.run_length > 60
    assert found.advised_from == (found.early_best, 60)


@pytest.mark.full
def test_what_a_result_knows_survives_files_and_pickles():
    test = LRRangeTest(verbose=0, apply=True)
    fit([test])
    found = test.result
    for again in (
        pickle.loads(pickle.dumps(found)),
        RangeTestResult.from_dict(json.loads(json.dumps(found.to_dict()))),
    ):
        assert again.training == found.training
        assert again.conditions == found.conditions
        assert again.suggestion == found.suggestion
        assert again.report() == found.report()


# In a fit -----------------------------------------------------------------------------------------


def test_a_fit_says_the_length_and_the_schedule():
    test = LRRangeTest(verbose=0, apply=True)
    rate = CosineDecay(0.7)
    fit([test, rate])
    found = test.result
    assert (found.training.steps, found.training.schedule) == (80, "CosineDecay")
    expected = found.suggest(steps=80, schedule=CosineDecay)
    assert found.suggestion == pytest.approx(expected)
    assert rate.history.learning_rate[0] == pytest.approx(expected)
    assert found.found.suggestion != pytest.approx(expected)
    assert found.confidence == found.advise(steps=80, schedule=CosineDecay).confidence
    assert f"80 steps of CosineDecay: {expected:.1e}" in found.report()


@pytest.mark.full
@pytest.mark.parametrize("callback", [None, ReduceLROnPlateau(monitor="loss", patience=9)])
def test_without_a_schedule_the_rate_is_constant(callback):
    test = LRRangeTest(verbose=0, apply=True)
    fit([test] + ([] if callback is None else [callback]))
    assert test.result.training.schedule == "Constant"
    expected = test.result.suggest(steps=80)
    np.testing.assert_allclose(test.history.learning_rate, expected, rtol=1e-6)


@pytest.mark.full
def test_a_schedule_for_several_hyperparameters_says_that_of_the_rate():
    test = LRRangeTest(verbose=0, apply=True)
    fit([test, ParamScheduler(learning_rate=LinearDecay(0.1), beta_1=CosineDecay(0.9, 0.8))])
    assert test.result.training.schedule == "LinearDecay"


@pytest.mark.full
def test_a_later_test_is_of_a_trained_model_and_suggests_as_outside_a_fit():
    test = LRRangeTest(verbose=0, every=4)
    fit([test], optimizer=keras.optimizers.Adam(1e-4))
    assert test.results[0].training.steps == 80
    later = test.results[4]
    assert later.training is None
    assert later.suggestion == later.found.suggestion


@pytest.mark.full
def test_auto_cycles_up_to_the_rate_for_the_fit():
    test = LRRangeTest(verbose=0, auto=OneCycle(1.0))
    fit([test])
    high = test.result.suggest(epochs=5, schedule=OneCycle)
    assert test.result.bounds[1] == pytest.approx(high)
    assert test.history.learning_rate.max() == pytest.approx(high, rel=1e-3)
    assert test.history.learning_rate[0] == pytest.approx(test.result.bounds[0])


def test_the_rate_is_for_what_is_left_of_the_fit():
    test = LRRangeTest(verbose=0, apply=True)
    fit([test, LinearDecay(1.0)], epochs=5, initial_epoch=4)
    assert test.result.training.steps == 16
    # From 0.2 on the rate falls to zero: its mean is half of that.
    assert test.result.training.mean == pytest.approx(0.53, abs=0.01)
