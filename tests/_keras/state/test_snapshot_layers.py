"""Random models of Keras's layers continue as if the training inside `kept` had not happened."""

import keras
import numpy as np
import pytest
from keras import layers
from models import COMPILE

from keras_lr._keras.state.object_walk import layers_in
from keras_lr._keras.state.snapshot import state_preserved

pytestmark = pytest.mark.core
BACKEND = keras.backend.backend()

BATCH, TIME, WIDTH = 8, 4, 6
"""Every layer below takes and gives a tensor of this shape."""


class Noise(layers.Layer):
    """Draws from a seed generator of its own, in a list that Keras does not look into."""

    def __init__(self):
        super().__init__()
        self.generators = [{"inside": keras.random.SeedGenerator(3)}]

    def call(self, x, training=False):
        if not training:
            return x
        generator = self.generators[0]["inside"]
        return x + 0.1 * keras.random.normal(keras.ops.shape(x), seed=generator)


def dense(**options):
    return layers.Dense(WIDTH, **options)


def recurrent(kind, **options):
    # On PyTorch, Keras cannot train a stateful layer; on JAX it lists no state of one.
    stateful = {"stateful": True} if BACKEND == "tensorflow" and options.pop("keeps", False) else {}
    options.pop("keeps", None)
    return kind(WIDTH, return_sequences=True, **stateful, **options)


LAYERS = {
    "dense": lambda: dense(activation="tanh"),
    "regularised": lambda: dense(kernel_regularizer="l2", kernel_constraint="max_norm"),
    "batch norm": layers.BatchNormalization,
    "layer norm": layers.LayerNormalization,
    "group norm": lambda: layers.GroupNormalization(2),
    "unit norm": layers.UnitNormalization,
    "dropout": lambda: layers.Dropout(0.3),
    "spatial dropout": lambda: layers.SpatialDropout1D(0.3),
    "alpha dropout": lambda: layers.AlphaDropout(0.3),
    "gaussian dropout": lambda: layers.GaussianDropout(0.3),
    "gaussian noise": lambda: layers.GaussianNoise(0.3),
    "own noise": Noise,
    "lstm": lambda: recurrent(layers.LSTM),
    "lstm that drops": lambda: recurrent(layers.LSTM, dropout=0.2, recurrent_dropout=0.2),
    "stateful lstm": lambda: recurrent(layers.LSTM, keeps=True),
    "gru": lambda: recurrent(layers.GRU, keeps=True),
    "simple rnn": lambda: recurrent(layers.SimpleRNN, keeps=True),
    "bidirectional": lambda: layers.Bidirectional(
        recurrent(layers.LSTM, keeps=True), merge_mode="sum"
    ),
    "convolution": lambda: layers.Conv1D(WIDTH, 3, padding="same"),
    "separable": lambda: layers.SeparableConv1D(WIDTH, 3, padding="same"),
    "spectral": lambda: layers.SpectralNormalization(dense()),
    "distributed": lambda: layers.TimeDistributed(
        keras.Sequential([dense(), layers.BatchNormalization(), layers.Dropout(0.2)])
    ),
    "prelu": layers.PReLU,
    "normalization": lambda: layers.Normalization(mean=0.5, variance=2.0),
    "einsum": lambda: layers.EinsumDense("btw,wv->btv", output_shape=(TIME, WIDTH)),
    "activity": lambda: layers.ActivityRegularization(l2=0.01),
}
OPTIMIZERS = ["sgd", "adam", "rmsprop", "adagrad", "nadam", "lion", "adamw"]


def attention(x):
    return layers.MultiHeadAttention(2, 3, dropout=0.2)(x, x)


def random_model(number):
    """Return the names of the layers of a model, and a function that builds the model."""
    draw = np.random.default_rng(number)
    names = list(draw.choice(sorted(LAYERS), draw.integers(2, 5)))
    branch, attends, embeds = draw.random(3) < [0.4, 0.3, 0.3]
    optimizer = str(draw.choice(OPTIMIZERS))
    accumulates = draw.random() < 0.2

    def build():
        keras.utils.set_random_seed(int(number))
        inputs = keras.Input(batch_shape=(BATCH, TIME, WIDTH))
        x = inputs
        if embeds:
            x = layers.Embedding(5, WIDTH)(keras.ops.cast(keras.ops.argmax(x, -1) % 5, "int32"))
        for name in names:
            y = LAYERS[name]()(x)
            x = x + y if branch else y
        if attends:
            x = attention(x)
        model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))
        options = {"learning_rate": 1e-3}
        if accumulates:
            options["gradient_accumulation_steps"] = 2
        made = keras.optimizers.get({"class_name": optimizer, "config": options})
        model.compile(made, "mse", metrics=["mae"], **COMPILE)
        return model

    return names, build


X = np.random.default_rng(0).normal(size=(4 * BATCH, TIME, WIDTH)).astype("float32")
Y = X.sum((1, 2))[:, None]


def fit(model, epochs):
    return model.fit(X, Y, batch_size=BATCH, epochs=epochs, verbose=0).history


def everything(model):
    """Return all that a training run uses, as bytes, by its identity."""
    found = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    found += [
        state
        for layer in layers_in(model)
        for state in keras.tree.flatten(getattr(layer, "states", None) or [])
    ]
    return {id(one): keras.ops.convert_to_numpy(one).tobytes() for one in found}


def check(number):
    names, build = random_model(number)
    results = []
    for disturbed in (False, True):
        model = build()
        if number % 2:
            fit(model, 1)
        if disturbed:
            model.optimizer.build(model.trainable_variables)
            before = everything(model)
            with state_preserved(model):
                fit(model, 2)
                assert everything(model) != before
            after = everything(model)
            assert before == {one: after[one] for one in before}, names
        results.append((fit(model, 2), list(everything(model).values())))
    assert results[0] == results[1], names


@pytest.mark.full
@pytest.mark.parametrize("number", range(3))
def test_random_models_train_on_as_if_nothing_had_been(number):
    check(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3, 100))
def test_many_random_models_train_on_as_if_nothing_had_been(number):
    check(number)
