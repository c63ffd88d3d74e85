"""Models whose weights say which rate each update was made with, and one with every state."""

import copy

import keras
import numpy as np
import pytest

from keras_lr import CosineDecay, LinearDecay

STEPS = 5
# XLA takes longer to compile a tiny model than TensorFlow takes to train it. JAX needs it.
COMPILE = {"jit_compile": keras.backend.backend() == "jax"}


def samples(steps=STEPS, batch_size=2, last=None):
    """Return data of which batch ``b`` moves weight ``b`` alone, by its rate exactly.

    Args:
        steps: Number of batches.
        batch_size: Samples in a batch.
        last: Samples in the last batch.
    """
    batches = np.repeat(np.arange(steps), batch_size)
    batches = batches[: len(batches) - batch_size + (last or batch_size)]
    return np.eye(steps, dtype="float32")[batches], np.zeros((len(batches), 1), "float32")


def mean_prediction(y, prediction):
    """A loss with the gradient 1 for the weight of the batch."""
    return prediction


def meter(steps=STEPS, optimizer=None, learning_rate=1.0, **compile_args):
    """Return a model with one weight for each batch of `samples`."""
    zeros = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((steps,)), zeros])
    optimizer = keras.optimizers.SGD(learning_rate) if optimizer is None else optimizer
    model.compile(optimizer, mean_prediction, **COMPILE | compile_args)
    return model


class Counted(keras.layers.Layer):
    """Counts how often Python runs through it."""

    runs = 0

    def call(self, x):
        Counted.runs += 1
        return x


def settled(model):
    """Return a model whose fit was ended by an exception, its state back in its variables."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return model


class Meter(keras.callbacks.Callback):
    """Reads the rates of an epoch's updates off the weights, and sets the weights to zero again."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    @property
    def rates(self):
        """The rate of each update, in float32."""
        return np.concatenate(self.epochs)

    def on_epoch_end(self, epoch, logs=None):
        (weights,) = self.model.get_weights()
        self.epochs.append(-weights[:, 0])
        self.model.set_weights([np.zeros_like(weights)])


def fit(model, callbacks, data=None, **options):
    """Fit a meter and return the rate of each update, which is exact."""
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    reader = Meter()
    if data is None:
        data = samples(model.input_shape[-1])
    if isinstance(data, tuple):
        options = {"x": data[0], "y": data[1], "batch_size": 2} | options
    else:
        options = {"x": data} | options
    model.fit(callbacks=[*callbacks, reader], **{"shuffle": False, "verbose": 0} | options)
    return reader.rates


# A rise, a kink and a fall: no two of its values over 3 epochs of 5 steps are the same.
RATE = LinearDecay(0.125, 1.0, over=1) >> CosineDecay(0.9, 0.25)


def rate():
    """Return a schedule that no fit has seen."""
    return copy.deepcopy(RATE)


def curve(schedule=RATE, epochs=3, steps=STEPS):
    """Return what a schedule says of each update, in float32 as the weights are."""
    return schedule.values(epochs=epochs, steps_per_epoch=steps).astype(np.float32)


RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(256, 6)).astype("float32")
Y = (X @ RANDOM.normal(size=(6, 3))).argmax(1)


def network(optimizer=None, **compile_args):
    """Return a classifier of X into Y with everything that training changes besides weights."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compile_args,
    )
    return model


def state(model):
    """Return the values of all weights and optimizer variables."""
    variables = (keras.ops.convert_to_numpy(v.value) for v in model.optimizer.variables)
    return [np.array(value) for value in (*model.get_weights(), *variables)]


def same(first, second):
    """Return whether two states are equal bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


several_optimizers = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
compiled = pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="on PyTorch, Keras takes neither jit_compile nor steps_per_execution",
)
