"""A rate for each part of a model, with whatever else a training run may have."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from models import COMPILE, Counted
from processes import run_program
from test_layer_rates import (
    BACKEND,
    STEPS,
    X,
    Y,
    assert_same,
    compiled,
    network,
    rate_product,
    separately,
    train,
    weights,
)

from keras_lr import (
    Constant,
    CosineDecay,
    LayerRates,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core

compiles = pytest.mark.skipif(BACKEND == "torch", reason="Keras does not compile on PyTorch")
FACTORS = {"body": 0.1, "neck": 0.3}


def rates(**more):
    return LayerRates({f"net/{name}/.*": factor for name, factor in FACTORS.items()}, **more)


def momentum(rate):
    return optimizers.SGD(rate, momentum=0.9)


# How the step runs -----------------------------------------------------------------------------


@pytest.mark.full
@compiles
@pytest.mark.parametrize("options", [{"steps_per_execution": 4}, {"jit_compile": True}], ids=str)
def test_options_of_compile(options):
    expected = separately(optimizers.Adam, FACTORS, 0.01, **options)
    model = train(compiled(optimizers.Adam(0.01), **options), rates())
    assert_same(weights(model), weights(expected))


@pytest.mark.parametrize("options", [{"run_eagerly": True}], ids=str)
def test_a_step_that_is_not_compiled(options):
    expected = separately(momentum, FACTORS, 0.01, **options)
    frozen = Constant(0.0).lasting("3 steps") >> Constant(1.0)
    model = train(compiled(momentum(0.01), jit_compile=False, run_eagerly=True), rates())
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], value, rtol=1e-5, atol=1e-6)
    model = train(
        compiled(momentum(0.01), jit_compile=False, run_eagerly=True), LayerRates({"body": frozen})
    )
    other = train(compiled(momentum(0.01)), LayerRates({"body": frozen}))
    for name, value in weights(other).items():
        np.testing.assert_allclose(weights(model)[name], value, rtol=1e-5, atol=1e-6)


def accumulating(rate):
    return optimizers.SGD(rate, momentum=0.9, gradient_accumulation_steps=3)


def averaging(rate):
    return optimizers.SGD(rate, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)


@pytest.mark.parametrize("make", [accumulating, averaging], ids=["accumulation", "average"])
def test_what_an_optimizer_does_besides(make):
    expected = separately(make, FACTORS, 0.01)
    model = train(compiled(make(0.01)), rates())
    assert_same(weights(model), weights(expected))


@pytest.mark.parametrize("make", [accumulating, averaging], ids=["accumulation", "average"])
@pytest.mark.parametrize("factor", [0.0, Constant(0.0)], ids=["number", "schedule"])
def test_frozen_weights_stay_whatever_an_optimizer_does_besides(make, factor):
    model = train(compiled(make(0.01)), LayerRates({"body": factor}))
    start = weights(network())
    assert_same(weights(model), start, only="body")
    moved = weights(model)
    assert not np.array_equal(moved["net/head/kernel"], start["net/head/kernel"])


def test_gradients_of_frozen_steps_are_not_accumulated():
    """Of three batches the layer is frozen for two: its update is a third of the last gradient."""
    frozen = Constant(0.0).lasting("2 steps") >> Constant(1.0)
    x = np.eye(3, dtype="float32")
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    optimizer = optimizers.SGD(0.5, gradient_accumulation_steps=3)
    model.compile(optimizer, lambda y, prediction: prediction, **COMPILE)
    callback = LayerRates({".*kernel": frozen})
    model.fit(x, x[:, :1], batch_size=1, shuffle=False, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(model.get_weights()[0][:, 0], [0.0, 0.0, -0.5 / 3], rtol=1e-6)


def test_a_global_norm_is_that_of_what_moves():
    """The gradient of the frozen layer is large, that of the other one has the norm 1."""
    inputs = keras.Input((1,))
    ones = {"use_bias": False, "kernel_initializer": "zeros"}
    large = layers.Dense(1, name="large", **ones)(1000.0 * inputs)
    small = layers.Dense(1, name="small", **ones)(inputs)
    moved = {}
    for frozen in (0.0, Constant(0.0)):
        model = keras.Model(inputs, layers.Add()([large, small]))
        for weight in model.weights:
            weight.assign(np.zeros(weight.shape))
        optimizer = optimizers.SGD(1.0, global_clipnorm=0.5)
        model.compile(optimizer, lambda y, prediction: prediction, **COMPILE)
        x = np.ones((1, 1), "float32")
        model.fit(x, x, verbose=0, callbacks=[LayerRates({"large": frozen})])
        moved = weights(model)
        assert moved["large/kernel"] == 0.0
        np.testing.assert_allclose(moved["small/kernel"], -0.5, rtol=1e-6)


def test_a_scaled_loss():
    expected, model = (compiled(None or optimizers.SGD(0.1)) for _ in range(2))
    scaled = optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=1024.0)
    model = train(compiled(scaled), rates())
    expected = separately(optimizers.SGD, FACTORS, 0.1)
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], value, rtol=1e-5, atol=1e-7)
    frozen = LayerRates({"body": Constant(0.0)})
    scaled = optimizers.LossScaleOptimizer(optimizers.Adam(0.1), initial_scale=1024.0)
    assert_same(weights(train(compiled(scaled), frozen)), weights(network()), only="body")


def test_a_constraint_leaves_frozen_weights_alone():
    """`MaxNorm` shrinks weights at its bound by a rounding error each time."""
    keras.utils.set_random_seed(2)
    norm = keras.constraints.MaxNorm(0.1)
    body = layers.Dense(4, kernel_constraint=norm, name="body")
    model = keras.Sequential([keras.Input((6,)), body, layers.Dense(2)], name="net")
    start = weights(model)
    for factor in (0.0, Constant(0.0)):
        train(compiled("sgd", model), LayerRates({"body": factor}))
        assert_same(weights(model), start, only="body")


def words(optimizer):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((3,), dtype="int32")
    x = layers.Embedding(9, 4, name="words")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="head")(layers.Flatten()(x)))
    model.compile(optimizer, "mse", **COMPILE)
    return model


@pytest.mark.parametrize(
    "make", [optimizers.SGD, momentum, optimizers.Adam], ids=lambda make: make.__name__
)
def test_a_sparse_gradient(make):
    ids = np.random.default_rng(0).integers(0, 9, (16, 3))

    def fit(model, *callbacks):
        y = ids.sum(1, keepdims=True).astype("float32")
        model.fit(ids, y, batch_size=4, shuffle=False, verbose=0, callbacks=list(callbacks))
        return weights(model)

    several = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(make(0.1), {"words/.*": make(rate_product(0.1, 0.25))})
    )
    expected = fit(words(several))
    assert_same(fit(words(make(0.1)), LayerRates({"words": 0.25})), expected)
    for factor in (0.0, Constant(0.0)):
        start = weights(words(make(0.1)))
        optimizer = make(0.1)
        optimizer.global_clipnorm = 1.0
        assert_same(fit(words(optimizer), LayerRates({"words": factor})), start, only="words")


@compiles
def test_thawing_and_another_fit_trace_nothing():
    model = keras.Sequential(
        [keras.Input((6,)), Counted(), layers.Dense(4, name="body"), layers.Dense(2, name="head")]
    )
    compiled(optimizers.SGD(0.1), model)
    frozen = Constant(0.0).lasting(1) >> LinearDecay(1.0)
    train(model, LayerRates({"body": frozen}), epochs=1)
    traced = Counted.runs
    start = weights(model)
    train(model, LayerRates({"body": frozen}), epochs=3)
    train(model, LayerRates({"body": Constant(0.5)}))
    assert Counted.runs == traced
    assert any(not np.array_equal(weights(model)[name], start[name]) for name in start)


def test_nothing_stays_on_the_optimizer():
    optimizer = optimizers.Adam(0.01, weight_decay=0.1)
    model = compiled(optimizer)
    train(model)
    before = dict(vars(optimizer))
    train(model, rates(default=Constant(0.0).lasting(1) >> Constant(1.0)))
    assert {name: id(value) for name, value in vars(optimizer).items()} == {
        name: id(value) for name, value in before.items()
    }


# With other callbacks -----------------------------------------------------------------------------


def test_one_cycle_with_a_momentum():
    cycle = OneCycle(0.1, momentum=(0.5, 0.9))
    model = train(compiled(optimizers.SGD(0.1, momentum=0.9)), cycle, layer := rates())
    assert layer.history["momentum"].min() < 0.6
    np.testing.assert_array_equal(
        layer.history["learning_rate_net/body"],
        layer.history.learning_rate * np.float32(FACTORS["body"]),
    )
    parts = {"net/body/.*": 0.1, "net/neck/.*": 0.3}
    groups = {name: optimizers.SGD(1.0, momentum=0.9) for name in parts}
    several = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(1.0, momentum=0.9), groups)
    )
    expected = compiled(several)
    moving = [
        ParamScheduler(one, learning_rate=factor * cycle, momentum=momentum_of(cycle))
        for one, factor in ((groups[name], factor) for name, factor in parts.items())
    ]
    moving.append(
        ParamScheduler(several.optimizers[-1], learning_rate=cycle, momentum=momentum_of(cycle))
    )
    train(expected, *moving)
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], value, rtol=1e-5, atol=1e-6)


def momentum_of(cycle):
    return cycle.hyperparameter_schedules(optimizers.SGD(momentum=0.9))["momentum"]


def test_a_plateau_reduces_all_groups():
    plateau = ReduceLROnPlateau("loss", patience=1, factor=0.5, min_delta=1e9)
    train(compiled(optimizers.SGD(0.1)), plateau, layer := rates(), epochs=4)
    body, rate = layer.history["learning_rate_net/body"], layer.history.learning_rate
    assert rate[-1] < rate[0]
    np.testing.assert_array_equal(body, rate * np.float32(0.1))


def test_a_schedule_in_the_optimizer():
    curve = CosineDecay(0.1).in_graph(epochs=2, steps_per_epoch=STEPS)
    model = train(compiled(optimizers.SGD(curve)), layer := rates())
    expected = train(compiled(optimizers.SGD(0.1)), CosineDecay(0.1), rates())
    assert_same(weights(model), weights(expected))
    assert layer.history["learning_rate_net/body"][0] == np.float32(0.1) * np.float32(0.1)


def test_every_record_has_a_column_for_each_group():
    history, seen = LRHistory(), {}
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.update(logs))
    train(compiled(optimizers.SGD(0.5)), note, history, rates(default=0.5))
    names = {"learning_rate", *(f"learning_rate_{n}" for n in ("net/body", "net/neck", "default"))}
    assert names <= set(seen)
    assert seen["learning_rate_default"] == 0.25
    assert names <= set(history.names)


@pytest.mark.full
def test_a_fit_that_goes_on_is_exact():
    factor = Constant(0.0).lasting("9 steps") >> LinearDecay(1.0, 0.1)
    whole = train(compiled(optimizers.Adam(0.01)), LayerRates({"body": factor}), epochs=3)
    parts = train(compiled(optimizers.Adam(0.01)), LayerRates({"body": factor}), epochs=3)
    parts = compiled(optimizers.Adam(0.01))

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 0

    train(parts, LayerRates({"body": factor}), Stop(), epochs=3)
    train(parts, LayerRates({"body": factor}), epochs=3, initial_epoch=1)
    assert_same(weights(parts), weights(whole))


def test_copies():
    frozen = Constant(0.0).lasting(1) >> Constant(1.0)
    for one in (
        LayerRates({"body": frozen}, default=0.5, optimizer="optimizer"),
        LayerRates.decay(0.5, r"(\d+)"),
    ):
        for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert (other, hash(other), repr(other)) == (one, hash(one), repr(one))
        assert type(one).from_config(one.get_config()) == one
        assert (
            keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one)) == one
        )
    train(compiled("sgd"), one := LayerRates({"body": frozen}))
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert len(again.history) == len(one.history) == 2 * STEPS


# The range test -----------------------------------------------------------------------------------


def test_a_range_test_keeps_the_ratios():
    """The last weights of a ramp are those of one along the product of rates and factors."""
    test = LRRangeTest(1e-4, 1e-1, steps=12, rule="edge", restore=False, verbose=0)
    model = compiled(optimizers.SGD(0.01))
    factor = Constant(0.5).lasting("3 steps") >> Constant(0.0)
    callbacks = [LayerRates({"net/body/.*": 0.1, "net/neck/.*": factor})]
    options = {"batch_size": 8, "shuffle": False}
    result = test.run(model, X, Y, callbacks=callbacks, **options)
    several = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(1.0),
            {"net/body/.*": optimizers.SGD(0.1), "net/neck/.*": optimizers.SGD(0.5)},
        )
    )
    other = compiled(several)
    expected = test.run(other, X, Y, **options)
    np.testing.assert_allclose(result.values, expected.values, rtol=1e-5)
    np.testing.assert_allclose(result.rates, expected.rates)


@pytest.mark.parametrize("trained", [False, True])
def test_a_range_test_leaves_a_model_with_parts_as_it_was(trained):
    model = compiled(optimizers.Adam(0.01))
    if trained:
        train(model)
    before = weights(model)
    test = LRRangeTest(1e-4, 1e-1, steps=12, rule="edge", verbose=0)
    result = test.run(model, X, Y, batch_size=8, callbacks=[LayerRates({"body": 0.0})])
    assert len(result.rates)
    assert_same(weights(model), before)


def test_a_range_test_inside_a_fit_keeps_the_ratios_too():
    test = LRRangeTest(1e-4, 1e-1, steps=12, rule="edge", verbose=0)
    model = train(compiled(optimizers.SGD(0.01)), test, layer := rates())
    alone = train(compiled(optimizers.SGD(0.01)), rates())
    assert_same(weights(model), weights(alone))
    assert len(layer.history) == 2 * STEPS
    ran = test.result
    by_hand = LRRangeTest(1e-4, 1e-1, steps=12, rule="edge", verbose=0).run(
        compiled(optimizers.SGD(0.01)), X, Y, batch_size=8, shuffle=False, callbacks=[rates()]
    )
    np.testing.assert_allclose(ran.values[:5], by_hand.values[:5], rtol=1e-5)


# Several devices, each in a process of its own ----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["mirrored", "data"])
def test_several_devices_train_as_one(devices):
    backend = {"mirrored": "tensorflow", "data": "jax"}[devices]
    if backend != BACKEND:
        pytest.skip(f"for {backend}")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} if devices == "data" else {}
    one = run_program("layer_parts.py", "one", KERAS_BACKEND=backend)
    two = run_program("layer_parts.py", devices, KERAS_BACKEND=backend, **flags)
    start = one.pop("start")
    for name, expected in one.items():
        assert two[name]["left"] == []
        np.testing.assert_allclose(two[name]["rates"], expected["rates"], rtol=1e-6)
        for weight, other in zip(two[name]["weights"], expected["weights"], strict=True):
            np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-5, err_msg=name)
        assert (two[name]["weights"][:2] == start[:2]) is name.startswith("frozen")
