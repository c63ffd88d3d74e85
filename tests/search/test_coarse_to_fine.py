"""Halving, finer rates, subsets and sizes; and that the engine decides nothing."""

import dataclasses
import random

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import line, line_data

from keras_lr import OneCycle
from keras_lr.search import LRSweep
from keras_lr.search.engines.local import LocalEngine

pytestmark = pytest.mark.core


def sweep(low=0.001, high=1.0, **more):
    options = {"per_decade": 1, "seeds": 1, "optimizers": ["sgd"], "verbose": 0}
    return LRSweep(low, high, **options | more)


def run(swept, epochs=8, **fit):
    x, y = line_data()
    return swept.run(line, x, y, **{"epochs": epochs, "batch_size": 8} | fit)


def epochs_by_rate(result, optimizer="SGD"):
    rows = [row for row in result.rows if row.trial.optimizer == optimizer]
    return {row.trial.learning_rate: row.epochs for row in rows}


@pytest.mark.full
@pytest.mark.parametrize("schedule", [None, OneCycle], ids=["constant", "schedule"])
def test_a_rate_that_goes_on_continues_its_training(schedule):
    whole = run(sweep(schedule=schedule))
    halved = run(sweep(schedule=schedule, halving=0.125))
    assert sorted(epochs_by_rate(halved).values()) == [1, 1, 2, 8]
    full = {row.trial: row.logs for row in whole.rows}
    for row in halved.rows:
        cut = {name: values[: row.epochs] for name, values in full[row.trial].items()}
        assert row.logs == cut
        assert row.status == ("trained" if row.epochs == 8 else "partial")
        assert row.steps == 5 * row.epochs
    (last,) = (row for row in halved.rows if row.epochs == 8)
    assert halved.best.learning_rate == last.trial.learning_rate
    assert halved.best.value == last.logs["loss"][-1]


def test_each_optimizer_is_halved_by_itself_and_all_seeds_of_a_rate_go_on():
    result = run(sweep(optimizers=["sgd", "adam"], halving=0.25, seeds=2))
    for optimizer in ("SGD", "Adam"):
        assert sorted(epochs_by_rate(result, optimizer).values()) == [2, 2, 4, 8]
        best = result.best_of(optimizer)
        rows = [row for row in result.rows if row.trial.optimizer == optimizer]
        through = [row for row in rows if row.status == "trained"]
        assert [row.trial.seed for row in through] == [0, 1]
        assert {row.trial.learning_rate for row in through} == {best.learning_rate}


class Contrary(LocalEngine):
    """Runs stretches in a random order, and loses every other state."""

    def run(self, stretches):
        stretches = random.Random(0).sample(stretches, len(stretches))
        for number, outcome in enumerate(super().run(stretches)):
            yield dataclasses.replace(outcome, state=outcome.state if number % 2 else None)


@pytest.mark.full
def test_the_engine_does_not_change_the_result():
    usual = run(sweep(halving=0.25, seeds=2, refine=1))
    contrary = run(sweep(halving=0.25, seeds=2, refine=1), engine=Contrary())
    assert [(r.trial, r.status, r.logs) for r in contrary.rows] == [
        (r.trial, r.status, r.logs) for r in usual.rows
    ]
    assert contrary.best.learning_rate == usual.best.learning_rate


def test_finer_rates_lie_beside_the_best():
    coarse = run(sweep())
    best = coarse.best.learning_rate
    assert best == 0.1
    fine = run(sweep(refine=2))
    rates = [row.trial.learning_rate for row in fine.rows]
    expected = [10**exponent for exponent in (-3, -2, -5 / 3, -4 / 3, -1, -2 / 3, -1 / 3, 0)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert fine.best.value <= coarse.best.value


def test_the_end_of_the_range_is_said():
    result = run(sweep(0.001, 0.01), epochs=2)
    assert result.best.end == "highest"
    assert "the highest rate tried: a higher one may do better still" in result.report()
    assert run(sweep(), epochs=2).best.end == ""


@pytest.mark.full
def test_a_subset_has_fewer_rows_and_fewer_steps():
    x, y = line_data()
    seen = []

    class Sees(keras.callbacks.Callback):
        def __deepcopy__(self, memo):
            return self

        def on_train_end(self, logs=None):
            seen.append(self.params["steps"])

    result = run(sweep(subset=0.5), epochs=2, callbacks=[Sees()])
    assert seen == [3] * 4
    assert [row.steps for row in result.rows] == [6] * 4
    keras.utils.set_random_seed(0)
    model = line(keras.optimizers.SGD(0.1))
    rows = np.random.default_rng(0).permutation(40)[:20]
    history = model.fit(x[rows], y[rows], epochs=2, batch_size=8, verbose=0)
    assert result.rows[2].logs == history.history
    stepped = run(sweep(subset=0.5), epochs=2, batch_size=None, steps_per_epoch=4)
    assert [row.steps for row in stepped.rows] == [4] * 4


def test_sizes_tell_by_how_much_the_best_rate_moves():
    def of_scale(scale):
        def build(optimizer):
            model = keras.Sequential(
                [
                    keras.Input((3,)),
                    keras.layers.Rescaling(scale),
                    keras.layers.Dense(1, use_bias=False),
                ]
            )
            model.compile(optimizer, "mse", **COMPILE)
            return model

        return build

    x, y = line_data()
    builds = {"1x": of_scale(1.0), "4x": of_scale(10.0**0.5)}
    result = sweep().run(builds, x, y, epochs=8, batch_size=8)
    assert [row.trial.size for row in result.rows] == ["1x"] * 4 + ["4x"] * 4
    # The gradient grows with the square of the scale, so the best rate falls by as much.
    assert result.best_of("SGD", "1x").learning_rate == 0.1
    assert result.best_of("SGD", "4x").learning_rate == 0.01
    assert result.moves() == {"SGD": {"1x": 1.0, "4x": pytest.approx(0.1)}}
    assert "SGD, 1x to 4x: the best rate moves by a factor of 0.1" in result.report()


class Spoils(keras.callbacks.Callback):
    """Logs a NaN in place of the validation loss at low rates."""

    def on_epoch_end(self, epoch, logs=None):
        if self.model.optimizer.learning_rate < 0.05:
            logs["val_loss"] = float("nan")


def test_rates_without_a_finite_value_are_neither_continued_nor_refined():
    x, y = line_data()
    swept = sweep(0.001, 0.1, halving=0.5, refine=1)
    found = swept.run(
        line, x, y, epochs=2, batch_size=8, validation_data=(x, y), callbacks=[Spoils()]
    )
    assert found.best.learning_rate == 0.1
    assert {row.trial.learning_rate for row in found.rows} == {0.001, 0.01, 0.1, 0.0316228}
    spoiled = [row for row in found.rows if row.trial.learning_rate < 0.05]
    assert {row.status for row in spoiled} == {"diverged"}
