"""Two optimizers in one model: each its own schedule, both in the record."""

import keras
import numpy as np
import pytest

from keras_lr import CosineDecay, LinearDecay, ParamScheduler

if keras.backend.backend() != "tensorflow":
    pytest.skip("the custom step below is written for TensorFlow", allow_module_level=True)


def test_both_rates_are_recorded_under_names_of_their_own():
    import tensorflow as tf

    class Pair(keras.Sequential):
        def build_optimizers(self):
            self.first = keras.optimizers.SGD(1.0, name="first")
            self.second = keras.optimizers.SGD(1.0, name="second")
            return self

        def train_step(self, data):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(data[0], training=True))
            kernel, bias = self.trainable_variables
            gradients = tape.gradient(loss, [kernel, bias])
            self.first.apply_gradients([(gradients[0], kernel)])
            self.second.apply_gradients([(gradients[1], bias)])
            return {"loss": loss}

    model = Pair([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.build_optimizers().compile("sgd")
    one, two = LinearDecay(1.0), CosineDecay(0.5)
    callbacks = [
        ParamScheduler(optimizer="first", learning_rate=one),
        ParamScheduler(optimizer="second", learning_rate=two),
    ]
    model.fit(np.ones((8, 1), "float32"), batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
    size = {"epochs": 2, "steps_per_epoch": 4}
    history = callbacks[1].history
    np.testing.assert_allclose(history.learning_rate, one.values(**size), rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate_second"], two.values(**size), rtol=1e-6)
    kernel, bias = (float(np.squeeze(weight)) for weight in model.get_weights())
    assert kernel == pytest.approx(-one.values(**size).sum())
    assert bias == pytest.approx(-two.values(**size).sum())
