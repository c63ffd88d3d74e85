"""What the fast ways into the training step promise besides the right weights."""

import pathlib
import traceback

import keras
import numpy as np
import pytest
from keras import layers
from models import Counted, meter, samples, settled

import keras_lr
from keras_lr import (
    Constant,
    CosineDecay,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    ParamScheduler,
    ReduceLROnPlateau,
)
from keras_lr._fit.running import session_of

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
compiles = pytest.mark.skipif(BACKEND == "torch", reason="Keras does not compile on PyTorch")
STEPS = 12
X, Y = samples(STEPS)
OURS = pathlib.Path(keras_lr.__file__).parent


def fit(model, *callbacks, **options):
    model.fit(X, Y, batch_size=2, shuffle=False, verbose=0, callbacks=list(callbacks), **options)
    return model


def curve(schedule, epochs=1):
    return schedule.values(epochs=epochs, steps_per_epoch=STEPS)


def rates_of(model):
    """Return the rate of each update of one epoch from zero weights."""
    return -model.get_weights()[0][:, 0]


# Nothing waits for the device.


class Result:
    """What a step returns; it notes when somebody wants to know its value."""

    def __init__(self, value, reads):
        self.value, self.reads = value, reads

    def __float__(self):
        self.reads()
        return float(keras.ops.convert_to_numpy(self.value))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(float(self), dtype)


class Watched(keras.Sequential):
    """A model whose steps return such results."""

    reads = None

    def make_train_function(self, force=False):
        super().make_train_function(force)
        plain = self.train_function

        def watched(*data):
            out = plain(*data)
            logs, *state = out if isinstance(out, tuple) else (out,)
            logs = {name: Result(value, self.reads) for name, value in logs.items()}
            return (logs, *state) if state else logs

        self.train_function = watched


@pytest.mark.parametrize(
    ("callback", "waits"),
    [
        (lambda: CosineDecay(0.1), False),
        (lambda: ParamScheduler(learning_rate=CosineDecay(0.1), momentum=LinearDecay(0.5)), False),
        (LRHistory, False),
        (lambda: ReduceLROnPlateau("loss"), False),
        (lambda: ReduceLROnPlateau("loss", patience="5 steps"), True),
    ],
    ids=["schedule", "momentum", "recorder", "plateau", "plateau in steps"],
)
def test_no_step_reads_what_the_step_before_it_returned(callback, waits):
    model = Watched([keras.Input((STEPS,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse")
    callback, inside = callback(), []

    def note():
        # Keras reads too, in its own time; what counts is what a step of ours waits for.
        frames = [pathlib.Path(frame.filename) for frame in traceback.extract_stack(limit=12)]
        if any(OURS in path.parents for path in frames):
            inside.append(session_of(model).batch)

    model.reads = note
    fit(model, callback, epochs=2)
    history = callback if isinstance(callback, LRHistory) else callback.history
    assert len(history) == 2 * STEPS
    assert np.isfinite(history.loss).all()
    assert any(1 < batch < STEPS for batch in inside) is waits


# Nothing is traced without need.


def counted():
    model = keras.Sequential([keras.Input((STEPS,)), Counted(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


@compiles
@pytest.mark.parametrize("before", ["a fit", "a fit with a schedule"])
def test_a_range_test_traces_nothing_in_a_model_that_was_trained(before):
    model = fit(counted(), *([] if before == "a fit" else [CosineDecay(0.1)]))
    traced = Counted.runs
    test = LRRangeTest(1e-4, 1.0, steps=20, rule="edge", verbose=0)
    result = test.run(model, X, Y, batch_size=2)
    np.testing.assert_allclose(result.rates[:5], np.geomspace(1e-4, 1.0, 20)[:5])
    fit(model, *([] if before == "a fit" else [LinearDecay(0.2)]))
    assert Counted.runs == traced


@compiles
def test_what_a_range_test_traced_serves_the_fit_that_follows():
    model = counted()
    LRRangeTest(1e-4, 1.0, steps=20, rule="edge", verbose=0).run(model, X, Y, batch_size=2)
    traced = Counted.runs
    fit(model, CosineDecay(0.1))
    # On JAX Keras goes through the layers once to build the loss, which compiles nothing.
    assert Counted.runs - traced == (1 if BACKEND == "jax" else 0)


def test_a_range_test_sees_the_same_whether_its_step_was_compiled_for_it_or_not():
    """A trained model has a step already, and its rates are set from outside."""
    curves = []
    for trained in (False, True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((STEPS,)), layers.Dense(3), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        start = model.get_weights()
        if trained:
            fit(model)
            model.set_weights(start)
            for variable in model.optimizer.variables:
                if "momentum" in variable.path:
                    variable.assign(np.zeros(variable.shape))
        test = LRRangeTest(1e-4, 3.0, steps=20, rule="edge", restore=False, verbose=0)
        result = test.run(model, X, Y + 1.0, batch_size=2, shuffle=False)
        curves.append((result.rates, model.get_weights()))
    for rates, weights in curves:
        np.testing.assert_array_equal(rates, curves[0][0])
        for one, other in zip(weights, curves[0][1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# Where Keras is not as expected, the plain way takes over.


class NoForce(keras.Sequential):
    """A model whose train function cannot be made again."""

    def make_train_function(self):
        super().make_train_function()


@compiles
def test_a_train_function_that_cannot_be_made_anew():
    zeros = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = NoForce([keras.Input((STEPS,)), zeros])
    model.compile(keras.optimizers.SGD(1.0), lambda y, prediction: prediction)
    schedule = CosineDecay(0.4)
    fit(model, schedule)
    np.testing.assert_allclose(rates_of(model), curve(schedule), rtol=1e-6)
    np.testing.assert_allclose(schedule.history.learning_rate, curve(schedule), rtol=1e-6)
    model.compile(keras.optimizers.SGD(1.0, momentum=0.5), "mse")
    with pytest.raises(RuntimeError, match="run_eagerly=True"):
        fit(model, ParamScheduler(momentum=LinearDecay(0.9)))


class TypesStep(keras.Sequential):
    """A model that compiles the training step of its class, as Keras does with NNX on JAX."""

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        # Not the step that an instance may have.
        own, step = vars(self).pop("train_step", None), type(self).train_step
        if BACKEND == "jax":
            import jax

            compiled = jax.jit(lambda state, data: step(self, state, data))
            self.train_function = lambda state, iterator: compiled(state, next(iterator))
        else:
            super().make_train_function(force)
        if own is not None:
            object.__setattr__(self, "train_step", own)


def types_step(optimizer):
    zeros = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = TypesStep([keras.Input((STEPS,)), zeros])
    model.compile(optimizer, lambda y, prediction: prediction)
    return model


@compiles
def test_a_model_that_leaves_our_step_out_trains_with_values_from_the_host():
    model, schedule = types_step(keras.optimizers.SGD(1.0)), CosineDecay(0.4)
    for _ in range(2):
        model.set_weights([np.zeros((STEPS, 1))])
        fit(model, schedule)
        np.testing.assert_allclose(rates_of(model), curve(schedule), rtol=1e-6)
        np.testing.assert_allclose(schedule.history.learning_rate, curve(schedule), rtol=1e-6)
        np.testing.assert_array_equal(schedule.history.loss, 0)


@compiles
def test_a_number_cannot_move_in_a_model_that_leaves_our_step_out():
    model = types_step(keras.optimizers.SGD(1.0, momentum=0.5))
    with pytest.raises(RuntimeError, match=r"compiles momentum into.*run_eagerly=True"):
        fit(model, ParamScheduler(momentum=LinearDecay(0.9)))
    if BACKEND == "jax":  # On TensorFlow the first update shows it.
        np.testing.assert_array_equal(settled(model).get_weights()[0], 0)
    fit(model, CosineDecay(0.4))


@pytest.fixture
def invented_backend(monkeypatch):
    """Let Keras name a backend that does not exist."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "mlx")


def test_an_unknown_backend_gets_the_values_from_the_host(invented_backend):
    schedule = CosineDecay(0.4)
    model = fit(meter(STEPS), schedule)
    np.testing.assert_allclose(rates_of(model), curve(schedule), rtol=1e-6)
    np.testing.assert_allclose(schedule.history.learning_rate, curve(schedule), rtol=1e-6)
    np.testing.assert_array_equal(schedule.history.loss, 0)


def test_an_unknown_backend_moves_a_number_in_eager_mode_alone(invented_backend):
    def trained(**options):
        model = meter(STEPS, keras.optimizers.SGD(1.0, momentum=0.5), **options)
        return fit(model, ParamScheduler(momentum=LinearDecay(0.9, 0.1)))

    with pytest.raises(RuntimeError, match=r"compiles momentum into.*run_eagerly=True"):
        trained()
    expected, velocity = np.zeros(STEPS), np.zeros(STEPS)
    for step, momentum in enumerate(curve(LinearDecay(0.9, 0.1))):
        velocity *= momentum
        velocity[step] -= 1.0
        expected += velocity
    model = trained(run_eagerly=True)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], expected, rtol=1e-5)


def test_what_others_set_between_epochs_does_not_last():
    model = meter(STEPS)
    other = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.optimizer.learning_rate.assign(9.0)
    )
    fit(model, Constant(0.25), other, epochs=2)
    np.testing.assert_array_equal(rates_of(model), np.full(STEPS, 0.5))


class OtherVariable(keras.Variable):
    """A variable of a kind that nothing here knows."""


def test_a_rate_in_a_variable_of_another_kind():
    model = meter(STEPS)
    model.optimizer._learning_rate.__class__ = OtherVariable
    schedule = CosineDecay(0.4)
    fit(model, schedule)
    np.testing.assert_allclose(rates_of(model), curve(schedule), rtol=1e-6)
    np.testing.assert_allclose(schedule.history.learning_rate, curve(schedule), rtol=1e-6)


def test_a_function_of_keras_may_go_on_in_the_middle_of_an_epoch():
    """It gets the state that our step has handed to Keras."""
    model = fit(meter(STEPS))
    plain, start = model.train_function, model.get_weights()[0]

    def give_back(batch, logs=None):
        if batch == 5:
            model.train_function = plain

    history = LRHistory()
    fit(model, history, keras.callbacks.LambdaCallback(on_train_batch_end=give_back))
    np.testing.assert_array_equal(start - model.get_weights()[0], np.ones((STEPS, 1)))
    assert model.optimizer.iterations == 2 * STEPS
