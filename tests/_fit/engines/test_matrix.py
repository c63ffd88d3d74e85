"""Every way that Keras trains: the weights after a fit are those of the formula."""

import functools
import os
import shutil

import keras
import numpy as np
import pytest
from keras import layers
from models import Counted
from processes import run_program

from keras_lr import Constant, CosineDecay, LinearDecay, LRHistory, ParamScheduler, Timeline

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow")
compiles = pytest.mark.skipif(BACKEND == "torch", reason="Keras does not compile on PyTorch")
CPP_COMPILER = shutil.which(os.environ.get("CXX", "g++"))
"""What torch.compile needs on a CPU."""

EPOCHS, STEPS, BATCH = 2, 10, 3
random = np.random.default_rng(0)
X = random.normal(size=(STEPS * BATCH - 1, 2)).astype("float32")  # the last batch is short
Y = (X @ [[1.0], [-2.0]] + 0.3).astype("float32")
START = np.array([[0.5], [0.5]], "float32")

RATES = LinearDecay(0.4, 0.02)
MOMENTA = LinearDecay(0.5, 0.9)


def build(optimizer, dtype=None, **options):
    dense = layers.Dense(1, use_bias=False, dtype=dtype)
    model = keras.Sequential([keras.Input((2,)), dense])
    dense.set_weights([START])
    model.compile(optimizer, "mse", **options)
    return model


def sgd(**options):
    return keras.optimizers.SGD(1.0, momentum=0.7, **options)


def both():
    return ParamScheduler(learning_rate=RATES, momentum=MOMENTA)


def fit(model, *callbacks, **options):
    options = {"epochs": EPOCHS, "batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    model.fit(X, Y, callbacks=list(callbacks), **options)
    return weights(model)


def weights(model):
    return model.get_weights()[0]


def curve(schedule, epochs=EPOCHS):
    return schedule.values(epochs=epochs, steps_per_epoch=STEPS)


def by_hand(rates, momenta=0.7, accumulate=1, ema=None, size=BATCH):
    """Return the weight that SGD comes to, in float64."""
    w, v = START.astype(np.float64), np.zeros((2, 1))
    momenta = np.broadcast_to(momenta, len(rates))
    gradients, average = [], None
    for t, (rate, momentum) in enumerate(zip(rates, momenta, strict=True)):
        first = t % STEPS * size
        x, y = X[first : first + size], Y[first : first + size]
        gradients.append(2 * x.T @ (x @ w - y) / len(x))
        if len(gradients) == accumulate:
            v = momentum * v - rate * np.mean(gradients, axis=0)
            w, gradients = w + v, []
        average = w if not t else (1 - (ema or 0)) * w + (ema or 0) * average
    return w if ema is None else average


EXPECTED = functools.partial(by_hand, curve(RATES), curve(MOMENTA))

CELLS = {
    "as it comes": ({}, {}, {}),
    "jit_compile": ({}, {"jit_compile": True}, {}),
    "no jit_compile": ({}, {"jit_compile": False}, {}),
    "run_eagerly": ({}, {"run_eagerly": True}, {}),
    "accumulation": ({"gradient_accumulation_steps": 2}, {}, {"accumulate": 2}),
    "use_ema": ({"use_ema": True, "ema_momentum": 0.9}, {}, {"ema": 0.9}),
    # 10 batches: 4, 4 and 2.
    "steps_per_execution": ({}, {"steps_per_execution": 4}, {}),
    "steps_per_execution, jit": ({}, {"steps_per_execution": 4, "jit_compile": True}, {}),
    "steps_per_execution, accumulation": (
        {"gradient_accumulation_steps": 4},
        {"steps_per_execution": 4},
        {"accumulate": 4},
    ),
}


@pytest.mark.parametrize("cell", CELLS)
def test_cell(cell):
    optimizer, compiled, formula = CELLS[cell]
    model = build(sgd(**optimizer), **compiled)
    callback = both()
    if BACKEND == "torch" and "steps_per_execution" in compiled:
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1 with the PyTorch"):
            fit(model, callback)
        return
    if BACKEND == "torch" and compiled.get("jit_compile") and not CPP_COMPILER:
        with pytest.raises(RuntimeError, match=r"No working C\+\+ compiler found"):
            fit(model, callback)
        return
    found = fit(model, callback)
    np.testing.assert_allclose(found, EXPECTED(**formula), rtol=0, atol=2e-6)
    np.testing.assert_allclose(callback.history.learning_rate, curve(RATES), rtol=1e-6)
    np.testing.assert_allclose(callback.history["momentum"], curve(MOMENTA), rtol=1e-6)
    assert model.optimizer.momentum == 0.7  # as it was
    # What is moved matters: neither is its mean.
    constant = by_hand(curve(RATES), curve(MOMENTA).mean().repeat(EPOCHS * STEPS), **formula)
    assert np.abs(constant - found).max() > 1e-3


def test_mixed_precision_moves_the_inner_optimizer():
    inner = sgd()
    model = build(keras.optimizers.LossScaleOptimizer(inner, initial_scale=64.0), "mixed_float16")
    callback = both()
    np.testing.assert_allclose(fit(model, callback), EXPECTED(), atol=5e-3)
    rate = float(keras.ops.convert_to_numpy(inner.learning_rate))
    assert rate == pytest.approx(curve(RATES)[-1], rel=1e-6)
    np.testing.assert_allclose(callback.history.learning_rate, curve(RATES), rtol=1e-6)
    assert np.abs(by_hand(curve(RATES)) - EXPECTED()).max() > 0.02  # the tolerance tells


NOT_ONE = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
OPTIMIZERS = sorted(
    name
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type)
    and issubclass(kind, keras.optimizers.Optimizer)
    and name not in NOT_ONE
)


def test_the_optimizers_are_all_here():
    listed = "SGD RMSprop Adagrad Adadelta Adam AdamW Adamax Nadam Ftrl Lion Adafactor"
    assert set(listed.split()) <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    kind = getattr(keras.optimizers, name)
    schedule = CosineDecay(0.3, 0.01)
    try:
        found = fit(build(kind(1.0)), schedule, epochs=1)
    except AttributeError:
        with pytest.raises(AttributeError):
            fit(build(kind(1.0)), epochs=1)
        pytest.skip(f"{name} of keras {keras.__version__} does not train")

    # Keras's own ScheduleFreeAdamW differs in eager mode, with a constant rate too.
    eager = build(kind(1.0), run_eagerly=name != "ScheduleFreeAdamW")
    for t, rate in enumerate(curve(schedule, 1)):
        eager.optimizer.learning_rate = rate
        batch = slice(t * BATCH, (t + 1) * BATCH)
        eager.train_on_batch(X[batch], Y[batch])
    # What `fit` does at its end: some keep an average.
    eager.optimizer.finalize_variable_values(eager.trainable_variables)
    np.testing.assert_allclose(found, weights(eager), rtol=1e-4, atol=1e-5)
    assert np.abs(found - START).max() > 1e-3


# Custom training loops.


def test_train_on_batch_with_the_schedule_as_a_function():
    model = build(sgd())
    rate = CosineDecay(0.4).warmup("5 steps")
    rate.timeline = Timeline(STEPS, EPOCHS)
    for t in range(EPOCHS * STEPS):
        model.optimizer.learning_rate = rate(t)
        batch = slice(t % STEPS * BATCH, (t % STEPS + 1) * BATCH)
        model.train_on_batch(X[batch], Y[batch])
    np.testing.assert_allclose(weights(model), by_hand(curve(rate)), atol=2e-6)


@tensorflow
def test_a_custom_loop_with_the_schedule_as_a_function():
    import tensorflow as tf

    model, optimizer = build(sgd()), sgd()
    timeline = Timeline(STEPS, EPOCHS)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    for t in range(EPOCHS * STEPS):
        optimizer.learning_rate = RATES(t, timeline)
        batch = slice(t % STEPS * BATCH, (t % STEPS + 1) * BATCH)
        step(X[batch], Y[batch])
    np.testing.assert_allclose(weights(model), by_hand(curve(RATES)), atol=2e-6)


def two_optimizers():
    """Return a model whose own train_step moves one weight by each of two optimizers."""
    import tensorflow as tf

    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.left = layers.Dense(1, use_bias=False)
            self.right = layers.Dense(1, use_bias=False)
            self.left_optimizer, self.right_optimizer = sgd(), sgd()
            for layer in (self.left, self.right):
                layer.build((None, 2))
                layer.set_weights([START])
            self.built = True

        def train_step(self, data):
            x, y = data
            for layer, optimizer in (
                (self.left, self.left_optimizer),
                (self.right, self.right_optimizer),
            ):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((layer(x) - y) ** 2)
                variables = layer.trainable_variables
                optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    model = Two()
    model.compile()
    return model


@tensorflow
@pytest.mark.parametrize("by", ["name", "object"])
def test_two_optimizers_each_with_its_own_schedule(by):
    model = two_optimizers()
    left, right = "left_optimizer", "right_optimizer"
    if by == "object":
        left, right = model.left_optimizer, model.right_optimizer
    rates = CosineDecay(0.2)
    fit(
        model,
        ParamScheduler(left, learning_rate=RATES, momentum=MOMENTA),
        ParamScheduler(right, learning_rate=rates),
    )
    np.testing.assert_allclose(model.left.get_weights()[0], EXPECTED(), atol=2e-6)
    np.testing.assert_allclose(model.right.get_weights()[0], by_hand(curve(rates)), atol=2e-6)


# What the fast way must not break.


@tensorflow
def test_the_host_takes_over_where_keras_leaves_our_step_out():
    import tensorflow as tf

    class Own(keras.Sequential):
        def make_train_function(self, force=False):
            step = type(self).train_step  # not the one that an instance may have
            if self.train_function is None or force:
                self.train_function = tf.function(lambda iterator: step(self, next(iterator)))

    def own():
        model = Own([keras.Input((2,)), layers.Dense(1, use_bias=False)])
        model.set_weights([START])
        model.compile(sgd(), "mse")
        return model

    schedule = CosineDecay(0.4)
    found = fit(own(), schedule)
    np.testing.assert_allclose(found, by_hand(curve(schedule)), atol=2e-6)
    np.testing.assert_allclose(schedule.history.learning_rate, curve(schedule), rtol=1e-6)
    with pytest.raises(RuntimeError, match="compiles momentum into the training step"):
        fit(own(), both())


@compiles
def test_another_schedule_traces_nothing():
    model = keras.Sequential([keras.Input((2,)), Counted(), layers.Dense(1, use_bias=False)])
    model.compile(sgd(), "mse")
    fit(model, CosineDecay(0.1))
    traced = Counted.runs
    schedules = [LinearDecay(0.4), CosineDecay(0.3).warmup(1), Constant(0.1)]
    model.set_weights([START])
    for schedule in schedules:
        fit(model, schedule)
        np.testing.assert_allclose(
            schedule.history.learning_rate, curve(schedule), rtol=1e-6, atol=1e-9
        )
    assert Counted.runs == traced
    # A fit without callbacks afterwards is Keras's own, at the rate that was left behind.
    left = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    history = LRHistory()
    fit(model, history)
    assert set(history.learning_rate.tolist()) == {left}


def test_compile_between_fits():
    model = build("adam")
    fit(model, CosineDecay(0.1))
    model.set_weights([START])
    model.compile(sgd(), "mse")
    np.testing.assert_allclose(fit(model, both()), EXPECTED(), atol=2e-6)
    model.set_weights([START])
    model.compile(sgd(), "mse")
    np.testing.assert_allclose(fit(model, RATES), by_hand(curve(RATES)), atol=2e-6)


# What the plain ways do.


class Naive(keras.callbacks.Callback):
    """Sets what a schedule says before each batch, as callbacks do."""

    def __init__(self, name, schedule):
        super().__init__()
        self.name, self.values = name, iter(enumerate(curve(schedule)))
        self.position = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.position = epoch * STEPS

    def on_train_batch_begin(self, batch, logs=None):
        while True:
            t, value = next(self.values)
            if t == self.position + batch:
                break
        setattr(self.model.optimizer, self.name, float(value))


@tensorflow
def test_a_momentum_that_is_merely_set_changes_nothing():
    found = fit(build(keras.optimizers.SGD(0.1, momentum=0.7)), Naive("momentum", MOMENTA))
    rates = np.full(EPOCHS * STEPS, 0.1)
    # The first value is there when the step is traced, and stays.
    np.testing.assert_allclose(found, by_hand(rates, curve(MOMENTA)[0]), atol=2e-6)
    callback = ParamScheduler(momentum=MOMENTA)
    found = fit(build(keras.optimizers.SGD(0.1, momentum=0.7)), callback)
    np.testing.assert_allclose(found, by_hand(rates, curve(MOMENTA)), atol=2e-6)


@compiles
def test_a_rate_that_is_merely_set_is_held_for_a_whole_execution():
    options = {"steps_per_execution": 4}
    found = fit(build(sgd(), **options), Naive("learning_rate", RATES))
    rates = curve(RATES).reshape(EPOCHS, STEPS)
    held = rates[:, [0] * 4 + [4] * 4 + [8] * 2].ravel()
    np.testing.assert_allclose(found, by_hand(held), atol=2e-6)
    found = fit(build(sgd(), **options), RATES)
    np.testing.assert_allclose(found, by_hand(rates.ravel()), atol=2e-6)


# Several devices, each in a process of its own.


@tensorflow
@pytest.mark.slow
def test_mirrored_strategy():
    found = run_program("mirrored.py", KERAS_BACKEND="tensorflow")
    assert found["replicas"] == 2
    for weight in found["weights"]:  # the same on both
        np.testing.assert_allclose(weight, found["expected"], atol=2e-6)
    np.testing.assert_allclose(found["recorded"], found["rates"], rtol=1e-6)
    assert len(set(found["recorded"])) == len(found["recorded"])
    np.testing.assert_allclose(found["losses beside an evaluation"], found["losses"], rtol=1e-5)
    assert found["weights after a range test"] == found["weights"]
    # What Keras itself cannot do there.
    assert set(found["errors"]) == {"steps_per_execution", "jit_compile"}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="once is enough")
def test_data_parallel_on_jax():
    pytest.importorskip("jax")
    found = run_program(
        "data_parallel.py",
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert found["devices"] == 2
    np.testing.assert_allclose(found["weights"], found["expected"], atol=2e-6)
    np.testing.assert_allclose(found["recorded"], found["rates"], rtol=1e-6)
