"""Names of Keras's fit and of its state on JAX, hidden or renamed: the same rates train."""

import signal

import keras
import numpy as np
import pytest
from absence import hide, rename
from models import COMPILE, STEPS, Meter, fit, meter, samples, settled

from keras_lr import DistanceOverGradients, LinearDecay, LRHistory, LRRangeTest
from keras_lr._keras.fits import fit_frame, mean_updates

pytestmark = pytest.mark.core
BACKEND = keras.backend.backend()
EPOCHS = 3
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="the state of a step on JAX")

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def dense(optimizer="sgd", *layers, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **COMPILE | options)
    return model


def weights_after(callback, optimizer="sgd", **options):
    model = dense(optimizer, **options)
    model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
    return model.get_weights()


def assert_same(weights, others):
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_follows(schedule, callbacks=None, model=None):
    """Assert that a schedule's rates train, and are recorded, in a fit with some callbacks."""
    rates = fit(model or meter(), callbacks or [schedule], epochs=EPOCHS)
    expected = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS).astype("float32")
    np.testing.assert_array_equal(rates, expected)
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)


# The fit and its callbacks ------------------------------------------------------------------------


def test_a_list_of_callbacks_of_another_class():
    class Group(keras.callbacks.CallbackList):
        pass

    schedule, model, reader = LinearDecay(0.5), meter(), Meter()
    options = {"add_history": True, "epochs": EPOCHS, "steps": STEPS}
    group = Group([schedule, reader], model=model, **options)
    x, y = samples()
    model.fit(x, y, batch_size=2, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=group)
    np.testing.assert_array_equal(
        reader.rates, schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS).astype("float32")
    )
    np.testing.assert_array_equal(schedule.history.learning_rate, reader.rates)


class Trains(keras.callbacks.Callback):
    """Trains the model by other means in the second epoch, and puts its weights back."""

    def __init__(self, hook, way):
        super().__init__()
        self.way = way
        setattr(self, hook, self.train)

    def train(self, index, logs=None):
        if index == 1:
            (x, y), weights = samples(), self.model.get_weights()
            if self.way == "fit":
                self.model.fit(x, y, batch_size=2, epochs=2, verbose=0)
            else:
                self.model.train_on_batch(x[:2], y[:2])
            self.model.set_weights(weights)


HOOKS = ["on_epoch_begin", "on_epoch_end", *(["on_train_batch_end"] if BACKEND != "jax" else [])]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("way", ["fit", "train_on_batch"])
def test_what_a_callback_trains_by_a_function_of_another_name_has_no_rate_of_the_fit(
    monkeypatch, way, hook
):
    rename(monkeypatch, getattr(keras.Model, way), way)
    schedule = LinearDecay(0.5)
    assert_follows(schedule, [schedule, Trains(hook, way)])


@pytest.mark.parametrize("name", ["epoch_iterator", "_epoch_iterator", "_current_iterator"])
def test_data_that_a_fit_keeps_elsewhere_train_the_same(monkeypatch, name):
    def test_in_fit():
        callback, model = LRRangeTest(1e-4, 1.0, 20, rule="edge", apply=True, verbose=0), dense()
        options = {"batch_size": 4, "shuffle": False, "verbose": 0}
        model.fit(X, Y, callbacks=[callback], **options)
        return callback.result.values, model.get_weights()

    values, weights = test_in_fit()
    if name == "epoch_iterator":
        rename(monkeypatch, keras.Model.fit, name)
    else:
        hide(monkeypatch, type(iterator_of_a_fit()), name)
    again, others = test_in_fit()
    np.testing.assert_array_equal(values, again)
    assert_same(weights, others)


def iterator_of_a_fit():
    """Return the object over which a fit iterates."""
    found = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            found.append(fit_frame.frame_of_fit(self.model).f_locals["epoch_iterator"])

    dense().fit(X, Y, verbose=0, callbacks=[Look()])
    return found[0]


def test_a_model_that_remembers_its_first_epoch_elsewhere_is_tested_the_same(monkeypatch):
    def values():
        model = dense()
        model._initial_epoch = 3  # as after a `BackupAndRestore` that has resumed
        return LRRangeTest(1e-4, 1.0, 20, rule="edge", verbose=0).run(model, X, Y, batch_size=4)

    expected = values()
    hide(monkeypatch, keras.Model, "_initial_epoch")
    found = values()
    np.testing.assert_array_equal(found.rates, expected.rates)
    np.testing.assert_array_equal(found.values, expected.values)


# The state on JAX ---------------------------------------------------------------------------------

STATE = ["_jax_state", "_jax_state_synced", "_get_jax_state", "_tracker"]


class Look(keras.callbacks.Callback):
    """Looks at the rate before each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))


@on_jax
@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", STATE)
def test_a_state_that_keras_keeps_elsewhere_trains_the_same(monkeypatch, name):
    hide(monkeypatch, keras.Model, name)
    assert_follows(LinearDecay(0.5))
    schedule, look = LinearDecay(0.5), Look()
    assert_follows(schedule, [schedule, look])
    if name != "_jax_state":
        np.testing.assert_allclose(look.seen, schedule.history.learning_rate, rtol=1e-6)


@on_jax
@pytest.mark.parametrize("name", STATE)
def test_after_an_exception_in_a_callback_the_model_has_a_state_of_a_whole_step(monkeypatch, name):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyError("stop")

    hide(monkeypatch, keras.Model, name)
    model, schedule = meter(), LinearDecay(0.5)
    with pytest.raises(KeyError, match="stop"):
        fit(model, [schedule, Stop()], epochs=EPOCHS)
    updates = int(settled(model).optimizer.iterations)
    assert updates in (2, 3)
    expected = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS).astype("float32")
    np.testing.assert_array_equal(-model.get_weights()[0][:updates, 0], expected[:updates])
    schedule = LinearDecay(0.25)
    model.set_weights([np.zeros((STEPS, 1))])
    assert_follows(schedule, model=model)


@on_jax
def test_variables_that_hold_their_arrays_elsewhere_keep_what_a_rule_computes(monkeypatch):
    rule = DistanceOverGradients(initial_distance=0.1)
    expected = weights_after(rule)
    hide(monkeypatch, keras.Variable, "_value")
    other = DistanceOverGradients(initial_distance=0.1)
    assert_same(weights_after(other), expected)
    np.testing.assert_array_equal(other.history.learning_rate, rule.history.learning_rate)
    assert len(set(rule.history.learning_rate)) > 1


@on_jax
def test_an_execution_of_several_batches_by_a_function_of_another_name(monkeypatch):
    def train(batches):
        model = dense(steps_per_execution=2)
        model.fit(batches, epochs=1, steps_per_epoch=4, verbose=0, callbacks=[LinearDecay(0.1)])
        return model.get_weights()

    def batches(failing=None):
        for number in range(4):
            if number == failing:
                raise OSError("disk")
            yield X[:2] + number, Y[:2]

    expected = train(batches())
    rename(monkeypatch, keras.Model._make_function, "iterator_step")
    assert_same(train(batches()), expected)
    with pytest.raises(OSError, match="disk"):
        train(batches(failing=3))


@on_jax
def test_a_signal_waits_for_a_step_of_another_name_and_its_update_is_kept(monkeypatch):
    class Interrupts(keras.layers.Layer):
        traced = False

        def call(self, x, training=False):
            if training and not self.traced:
                Interrupts.traced = True
                signal.raise_signal(signal.SIGINT)
            return x

    options = {"batch_size": 4, "shuffle": False, "verbose": 0}

    def weights_after_a_signal(updates):
        model = dense("sgd", Interrupts())
        Interrupts.traced = False
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, callbacks=[LinearDecay(0.1)], **options)
        assert int(settled(model).optimizer.iterations) == updates
        return model.get_weights()

    Interrupts.traced = True
    model = dense("sgd", Interrupts())
    assert_same(weights_after_a_signal(updates=0), model.get_weights())
    rename(monkeypatch, keras.Model.train_step, "train_step")
    model.fit(X[:4], Y[:4], callbacks=[LinearDecay(0.1)], **options)
    assert_same(weights_after_a_signal(updates=1), model.get_weights())


# The mean of the loss -----------------------------------------------------------------------------


class InItsOwnTrace(keras.metrics.Mean):
    """A mean whose update is traced inside of the step's trace."""

    def update_state(self, values, sample_weight=None):
        import jax

        def update(variables, values):
            mapping = list(zip(self.variables, variables, strict=True))
            with keras.StatelessScope(state_mapping=mapping) as scope:
                keras.metrics.Mean.update_state(self, values)
            return [scope.get_current_value(one) for one in self.variables]

        present = [keras.ops.convert_to_tensor(one) for one in self.variables]
        updated = jax.jit(update)(present, values)
        for variable, value in zip(self.variables, updated, strict=True):
            variable.assign(value)


@on_jax
@pytest.mark.parametrize("nested", [False, True])
def test_where_jax_does_not_tell_a_trace_the_loss_comes_from_the_running_mean(monkeypatch, nested):
    def losses():
        model, history = dense(), LRHistory()
        if nested:
            model._loss_tracker = InItsOwnTrace(name="loss")
        model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[history])
        return history["loss"], model.get_weights()

    expected, weights = losses()
    monkeypatch.setattr(mean_updates, "_TRACES", ("graph", "_trace_of_another_version"))
    found, others = losses()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert_same(weights, others)
