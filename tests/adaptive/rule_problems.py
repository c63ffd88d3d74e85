"""A small problem whose training can be followed by hand, and the callbacks that are tested."""

import keras
import numpy as np
from keras import layers
from models import COMPILE, Counted

from keras_lr import DistanceOverGradients, HypergradientDescent, Prodigy

BATCH, BATCHES = 8, 5
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(BATCH * BATCHES, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]] + 0.3 * RANDOM.normal(size=(len(X), 1))).astype("float32")
START = [np.array([[0.4], [0.2], [-0.3]], "float32"), np.array([0.1], "float32")]


def sgd(rate=0.01, **options):
    return keras.optimizers.SGD(rate, momentum=0.9, **options)


def adam(rate=0.01, **options):
    return keras.optimizers.Adam(rate, epsilon=1e-8, **options)


def plain_sgd(rate=0.01, **options):
    return keras.optimizers.SGD(rate, **options)


RULES = {
    "hypergradient": (lambda **options: HypergradientDescent(beta=0.2, **options), sgd),
    "hypergradient, Adam": (lambda **options: HypergradientDescent(beta=0.2, **options), adam),
    "distance": (
        lambda **options: DistanceOverGradients(initial_distance=1e-3, **options),
        plain_sgd,
    ),
    "distance by layer": (
        lambda **options: DistanceOverGradients(initial_distance=1e-3, layer_wise=True, **options),
        plain_sgd,
    ),
    "Prodigy": (lambda **options: Prodigy(d0=1e-3, d_coef=10.0, **options), adam),
}
"""A callback of each kind, and an optimizer for it."""


def linear(optimizer, **options):
    """Return a compiled model with the weights `START`."""
    parts = [keras.Input((3,)), Counted(), layers.Dense(1, name="line")]
    model = keras.Sequential(parts, name="net")
    model.set_weights(START)
    model.compile(optimizer, "mse", **COMPILE | options)
    return model


def train(model, *callbacks, epochs=2, x=X, y=Y, **options):
    """Train in the order of the data, and return Keras's history."""
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, epochs=epochs, callbacks=[*callbacks], **options)


def fit(callback, optimizer, *others, epochs=2, **options):
    """Train a new model with a callback, and return its weights and the rates of its steps."""
    model = linear(optimizer, **options)
    train(model, callback, *others, epochs=epochs)
    return model.get_weights(), callback.history.learning_rate


def batches(epochs=2, size=BATCH):
    """Iterate over the batches of a training run."""
    for _ in range(epochs):
        for first in range(0, len(X), size):
            yield X[first : first + size].astype(float), Y[first : first + size].astype(float)


def gradients(weights, x, y):
    """Return the gradients of the mean squared error, as one vector."""
    error = x @ weights[:3, None] + weights[3] - y
    return np.append(2 * x.T @ error / len(x), 2 * error.mean())


def start():
    """Return the first weights as one vector."""
    return np.concatenate([one.ravel() for one in START]).astype(float)


def flat(weights):
    return np.concatenate([np.ravel(one) for one in weights])


class AdamByHand:
    """Adam on one vector."""

    def __init__(self, size, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.mean, self.square = np.zeros(size), np.zeros(size)
        self.beta_1, self.beta_2, self.epsilon, self.steps = beta_1, beta_2, epsilon, 0

    def step(self, gradient, rate):
        self.steps += 1
        self.mean = self.beta_1 * self.mean + (1 - self.beta_1) * gradient
        self.square = self.beta_2 * self.square + (1 - self.beta_2) * gradient**2
        mean = self.mean / (1 - self.beta_1**self.steps)
        square = self.square / (1 - self.beta_2**self.steps)
        return -rate * mean / (np.sqrt(square) + self.epsilon)


class MomentumByHand:
    """SGD with Keras's momentum on one vector."""

    def __init__(self, size, momentum=0.9):
        self.velocity, self.momentum = np.zeros(size), momentum

    def step(self, gradient, rate):
        self.velocity = self.momentum * self.velocity - rate * gradient
        return self.velocity


def assert_follows(found, weights, rates):
    """Compare what `fit` returned with weights and rates by hand."""
    np.testing.assert_allclose(found[1], rates, rtol=2e-4)
    np.testing.assert_allclose(flat(found[0]), weights, rtol=2e-4, atol=1e-6)
