"""`Prodigy` follows the formulas of its paper, step by step."""

import keras
import numpy as np
import pytest
from keras import optimizers
from rule_problems import (
    START,
    adam,
    assert_follows,
    batches,
    fit,
    flat,
    gradients,
    linear,
    start,
    train,
)

from keras_lr import CosineDecay, LayerRates, OneCycle, Prodigy, ReduceLROnPlateau

pytestmark = pytest.mark.core


def by_hand(d0, factors=None, safeguard=True, growth=np.inf, coef=1.0, decay=0.0, epochs=2):
    """Return the last weights, and the rate of each step, of algorithm 4 of the paper.

    Adam's means are those of ``d * g`` there, and its epsilon counts ``d`` times.
    """
    weights, beta_1, beta_2 = start(), 0.9, 0.999
    beta_3 = np.sqrt(beta_2)
    mean, square, total = np.zeros(4), np.zeros(4), np.zeros(4)
    distance, highest, numerator, rates = d0, d0, 0.0, []
    for step, (x, y) in enumerate(batches(epochs)):
        factor = 1.0 if factors is None else factors[step]
        gradient = gradients(weights, x, y)
        unbiased = np.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))
        rate = distance * factor
        rates.append(rate)
        mean = beta_1 * mean + (1 - beta_1) * distance * gradient
        square = beta_2 * square + (1 - beta_2) * (distance * gradient) ** 2
        weight = distance / d0
        numerator = beta_3 * numerator + weight * rate * unbiased * gradient @ (start() - weights)
        by = distance if safeguard else rate * unbiased
        total = beta_3 * total + weight * by * gradient
        estimate = coef * numerator / np.abs(total).sum()
        new = max(distance, estimate) if distance == d0 else distance
        highest = max(highest, estimate)
        change = rate * unbiased * mean / (np.sqrt(square) + distance * 1e-8)
        weights = weights * (1 - decay * rate) - change
        distance = min(highest, new * growth)
    return weights, rates


@pytest.mark.parametrize("d0", [1e-4, 1e-2])
def test_the_rate_is_the_estimate_of_the_distance(d0):
    found = fit(Prodigy(d0=d0), adam(7.0), epochs=6)
    weights, rates = by_hand(d0, epochs=6)
    assert_follows(found, weights, rates)
    assert rates[-1] > 2 * d0


@pytest.mark.parametrize("safeguard", [True, False])
def test_a_schedule_multiplies_the_rate(safeguard):
    schedule = CosineDecay(1.0).warmup("4 steps", start=0.1)
    curve = schedule.values(epochs=4, steps_per_epoch=5)
    for order in (1, -1):
        callback = Prodigy(d0=1e-2, safeguard_warmup=safeguard)
        model = linear(adam())
        train(model, *[callback, schedule][::order], epochs=4)
        found = model.get_weights(), callback.history.learning_rate
        assert_follows(found, *by_hand(1e-2, curve, safeguard, epochs=4))


def test_a_bound_of_the_growth_and_a_coefficient():
    found = fit(Prodigy(d0=1e-4, d_coef=2.0, growth_rate=1.1), adam(), epochs=6)
    assert_follows(found, *by_hand(1e-4, growth=1.1, coef=2.0, epochs=6))


def test_adamw_decays_by_the_rate_of_the_step():
    optimizer = optimizers.AdamW(weight_decay=0.5, epsilon=1e-8)
    found = fit(Prodigy(d0=1e-2), optimizer, epochs=4)
    assert_follows(found, *by_hand(1e-2, decay=0.5, epochs=4))


def test_an_adam_that_has_trained_before_goes_on_in_its_own_units():
    """Its means are of the gradients, as they are without this callback."""
    model = linear(adam())
    train(model, epochs=3)
    callback = Prodigy(d0=1e-2)
    train(model, callback, epochs=6)
    assert callback.history.learning_rate[-1] > 0.015
    slots = {one.path.split("_")[-1]: one for one in model.optimizer.variables}
    plain = linear(adam())
    train(plain, epochs=9)
    for name, mine in {one.path.split("_")[-1]: one for one in plain.optimizer.variables}.items():
        if name == "velocity":
            ratio = np.array(mine) / np.array(slots[name])
            assert ((ratio > 1e-2) & (ratio < 1e2)).all()


def test_amsgrad_and_a_plateau_and_rates_of_layers_stand_beside_it():
    callback = Prodigy(d0=1e-2)
    model = linear(adam(amsgrad=True))
    cut = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    train(model, LayerRates({"net/line/bias": 0.0}), callback, cut, epochs=3)
    rates = callback.history.learning_rate
    np.testing.assert_array_equal(model.get_weights()[1], START[1])
    np.testing.assert_array_equal(callback.history["learning_rate_net/line/bias"], 0.0)
    whole = Prodigy(d0=1e-2)
    model = linear(adam(amsgrad=True))
    train(model, LayerRates({"net/line/bias": 0.0}), whole, epochs=2)
    np.testing.assert_array_equal(rates[:10], whole.history.learning_rate)


def test_a_momentum_that_moves_stands_beside_it():
    callback = Prodigy(d0=1e-2)
    train(linear(adam()), callback, OneCycle(1.0))
    assert np.ptp(callback.history["beta_1"]) > 0.05
    assert np.isfinite(callback.history.learning_rate).all()


@pytest.mark.parametrize("optimizer", [optimizers.SGD, optimizers.Nadam, optimizers.Lion])
def test_optimizers_of_the_wrong_kind_are_refused(optimizer):
    model = linear(optimizer(0.1))
    with pytest.raises(ValueError, match="gives Adam and AdamW their rate, not"):
        train(model, Prodigy())
    np.testing.assert_array_equal(flat(model.get_weights()), flat(START))


@pytest.mark.parametrize("rate", [0.001, 0.1])
def test_a_schedule_of_rates_is_warned_of(rate):
    with pytest.warns(UserWarning, match=rf"at most {rate}\..*make 1\.0 its highest value"):
        train(linear(adam()), Prodigy(), CosineDecay(rate))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d0": 0.0}, "`d0` must be"),
        ({"d_coef": -1.0}, "`d_coef` must be"),
        ({"growth_rate": 1.0}, "`growth_rate` must be"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Prodigy(**arguments)


def test_a_fit_leaves_an_adam_whose_next_fit_is_as_ever():
    model = linear(adam())
    train(model, Prodigy(d0=1e-2))
    model.optimizer.learning_rate = 0.01
    before = model.evaluate(*batches_of_all(), verbose=0)
    train(model, epochs=5)
    assert model.evaluate(*batches_of_all(), verbose=0) < before
    assert keras.ops.convert_to_numpy(model.optimizer.learning_rate) == np.float32(0.01)


def batches_of_all():
    x, y = zip(*batches(1), strict=True)
    return np.concatenate(x), np.concatenate(y)
