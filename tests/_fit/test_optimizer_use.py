"""Optimizers that train nothing are noticed, and said."""

import keras
import numpy as np
import pytest
from models import COMPILE, fit, mean_prediction, meter, samples, several_optimizers

from keras_lr import CosineDecay, LinearDecay, LRHistory, ParamScheduler, ReduceLROnPlateau

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
elsewhere = pytest.mark.skipif(BACKEND == "jax", reason="JAX refuses what is not in the state")
tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="a training step of TensorFlow")


def sgd(name="sgd"):
    return keras.optimizers.SGD(0.5, name=name)


def left_over(where):
    """Return a model, and an optimizer that it does not train with."""
    model = meter(optimizer=sgd("left"))
    old = model.optimizer
    if where == "never built":
        return model, sgd("left")
    fit(model, [])
    if where == "before a compile":
        model.compile(sgd("new"), mean_prediction, **COMPILE)
        return model, old
    return meter(optimizer=sgd("new")), old


@elsewhere
@pytest.mark.parametrize("where", ["never built", "before a compile", "another model"])
def test_an_optimizer_that_is_left_over_is_refused_after_one_step(where):
    model, old = left_over(where)
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=r"'left', which does not train.*optimizer='optimizer'"):
        fit(model, ParamScheduler(old, learning_rate=LinearDecay(1.0)), epochs=2)
    assert np.count_nonzero(model.get_weights()[0] != before) == 1
    assert not [name for name in vars(model) if "make_" in name]


class Own(keras.Sequential):
    """A model that trains by an optimizer of its own beside an idle compiled one."""

    def __init__(self):
        zeros = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        super().__init__([keras.Input((5,)), zeros])
        self.own, self.late = sgd("own"), sgd("late")
        self.compile(sgd("idle"), mean_prediction, jit_compile=False)

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self(data[0], training=True)) / 2
        weights = self.trainable_variables
        self.own.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


@tensorflow
@pytest.mark.parametrize("callback", [lambda: CosineDecay(0.1), lambda: ReduceLROnPlateau("loss")])
def test_an_idle_compiled_optimizer_is_refused(callback):
    with pytest.raises(ValueError, match=r"'idle', which does not train.*optimizer='own'"):
        fit(Own(), callback(), epochs=2)


@tensorflow
def test_one_that_is_named_may_have_its_turn_later():
    scheduler = ParamScheduler("late", learning_rate=LinearDecay(1.0))
    with pytest.warns(UserWarning, match=r"'late', which made no update in the first") as caught:
        fit(Own(), scheduler, epochs=2)
    assert {warning.filename for warning in caught if "late" in str(warning.message)} == {
        samples.__code__.co_filename
    }


@tensorflow
def test_the_one_that_trains_is_driven_without_a_warning(recwarn):
    schedule = LinearDecay(1.0)
    rates = fit(Own(), ParamScheduler("own", learning_rate=schedule), epochs=2)
    np.testing.assert_allclose(rates, schedule.values(epochs=2, steps_per_epoch=5), rtol=1e-6)
    assert not [one for one in recwarn if "iterations" in str(one.message)]


@several_optimizers
def test_a_part_of_several_that_has_no_variables_is_warned_of():
    parts = keras.optimizers.OptimizerMap(sgd("all"), {"nothing/.*": sgd("none")})
    model = meter(optimizer=keras.optimizers.MultiOptimizer(parts))
    history = LRHistory()
    with pytest.warns(UserWarning, match=r"'none', which made no update"):
        fit(model, [ReduceLROnPlateau("loss"), history])
    assert history["learning_rate_all"].tolist() == [0.5] * 5


def test_a_scaled_loss_may_skip_updates(recwarn):
    inner = keras.optimizers.SGD(1.0)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**127)
    fit(meter(optimizer=scaled), CosineDecay(0.1))
    assert not [one for one in recwarn if "iterations" in str(one.message)]
