"""What else trains a model during a fit, or changes it: the rates of the fit stay its own."""

import copy
import gc
import pickle
import threading
import time
import weakref

import keras
import numpy as np
import pytest
from models import (
    COMPILE,
    STEPS,
    Meter,
    fit,
    mean_prediction,
    meter,
    samples,
    settled,
)

from keras_lr import (
    CosineDecay,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    ParamScheduler,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core

EPOCHS = 3
BACKEND = keras.backend.backend()


def expected(schedule, epochs=EPOCHS):
    return schedule.values(epochs=epochs, steps_per_epoch=STEPS).astype("float32")


class At(keras.callbacks.Callback):
    """Does something at one of its hooks, in the second epoch where it is one of epochs."""

    def __init__(self, hook, do):
        super().__init__()
        setattr(self, hook, lambda index, logs=None: do(self.model) if index == 1 else None)


class Paused:
    """Trains the model by other means and puts its weights back."""

    def __init__(self, train):
        self.train = train

    def __call__(self, model):
        weights = model.get_weights()
        self.train(model)
        model.set_weights(weights)


def nested_fit(model):
    x, y = samples()
    model.fit(x, y, batch_size=2, epochs=2, verbose=0)


def range_test(model):
    x, y = samples()
    result = LRRangeTest(steps=20, rule="edge", max_lr=100.0, verbose=0).run(
        model, x, y, batch_size=2
    )
    model.tested = result.rates


def one_batch(model):
    x, y = samples()
    model.train_on_batch(x[:2], y[:2])


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
@pytest.mark.parametrize("train", [nested_fit, range_test])
@pytest.mark.parametrize("where", [1, -1], ids=["before", "after"])
def test_a_callback_may_train_the_model_between_two_batches(hook, train, where):
    schedule, model = LinearDecay(0.5), meter()
    other = At(hook, Paused(train))
    rates = fit(model, [other, schedule][::where], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, expected(schedule))
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)
    if train is range_test:
        np.testing.assert_allclose(model.tested, np.geomspace(1e-6, 100.0, 20), rtol=1e-6)


@pytest.mark.skipif(BACKEND == "jax", reason="Keras itself fails: the state is in the step")
@pytest.mark.parametrize("train", [nested_fit, one_batch])
def test_a_callback_may_train_the_model_after_a_batch(train):
    schedule, model = LinearDecay(0.5), meter()
    rates = fit(model, [schedule, At("on_train_batch_end", Paused(train))], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, expected(schedule))
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)


def evaluation(model):
    x, y = samples()
    model.evaluate(x, y + 10.0, batch_size=2, verbose=0)


def regression():
    """Return a network whose loss falls, with a metric, and without a random number."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((STEPS,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"], **COMPILE)
    return model


@pytest.mark.parametrize("unknown", [False, True], ids=["length known", "length unknown"])
@pytest.mark.parametrize(
    "other",
    [
        evaluation,
        *(
            pytest.param(
                Paused(train),
                marks=pytest.mark.skipif(BACKEND == "jax", reason="Keras itself fails"),
                id=train.__name__,
            )
            for train in (nested_fit, one_batch)
        ),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        LRHistory,
        pytest.param(lambda: ReduceLROnPlateau("loss", patience="3 steps"), marks=pytest.mark.full),
    ],
)
def test_the_losses_of_an_epoch_go_on_after_what_else_a_callback_does(make, other, unknown):
    def trained(*others):
        x, y = samples(last=1)
        y = y + np.arange(len(y), dtype="float32")[:, None] / 3
        data = {"x": x, "y": y, "batch_size": 2, "shuffle": False}
        if unknown:
            tf = pytest.importorskip("tensorflow")
            pairs = tf.data.Dataset.from_generator(
                lambda: zip(x, y, strict=True),
                output_signature=(tf.TensorSpec((STEPS,)), tf.TensorSpec((1,))),
            )
            data = {"x": pairs.batch(2)}
        recorder, model = make(), regression()
        past = model.fit(**data, epochs=EPOCHS, verbose=0, callbacks=[*others, recorder])
        return getattr(recorder, "history", recorder), past.history

    record, logs = trained(At("on_train_batch_end", other))
    expected_record, expected_logs = trained()
    np.testing.assert_allclose(record.loss, expected_record.loss, rtol=1e-5)
    np.testing.assert_array_equal(record.learning_rate, expected_record.learning_rate)
    for name in ("loss", "mae"):
        np.testing.assert_allclose(logs[name], expected_logs[name], rtol=1e-5)


@pytest.mark.parametrize("use", ["evaluate", "test_on_batch"])
def test_a_callback_may_test_the_model_before_every_batch(use):
    class Tests(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            x, y = samples()
            if use == "evaluate":
                self.model.evaluate(x, y + 10.0, batch_size=2, verbose=0)
            else:
                self.model.test_on_batch(x[:2], y[:2] + 10.0)

    def trained(*others):
        x, y = samples()
        model, record = regression(), LRHistory()
        options = {"batch_size": 2, "shuffle": False, "verbose": 0, "epochs": EPOCHS}
        past = model.fit(x, y + 1.0, callbacks=[*others, record], **options)
        return record.loss, past.history

    (loss, logs), (expected_loss, expected_logs) = trained(Tests()), trained()
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for name in ("loss", "mae"):
        np.testing.assert_allclose(logs[name], expected_logs[name], rtol=1e-5)


def test_a_loop_of_ones_own_over_batches():
    schedule, model, reader = LinearDecay(0.5), meter(), Meter()
    x, y = samples()
    callbacks = keras.callbacks.CallbackList(
        [schedule, reader], model=model, epochs=EPOCHS, steps=STEPS
    )
    callbacks.on_train_begin()
    for epoch in range(EPOCHS):
        callbacks.on_epoch_begin(epoch)
        for batch in range(STEPS):
            callbacks.on_train_batch_begin(batch)
            rows = slice(2 * batch, 2 * batch + 2)
            logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
            callbacks.on_train_batch_end(batch, logs)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    np.testing.assert_array_equal(reader.rates, expected(schedule))
    np.testing.assert_array_equal(schedule.history.learning_rate, reader.rates)


def test_layers_may_be_thawed_during_a_fit():
    def thaw(model):
        model.layers[-1].trainable = True
        model.make_train_function(force=True)

    schedule, model = LinearDecay(0.5), meter()
    rates = fit(model, [schedule, At("on_epoch_begin", thaw)], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, expected(schedule))
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
def test_compiling_during_a_fit_is_an_error(hook):
    def compile_again(model):
        model.compile(keras.optimizers.SGD(0.1), mean_prediction, **COMPILE)
        model.make_train_function()

    model = meter()
    with pytest.raises(RuntimeError, match=r"compiled during the fit.*LinearDecay.*initial_epoch"):
        fit(model, [LinearDecay(0.5), At(hook, compile_again)], epochs=EPOCHS)
    again = LinearDecay(0.5)
    settled(model).set_weights([np.zeros((STEPS, 1))])
    np.testing.assert_array_equal(fit(model, again, epochs=EPOCHS), expected(again))


def test_an_exception_then_batches_of_ones_own():
    def stop(model):
        raise ValueError("stop")

    model, schedule = meter(learning_rate=0.25), LinearDecay(0.5)
    with pytest.raises(ValueError, match="stop"):
        fit(model, [schedule, At("on_epoch_begin", stop)], epochs=EPOCHS)
    settled(model).optimizer.learning_rate = 0.25
    model.set_weights([np.zeros((STEPS, 1))])
    one_batch(model)
    assert model.get_weights()[0][0] == pytest.approx(-0.25)
    assert len(schedule.history) == STEPS


@pytest.mark.parametrize("order", [1, -1])
def test_the_history_of_a_callback_beside_it(order):
    schedule = LinearDecay(0.5)
    rates = fit(meter(), [schedule, schedule.history][::order], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, expected(schedule))
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)


def test_the_history_of_a_plateau_beside_it():
    cuts = ReduceLROnPlateau("loss", patience=0, factor=0.5, min_delta=1e9)
    rates = fit(meter(), [cuts, cuts.history], epochs=EPOCHS)
    # Keras's rule takes the first epoch for an improvement, whatever `min_delta`.
    np.testing.assert_array_equal(rates[::STEPS], [1.0, 1.0, 0.5])


def test_two_plateaus_on_a_schedule():
    schedule = LinearDecay(0.5, over=100)
    cuts = [
        ReduceLROnPlateau(name, patience=1, factor=0.5, min_delta=1e9)
        for name in ("loss", "val_loss")
    ]
    rates = fit(meter(), [schedule, *cuts], epochs=4, validation_data=samples())
    curve = schedule.values(epochs=4, steps_per_epoch=STEPS)
    factor = np.repeat([1.0, 1.0, 0.25, 0.0625], STEPS)
    np.testing.assert_allclose(rates, curve * factor, rtol=1e-6)


def test_a_plateau_in_steps_and_one_in_epochs_on_a_schedule():
    schedule = LinearDecay(0.5, over=100)
    cuts = [
        ReduceLROnPlateau("loss", patience=f"{STEPS} steps", factor=0.5, min_delta=1e9),
        ReduceLROnPlateau("loss", patience=1, factor=0.5, min_delta=1e9),
    ]
    rates = fit(meter(), [schedule, *cuts], epochs=EPOCHS)
    assert len(rates) == EPOCHS * STEPS
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)


@pytest.mark.parametrize(
    "rival",
    [
        lambda: keras.callbacks.ReduceLROnPlateau("loss"),
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
    ],
    ids=["ReduceLROnPlateau", "LearningRateScheduler"],
)
def test_a_callback_of_keras_that_has_no_effect_is_warned_of(rival, recwarn):
    schedule, other = LinearDecay(0.5), rival()
    rates = fit(meter(), [schedule, other], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, expected(schedule))
    said = [str(one.message) for one in recwarn if "has no effect" in str(one.message)]
    assert len(said) == 1
    assert type(other).__name__ in said[0]
    assert "LinearDecay" in said[0]


def test_a_callback_of_keras_beside_a_record_is_none_of_ours(recwarn):
    fit(meter(), [LRHistory(), keras.callbacks.ReduceLROnPlateau("loss")])
    assert not [one for one in recwarn if "has no effect" in str(one.message)]


@pytest.mark.parametrize("name", ["loss", "learning_rate"])
def test_a_record_may_be_read_while_it_grows(name):
    """From another thread, as a live plot does, and from an asynchronous hook."""
    schedule, stop, wrong = LinearDecay(0.5), threading.Event(), []

    class Watcher(keras.callbacks.Callback):
        async_safe = True

        def on_train_batch_end(self, batch, logs=None):
            len(schedule.history[name])

    def watch():
        while not stop.is_set():
            try:
                len(schedule.history[name])
            except Exception as error:
                wrong.append(error)
            time.sleep(1e-3)

    thread = threading.Thread(target=watch)
    thread.start()
    steps = 300
    try:
        rates = fit(meter(steps), [schedule, Watcher()], epochs=2)
    finally:
        stop.set()
        thread.join()
    assert wrong == []
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)
    assert schedule.history.step.tolist() == list(range(2 * steps))


def test_the_data_of_a_fit_are_let_go_as_by_keras():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return STEPS

        def __getitem__(self, index):
            return [part[2 * index : 2 * index + 2] for part in samples()]

    def keeps(*callbacks):
        model, data = meter(), Data()
        model.fit(data, verbose=0, callbacks=callbacks)
        kept = weakref.ref(data)
        del data
        gc.collect()
        return kept() is not None

    assert keeps(CosineDecay(0.1)) == keeps()


def test_what_was_compiled_for_an_earlier_optimizer_is_let_go():
    model, gone = meter(), []
    for _ in range(3):
        model.compile(keras.optimizers.SGD(), mean_prediction, **COMPILE)
        gone.append(weakref.ref(model.optimizer))
        fit(model, LinearDecay(0.1))
    gc.collect()
    assert [one() is None for one in gone] == [True, True, False]


def test_three_optimizers_of_one_name_have_a_column_each():
    class Three(keras.Sequential):
        """Has two optimizers that it does not train with."""

    model = Three([keras.Input((STEPS,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(1.0, name="a"), mean_prediction, **COMPILE)
    others = [keras.optimizers.SGD(1.0, name="a") for _ in range(2)]
    for other in others:
        other.build(model.trainable_variables)
    model.others = others  # held, they may have their turn later
    if BACKEND == "jax":
        pytest.skip("JAX takes an optimizer only as a part of the model")
    drivers = [
        ParamScheduler(optimizer=one, learning_rate=LinearDecay(0.1 * (i + 1)))
        for i, one in enumerate([None, *others])
    ]
    fit(model, drivers)
    history = drivers[0].history
    names = [name for name in history.names if name.startswith("learning_rate")]
    assert [round(float(history[name][0]), 3) for name in names] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
def test_what_copies_or_saves_a_model_during_a_fit_sees_a_plain_model(hook, tmp_path):
    keras.saving.register_keras_serializable("tests")(mean_prediction)
    found = []

    def copy_and_save(model):
        model.save(tmp_path / "model.keras")
        found.extend(
            [
                copy.deepcopy(model),
                pickle.loads(pickle.dumps(model)),
                keras.models.clone_model(model),
                keras.models.load_model(tmp_path / "model.keras"),
            ]
        )

    schedule, model = LinearDecay(0.5), meter()
    rates = fit(model, [schedule, At(hook, copy_and_save)], epochs=EPOCHS)
    np.testing.assert_array_equal(rates, expected(schedule))
    plain = {*vars(meter()), "history"}
    for other in found:
        assert not [name for name in set(vars(other)) - plain if "make" in name or "lr" in name]
        other.compile(keras.optimizers.SGD(2.0), mean_prediction, **COMPILE)
        other.set_weights([np.zeros((STEPS, 1))])
        assert fit(other, []).tolist() == [2.0] * STEPS
