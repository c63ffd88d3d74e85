"""Trains the parts of a model on one device or on two, as an argument says; prints the weights.

The argument is "one", "mirrored" (TensorFlow's MirroredStrategy) or "data" (JAX's DataParallel).
"""

import contextlib
import json
import sys

import keras
import numpy as np

from keras_lr import Constant, CosineDecay, LayerRates

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

        # One for all: TensorFlow takes the sums of a second one for those of the first.
        scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope

    case "data":
        keras.distribution.set_distribution(keras.distribution.DataParallel())


def adam():
    return keras.optimizers.Adam(0.05, weight_decay=0.1)


def averaging():
    return keras.optimizers.SGD(0.05, momentum=0.5, use_ema=True, ema_momentum=0.5)


CASES = {
    "numbers": (adam, 0.25),
    "frozen": (adam, 0.0),
    "frozen by a schedule": (adam, Constant(0.0)),
    "thawing": (adam, Constant(0.0).lasting("9 steps") >> Constant(0.5)),
    "averages": (averaging, Constant(0.0).lasting("9 steps") >> Constant(0.5)),
}


def build(optimizer):
    keras.utils.set_random_seed(1)
    norm = keras.constraints.MaxNorm(1.0)
    body = keras.layers.Dense(4, activation="tanh", name="body", kernel_constraint=norm)
    model = keras.Sequential([keras.Input((6,)), body, keras.layers.Dense(2, name="head")])
    model.compile(optimizer, "mse")
    return model


def train(make, factor):
    with scope():
        model = build(make())
    callback = LayerRates({"body": factor})
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 2}
    model.fit(X, Y, callbacks=[CosineDecay(0.05), callback], **options)
    return {
        "weights": [weight.tolist() for weight in model.get_weights()],
        "rates": callback.history["learning_rate_body"].tolist(),
        "left": [one for one in ("apply", "update_step") if one in vars(model.optimizer)],
    }


found = {name: train(*case) for name, case in CASES.items()}
found["start"] = [weight.tolist() for weight in build(adam()).get_weights()]
print(json.dumps(found))
