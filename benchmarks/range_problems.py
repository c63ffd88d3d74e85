"""Small problems, and a fast way to train them at any rate.

Every problem is a Keras model with a Keras optimizer, trained by Keras's stateless API inside one
compiled JAX loop, so that thousands of short runs take minutes on one core.
"""

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import keras
import numpy as np
from convolutions import Conv1D, Conv2D
from keras import layers
from numpy.typing import NDArray
from range_data import load

from keras_lr.range_test.advice import Conditions, step_size_of


def mlp(*units: int, activation: str = "relu", dropout: float = 0.0, norm: bool = False):
    """Dense layers on flattened inputs."""

    def build(inputs, outputs):
        x = layers.Flatten()(inputs)
        for n in units:
            x = layers.Dense(n, activation=None if norm else activation)(x)
            if norm:
                x = layers.Activation(activation)(layers.BatchNormalization()(x))
            if dropout:
                x = layers.Dropout(dropout)(x)
        return layers.Dense(outputs)(x)

    return build


def cnn(norm: bool = False):
    """Two strided convolutions, a pooled head."""

    def build(inputs, outputs):
        x = inputs
        for n in (8, 16):
            x = Conv2D(n, 3, strides=2, padding="same", use_bias=not norm)(x)
            x = layers.BatchNormalization()(x) if norm else x
            x = layers.ReLU()(x)
        return layers.Dense(outputs)(layers.Dense(32, activation="relu")(layers.Flatten()(x)))

    return build


def resnet(norm: bool = True):
    """A stem and three residual blocks of eight channels."""

    def build(inputs, outputs):
        x = Conv2D(8, 3, strides=3, padding="same")(inputs)
        for _ in range(3):
            y = layers.BatchNormalization()(x) if norm else x
            y = Conv2D(8, 3, padding="same")(layers.ReLU()(y))
            x = layers.Add()([x, y])
        x = layers.BatchNormalization()(x) if norm else x
        return layers.Dense(outputs)(layers.Flatten()(layers.ReLU()(x)))

    return build


def embedding(kind: str):
    """An embedding of 16 under a dense, recurrent or attending head."""

    def build(inputs, outputs):
        x = layers.Embedding(64, 16)(inputs)
        if kind == "gru":
            x = layers.GRU(32)(x)
        elif kind == "conv":
            x = layers.Flatten()(Conv1D(24, 3, activation="relu")(x))
        elif kind == "attention":
            x = layers.LayerNormalization()(x + layers.Embedding(12, 16)(jnp.arange(12)))
            x = x + layers.MultiHeadAttention(2, 8)(x, x)
            x = layers.LayerNormalization()(x)
            x = layers.Flatten()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
        else:
            x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
        return layers.Dense(outputs)(x)

    return build


@dataclass(frozen=True)
class Problem:
    """Data, a model and an optimizer, with a budget of steps."""

    data: str
    model: str
    optimizer: str
    steps: int
    batch: int = 32

    @property
    def name(self) -> str:
        size = f" in batches of {self.batch}" if self in EXTREME else ""
        return f"{self.data} {self.model} {self.optimizer}{size}"

    @property
    def batch_norm(self) -> bool:
        """Whether the model has batch normalization."""
        return "norm" in self.model or self.model == "resnet"

    @property
    def step_size(self) -> str:
        """What the size of the optimizer's steps depends on; see `Conditions`."""
        return _step_size_of(self.optimizer)

    def conditions(self, batches: float) -> Conditions:
        """Return what a range test knows of the problem.

        Args:
            batches: Batches after which its data repeat.
        """
        return Conditions(
            self.step_size, batches, batch_size=self.batch, batch_norm=self.batch_norm
        )


MODELS: dict[str, Callable] = {
    "linear": mlp(),
    "mlp": mlp(64),
    "mlp dropout": mlp(64, 64, dropout=0.2),
    "mlp norm": mlp(64, 64, norm=True),
    "deep tanh": mlp(32, 32, 32, 32, 32, activation="tanh"),
    "cnn": cnn(),
    "cnn norm": cnn(norm=True),
    "resnet": resnet(),
    "resnet plain": resnet(norm=False),
    "embedding": embedding("dense"),
    "embedding conv": embedding("conv"),
    "embedding gru": embedding("gru"),
    "attention": embedding("attention"),
}

OPTIMIZERS: dict[str, Callable] = {
    "SGD": lambda: keras.optimizers.SGD(),
    "momentum": lambda: keras.optimizers.SGD(momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(momentum=0.9, nesterov=True),
    "RMSprop": lambda: keras.optimizers.RMSprop(),
    "Adam": lambda: keras.optimizers.Adam(),
    "AdamW": lambda: keras.optimizers.AdamW(weight_decay=0.01),
    "Adagrad": lambda: keras.optimizers.Adagrad(),
    "Lion": lambda: keras.optimizers.Lion(),
    "Adamax": lambda: keras.optimizers.Adamax(),
    "Nadam": lambda: keras.optimizers.Nadam(),
}


@functools.cache
def _step_size_of(optimizer: str) -> str:
    return step_size_of([OPTIMIZERS[optimizer]()])


# The constants were chosen on these.
TUNED = [
    Problem(*row)
    for row in [
        ("digits", "mlp", "SGD", 500),
        ("digits", "cnn norm", "Adam", 500),
        ("digits", "resnet", "momentum", 500),
        ("mnist", "mlp", "momentum", 500),
        ("mnist", "cnn", "RMSprop", 500),
        ("mnist", "cnn norm", "AdamW", 500),
        ("fashion", "mlp dropout", "Adagrad", 600),
        ("fashion", "cnn", "Adam", 600),
        ("fashion", "cnn", "SGD", 600),
        ("fashion", "resnet", "AdamW", 600),
        ("diabetes", "mlp", "Adam", 300),
        ("boston", "mlp", "SGD", 400),
        ("breast_cancer", "mlp", "SGD", 300),
        ("breast_cancer", "deep tanh", "Adagrad", 300),
        ("wine", "mlp", "RMSprop", 200, 16),
        ("text", "embedding", "Adam", 600),
        ("text", "embedding gru", "RMSprop", 600),
        ("text", "embedding conv", "momentum", 600),
        ("photo", "mlp", "momentum", 500),
        ("photo", "mlp norm", "Adam", 500),
        ("photo", "deep tanh", "SGD", 500),
        ("digits", "deep tanh", "RMSprop", 500),
        ("text", "attention", "AdamW", 600),
        ("digits", "mlp norm", "Adagrad", 500),
        ("autompg", "linear", "SGD", 400),
        ("fashion", "resnet plain", "nesterov", 600),
        ("text", "attention", "Adam", 600),
        ("mnist", "resnet plain", "Lion", 500),
        ("raw diabetes", "mlp", "Adam", 400),
        ("autompg", "deep tanh", "Adagrad", 400),
        # Held out until the search was changed because of what they showed.
        ("randhie", "mlp", "momentum", 500, 128),
        ("modechoice", "mlp", "RMSprop", 300, 16),
        ("co2", "mlp", "AdamW", 400),
    ]
]
# Cheap problems on the data of the above: the numbers of the advice are fitted on these too.
FITTED = [
    Problem(*row)
    for row in [
        ("digits", "mlp norm", "SGD", 300),
        ("digits", "mlp", "Adam", 300),
        ("digits", "mlp norm", "AdamW", 300),
        ("digits", "mlp dropout", "nesterov", 300),
        ("digits", "linear", "Adam", 300),
        ("mnist", "mlp norm", "momentum", 300),
        ("mnist", "mlp dropout", "Nadam", 300),
        ("mnist", "deep tanh", "Adamax", 300),
        ("mnist", "mlp norm", "Adagrad", 300),
        ("mnist", "linear", "RMSprop", 300, 128),
        ("fashion", "mlp", "SGD", 300, 64),
        ("fashion", "mlp", "RMSprop", 300, 64),
        ("fashion", "deep tanh", "Lion", 300),
        ("wine", "mlp norm", "SGD", 300, 16),
        ("wine", "deep tanh", "Adam", 300, 16),
        ("wine", "mlp", "Adagrad", 300, 16),
        ("boston", "deep tanh", "momentum", 300),
        ("boston", "mlp", "Adam", 300),
        ("boston", "mlp norm", "RMSprop", 300),
        ("boston", "mlp", "Adagrad", 300),
        ("diabetes", "mlp norm", "nesterov", 300),
        ("diabetes", "mlp dropout", "AdamW", 300),
        ("diabetes", "linear", "Adagrad", 300),
        ("raw diabetes", "mlp norm", "AdamW", 300),
        ("breast_cancer", "mlp", "nesterov", 300, 16),
        ("breast_cancer", "mlp norm", "Adam", 300, 16),
        ("autompg", "mlp", "momentum", 300),
        ("autompg", "mlp", "Nadam", 300),
        ("modechoice", "mlp", "momentum", 300),
        ("modechoice", "mlp", "Lion", 300),
        ("randhie", "mlp norm", "SGD", 300, 128),
        ("randhie", "mlp", "Adam", 300, 128),
        ("randhie", "mlp dropout", "Adagrad", 300, 128),
        ("text", "embedding", "momentum", 300),
        ("text", "embedding", "Adamax", 300, 64),
        ("text", "embedding", "Lion", 300),
        ("text", "embedding", "Adagrad", 300),
        ("photo", "mlp norm", "momentum", 300, 64),
        ("photo", "mlp", "AdamW", 300, 64),
        ("photo", "deep tanh", "Adagrad", 300, 64),
    ]
]
# Written down before any rule had seen them; no constant was chosen by looking at them.
HELD_OUT = [
    Problem(*row)
    for row in [
        ("iris", "mlp", "Adam", 200, 16),
        ("star98", "mlp", "SGD", 300, 16),
        ("anes96", "deep tanh", "Adam", 300),
        ("sunspots", "mlp", "RMSprop", 300, 16),
        ("fair", "mlp dropout", "AdamW", 500, 64),
        ("mnist copy", "mlp", "Adagrad", 500, 64),
        ("mnist turned", "resnet", "Adam", 400, 16),
        ("fashion late", "cnn", "nesterov", 400, 64),
        ("fashion late", "cnn norm", "SGD", 400, 64),
        ("fashion late", "resnet", "RMSprop", 400),
        ("flower", "mlp norm", "Nadam", 500),
        ("flower", "deep tanh", "momentum", 500, 64),
        ("code", "embedding conv", "Adam", 500, 64),
        ("code", "embedding gru", "Adamax", 400),
        ("modules", "embedding", "SGD", 600, 16),
        ("modules", "attention", "AdamW", 500),
        ("modules", "embedding conv", "Lion", 500, 64),
        ("mnist even", "cnn norm", "momentum", 500),
        ("mnist even", "mlp dropout", "Adamax", 500, 64),
        ("fashion last", "cnn", "AdamW", 400),
        ("fashion last", "resnet plain", "SGD", 400, 64),
        ("fashion last", "deep tanh", "Nadam", 400),
        ("decimal", "embedding conv", "Adagrad", 500),
        ("decimal", "attention", "RMSprop", 500),
    ]
]
# Batches of a size that no problem above has, with no more than 300 steps of the large ones.
EXTREME = [
    Problem(*row)
    for row in [
        ("digits", "mlp", "SGD", 3000, 4),
        ("text", "embedding", "Adam", 3000, 4),
        ("photo", "mlp norm", "Adam", 3000, 4),
        ("photo", "mlp norm", "Adam", 3000, 8),
        ("digits", "mlp norm", "Adam", 3000, 4),
        ("digits", "mlp norm", "Adam", 3000, 8),
        ("digits", "mlp norm", "SGD", 3000, 4),
        ("fashion", "mlp dropout", "Adam", 300, 8192),
        ("fashion", "mlp", "momentum", 300, 8192),
    ]
]


class Runner:
    """One problem, compiled once: any number of training runs from any seed at any rates."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        keras.utils.set_random_seed(zlib.crc32(problem.name.encode()))
        x, y, *valid = load(problem.data)
        classes = np.issubdtype(y.dtype, np.integer)
        inputs = keras.Input(x.shape[1:], dtype=x.dtype)
        self.model = keras.Model(
            inputs, MODELS[problem.model](inputs, int(y.max()) + 1 if classes else y.shape[1])
        )
        self.optimizer = OPTIMIZERS[problem.optimizer]()
        self.optimizer.build(self.model.trainable_variables)
        self.loss = loss_of = (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            if classes
            else keras.losses.MeanSquaredError()
        )
        self.data = jnp.asarray(x), jnp.asarray(y)
        self.valid = tuple(map(jnp.asarray, valid))
        slot = [v is self.optimizer._learning_rate for v in self.optimizer.variables].index(True)

        def compute(weights, others, x, y):
            y_pred, others = self.model.stateless_call(weights, others, x, training=True)
            return loss_of(y, y_pred), others

        def step(state, batch):
            weights, others, slots = state
            rows, rate = batch
            x, y = self.data[0][rows], self.data[1][rows]
            (loss, others), grads = jax.value_and_grad(compute, has_aux=True)(weights, others, x, y)
            slots = [rate if i == slot else v for i, v in enumerate(slots)]
            weights, slots = self.optimizer.stateless_apply(slots, grads, weights)
            return (weights, others, slots), loss

        def validate(weights, others, x, y):
            return loss_of(y, self.model.stateless_call(weights, others, x)[0])

        # One length is compiled: a longer training run takes several calls, a shorter one is cut.
        self._steps = jax.jit(lambda state, rows, rates: jax.lax.scan(step, state, (rows, rates)))
        self._validate = jax.jit(validate)

    def state(self, seed: int) -> tuple[list, list, list]:
        """Return fresh weights, statistics and optimizer slots for a seed."""
        keras.utils.set_random_seed(seed)
        fresh = keras.models.clone_model(self.model)
        return (
            [v.value for v in fresh.trainable_variables],
            [v.value for v in fresh.non_trainable_variables],
            [v.value for v in self.optimizer.variables],
        )

    @property
    def epoch(self) -> int:
        """Whole batches in an epoch; the rest of the data is not used."""
        return len(self.data[0]) // self.problem.batch

    def rows(self, order: int, count: int, among: NDArray | None = None) -> NDArray:
        """Return the rows of the data in each of ``count`` batches.

        Args:
            order: Seed of their order.
            count: Number of batches.
            among: Rows to train on; all by default.
        """
        rng, size = np.random.default_rng(order), self.problem.batch
        among = np.arange(len(self.data[0])) if among is None else among
        batches = len(among) // size
        epochs = [
            rng.permutation(among)[: batches * size].reshape(batches, size)
            for _ in range(-(-count // batches))
        ]
        return np.concatenate(epochs)[:count]

    def losses(self, state, rates, order: int) -> tuple[tuple, NDArray]:
        """Train along an array of rates; return the state after it, and the losses."""
        return self.losses_of(state, rates, self.rows(order, len(rates)))

    def losses_of(self, state, rates, rows: NDArray) -> tuple[tuple, NDArray]:
        """Train at one rate a batch of ``rows``; return the state after it, and the losses."""
        rates = np.asarray(rates, "float32")
        losses = []
        for i in range(0, len(rates), 20):
            chunk = rates[i : i + 20]
            pad = 20 - len(chunk)
            state, loss = self._steps(
                state, np.pad(rows[i : i + 20], ((0, pad), (0, 0))), np.pad(chunk, (0, pad))
            )
            losses.append(np.asarray(loss)[: len(chunk)])
        return state, np.concatenate(losses)

    def validation(self, state, rows: NDArray | None = None) -> float:
        """Return the validation loss in a state, or the loss on some rows of the training data."""
        data = self.valid if rows is None else [part[rows] for part in self.data]
        return float(self._validate(*state[:2], *data))

    def final(self, seed: int, rate: float) -> tuple[float, NDArray]:
        """Return the validation loss after the budget at one rate, and the training losses."""
        state, losses = self.losses(self.state(seed), np.full(self.problem.steps, rate), seed)
        return self.validation(state), losses
