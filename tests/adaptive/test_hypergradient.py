"""`HypergradientDescent` follows the formulas of its paper, step by step."""

import numpy as np
import pytest
from keras import optimizers
from rule_problems import (
    AdamByHand,
    MomentumByHand,
    adam,
    assert_follows,
    batches,
    fit,
    gradients,
    sgd,
    start,
)

from keras_lr import HypergradientDescent

pytestmark = pytest.mark.core


def normalised(rate, beta, optimizer, **options):
    """Return the last weights and all rates of a training run by the normalised rule."""
    weights = before = start()
    rates = []
    for x, y in batches(**options):
        gradient, change = gradients(weights, x, y), weights - before
        size = np.linalg.norm(gradient) * np.linalg.norm(change)
        rate *= 1 + beta * (-gradient @ change / size if size else 0)
        rates.append(rate)
        before = weights
        weights = weights + optimizer.step(gradient, rate)
    return weights, rates


@pytest.mark.parametrize("rate", [1e-4, 0.01])
def test_the_normalised_rule_with_momentum(rate):
    found = fit(HypergradientDescent(beta=0.2), sgd(rate), epochs=4)
    assert_follows(found, *normalised(rate, 0.2, MomentumByHand(4), epochs=4))


def test_the_normalised_rule_with_adam():
    found = fit(HypergradientDescent(beta=0.3), adam(0.01), epochs=3)
    assert_follows(found, *normalised(0.01, 0.3, AdamByHand(4), epochs=3))


def test_the_additive_rule_is_the_product_of_two_gradients_with_sgd():
    """The first formula of the paper."""
    weights, last, rate, rates = start(), np.zeros(4), 0.01, []
    for x, y in batches():
        gradient = gradients(weights, x, y)
        rate += 1e-4 * gradient @ last
        rates.append(rate)
        weights, last = weights - rate * gradient, gradient
    found = fit(HypergradientDescent(beta=1e-4, rule="additive"), optimizers.SGD(0.01))
    assert_follows(found, weights, rates)
    assert rates[-1] > 1.2 * rates[0]


def test_the_rate_keeps_within_its_bounds():
    grown = fit(HypergradientDescent(beta=0.5, max_lr=0.02), sgd(0.01))[1]
    assert grown[0] == np.float32(0.01)
    assert grown.max() == np.float32(0.02)
    falling = HypergradientDescent(beta=100.0, rule="additive", min_lr=0.004)
    assert fit(falling, optimizers.SGD(0.9), epochs=1)[1].min() == np.float32(0.004)


def test_a_rate_a_hundred_times_too_small_grows_to_a_good_one():
    rates = fit(HypergradientDescent(), adam(5e-5), epochs=20)[1]
    assert rates[-1] > 100 * rates[0]


def test_plain_sgd_is_warned_of():
    with pytest.warns(UserWarning, match="SGD without momentum to a rate that is too low"):
        fit(HypergradientDescent(), optimizers.SGD(0.01), epochs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1.0}, "`beta` must be above 0 and below 1 for the normalised rule"),
        ({"beta": 0.0}, "`beta` must be"),
        ({"rule": "multiplied"}, "`rule` must be"),
        ({"min_lr": 0.0}, "`min_lr` must be"),
        ({"max_lr": 1e-9}, "`max_lr` must be at least min_lr=1e-08"),
        ({"state_path": ""}, "`state_path` must be"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HypergradientDescent(**arguments)
