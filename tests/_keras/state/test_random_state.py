"""Random states: each run of a range test sees the same draws, and all are found as they were."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr import LRRangeTest
from keras_lr._keras.state.snapshot import state_preserved

X = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="operations of TensorFlow"
)


def dense(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse", **COMPILE)
    return model


def losses(model, x=X, y=Y, **options):
    """Return the losses of the batches at rates too low to train."""
    test = LRRangeTest(1e-12, 1e-11, 10, rule="edge", verbose=0)
    return test.run(model, x, y, **options, **({"batch_size": 8} if y is not None else {})).values


@pytest.mark.core
def test_random_states_come_back():
    model = dense()
    keras.random.normal((1,))

    def draws():
        return (
            random.random(),
            np.random.rand(),  # noqa: NPY002
            float(keras.ops.convert_to_numpy(keras.random.normal(()))),
        )

    with state_preserved(model):
        inside = draws()
    assert draws() == inside


@pytest.mark.core
@pytest.mark.parametrize("layer", [keras.layers.Dropout, keras.layers.GaussianNoise])
def test_each_run_sees_the_same_draws(layer):
    model = dense(layer(0.5))
    first, second = losses(model), losses(model)
    assert first.tolist() == second.tolist()
    assert len(set(first)) == 10


def noisy_layer():
    import tensorflow as tf

    class Noisy(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    return dense(Noisy()), {}


def noisy_activation():
    import tensorflow as tf

    return dense(keras.layers.Activation(lambda x: x + tf.random.normal(tf.shape(x)))), {}


def noisy_data():
    import tensorflow as tf

    class Noisy(keras.utils.PyDataset):
        def __len__(self):
            return 10

        def __getitem__(self, i):
            noise = tf.random.normal((8, 4))
            return X[8 * i : 8 * i + 8] + noise, Y[8 * i : 8 * i + 8]

    return dense(), {"x": Noisy(), "y": None}


@on_tensorflow
@pytest.mark.parametrize("noisy", [noisy_layer, noisy_activation, noisy_data])
def test_operations_of_tensorflow_draw_the_same_in_each_run(noisy):
    model, data = noisy()
    first, second = losses(model, **data), losses(model, **data)
    assert first.tolist() == second.tolist()
    assert len(set(first)) == 10


@on_tensorflow
def test_random_operations_elsewhere_go_on_where_they_were():
    import tensorflow as tf

    @tf.function
    def draw():
        return tf.random.uniform(())

    def draws(between):
        keras.utils.set_random_seed(1)
        drawn = [float(draw())]
        between()
        return [*drawn, float(draw())]

    model = dense(keras.layers.Dropout(0.5))
    assert draws(lambda: losses(model)) == draws(lambda: None)


@pytest.mark.slow
def test_where_no_seed_is_set_runs_see_one_order_of_the_batches_and_none_is_set_after():
    program = (
        "import keras, numpy as np, tensorflow as tf\n"
        "from keras_lr import LRRangeTest\n"
        "model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "x = np.arange(64.0)[:, None] / 64\n"
        "test = LRRangeTest(steps=10, rule='edge', max_lr=2e-6, verbose=0)\n"
        "first, second = (test.run(model, x, x, batch_size=8).values for _ in range(2))\n"
        "assert (first == second).all() and len(set(first)) > 5\n"
        "from tensorflow.python.eager import context\n"
        "assert context.global_seed() is None\n"
        "assert len({float(tf.random.uniform(())) for _ in range(9)}) == 9\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
