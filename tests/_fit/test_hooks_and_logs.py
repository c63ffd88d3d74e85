"""What other callbacks see: the rate to come when something begins, and all that moves in logs."""

import keras
import numpy as np
import pytest
from models import COMPILE, STEPS, fit, mean_prediction, meter, samples, several_optimizers

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    LRHistory,
    ParamScheduler,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core

EPOCHS = 3
BACKEND = keras.backend.backend()


class Look(keras.callbacks.Callback):
    """Reads the rate of the model's optimizer at a hook, as a user's callback does."""

    def __init__(self, hook):
        super().__init__()
        self.seen = []

        def look(index, logs=None):
            rate = self.model.optimizer.learning_rate
            self.seen.append(float(keras.ops.convert_to_numpy(rate)))

        setattr(self, hook, look)


@pytest.mark.parametrize("where", [1, -1], ids=["behind", "in front"])
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"])
def test_a_hook_sees_the_rate_of_what_it_begins_or_ends(hook, where):
    schedule, look = LinearDecay(1.0, 0.25), Look(hook)
    rates = fit(meter(), [schedule, look][::where], epochs=EPOCHS)
    curve = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)
    np.testing.assert_allclose(rates, curve, rtol=1e-6)
    every = STEPS if hook == "on_epoch_begin" else 1
    np.testing.assert_allclose(look.seen, curve[::every], rtol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras takes one step per execution on PyTorch")
def test_a_hook_before_an_execution_sees_the_rate_of_its_first_batch():
    schedule, look = LinearDecay(1.0, 0.25), Look("on_train_batch_begin")
    fit(meter(steps_per_execution=2), [schedule, look], epochs=1)
    curve = schedule.values(epochs=1, steps_per_epoch=STEPS)
    np.testing.assert_allclose(look.seen, curve[::2], rtol=1e-6)


def test_a_hook_that_begins_beside_a_plateau_sees_the_cut_rate():
    cuts, look = ReduceLROnPlateau("loss", patience=0, factor=0.5, min_delta=1e9), None
    look = Look("on_epoch_begin")
    fit(meter(), [Constant(1.0), cuts, look], epochs=4)
    np.testing.assert_allclose(look.seen, [1.0, 1.0, 0.5, 0.25], rtol=1e-6)


class Logger(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


@pytest.mark.parametrize("where", [1, -1], ids=["before", "behind"])
def test_all_that_moves_is_in_the_logs_of_an_epoch(where):
    rates, momenta, decays = LinearDecay(1.0), LinearDecay(0.9, 0.1), LinearDecay(0.01, 0.001)
    every = {"learning_rate": rates, "momentum": momenta, "weight_decay": decays}
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5, weight_decay=0.01)
    logger, x = Logger(), samples()[0]
    model = meter(optimizer=optimizer)
    past = model.fit(
        *(x, np.zeros((len(x), 1))),
        **{"batch_size": 2, "verbose": 0, "epochs": EPOCHS},
        callbacks=[logger, ParamScheduler(**every)][::where],
    )
    for name, schedule in every.items():
        last = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)[STEPS - 1 :: STEPS]
        np.testing.assert_allclose([logs[name] for logs in logger.logs], last, rtol=1e-6)
        np.testing.assert_allclose(past.history[name], last, rtol=1e-6)


def two_rates():
    """Return a model of two layers, each trained by an optimizer of its own."""
    first, second = (
        keras.optimizers.SGD(rate, name=name) for rate, name in ((0.5, "a"), (2.0, "b"))
    )
    layers = [keras.layers.Dense(1, name=name) for name in ("one", "two")]
    model = keras.Sequential([keras.Input((STEPS,)), *layers])
    several = keras.optimizers.OptimizerMap(first, {".*two/.*": second})
    model.compile(keras.optimizers.MultiOptimizer(several), mean_prediction, **COMPILE)
    return model, first, second


def train(model, *callbacks):
    x, y = samples()
    model.fit(x, y, batch_size=2, epochs=EPOCHS, verbose=0, callbacks=list(callbacks))


@several_optimizers
def test_a_record_alone_has_every_rate_of_several_optimizers():
    model, _, _ = two_rates()
    history, logger = LRHistory(), Logger()
    train(model, logger, history)
    rates = {"learning_rate_a": 0.5, "learning_rate_b": 2.0}
    for name, rate in rates.items():
        assert history[name].tolist() == [rate] * EPOCHS * STEPS
        assert [logs[name] for logs in logger.logs] == [rate] * EPOCHS


@several_optimizers
def test_a_schedule_of_one_of_several_leaves_the_other_in_the_record():
    model, first, _ = two_rates()
    schedule, logger = LinearDecay(0.5), Logger()
    driver = ParamScheduler(first, learning_rate=schedule)
    train(model, logger, driver)
    curve = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)
    np.testing.assert_allclose(driver.history.learning_rate, curve, rtol=1e-6)
    assert driver.history["learning_rate_b"].tolist() == [2.0] * EPOCHS * STEPS
    assert [logs["learning_rate_b"] for logs in logger.logs] == [2.0] * EPOCHS


# Callbacks that get in the way.


def said(recwarn, words):
    return [one for one in recwarn if words in str(one.message)]


def test_a_scheduler_of_kerass_beside_a_plateau_is_warned_of(recwarn):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    fit(meter(), [ReduceLROnPlateau("loss"), scheduler])
    (warning,) = said(recwarn, "does not outlast")
    assert "LearningRateScheduler" in str(warning.message)
    assert "keras_lr.Function" in str(warning.message)
    assert warning.filename == samples.__code__.co_filename  # where `fit` is called


def test_a_warning_of_a_schedule_shows_the_line_of_fit(recwarn):
    fit(meter(), [CosineDecay(0.1), keras.callbacks.ReduceLROnPlateau("loss")])
    (warning,) = said(recwarn, "has no effect here")
    assert warning.filename == samples.__code__.co_filename


class Setter(keras.callbacks.Callback):
    """Sets the rate of the model's optimizer in a hook, as a scheduler of a user's own does."""

    def __init__(self, hook):
        super().__init__()

        def set_rate(*arguments, **logs):
            self.model.optimizer.learning_rate = 0.0625

        setattr(self, hook, set_rate)


@pytest.mark.parametrize("order", [1, -1], ids=["behind", "in front"])
@pytest.mark.parametrize("schedule", [Constant(0.5), LinearDecay(1.0, 0.25)], ids=repr)
@pytest.mark.parametrize(
    "hook", ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"]
)
def test_a_rate_that_a_callback_sets_is_not_used_and_warned_of_once(hook, schedule, order, recwarn):
    rates = fit(meter(), [schedule, Setter(hook)][::order], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, schedule.history.learning_rate)
    curve = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)
    np.testing.assert_allclose(rates, curve, rtol=1e-6)
    (warning,) = said(recwarn, "has no effect")
    assert f"set to 0.0625 during the fit, which has no effect: {schedule!r}" in str(
        warning.message
    )
    assert warning.filename == samples.__code__.co_filename


def test_a_rate_that_is_set_where_nothing_else_decides_is_used(recwarn):
    history = LRHistory()
    rates = fit(meter(), [history, Setter("on_epoch_end")], epochs=2)
    np.testing.assert_allclose(rates, [*[1.0] * STEPS, *[0.0625] * STEPS], rtol=1e-6)
    assert not said(recwarn, "has no effect")


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"]
)
def test_a_callback_behind_ours_that_compiles_the_model_is_an_error(hook):
    def compile_again(*arguments, **logs):
        other._model.compile(keras.optimizers.SGD(0.1), mean_prediction, **COMPILE)

    model, other = meter(), keras.callbacks.Callback()
    setattr(other, hook, compile_again)
    with pytest.raises(RuntimeError, match=r"compiled during the fit.*initial_epoch"):
        fit(model, [LinearDecay(0.5), other], epochs=EPOCHS)


def test_a_model_compiled_beside_a_record_alone_goes_on_or_is_refused():
    """On JAX a fit hands the state of one optimizer from step to step."""

    def compile_again(epoch, logs=None):
        if epoch == 0:
            model.compile(keras.optimizers.SGD(0.25), mean_prediction, **COMPILE)

    model, other, history = meter(learning_rate=0.5), keras.callbacks.Callback(), LRHistory()
    other.on_epoch_end = compile_again
    if BACKEND == "jax":
        with pytest.raises(RuntimeError, match=r"compiled during the fit.*initial_epoch"):
            fit(model, [history, other], epochs=2)
        return
    fit(model, [history, other], epochs=2)
    np.testing.assert_allclose(history.learning_rate, np.repeat([0.5, 0.25], STEPS))


def test_a_backup_passes_callbacks_of_others_only_for_a_metric_to_come(tmp_path):
    seen = []
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    upload = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((tmp_path / "backup").exists())
    )
    ours = ReduceLROnPlateau("loss", state_path=tmp_path / "state.json")
    fit(meter(), [backup, upload, ours, Function(lambda epoch: 0.1)], epochs=2)
    assert seen == [True, True]


# A train function that the user has put into the model.


def counting(model):
    """Put a train function into a model that counts how often it is called."""
    model.make_train_function()
    plain, calls = model.train_function, []

    def counted(*arguments):
        calls.append(1)
        return plain(*arguments)

    model.train_function = counted
    return counted, calls


def test_a_train_function_of_the_users_is_called_with_the_values():
    model, schedule = meter(), LinearDecay(0.5)
    own, calls = counting(model)
    for _ in range(2):
        calls.clear()
        rates = fit(model, schedule, epochs=EPOCHS)
        np.testing.assert_allclose(rates, schedule.values(), rtol=1e-6)
        np.testing.assert_array_equal(schedule.history.learning_rate, rates)
        assert len(calls) == EPOCHS * STEPS
        assert model.train_function is own


@pytest.mark.skipif(BACKEND == "torch", reason="there the numbers are read in each step")
def test_a_number_that_a_train_function_of_the_users_has_baked_in_is_refused():
    model = meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5))
    counting(model)
    with pytest.raises(RuntimeError, match="compiles momentum into"):
        fit(model, ParamScheduler(momentum=LinearDecay(0.9)))
    np.testing.assert_array_equal(model.get_weights()[0], 0)


def test_a_train_function_that_a_callback_puts_in_during_the_fit_is_refused():
    model = meter()
    model.make_train_function()
    plain = model.train_function

    class Replace(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.train_function = plain

    with pytest.raises(RuntimeError, match="put another function into `train_function`"):
        fit(model, [LinearDecay(0.5), Replace()], epochs=EPOCHS)
    assert model.train_function is plain
