"""A schedule of an optimizer that is made of several: the rates move together."""

import keras
import numpy as np
import pytest
from keras import layers
from models import COMPILE, several_optimizers

from keras_lr import (
    CosineDecay,
    Function,
    LinearDecay,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
)

pytestmark = [pytest.mark.core, several_optimizers]

STEPS = 6
X = np.random.default_rng(1).normal(size=(8 * STEPS, 4)).astype("float32")


def several(*rates):
    """Return a model whose optimizer has these rates for its layers."""
    keras.utils.set_random_seed(5)
    names = [f"part_{number}" for number in range(len(rates))]
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4, name=name) for name in names)])
    optimizers = [
        keras.optimizers.SGD(rate, name=name) for name, rate in zip(names, rates, strict=True)
    ]
    by_path = {f".*/{one.name}/.*": one for one in optimizers}
    chosen = keras.optimizers.OptimizerMap(optimizers[0], by_path)
    model.compile(keras.optimizers.MultiOptimizer(chosen), "mse", **COMPILE)
    return model


def train(model, *callbacks, epochs=2, **options):
    model.fit(
        *(X, X),
        **{"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": epochs} | options,
        callbacks=list(callbacks),
    )
    return model


def rates(callback):
    """Return the recorded rates, that of the schedule first."""
    names = [name for name in callback.history.names if name.startswith("learning_rate")]
    return [callback.history[name].astype(np.float64) for name in sorted(names)]


def test_the_highest_follows_and_the_others_keep_their_ratios():
    model = train(several(0.1, 0.4), schedule := CosineDecay(0.2))
    curve = schedule.values(epochs=2, steps_per_epoch=STEPS)
    np.testing.assert_allclose(rates(schedule), [curve, 0.25 * curve], rtol=1e-6)
    again = several(0.1, 0.4)
    parts = zip(again.optimizer.optimizers, (0.05, 0.2), strict=True)
    train(again, *(ParamScheduler(one, learning_rate=CosineDecay(peak)) for one, peak in parts))
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_fit_that_ends_at_zero_leaves_the_ratios():
    model = several(0.1, 0.4)
    train(model, LinearDecay(0.2, over="4 steps"))
    assert all(float(one.learning_rate) == 0.0 for one in model.optimizer.optimizers)
    train(model, schedule := LinearDecay(0.2))
    high, low = rates(schedule)
    np.testing.assert_allclose(low, 0.25 * high, rtol=1e-6)
    for one, rate in zip(model.optimizer.optimizers, (0.3, 0.1), strict=True):
        one.learning_rate = rate
    train(model, schedule := LinearDecay(0.3))
    np.testing.assert_allclose(rates(schedule)[0], 3.0 * rates(schedule)[1], rtol=1e-6)


def test_rates_that_are_all_zero_have_no_ratio():
    with pytest.raises(ValueError, match="these rates have none"):
        train(several(0.0, 0.0), LinearDecay(0.2))


def test_a_plateau_and_a_function_of_the_rate():
    falling = Function(lambda epoch, lr: 0.5 * lr)
    plateau = ReduceLROnPlateau("loss", patience=1, factor=0.1, min_delta=1e9)
    train(several(0.1, 0.4), plateau, falling, epochs=4)
    high, low = rates(falling)
    np.testing.assert_allclose(low, 0.25 * high, rtol=1e-5)
    assert high[0] == pytest.approx(0.2)
    assert high[-1] < 0.4 * 0.5**4


def test_one_cycle_needs_one_momentum():
    cycle = OneCycle(0.4, momentum=None)
    train(several(0.1, 0.4), cycle)
    high, low = rates(cycle)
    np.testing.assert_allclose(low, 0.25 * high, rtol=1e-6)


def test_a_range_test_scales_all_rates_together():
    model = several(0.1, 0.4)
    test = LRRangeTest(1e-3, 1e-1, steps=12, rule="edge", restore=False, verbose=0)
    result = test.run(model, X, X, batch_size=8, shuffle=False)
    low, high = sorted(float(one.learning_rate) for one in model.optimizer.optimizers)
    assert high == pytest.approx(result.rates[-1])
    assert low == pytest.approx(0.25 * result.rates[-1])


def train_on_one_batch(model, *callbacks):
    """Train on the same batch in each step, so that no noise hides what a rate does."""
    x = np.tile(X[:8], (STEPS, 1))
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, x, epochs=2, callbacks=list(callbacks), **options)
    return model


def test_a_range_test_in_a_fit_sets_all_rates():
    test = LRRangeTest(1e-5, 1e3, steps=40, rule="edge", verbose=0, apply=True)
    model = train_on_one_batch(several(0.1, 0.4), test)
    low, high = sorted(float(one.learning_rate) for one in model.optimizer.optimizers)
    assert high == pytest.approx(test.result.suggestion, rel=1e-5)
    assert low == pytest.approx(0.25 * high)
    schedule = CosineDecay(0.4)
    test = LRRangeTest(1e-5, 1e3, steps=40, rule="edge", verbose=0, apply=True)
    train_on_one_batch(several(0.1, 0.4), test, schedule)
    assert max(map(max, rates(schedule))) == pytest.approx(test.result.suggestion, rel=1e-5)
