"""Trains on two devices with keras.distribution.DataParallel and prints what came of it."""

import json

import keras
from test_matrix import MOMENTA, RATES, STEPS, X, Y, both, build, by_hand, curve, sgd

keras.distribution.set_distribution(keras.distribution.DataParallel())
callback = both()
model = build(sgd())
model.fit(
    *(X[: 2 * STEPS], Y[: 2 * STEPS]),
    **{"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0, "callbacks": [callback]},
)
found = {
    "devices": len(model.trainable_variables[0].value.devices()),
    "weights": model.get_weights()[0].tolist(),
    "expected": by_hand(curve(RATES), curve(MOMENTA), size=2).tolist(),
    "recorded": callback.history.learning_rate.tolist(),
    "rates": curve(RATES).tolist(),
}
print(json.dumps(found))
