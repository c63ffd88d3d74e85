"""Trains by each rule on one device or on two, as an argument says; prints weights and rates.

The argument is "one", "mirrored" (TensorFlow's MirroredStrategy) or "data" (JAX's DataParallel).
"""

import contextlib
import json
import sys

import keras
import numpy as np

from keras_lr import DistanceOverGradients, HypergradientDescent, Prodigy

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(48, 6)).astype("float32")
Y = RANDOM.normal(size=(48, 2)).astype("float32")

scope = contextlib.nullcontext
match sys.argv[1]:
    case "mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope

    case "data":
        keras.distribution.set_distribution(keras.distribution.DataParallel())

CASES = {
    "hypergradient": (lambda: keras.optimizers.SGD(0.01, momentum=0.9), HypergradientDescent(0.2)),
    "decay": (lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1), HypergradientDescent(0.2)),
    "distance": (lambda: keras.optimizers.SGD(), DistanceOverGradients(1e-2)),
    "by layer": (lambda: keras.optimizers.SGD(), DistanceOverGradients(1e-2, layer_wise=True)),
    "prodigy": (lambda: keras.optimizers.Adam(), Prodigy(1e-2)),
}


def train(make, callback):
    with scope():
        keras.utils.set_random_seed(1)
        body = keras.layers.Dense(4, activation="tanh")
        model = keras.Sequential([keras.Input((6,)), body, keras.layers.Dense(2)])
        model.compile(make(), "mse")
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 3}
    model.fit(X, Y, callbacks=[callback], **options)
    return {
        "weights": [weight.tolist() for weight in model.get_weights()],
        "rates": callback.history.learning_rate.tolist(),
    }


print(json.dumps({name: train(*case) for name, case in CASES.items()}))
