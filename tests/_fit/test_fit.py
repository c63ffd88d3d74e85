"""In a fit, update t is made with value t: read off the weights, in every way that Keras trains."""

import pickle

import keras
import numpy as np
import pytest
from models import (
    COMPILE,
    STEPS,
    Meter,
    compiled,
    curve,
    fit,
    mean_prediction,
    meter,
    rate,
    samples,
)
from shapes import EPOCHS, SHAPES
from shapes import STEPS as SHAPE_STEPS

from keras_lr import (
    Constant,
    CosineDecay,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
    StepDecay,
)

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()


@pytest.fixture(scope="module")
def model_for_shapes():
    return meter(SHAPE_STEPS)


@pytest.mark.parametrize("name", SHAPES)
def test_every_schedule_trains_with_its_values(name, model_for_shapes):
    schedule = SHAPES[name].make()
    rates = fit(model_for_shapes, schedule, epochs=EPOCHS)
    expected = curve(SHAPES[name].make(), EPOCHS, SHAPE_STEPS)
    # Keras computes its own schedules in float32, in one order or another.
    rtol = 1e-6 if name == "Function-keras" else 0
    np.testing.assert_allclose(rates, expected, rtol=rtol, atol=0)
    np.testing.assert_array_equal(schedule.history.learning_rate, rates)


# Ways to train.


def test_the_weight_is_the_sum_of_the_rates():
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(7.0), mean_prediction, **COMPILE)
    x = np.ones((7, 1), "float32")
    schedule = CosineDecay(0.5, over="16 steps")
    model.fit(x, x, batch_size=2, epochs=4, verbose=0, callbacks=[schedule])
    # Sixteen steps of half a cosine from 0.5 to 0: their mean is 1/4 and half a step's 1/4 above.
    assert -model.get_weights()[0].item() == pytest.approx(16 * 0.25 + 0.25, rel=1e-6)
    assert float(model.optimizer.learning_rate) == np.float32(schedule(15))


def test_fit_twice_begins_anew_and_compiles_nothing_anew():
    model, schedule = meter(), rate()
    first = fit(model, schedule, epochs=3)
    function = model.train_function
    second = fit(model, schedule, epochs=3)
    other = fit(model, StepDecay(0.5, every=1), epochs=3)
    assert model.train_function is function
    np.testing.assert_array_equal(first, curve())
    np.testing.assert_array_equal(second, curve())
    np.testing.assert_array_equal(other, np.repeat(np.float32([0.5, 0.25, 0.125]), 5))


def test_lengths_follow_the_fit():
    model, schedule = meter(), rate()
    for epochs in (1, 4, 2):
        np.testing.assert_array_equal(fit(model, schedule, epochs=epochs), curve(epochs=epochs))
    assert schedule.timeline.epochs == 2
    whole = schedule.values(epochs=2, steps_per_epoch=STEPS)
    np.testing.assert_array_equal(schedule.values(), whole)
    assert len(schedule.values(epochs=1)) == STEPS
    assert schedule.plot().get_title().endswith("over 2 epochs")


def test_one_schedule_in_a_fit_inside_the_fit_of_another_model_is_refused():
    outer, inner, schedule = meter(), meter(), rate()

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            fit(inner, [schedule])

    with pytest.raises(ValueError, match=r"which still runs.*copy.deepcopy\(callback\)"):
        fit(outer, [schedule, Inner()], epochs=2)
    np.testing.assert_array_equal(fit(inner, schedule, epochs=3), curve())


def test_one_schedule_in_two_models():
    schedule = rate()
    for model in (meter(), meter(7)):
        steps = model.input_shape[-1]
        np.testing.assert_array_equal(fit(model, schedule, epochs=3), curve(steps=steps))


def test_initial_epoch():
    schedule = rate()
    np.testing.assert_array_equal(fit(meter(), schedule, epochs=3, initial_epoch=2), curve()[10:])
    assert schedule.history.step.tolist() == list(range(10, 15))
    assert schedule.history.epoch.tolist() == [2] * 5


def test_a_fit_in_pieces_is_the_fit():
    model, schedule = meter(), rate()
    model.optimizer.learning_rate = 5.0
    pieces = [fit(model, schedule, epochs=3, initial_epoch=0)[:5]]
    pieces += [fit(model, schedule, epochs=3, initial_epoch=first)[:5] for first in (1, 2)]
    np.testing.assert_array_equal(np.concatenate(pieces), curve())


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("batch_size", [2, 4])
def test_a_short_last_batch_is_a_step(last, batch_size):
    data = samples(batch_size=batch_size, last=last)
    rates = fit(meter(), rate(), data, batch_size=batch_size, epochs=3)
    np.testing.assert_array_equal(rates, curve())


def test_validation_split():
    x, y = samples()
    x, y = np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])
    schedule = rate()
    rates = fit(meter(), schedule, (x, y), validation_split=1 / 3, epochs=3)
    np.testing.assert_array_equal(rates, curve())
    assert len(schedule.history) == 15


def test_validation_data_in_some_epochs():
    data = samples()
    rates = fit(meter(), rate(), data, validation_data=data, validation_freq=2, epochs=3)
    np.testing.assert_array_equal(rates, curve())


def test_class_weight():
    rates = fit(meter(), rate(), class_weight={0: 2.0}, epochs=3)
    np.testing.assert_array_equal(rates, 2 * curve())


def test_sample_weight():
    rates = fit(meter(), rate(), sample_weight=np.full(10, 0.5, "float32"), epochs=3)
    np.testing.assert_array_equal(rates, curve() / 2)


def test_steps_per_epoch_goes_round_the_data():
    """Epochs of 3 steps over data of 5: updates 0, 1 and 2, then 3, 4 and 0, and so on."""
    rates = fit(meter(), rate(), forever(), steps_per_epoch=3, epochs=5)
    expected = np.zeros(25, np.float32)
    for step, value in enumerate(curve(epochs=5, steps=3)):
        expected[step // 3 * 5 + step % 5] = value
    np.testing.assert_array_equal(rates, expected)


def batches(steps=STEPS):
    x, y = samples(steps)
    return [(x[i : i + 2], y[i : i + 2]) for i in range(0, len(x), 2)]


def forever():
    """A Python generator without an end."""
    while True:
        yield from batches()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        return batches()[index]


def test_a_generator_with_steps_per_epoch():
    rates = fit(meter(), rate(), forever(), steps_per_epoch=5, epochs=3)
    np.testing.assert_array_equal(rates, curve())


def test_a_pydataset():
    np.testing.assert_array_equal(fit(meter(), rate(), Batches(), epochs=3), curve())


def test_a_pydataset_with_workers():
    """Keras may hand out the batches of an epoch in another order then, but as many."""
    rates = fit(meter(), rate(), Batches(workers=2, max_queue_size=3), epochs=3)
    sums = [values.reshape(3, 5).sum(axis=1) for values in (rates, curve())]
    np.testing.assert_allclose(*sums, rtol=1e-6)


needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")


@needs_tensorflow
def test_tf_data_with_a_length():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(samples()).batch(2)
    np.testing.assert_array_equal(fit(meter(), rate(), data, epochs=3), curve())


@needs_tensorflow
def test_tf_data_with_steps_per_epoch():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(samples()).batch(2).repeat()
    np.testing.assert_array_equal(fit(meter(), rate(), data, epochs=3, steps_per_epoch=5), curve())


# How a step is compiled.


@compiled
@pytest.mark.parametrize(
    ("steps", "steps_per_execution", "jit_compile"),
    [(10, 4, True), (10, 8, False), (16, 4, False), (16, 8, True)],
)
def test_steps_per_execution_is_exact(steps, steps_per_execution, jit_compile):
    model = meter(steps, steps_per_execution=steps_per_execution, jit_compile=jit_compile)
    schedule = rate()
    for _ in range(2):
        rates = fit(model, schedule, epochs=3)
        np.testing.assert_array_equal(rates, curve(steps=steps))
        np.testing.assert_array_equal(schedule.history.learning_rate, rates)


@compiled
def test_jit_compile():
    np.testing.assert_array_equal(fit(meter(jit_compile=True), rate(), epochs=3), curve())


def test_run_eagerly():
    np.testing.assert_array_equal(fit(meter(run_eagerly=True), rate(), epochs=3), curve())


def test_an_epoch_longer_than_the_table():
    """The rates of 2,100 updates, each twice in its own weight, over 7 weights."""
    x, y = samples(7, batch_size=1)
    x, y = np.tile(x, (300, 1)), np.tile(y, (300, 1))
    schedule = CosineDecay(0.5)
    rates = fit(meter(7), schedule, (x, y), batch_size=1, epochs=1)
    expected = curve(CosineDecay(0.5), 1, 2100)
    np.testing.assert_allclose(rates, expected.reshape(300, 7).sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(schedule.history.learning_rate, expected)


def test_gradient_accumulation_counts_batches():
    """Two batches make an update, with the mean of their gradients and the rate of the second."""
    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    data = samples(6)
    rates = fit(meter(6, optimizer), LinearDecay(1.0, 0.25), data, epochs=2)
    expected = 1.0 - np.repeat([1, 3, 5, 7, 9, 11], 2) * 0.75 / 12
    np.testing.assert_allclose(rates, expected / 2, rtol=1e-6)


def test_loss_scaling_moves_the_rate_that_counts():
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1.0), initial_scale=4.0, dynamic_growth_steps=1000
    )
    np.testing.assert_array_equal(fit(meter(optimizer=optimizer), rate(), epochs=3), curve())
    assert float(optimizer.inner_optimizer.learning_rate) == curve()[-1]


def test_a_custom_train_step():
    class Model(keras.Sequential):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    zeros = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = Model([keras.Input((STEPS,)), zeros])
    model.compile(keras.optimizers.SGD(1.0), mean_prediction, **COMPILE)
    np.testing.assert_array_equal(fit(model, rate(), epochs=3), curve())


def test_compiling_again_between_fits():
    model, schedule = meter(), rate()
    fit(model, schedule, epochs=1)
    model.compile(keras.optimizers.SGD(3.0), mean_prediction, **COMPILE)
    np.testing.assert_array_equal(fit(model, schedule, epochs=3), curve())
    np.testing.assert_array_equal(fit(model, [], epochs=1), np.repeat(curve()[-1], 5))


def test_early_stopping_ends_the_schedule():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.stop_training = True

    schedule = rate()
    rates = fit(meter(), [schedule, Stop()], epochs=3)
    assert len(rates) == 5
    ran = len(schedule.history)
    np.testing.assert_array_equal(schedule.history.learning_rate, curve()[:ran])


# Beside other callbacks.


def test_it_stands_anywhere_among_the_callbacks():
    class Nothing(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            pass

        def on_train_batch_end(self, batch, logs=None):
            pass

    for callbacks in ([rate(), Nothing()], [Nothing(), rate()]):
        np.testing.assert_array_equal(fit(meter(), callbacks, epochs=3), curve())


def test_two_that_drive_the_same_rate_raise():
    one, two = CosineDecay(0.1), Constant(0.2)
    model = meter()
    with pytest.raises(ValueError, match="Two callbacks drive learning_rate") as caught:
        fit(model, [one, two], epochs=1)
    assert repr(one) in str(caught.value)
    assert repr(two) in str(caught.value)
    assert "combine schedules with `*` or `>>`" in str(caught.value)
    np.testing.assert_array_equal(model.get_weights()[0], 0)
    np.testing.assert_array_equal(fit(model, rate(), epochs=3), curve())


def test_the_same_schedule_twice_is_once():
    schedule = rate()
    np.testing.assert_array_equal(fit(meter(), [schedule, schedule], epochs=3), curve())
    assert len(schedule.history) == 15


def test_two_rates_of_two_parameters_do_not_interfere():
    model = meter(optimizer=keras.optimizers.SGD(1.0, weight_decay=0.5))
    schedule = rate()
    scheduler = ParamScheduler(weight_decay=Constant(0.0))
    rates = fit(model, [schedule, scheduler], epochs=3)
    np.testing.assert_array_equal(rates, curve())


# Afterwards, and inside.


def test_after_a_fit_a_model_is_saved_as_ever(tmp_path):
    keras.saving.register_keras_serializable("tests")(mean_prediction)
    model = meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5, nesterov=True))
    fit(model, [OneCycle(0.5)], epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    copied = pickle.loads(pickle.dumps(model))
    for other in (loaded, copied):
        np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_a_fit_leaves_nothing_that_acts():
    model = meter()
    before = {*vars(model)}
    fit(model, rate(), epochs=2)
    added = {*vars(model)} - before
    assert {name for name in added if "keras_lr" in name} <= {"_keras_lr_steps"}
    assert "make_train_function" not in added
    last = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert last == curve(epochs=2)[-1]
    assert fit(model, [], epochs=1).tolist() == [last] * 5
    x, y = samples()
    model.train_on_batch(x[:2], y[:2])
    assert -model.get_weights()[0][0, 0] == last


def test_a_fit_inside_a_fit_is_a_fit_of_its_own():
    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.rates = fit(inner, StepDecay(0.5, every=1), epochs=2)

    inner, callback = meter(), Inner()
    np.testing.assert_array_equal(fit(meter(), [rate(), callback], epochs=3), curve())
    assert callback.rates.tolist() == [0.5] * 5 + [0.25] * 5


def test_the_reader_of_rates_reads_them():
    """The instrument itself, against rates that a plain Keras callback sets."""

    class Set(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 2.0**-batch

    reader = Meter()
    x, y = samples()
    meter_model = meter()
    meter_model.fit(
        x, y, batch_size=2, shuffle=False, epochs=2, verbose=0, callbacks=[Set(), reader]
    )
    assert reader.rates.tolist() == [1, 0.5, 0.25, 0.125, 0.0625] * 2


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("make", [lambda: OneCycle(0.1), ReduceLROnPlateau, LRHistory])
@pytest.mark.parametrize("epochs", [0, -1])
def test_a_fit_of_no_epochs_trains_nothing(make, epochs):
    model = meter()
    before = model.get_weights()
    model.fit(*samples(), epochs=epochs, verbose=0, callbacks=[make()])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
