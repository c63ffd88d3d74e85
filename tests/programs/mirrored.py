"""Trains on two devices with tf.distribute.MirroredStrategy and prints what came of it."""

import json

import keras
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from test_matrix import MOMENTA, RATES, STEPS, X, Y, both, build, by_hand, curve, sgd  # noqa: E402


def fit(callbacks, **options):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = build(sgd(), **options)
    model.fit(
        *(X[: 2 * STEPS], Y[: 2 * STEPS]),
        **{"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0, "callbacks": callbacks},
    )
    return model


def error_of_keras(**options):
    """Return the error of a fit without callbacks."""
    try:
        fit([], **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


callback = both()
model = fit([callback])
errors = {
    name: error_of_keras(**{name: value})
    for name, value in {"steps_per_execution": 4, "jit_compile": True}.items()
}
found = {
    "replicas": model.distribute_strategy.num_replicas_in_sync,
    "weights": [v.numpy().tolist() for v in model.trainable_variables[0].value.values],
    "expected": by_hand(curve(RATES), curve(MOMENTA), size=2).tolist(),
    "recorded": callback.history.learning_rate.tolist(),
    "rates": curve(RATES).tolist(),
    "errors": {name: error for name, error in errors.items() if error is not None},
}
assert keras.backend.backend() == "tensorflow"
print(json.dumps(found))
