"""ReduceLROnPlateau scales a schedule: rate = max(schedule * scale, min(schedule, min_lr))."""

import keras
import numpy as np
import pytest
from plateaus import build, fit, learning_rate, long_executions, rates

from keras_lr import Constant, CosineDecay, LinearDecay, ParamScheduler, ReduceLROnPlateau

pytestmark = pytest.mark.core


def test_a_schedule_is_scaled_from_the_reduction_on():
    callback = ReduceLROnPlateau(factor=0.5, patience=2, min_lr=0.1)
    values = [9.0, 8.0, 8.0, 8.0, 7.0, 7.0, 7.0, 7.0]
    schedule = LinearDecay(0.8, 0.0, over=8)
    fit(build(), values, schedule, callback, batch_size=6)
    # Halved from step 8 on. Cuts stop at min_lr; the schedule itself continues below it.
    found = [0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45]
    found += [0.2, 0.175, 0.15, 0.125, 0.1, 0.1, 0.1, 0.05]
    np.testing.assert_allclose(rates(callback), found, rtol=1e-6)
    np.testing.assert_allclose(rates(schedule), found, rtol=1e-6)


@pytest.mark.parametrize("first", ["schedule", "plateau"])
def test_warmup_then_cosine_with_cuts(first):
    schedule = CosineDecay(1.0).warmup(2)
    callback = ReduceLROnPlateau(factor=0.1, patience=1)
    both = [schedule, callback] if first == "schedule" else [callback, schedule]
    model = build()
    fit(model, [5.0, 4.0, 4.0, 3.0, 3.0, 2.0], *both, batch_size=4)
    scale = np.repeat([1.0, 1.0, 1.0, 0.1, 0.1, 0.01], 3)
    curve = schedule.values(epochs=6, steps_per_epoch=3)
    np.testing.assert_allclose(rates(callback), curve * scale, rtol=1e-6)
    np.testing.assert_allclose(
        rates(callback)[:9], [0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1, *curve[7:9]], rtol=1e-6
    )


class Rates(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        self.used = learning_rate(self.model)

    def on_epoch_end(self, epoch, logs=None):
        logs["used"] = self.used


def test_without_a_callback_for_both_a_reduction_is_lost():
    """Keras's own two callbacks fight: the scheduler writes over what the plateau cut."""
    theirs = fit(
        build(),
        [1.0] * 4,
        keras.callbacks.LearningRateScheduler(lambda epoch: 1.0),
        keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1),
        Rates(),
    )
    assert theirs.history["used"] == [1.0] * 4
    callback = ReduceLROnPlateau(factor=0.5, patience=1)
    fit(build(), [1.0] * 4, Constant(1.0), callback)
    assert rates(callback) == [1.0, 1.0, 0.5, 0.25]


def test_a_param_scheduler_is_scaled_in_its_rate_alone():
    model = build(keras.optimizers.SGD(1.0, momentum=0.9))
    both = ParamScheduler(learning_rate=Constant(0.5), momentum=Constant(0.8))
    callback = ReduceLROnPlateau(factor=0.5, patience=1)
    fit(model, [1.0] * 4, both, callback)
    assert rates(both) == [0.5, 0.5, 0.25, 0.125]
    np.testing.assert_allclose(both.history["momentum"], 0.8, rtol=1e-6)


@long_executions
def test_a_cut_takes_effect_inside_long_executions():
    model = build(steps_per_execution=3)
    callback = ReduceLROnPlateau(factor=0.5, patience=1)
    fit(model, [1.0] * 3, LinearDecay(0.9, 0.0, over=3), callback, batch_size=4)
    expected = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.15, 0.1, 0.05]
    np.testing.assert_allclose(rates(callback), expected, rtol=1e-5)
