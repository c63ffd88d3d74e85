"""Rehearsals without validation data: rows of arrays are held out."""

import json

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr import CosineDecay, LRRangeTest, RangeTestResult

pytestmark = pytest.mark.core

ROWS, BATCH = 1000, 16
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 6)).astype("float32")
X[:, 0] = np.arange(ROWS) / ROWS
Y = (X.sum(1, keepdims=True) + RANDOM.normal(size=(ROWS, 1))).astype("float32")


class Recording(keras.Model):
    """A linear model that records the arrays that it trains and validates on.

    It does so in its class, because a test puts back what a model holds.
    """

    trained, validated = [], []

    def __init__(self, **fixed):
        inputs = keras.Input((6,), **fixed)
        super().__init__(inputs, keras.layers.Dense(1)(inputs))
        self.compile(keras.optimizers.SGD(0.01), "mse", **COMPILE)
        self.trained.clear()
        self.validated.clear()

    def fit(self, x=None, y=None, sample_weight=None, **options):
        self.trained.append((x, y, sample_weight))
        return super().fit(x, y, sample_weight=sample_weight, **options)

    def evaluate(self, x=None, y=None, sample_weight=None, **options):
        self.validated.append((x, y, sample_weight))
        return super().evaluate(x, y, sample_weight=sample_weight, **options)


def network(**fixed):
    keras.utils.set_random_seed(0)
    return Recording(**fixed)


def run(model=None, budget=700, rows=ROWS, **fit):
    options = {"x": X[:rows], "y": Y[:rows], "batch_size": BATCH} | fit
    return LRRangeTest(budget=budget, verbose=0).run(model or network(), **options)


def numbers(x):
    """Return the numbers of rows, from their first column."""
    return np.rint(np.asarray(x)[:, 0] * ROWS).astype(int)


def test_a_fifth_of_the_rows_is_held_out_in_whole_batches():
    model = network()
    rehearsal = run(model, budget=4000).rehearsal
    assert rehearsal.held_out == 192
    trained, validated = numbers(model.trained[-1][0]), numbers(model.validated[-1][0])
    assert len(validated) == 192
    assert sorted([*trained, *validated]) == list(range(ROWS))
    # They are drawn from everywhere, because data are often sorted.
    assert np.histogram(validated, bins=5, range=(0, ROWS))[0].min() > 20
    assert len(numbers(model.trained[0][0])) == ROWS


@pytest.mark.full
def test_all_runs_are_compared_on_the_same_rows():
    model = network()
    run(model)
    assert len(model.validated) >= 3
    for x, *_ in model.validated:
        np.testing.assert_array_equal(x, model.validated[0][0])


def test_targets_and_weights_go_with_their_rows():
    model = network()
    weights = np.arange(ROWS, dtype="float32") / ROWS
    run(model, sample_weight=weights)
    for x, y, weight in (model.trained[-1], model.validated[-1]):
        rows = numbers(x)
        np.testing.assert_array_equal(np.asarray(y), Y[rows])
        np.testing.assert_array_equal(np.asarray(weight), weights[rows])


@pytest.mark.full
def test_no_more_rows_are_copied_than_a_run_trains_on():
    model = network()
    x, y = np.tile(X, (20, 1)), np.tile(Y, (20, 1))
    rehearsal = run(model, x=x, y=y).rehearsal
    assert rehearsal.held_out == 2000
    assert len(model.trained[-1][0]) == rehearsal.training.steps * BATCH


@pytest.mark.full
def test_unshuffled_rows_keep_their_order():
    model = network()
    run(model, shuffle=False)
    assert (np.diff(numbers(model.trained[-1][0])) > 0).all()


def test_the_report_and_the_stored_result_say_so():
    result = run()
    assert "loss on 192 rows that were held out ended lowest at" in result.report()
    again = RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.rehearsal == result.rehearsal
    assert again.report() == result.report()


def test_the_model_is_as_it_was():
    model = network()
    model.optimizer.build(model.trainable_variables)
    before = [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]
    run(model)
    after = [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_in_a_fit_the_training_is_on_all_rows():
    model = network()
    test = LRRangeTest(budget=1200, verbose=0, apply=True)
    options = {"batch_size": BATCH, "epochs": 3, "verbose": 0}
    fit = model.fit(X, Y, callbacks=[test, CosineDecay(0.1)], **options)
    assert test.result.rehearsal.held_out == 192
    assert test.result.rehearsal.training == test.result.training
    assert fit.params["steps"] == 63
    assert "val_loss" not in fit.history
    assert int(model.optimizer.iterations) == 3 * 63


@pytest.mark.full
@pytest.mark.parametrize("batch_size", [8, 40, 100])
def test_a_model_of_one_batch_size_gets_only_such_batches(batch_size):
    model = network(batch_size=batch_size)
    assert run(model, batch_size=batch_size).rehearsal.held_out == 200


@pytest.mark.full
def test_the_number_of_steps_in_an_epoch_may_be_given():
    result = run(batch_size=None, steps_per_epoch=50)
    assert result.rehearsal.held_out == 200


def batches_once():
    yield X[:100], Y[:100]


@pytest.mark.full
def test_validation_data_that_can_be_read_only_once_are_not_used_up():
    once = batches_once()
    assert run(validation_data=once).rehearsal.held_out == 192
    assert len(next(once)[0]) == 100


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [{"rows": 499}, {"batch_size": 256}, {"budget": 699}],
    ids=["few rows", "few batches", "small budget"],
)
def test_without_enough_rows_or_budget_there_is_none(options):
    assert run(**options).rehearsal is None


@pytest.mark.full
def test_data_other_than_arrays_are_not_split():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 50

        def __getitem__(self, index):
            rows = slice(20 * index, 20 * index + 20)
            return X[rows], Y[rows]

    assert run(x=Batches(), y=None, batch_size=None).rehearsal is None


@pytest.mark.full
def test_nested_inputs_are_split_together():
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    outputs = keras.layers.Dense(1)(keras.layers.Add()([left, right]))
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile(keras.optimizers.SGD(0.01), "mse", **COMPILE)
    result = run(model, x={"left": X, "right": X})
    assert result.rehearsal.held_out == 192
