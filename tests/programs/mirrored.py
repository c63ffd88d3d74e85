"""Trains on two devices with tf.distribute.MirroredStrategy and prints what came of it."""

import json

import keras
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from test_matrix import MOMENTA, RATES, STEPS, X, Y, both, build, by_hand, curve, sgd  # noqa: E402

from keras_lr import LRHistory, LRRangeTest  # noqa: E402


class Evaluation(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.evaluate(X[:4], Y[:4] + 10.0, batch_size=2, verbose=0)


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


def losses(*others):
    history = LRHistory()
    fit([*others, history])
    return history.loss.tolist()


def tested(model):
    """Return the weights of both replicas after a range test."""
    LRRangeTest(steps=10, rule="edge", verbose=0).run(model, X, Y, batch_size=2)
    return weights(model)


def weights(model):
    return [v.numpy().tolist() for v in model.trainable_variables[0].value.values]


callback = both()
model = fit([callback])
errors = {
    name: error_of_keras(**{name: value})
    for name, value in {"steps_per_execution": 4, "jit_compile": True}.items()
}
found = {
    "replicas": model.distribute_strategy.num_replicas_in_sync,
    "weights": weights(model),
    "expected": by_hand(curve(RATES), curve(MOMENTA), size=2).tolist(),
    "recorded": callback.history.learning_rate.tolist(),
    "rates": curve(RATES).tolist(),
    "errors": {name: error for name, error in errors.items() if error is not None},
    "losses": losses(),
    "losses beside an evaluation": losses(Evaluation()),
    "weights after a range test": tested(model),
}
assert keras.backend.backend() == "tensorflow"
print(json.dumps(found))
