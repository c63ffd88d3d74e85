"""`DistanceOverGradients` follows the formulas of its paper, step by step."""

import numpy as np
import pytest
from keras import optimizers
from rule_problems import (
    START,
    assert_follows,
    batches,
    fit,
    flat,
    gradients,
    linear,
    plain_sgd,
    start,
    train,
)

from keras_lr import CosineDecay, DistanceOverGradients, ReduceLROnPlateau

pytestmark = pytest.mark.core

SPLIT = [slice(0, 3), slice(3, 4)]
"""Where the kernel and the bias stand."""


def by_hand(initial, parts=(slice(0, 4),), factors=None, epochs=2):
    """Return the last weights, and the highest rate of each step."""
    weights = start()
    distance = [initial * (1 + np.linalg.norm(weights[part])) for part in parts]
    squares = [1e-8] * len(parts)
    rates = []
    for step, (x, y) in enumerate(batches(epochs)):
        gradient, new = gradients(weights, x, y), weights.copy()
        found = []
        for i, part in enumerate(parts):
            way = np.linalg.norm(weights[part] - start()[part])
            distance[i] = max(distance[i], way)
            squares[i] += gradient[part] @ gradient[part]
            rate = distance[i] / np.sqrt(squares[i]) * (1 if factors is None else factors[step])
            found.append(rate)
            new[part] = weights[part] - rate * gradient[part]
        rates.append(max(found))
        weights = new
    return weights, rates


@pytest.mark.parametrize("initial", [1e-4, 1e-2])
def test_one_rate_for_all_weights(initial):
    found = fit(DistanceOverGradients(initial_distance=initial), plain_sgd(7.0), epochs=4)
    assert_follows(found, *by_hand(initial, epochs=4))


def test_a_rate_for_each_tensor():
    found = fit(
        DistanceOverGradients(initial_distance=1e-2, layer_wise=True), plain_sgd(), epochs=4
    )
    assert_follows(found, *by_hand(1e-2, SPLIT, epochs=4))


@pytest.mark.parametrize("layer_wise", [False, True])
def test_a_schedule_multiplies_the_rate(layer_wise):
    curve = CosineDecay(1.0).values(epochs=2, steps_per_epoch=5)
    for order in (1, -1):
        callback = DistanceOverGradients(initial_distance=1e-2, layer_wise=layer_wise)
        model = linear(plain_sgd())
        train(model, *[callback, CosineDecay(1.0)][::order])
        found = model.get_weights(), callback.history.learning_rate
        assert_follows(found, *by_hand(1e-2, SPLIT if layer_wise else [slice(0, 4)], curve))


def test_a_plateau_cuts_the_rate():
    callback = DistanceOverGradients(initial_distance=1e-2)
    cut = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    model = linear(plain_sgd())
    history = train(model, callback, cut, epochs=4)
    factors = np.repeat([1.0, 1.0, 0.5, 0.25], 5)
    found = model.get_weights(), callback.history.learning_rate
    assert_follows(found, *by_hand(1e-2, factors=factors, epochs=4))
    np.testing.assert_array_equal(np.float32(history.history["learning_rate"]), found[1][4::5])


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (lambda: optimizers.Adam(), {}, "gives SGD its rate, not Adam"),
        (lambda: optimizers.SGD(momentum=0.9), {}, "each gradient count 10 times"),
        (
            lambda: optimizers.SGD(weight_decay=0.1),
            {"layer_wise": True},
            "the weight decay of SGD uses a single one",
        ),
    ],
)
def test_optimizers_of_the_wrong_kind_are_refused(optimizer, options, message):
    model = linear(optimizer())
    with pytest.raises(ValueError, match=message):
        train(model, DistanceOverGradients(**options))
    np.testing.assert_array_equal(flat(model.get_weights()), flat(START))


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`initial_distance` must be"):
        DistanceOverGradients(initial_distance=0.0)


def test_an_average_of_the_weights_is_kept_beside_it():
    callback = DistanceOverGradients(initial_distance=1e-2)
    model = linear(plain_sgd(use_ema=True, ema_momentum=0.5))
    train(model, callback)
    last, rates = by_hand(1e-2)
    np.testing.assert_allclose(callback.history.learning_rate, rates, rtol=2e-4)
    assert not np.allclose(flat(model.get_weights()), last, rtol=1e-3)
    assert np.float32(model.optimizer.learning_rate) == callback.history.learning_rate[-1]


def test_a_tensor_that_does_not_move_has_no_part_in_the_record():
    callback = DistanceOverGradients(initial_distance=1e-2, layer_wise=True)
    model = linear(plain_sgd())
    x, y = np.zeros((8, 3), "float32"), np.full((8, 1), 2.0, "float32")
    train(model, callback, epochs=1, x=x, y=y)
    kernel, bias = model.get_weights()
    np.testing.assert_array_equal(kernel, START[0])
    # The gradient of the bias is 2 (0.1 - 2), and its distance 0.01 (1 + 0.1).
    np.testing.assert_allclose(callback.history.learning_rate, [0.011 / 3.8], rtol=1e-5)
    np.testing.assert_allclose(bias, [0.111], rtol=1e-5)
