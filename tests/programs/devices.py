"""Trains on one device or on two, as the first argument of a program says.

The argument is "one", "mirrored" (TensorFlow's MirroredStrategy) or "data" (JAX's DataParallel).
"""

import contextlib
import sys

import keras
import numpy as np

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
