"""A factor of 0 freezes a part of a model, as `trainable = False` does, and later it thaws."""

import warnings

import numpy as np
import pytest
from keras import optimizers
from selection import mostly_full
from test_layer_rates import (
    OPTIMIZERS,
    assert_same,
    compiled,
    network,
    slots,
    train,
    weights,
)

from keras_lr import Constant, LayerRates

pytestmark = pytest.mark.core

USUAL = "momentum", "Adam", "AdamW"
FROZEN = {"a number": 0.0, "a schedule": Constant(0.0)}


def untrained(make, body=True):
    """Return a compiled model, with or without a body that can be trained."""
    model, optimizer = network(), make(0.01)
    model.get_layer("body").trainable = body
    # Built inside of a fit, ScheduleFreeAdamW does not begin at the weights.
    optimizer.build(model.trainable_variables)
    return compiled(optimizer, model)


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=2e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("factor", FROZEN)
@pytest.mark.parametrize("name", mostly_full(OPTIMIZERS, USUAL))
def test_a_frozen_part_is_as_if_it_were_not_trainable(name, factor):
    make = OPTIMIZERS[name]
    expected = train(untrained(make, body=False))
    model = train(untrained(make), LayerRates({"body": FROZEN[factor]}))
    # The part that moves is compiled into other kernels, whose last digit may differ.
    compare = assert_same if factor == "a number" else assert_close
    compare(weights(model), weights(expected))
    start = weights(network())
    assert_same(weights(model), start, only="body")
    assert any(not np.array_equal(weights(model)[path], start[path]) for path in start)
    assert_same(slots(model.optimizer, "body"), slots(untrained(make).optimizer, "body"))


@pytest.mark.parametrize("name", mostly_full(OPTIMIZERS, USUAL))
def test_a_part_that_thaws_trains_as_if_it_had_just_been_made_trainable(name):
    """With an optimizer for each part, that of the part begins with it."""
    make = OPTIMIZERS[name]
    body, rest = make(0.01), make(0.01)
    model = network()
    several = optimizers.MultiOptimizer(optimizers.OptimizerMap(rest, {"net/body/.*": body}))
    several.build(model.trainable_variables)
    model.get_layer("body").trainable = False
    rest_alone = make(0.01)
    rest_alone.build(model.trainable_variables)
    train(compiled(rest_alone, model), epochs=1)
    model.get_layer("body").trainable = True
    rest.learning_rate = 0.01
    for mine, others in zip(rest.variables, rest_alone.variables, strict=True):
        mine.assign(others)
    train(compiled(several, model), epochs=2)
    frozen = Constant(0.0).lasting(1) >> Constant(1.0)
    thawed = train(untrained(make), LayerRates({"body": frozen}), epochs=3)
    assert_close(weights(thawed), weights(model))


THAW = ["head", "neck", "body"]


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (LayerRates.thaw(THAW, every=10), "never thaws 'neck', 'body': a fit of 12 steps"),
        (LayerRates.thaw(THAW, every=1), "never thaws 'body': a fit of 12 steps ends first. Thaw"),
        (
            LayerRates({"body": Constant(0.5).lasting(9) >> Constant(1.0)}),
            "factor of 'body': A fit of 12 steps ends before Constant(lr=1.0) begins",
        ),
        (LayerRates.thaw(THAW, every="5 steps"), None),
        (LayerRates({"body": Constant(0.0)}), None),
    ],
)
def test_a_part_that_a_fit_never_thaws_is_named(rates, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(untrained(optimizers.SGD), rates)
    notes = [str(one.message) for one in caught if "a fit of" in str(one.message).lower()]
    assert len(notes) == (words is not None)
    assert all(words in note for note in notes)
