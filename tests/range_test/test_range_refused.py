"""What a range test refuses, before its first step or as soon as it shows."""

import keras
import numpy as np
import pytest
from models import X, Y, network, same
from short_tests import finite, quick

from keras_lr import (
    CosineDecay,
    LRHistory,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 0.0}, "min_lr=0.0"),
        ({"min_lr": 1.0, "max_lr": 0.5}, "above min_lr"),
        ({"steps": 5}, "steps=5"),
        ({"steps": "5 bananas"}, "bananas"),
        ({"rule": "valey"}, "did you mean 'valley'"),
        ({"stop_factor": 1.0}, "stop_factor"),
        ({"monitor": "val_loss"}, "validate_every"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LRRangeTest(**arguments)


@pytest.mark.parametrize("steps", ["9 steps", "10.5 steps", "20%"])
def test_a_ramp_takes_whole_batches(steps):
    with pytest.raises(ValueError, match="steps` must be a number of batches of at least 10"):
        LRRangeTest(steps=steps)


def test_what_is_no_model_or_acts_in_a_fit_alone_is_refused_by_run():
    x, y = np.zeros((64, 4)), np.zeros((64, 1))
    with pytest.raises(TypeError, match=r"`model` must be a compiled model.*ndarray"):
        LRRangeTest(verbose=0).run(x, y)
    for name, value in {"apply": True, "every": 2, "auto": OneCycle(0.1)}.items():
        with pytest.raises(ValueError, match=rf"`{name}` must be left out for run\(\).*callbacks"):
            LRRangeTest(verbose=0, **{name: value}).run(network(), X, Y)


def test_what_the_test_decides_cannot_be_passed():
    with pytest.raises(TypeError, match="epochs"):
        quick().run(network(), X, Y, epochs=3)
    with pytest.raises(TypeError, match="pass `steps` to LRRangeTest instead"):
        quick().run(network(), X, Y, initial_epoch=1)
    with pytest.raises(ValueError, match=r"not compiled\. Call .* before training\.$"):
        quick().run(keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]), X, Y)


def test_no_data_are_an_error():
    for fit in (
        lambda: quick().run(network(), X[:0], Y[:0]),
        lambda: quick().run(network()),
    ):
        with pytest.raises(ValueError, match=r"argument `x` must hold at least one batch.*x="):
            fit()


@pytest.mark.parametrize(
    ("batches", "arguments", "fit"),
    [
        (8, {"rule": "edge"}, {}),
        pytest.param(8, {"rule": "edge"}, {"steps_per_epoch": 4}, marks=pytest.mark.full),
        (20, {}, {}),
        pytest.param(24, {}, {}, marks=pytest.mark.full),
        (0, {}, {}),
        (8, {"monitor": "val_loss", "validate_every": 4}, {"validation_data": (X, Y)}),
    ],
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_generator_that_ends_is_refused_when_it_has(batches, arguments, fit):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"argument `x` must be data that can be read again"):
        quick(**arguments).run(model, finite(batches), **fit)
    assert same(before, model.get_weights())


def test_a_value_of_validation_needs_data_for_it():
    with pytest.raises(ValueError, match=r"without `validation_data`.*monitor='val_loss'"):
        quick(monitor="val_loss", validate_every=8).run(network(), X, Y)


class Steps(keras.callbacks.Callback):
    """Counts the steps of a training run."""

    taken = 0

    def on_train_batch_end(self, batch, logs=None):
        self.taken += 1


def unknown(y, prediction):
    return keras.ops.mean(prediction)


@pytest.mark.full
@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("unknown", "`mode` must be 'min' or 'max'.*monitor='unknown'. Known are: loss, accuracy"),
        ("val_unknown", "`mode` must be 'min' or 'max'.*monitor='val_unknown'"),
        ("acuracy", "`monitor` must name a value.*monitor='acuracy'. Available: .*accuracy"),
        ("val_acuracy", "monitor='val_acuracy'. Known are: loss, accuracy"),
    ],
)
def test_what_has_no_direction_or_no_value_is_said_after_one_step(monitor, message):
    model = network()
    model.compile("sgd", model.loss, metrics=["accuracy", unknown])
    before, steps = model.get_weights(), Steps()
    test = quick(monitor=monitor, validate_every=8)
    with pytest.raises(ValueError, match=message):
        test.run(model, X, Y, validation_data=(X, Y), callbacks=[steps])
    assert steps.taken <= 1
    assert same(before, model.get_weights())


@pytest.mark.parametrize(
    "driving",
    [
        CosineDecay(0.1),
        ParamScheduler(learning_rate=CosineDecay(0.1)),
        ReduceLROnPlateau("loss"),
        LRRangeTest(),
    ],
)
def test_no_callback_of_a_run_may_drive_the_rate(driving):
    with pytest.raises(ValueError, match="argument `callbacks` must hold none that drives") as seen:
        quick().run(network(), X, Y, callbacks=[LRHistory(), driving])
    assert repr(driving) in str(seen.value)
    assert "LRHistory" not in str(seen.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: keras.callbacks.ModelCheckpoint(path / "best.keras"),
        lambda path: keras.callbacks.BackupAndRestore(path / "backup"),
        lambda path: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        lambda path: keras.callbacks.ReduceLROnPlateau("loss"),
    ],
)
def test_no_callback_of_a_run_may_write_checkpoints_or_set_the_rate(make, tmp_path):
    callback = make(tmp_path)
    with pytest.raises(ValueError, match=rf"must hold none .*\[{type(callback).__name__}\]"):
        quick().run(network(), X, Y, callbacks=[callback])
    assert not [*tmp_path.iterdir()]
