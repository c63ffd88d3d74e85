"""What an exception leaves behind: nothing of ours on the model or the list of callbacks."""

import gc
import sys
import weakref

import keras
import numpy as np
import pytest
from models import COMPILE, STEPS, curve, fit, mean_prediction, meter, rate, samples, settled
from selection import mostly_full

from keras_lr import CosineDecay, LinearDecay, LRHistory, ParamScheduler, ReduceLROnPlateau

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
RUNNING = "/_fit/running.py"
OURS = {
    "schedule": lambda: CosineDecay(0.1),
    "momentum": lambda: ParamScheduler(momentum=CosineDecay(0.5, 0.1)),
    "history": LRHistory,
    "plateau": lambda: ReduceLROnPlateau("loss"),
}
HOOKS = [
    *("on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"),
    *("on_test_begin", "on_test_batch_end", "on_test_end", "on_epoch_end", "on_train_end"),
]


class Raise(keras.callbacks.Callback):
    """Raises at a hook, once so many updates were made."""

    def __init__(self, hook, error, updates=0):
        super().__init__()

        def act(*arguments, **logs):
            if self.model.optimizer.iterations >= updates:
                raise error

        setattr(self, hook, act)


def build():
    return meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5))


def names_on(model):
    """Return what is on a model, but what a fit of Keras's leaves there too."""
    return {*vars(model)} - {"history", "_eval_epoch_iterator"}


def assert_clean(model, before):
    left = names_on(model) - before
    assert not [name for name in left if not name.startswith("_jax")], left
    function = model.train_function
    assert function is None or "keras_lr" not in getattr(function, "__module__", "")


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
@pytest.mark.parametrize("hook", mostly_full(HOOKS, [*HOOKS][::3]))
def test_an_exception_in_a_hook(hook, error):
    model = build()
    fit(model, [], validation_data=samples())
    before = names_on(model)
    for where in (1, -1):
        callbacks = [CosineDecay(0.1), Raise(hook, error)][::where]
        # The traceback holds the frame of fit, and what fit holds, until the test is over.
        with pytest.raises(type(error)) as caught:
            fit(model, callbacks, validation_data=samples(), epochs=2)
        assert caught.value is error
        if hook != "on_train_begin" or where == -1:
            assert_clean(model, before)


@pytest.mark.parametrize(
    ("error", "where"), [(RuntimeError, "before"), (KeyboardInterrupt, "after")]
)
@pytest.mark.parametrize(
    "hook", ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"]
)
def test_an_exception_leaves_nothing_that_acts(error, where, hook):
    model, schedule, problem = meter(), rate(), error("in the fit")
    model.optimizer.learning_rate, before = 3.0, names_on(model)
    callbacks = [schedule, Raise(hook, problem, updates=2)][:: 1 if where == "after" else -1]
    with pytest.raises(error, match="in the fit"):
        fit(model, callbacks, epochs=3)
    assert_clean(model, before)
    settled(model).set_weights([np.zeros((STEPS, 1), "float32")])
    model.optimizer.learning_rate = 4.0
    assert fit(model, [], epochs=2).tolist() == [4.0] * 10
    np.testing.assert_array_equal(fit(model, schedule, epochs=3), curve())


def test_after_an_exception_a_batch_trains_at_the_rate_of_the_optimizer():
    model, problem = meter(), Raise("on_train_batch_end", RuntimeError("x"), updates=2)
    with pytest.raises(RuntimeError):
        fit(model, [rate(), problem], epochs=3)
    settled(model).set_weights([np.zeros((STEPS, 1), "float32")])
    model.optimizer.learning_rate = 4.0
    x, y = samples()
    model.train_on_batch(x[:2], y[:2])
    assert model.get_weights()[0][:, 0].tolist() == [-4.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.skipif(BACKEND == "torch", reason="there Keras does not take it so")
def test_a_hook_that_ends_an_epoch_as_data_do_ends_no_fit():
    class EndOfData(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise StopIteration

    schedule = LinearDecay(0.5)
    rates = fit(meter(), [schedule, EndOfData()], epochs=2)
    expected = schedule.values(epochs=2, steps_per_epoch=STEPS).reshape(2, STEPS)
    expected[:, 3:] = 0.0
    np.testing.assert_allclose(rates, expected.ravel(), rtol=1e-6)


@pytest.mark.parametrize("name", OURS)
def test_an_exception_between_two_batches(name):
    model = build()
    fit(model, [])
    before = names_on(model)
    with pytest.raises(KeyError):
        fit(model, [OURS[name](), Raise("on_train_batch_end", KeyError("x"))], epochs=2)
    assert_clean(model, before)
    optimizer = model.optimizer
    assert optimizer.momentum == 0.5
    settled(model)
    optimizer.learning_rate = 4.0
    model.set_weights([np.zeros((STEPS, 1))])
    for variable in optimizer.variables:
        if "momentum" in variable.path:
            variable.assign(np.zeros(variable.shape))
    assert fit(model, [])[-1] == 4.0


def broken():
    x, y = samples()
    for batch in range(3):
        yield x[2 * batch : 2 * batch + 2], y[2 * batch : 2 * batch + 2]
    raise OSError("disk")


def test_an_exception_in_the_data():
    model = meter()
    fit(model, [])
    before = names_on(model)
    with pytest.raises(Exception, match="disk"):
        fit(model, CosineDecay(0.1), broken(), steps_per_epoch=STEPS, epochs=2)
    assert_clean(model, before)
    settled(model).set_weights([np.zeros((STEPS, 1), "float32")])
    model.optimizer.learning_rate = 4.0
    assert fit(model, []).tolist() == [4.0] * STEPS


def test_a_fit_that_the_garbage_collector_ends_while_another_begins_blocks_nothing():
    """What an error still holds of a fit is freed at any allocation, also inside ours."""
    abandoned = []

    def leave_a_fit():
        schedule = CosineDecay(0.1)
        abandoned.append(weakref.ref(schedule))
        try:
            fit(build(), schedule, broken(), steps_per_epoch=STEPS, epochs=2)
        except Exception as error:
            error.itself = error

    def collect(frame, event, argument):
        places = [one.f_code.co_filename for one in (frame, frame.f_back) if one]
        if event == "call" and places[0] == weakref.__file__ and places[-1].endswith(RUNNING):
            collected.append(gc.collect())

    collected, model, schedule = [], meter(), LinearDecay(0.5)
    gc.collect()
    gc.disable()
    try:
        leave_a_fit()
        assert abandoned[0]() is not None
        sys.setprofile(collect)
        rates = fit(model, schedule)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert collected
    assert abandoned[0]() is None
    np.testing.assert_allclose(rates, schedule.values(epochs=1, steps_per_epoch=STEPS), rtol=1e-6)


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_an_exception_in_the_training_step(error):
    class Broken(keras.Sequential):
        def train_step(self, *arguments):
            raise error

    zeros = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = Broken([keras.Input((STEPS,)), zeros])
    model.compile(keras.optimizers.SGD(1.0), mean_prediction, **COMPILE)
    before = names_on(model)
    with pytest.raises(type(error)):
        fit(model, CosineDecay(0.1))
    assert_clean(model, before)
    np.testing.assert_array_equal(settled(model).get_weights()[0], 0)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_end", "on_epoch_end"])
def test_an_exception_in_a_loop_over_batches(hook):
    """The loop may go on after it; then so do the rates."""
    model, schedule, (x, y) = meter(), LinearDecay(0.5), samples()
    before = names_on(model)
    other, failed = keras.callbacks.Callback(), []

    def act(*arguments, **logs):
        if not failed:
            raise KeyError("x")

    setattr(other, hook, act)
    callbacks = keras.callbacks.CallbackList([schedule, other], model=model, epochs=2, steps=STEPS)

    def call(name, *arguments):
        try:
            getattr(callbacks, name)(*arguments)
        except KeyError:
            failed.append(name)
            assert_clean(model, before)

    callbacks.on_train_begin()
    rates = []
    for epoch in range(2):
        call("on_epoch_begin", epoch)
        for batch in range(STEPS):
            callbacks.on_train_batch_begin(batch)
            rows = slice(2 * batch, 2 * batch + 2)
            logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
            call("on_train_batch_end", batch, logs)
        rates += (-model.get_weights()[0][:, 0]).tolist()
        model.set_weights([np.zeros((STEPS, 1))])
        call("on_epoch_end", epoch, {})
    callbacks.on_train_end()
    assert failed == [hook]
    np.testing.assert_allclose(rates, schedule.values(epochs=2, steps_per_epoch=STEPS), rtol=1e-6)
    np.testing.assert_array_equal(schedule.history.learning_rate, np.float32(rates))
    assert_clean(model, before)


def test_a_batch_that_fails_in_a_loop_may_be_left_out():
    model, schedule, (x, y) = meter(), LinearDecay(0.5), samples()
    before = names_on(model)
    callbacks = keras.callbacks.CallbackList([schedule], model=model, epochs=1, steps=STEPS)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(STEPS):
        rows = slice(2 * batch, 2 * batch + 2)
        if batch == 1:
            callbacks.on_train_batch_begin(batch)
            with pytest.raises(Exception, match=r"."):
                model.train_on_batch(x[rows, :2], y[rows])
            assert_clean(model, before)
        callbacks.on_train_batch_begin(batch)
        model.train_on_batch(x[rows], y[rows])
    callbacks.on_epoch_end(0, {})
    callbacks.on_train_end()
    curve = schedule.values(epochs=1, steps_per_epoch=STEPS)
    np.testing.assert_allclose(-model.get_weights()[0][:, 0], curve, rtol=1e-6)


def test_a_list_of_callbacks_that_an_exception_has_left_serves_a_fit_without_ours():
    model = meter(learning_rate=2.0)
    schedule, problem = CosineDecay(0.1), Raise("on_train_batch_end", KeyError("x"))
    callbacks = [schedule, problem]
    group = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=1)
    own, order = {*vars(group)}, list(group.callbacks)
    x, y = samples()
    with pytest.raises(KeyError):
        model.fit(x, y, batch_size=2, verbose=0, callbacks=group)
    assert {*vars(group)} == own
    assert group.callbacks == order
    settled(model).set_weights([np.zeros((STEPS, 1))])
    model.optimizer.learning_rate = 2.0
    group.callbacks = order[2:]
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=group)
    np.testing.assert_array_equal(model.get_weights()[0], -2.0)


def loop_over_batches(model, callback, failing, rates=()):
    """Train an epoch without a list of callbacks; some batches fail before they succeed."""
    x, y = samples()
    callback.set_model(model)
    callback.set_params({"epochs": 1, "steps": STEPS})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    for batch in range(STEPS):
        rows = slice(2 * batch, 2 * batch + 2)
        if rates:
            model.optimizer.learning_rate = rates[batch]
        if batch in failing:
            with pytest.raises(Exception, match=r"."):
                model.train_on_batch(x[rows, :2], y[rows])
        model.train_on_batch(x[rows], y[rows])
    callback.on_epoch_end(0, {})
    callback.on_train_end()


def test_a_loop_without_a_list_of_callbacks_goes_on_after_a_batch_that_fails():
    model, schedule = meter(), LinearDecay(0.5)
    before = names_on(model)
    loop_over_batches(model, schedule, failing=(0, 2))
    curve = schedule.values(epochs=1, steps_per_epoch=STEPS)
    np.testing.assert_allclose(-model.get_weights()[0][:, 0], curve, rtol=1e-6)
    np.testing.assert_allclose(schedule.history.learning_rate, curve, rtol=1e-6)
    assert_clean(model, before)


def test_the_record_leaves_out_a_batch_that_fails_in_a_loop():
    """The rates that each step finds, and the losses, stay with their steps."""
    model, history, rates = meter(), LRHistory(), 1.0 + np.arange(STEPS)
    loop_over_batches(model, history, failing=(2,), rates=rates.tolist())
    np.testing.assert_allclose(-model.get_weights()[0][:, 0], rates, rtol=1e-6)
    np.testing.assert_allclose(history.learning_rate, rates, rtol=1e-6)


def test_a_batch_that_is_tried_again_without_a_hook_has_the_rate_of_the_first_try():
    model, schedule, (x, y) = meter(), LinearDecay(0.5), samples()
    callbacks = keras.callbacks.CallbackList([schedule], model=model, epochs=1, steps=STEPS)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(3):
        rows = slice(2 * batch, 2 * batch + 2)
        callbacks.on_train_batch_begin(batch)
        if batch == 2:
            with pytest.raises(Exception, match=r"."):
                model.train_on_batch(x[rows, :2], y[rows])
        model.train_on_batch(x[rows], y[rows])
    curve = schedule.values(epochs=1, steps_per_epoch=STEPS)
    np.testing.assert_allclose(-model.get_weights()[0][:3, 0], curve[:3], rtol=1e-6)
