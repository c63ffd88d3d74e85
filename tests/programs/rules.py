"""Trains by each rule on one device or on two (see `devices`), and prints weights and rates."""

import json

import keras
from devices import X, Y, scope

from keras_lr import DistanceOverGradients, HypergradientDescent, Prodigy

CASES = {
    "hypergradient": (
        lambda: keras.optimizers.SGD(0.01, momentum=0.9),
        HypergradientDescent(beta=0.2),
    ),
    "decay": (
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        HypergradientDescent(beta=0.2),
    ),
    "distance": (lambda: keras.optimizers.SGD(), DistanceOverGradients(initial_distance=1e-2)),
    "by layer": (
        lambda: keras.optimizers.SGD(),
        DistanceOverGradients(initial_distance=1e-2, layer_wise=True),
    ),
    "prodigy": (lambda: keras.optimizers.Adam(), Prodigy(d0=1e-2)),
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
