"""The `fit` that calls the callbacks, and what holds where it is not Keras's own."""

import keras
import numpy as np
import pytest
from models import COMPILE, STEPS, fit, mean_prediction, meter

from keras_lr import CosineDecay, LRHistory, LRRangeTest
from keras_lr._keras.fits import fit_frame

pytestmark = pytest.mark.core


@pytest.fixture
def unknown_fit(monkeypatch):
    """Let a `fit` be known by an argument that Keras's does not have."""
    monkeypatch.setattr(fit_frame, "NAMES", (*fit_frame.NAMES, "new_argument"))


def test_a_schedule_needs_no_frame(unknown_fit):
    schedule = CosineDecay(0.1)
    rates = fit(meter(), schedule, epochs=3)
    expected = schedule.values(epochs=3, steps_per_epoch=STEPS)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    np.testing.assert_array_equal(rates, schedule.history.learning_rate)


def test_an_exception_in_a_fit_without_a_frame_leaves_nothing_that_acts(unknown_fit):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyError("stop")

    model = meter(learning_rate=0.25)
    before = set(vars(model))
    with pytest.raises(KeyError):
        fit(model, [CosineDecay(0.1), Stop()], epochs=3)
    assert not [name for name in set(vars(model)) - before if "make" in name]


def test_a_range_test_in_a_fit_needs_the_frame(unknown_fit):
    with pytest.raises(RuntimeError, match=r"cannot be seen.*LRRangeTest\(\).run"):
        fit(meter(), LRRangeTest(apply=True, verbose=0))


def test_a_model_that_makes_its_step_in_another_way_is_refused():
    class Other(keras.Sequential):
        @property
        def make_test_function(self):
            raise AttributeError("make_test_function")

    zeros = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = Other([keras.Input((STEPS,)), zeros])
    model.compile(keras.optimizers.SGD(1.0), mean_prediction, **COMPILE)
    for callback in (CosineDecay(0.1), LRHistory()):
        with pytest.raises(RuntimeError, match=r"no make_test_function.*in_graph"):
            fit(model, callback)
    np.testing.assert_array_equal(model.get_weights()[0], 0)
