"""Trains the parts of a model on one device or on two (see `devices`), and prints the weights."""

import json

import keras
from devices import X, Y, scope

from keras_lr import Constant, CosineDecay, LayerRates


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
