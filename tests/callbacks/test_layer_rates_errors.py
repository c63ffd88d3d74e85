"""What `LayerRates` shows, and what it refuses before the first update."""

import re

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from models import COMPILE
from test_layer_rates import STEPS, X, assert_same, compiled, network, train, weights

from keras_lr import Constant, LayerDecay, LayerRates

pytestmark = pytest.mark.core


# What stands for what -----------------------------------------------------------------------------


def groups(callback, model):
    return [(row.variable, row.group, row.factor) for row in callback.table(model)]


def test_a_path_comes_before_patterns_and_a_pattern_before_layers():
    model = compiled("sgd")
    found = groups(LayerRates({"net/body/kernel": 0.5, "net/body/.*": 0.1, "head": 2.0}), model)
    assert found == [
        ("net/body/kernel", "net/body/kernel", 0.5),
        ("net/body/bias", "net/body", 0.1),
        ("net/head/kernel", "head", 2.0),
        ("net/head/bias", "head", 2.0),
        ("net/neck/kernel", "default", 1.0),
        ("net/neck/bias", "default", 1.0),
    ]


def test_a_path_may_leave_out_the_name_of_the_model():
    model = compiled("sgd")
    found = groups(
        LayerRates({"body/kernel": 0.5, "net/body/.*": 0.1, "net/head/bias": 2.0}), model
    )
    assert [(group, factor) for _, group, factor in found] == [
        ("body/kernel", 0.5),
        ("net/body", 0.1),
        ("net/head/bias", 2.0),
        *[("default", 1.0)] * 3,
    ]
    with pytest.raises(ValueError, match=r"in two groups: 'net/body/kernel' and 'body/kernel'"):
        LayerRates({"body/kernel": 0.5, "net/body/kernel": 0.1}).table(model)


def test_a_layer_stands_for_all_that_is_inside_it():
    body = keras.Sequential([layers.Dense(3, name="one"), layers.Dense(3, name="two")], name="body")
    model = keras.Sequential([keras.Input((6,)), body, layers.Dense(2, name="head")])
    compiled("sgd", model)
    by_name, by_layer = LayerRates({"body": 0.1}), LayerRates({body: 0.1})
    assert groups(by_layer, model) == groups(by_name, model)
    assert [row[1] for row in groups(by_name, model)] == ["body"] * 4 + ["default"] * 2
    assert [row[1] for row in groups(LayerRates({"two": 0.1}), model)].count("two") == 2


def test_a_pattern_of_names_alone_is_told_that_it_is_compared_with_whole_paths():
    with pytest.raises(ValueError, match=r"whole paths, such as 'net/body/kernel'.*'bod\.\*'"):
        LayerRates({"bod.*": 0.1}).table(compiled("sgd"))


def test_the_table_is_a_text():
    table = LayerRates({"body": 0.1}, default=2).table(compiled("sgd"))
    assert repr(table).splitlines() == [
        "variable         group    factor",
        "net/body/kernel  body        0.1",
        "net/body/bias    body        0.1",
        "net/neck/kernel  default       2",
        "net/neck/bias    default       2",
        "net/head/kernel  default       2",
        "net/head/bias    default       2",
    ]


def test_table_and_repr_show_the_factors_of_the_last_update():
    thawing = LayerRates({"body": Constant(0.0).lasting(1) >> Constant(0.5)})
    model = compiled("sgd")
    assert {row.factor for row in thawing.table(model) if row.group == "body"} == {0.0}
    seen = []
    show = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(repr(thawing))
    )
    train(model, thawing, show)
    assert [text.partition(" [")[2] for text in seen] == [
        "body: 2 variables at 0; default: 4 variables at 1]",
        "body: 2 variables at 0.5; default: 4 variables at 1]",
    ]
    assert {row.factor for row in thawing.table(model) if row.group == "body"} == {0.5}


def blocks(names):
    inputs = x = keras.Input((4,))
    for name in names:
        x = layers.Dense(4, name=name, use_bias=False)(x)
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse", **COMPILE)
    return model


def test_decay_counts_blocks_from_the_top():
    model = blocks(["stem", "block_1", "block_2a", "block_2b", "block_10", "top", "head"])
    found = [row[1:] for row in groups(LayerRates.decay(0.5, blocks=r"block_?(\d+)"), model)]
    assert found == [
        ("below_blocks", 0.0625),
        ("block_1", 0.125),
        ("block_2", 0.25),
        ("block_2", 0.25),
        ("block_10", 0.5),
        ("head", 1.0),
        ("head", 1.0),
    ]
    found = LayerRates.decay(0.5, r"s(\d)_b(\d)").table(blocks(["s1_b1", "s1_b2", "s2_b1", "out"]))
    assert [row.factor for row in found] == [0.125, 0.25, 0.5, 1.0]


def test_decay_trains_as_the_factors_it_shows():
    model, other = blocks(["block_0", "block_1", "head"]), blocks(["block_0", "block_1", "head"])
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    for one, callback in {
        model: LayerRates.decay(0.5, r"block_(\d)"),
        other: LayerRates({"block_0": 0.25, "block_1": 0.5}),
    }.items():
        keras.utils.set_random_seed(0)
        for number, weight in enumerate(one.weights):
            weight.assign(np.full(weight.shape, 0.1 * (number + 1)))
        one.fit(x, x, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    assert_same(weights(model), weights(other))


def test_thaw_goes_from_one_group_to_the_next():
    thaw = LayerRates.thaw(["head", "neck", "body"], every="4 steps")
    model = compiled(optimizers.SGD(1.0))
    train(model, thaw)
    moves = {
        name: (thaw.history[f"learning_rate_{name}"] > 0).tolist()
        for name in ("head", "neck", "body")
    }
    count = 2 * STEPS
    assert moves == {
        "head": [True] * count,
        "neck": [False] * 4 + [True] * (count - 4),
        "body": [False] * 8 + [True] * (count - 8),
    }
    rest = LayerRates.thaw(["head", "neck"], every=1)
    assert_same(weights(train(compiled("sgd"), rest)), weights(network()), only="body")


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LayerRates({}), "must be a mapping"),
        (lambda: LayerRates(0.1), "must be a mapping"),
        (lambda: LayerRates({3: 0.1}), "a key is text or a layer, not 3"),
        (lambda: LayerRates({"body": -0.1}), "factor for 'body' is a finite number of at least 0"),
        (lambda: LayerRates({"body": "x"}), "factor for 'body' is"),
        (lambda: LayerRates({"body": float("nan")}), "factor for 'body'"),
        (lambda: LayerRates({"body": True}), "factor for 'body'"),
        (lambda: LayerRates({"body": 1.0}, default=-1), "`default` must be"),
        (lambda: LayerRates({"body": 1.0}, optimizer=3), "`optimizer` must be"),
        (lambda: LayerRates.decay(0.0, r"(\d)"), "`factor` must be"),
        (lambda: LayerRates.decay(1.5, r"(\d)"), "`factor` must be"),
        (lambda: LayerRates.decay(0.5, "block"), "`blocks` must be a regular expression"),
        (lambda: LayerDecay(0.5, "(block"), "`blocks` must be a regular expression"),
        (lambda: LayerRates.thaw("head"), "`groups` must be a list"),
        (lambda: LayerRates.thaw([]), "at least one part"),
        (lambda: LayerRates.thaw(["a", "a"]), "each once"),
        (lambda: LayerRates.thaw(["a"], every=0), "`every` must be a positive length"),
        (lambda: LayerRates.thaw(["a"], every="rest"), "`every` must be a positive length"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        ({"bodi": 0.1}, "Received: 'bodi'. Nearest: body"),
        ({"body/.*": 0.1}, "give the layer's name alone, 'body'"),
        ({"net/.*": 0.1, "body": 1.0}, "is in two groups: 'net/.*' and 'body'"),
        (dict.fromkeys(("body", "neck", "head"), 0.0), "freezes every variable"),
    ],
)
def test_factors_that_fit_no_model(callback, words):
    model = compiled("sgd")
    start = weights(model)
    with pytest.raises(ValueError, match=re.escape(words)):
        train(model, LayerRates(callback))
    assert_same(weights(model), start)


def test_a_key_of_what_is_not_trainable():
    model = network()
    model.get_layer("body").trainable = False
    with pytest.raises(ValueError, match="not trainable"):
        train(compiled("sgd", model), LayerRates({"net/body/.*": 0.1}))


@pytest.mark.parametrize(
    ("blocks_in", "words"),
    [(r"part_(\d)", "finds no block"), (r"(\d)a", "belong to no block")],
)
def test_blocks_that_fit_no_model(blocks_in, words):
    with pytest.raises(ValueError, match=words):
        LayerRates.decay(0.5, blocks_in).table(blocks(["l_1a", "l_2b", "l_3a"]))


def test_two_callbacks_for_the_same_layers():
    with pytest.raises(ValueError, match="Put all factors into one LayerRates"):
        train(compiled("sgd"), LayerRates({"body": 0.1}), LayerRates({"head": 0.1}))


def test_a_factor_that_becomes_negative():
    falling = Constant(1.0) - Constant(0.5).warmup("8 steps") * 3
    with pytest.raises(ValueError, match="it must be finite and not negative"):
        train(compiled("sgd"), LayerRates({"body": falling}))


class OwnUpdates(optimizers.SGD):
    """An optimizer that updates its variables in a way of its own."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            variable.assign(variable - learning_rate * gradient)


def test_an_optimizer_that_updates_in_a_way_of_its_own():
    with pytest.raises(RuntimeError, match="OwnUpdates updates its variables in its own way"):
        train(compiled(OwnUpdates(0.1)), LayerRates({"body": 0.1}))


# A model that has no variables yet ----------------------------------------------------------------


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = layers.Dense(8, activation="tanh", name="body")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.body(x))


def subclassed(build):
    keras.utils.set_random_seed(11)
    model = compiled("sgd", Subclassed())
    if build:
        model(X[:1])
    return model


def test_a_subclassed_model_that_is_not_built_yet_trains_as_a_built_one():
    one, other = subclassed(build=False), subclassed(build=True)
    start = [np.array(value) for value in other.get_weights()]
    rates = LayerRates({"body": 0.0}, default=0.5)
    train(one, rates)
    train(other, LayerRates({"body": 0.0}, default=0.5))
    for mine, others in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, others)
    np.testing.assert_array_equal(one.get_weights()[0], start[0])
    assert not np.array_equal(one.get_weights()[2], start[2])
    assert [row.factor for row in rates.table(one)] == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras builds the model there")
def test_a_model_whose_input_cannot_be_seen_is_to_be_built_first():
    batches = ((np.ones((8, 6)), np.ones((8, 2))) for _ in range(3))
    with pytest.raises(ValueError, match=r"not built.*call it on a batch first"):
        subclassed(build=False).fit(
            batches, steps_per_epoch=3, verbose=0, callbacks=[LayerRates({"body": 0.1})]
        )


def test_a_table_of_a_model_that_is_not_built_says_how_to_build_it():
    with pytest.raises(ValueError, match=r"no trainable variables yet. Give it an Input, or call"):
        LayerRates({"body": 0.1}).table(subclassed(build=False))
