"""Trains in Keras's NNX mode and prints how far each update moved, and what was recorded."""

import json

import keras
from models import fit, meter

from keras_lr import LinearDecay, LRHistory, ReduceLROnPlateau

assert keras.config.is_nnx_enabled()
rate, history = LinearDecay(1.0), LRHistory()
cut = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
found = {
    "nothing": fit(meter(), [], epochs=2).tolist(),
    "history": fit(meter(), history, epochs=2).tolist(),
    "recorded by history": history.learning_rate.tolist(),
    "plateau": fit(meter(), cut, epochs=3).tolist(),
    "schedule": fit(meter(), rate, epochs=2).tolist(),
    "recorded by schedule": rate.history.learning_rate.tolist(),
}
print(json.dumps(found))
